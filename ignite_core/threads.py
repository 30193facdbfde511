"""Background threads that end before the interpreter does.

A daemon thread that is inside torch, or frees a tensor, while the interpreter ends aborts the process ("terminate
called without an active exception"). A thread that is not a daemon keeps the process alive while it waits for a server
or disk that hangs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from multiprocessing.util import Finalize, is_exiting
from typing import Final

__all__ = ["start_thread"]

_logger = logging.getLogger(__name__)

#: How long the end of the interpreter waits for a stopped thread, in seconds.
_JOIN_S: Final = 10.0

#: Before multiprocessing ends the remaining processes, and after functions registered with atexit.
_PRIORITY: Final = 50


def start_thread(
    work: Callable[[], object], name: str, stop: Callable[[], object], join_s: float = _JOIN_S
) -> threading.Thread:
    """Start a daemon thread that is stopped and joined when the interpreter ends.

    Threads are stopped in reverse order. This works at the end of a process of :mod:`multiprocessing` too, where
    functions of :mod:`atexit` are not called. A forked process does not inherit the thread.

    Args:
        work: The function of the thread.
        name: The thread's name.
        stop: Called at the end of the interpreter, in the main thread: ``work`` must return soon after. It may be
            called when ``work`` has just returned.
        join_s: How many seconds the end of the interpreter waits for ``work`` to return after ``stop``.

    Returns:
        The running thread.

    Raises:
        RuntimeError: If the interpreter is ending already.

    Example:
        >>> stopped = threading.Event()
        >>> thread = start_thread(stopped.wait, "waits", stopped.set)
        >>> stopped.set()
        >>> thread.join()
    """
    if is_exiting():  # the other threads were joined already
        raise RuntimeError(f"start_thread: {name!r} must start before the end of the interpreter")

    def run() -> None:
        try:
            work()
        finally:
            at_exit.cancel()

    thread = threading.Thread(target=run, name=name, daemon=True)
    # unlike atexit, also called at the end of a process of multiprocessing
    at_exit = Finalize(None, _end, (thread, stop, join_s), exitpriority=_PRIORITY)
    try:
        thread.start()
    except RuntimeError:
        at_exit.cancel()
        raise
    return thread


def _end(thread: threading.Thread, stop: Callable[[], object], join_s: float) -> None:
    stop()
    thread.join(join_s)
    if thread.is_alive():
        _logger.error("the thread %r did not end within %g s of the end of the program", thread.name, join_s)

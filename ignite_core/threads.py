"""Background threads that have ended before the interpreter does.

A daemon thread that is inside torch, or drops a tensor, while the interpreter ends aborts the process ("terminate
called without an active exception"); any other kind of thread would keep a process alive that waits for a server or a
disk that hangs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from multiprocessing.util import Finalize, is_exiting
from typing import Final

__all__ = ["start_thread"]

_logger = logging.getLogger(__name__)

#: How long the end of the interpreter waits for a thread that was asked to stop, in seconds.
_JOIN_S: Final = 10.0

#: Before multiprocessing ends the processes that are left, and after functions that the program registers with atexit.
_PRIORITY: Final = 50


def start_thread(
    work: Callable[[], object], name: str, stop: Callable[[], object], join_s: float = _JOIN_S
) -> threading.Thread:
    """Start a daemon thread that is stopped and joined when the interpreter ends.

    The last one started is stopped first. This also holds at the end of a process of :mod:`multiprocessing`, where
    functions of :mod:`atexit` are not called. A forked process has no such thread and stops none.

    Args:
        work: What the thread does.
        name: Of the thread.
        stop: Called at the end of the interpreter, by the main thread: ``work`` must return soon after. It may be
            called when ``work`` has just returned.
        join_s: How many seconds the end of the interpreter waits for ``work`` to return after ``stop``.

    Returns:
        The thread, which is running.

    Raises:
        RuntimeError: If the interpreter is ending already and starts no thread.

    Example:
        >>> stopped = threading.Event()
        >>> thread = start_thread(stopped.wait, "waits", stopped.set)
        >>> stopped.set()
        >>> thread.join()
    """
    if is_exiting():  # the threads were joined: this one would not be
        raise RuntimeError(f"start_thread: {name!r} must start before the end of the interpreter")

    def run() -> None:
        try:
            work()
        finally:
            at_exit.cancel()

    thread = threading.Thread(target=run, name=name, daemon=True)
    # Unlike atexit, also called at the end of a process of multiprocessing.
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

"""Errors travel beside what the ranks exchange: a rank that fails tells the others, who raise ``RankFailed``.

Nothing here costs anything in a serial run, or where no watcher was started: see ``watcher.py``.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.util import Finalize
from typing import Any, TypeVar

import torch.distributed as dist

from ignite_core.distributed.failures.watcher import Watcher
from ignite_core.exceptions import RankFailed

__all__ = [
    "agreed",
    "begin",
    "explain",
    "explained",
    "failure",
    "finish",
    "has_failed",
    "is_agreed",
    "listen",
    "raise_if_failed",
    "report",
    "reported",
    "start",
    "stop",
    "tell",
    "unlisten",
    "wait_for",
    "waiting",
    "words_of_others",
]

E = TypeVar("E", bound=BaseException)

#: How often a collective that waits looks up.
_LOOK = timedelta(seconds=0.1)

#: What torch's errors say when another process did not come in time, or has given up first.
_ABSENCE = re.compile(r"time(d )?out|connection (closed|reset) by peer|broken pipe", re.IGNORECASE)

_watcher: Watcher | None = None
_at_exit: Any = None
_listeners: list[Callable[[RankFailed], None]] = []
_inherited: list[Any] = []  # in a forked process: what is never to be torn down here
_lock = threading.Lock()  # of the listeners: none is called any more when it has been removed


# ------------------------------------------------------------------------------------------------------ agreed errors


def agreed(error: E) -> E:
    """Mark an error that all ranks raise together, because they told each other; so nobody needs to be told again.

    An error that one rank raises alone is told to the others, which raise ``RankFailed``. One that all of them raise at
    the same place, as after ``if idist.any(...)``, reaches each of them as what it is if it is marked on each.

    Args:
        error: About to be raised.

    Returns:
        The error.

    Example:
        >>> raise agreed(ValueError("the metrics differ"))
        Traceback (most recent call last):
        ValueError: the metrics differ
    """
    error.__dict__["_ignite_core_agreed"] = True
    return error


def is_agreed(error: BaseException) -> bool:
    """Whether all ranks raise this error together.

    Example:
        >>> error = ValueError("the metrics differ")
        >>> is_agreed(error), is_agreed(agreed(error))
        (False, True)
    """
    return "_ignite_core_agreed" in error.__dict__


# ------------------------------------------------------------------------------------------------ what this rank tells


def report(error: BaseException) -> BaseException:
    """Tell the other ranks that this one fails, unless all of them do so together or one of them did so first.

    Args:
        error: That leaves a run, or the program. Told is all but agreed errors, ``RankFailed``, the end of a generator
            and an exit with code 0.

    Returns:
        The error to raise: mostly the same one; ``RankFailed`` if it says that a connection to another rank broke, and
        it was found out which rank has failed or is lost. Its cause is then ``error``.

    Example:
        >>> report(ValueError("in a serial run nobody is told"))
        ValueError('in a serial run nobody is told')
    """
    watcher = _watcher
    if watcher is None or is_agreed(error) or isinstance(error, RankFailed | GeneratorExit):
        return error
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return error
    found = watcher.explain(error)
    if found is not None:
        found.__cause__ = error
        return found
    watcher.report(error)
    return error


@contextmanager
def reported(error: BaseException) -> Iterator[BaseException]:
    """Report an error, then let the handlers of it run: they hear at once, in a collective, that nobody comes to it.

    Args:
        error: As of :func:`report`.

    Yields:
        The error to handle and to raise, as :func:`report` returns it.
    """
    watcher = _watcher
    error = report(error)
    if watcher is None:
        yield error
        return
    watcher.handling += 1
    try:
        yield error
    finally:
        watcher.handling -= 1


# -------------------------------------------------------------------------------------------- what others have told


def failure() -> RankFailed | None:
    """What is known at this moment of another rank's failure, or of its loss; it costs no look at the store."""
    return None if _watcher is None else _watcher.failure


def raise_if_failed() -> None:
    """Raise what is known of another rank's failure: for loops that wait for something.

    Raises:
        RankFailed: If another rank has failed or is lost.
    """
    found = None if _watcher is None else _watcher.deliver()
    if found is not None:
        raise found


def has_failed() -> bool:
    """Whether any rank, this one too, has failed since they joined: then some collectives may never end."""
    return _watcher is not None and _watcher.has_failed


def explain(error: BaseException) -> RankFailed | None:
    """If a connection to another rank broke: who has failed or is lost, if anybody."""
    return None if _watcher is None else _watcher.explain(error)


@contextmanager
def waiting(operation: str) -> Iterator[None]:
    """Let other ranks know that this one is in a collective, if they ask where it is."""
    watcher = _watcher
    if watcher is None:
        yield
        return
    before, watcher.whereabouts.waits = watcher.whereabouts.waits, operation
    try:
        yield
    finally:
        watcher.whereabouts.waits = before


def words_of_others(error: BaseException) -> str:
    """For a message: which ranks have left; where the others are, if it is about one that did not come."""
    watcher = _watcher
    if watcher is None:
        return ""
    gone = watcher.gone()
    if gone:
        return f" (ranks {gone} have left)"
    where = watcher.find_others() if _ABSENCE.search(str(error)) else ""
    return f"; {where}" if where else ""


@contextmanager
def explained(operation: str, rank: int, world_size: int, backend: str | None) -> Iterator[None]:
    """Say in an error of torch which operation failed, where, and because of whom; it names an address at best."""
    with waiting(operation):
        try:
            yield
        except RankFailed:
            raise
        except RuntimeError as error:
            found = explain(error)
            if found is not None:
                raise found from error
            raise RuntimeError(
                f"idist.{operation} failed on rank {rank} of {world_size} (backend {backend}): {error}"
                f"{words_of_others(error)}"
            ) from error


def wait_for(is_done: Callable[[], bool], timeout: timedelta | None) -> None:
    """Wait for something that all ranks do, in a block of :func:`explained`.

    Args:
        is_done: Asked again and again, less and less often.
        timeout: None: without limit.

    Raises:
        RankFailed: If another rank has failed or is lost.
        RuntimeError: If it takes too long.
    """
    deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
    pause_s = 0.001
    while not is_done():
        raise_if_failed()
        if deadline is not None and time.monotonic() > deadline:
            raise RuntimeError(f"timed out after {timeout}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LOOK.total_seconds())


def begin(operation: str) -> None:
    """Before a collective: raise what makes it useless.

    Raises:
        RankFailed: If a rank has failed or is lost.
        RuntimeError: If the ranks are out of step since one failed.
    """
    if _watcher is not None and not _watcher.is_calm:
        _watcher.begin(operation)


def finish(work: Any, operation: str) -> None:
    """Wait for an asynchronous collective on the CPU, unless another rank fails meanwhile.

    Args:
        work: What torch gave for it.
        operation: Its name, for messages.

    Raises:
        RankFailed: If another rank has failed or is lost.
        RuntimeError: What went wrong otherwise, as torch says it.
    """
    watcher = _watcher
    if watcher is None:
        work.wait()
        return
    while True:
        try:
            work.wait(_LOOK)
            return
        except RuntimeError:
            if work.is_completed():
                work.wait()  # raises what went wrong, if it was that
                return
        watcher.give_up(operation)


# -------------------------------------------------------------------------------------------------------- for engines


def listen(hear: Callable[[RankFailed], None]) -> None:
    """A run begins: ``hear`` is called by another thread when a rank has failed, again and again until it was raised.

    Only the innermost run is told; what it raises reaches those around it.
    """
    if _watcher is not None and not _watcher.is_calm and not _watcher.handling:
        _watcher.go_on()
    with _lock:
        _listeners.append(hear)


def unlisten(hear: Callable[[RankFailed], None]) -> None:
    """The run has ended; ``hear`` is not called any more when this returns."""
    with _lock:
        _listeners.remove(hear)


def tell(found: RankFailed) -> None:
    """Tell the innermost run of a failure."""
    with _lock:
        if _listeners:
            _listeners[-1](found)


# ------------------------------------------------------------------------------------------------------ start and end


def start(watcher: Watcher) -> None:
    """Let this process be watched from now on, to its end."""
    global _watcher, _at_exit
    stop()  # one of a group that was destroyed without finalize()
    _watcher = watcher
    # unlike with atexit it also runs in processes of multiprocessing, at the end of their function
    _at_exit = Finalize(None, _leave_at_exit, exitpriority=100)


def stop() -> None:
    """Take leave of the other ranks, if they are still watched."""
    global _watcher
    if _watcher is not None:
        _at_exit.cancel()
        watcher, _watcher = _watcher, None
        watcher.stop()
        if watcher.has_failed:
            _keep_groups()


def _keep_groups() -> None:
    """Let no group of torch be destroyed: that waits for all that was begun on it, which now may never end."""
    import ctypes  # not before: nobody else needs it

    world: Any = dist.distributed_c10d._world
    for group in world.pg_map:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))


def _leave_at_exit() -> None:
    """The process ends: by an error that nobody has caught, or as it should."""
    error = getattr(sys, "last_value", None)
    if error is not None:
        found = report(error)
        if found is not error:
            print(f"{type(found).__name__}: {found}", file=sys.stderr)
    stop()


def _forget() -> None:
    """In a forked process, such as a worker of a DataLoader: it is no rank, and has no watcher."""
    global _watcher, _lock
    _inherited.append(_watcher)
    _watcher, _lock = None, threading.Lock()  # the thread that may hold the lock is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

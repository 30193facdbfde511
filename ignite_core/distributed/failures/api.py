"""Report errors to the other ranks, which raise ``RankFailed``.

Nothing here has a cost in a serial run, or without a watcher: see ``watcher.py``.
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
    "add_listener",
    "agreed",
    "begin",
    "explained",
    "finish",
    "has_failed",
    "is_agreed",
    "notify",
    "raise_if_failed",
    "remove_listener",
    "report",
    "reported",
    "start",
    "stop",
    "wait_for",
]

E = TypeVar("E", bound=BaseException)

#: How often a waiting collective checks for failures.
_CHECK = timedelta(seconds=0.1)

#: How torch's errors say that another process did not come in time, or has given up first.
_ABSENCE = re.compile(r"time(d )?out|connection (closed|reset) by peer|broken pipe", re.IGNORECASE)

_watcher: Watcher | None = None
_at_exit: Any = None
_listeners: list[Callable[[RankFailed], None]] = []
_inherited: list[Any] = []  # in a forked process: what must not be torn down there
_lock = threading.Lock()  # guards the listeners, so that none is called after its removal


def agreed(error: E) -> E:
    """Mark an error that all ranks raise together, so that it is not reported to the others.

    An error that one rank raises alone is reported, and the other ranks raise ``RankFailed``. One that all ranks raise
    at the same place, as after ``if idist.any(...)``, is raised unchanged on each of them if each marks it.

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


def report(error: BaseException) -> BaseException:
    """Report that this rank fails, unless all ranks do so together or another one did so first.

    Args:
        error: That leaves a run, or the program. Agreed errors, ``RankFailed``, the end of a generator and an exit with
            code 0 are not reported.

    Returns:
        The error to raise: usually the same one. If it says that a connection to another rank broke, and that rank has
        failed or is lost, a ``RankFailed`` whose cause is ``error``.

    Example:
        >>> report(ValueError("not reported in a serial run"))
        ValueError('not reported in a serial run')
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
    """Report an error, and handle what this yields in the block: collectives in it raise, as no other rank comes."""
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


def raise_if_failed() -> None:
    """Raise ``RankFailed`` if another rank has failed or is lost; for loops that wait for something."""
    found = None if _watcher is None else _watcher.deliver()
    if found is not None:
        raise found


def has_failed() -> bool:
    """Whether any rank, this one included, has failed since they joined: then some collectives may never end."""
    return _watcher is not None and _watcher.has_failed


@contextmanager
def explained(operation: str, rank: int, world_size: int, backend: str | None) -> Iterator[None]:
    """Replace errors of torch: by ``RankFailed`` if another rank is at fault, else by one with more context."""
    watcher = _watcher
    if watcher is not None:
        outer, watcher.whereabouts.waits = watcher.whereabouts.waits, operation
    try:
        yield
    except RankFailed:
        raise
    except RuntimeError as error:
        found = None if watcher is None else watcher.explain(error)
        if found is not None:
            raise found from error
        raise RuntimeError(
            f"idist.{operation} failed on rank {rank} of {world_size} (backend {backend}): {error}"
            f"{'' if watcher is None else _describe_others(watcher, error)}"
        ) from error
    finally:
        if watcher is not None:
            watcher.whereabouts.waits = outer


def _describe_others(watcher: Watcher, error: RuntimeError) -> str:
    """For a message: which ranks have left, or where the others are if one of them did not come."""
    departed = watcher.departed()
    if departed:
        return f" (ranks {departed} have left)"
    places = watcher.locate_others() if _ABSENCE.search(str(error)) else ""
    return f"; {places}" if places else ""


def wait_for(is_done: Callable[[], bool], timeout: timedelta | None) -> None:
    """Wait in a block of :func:`explained` until a condition holds; RuntimeError after ``timeout``, None for none."""
    deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
    pause_s = 0.001
    while not is_done():
        raise_if_failed()
        if deadline is not None and time.monotonic() > deadline:
            raise RuntimeError(f"timed out after {timeout}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _CHECK.total_seconds())


def begin(operation: str) -> None:
    """Call before a collective: raise if a rank has failed or is lost, or the ranks are out of step since then."""
    if _watcher is not None and not _watcher.is_healthy:
        _watcher.begin(operation)


def finish(work: Any, operation: str) -> None:
    """Wait for an asynchronous collective on the CPU; raise ``RankFailed`` if another rank fails meanwhile."""
    watcher = _watcher
    if watcher is None:
        work.wait()
        return
    while True:
        try:
            work.wait(_CHECK)
            return
        except RuntimeError:
            if work.is_completed():
                work.wait()  # raises the error of the collective, if there is one
                return
        watcher.abandon(operation)


def add_listener(on_rank_failed: Callable[[RankFailed], None]) -> None:
    """Call at the start of a run: another thread calls ``on_rank_failed`` repeatedly until the failure is raised.

    Only the listener of the innermost run is called; what that run raises reaches the runs around it.
    """
    if _watcher is not None and not _watcher.is_healthy and not _watcher.handling:
        _watcher.resume()
    with _lock:
        _listeners.append(on_rank_failed)


def remove_listener(on_rank_failed: Callable[[RankFailed], None]) -> None:
    """Call at the end of a run: ``on_rank_failed`` is not called after this returns."""
    with _lock:
        _listeners.remove(on_rank_failed)


def notify(found: RankFailed) -> None:
    """Call the listener of the innermost run."""
    with _lock:
        if _listeners:
            _listeners[-1](found)


def start(watcher: Watcher) -> None:
    """Use a watcher until :func:`stop` or the end of the process."""
    global _watcher, _at_exit
    stop()  # the watcher of a group that was destroyed without finalize()
    _watcher = watcher
    # unlike atexit, also called in processes of multiprocessing, at the end of their function
    _at_exit = Finalize(None, _leave_at_exit, exitpriority=100)


def stop() -> None:
    """Deregister this rank, if it has a watcher."""
    global _watcher
    if _watcher is not None:
        _at_exit.cancel()
        watcher, _watcher = _watcher, None
        watcher.stop()
        if watcher.has_failed:
            _keep_groups()


def _keep_groups() -> None:
    """Prevent torch from destroying groups: that waits for pending collectives, some of which may never end."""
    import ctypes  # needed after a failure only

    world: Any = dist.distributed_c10d._world
    for group in world.pg_map:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))


def _leave_at_exit() -> None:
    """At the end of the process, report an uncaught error."""
    error = getattr(sys, "last_value", None)
    if error is not None:
        found = report(error)
        if found is not error:
            print(f"{type(found).__name__}: {found}", file=sys.stderr)
    stop()


def _forget() -> None:
    """In a forked process, such as a worker of a DataLoader: it is not a rank and has no watcher."""
    global _watcher, _lock
    _inherited.append(_watcher)
    _watcher, _lock = None, threading.Lock()  # the thread that may hold the lock does not exist here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

"""Workers of DataLoaders that leave the signals of a run to their parent.

What torchrun, ``scancel``, a cgroup or a terminal sends reaches the workers of a DataLoader too. torch lets them die of
it, and their parent raises wherever it is, so it neither saves nor leaves in order. Inside :func:`shielded`, workers
are started that ignore these signals, and the death of older ones is no error if it goes with a signal to the parent.
After the block the workers can be terminated again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from multiprocessing import forkserver, resource_tracker
from multiprocessing.sharedctypes import RawValue
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any, Final

from torch.utils.data import DataLoader

__all__ = ["iterators_of_lost_workers", "shielded"]

#: How long a worker may take to end when the program does, before it is killed, in seconds.
_TERMINATE_S: Final = 5.0

#: After the threads that ignite_core ends, and before multiprocessing waits for its processes without a limit.
_PRIORITY: Final = 10

#: What that server imports when it starts.
_FORK_SERVER: Final = "ignite_core._forkserver"

#: How many blocks of :func:`shielded` this process is in; its workers read it. Also whose number it is.
_depth: Any = None
_depth_pid = 0

#: Iterators over loaders whose workers ignore signals, and these workers.
_iterators: weakref.WeakSet[Any] = weakref.WeakSet()
_workers: weakref.WeakSet[Any] = weakref.WeakSet()


@contextmanager
def shielded(numbers: Iterable[int], excuse: Callable[[], object]) -> Iterator[None]:
    """Let workers that are started in the block ignore signals until it is left; in the main thread.

    Persistent workers that were started before are replaced when their loader is next iterated.

    Args:
        numbers: The signals. One that is ignored already stays ignored.
        excuse: Called when a worker has died of a signal: whether that is not to be raised.

    Example:
        >>> with shielded([signal.SIGTERM], lambda: False):
        ...     for batch in DataLoader(range(2), num_workers=1, worker_init_fn=lambda _: signal.raise_signal(15)):
        ...         print(batch)
        tensor([0])
        tensor([1])
    """
    signals = tuple(numbers)
    _spare_fork_server()
    pid, depth = os.getpid(), _own_depth()
    replaced = [(kind, kind.__iter__) for kind in _kinds(DataLoader) if "__iter__" in vars(kind)]
    watch = _ChildWatch(excuse)
    for kind, original in replaced:
        setattr(kind, "__iter__", _shielding(original, signals, depth, watch))  # noqa: B010 - for mypy it is a method
    watch.put_on()
    depth.value += 1
    try:
        yield
    finally:
        if os.getpid() == pid:
            depth.value -= 1
            watch.put_back()
        for kind, original in replaced:
            setattr(kind, "__iter__", original)  # noqa: B010


def _spare_fork_server() -> None:
    """If processes are forked by a server that starts from now on, it blocks signals too."""
    server: Any = forkserver._forkserver
    if _FORK_SERVER not in server._preload_modules:
        server.set_forkserver_preload([*server._preload_modules, _FORK_SERVER])


def _kinds(kind: Any) -> Iterator[Any]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _kinds(derived)


def _own_depth() -> Any:
    global _depth, _depth_pid
    if _depth_pid != os.getpid():
        _depth, _depth_pid = RawValue("i", 0), os.getpid()
        Finalize(None, _end_workers, exitpriority=_PRIORITY)
    return _depth


def iterators_of_lost_workers(error: BaseException) -> list[Any]:
    """The iterators over loaders that raised an error, of any type, because a worker did not answer any more.

    Shut them down before the error is dropped: torch may not have noticed the death of the worker yet, and would raise
    it later, wherever the main thread is then.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [frame.f_locals["self"] for frame in frames if frame.f_code.co_name == "_try_get_data"]


class _ChildWatch:
    """Stands before torch's handler of SIGCHLD, which raises in the main thread when a worker has died of a signal."""

    def __init__(self, excuse: Callable[[], object]) -> None:
        self._excuse = excuse
        self._before: Any = None

    def put_on(self) -> None:
        """Begin, if torch's handler is there: it comes with the first worker. Idempotent."""
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
            found = signal.getsignal(signal.SIGCHLD)
            if callable(found) and found != self._handle:
                self._before = found
                signal.signal(signal.SIGCHLD, self._handle)

    def put_back(self) -> None:
        """End, unless the handler was replaced by another one since."""
        if self._before is not None and signal.getsignal(signal.SIGCHLD) == self._handle:
            signal.signal(signal.SIGCHLD, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            self._before(number, frame)
        except RuntimeError:
            if not self._excuse():
                raise


def _shielding(
    iterate: Callable[[Any], Any], numbers: tuple[int, ...], depth: Any, watch: _ChildWatch
) -> Callable[[Any], Any]:
    """``DataLoader.__iter__``, such that the workers that it starts ignore signals."""

    @wraps(iterate)
    def shielded_iter(loader: Any) -> Any:
        if not loader.num_workers or isinstance(loader.worker_init_fn, _Shield):
            return iterate(loader)
        if getattr(loader, "_iterator", None) not in _iterators:
            loader._iterator = None  # its workers were started before: others take their place
        _start_helpers(loader)
        init = loader.worker_init_fn
        loader.worker_init_fn = _Shield(numbers, depth, init)
        blocked = _block(numbers)  # inherited by the workers: what comes before they are ready waits
        try:
            iterator = iterate(loader)
        finally:
            _set_blocked(blocked)
            loader.worker_init_fn = init
            watch.put_on()
        _iterators.add(iterator)
        _workers.update(getattr(iterator, "_workers", ()))
        return iterator

    return shielded_iter


def _start_helpers(loader: Any) -> None:
    """Start what multiprocessing starts before its first process: it would unblock signals, or inherit them blocked."""
    method = (loader.multiprocessing_context or multiprocessing.get_context()).get_start_method()
    if method == "forkserver":
        forkserver.ensure_running()
    elif method == "spawn" and hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()


class _Shield:
    """The first thing that a worker does, before the ``worker_init_fn`` of the user."""

    def __init__(self, numbers: tuple[int, ...], depth: Any, init: Callable[[int], object] | None) -> None:
        self._numbers = numbers
        self._depth = depth
        self._init = init

    def __call__(self, worker_id: int) -> None:
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._catch)
        _unblock(self._numbers)
        if self._init is not None:
            self._init(worker_id)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self._depth.value == 0:
            os._exit(0)  # as torch does: another code would be an error to the parent, which is ending it


def _end_workers() -> None:
    """The program ends: end workers that are left, also those that are stuck, for which multiprocessing would wait."""
    workers = [worker for worker in _workers if worker.is_alive()]
    if workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes a killed worker for an error
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_TERMINATE_S)
        if worker.is_alive():
            worker.kill()


if hasattr(signal, "pthread_sigmask"):

    def _block(numbers: Iterable[int]) -> Any:
        return signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def _unblock(numbers: Iterable[int]) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def _set_blocked(numbers: Any) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, numbers)

else:  # Windows, where signals are not sent to other processes

    def _block(numbers: Iterable[int]) -> Any:
        return None

    _unblock = _set_blocked = _block

"""DataLoader workers that leave the signals of a run to their parent process.

Signals from torchrun, ``scancel``, a cgroup or a terminal reach the workers of a DataLoader too. With torch's defaults
they die, and the parent raises at an arbitrary place instead of saving and exiting. Workers that are started inside
:func:`shielded` ignore these signals; the death of an older worker is no error if the parent gets a signal as well.
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

#: How long a worker may take to end at interpreter exit before it is killed, in seconds.
_TERMINATE_S: Final = 5.0

#: After the threads of ignite_core are stopped, before multiprocessing waits for its processes without a limit.
_PRIORITY: Final = 10

#: The module that the fork server imports when it starts.
_FORK_SERVER: Final = "ignite_core._forkserver"

#: The number of :func:`shielded` blocks that this process is in, in memory shared with its workers; and its owner.
_depth: Any = None
_depth_pid = 0

#: Iterators over loaders with shielded workers, and these workers.
_iterators: weakref.WeakSet[Any] = weakref.WeakSet()
_workers: weakref.WeakSet[Any] = weakref.WeakSet()


@contextmanager
def shielded(numbers: Iterable[int], excuse: Callable[[], object]) -> Iterator[None]:
    """Workers that are started inside the block ignore signals until its end. For use in the main thread.

    Persistent workers that were started earlier are replaced when their loader is next iterated.

    Args:
        numbers: The signals. One that is already ignored stays ignored.
        excuse: Called when a worker was killed by a signal; if it returns true, no error is raised.

    Example:
        >>> with shielded([signal.SIGTERM], lambda: False):
        ...     for batch in DataLoader(range(2), num_workers=1, worker_init_fn=lambda _: signal.raise_signal(15)):
        ...         print(batch)
        tensor([0])
        tensor([1])
    """
    signals = tuple(numbers)
    _preload_fork_server()
    pid, depth = os.getpid(), _depth_of_process()
    replaced = [(cls, cls.__iter__) for cls in _classes(DataLoader) if "__iter__" in vars(cls)]
    child_handler = _ChildHandler(excuse)
    for cls, original in replaced:
        setattr(cls, "__iter__", _shielding(original, signals, depth, child_handler))  # noqa: B010 - mypy: a method
    child_handler.install()
    depth.value += 1
    try:
        yield
    finally:
        if os.getpid() == pid:
            depth.value -= 1
            child_handler.uninstall()
        for cls, original in replaced:
            setattr(cls, "__iter__", original)  # noqa: B010


def _preload_fork_server() -> None:
    """A fork server that starts from now on blocks signals too."""
    server: Any = forkserver._forkserver
    if _FORK_SERVER not in server._preload_modules:
        server.set_forkserver_preload([*server._preload_modules, _FORK_SERVER])


def _classes(base: Any) -> Iterator[Any]:
    yield base
    for derived in base.__subclasses__():
        yield from _classes(derived)


def _depth_of_process() -> Any:
    global _depth, _depth_pid
    if _depth_pid != os.getpid():
        _depth, _depth_pid = RawValue("i", 0), os.getpid()
        Finalize(None, _end_workers, exitpriority=_PRIORITY)
    return _depth


def iterators_of_lost_workers(error: BaseException) -> list[Any]:
    """The iterators over loaders that raised ``error``, of any type, because a worker no longer answered.

    Shut them down before the error is discarded: torch may not have noticed the death of the worker yet, and would
    raise later at an arbitrary place in the main thread.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [frame.f_locals["self"] for frame in frames if frame.f_code.co_name == "_try_get_data"]


class _ChildHandler:
    """Wraps torch's handler of SIGCHLD, which raises in the main thread when a worker was killed by a signal."""

    def __init__(self, excuse: Callable[[], object]) -> None:
        self._excuse = excuse
        self._torchs: Any = None

    def install(self) -> None:
        """Idempotent; has no effect before torch installs its handler with the first worker."""
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
            found = signal.getsignal(signal.SIGCHLD)
            if callable(found) and found != self._handle:
                self._torchs = found
                signal.signal(signal.SIGCHLD, self._handle)

    def uninstall(self) -> None:
        """Restore torch's handler, unless another one was installed since."""
        if self._torchs is not None and signal.getsignal(signal.SIGCHLD) == self._handle:
            signal.signal(signal.SIGCHLD, self._torchs)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        try:
            self._torchs(number, frame)
        except RuntimeError:
            if not self._excuse():
                raise


def _shielding(
    iterate: Callable[[Any], Any], numbers: tuple[int, ...], depth: Any, child_handler: _ChildHandler
) -> Callable[[Any], Any]:
    """``DataLoader.__iter__`` whose workers ignore signals."""

    @wraps(iterate)
    def shielded_iter(loader: Any) -> Any:
        if not loader.num_workers or isinstance(loader.worker_init_fn, _Shield):
            return iterate(loader)
        if getattr(loader, "_iterator", None) not in _iterators:
            loader._iterator = None  # its persistent workers were started earlier: replace them
        _start_helpers(loader)
        init = loader.worker_init_fn
        loader.worker_init_fn = _Shield(numbers, depth, init)
        blocked = _mask("SIG_BLOCK", numbers)  # inherited by the workers: signals wait until they are ready
        try:
            iterator = iterate(loader)
        finally:
            _mask("SIG_SETMASK", blocked)
            loader.worker_init_fn = init
            child_handler.install()
        _iterators.add(iterator)
        _workers.update(getattr(iterator, "_workers", ()))
        return iterator

    return shielded_iter


def _start_helpers(loader: Any) -> None:
    """Start the helper processes of multiprocessing: they would unblock signals, or inherit them blocked."""
    method = (loader.multiprocessing_context or multiprocessing.get_context()).get_start_method()
    if method == "forkserver":
        forkserver.ensure_running()
    elif method == "spawn" and hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()


class _Shield:
    """A ``worker_init_fn`` that shields the worker and then calls the one of the user."""

    def __init__(self, numbers: tuple[int, ...], depth: Any, init: Callable[[int], object] | None) -> None:
        self._numbers = numbers
        self._depth = depth
        self._init = init

    def __call__(self, worker_id: int) -> None:
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._catch)
        _mask("SIG_UNBLOCK", self._numbers)
        if self._init is not None:
            self._init(worker_id)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self._depth.value == 0:
            os._exit(0)  # as torch does: the parent, which is ending the worker, treats other codes as an error


def _end_workers() -> None:
    """At interpreter exit, end the remaining workers, also those that hang: multiprocessing would wait for them."""
    workers = [worker for worker in _workers if worker.is_alive()]
    if workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler treats a killed worker as an error
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_TERMINATE_S)
        if worker.is_alive():
            worker.kill()


def _mask(how: str, numbers: Any) -> Any:
    """Change which signals are blocked. Windows, where signals are not sent to other processes, cannot."""
    if hasattr(signal, "pthread_sigmask"):
        return signal.pthread_sigmask(getattr(signal, how), numbers)
    return None

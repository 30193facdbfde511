"""A disk that fails on demand: counts, records, fails, slows down or ends the process at each operation of a save.

Everything that the library does to a disk goes through `ignite_core.handlers.checkpoint.storage.fs`, function by
function; these are replaced while one of the context managers below is open, in all threads of the process. They may be
nested.

    with io_shim.recording() as ops: ...                    # ops: list[Op], grows with each operation; K = len(ops)
    with io_shim.killing(at=k): ...                         # os._exit(137) instead of the k-th operation (k = 1, 2, …)
    with io_shim.killing(at=k, torn=True): ...              # a write (or rmtree) is done by half first
    with io_shim.failing(at=k, error=errno.ENOSPC): ...     # the k-th raises OSError; times=None: all from the k-th on
    with io_shim.failing(at=k, error=errno.EIO, torn=True)  # a write is done by half, then raises
    with io_shim.delaying(0.5, kinds={"fsync"}): ...        # before each of these
    with io_shim.calling(hook): ...                         # hook(number, op) before each; may wait, raise, look around
    with io_shim.shortening(100): ...                       # a write takes 100 bytes at most, as it may

In a child process: set IGNITE_IO_SHIM for it and let it call `io_shim.install_from_environment()`:

    kill:17   kill-torn:17   fail:17:ENOSPC   fail-on:17:EIO (and all after it)   slow:0.5:fsync   count:/a/file

`count` appends a line `kind name` to a file for each operation: the number of lines is K. To kill at a random operation
run once with `count`, then with `kill:k`. A process that was killed so returns `KILLED` (137) as SIGKILL would.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ignite_core.handlers.checkpoint.storage import fs as files

__all__ = [
    "KILLED",
    "KINDS",
    "Op",
    "calling",
    "delaying",
    "failing",
    "install_from_environment",
    "killing",
    "recording",
    "shortening",
]

#: What a process ends with, as if SIGKILL had ended it.
KILLED = 137

#: All that is counted.
KINDS = ("create", "write", "fsync", "close", "fsync_path", "replace", "unlink", "mkdir", "rmtree")


@dataclass(frozen=True)
class Op:
    """One operation; of a file that is open, ``path`` is where it is."""

    kind: str
    path: Path
    target: Path | None = None  #: of replace
    data: bytes | None = None  #: of write: what is to be written
    fd: int | None = None  #: of write, fsync and close

    def __str__(self) -> str:
        return f"{self.kind} {self.path.name}{'' if self.target is None else f' -> {self.target.name}'}"


Hook = Callable[[int, Op], None]


@contextmanager
def calling(hook: Hook) -> Iterator[None]:
    """Call ``hook(number, operation)`` before each operation, numbered from 1."""
    numbers, lock = itertools.count(1), threading.Lock()
    originals = {kind: getattr(files, kind) for kind in KINDS}

    def wrapped(kind: str) -> Callable[..., Any]:
        original = originals[kind]

        def operate(first: Any, *rest: Any) -> Any:
            fd = first if isinstance(first, int) else None
            place = Path(first if fd is None else os.readlink(f"/proc/self/fd/{fd}"))
            target = Path(rest[0]) if kind == "replace" else None
            data = bytes(rest[0]) if kind == "write" else None
            with lock:
                number = next(numbers)
            try:
                hook(number, Op(kind, place, target, data, fd))
            except BaseException:
                if kind == "close":
                    original(first)  # as the system does, whatever it reports
                raise
            return original(first, *rest)

        return operate

    for kind in KINDS:
        setattr(files, kind, wrapped(kind))
    try:
        yield
    finally:
        for kind, original in originals.items():
            setattr(files, kind, original)


@contextmanager
def recording() -> Iterator[list[Op]]:
    """All operations, in order."""
    ops: list[Op] = []
    with calling(lambda number, op: ops.append(op)):
        yield ops


@contextmanager
def killing(at: int, *, torn: bool = False) -> Iterator[None]:
    """End the process at an operation, without any clean-up."""
    halves = _Halves()

    def kill(number: int, op: Op) -> None:
        if number == at:
            if torn:
                halves.do(op)
            os._exit(KILLED)

    with calling(kill):
        yield


@contextmanager
def failing(
    at: int, *, error: int = errno.ENOSPC, times: int | None = 1, torn: bool = False, kinds: Collection[str] = KINDS
) -> Iterator[list[Op]]:
    """Raise ``OSError(error)`` at an operation, and at those that follow it; what failed so is in the list."""
    failed: list[Op] = []
    halves, numbers = _Halves(), itertools.count(1)

    def fail(_: int, op: Op) -> None:
        if op.kind not in kinds:
            return
        number = next(numbers)
        if number >= at and (times is None or number < at + times):
            failed.append(op)
            if torn:
                halves.do(op)
            raise OSError(error, os.strerror(error), str(op.path))

    with calling(fail):
        yield failed


@contextmanager
def delaying(seconds: float, kinds: Collection[str] = KINDS) -> Iterator[None]:
    """A slow disk."""
    with calling(lambda number, op: time.sleep(seconds) if op.kind in kinds else None):
        yield


@contextmanager
def shortening(most: int) -> Iterator[None]:
    """Let a write take a part of what it is given, as it may."""
    original = files.write

    def write(fd: int, data: memoryview) -> int:
        return original(fd, data[:most])

    files.write = write
    try:
        yield
    finally:
        files.write = original


class _Halves:
    """Does the first half of what can be torn, without being counted."""

    def __init__(self) -> None:
        self._write = files.write

    def do(self, op: Op) -> None:
        if op.fd is not None and op.data:
            self._write(op.fd, memoryview(op.data)[: len(op.data) // 2])
        if op.kind == "rmtree":
            inside = sorted(path for path in op.path.rglob("*") if path.is_file())
            for path in inside[: (len(inside) + 1) // 2]:
                path.unlink()


def install_from_environment() -> None:
    """What the variable IGNITE_IO_SHIM says, until the process ends; nothing if it is not set."""
    told = os.environ.get("IGNITE_IO_SHIM", "")
    kind, *words = told.split(":")
    if kind in ("kill", "kill-torn"):
        shim: Any = killing(int(words[0]), torn=kind == "kill-torn")
    elif kind in ("fail", "fail-on"):
        shim = failing(int(words[0]), error=getattr(errno, words[1]), times=1 if kind == "fail" else None)
    elif kind == "slow":
        shim = delaying(float(words[0]), words[1:] or KINDS)
    elif kind == "count":
        shim = calling(_Log(":".join(words)))
    elif told:
        raise ValueError(f"IGNITE_IO_SHIM={told!r}: must be kill, kill-torn, fail, fail-on, slow or count")
    else:
        return
    shim.__enter__()
    _kept.append(shim)  # a context manager that nobody holds would be left


_kept: list[Any] = []


class _Log:
    """A line for each operation, there at once."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def __call__(self, number: int, op: Op) -> None:
        os.write(self._fd, f"{op}\n".encode())

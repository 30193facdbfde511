"""A file that is hashed while it is written."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ignite_core.handlers.checkpoint.background import start
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.hashing import CHUNK, Hasher
from ignite_core.handlers.checkpoint.storage.manifest import FileDigest

__all__ = ["original_errors", "sync", "write_through"]

#: Smaller pieces are collected, larger ones go straight to the file.
_BUFFER = 2**18


def write_through(
    fd: int, write: Callable[[BinaryIO], object], check: Callable[[int], object] | None = None
) -> FileDigest:
    """Let ``write`` fill a new file, ``check`` look at it, and wait until it is on the disk.

    Raises:
        OSError: If the disk refuses, whatever ``write`` made of that.
        KeyboardInterrupt: If it came while ``write`` was at work, whatever that made of it.
    """
    file = _Growing(fd)
    buffer = io.BufferedWriter(file, _BUFFER)
    try:
        with original_errors():
            try:
                write(buffer)
                buffer.flush()
            finally:
                if file.error is not None:
                    raise file.error from None
        size = file.tell()
        file.hasher.complete(size)
        if check is None:
            files.fsync(fd)
        else:
            _sync_while(fd, lambda: check(fd))
        return FileDigest(size, file.hasher.finish())
    finally:
        file.hasher.abandon()
        file.is_abandoned = True  # the buffer may still hold something, and writes that when it is closed
        buffer.close()


def _sync_while(fd: int, look: Callable[[], object]) -> None:
    """Wait until a file is on the disk, in a thread, and use the processor meanwhile."""
    errors: list[BaseException] = []

    def sync_it() -> None:
        try:
            files.fsync(fd)
        except BaseException as error:
            errors.append(error)

    thread = start(sync_it, "ignite-core-sync")
    if thread is None:
        sync_it()
        look()
    else:
        try:
            look()
        except Exception:
            thread.join()
            raise
        thread.join()  # somebody who ends the process (KeyboardInterrupt) does not wait for a slow disk, here or there
    if errors:
        raise errors[0]


def sync(fd: int) -> FileDigest:
    """Wait until a file is on the disk, and hash it meanwhile."""
    hasher = Hasher(fd)
    size = os.fstat(fd).st_size
    hasher.complete(size)
    try:
        files.fsync(fd)
        return FileDigest(size, hasher.finish())
    finally:
        hasher.abandon()


@contextlib.contextmanager
def original_errors() -> Iterator[None]:
    """Raise errors of the disk and interrupts (exceptions that are no :class:`Exception`) that torch.save has replaced.

    It raises a RuntimeError of its own after one that was raised while it was writing.

    Example:
        >>> with original_errors():
        ...     try:
        ...         raise OSError(28, "No space left on device")
        ...     except OSError:
        ...         raise RuntimeError("unexpected pos 832 vs 726")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device
    """
    handled = sys.exception()  # a save may itself follow an error, as the last one after Ctrl-C does
    try:
        yield
    except RuntimeError as error:
        first: BaseException | None = error
        while type(first) is RuntimeError:
            first = first.__context__
        if first is not handled and (isinstance(first, OSError) or not isinstance(first, Exception | None)):
            raise first from None
        raise


class _Growing(io.RawIOBase):
    """A file that only grows, at most by a piece that is hashed at once."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.hasher = Hasher(fd)
        self.error: BaseException | None = None
        self.is_abandoned = False
        self._fd, self._size = fd, 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        """Takes a part of it, as a file may; the buffer in front comes again with the rest."""
        try:
            piece = memoryview(data).cast("B")[:CHUNK]
            if self.is_abandoned or self.error is not None:  # torch writes on after an error, even to its destructor
                return len(piece)
            written = files.write(self._fd, piece)
            self._size += written
            self.hasher.grown(self._size)
        except BaseException as error:
            self.error = error
            raise
        return written

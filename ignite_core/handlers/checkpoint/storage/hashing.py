"""SHA-256 of large files by several threads: a tree of 8 MiB chunks, hashed while the file is written or checked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.manifest import FileDigest
from ignite_core.threads import start_thread

__all__ = ["CHUNK", "Hasher", "digest", "original_errors", "start", "sync", "write_through"]

#: Bytes of one leaf of the tree. The digest of a file is the SHA-256 of the digests of its leaves, in order.
CHUNK = 8 * 2**20

#: Threads that hash while a file is written, besides the one that writes; and afterwards. hashlib and reads release the
#: GIL.
_WHILE_WRITING, _AFTERWARDS = 1, 2

#: Smaller writes are buffered, larger ones go to the file directly.
_BUFFER = 2**18

#: How long the end of the interpreter waits for a thread, in seconds. Savers have waited for theirs before.
_JOIN_S = 1.0


class Hasher:
    """Hashes a file chunk by chunk as it grows.

    :meth:`grown` says how far it has been written, :meth:`finish` waits for the digest. Chunks are read back from the
    file, so that what is hashed is what the system holds of it.

    Args:
        fd: Open for reading; its position is not moved.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._leaves: dict[int, bytes] = {}
        self._next, self._ready, self._is_complete = 0, 0, False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None

    def grown(self, size: int) -> None:
        """The bytes up to ``size`` are written, and do not change any more."""
        ready = size // CHUNK
        if ready > self._ready:
            with self._changed:
                self._ready = ready
                self._changed.notify_all()
            self._start_threads(_WHILE_WRITING)

    def complete(self, size: int) -> None:
        """The file has ``size`` bytes: hash the rest, without waiting for it."""
        with self._changed:
            self._ready, self._is_complete = -(-size // CHUNK), True
            self._changed.notify_all()
        if self._ready > 1:
            self._start_threads(_AFTERWARDS)

    def finish(self) -> str:
        """Hash in this thread too, then wait for the others.

        Returns:
            The digest of the whole file, as hexadecimal digits.

        Raises:
            OSError: If the file could not be read.
        """
        assert self._is_complete, "complete() comes before finish()"
        self._work()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error
        tree = hashlib.sha256()
        for number in range(self._ready):
            tree.update(self._leaves[number])
        return tree.hexdigest()

    def abandon(self) -> None:
        """Stop at once; the digest is not needed any more."""
        with self._changed:
            self._next = self._ready
            self._is_complete = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _start_threads(self, count: int) -> None:
        for _ in range(count - len(self._threads)):
            thread = start(self._work, "ignite-core-hash")
            if thread is None:  # finish() does it all
                return
            self._threads.append(thread)

    def _work(self) -> None:
        buffer = memoryview(bytearray(CHUNK))
        try:
            while (number := self._take()) is not None:
                self._leaves[number] = hashlib.sha256(buffer[: self._read(number, buffer)]).digest()
        except BaseException as error:
            self._error = error

    def _take(self) -> int | None:
        """The next chunk, once there is one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._next < self._ready or self._is_complete or self._error is not None)
            if self._next >= self._ready or self._error is not None:
                return None
            self._next += 1
            return self._next - 1

    def _read(self, number: int, buffer: memoryview) -> int:
        done = 0
        while done < CHUNK:
            read = os.preadv(self._fd, [buffer[done:]], number * CHUNK + done)
            if read == 0:
                break
            done += read
        return done


def digest(fd: int) -> str:
    """The digest of an open file."""
    hasher = Hasher(fd)
    hasher.complete(os.fstat(fd).st_size)
    return hasher.finish()


def write_through(
    fd: int, write: Callable[[BinaryIO], object], check: Callable[[int], object] | None = None
) -> FileDigest:
    """Let ``write`` fill a new file and ``check`` check it, and wait until it is on the disk.

    Raises:
        OSError: If the disk fails, whichever error ``write`` makes of that.
        KeyboardInterrupt: If it is raised inside ``write``, whichever error that makes of it.
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
        file.is_abandoned = True  # the buffer may still contain data, and writes them when it is closed
        buffer.close()


def _sync_while(fd: int, check: Callable[[], object]) -> None:
    """Wait in a thread until a file is on the disk, and call ``check`` meanwhile."""
    errors: list[BaseException] = []

    def sync_it() -> None:
        try:
            files.fsync(fd)
        except BaseException as error:
            errors.append(error)

    thread = start(sync_it, "ignite-core-sync")
    if thread is None:
        sync_it()
        check()
    else:
        try:
            check()
        except Exception:
            thread.join()
            raise
        thread.join()  # a KeyboardInterrupt, in check or here, does not wait for a slow disk
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
    """Raise disk errors and interrupts (exceptions that are not an :class:`Exception`) that torch.save has replaced.

    After one was raised while it was writing, torch.save raises a RuntimeError.
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
    """A file that only grows, at most by one chunk at once."""

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
        """Writes a part of the data; the buffer in front calls again with the rest."""
        try:
            piece = memoryview(data).cast("B")[:CHUNK]
            if self.is_abandoned or self.error is not None:  # torch goes on writing after an error
                return len(piece)
            written = files.write(self._fd, piece)
            self._size += written
            self.hasher.grown(self._size)
        except BaseException as error:
            self.error = error
            raise
        return written


def start(work: Callable[[], object], name: str) -> threading.Thread | None:
    """Start a thread that the end of the interpreter waits for; None if that has begun and no thread can start."""
    try:
        return start_thread(work, name, lambda: None, _JOIN_S)
    except RuntimeError:
        return None

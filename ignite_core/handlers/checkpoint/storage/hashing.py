"""SHA-256 of large files by two threads: a tree of 8 MiB pieces, hashed while the file is written or checked."""

from __future__ import annotations

import hashlib
import os
import threading

from ignite_core.handlers.checkpoint.background import start

__all__ = ["CHUNK", "Hasher", "digest"]

#: Bytes of one leaf of the tree. The digest of a file is the SHA-256 of the digests of its leaves, in order.
CHUNK = 8 * 2**20

#: Threads that hash while a file is written, beside the one that writes; and then. hashlib and reads let others run.
_BESIDE, _THEN = 1, 2


class Hasher:
    """Hashes a file piece by piece as it grows: :meth:`grown` tells how far it goes, :meth:`finish` waits for the end.

    What is hashed is read back from the file, so that it is what the system holds of it.

    Args:
        fd: Open for reading; its place in the file is left alone.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._leaves: dict[int, bytes] = {}
        self._next, self._ready, self._is_complete = 0, 0, False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None

    def grown(self, size: int) -> None:
        """Everything up to byte ``size`` is there and does not change any more."""
        ready = size // CHUNK
        if ready > self._ready:
            with self._changed:
                self._ready = ready
                self._changed.notify_all()
            self._start_threads(_BESIDE)

    def complete(self, size: int) -> None:
        """The file has ``size`` bytes: hash what is left, without waiting for it."""
        with self._changed:
            self._ready, self._is_complete = -(-size // CHUNK), True
            self._changed.notify_all()
        if self._ready > 1:
            self._start_threads(_THEN)

    def finish(self) -> str:
        """Wait for the threads, and take part.

        Returns:
            The digest of the whole file, as hexadecimal digits.

        Raises:
            OSError: If the file could not be read.
        """
        assert self._is_complete, "complete() comes before finish()"
        self._work()
        self._join()
        if self._error is not None:
            raise self._error
        tree = hashlib.sha256()
        for number in range(self._ready):
            tree.update(self._leaves[number])
        return tree.hexdigest()

    def abandon(self) -> None:
        """Stop at once; nobody wants the digest any more."""
        with self._changed:
            self._next = self._ready
            self._is_complete = True
            self._changed.notify_all()
        self._join()

    def _start_threads(self, count: int) -> None:
        for _ in range(count - len(self._threads)):
            thread = start(self._work, "ignite-core-hash")
            if thread is None:  # finish() does it all
                return
            self._threads.append(thread)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        buffer = memoryview(bytearray(CHUNK))
        try:
            while (number := self._take()) is not None:
                self._leaves[number] = hashlib.sha256(buffer[: self._read(number, buffer)]).digest()
        except BaseException as error:
            self._error = error

    def _take(self) -> int | None:
        """The next piece that nobody has taken, once there is one; None at the end."""
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
    """The digest of an open file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     _ = file.write(b"weights")
        ...     file.flush()
        ...     digest(file.fileno()) == hashlib.sha256(hashlib.sha256(b"weights").digest()).hexdigest()
        True
    """
    hasher = Hasher(fd)
    hasher.complete(os.fstat(fd).st_size)
    return hasher.finish()

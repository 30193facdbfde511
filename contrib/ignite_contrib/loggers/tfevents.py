"""The file that TensorBoard reads, written so that a full disk leaves it whole and makes nobody wait for ever."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ignite_contrib.loggers._append import append

__all__ = ["EventFile", "framed"]


class EventFile:
    """Takes the place of what writes a file in a SummaryWriter, of tensorboardX or of torch.

    These hand each event to a thread, by a short queue. Once the disk was full that thread is dead, and who adds some
    ten more events waits for ever. Here events are written by whoever adds them, whole ones only; those
    that the disk refuses are kept, and are written before the next.

    Args:
        path: The file, which begins with a version already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unwritten: list[bytes] = []
        self._lock = threading.RLock()
        self._is_one_of_many = False

    def get_logdir(self) -> str:
        """The folder of the file."""
        return str(self._path.parent)

    def add_event(self, event: Any) -> None:
        """Write an event, now or when the disk takes it."""
        with self._lock:
            self._unwritten.append(framed(event.SerializeToString()))
            if not self._is_one_of_many:
                self._try()

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """What is added within is written at the end.

        Raises:
            OSError: If the disk refuses it; then nothing of it will ever be.
        """
        with self._lock:
            before, self._is_one_of_many = len(self._unwritten), True
            try:
                yield
                self.write()
            except BaseException:
                del self._unwritten[before:]
                raise
            finally:
                self._is_one_of_many = False

    def write(self) -> None:
        """Write what was refused before.

        Raises:
            OSError: If the disk still refuses it.
        """
        with self._lock:
            if self._unwritten:
                append(self._path, b"".join(self._unwritten))
                self._unwritten.clear()

    def flush(self) -> None:
        """Try again to write what was refused."""
        self._try()

    def close(self) -> None:
        """Try again to write what was refused; the file is not held open."""
        self._try()

    def reopen(self) -> None:
        """Nothing is to be done for it."""

    def _try(self) -> None:
        try:
            self.write()
        except OSError:
            return  # kept for the next time


def framed(data: bytes) -> bytes:
    """A record as it stands in the file: length and data, each with a checksum.

    Example:
        >>> framed(b"abc").hex()
        '0300000000000000b099490e6162636e57f121'
    """
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C, masked as TFRecord files have it, because these are checksums of what may hold checksums."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _table_entry(index: int) -> int:
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
    return index


_TABLE = tuple(_table_entry(index) for index in range(256))

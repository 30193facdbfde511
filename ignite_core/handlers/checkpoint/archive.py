"""Files as torch.save writes them, written with the standard library alone, from the beginning to the end."""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["write_archive"]

#: Bytes of a record begin at multiples of this, so that a file can be mapped into memory and used as it lies there.
_ALIGNMENT = 64

#: What is handed over at once.
_CHUNK = 2**23

#: Numbers from here on stand in fields of 64 bits, and in their place stands that they do.
_LARGE = _ELSEWHERE = 2**32 - 1

#: The field that torch fills up the header of a record with, and that of large numbers.
_PADDING, _WIDE = 0x4246, 1

#: Versions of the format: the first, and the one that has large numbers. Midnight of 1980-01-01, as it counts days.
_PLAIN, _ZIP64, _DATE = 20, 45, 0x21


def write_archive(file: BinaryIO, records: Iterable[tuple[str, memoryview]]) -> None:
    """Write records into a zip file, stored as they are.

    Args:
        file: Empty, and need not be seekable.
        records: Name and bytes of each. Version and byte order are added.

    Example:
        >>> import io, zipfile
        >>> with io.BytesIO() as file:
        ...     write_archive(file, [("data.pkl", memoryview(b"N."))])
        ...     zipfile.ZipFile(file).namelist()
        ['archive/data.pkl', 'archive/byteorder', 'archive/version']
    """
    place, written = 0, []
    for name, data in _with_version(records):
        record = _Record(f"archive/{name}".encode(), place, data.nbytes, zlib.crc32(data))
        header = record.header()
        file.write(header)
        for begin in range(0, data.nbytes, _CHUNK):
            file.write(data[begin : begin + _CHUNK])
        place += len(header) + data.nbytes
        written.append(record)
    table = b"".join(record.line() for record in written)
    file.write(table + _end(len(written), len(table), place))


def _with_version(records: Iterable[tuple[str, memoryview]]) -> Iterator[tuple[str, memoryview]]:
    yield from records
    yield "byteorder", memoryview(sys.byteorder.encode())
    yield "version", memoryview(b"3\n")


@dataclass(frozen=True)
class _Record:
    name: bytes
    place: int
    size: int
    checksum: int

    def header(self) -> bytes:
        """What stands in front of the bytes."""
        wide = _wide(self.size, self.size)
        fixed = 30 + len(self.name) + len(wide) + 4
        padding = -(self.place + fixed) % _ALIGNMENT
        extra = wide + struct.pack("<2H", _PADDING, padding) + bytes(padding)
        return b"PK\3\4" + self._facts(wide) + struct.pack("<2H", len(self.name), len(extra)) + self.name + extra

    def line(self) -> bytes:
        """What the table of contents says."""
        wide = _wide(self.size, self.size, self.place)
        lengths = struct.pack("<5HI", len(self.name), len(wide), 0, 0, 0, 0)
        place = struct.pack("<I", _short(self.place))
        return b"PK\1\2" + struct.pack("<H", _ZIP64) + self._facts(wide) + lengths + place + self.name + wide

    def _facts(self, wide: bytes) -> bytes:
        size = _short(self.size)
        return struct.pack("<5H3I", _ZIP64 if wide else _PLAIN, 0, 0, 0, _DATE, self.checksum, size, size)


def _wide(*numbers: int) -> bytes:
    """The field with those of the numbers that are too large for their place."""
    large = [number for number in numbers if number >= _LARGE]
    return struct.pack(f"<2H{len(large)}Q", _WIDE, 8 * len(large), *large) if large else b""


def _short(number: int) -> int:
    return number if number < _LARGE else _ELSEWHERE


def _end(count: int, size: int, place: int) -> bytes:
    """What follows the table of contents."""
    wide = b""
    if count >= 0xFFFF or place >= _LARGE:
        wide = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, _ZIP64, _ZIP64, 0, 0, count, count, size, place)
        wide += b"PK\6\7" + struct.pack("<IQI", 0, place + size, 1)
    few = min(count, 0xFFFF)
    return wide + b"PK\5\6" + struct.pack("<4H2IH", 0, 0, few, few, _short(size), _short(place), 0)

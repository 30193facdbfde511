"""The entries of a zip file, read by rules so strict that any reader finds the same: nothing hidden, nothing twice.

A zip file says where its parts are in three places, and readers differ in which they believe. Here all must agree, and
only what ``torch.save`` writes is accepted: entries stored as they are, one after the other, in one folder.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ignite_core.exceptions import CheckpointError

__all__ = ["Entry", "read_entries"]

_END, _END64, _LOCATOR, _CENTRAL, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
_END_SIZE, _END64_SIZE, _LOCATOR_SIZE, _CENTRAL_SIZE, _LOCAL_SIZE = 22, 56, 20, 46, 30

#: In a field of 16 or 32 bits: the number stands in one of 64 bits elsewhere.
_ELSEWHERE_16, _ELSEWHERE_32 = 0xFFFF, 0xFFFFFFFF

#: Checksums behind the data (bit 3), names in UTF-8 (bit 11); nothing else, such as encryption.
_FLAGS = 1 << 3 | 1 << 11

#: The records of a file that torch.save has written.
_NAME = re.compile(
    r"[^/\\\0]{1,255}/(data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d{1,9})"
)

#: A table of contents may need so many bytes; it names some hundred thousand tensors.
_MOST_BYTES = 2**25


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the bytes of an entry are."""

    offset: int
    size: int


def read_entries(fd: int) -> dict[str, Entry]:
    """The entries of an open file, by their names without the folder that all are in.

    Raises:
        CheckpointError: If it is no such file, or not entirely clear.
    """
    size = os.fstat(fd).st_size
    if os.pread(fd, 4, 0) != _LOCAL:
        raise CheckpointError(
            "is no file as torch.save writes them since torch 1.6; if you trust where it comes from, convert it: "
            "torch.save(torch.load(old, weights_only=True), new)"
        )
    count, begin, end = _table(fd, size)
    entries: dict[str, Entry] = {}
    spans: list[tuple[int, int]] = []
    folders: set[str] = set()
    for name, header, length in _central(_read(fd, begin, end - begin), count):
        match = _NAME.fullmatch(name)
        if match is None:
            raise CheckpointError(f"has a record {name[:300]!r}, which torch.save does not write")
        folders.add(name[: match.start(1)])
        if match[1] in entries or len(folders) > 1:
            raise CheckpointError(f"has the record {match[1]!r} twice, or in two folders: {sorted(folders)}")
        offset = _check_local(fd, name, header, length)
        entries[match[1]] = Entry(offset, length)
        spans.append((header, offset + length))
    spans.sort()
    for (_, last), (first, _) in zip(spans, [*spans[1:], (begin, begin)], strict=True):
        if last > first:
            raise CheckpointError("has records that overlap, or go beyond its end")
    if "data.pkl" not in entries:
        raise CheckpointError("has no record data.pkl")
    return entries


def _read(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset) if offset >= 0 else b""
    if len(data) != size:
        raise CheckpointError("is cut off, or points beyond its end")
    return data


def _table(fd: int, size: int) -> tuple[int, int, int]:
    """How many entries the table of contents has, where it begins and ends."""
    tail = _read(fd, max(size - _END_SIZE, 0), min(size, _END_SIZE))
    if len(tail) < _END_SIZE or not tail.startswith(_END) or tail.rfind(_END) > 0:
        raise CheckpointError("is cut off: no table of contents at its end")
    disk, first_disk, on_disk, count, length, begin, comment = struct.unpack("<4H2IH", tail[4:])
    short = (on_disk, count, length, begin)
    place = end = size - _END_SIZE
    if size >= _END_SIZE + _LOCATOR_SIZE + _END64_SIZE:
        locator = _read(fd, place - _LOCATOR_SIZE, _LOCATOR_SIZE)
        if locator.startswith(_LOCATOR):
            end = place - _LOCATOR_SIZE - _END64_SIZE
            record = _read(fd, end, _END64_SIZE)
            if struct.unpack("<IQI", locator[4:]) != (0, end, 1) or not record.startswith(_END64):
                raise CheckpointError("has a table of contents that contradicts itself")
            length64, _, _, disk64, first_disk64, on_disk, count, length, begin = struct.unpack(
                "<QHHIIQQQQ", record[4:]
            )
            wide = (on_disk, count, length, begin)
            limits = (_ELSEWHERE_16, _ELSEWHERE_16, _ELSEWHERE_32, _ELSEWHERE_32)
            is_same = all(s in (w, limit) for s, w, limit in zip(short, wide, limits, strict=True))
            if length64 != _END64_SIZE - 12 or disk64 or first_disk64 or not is_same:
                raise CheckpointError("has a table of contents that contradicts itself")
    if disk or first_disk or comment or on_disk != count or begin + length != end or length > _MOST_BYTES:
        raise CheckpointError("has a table of contents that contradicts itself, or is too large")
    return count, begin, end


def _central(table: bytes, count: int) -> Iterator[tuple[str, int, int]]:
    """Name, place of the header, and size of each entry."""
    at = 0
    for _ in range(count):
        fields = table[at : at + _CENTRAL_SIZE]
        if len(fields) != _CENTRAL_SIZE or not fields.startswith(_CENTRAL):
            raise CheckpointError("has a table of contents that contradicts itself")
        flags, method = struct.unpack("<2H", fields[8:12])
        packed, size, name_size, extra_size, comment_size, disk = struct.unpack("<2I4H", fields[20:36])
        (header,) = struct.unpack("<I", fields[42:])
        at += _CENTRAL_SIZE
        name, extra = table[at : at + name_size], table[at + name_size : at + name_size + extra_size]
        at += name_size + extra_size + comment_size
        size, packed, header = _wide(extra, [size, packed, header])
        if method or packed != size or flags & ~_FLAGS or disk or comment_size or at > len(table):
            raise CheckpointError(
                "has a record that is compressed, encrypted or elsewhere; torch.save stores them as they are"
            )
        try:
            yield name.decode(), header, size
        except UnicodeDecodeError as error:
            raise CheckpointError("has a record whose name is no text") from error
    if at != len(table):
        raise CheckpointError("has a table of contents with more than it says")


def _wide(extra: bytes, numbers: list[int]) -> list[int]:
    """Numbers of 32 bits, those that stand elsewhere replaced by what stands there."""
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(extra):
        if at + 4 > len(extra):
            raise CheckpointError("has a record with a broken header")
        tag, length = struct.unpack("<2H", extra[at : at + 4])
        if tag in fields or at + 4 + length > len(extra):
            raise CheckpointError("has a record with a broken header")
        fields[tag] = extra[at + 4 : at + 4 + length]
        at += 4 + length
    field = fields.get(1, b"")
    missing = numbers.count(_ELSEWHERE_32)
    if len(field) != 8 * missing:
        raise CheckpointError("has a record whose size contradicts itself")
    wide = iter(struct.unpack(f"<{missing}Q", field))
    return [next(wide) if number == _ELSEWHERE_32 else number for number in numbers]


def _check_local(fd: int, name: str, header: int, size: int) -> int:
    """Compare the header in front of an entry with the table; where its bytes begin."""
    own = name.encode()
    fields = _read(fd, header, _LOCAL_SIZE + len(own))
    flags, method = struct.unpack("<2H", fields[6:10])
    packed, unpacked, name_size, extra_size = struct.unpack("<2I2H", fields[18:_LOCAL_SIZE])
    end = header + _LOCAL_SIZE + name_size
    sizes = [unpacked, packed]
    if _ELSEWHERE_32 in sizes:
        sizes = _wide(_read(fd, end, extra_size), sizes)
    is_known = sizes == [size, size] or (flags & 1 << 3 and sizes == [0, 0])  # else it stands behind the data
    if not (fields.startswith(_LOCAL) and fields.endswith(own) and name_size == len(own) and is_known):
        raise CheckpointError(f"has a record {name!r} whose header contradicts the table of contents")
    if method or flags & ~_FLAGS:
        raise CheckpointError(f"has a record {name!r} that is compressed or encrypted")
    return int(end + extra_size)

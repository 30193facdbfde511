"""Whether a file can be loaded without harm, found out before ``torch.load`` sees it.

The archive must be one that every reader understands in the same way; the pickle in it is walked through without
building anything (:mod:`ignite_core.handlers.checkpoint.storage.pickle_check`).
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zipfile
import zlib
from contextlib import closing

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage.pickle_check import check_pickle

__all__ = ["check"]

#: Bytes that loading may take beyond the size of the file, and that a record takes here while its name is known.
_MOST_BYTES, _RECORD = 80 * 2**20, 800

#: The records of a file that torch.save writes; all of them but the data are a few bytes long.
_NAME = re.compile(
    r"([^/\\\0]{1,255})/(data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|"
    r"data/\d{1,9})"
)
_SHORT = 64

#: Flags of a record: the checksum stands behind the data, the name is UTF-8. Nothing else, such as encryption.
_FLAGS = 1 << 3 | 1 << 11


def check(fd: int, *, crc: bool = False) -> None:
    """Make sure that ``torch.load(weights_only=True)`` of an open file runs no code, and takes about what it has.

    At most 100 MiB more than the size of the file are allocated, in a time that goes with its size.

    Args:
        fd: Open for reading; its place in the file is left alone.
        crc: Compare each record with the checksum in the archive.

    Raises:
        CheckpointError: With what is wrong, in words that follow the name of the file.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryFile() as file:
        ...     torch.save({"weight": torch.ones(3), "lr": 0.1}, file)
        ...     file.flush()
        ...     check(file.fileno(), crc=True)
        >>> with tempfile.TemporaryFile() as file:
        ...     torch.save({"loss": torch.nn.MSELoss()}, file)
        ...     file.flush()
        ...     check(file.fileno())
        Traceback (most recent call last):
        ignite_core.exceptions.CheckpointError: holds torch.nn.modules.loss.MSELoss, which is not loaded, ...
    """
    size = os.fstat(fd).st_size
    if os.pread(fd, 4, 0) != b"PK\3\4":
        raise CheckpointError(
            "is no file as torch.save writes them since torch 1.6; if you trust where it comes from, convert it: "
            "torch.save(torch.load(old, weights_only=True), new)"
        )
    with closing(mmap.mmap(fd, 0, access=mmap.ACCESS_READ)) as data:
        records = _records(data, size)
        for name, (begin, end, expected) in records.items():
            if not name.startswith("data") and end - begin > _SHORT:
                raise CheckpointError(f"has a record {name!r} of {end - begin} bytes, where there are a few")
            if crc and _crc(data, begin, end) != expected:
                raise CheckpointError(
                    f"is damaged: the CRC-32 of its record {name!r} must be {expected:08x} (if it was saved with "
                    "torch.serialization.set_crc32_options(False), save it again without)"
                )
        begin, end, _ = records["data.pkl"]
        pickled = data[begin:end]
    sizes = {name.removeprefix("data/"): end - begin for name, (begin, end, _) in records.items()}
    check_pickle(pickled, sizes, size + _MOST_BYTES - len(pickled))


# ------------------------------------------------------------------------------------------------------- the archive


def _records(data: mmap.mmap, size: int) -> dict[str, tuple[int, int, int]]:
    """Begin, end and CRC-32 of each record, by its name without the folder that all are in."""
    count, begin = _table(data, size)
    if count * _RECORD > size + _MOST_BYTES:
        raise CheckpointError("would take far more memory than it has bytes")
    try:
        infos = zipfile.ZipFile(data).infolist()  # type: ignore[call-overload]  # it is read and sought as a file is
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise CheckpointError(f"has a table of contents that contradicts itself: {error}") from error
    records: dict[str, tuple[int, int, int]] = {}
    folders, last = set(), 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        match = _NAME.fullmatch(info.orig_filename)
        if match is None:
            raise CheckpointError(f"has a record {info.orig_filename[:300]!r}, which torch.save does not write")
        folders.add(match[1])
        if match[2] in records or len(folders) > 1:
            raise CheckpointError(f"has the record {match[2]!r} twice, or in two folders: {sorted(folders)}")
        place = _place(data, info, match[0])
        if info.header_offset < last or place + info.file_size > begin:
            raise CheckpointError("has records that overlap, or go beyond its end")
        last = place + info.file_size
        records[match[2]] = place, last, info.CRC
    if "data.pkl" not in records or len(infos) != count:
        raise CheckpointError(f"has no record data.pkl, or other records than the {count} that it tells of")
    return records


def _table(data: mmap.mmap, size: int) -> tuple[int, int]:
    """How many records the table of contents has, and where it begins: readers must have no choice."""
    if size < 22 or data[-22:-18] != b"PK\5\6":
        raise CheckpointError("is cut off: no table of contents at its end")
    *disks, here, count, length, begin, comment = struct.unpack("<4H2IH", data[-18:])
    end, is_clear = size - 22, True
    if size >= 98 and data[-42:-38] == b"PK\6\7":
        end = size - 98
        signature, rest, _, _, *disks64, here, count, length, begin = struct.unpack("<4sQ2H2I4Q", data[end:-42])
        is_clear = struct.unpack("<IQI", data[-38:-22]) == (0, end, 1) and signature == b"PK\6\6" and rest == 44
        disks += disks64
    if not is_clear or any(disks) or comment or here != count or begin + length != end:
        raise CheckpointError("has a table of contents that contradicts itself")
    return count, begin


def _place(data: mmap.mmap, info: zipfile.ZipInfo, name: str) -> int:
    """Where the bytes of a record begin."""
    header = data[info.header_offset : info.header_offset + 30]
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise CheckpointError(f"has a record {name!r} that is not where the table of contents says")
    flags, method, own, more = struct.unpack("<6x2H16x2H", header)
    begin = info.header_offset + 30
    if data[begin : begin + own] != name.encode("utf-8" if info.flag_bits & 1 << 11 else "cp437"):
        raise CheckpointError(f"has a record {name!r} whose header contradicts the table of contents")
    is_stored = not (info.compress_type or method) and info.compress_size == info.file_size
    extra = info.extra  # nothing, or once the numbers of 64 bits: of several, readers take different ones
    if not is_stored or (info.flag_bits | flags) & ~_FLAGS or extra[:2] != b"\1\0"[: len(extra)] or _more(extra):
        raise CheckpointError(
            "has a record that is compressed, encrypted or elsewhere; torch.save stores them as they are"
        )
    return int(begin + own + more)


def _more(extra: bytes) -> bool:
    """Whether there is anything behind the first field."""
    return len(extra) not in (0, 4 + int.from_bytes(extra[2:4], "little"))


def _crc(data: mmap.mmap, begin: int, end: int) -> int:
    with memoryview(data) as view, view[begin:end] as record:
        return zlib.crc32(record)

"""Decide whether a file is harmless to load, before ``torch.load`` reads it.

``torch.load(weights_only=True)`` runs no code, but it believes what a file says: a tensor of 2 GiB in a file of a
kilobyte, keys that all collide. This module checks the archive with :mod:`zipfile` and the pickle in it with
:func:`pickletools.genops`. The promise: no code runs, loading allocates at most 100 MiB beyond the size of the file,
its time is bounded, and no wrong value loads silently.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import pickletools
import re
import struct
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import torch

from ignite_core.exceptions import CheckpointError

__all__ = ["check"]

#: Bytes that loading may take beyond the size of the file, and that zipfile takes for each record.
_MOST_BYTES, _RECORD = 80 * 2**20, 800

#: The records of a file that torch.save writes; all but the data are a few bytes long.
_NAME = re.compile(
    r"([^/\\\0]{1,255})/(data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|"
    r"data/\d{1,9})"
)
_SHORT = 64

#: Allowed flags of a record: the checksum follows the data, the name is UTF-8. Others, such as encryption, are not.
_FLAGS = 1 << 3 | 1 << 11

#: Bytes that expanded tensors may have beyond their storages; bytes of a text.
_MOST_SHOWN, _MOST_TEXT = 64 * 2**20, 2**24

#: Values that a walk through everything meets, beside one for each byte of the pickle; nested containers; dimensions of
#: a tensor; values in a key; probes of hash tables, beside ten for each key.
_MOST_VALUES, _MOST_DEEP, _MOST_DIMENSIONS, _MOST_IN_KEY, _MOST_PROBES = 10**6, 100, 64, 64, 10**5


def check(fd: int, *, crc: bool = False) -> None:
    """Check that ``torch.load(weights_only=True)`` of an open file is harmless.

    Args:
        fd: Open for reading; its position is not moved.
        crc: Compare each record with the CRC-32 in the archive.

    Raises:
        CheckpointError: What is wrong, in words that follow the name of the file.

    Example:
        >>> import tempfile
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
    _DryRun(sizes, size + _MOST_BYTES - len(pickled), _MOST_VALUES + len(pickled)).run(pickled)


def _records(data: mmap.mmap, size: int) -> dict[str, tuple[int, int, int]]:
    """Begin, end and CRC-32 of each record, by its name without the common folder."""
    count, begin = _directory(data, size)
    if count * _RECORD > size + _MOST_BYTES:
        raise CheckpointError("would take far more memory than it has bytes")
    try:
        infos = zipfile.ZipFile(data).infolist()  # type: ignore[call-overload]  # a mmap reads and seeks as a file does
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
        place = _begin_of(data, info, match[0])
        if info.header_offset < last or place + info.file_size > begin:
            raise CheckpointError("has records that overlap, or go beyond its end")
        last = place + info.file_size
        records[match[2]] = place, last, info.CRC
    if "data.pkl" not in records or len(infos) != count:
        raise CheckpointError(f"has no record data.pkl, or other records than the {count} in its table of contents")
    return records


def _directory(data: mmap.mmap, size: int) -> tuple[int, int]:
    """Number of records and begin of the central directory, if all readers of zip files find the same."""
    if size < 22 or data[-22:-18] != b"PK\5\6":
        raise CheckpointError("is cut off: no table of contents at its end")
    *disks, here, count, length, begin, comment = struct.unpack("<4H2IH", data[-18:])
    end, is_clear = size - 22, True
    if size >= 98 and data[-42:-38] == b"PK\6\7":  # zip64
        end = size - 98
        signature, rest, _, _, *disks64, here, count, length, begin = struct.unpack("<4sQ2H2I4Q", data[end:-42])
        is_clear = struct.unpack("<IQI", data[-38:-22]) == (0, end, 1) and signature == b"PK\6\6" and rest == 44
        disks += disks64
    if not is_clear or any(disks) or comment or here != count or begin + length != end:
        raise CheckpointError("has a table of contents that contradicts itself")
    return count, begin


def _begin_of(data: mmap.mmap, info: zipfile.ZipInfo, name: str) -> int:
    """Where the bytes of a record begin, if its local header agrees with the central directory."""
    header = data[info.header_offset : info.header_offset + 30]
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise CheckpointError(f"has a record {name!r} that is not where the table of contents says")
    flags, method, name_length, extra_length = struct.unpack("<6x2H16x2H", header)
    begin = info.header_offset + 30
    if data[begin : begin + name_length] != name.encode("utf-8" if info.flag_bits & 1 << 11 else "cp437"):
        raise CheckpointError(f"has a record {name!r} whose header contradicts the table of contents")
    is_stored = not (info.compress_type or method) and info.compress_size == info.file_size
    extra = info.extra  # empty, or one zip64 field: of several ones, readers take different ones
    is_one = len(extra) in (0, 4 + int.from_bytes(extra[2:4], "little")) and extra[:2] == b"\1\0"[: len(extra)]
    if not is_stored or (info.flag_bits | flags) & ~_FLAGS or not is_one:
        raise CheckpointError(
            "has a record that is compressed, encrypted or elsewhere; torch.save stores them as they are"
        )
    return int(begin + name_length + extra_length)


def _crc(data: mmap.mmap, begin: int, end: int) -> int:
    with memoryview(data) as view, view[begin:end] as record:
        return zlib.crc32(record)


class _Chunks(io.BytesIO):
    """A large pickle; no text in it may be very long, since each byte may become four."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MOST_TEXT:
            raise CheckpointError(f"has a text of {size} bytes, where there may be {_MOST_TEXT}")
        return super().read(size)


class _Global(str):
    """A class or function by its full name. Nothing is imported."""

    __slots__ = ()


class _Node(list[Any]):
    """Stands for an object with values in it; the items of a mapping are its keys and values in turn."""

    __slots__ = ("kind", "more")

    def __init__(self, kind: str, items: Iterable[Any] = (), more: tuple[Any, ...] = ()) -> None:
        super().__init__(items)
        self.kind, self.more = kind, more  #: ``more``: values in its attributes

    def __hash__(self) -> int:  # type: ignore[override]
        if self.kind not in ("tensor", "device", "declared"):
            raise TypeError(f"unhashable: {self.kind}")
        return id(self)


class _Storage(NamedTuple):
    size: int
    item_size: int


class _DryRun:
    """The stack machine of a pickle, with stand-ins for the objects that it builds.

    ``sizes`` are the bytes of each storage by its key, ``left`` those that loading may take.
    """

    def __init__(self, sizes: Mapping[str, int], left: int, most_values: int) -> None:
        self._sizes, self._left, self._most_values = sizes, left, most_values
        self._shown, self._probes = _MOST_SHOWN, _MOST_PROBES
        self._measured: dict[int, tuple[int, int]] = {}
        self._declared = _declared()

    def run(self, data: bytes) -> None:
        """Check a pickle. Raises a CheckpointError that names what is refused."""
        place = 0
        stack: list[Any] = []
        below: list[list[Any]] = []
        memo: dict[int, Any] = {}
        try:
            opcodes: Iterable[Any] = pickletools.genops(data if len(data) < _MOST_TEXT else _Chunks(data))
            for opcode, argument, place in opcodes:
                name = opcode.name
                self._left -= _COSTS.get(name, 40)
                if self._left < 0:
                    self._take(0)
                if name == "BINPUT" or name == "LONG_BINPUT":
                    if argument > len(memo):  # torch.save counts; other numbers could collide
                        raise IndexError(argument)
                    memo[argument] = stack[-1]
                elif name == "BINGET" or name == "LONG_BINGET":
                    stack.append(memo[argument])
                elif name in _NUMBERS:
                    stack.append(argument)
                elif name == "BINUNICODE" or name == "SHORT_BINSTRING":
                    self._take(len(argument) * (2 if argument.isascii() else 5))
                    stack.append(argument)
                elif name == "MARK":
                    below.append(stack)
                    stack = []
                elif name == "TUPLE":
                    items, stack = stack, below.pop()
                    stack.append(tuple(items))
                elif name == "REDUCE" or name == "NEWOBJ":
                    function, arguments = _popped(stack, 2)
                    stack.append(self._call(function, arguments))
                elif name == "BINPERSID":
                    stack.append(self._storage(*stack.pop()))
                elif name in _CONSTANTS:
                    stack.append(_CONSTANTS[name])
                elif name in _TUPLES:
                    stack.append(tuple(_popped(stack, _TUPLES[name])))
                elif name in _EMPTY:
                    stack.append(_Node(_EMPTY[name]))
                elif name in _FILLS:
                    if name.endswith("S"):
                        items, stack = stack, below.pop()
                    else:
                        items = _popped(stack, 1 if name == "APPEND" else 2)
                    self._fill(stack[-1], items, _FILLS[name])
                elif name == "GLOBAL":
                    self._take(len(argument))
                    stack.append(self._find(argument))
                elif name == "BUILD":
                    (state,) = _popped(stack, 1)
                    _set_state(stack[-1], state)
                elif name == "LONG1":
                    if argument.bit_length() > 64:
                        raise CheckpointError("holds an integer of more than 64 bits; let state_dict() return a text")
                    stack.append(argument)
                elif name != "STOP" and (name, argument, place) != ("PROTO", 2, 0):
                    raise ValueError(name)
            if place < len(data) - 1 or len(stack) != 1 or below:
                raise CheckpointError("has no valid list of its contents (at the end of data.pkl)")
            self._measure(stack[0])
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"has no valid list of its contents (byte {place} of data.pkl)") from error

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise CheckpointError("would take far more memory than it has bytes; keep many numbers as a tensor")

    def _fill(self, node: Any, items: list[Any], kinds: tuple[str, ...]) -> None:
        if type(node) is not _Node or node.kind not in kinds or ("list" not in kinds and len(items) % 2):
            raise TypeError(kinds)
        self._take((8 if kinds == ("list",) else 32) * len(items))
        node += items

    def _find(self, argument: str) -> _Global:
        module, _, name = argument.partition(" ")
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # of Python 2
        full = f"{module}.{name}"
        if not (full in _CALLS or full in _STORAGES or full in _CLASSES or full in self._declared or _dtype(full)):
            raise CheckpointError(
                f"holds {full[:200]}, which is not loaded, as it may run code or fill the memory. Let state_dict() "
                "return tensors, numbers, strings, and lists, tuples, dicts and sets of them; or, if you trust it, "
                f"call torch.serialization.add_safe_globals([{name[:100]}]) first"
            )
        return _Global(full)

    def _call(self, function: Any, arguments: Any) -> Any:
        if type(function) is not _Global or type(arguments) is not tuple:
            raise TypeError(function)
        if function in _CALLS:
            return _CALLS[function](self, *arguments)
        if function not in self._declared:
            raise CheckpointError(f"calls {function}, which is no function that builds a value")
        return _Node("declared", arguments)

    def _storage(self, tag: str, kind: Any, key: Any, device: Any, numel: Any) -> _Storage:
        if tag != "storage" or type(kind) is not _Global or type(key) is not str or type(device) is not str:
            raise CheckpointError("refers to something else than the bytes of a tensor")
        size, there = int(numel) * _STORAGES[kind], self._sizes.get(key)
        if size != there:
            there_is = "is missing" if there is None else f"has {there}"
            raise CheckpointError(f"says that the record data/{key[:20]} has {size} bytes, but it {there_is}")
        return _Storage(size, _STORAGES[kind])

    def tensor(self, storage: _Storage, offset: int, size: Any, stride: Any, *rest: Any) -> _Node:
        """A view of a storage must lie within it, and must not be much larger (the same bytes many times)."""
        if len(_sizes(size)) != len(_sizes(stride)) or type(offset) is not int or offset < 0 or _has_hooks(rest[1:2]):
            raise TypeError(size)
        dtype = _dtype(rest[2]) if len(rest) > 2 else None
        item = storage.item_size if dtype is None else dtype.itemsize
        numel = math.prod(size)
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if numel and (last + 1) * item > storage.size:
            raise CheckpointError("has a tensor that goes beyond the bytes it lies in")
        self._shown -= max(numel * item - storage.size, 0)
        if self._shown < 0:
            raise CheckpointError("has tensors far larger than their bytes (expanded ones: save a clone of them)")
        return _Node("tensor")

    def parameter(self, data: Any, requires_grad: bool, hooks: Any, state: Any = None) -> _Node:
        if data.kind != "tensor" or _has_hooks((hooks,)) or (state is not None and not _are_new(torch.Tensor, state)):
            raise TypeError(data)
        return _Node("tensor", more=(state,))

    def with_attributes(self, build: Any, kind: Any, arguments: Any, state: Any) -> _Node:
        if kind not in _CLASSES or not _are_new(torch.Tensor, state):
            raise TypeError(kind)
        _TENSORS[build](self, *arguments)
        return _Node("tensor", more=(state,))

    def container(self, kind: str, source: str, *items: Any) -> _Node:
        """A container that is made from another one, which may be used many times."""
        if len(items) > 1 or (items and items[0].kind != source):
            raise TypeError(items)
        self._take(256 + (72 * len(items[0]) if items else 0))
        return _Node(kind, *items)

    def encoded(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(encoding)
        self._take(2 * len(text))
        return text.encode("latin1")

    def byte_array(self, source: Any = b"", *encoding: Any) -> _Node:
        """Not from a number, which would be the number of bytes to allocate."""
        source = self.encoded(source, *encoding) if encoding else source
        if type(source) is not bytes:
            raise TypeError(source)
        self._take(2 * len(source))
        return _Node("bytearray")

    def _measure(self, value: Any, depth: int = 0) -> tuple[int, int]:
        """Number of values in a container, counted at each use, and how deep they are nested."""
        if type(value) is not tuple and type(value) is not _Node:
            return 1, 0
        known = self._measured.get(id(value))
        if known is not None:
            return known
        self._measured[id(value)] = self._most_values, 0  # what one meets who finds it within itself
        count, height = 1, 0
        for item in (*value, *value.more) if type(value) is _Node and value.more else value:
            if type(item) is tuple or type(item) is _Node:
                in_item, item_height = self._measure(item, depth + 1) if depth < _MOST_DEEP else (0, _MOST_DEEP)
                count, height = count + in_item, max(height, item_height)
            else:
                count += 1
        if count > self._most_values or height >= _MOST_DEEP:
            raise CheckpointError("has values within values without end (a container in itself, or in many places)")
        if type(value) is _Node and value.kind in _MAPPINGS:
            self._check_keys(value[::2])
        elif type(value) is _Node and value.kind == "set":
            self._check_keys(value, run=9)
        self._measured[id(value)] = count, height + 1
        return count, height + 1

    def _check_keys(self, keys: list[Any], run: int = 0) -> None:
        """Place keys as a dictionary does, or a set, which probes runs of slots; colliding ones take quadratic time."""
        hashes = []
        for key in keys:
            if type(key) is not str:
                if self._measure(key)[0] > _MOST_IN_KEY:
                    raise CheckpointError(f"has a key with more than {_MOST_IN_KEY} values in it")
                hashes.append(hash(key))
        if not hashes or (min(hashes) >= 0 and max(hashes) < 2 * len(hashes) and len(set(hashes)) == len(hashes)):
            return  # each has a slot of its own
        self._probes += 10 * len(hashes)
        for bits in range(3, (3 * len(hashes)).bit_length() + 1):
            mask = (1 << bits) - 1
            taken = bytearray(mask + 1)
            for key in hashes[: (mask + 1) * 2 // 3]:
                rest = key & 2**64 - 1
                at = rest & mask
                while (free := taken.find(0, at, at + 1 + (run if at + run <= mask else 0))) < 0:
                    rest >>= 5
                    at = (5 * at + rest + 1) & mask
                    self._probes -= 1
                    if self._probes < 0:
                        raise CheckpointError("has keys that collide, so that loading it would take forever")
                taken[free] = 1


def _popped(stack: list[Any], count: int) -> list[Any]:
    items = stack[-count:]
    if len(items) < count:
        raise IndexError(count)
    del stack[-count:]
    return items


def _set_state(node: Any, state: Any) -> None:
    if node.kind == "OrderedDict" and not _are_new(OrderedDict, state):
        raise CheckpointError("has a dictionary with attributes in place of its own")
    if node.kind not in ("OrderedDict", "declared"):
        raise TypeError(node.kind)
    node.more += (state,)


def _sizes(value: Any) -> Any:
    """Sizes or strides of a tensor."""
    is_right = type(value) is tuple and all(type(one) is int and 0 <= one < 2**63 for one in value)
    if not is_right or len(value) > _MOST_DIMENSIONS:
        raise CheckpointError("has a tensor with an invalid size or stride")
    return value


def _has_hooks(hooks: tuple[Any, ...]) -> bool:
    return any(one is not None and (one.kind != "OrderedDict" or one != []) for one in hooks)


def _are_new(kind: type, state: Any) -> bool:
    """Whether a state has only attributes that hide none of the class."""
    return state.kind == "dict" and not any(type(name) is not str or hasattr(kind, name) for name in state[::2])


def _dtype(name: Any) -> torch.dtype | None:
    found = getattr(torch, name[6:], None) if type(name) in (str, _Global) and name.startswith("torch.") else None
    return found if isinstance(found, torch.dtype) else None


def _declared() -> set[str]:
    """What the user has declared safe to torch; not what torch has declared itself, such as distributed tensors."""
    entries = torch.serialization.get_safe_globals()
    named = (one[1] if isinstance(one, tuple) else f"{one.__module__}.{one.__qualname__}" for one in entries)
    return {name for name in named if not name.startswith(("torch.distributed.", "torch.nested.", "torch._"))}


_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _DryRun.tensor,
    "torch._utils._rebuild_tensor_v2": _DryRun.tensor,
    "torch._utils._rebuild_tensor_v3": _DryRun.tensor,
    "torch._utils._rebuild_parameter": _DryRun.parameter,
    "torch._utils._rebuild_parameter_with_state": _DryRun.parameter,
}
_CALLS: dict[str, Callable[..., Any]] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _DryRun.with_attributes,
    "torch.Size": lambda _, sizes=(): _sizes(tuple(sizes) if type(sizes) is tuple or sizes.kind == "list" else None),
    "torch.device": lambda _, *arguments: _Node("device", arguments),
    "collections.OrderedDict": lambda run: run.container("OrderedDict", ""),
    "collections.Counter": lambda run, *items: run.container("Counter", "dict", *items),
    "builtins.set": lambda run, *items: run.container("set", "list", *items),
    "builtins.complex": lambda _, real, imaginary: complex(real, imaginary),
    "builtins.bytearray": _DryRun.byte_array,
    "_codecs.encode": _DryRun.encoded,
}
_MAPPINGS = ("dict", "OrderedDict", "Counter")
_STORAGES = {"torch.storage.UntypedStorage": 1} | {
    f"torch.{name}": dtype.itemsize for dtype, name in torch.storage._dtype_to_storage_type_map().items()
}

#: The opcodes that ``torch.load(weights_only=True)`` understands, besides those in :meth:`_DryRun.run`.
_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "BINFLOAT"})
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EMPTY = {"EMPTY_LIST": "list", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}
_FILLS = {"APPEND": ("list",), "APPENDS": ("list",), "SETITEM": _MAPPINGS, "SETITEMS": _MAPPINGS}

#: About how many bytes an opcode allocates, where it is not 40.
_COSTS = {
    **dict.fromkeys((*_NUMBERS, "LONG1"), 48),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), 100),
    **dict.fromkeys(("MARK", "TUPLE", *_TUPLES, "EMPTY_LIST", "BINUNICODE", "SHORT_BINSTRING", "GLOBAL"), 176),
    **dict.fromkeys(("EMPTY_DICT", "EMPTY_SET", "BINPERSID"), 320),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), 640),
}

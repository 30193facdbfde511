"""What the pickle of a file would build, and how much of it, found out without building it.

``torch.load(weights_only=True)`` calls only functions of its own list, but believes what it is told: a tensor of 2 GiB
in a file of a kilobyte, keys that all collide. Here each number is compared with what is there.
"""

from __future__ import annotations

import io
import math
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from ignite_core.exceptions import CheckpointError

__all__ = ["check_pickle"]

#: Bytes that expanded tensors may show beyond their storages.
_MOST_SHOWN = 64 * 2**20

#: Values that one meets on a walk through everything, beside one for each byte of the pickle; containers in each other;
#: dimensions of a tensor; values in a key.
_MOST_VALUES, _MOST_DEEP, _MOST_DIMENSIONS, _MOST_IN_KEY = 10**6, 100, 64, 64

#: Bytes of a text.
_MOST_TEXT = 2**24

#: Places that dictionaries may look at beside ten for each key.
_MOST_LOOKS = 10**5

#: About how many bytes they take: on the stack, a number, a container, an item of a mapping, what is remembered, ...
_ON_STACK, _NUMBER, _CONTAINER, _ITEM, _MEMO, _MAPPING, _TENSOR, _STORAGE = 40, 48, 176, 64, 100, 256, 640, 320

_SIZES = {
    1: ("ByteStorage", "CharStorage", "BoolStorage", "QInt8Storage", "QUInt8Storage", "storage.UntypedStorage"),
    2: ("HalfStorage", "BFloat16Storage", "ShortStorage"),
    4: ("FloatStorage", "IntStorage", "QInt32Storage"),
    8: ("DoubleStorage", "LongStorage", "ComplexFloatStorage"),
    16: ("ComplexDoubleStorage",),
}
_STORAGES = {f"torch.{name}": size for size, names in _SIZES.items() for name in names}


def check_pickle(data: bytes, sizes: Mapping[str, int], left: int) -> None:
    r"""Make sure that a pickle holds only what state dicts are made of, and that all its tensors lie in their records.

    Args:
        data: The pickle.
        sizes: Bytes of each storage, by its key.
        left: Bytes that may be taken.

    Raises:
        CheckpointError: Naming what is refused.

    Example:
        >>> import pickle
        >>> check_pickle(pickle.dumps({"lr": 0.1}, protocol=2), {}, 10**6)
        >>> check_pickle(b"cos\nsystem\n.", {}, 10**6)
        Traceback (most recent call last):
        ignite_core.exceptions.CheckpointError: holds os.system, which ...
    """
    _Walk(sizes, left, len(data)).run(data)


class _Pieces(io.BytesIO):
    """A pickle that is read without very long texts, of which each byte may become four."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MOST_TEXT:
            raise CheckpointError(f"has a text of {size} bytes, where there may be {_MOST_TEXT}")
        return super().read(size)


class _Global(str):
    """A class or function, by its full name; nothing is imported."""

    __slots__ = ()


class _Storage:
    """The bytes that tensors lie in."""

    def __init__(self, size: int, item_size: int) -> None:
        self.size, self.item_size = size, item_size


class _Node:
    """A value with others in it: what it would be, how many values one would meet in it, and how deep.

    A tuple without such values stands for itself.
    """

    __slots__ = ("count", "depth", "is_held", "items", "kind")

    def __init__(self, kind: str, items: list[Any]) -> None:
        self.kind, self.items, self.count, self.depth, self.is_held = kind, items, 1 + len(items), 1, False
        self.hold(items)

    def __hash__(self) -> int:
        return hash(tuple(self.items))

    def hold(self, items: list[Any]) -> None:
        """Count what is in items that are already counted as one each; they must not grow any more."""
        for item in items:
            if type(item) is _Node:
                self.count += item.count - 1
                if item.depth >= self.depth:
                    self.depth = item.depth + 1
                item.is_held = True
            elif type(item) is tuple:
                self.count += len(item)
                self.depth = max(self.depth, 2)


class _Walk:
    """The stack machine that a pickle is a program for, with values that only say what they would be."""

    def __init__(self, sizes: Mapping[str, int], left: int, length: int) -> None:
        self._sizes, self._left, self._most_values = sizes, left, _MOST_VALUES + length
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._shown, self._looks = _MOST_SHOWN, _MOST_LOOKS
        self._hashed: dict[int, _Node] = {}

    def run(self, data: bytes) -> None:
        """Walk to the end."""
        place, puts, memo, operations = 0, 0, self._memo, _OPERATIONS
        try:
            steps: Iterator[tuple[Any, Any, Any]] = pickletools.genops(
                data if len(data) < _MOST_TEXT else _Pieces(data)
            )
            for opcode, argument, place in steps:  # noqa: B007 - for the message
                name = opcode.name
                if name in _PUTS:
                    if argument > puts:  # whoever writes a pickle counts; other numbers could collide
                        raise IndexError(argument)
                    puts += 1
                    self._left -= _MEMO
                    memo[argument] = self._stack[-1]
                elif name in _GETS:
                    self._left -= _ON_STACK
                    self._stack.append(memo[argument])
                elif name in _NUMBERS:
                    self._left -= _NUMBER
                    self._stack.append(argument)
                else:
                    operations[name](self, argument)
                if self._left < 0:
                    raise CheckpointError("would take far more memory than it has bytes; keep many numbers as a tensor")
            is_whole = place == len(data) - 1 and len(self._stack) == 1 and not self._below
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"has no valid list of its contents (byte {place} of data.pkl)") from error
        if not is_whole:
            raise CheckpointError("has no valid list of its contents (at the end of data.pkl)")
        for node in self._hashed.values():
            keys = node.items if node.kind == "set" else node.items[::2]
            self._place_keys([hash(key) for key in keys if type(key) is not str], 9 if node.kind == "set" else 0)

    def _place_keys(self, hashes: list[int], run: int) -> None:
        """Place keys as a dictionary does, or a set, which looks at a run of places; colliding ones take forever."""
        if not hashes or (min(hashes) >= 0 and max(hashes) < 2 * len(hashes) and len(set(hashes)) == len(hashes)):
            return  # each has a place of its own
        self._looks += 10 * len(hashes)
        for bits in range(3, (3 * len(hashes)).bit_length() + 1):
            mask = (1 << bits) - 1
            taken = bytearray(mask + 1)
            for key in hashes[: (mask + 1) * 2 // 3]:
                rest = key & 2**64 - 1
                at = rest & mask
                while (free := taken.find(0, at, at + 1 + (run if at + run <= mask else 0))) < 0:
                    rest >>= 5
                    at = (5 * at + rest + 1) & mask
                    self._looks -= 1
                    if self._looks < 0:
                        raise CheckpointError("has keys that collide, so that loading it would take forever")
                taken[free] = 1

    # ------------------------------------------------------------------------------------------------- its operations

    def begin(self, version: int) -> None:
        if version != 2 or self._stack or self._below:
            raise ValueError(version)
        self._left -= _CONTAINER

    def push(self, value: Any) -> None:
        self._left -= _ON_STACK
        self._stack.append(value)

    def long(self, value: int) -> None:
        if value.bit_length() > 64:
            raise CheckpointError("holds an integer of more than 64 bits; let state_dict() return it as a text")
        self._left -= _NUMBER
        self._stack.append(value)

    def text(self, value: str) -> None:
        self._left -= _CONTAINER + len(value) * (2 if value.isascii() else 5)
        self._stack.append(value)

    def mark(self, _: None) -> None:
        self._left -= _CONTAINER
        self._below.append(self._stack)
        self._stack = []

    def to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def last(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError(count)
        del self._stack[-count:]
        return items

    def new(self, kind: str, items: list[Any]) -> _Node:
        self._left -= (_CONTAINER if kind in ("tuple", "list") else _MAPPING) + 8 * len(items)
        node = _Node(kind, items)
        self._stack.append(node)
        self._limit(node)
        return node

    def group(self, items: list[Any]) -> None:
        if _Node in (kinds := [type(item) for item in items]) or tuple in kinds:
            self.new("tuple", items)
        else:
            self._left -= _CONTAINER + 8 * len(items)
            self._stack.append(tuple(items))

    def _limit(self, node: _Node) -> None:
        if node.count > self._most_values or node.depth > _MOST_DEEP:
            raise CheckpointError("has values within values without end (one container in many places)")

    def fill(self, kinds: tuple[str, ...], items: list[Any]) -> None:
        """Put values into a container; what is in another one does not grow any more, so that the counts are right."""
        node = self._stack[-1]
        if type(node) is not _Node or node.kind not in kinds:
            raise TypeError(kinds)
        if node.is_held or node in items:
            raise CheckpointError("has a container that holds itself, or grows after it was put into another")
        self._left -= 8 * len(items)
        node.count += len(items)
        node.items += items
        node.hold(items)
        self._limit(node)

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise IndexError(len(items))
        self._hash(self._stack[-1], items[::2])
        self.fill(("dict", "OrderedDict", "Counter"), items)

    def _hash(self, node: _Node, keys: list[Any]) -> None:
        self._left -= _ITEM * len(keys)
        for key in keys:
            if type(key) is str:
                continue
            self._hashed[id(node)] = node
            count = key.count if type(key) is _Node else len(key) if type(key) is tuple else 0
            self._left -= _ITEM * count
            if count > _MOST_IN_KEY:
                raise CheckpointError(f"has a key with more than {_MOST_IN_KEY} values in it")

    def find(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # of Python 2
        full = f"{module}.{name}"
        if not (full in _CALLS or full in _STORAGES or full in _CLASSES or _dtype(full) or full in _declared()):
            raise CheckpointError(
                f"holds {full[:200]}, which is not loaded, as it may run code or fill the memory. Let state_dict() "
                "return tensors, numbers, strings, and lists, tuples, dicts and sets of them; or, if you trust it, "
                f"call torch.serialization.add_safe_globals([{name[:100]}]) first"
            )
        self._stack.append(_Global(full))

    def call(self, _: None) -> None:
        function, arguments = self.last(2)
        if type(function) is not _Global:
            raise TypeError(function)
        arguments = _items(arguments)
        known = _CALLS.get(function)
        if known is None and function not in _declared():
            raise CheckpointError(f"calls {function}, which is no function that builds a value")
        if known is None:
            self.new("own", list(arguments))
        elif not known(self, *arguments):
            raise CheckpointError(f"calls {function} in a wrong way")

    def set_state(self, _: None) -> None:
        (state,) = self.last(1)
        node = self._stack[-1]
        if node.kind == "OrderedDict" and not _are_new(OrderedDict, state):
            raise CheckpointError("has a dictionary with attributes in place of its own")
        self.fill(("OrderedDict", "own"), [])  # neither is in another container yet
        if type(state) is _Node:
            node.count += state.count
            state.is_held = True
        elif type(state) is tuple:  # of numbers and texts alone
            node.count += len(state)

    def find_storage(self, _: None) -> None:
        (reference,) = self.last(1)
        tag, kind, key, place, numel = _items(reference)
        if tag != "storage" or type(kind) is not _Global or type(key) is not str or type(place) is not str:
            raise CheckpointError("refers to something else than the bytes of a tensor")
        size, there = int(numel) * _STORAGES[kind], self._sizes.get(key)
        if size != there:
            there_is = "is missing" if there is None else f"has {there}"
            raise CheckpointError(f"says that the record data/{key[:20]} has {size} bytes, but it {there_is}")
        self._left -= _STORAGE
        self._stack.append(_Storage(size, _STORAGES[kind]))

    # ------------------------------------------------------------------------------------------ what its calls return

    def tensor(self, place: _Storage, offset: int, size: Any, stride: Any, *rest: Any, item: int = 0) -> bool:
        """A view of a storage: within it, and not much more than it (the same bytes many times)."""
        sizes, strides = _sizes(size), _sizes(stride)
        if len(sizes) != len(strides) or type(offset) is not int or offset < 0 or not _has_no_hooks(rest[1:2]):
            return False
        item = item or place.item_size
        numel = math.prod(sizes)
        last = offset + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True))
        if numel and (last + 1) * item > place.size:
            raise CheckpointError("has a tensor that goes beyond the bytes it lies in")
        self._shown -= max(numel * item - place.size, 0)
        if self._shown < 0:
            raise CheckpointError("has tensors far larger than their bytes (expanded ones: save a clone of them)")
        self._left -= _TENSOR
        self._stack.append(_Node("tensor", []))
        return True

    def typed_tensor(self, *items: Any) -> bool:
        dtype = _dtype(items[6])
        return dtype is not None and self.tensor(*items, item=dtype.itemsize)

    def parameter(self, data: _Node, requires_grad: bool, hooks: Any, state: Any = None) -> bool:
        self._left -= _TENSOR
        self._stack.append(_Node("tensor", []))
        return data.kind == "tensor" and _has_no_hooks((hooks,)) and (state is None or _are_new(torch.Tensor, state))

    def with_attributes(self, build: Any, kind: Any, arguments: Any, state: _Node) -> bool:
        """A tensor that something was attached to."""
        is_known = build in _TENSORS and kind in _CLASSES
        return is_known and _are_new(torch.Tensor, state) and _TENSORS[build](self, *_items(arguments))

    def copied(self, kind: str, source: str, *items: Any) -> bool:
        """A container made of another one, which may be used many times."""
        if len(items) > 1 or (items and items[0].kind != source):
            return False
        held = list(items[0].items) if items else []
        node = self.new(kind, held)
        self._hash(node, held if kind == "set" else held[::2])
        self._left -= _ITEM * len(held)
        return True

    def size(self, dimensions: Any) -> bool:
        self.new("Size", list(_sizes(dimensions)))
        return True

    def complex_number(self, real: float, imaginary: float) -> bool:
        self._left -= _NUMBER
        self._stack.append(complex(real, imaginary))
        return type(real) is type(imaginary) is float

    def encoded(self, text: str, encoding: str) -> bool:
        self._left -= 2 * len(text)
        self._stack.append(text.encode("latin1"))
        return encoding in ("latin1", "latin-1")

    def buffer(self, source: Any = b"", *encoding: Any) -> bool:
        """Not of a number, which would be how many bytes to make."""
        if encoding:
            return self.encoded(source, *encoding)
        self._left -= 2 * len(source)
        self.new("bytearray", [])
        return type(source) is bytes


def _items(value: Any) -> Any:
    """What is in a tuple."""
    if type(value) is not tuple and value.kind != "tuple":
        raise TypeError(value.kind)
    return value if type(value) is tuple else value.items


def _sizes(value: Any) -> Any:
    """Sizes or strides of a tensor."""
    items = value.items if type(value) is _Node and value.kind == "Size" else _items(value)
    if len(items) > _MOST_DIMENSIONS or not all(type(one) is int and 0 <= one < 2**63 for one in items):
        raise CheckpointError("has a tensor whose size or stride is none")
    return items


def _has_no_hooks(hooks: tuple[Any, ...]) -> bool:
    """Functions to be called in a backward pass are not saved."""
    return all(one is None or (one.kind == "OrderedDict" and not one.items) for one in hooks)


def _are_new(kind: type, state: _Node) -> bool:
    """Whether the attributes of an object stand in place of none that all objects of its kind have."""
    return state.kind == "dict" and not any(type(name) is not str or hasattr(kind, name) for name in state.items[::2])


def _dtype(name: Any) -> torch.dtype | None:
    found = getattr(torch, name[6:], None) if type(name) in (str, _Global) and name.startswith("torch.") else None
    return found if isinstance(found, torch.dtype) else None


def _declared() -> set[str]:
    """What the user has declared safe to torch; not what torch itself has, such as for distributed tensors."""
    named = (one[1] if isinstance(one, tuple) else f"{one.__module__}.{one.__qualname__}" for one in _get_declared())
    return {name for name in named if not name.startswith(("torch.distributed.", "torch.nested.", "torch._"))}


_get_declared = torch.serialization.get_safe_globals
_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_TENSORS: dict[str, Callable[..., bool]] = {
    "torch._utils._rebuild_tensor": _Walk.tensor,
    "torch._utils._rebuild_tensor_v2": _Walk.tensor,
    "torch._utils._rebuild_tensor_v3": _Walk.typed_tensor,
    "torch._utils._rebuild_parameter": _Walk.parameter,
    "torch._utils._rebuild_parameter_with_state": _Walk.parameter,
}
_CALLS: dict[str, Callable[..., bool]] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _Walk.with_attributes,
    "torch.Size": _Walk.size,
    "torch.device": lambda walk, kind, index=0: walk.new("own", []) and type(kind) is str and type(index) is int,
    "collections.OrderedDict": lambda walk: walk.copied("OrderedDict", ""),
    "collections.Counter": lambda walk, *items: walk.copied("Counter", "dict", *items),
    "builtins.set": lambda walk, *items: walk.copied("set", "list", *items),
    "builtins.complex": _Walk.complex_number,
    "builtins.bytearray": _Walk.buffer,
    "_codecs.encode": _Walk.encoded,
}

#: What `torch.load(weights_only=True)` understands, and no more; the frequent ones are done where they are read.
_PUTS, _GETS = frozenset({"BINPUT", "LONG_BINPUT"}), frozenset({"BINGET", "LONG_BINGET"})
_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "BINFLOAT"})
_OPERATIONS: dict[str, Callable[[_Walk, Any], Any]] = {
    "LONG1": _Walk.long,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Walk.call),
    "BINUNICODE": _Walk.text,
    "SHORT_BINSTRING": _Walk.text,
    "PROTO": lambda walk, version: walk.begin(version),
    "STOP": lambda walk, _: None,
    "MARK": _Walk.mark,
    "NONE": lambda walk, _: walk.push(None),
    "NEWTRUE": lambda walk, _: walk.push(True),
    "NEWFALSE": lambda walk, _: walk.push(False),
    "EMPTY_TUPLE": lambda walk, _: walk.push(()),
    "TUPLE1": lambda walk, _: walk.group(walk.last(1)),
    "TUPLE2": lambda walk, _: walk.group(walk.last(2)),
    "TUPLE3": lambda walk, _: walk.group(walk.last(3)),
    "TUPLE": lambda walk, _: walk.group(walk.to_mark()),
    "EMPTY_LIST": lambda walk, _: walk.new("list", []),
    "EMPTY_DICT": lambda walk, _: walk.new("dict", []),
    "EMPTY_SET": lambda walk, _: walk.new("set", []),
    "APPEND": lambda walk, _: walk.fill(("list",), walk.last(1)),
    "APPENDS": lambda walk, _: walk.fill(("list",), walk.to_mark()),
    "SETITEM": lambda walk, _: walk.set_items(walk.last(2)),
    "SETITEMS": lambda walk, _: walk.set_items(walk.to_mark()),
    "GLOBAL": _Walk.find,
    "BUILD": _Walk.set_state,
    "BINPERSID": _Walk.find_storage,
}

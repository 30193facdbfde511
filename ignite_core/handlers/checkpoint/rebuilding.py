"""What a checkpoint may be made of: the values and functions that state dicts need, and how much they may build."""

from __future__ import annotations

import _compat_pickle
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ignite_core.exceptions import CheckpointError

__all__ = ["Budget", "Global", "Node", "Storage", "call", "find", "storage"]

#: Of memory, so many bytes may be taken for each byte of the file, and so many more: lists and dicts of numbers take
#: five times what they take in a file, lists with nothing in them sixty times.
_BYTES_PER_BYTE, _FREE_BYTES = 8, 32 * 2**20

#: The same for tensors that show the same bytes many times, which take room once they are copied.
_SHOWN_PER_BYTE, _FREE_SHOWN = 2, 64 * 2**20

#: Values that a file may have for each of its bytes; one that is shared counts wherever it can be met.
_VALUES_PER_BYTE, _FREE_VALUES = 64, 10**6

#: Bytes, about, of: a container, a tensor with bytes of its own, one that shares them, what is remembered, a key.
_CONTAINER, _TENSOR, _VIEW, _MEMO, _KEY = 64, 256, 1024, 32, 64

_MOST_DIMENSIONS = 64

#: Containers in containers; the interpreter ends the process where a tuple of tuples is much deeper.
_MOST_DEEP = 100

_LARGEST = 2**63

_ITEM_SIZES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "QInt8Storage", "QUInt8Storage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
_STORAGES = {f"torch.{name}": size for name, size in _ITEM_SIZES.items()} | {"torch.storage.UntypedStorage": 1}


class Global(str):
    """A class or function, by its full name; nothing is imported."""

    __slots__ = ()


class Node:
    """A value with others in it.

    Attributes:
        kind: What it would be.
        items: Of a tuple, for its items are needed when it is the arguments of a call; of bytes, how many.
        count: How many values one would meet in it, shared ones each time.
        depth: How many containers are within each other.
        is_held: It is in another one, and what is in it cannot change any more.
    """

    __slots__ = ("count", "depth", "is_held", "items", "kind")

    def __init__(self, kind: str, items: tuple[Any, ...] = ()) -> None:
        self.kind, self.items, self.count, self.depth, self.is_held = kind, items, 1, 1, False


class Storage:
    """The bytes that tensors lie in."""

    __slots__ = ("is_seen", "item_size", "size")

    def __init__(self, size: int, item_size: int) -> None:
        self.size, self.item_size, self.is_seen = size, item_size, False


class Budget:
    """How much may be built out of a file.

    Args:
        size: Of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._bytes = _BYTES_PER_BYTE * size + _FREE_BYTES
        self._shown = _SHOWN_PER_BYTE * size + _FREE_SHOWN
        self._values = _VALUES_PER_BYTE * size + _FREE_VALUES

    def spend(self, size: int) -> None:
        """Take so much memory.

        Raises:
            CheckpointError: If that is too much.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise CheckpointError("would take far more memory than it has bytes")

    def show(self, size: int) -> None:
        """Have a tensor so much larger than the bytes it lies in.

        Raises:
            CheckpointError: If that is too much.
        """
        self._shown -= size
        if self._shown < 0:
            raise CheckpointError("has tensors far larger than their bytes (expanded ones: save a clone of them)")

    def remember(self) -> None:
        """A value that can be used again."""
        self.spend(_MEMO)

    def build(self, node: Node, items: tuple[Any, ...]) -> None:
        """A new container."""
        self.spend(_CONTAINER)
        self.fill(node, items)

    def fill(self, node: Node, items: tuple[Any, ...] | list[Any]) -> None:
        """Put values into a container; what is in another one does not grow any more, so the counts are right."""
        count, depth = node.count, node.depth
        for item in items:
            if isinstance(item, Node):
                count += item.count
                depth = max(depth, item.depth + 1)
                item.is_held = True
            else:
                count += 1
        if node.is_held:
            raise CheckpointError("has a container that holds itself, or grows after it was put into another")
        if count > self._values or depth > _MOST_DEEP:
            raise CheckpointError("has values within values without end (one container in many places)")
        node.count, node.depth = count, depth

    def hash(self, keys: list[Any]) -> None:
        """Use values as keys: of a tuple all that is in it is looked at."""
        for key in keys:
            if isinstance(key, Node):
                self.spend(_KEY * key.count)


def storage(reference: Any, records: Mapping[str, int]) -> tuple[str, Storage]:
    """Key and size of the bytes that a pickle refers to.

    Raises:
        CheckpointError: If there is no such record, or it has another size.
    """
    items = reference.items if isinstance(reference, Node) and reference.kind == "tuple" else ()
    is_one = len(items) == 5 and items[0] == "storage" and isinstance(items[1], Global) and items[1] in _STORAGES
    if not is_one or not isinstance(items[2], str) or not isinstance(items[3], str) or not _is_size(items[4]):
        raise CheckpointError(f"refers to something else than the bytes of a tensor: {_shown(items)}")
    _, kind, key, _, numel = items
    size = numel * _STORAGES[kind]
    if key not in records or records[key] != size:
        there = f"has {records[key]}" if key in records else "is missing"
        raise CheckpointError(f"says that the record data/{key[:20]} has {size} bytes, but it {there}")
    return key, Storage(size, _STORAGES[kind])


def find(module: str, name: str) -> Global:
    """A global by its name in a pickle.

    Raises:
        CheckpointError: If it is not one that checkpoints may hold.
    """
    if (module, name) in _compat_pickle.NAME_MAPPING:  # files have the names of Python 2
        module, name = _compat_pickle.NAME_MAPPING[module, name]
    module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    full = f"{module}.{name}"
    if full in _CALLS or full in _STORAGES or full in _VALUES or _is_dtype(full) or full in _own():
        return Global(full)
    raise CheckpointError(
        f"holds {full[:200]}, which is not loaded, as it may run code or fill the memory. Let state_dict() return "
        "tensors, numbers, strings, and lists, tuples, dicts and sets of them; or, if you trust it, call "
        f"torch.serialization.add_safe_globals([{name[:100]}]) first"
    )


def call(function: Global, arguments: Node, budget: Budget) -> Any:
    """What a call would return.

    Raises:
        CheckpointError: If the arguments are not such as torch.save writes.
    """
    known = _CALLS.get(function)
    if known is None and function not in _own():
        raise CheckpointError(f"calls {function}, which is no function that builds a value")
    result = Node("own") if known is None else known(arguments.items, budget)
    if result is None:
        raise CheckpointError(f"calls {function} in a wrong way")
    if isinstance(result, Node):
        budget.build(result, arguments.items)
    return result


def _own() -> dict[str, Any]:
    """What the user has declared safe to torch; not what torch itself has, such as for distributed tensors."""
    declared = torch.serialization.get_safe_globals()
    named = (
        entry if isinstance(entry, tuple) else (entry, f"{entry.__module__}.{entry.__qualname__}") for entry in declared
    )
    return {name: value for value, name in named if not name.startswith("torch.")}


def _is_dtype(name: str) -> bool:
    return name.startswith("torch.") and isinstance(getattr(torch, name[6:], None), torch.dtype)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, Node) and value.kind in ("tuple", "Size") and len(value.items) <= _MOST_DIMENSIONS:
        return value.items if all(_is_size(item) for item in value.items) else None
    return None


def _shown(items: tuple[Any, ...]) -> str:
    return str([item if isinstance(item, str | int) else type(item).__name__ for item in items])[:200]


def _tensor(items: tuple[Any, ...], budget: Budget, item_size: int | None = None) -> Node:
    """A view of a storage: within it, and not much more than it (the same bytes many times)."""
    place, offset, size, stride = items[:4]
    sizes, strides = _sizes(size), _sizes(stride)
    if not isinstance(place, Storage) or not _is_size(offset) or sizes is None or strides is None:
        raise CheckpointError("has a tensor whose size or stride is none")
    if len(sizes) != len(strides):
        raise CheckpointError("has a tensor with other dimensions in its size than in its stride")
    item_size = item_size or place.item_size
    numel = math.prod(sizes)
    last = offset + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True))
    if numel and (last + 1) * item_size > place.size:
        raise CheckpointError("has a tensor that goes beyond the bytes it lies in")
    budget.spend(_VIEW if place.is_seen else _TENSOR)
    budget.show(max(numel * item_size - place.size, 0))
    place.is_seen = True
    return Node("tensor")


def _plain_tensor(items: tuple[Any, ...], budget: Budget) -> Node | None:
    return _tensor(items, budget) if 4 <= len(items) <= 7 else None


def _typed_tensor(items: tuple[Any, ...], budget: Budget) -> Node | None:
    if not 7 <= len(items) <= 8 or not isinstance(items[6], Global) or not _is_dtype(items[6]):
        return None
    return _tensor(items, budget, getattr(torch, items[6][6:]).itemsize)


def _parameter(items: tuple[Any, ...], budget: Budget) -> Node | None:
    budget.spend(_TENSOR)
    return Node("tensor") if 3 <= len(items) <= 4 and _is(items[0], "tensor") else None


def _with_attributes(items: tuple[Any, ...], budget: Budget) -> Node | None:
    """A tensor that something was attached to: (how it is built, its class, arguments, attributes)."""
    if len(items) != 4 or items[0] not in _TENSORS or items[1] not in _TENSOR_CLASSES or not isinstance(items[2], Node):
        return None
    return _TENSORS[items[0]](items[2].items, budget) if items[2].kind == "tuple" else None


def _ordered(items: tuple[Any, ...], budget: Budget) -> Node | None:
    return Node("OrderedDict") if not items else None


def _counter(items: tuple[Any, ...], budget: Budget) -> Node | None:
    return _copy("Counter", "dict", items, budget)


def _set(items: tuple[Any, ...], budget: Budget) -> Node | None:
    return _copy("set", "list", items, budget)


def _copy(kind: str, source: str, items: tuple[Any, ...], budget: Budget) -> Node | None:
    """What is made of a container that can be used again, so that each time counts."""
    if items:
        if len(items) > 1 or not _is(items[0], source):
            return None
        budget.spend(_KEY * items[0].count)
    return Node(kind)


def _size(items: tuple[Any, ...], budget: Budget) -> Node | None:
    return Node("Size", items[0].items) if len(items) == 1 and _sizes(items[0]) is not None else None


def _device(items: tuple[Any, ...], budget: Budget) -> Node | None:
    kinds = tuple(type(item) for item in items)
    return Node("device") if kinds in ((str,), (str, int)) else None


def _complex(items: tuple[Any, ...], budget: Budget) -> Node | None:
    return Node("complex") if tuple(type(item) for item in items) == (float, float) else None


def _bytes(items: tuple[Any, ...], budget: Budget) -> Node | None:
    if len(items) != 2 or not isinstance(items[0], str) or items[1] not in ("latin1", "latin-1"):
        return None
    budget.spend(len(items[0]))
    return Node("bytes", (len(items[0]),))


def _bytearray(items: tuple[Any, ...], budget: Budget) -> Node | None:
    """Not with a number, which would be how many bytes to make."""
    if len(items) == 2:
        return Node("bytearray") if _bytes(items, budget) is not None else None
    if items:
        if len(items) > 1 or not _is(items[0], "bytes"):
            return None
        budget.spend(items[0].items[0])
    return Node("bytearray")


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, Node) and value.kind == kind


_Call = Callable[[tuple[Any, ...], Budget], Any]

_TENSORS: dict[str, _Call] = {
    "torch._utils._rebuild_tensor": _plain_tensor,
    "torch._utils._rebuild_tensor_v2": _plain_tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_CALLS: dict[str, _Call] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch.Size": _size,
    "torch.device": _device,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "builtins.complex": _complex,
    "builtins.bytearray": _bytearray,
    "_codecs.encode": _bytes,
}
_TENSOR_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_VALUES = frozenset(_TENSOR_CLASSES)

"""States that can be loaded again: numpy scalars become numbers, XLA tensors go to the CPU, others are refused."""

from __future__ import annotations

import re
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage import safety

__all__ = ["check_loadable", "plain_state"]

_TENSORS = frozenset({Tensor, nn.Parameter})

#: Types that are saved as they are; subclasses (enums, numpy) are not.
_PLAIN = _TENSORS | {bool, int, float, complex, str, bytes, bytearray, NoneType, torch.Size, torch.device, torch.dtype}
_CONTAINERS = frozenset({dict, OrderedDict, Counter, list, tuple, set})

#: The kinds of dtype of numpy's numbers and strings.
_NUMPY_KINDS = "biufcSU"

_MOST_DEEP = 100


class _Refused(Exception):  # noqa: N818 - becomes a CheckpointError
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.keys: list[Any] = []  # from the inside to the outside


def plain_state(state: Any, where: str, name: str = "") -> Any:
    """The same state with Python numbers in place of numpy scalars and of arrays without dimensions.

    Tensors on XLA devices are copied to the CPU, since torch.load would need torch_xla to read them.

    Args:
        state: Tensors, numbers and strings in dicts, lists, tuples and sets.
        where: The file, for the message.
        name: Name of the object whose state it is; empty if the names of objects are its keys.

    Returns:
        The state itself if nothing had to be changed, otherwise with new containers around what was changed.

    Raises:
        CheckpointError: If it contains something that could not be loaded; it names the place.
    """
    try:
        return _Walk().plain(state, 0)
    except _Refused as refused:
        raise CheckpointError(
            f"{where}: is not saved, as {_place(reversed(refused.keys), name)} is {refused}"
        ) from None


def check_loadable(fd: int) -> None:
    """Check that an open file can be loaded again.

    Raises:
        CheckpointError: What is wrong, in words that follow the name of the file.
    """
    safety.check(fd)
    if not _declared():
        return
    try:  # an object of a class that was declared safe may contain one that was not
        torch.load(f"/dev/fd/{fd}", mmap=True, weights_only=True)
    except Exception as error:
        found = re.search(r"WeightsUnpickler error:\s*(.*)", str(error))
        raise CheckpointError(f"could not be loaded again: {found[1] if found else error}") from error


def _declared() -> set[Any]:
    """Classes that the user, not torch itself, has declared safe."""
    entries = torch.serialization.get_safe_globals()
    classes = {entry[0] if isinstance(entry, tuple) else entry for entry in entries}
    return {entry for entry in classes if not str(getattr(entry, "__module__", "")).startswith("torch.")}


class _Walk:
    def __init__(self) -> None:
        self._declared = _declared()
        self._plain = _PLAIN - _TENSORS if "torch_xla" in sys.modules else _PLAIN
        self._done: dict[int, Any] = {}  # a container in several places stays one
        self._open: set[int] = set()

    def plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in self._plain:
            return value
        if kind in _TENSORS:
            if value.device.type != "xla":
                return value
            if id(value) not in self._done:
                self._done[id(value)] = value.detach().cpu().requires_grad_(value.requires_grad)
            return self._done[id(value)]
        if kind in _CONTAINERS:
            if id(value) not in self._done:
                self._done[id(value)] = self._container(value, kind, depth)
            return self._done[id(value)]
        number = _number(value)
        if number is not None:
            return number
        if kind in self._declared or isinstance(value, Tensor | torch.UntypedStorage | torch.storage.TypedStorage):
            return value  # it is checked after torch.save has written it
        raise _Refused(_reason(value))

    def _container(self, value: Any, kind: Any, depth: int) -> Any:
        if id(value) in self._open or depth > _MOST_DEEP:
            raise _Refused(f"a {kind.__name__} in itself, or in more than {_MOST_DEEP} others")
        self._open.add(id(value))
        result = value
        if issubclass(kind, dict):
            if not (self._are_plain(value) and self._are_plain(value.values())):
                keys, items = self._each(value, value, depth), self._each(value.values(), value, depth)
                if not (_are_same(keys, value) and _are_same(items, value.values())):
                    result = kind(dict(zip(keys, items, strict=True)))
                    if kind is OrderedDict:  # the state of a module has its metadata as an attribute
                        vars(result).update(vars(value))
        elif not self._are_plain(value):
            items = self._each(value, range(len(value)), depth)
            if not _are_same(items, value):
                result = kind(items)
        self._open.discard(id(value))
        return result

    def _each(self, values: Iterable[Any], keys: Iterable[Any], depth: int) -> list[Any]:
        done = []
        for key, value in zip(keys, values, strict=True):
            try:
                done.append(self.plain(value, depth + 1))
            except _Refused as refused:
                refused.keys.append(key)
                raise
        return done

    def _are_plain(self, values: Iterable[Any]) -> bool:
        return self._plain.issuperset(map(type, values))


def _are_same(values: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(a is b for a, b in zip(values, others, strict=True))


def _number(value: Any) -> Any:
    """The Python value of a numpy scalar or an array without dimensions; None for anything else."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not (isinstance(value, numpy.generic) or type(value) is numpy.ndarray):
        return None
    if value.ndim or value.dtype.kind not in _NUMPY_KINDS:
        return None
    number = value.item()
    return number if type(number) in _PLAIN else None  # numpy.longdouble has more digits than a float


def _reason(value: Any) -> str:
    kind = type(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return (
            f"a numpy array of shape {value.shape} and dtype {value.dtype}, which could not be loaded; "
            "let state_dict() return torch.from_numpy(array) or array.tolist()"
        )
    reason = (
        f"a {kind.__module__}.{kind.__qualname__}, which could not be loaded; let state_dict() return tensors, "
        "numbers, strings, and lists, tuples, dicts and sets of them"
    )
    if kind.__module__ == "builtins":
        return reason
    return f"{reason}; or, if you trust it, call torch.serialization.add_safe_globals([{kind.__name__}]) first"


def _place(keys: Iterable[Any], name: str) -> str:
    """As ``optimizer.param_groups[0].lr``."""
    place = name
    for key in keys:
        if isinstance(key, str) and re.fullmatch(r"[\w.]{1,200}", key):
            place += f".{key}" if place else key
        else:
            place += f"[{repr(key)[:50]}]"
    return place or "it"

"""Calls ``set_epoch`` of the data before each pass, so that data that shuffles by its epoch has another order.

It is called on the data, its samplers and datasets, and the objects that these wrap, if they have this method. A number
that the program itself has set since the last pass is kept for the next pass.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["announce_epoch", "set_epoch"]

#: Attributes in which data keeps the objects that it wraps.
_WRAPPED = ("sampler", "batch_sampler", "dataset", "datasets", "base_dataloader", "dataloader", "loader", "_loader")

_MOST = 50  # objects that are searched, elements of lists aside: a mock has all attributes, at any depth

#: The epoch of each object after the last call of set_epoch, if it can be read.
_known: MutableMapping[Any, int] = WeakIdKeyDictionary()


def announce_epoch(data: Any, number: int) -> None:
    """Set the number of the first pass of a run before its handlers are called, to find out what these set."""
    for one in _sorted(data, number)[0]:
        if _epoch_of(one) is not None:
            one.set_epoch(number)
            _note(one)


def set_epoch(data: Any, number: int, copied: Any = None) -> None:
    """Set the number of a pass that begins; the first is 1. ``copied`` is the copy of ``data`` that is iterated."""
    to_set, kept = _sorted(data, number)
    if not to_set and not kept:
        return
    for one in to_set:
        one.set_epoch(number)
    if any(one is data for one in to_set) and hasattr(copied, "set_epoch"):
        copied.set_epoch(number)  # some loaders forward it each time they are iterated
    for one in (*to_set, *kept):
        _note(one)
    for loader in _wrapped(data if copied is None else copied):
        if getattr(loader, "persistent_workers", False) and not _reaches_workers(loader):
            loader._iterator = None  # its workers have copies of the dataset; new workers have the new epoch


def _sorted(data: Any, number: int) -> tuple[list[Any], list[Any]]:
    """The objects with ``set_epoch``, the innermost first: those to set, and those that the program itself has set."""
    to_set: list[Any] = []
    kept: list[Any] = []
    for one in _wrapped(data):
        if callable(getattr(one, "set_epoch", None)):
            # an object that does not show its epoch may forward the number to those that it wraps
            is_users = _is_users(one, number) if _epoch_of(one) is not None else _wraps_any(one, kept)
            (kept if is_users else to_set).append(one)
    return to_set, kept


def _is_users(one: object, number: int) -> bool:
    """Whether the program has set the epoch since the last pass; before the first pass, whether it is not 0."""
    epoch = _epoch_of(one)
    with suppress(TypeError):  # it has no weak references
        return epoch != _known.get(one, 0 if number == 1 else epoch)
    return False


def _epoch_of(one: Any) -> int | None:
    value: Any = getattr(one, "epoch", getattr(one, "_epoch", None))
    try:
        return int(getattr(value, "value", value))  # it may be in shared memory
    except (TypeError, ValueError, RuntimeError):
        return None


def _note(one: Any) -> None:
    epoch = _epoch_of(one)
    if epoch is not None:
        with suppress(TypeError):  # it has no weak references
            _known[one] = epoch


def _wraps_any(one: Any, others: list[Any]) -> bool:
    return bool(others) and any(inner is other for inner in _wrapped(one) for other in others)


def _wrapped(data: Any) -> list[Any]:
    """The data and all objects that it wraps, the innermost first: outer ones may forward another number."""
    found, ids = [data], {id(data)}
    for one in found:  # which grows
        for name in _WRAPPED if len(found) < _MOST else ():
            inner = getattr(one, name, None)
            for value in inner if name == "datasets" and isinstance(inner, list | tuple) else (inner,):
                if value is not None and id(value) not in ids:
                    ids.add(id(value))
                    found.append(value)
    return found[::-1]


def _reaches_workers(loader: Any) -> bool:
    """Whether persistent workers see a new epoch of the dataset: if it is in shared memory."""
    found = [one for one in _wrapped(getattr(loader, "dataset", None)) if callable(getattr(one, "set_epoch", None))]
    return all(_is_shared(getattr(one, "epoch", None)) or _is_shared(getattr(one, "_epoch", None)) for one in found)


def _is_shared(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_shared()  # type: ignore[no-untyped-call, no-any-return]
    return hasattr(value, "get_lock")

"""Tells data which pass over it begins: what shuffles by its epoch gives each pass an order of its own.

Told are the data, its samplers and datasets, and what these wrap, where they have a ``set_epoch``. A number that the
program itself has set since the last pass is kept for the pass that follows.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["announce_epoch", "tell_epoch"]

#: Where data keeps what it wraps.
_WRAPPED = ("sampler", "batch_sampler", "dataset", "datasets", "base_dataloader", "dataloader", "loader", "_loader")

_MOST = 50  # objects that are looked at, elements of lists aside: a mock has any attribute, which has any again

#: The epoch of each object after it was told last, where it can be read.
_known: MutableMapping[Any, int] = WeakIdKeyDictionary()


def announce_epoch(data: Any, number: int) -> None:
    """Tell the number of the first pass of a run before its handlers are called, so that what they set is noticed."""
    for one in _sorted(data, number)[0]:
        if _epoch_of(one) is not None:
            one.set_epoch(number)
            _note(one)


def tell_epoch(data: Any, number: int, copied: Any = None) -> None:
    """Tell the number of a pass that begins.

    Args:
        data: Of the run.
        number: The first pass is 1.
        copied: The copy of ``data`` that is iterated in its place, if there is one.
    """
    told, kept = _sorted(data, number)
    if not told and not kept:
        return
    for one in told:
        one.set_epoch(number)
    if any(one is data for one in told) and hasattr(copied, "set_epoch"):
        copied.set_epoch(number)  # some loaders hand it on each time they are iterated
    for one in (*told, *kept):
        _note(one)
    for loader in _wrapped(data if copied is None else copied):
        if getattr(loader, "persistent_workers", False) and not _reaches_workers(loader):
            loader._iterator = None  # its workers have copies of the dataset; new ones have the new epoch


def _sorted(data: Any, number: int) -> tuple[list[Any], list[Any]]:
    """What has a ``set_epoch``, the innermost first: what is to be told, and what the program itself has told."""
    told: list[Any] = []
    kept: list[Any] = []
    for one in _wrapped(data):
        if callable(getattr(one, "set_epoch", None)):
            # one that does not show its epoch may hand its number on to those that it wraps
            is_users = _is_users(one, number) if _epoch_of(one) is not None else _wraps_any(one, kept)
            (kept if is_users else told).append(one)
    return told, kept


def _is_users(one: Any, number: int) -> bool:
    """Whether the program has set an epoch since this object was told last; before the first pass, any but 0."""
    epoch = _epoch_of(one)
    with suppress(TypeError):  # no weak reference to it is possible
        return epoch != _known.get(one, 0 if number == 1 else epoch)
    return False


def _epoch_of(one: Any) -> int | None:
    value: Any = getattr(one, "epoch", getattr(one, "_epoch", None))
    try:
        return int(getattr(value, "value", value))  # in shared memory, perhaps
    except (TypeError, ValueError, RuntimeError):
        return None


def _note(one: Any) -> None:
    epoch = _epoch_of(one)
    if epoch is not None:
        with suppress(TypeError):  # no weak reference to it is possible
            _known[one] = epoch


def _wraps_any(one: Any, others: list[Any]) -> bool:
    return bool(others) and any(inner is other for inner in _wrapped(one) for other in others)


def _wrapped(data: Any) -> list[Any]:
    """The data and all that it wraps, the innermost first: those around them may hand on another number."""
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
    """Whether workers that stay alive see a new epoch of the dataset, which is so if it is in shared memory."""
    told = [one for one in _wrapped(getattr(loader, "dataset", None)) if callable(getattr(one, "set_epoch", None))]
    return all(_is_shared(getattr(one, "epoch", None)) or _is_shared(getattr(one, "_epoch", None)) for one in told)


def _is_shared(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_shared()  # type: ignore[no-untyped-call, no-any-return]
    return hasattr(value, "get_lock")

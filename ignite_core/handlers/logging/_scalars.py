"""Flatten structures of values to log, with the path to each value as its name."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["Key", "flattened", "kept", "numbers_of"]

#: The name of a value, in parts such as ``("training", "loss")``, which each back-end joins in its own way.
Key: TypeAlias = tuple[str, ...]

#: Integers of this size cannot be converted to a float.
_TOO_LARGE = 1 << 1023


def flattened(key: Key, value: Any) -> Iterator[tuple[Key, Any]]:
    """The values in mappings, sequences and vectors, each with its name.

    Args:
        key: The name of the structure.
        value: A number, text or tensor, or a structure of them.

    Yields:
        Names and values that are not structures.

    Example:
        >>> dict(flattened(("loss",), {"d": 0.5, "g": [1, 2]}))
        {('loss', 'd'): 0.5, ('loss', 'g', '0'): 1, ('loss', 'g', '1'): 2}
        >>> dict(flattened(("recall",), torch.tensor([0.5, 0.25])))
        {('recall', '0'): tensor(0.5000), ('recall', '1'): tensor(0.2500)}
    """
    if isinstance(value, Mapping):
        parts: Any = value.items()
    elif isinstance(value, Tensor):
        parts = enumerate(value.detach().unbind()) if value.dim() == 1 else None
    elif isinstance(value, str | bytes):
        parts = None
    elif isinstance(value, Sequence):
        parts = enumerate(value)
    elif getattr(value, "ndim", None) == 1:  # an array of another library
        parts = enumerate(value.tolist())
    else:
        parts = None
    if parts is None:
        yield key, value
    else:
        for name, part in parts:
            yield from flattened((*key, str(name)), part)


def kept(value: Any) -> Any:
    """A copy of a value that can be read later, without waiting for a device.

    Returns:
        A Python number, text, or a copy of a tensor with one element on its device; None for everything else.

    Example:
        >>> kept(torch.tensor(0.5)), kept(3), kept("a"), kept(torch.ones(2, 2)), kept(1j), kept(object())
        (0.5, 3, 'a', None, None, None)
    """
    if type(value) in (float, bool, str):
        return value
    try:
        if isinstance(value, Tensor):
            if value.numel() != 1 or value.is_complex():
                return None
            return value.item() if value.is_cpu else value.detach().reshape(()).clone()
        if isinstance(value, str):
            return "".join(value)  # a plain string, also of a subclass
        if isinstance(value, numbers.Integral):
            number = int(value)
            return number if abs(number) < _TOO_LARGE else math.inf if number > 0 else -math.inf
        if isinstance(value, numbers.Real):
            return float(value)
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a number of another library
            return kept(value.item())
    except Exception:
        return None  # the conversion of a foreign object may raise anything
    return None


def numbers_of(values: Mapping[Key, Any]) -> dict[Key, Any]:
    """The same values with tensors as numbers, which are fetched in one transfer for each device and dtype.

    Example:
        >>> numbers_of({("loss",): torch.tensor(0.5), ("epoch",): 3})
        {('loss',): 0.5, ('epoch',): 3}
    """
    groups: dict[tuple[torch.device, torch.dtype], list[Key]] = {}
    for key, value in values.items():
        if isinstance(value, Tensor):
            groups.setdefault((value.device, value.dtype), []).append(key)
    read: dict[Key, Any] = {}
    for keys in groups.values():
        stacked = torch.stack([values[key].detach().reshape(()) for key in keys])
        read.update(zip(keys, stacked.tolist(), strict=True))
    return {key: read.get(key, value) for key, value in values.items()}

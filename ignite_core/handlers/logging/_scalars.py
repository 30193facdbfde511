"""Values to be logged: taken out of whatever structure they are in, each with the path to it."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["Key", "flattened", "kept", "numbers_of"]

#: The name of a value, in parts, as ``("training", "loss")``; a back-end joins them in its own way.
Key: TypeAlias = tuple[str, ...]

#: For a float, and for what writes numbers as text.
_TOO_LARGE = 1 << 1023


def flattened(key: Key, value: Any) -> Iterator[tuple[Key, Any]]:
    """What is in mappings, sequences and vectors, each with its own name.

    Args:
        key: The name of the whole.
        value: A number, text or tensor, or a structure of them.

    Yields:
        Names and values that are none of these structures; tensors of one element as they are.

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
    """A value as it is now, to be read later; no device is waited for.

    Returns:
        A Python number, text, or a tensor of one element on a device that nothing else changes; None for everything
        else.

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
            return "".join(value)  # without what a subclass adds
        if isinstance(value, numbers.Integral):
            number = int(value)
            return number if abs(number) < _TOO_LARGE else math.inf if number > 0 else -math.inf
        if isinstance(value, numbers.Real):
            return float(value)
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a number of another library
            return kept(value.item())
    except Exception:
        return None  # a value that cannot even be asked for its number
    return None


def numbers_of(values: Mapping[Key, Any]) -> dict[Key, Any]:
    """The same values with tensors as numbers; of each device they are fetched at once.

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
        together = torch.stack([values[key].detach().reshape(()) for key in keys])
        read.update(zip(keys, together.tolist(), strict=True))
    return {key: read.get(key, value) for key, value in values.items()}

"""Tensors in the nested structure of a batch."""

from __future__ import annotations

import copy
import dataclasses
import numbers
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

__all__ = ["convert_tensor"]


def convert_tensor(x: Any, device: str | torch.device | None = None, non_blocking: bool = False) -> Any:
    """Move every tensor in ``x`` to a device.

    Args:
        x: Tensors, and objects with a method ``to(device)`` (a :class:`~torch.nn.utils.rnn.PackedSequence`, a batch of
            another library), in nested lists, tuples, named tuples, mappings and dataclasses. Strings, bytes, numbers
            and None are unchanged.
        device: The target device; with None ``x`` is returned without inspection.
        non_blocking: Do not wait for copies from pinned memory to an accelerator.

    Returns:
        The same structure, of the same types; tensors on the device already are not copied.

    Raises:
        TypeError: If ``x`` contains an object of another type and ``device`` is not None.

    Example:
        >>> batch = {"image": torch.zeros(2, 3), "sizes": (torch.tensor(2), torch.tensor(3)), "name": "a"}
        >>> moved = convert_tensor(batch, device="meta")
        >>> moved["image"].device, type(moved["sizes"]), moved["name"]
        (device(type='meta'), <class 'tuple'>, 'a')
    """
    if device is None:
        return x
    return _moved(x, torch.device(device), non_blocking)


def _moved(x: Any, device: torch.device, non_blocking: bool) -> Any:
    if isinstance(x, torch.Tensor | PackedSequence):
        return x.to(device, non_blocking=non_blocking)  # type: ignore[arg-type]
    if isinstance(x, str | bytes | numbers.Number | None):
        return x
    if callable(getattr(x, "to", None)):
        return x.to(device, non_blocking=True) if non_blocking else x.to(device)
    if isinstance(x, Mapping):
        return _like(x, {key: _moved(value, device, non_blocking) for key, value in x.items()})
    if isinstance(x, Sequence):
        values = [_moved(value, device, non_blocking) for value in x]
        return type(x)(*values) if hasattr(x, "_fields") else type(x)(values)  # type: ignore[call-arg]
    if dataclasses.is_dataclass(x):
        clone = copy.copy(x)
        for field in dataclasses.fields(x):
            object.__setattr__(clone, field.name, _moved(getattr(x, field.name), device, non_blocking))
        return clone
    raise TypeError(
        "convert_tensor: a batch must hold tensors, objects with a method to(device), strings, bytes and numbers, in "
        f"lists, tuples, mappings and dataclasses; got {type(x).__name__}"
    )


def _like(mapping: Mapping[Any, Any], values: dict[Any, Any]) -> Mapping[Any, Any]:
    """A mapping of the same type; a mutable one is a copy, which keeps other attributes such as a default factory."""
    if not isinstance(mapping, MutableMapping):
        return type(mapping)(values)  # type: ignore[call-arg]
    clone = copy.copy(mapping)
    clone.update(values)
    return clone

"""Tensors and objects as bytes, the one dtype that every backend exchanges."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["from_bytes", "pack", "to_bytes", "unpack"]


def to_bytes(tensor: Tensor) -> Tensor:
    """The content of a tensor as a flat uint8 tensor, which may share its memory."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def from_bytes(data: Tensor, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """Undo :func:`to_bytes`, in new memory.

    Example:
        >>> tensor = torch.tensor([[1 + 2j], [3 - 1j]])
        >>> torch.equal(from_bytes(to_bytes(tensor), tensor.dtype, tensor.shape), tensor)
        True
    """
    data = data.clone()  # a slice may not be aligned for the dtype
    if dtype.is_complex:
        return torch.view_as_complex(data.view(dtype.to_real()).view(*shape, 2))
    return data.view(dtype).view(shape)


def pack(value: Any, device: torch.device) -> Tensor:
    """A pickled value."""
    return torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8).to(device)


def unpack(data: Tensor) -> Any:
    """Undo :func:`pack`; only for data from a rank of the same run."""
    buffer = bytearray(data.numel())
    torch.frombuffer(buffer, dtype=torch.uint8).copy_(data)
    return pickle.loads(buffer)

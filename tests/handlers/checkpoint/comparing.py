"""Whether two states are the same, bit for bit."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["same"]


def same(one: Any, two: Any) -> bool:
    """Compare tensors, numbers and strings, in nested dictionaries (their order counts), lists and tuples."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)

"""Helpers for scripts."""

from ignite_core.rng import manual_seed
from ignite_core.tensors import convert_tensor

__all__ = ["convert_tensor", "manual_seed"]

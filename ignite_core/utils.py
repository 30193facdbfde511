"""Helpers that scripts use, gathered here; each is defined where it belongs."""

from ignite_core.rng import manual_seed
from ignite_core.tensors import convert_tensor

__all__ = ["convert_tensor", "manual_seed"]

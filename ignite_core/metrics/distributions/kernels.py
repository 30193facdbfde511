"""Distances and kernels between the samples of a batch.

Shapes: ``N`` samples, ``D`` features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ignite_core.metrics.core.states import accumulation_dtype

__all__ = ["gaussian", "median", "squared_distances"]


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances, of shape ``(N, N)``, between rows of shape ``(N, D)``; equal rows have exactly 0.

    They are taken from differences: from scalar products, close rows would lose their digits.
    """
    dtype = accumulation_dtype(x.device)
    return torch.cdist(x.to(dtype), y.to(dtype), compute_mode="donot_use_mm_for_euclid_dist").square()


def gaussian(squared: Tensor, variance: Tensor | float) -> Tensor:
    """The kernel ``exp(-d² / (2 variance))`` of squared distances; without variance, whether samples are equal."""
    return torch.where(squared == 0, 1.0, torch.exp(-squared / (2 * variance)))


def median(values: Tensor) -> Tensor:
    """The middle of all values; of an even number of them, the mean of the middle two."""
    ordered, count = values.flatten().sort().values, values.numel()
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2

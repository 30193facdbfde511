"""Distances and kernels between the samples of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ignite_core.metrics.core.states import accumulation_dtype


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances, shape ``(N, N)``, between rows of shape ``(N, D)``; exactly 0 for equal rows.

    They are computed from differences, as scalar products would lose precision for close rows.
    """
    dtype = accumulation_dtype(x.device)
    return torch.cdist(x.to(dtype), y.to(dtype), compute_mode="donot_use_mm_for_euclid_dist").square()


def gaussian(squared: Tensor, variance: Tensor | float) -> Tensor:
    """The kernel ``exp(-d² / (2 variance))`` of squared distances; with variance 0, 1 for equal samples, else 0."""
    return torch.where(squared == 0, 1.0, torch.exp(-squared / (2 * variance)))


def median(values: Tensor) -> Tensor:
    """The median of all values; of an even number of values, the mean of the middle two."""
    ordered, count = values.flatten().sort().values, values.numel()
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2

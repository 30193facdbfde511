"""The difference between the distributions of two sets of features."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.checks import check_floating
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import ratio, total
from ignite_core.metrics.distributions.kernels import gaussian, squared_distances

__all__ = ["MaximumMeanDiscrepancy"]


class MaximumMeanDiscrepancy(Metric):
    r"""Maximum mean discrepancy between two distributions: the root of the mean of its square over batches.

    For each batch of :math:`n` samples the square is estimated as

    .. math:: \frac1{n(n-1)} \sum_{i \ne j} \left[k(x_i, x_j) + k(y_i, y_j)\right] - \frac2{n^2} \sum_{i,j} k(x_i, y_j),

    with the kernel :math:`k(x, y) = \exp(-\|x - y\|^2 / 2\sigma^2)`. The estimate is unbiased, so its mean may be
    negative for similar distributions; the value is then 0.

    ``update`` takes ``(x, y)``, both of shape ``(N, *)`` with ``N > 1`` and at least one dimension ``*``, which are
    flattened. An empty batch changes nothing.

    Args:
        var: :math:`\sigma^2` of the kernel.

    Raises:
        ValueError: By ``update`` if the shapes differ or are ``(N,)``, or the batch has only one sample, which is too
            few for an estimate.
        TypeError: By ``update`` if ``x`` or ``y`` is not of floats.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf and Smola, 2012, *A Kernel Two-Sample Test*, equation 3.

    Example:
        >>> metric = MaximumMeanDiscrepancy()
        >>> metric.update((torch.zeros(4, 2), torch.full((4, 2), 100.0)))
        >>> round(metric.compute(), 6)  # the root of 1 + 1 - 0
        1.414214
    """

    higher_is_better = False

    square_sum = total()
    num_batches = total(dtype=torch.int64)

    def __init__(
        self,
        var: float = 1.0,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        self.var = var
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        x, y = output
        size = x.shape[0] if x.ndim else 0
        if x.shape != y.shape or x.ndim < 2 or size == 1:
            raise ValueError(
                "MaximumMeanDiscrepancy.update: x and y must have the same shape (N, *), one vector per sample, with "
                f"N > 1, got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        check_floating(self, x=x, y=y)
        if not size:
            return
        a, b = (features.detach().flatten(start_dim=1) for features in (x, y))
        within = sum(self._kernel(one, one).fill_diagonal_(0.0).sum() for one in (a, b)) / (size * (size - 1))
        self.square_sum += within - 2 * self._kernel(a, b).mean()
        self.num_batches += 1

    def compute(self) -> float | Tensor:
        if self.num_batches == 0:
            raise NotComputableError("MaximumMeanDiscrepancy.compute: no batch was seen; call update() first")
        square = ratio(self.square_sum, self.num_batches)
        return square.clamp(min=0.0).sqrt() if isinstance(square, Tensor) else math.sqrt(max(square, 0.0))

    def _kernel(self, x: Tensor, y: Tensor) -> Tensor:
        return gaussian(squared_distances(x, y), self.var)

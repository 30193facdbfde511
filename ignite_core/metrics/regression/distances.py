"""Distances between predictions and ground truth: sums over samples, which grow with their number, and a mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pairwise_distance

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total
from ignite_core.metrics.regression.base import SumOfErrors, quotient, real_pair

__all__ = ["CanberraMetric", "ManhattanDistance", "MeanPairwiseDistance", "WaveHedgesDistance"]


class CanberraMetric(SumOfErrors):
    r"""Canberra distance, :math:`\sum_i \frac{|A_i - P_i|}{|A_i| + |P_i|}`; a sample with :math:`A = P = 0` adds 0.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = CanberraMetric()
        >>> metric.update((torch.tensor([1.0, 0.0, -2.0]), torch.tensor([3.0, 0.0, 2.0])))
        >>> metric.compute()
        1.5
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return quotient((y - y_pred).abs(), y.abs() + y_pred.abs())


class ManhattanDistance(SumOfErrors):
    r"""Manhattan distance, :math:`\sum_i |A_i - P_i|`.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.

    Example:
        >>> metric = ManhattanDistance()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0])))
        >>> metric.compute()
        2.5
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return (y - y_pred).abs()


class WaveHedgesDistance(SumOfErrors):
    r"""Wave Hedges distance, :math:`\sum_i \frac{|A_i - P_i|}{\max(A_i, P_i)}`; a sample with :math:`A = P` adds 0.

    It is meant for non-negative numbers. A sample whose larger number is negative adds a negative term. One whose
    larger number is 0 adds an infinite term, unless both numbers are 0.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.

    References:
        Cha, 2007, *Comprehensive Survey on Distance/Similarity Measures between Probability Density Functions*,
        intersection family.

    Example:
        >>> metric = WaveHedgesDistance()
        >>> metric.update((torch.tensor([1.0, 2.0, 0.0]), torch.tensor([4.0, 1.0, 0.0])))
        >>> metric.compute()
        1.25
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return quotient((y - y_pred).abs(), torch.maximum(y, y_pred))


class MeanPairwiseDistance(Metric):
    r"""Mean distance of predicted from true vectors, :math:`\frac1n \sum_i \lVert \hat y_i - y_i + \epsilon \rVert_p`.

    ``update`` takes ``(y_pred, y)``, real numbers of one shape ``(N, *, D)``; each of the ``N * prod(*)`` pairs of
    vectors counts as one.

    Args:
        p: Exponent of the norm, such as 1, 2 or infinity.
        eps: Added to each component of the difference, as in :class:`torch.nn.PairwiseDistance`.

    Raises:
        ValueError: By ``update`` if the shapes differ or have fewer than two dimensions.

    Example:
        >>> metric = MeanPairwiseDistance(eps=0.0)
        >>> metric.update((torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 2.0]])))
        >>> metric.compute()
        3.0
    """

    higher_is_better = False

    sum_of_distances = total()
    num_pairs = total(dtype=torch.int64)

    def __init__(
        self,
        p: float = 2,
        eps: float = 1e-6,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        self.p = p
        self.eps = eps
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        y_pred, y = real_pair(self, output)
        if y_pred.shape != y.shape or y.ndim < 2:
            raise ValueError(
                "MeanPairwiseDistance.update: y_pred and y must have the same shape (N, *, D), "
                f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
            )
        dtype = accumulation_dtype(y.device)
        distances = pairwise_distance(y_pred.detach().to(dtype), y.detach().to(dtype), p=self.p, eps=self.eps)
        self.sum_of_distances += distances.sum()
        self.num_pairs += distances.numel()

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_pairs)
        return ratio(self.sum_of_distances, self.num_pairs)

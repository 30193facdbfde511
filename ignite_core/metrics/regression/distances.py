"""Distances between all predictions and all ground truth: sums over samples, which grow with their number."""

from __future__ import annotations

import torch
from torch import Tensor

from ignite_core.metrics.regression.base import SumOfErrors, quotient

__all__ = ["CanberraMetric", "ManhattanDistance", "WaveHedgesDistance"]


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

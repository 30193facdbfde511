"""Squared and absolute errors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import maximum, total
from ignite_core.metrics.regression.base import (
    ErrorMetric,
    difference,
    double_pair,
    number,
    real_pair,
    squared_error,
)

__all__ = ["MaximumAbsoluteError", "MeanAbsoluteError", "MeanSquaredError", "RootMeanSquaredError"]


class MeanSquaredError(ErrorMetric):
    r"""Mean over samples of the squared error, :math:`\frac1n \sum_i \lVert \hat y_i - y_i \rVert_2^2`.

    The squared errors of the elements of a sample are **summed**; with ``D`` elements per sample,
    ``MeanSquaredError() / D`` is the mean over all elements.

    ``update`` takes ``(y_pred, y)``, real numbers of one shape ``(N, *)``; dimensions of size 1 may be missing in one.
    Other shapes raise a ValueError.

    Example:
        >>> metric = MeanSquaredError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])))
        >>> metric.compute()
        2.5
    """

    def update(self, output: Any) -> None:
        y_pred, y = real_pair(self, output)
        error = squared_error(y_pred, y)
        self.sum_of_errors += error.item() if error.is_cpu else error
        self.num_samples += y.shape[0]


class RootMeanSquaredError(MeanSquaredError):
    r"""Root of the mean squared error, :math:`\sqrt{\frac1n \sum_i \lVert \hat y_i - y_i \rVert_2^2}`.

    The squared errors of the elements of a sample are **summed**, and ``update`` takes the same, as in
    :class:`MeanSquaredError`.
    Other shapes raise a ValueError.

    Example:
        >>> metric = RootMeanSquaredError()
        >>> metric.update((torch.tensor([1.0, 7.0]), torch.tensor([2.0, 0.0])))
        >>> metric.compute()
        5.0
    """

    def compute(self) -> float | Tensor:
        mean = super().compute()
        return mean.sqrt() if isinstance(mean, Tensor) else math.sqrt(mean)


class MeanAbsoluteError(ErrorMetric):
    r"""Mean over samples of the absolute error, :math:`\frac1n \sum_i \lVert \hat y_i - y_i \rVert_1`.

    The errors of the elements of a sample are **summed**; with ``D`` elements per sample, ``MeanAbsoluteError() / D``
    is the mean over all elements.

    ``update`` takes ``(y_pred, y)``, real numbers of one shape ``(N, *)``; dimensions of size 1 may be missing in one.
    Other shapes raise a ValueError.

    Example:
        >>> metric = MeanAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0])))
        >>> metric.compute()
        1.25
    """

    def update(self, output: Any) -> None:
        y_pred, y = real_pair(self, output)
        self.sum_of_errors += difference(y_pred, y).abs().sum()
        self.num_samples += y.shape[0]


class MaximumAbsoluteError(Metric):
    r"""Largest absolute error, :math:`\max_i |A_i - P_i|` of predictions :math:`P` and ground truth :math:`A`.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``; other
    shapes raise a ValueError, other dtypes a TypeError. If an element is NaN, the
    value is NaN.

    Example:
        >>> metric = MaximumAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0])))
        >>> metric.compute()
        2.0
    """

    higher_is_better = False

    largest = maximum()
    num_samples = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        y_pred, y = double_pair(self, output)
        if not y.numel():
            return
        self.largest = torch.maximum(self.largest, (y - y_pred).abs().max())
        self.num_samples += y.shape[0]

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        return number(self.largest)

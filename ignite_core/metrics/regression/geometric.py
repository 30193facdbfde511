"""Geometric means of errors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, gathered, total
from ignite_core.metrics.regression.base import MeanOfErrors, concatenated, double_pair, number

__all__ = ["GeometricMeanAbsoluteError", "GeometricMeanRelativeAbsoluteError"]


class GeometricMeanAbsoluteError(MeanOfErrors):
    r"""Geometric mean of the absolute errors, :math:`\exp\left(\frac1n \sum_i \ln |A_i - P_i|\right)`.

    It is 0 if any prediction is exact.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = GeometricMeanAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([2.0, 6.0])))
        >>> round(metric.compute(), 9)
        2.0
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return (y - y_pred).abs().log()

    def compute(self) -> float | Tensor:
        mean = super().compute()
        return mean.exp() if isinstance(mean, Tensor) else math.exp(mean)


class GeometricMeanRelativeAbsoluteError(Metric):
    r"""Geometric mean of the absolute errors, relative to the errors of predicting the mean of the ground truth.

    .. math:: \exp\left(\frac1n \sum_i \ln \frac{|A_i - P_i|}{|A_i - \bar A|}\right)

    It is 0 if any prediction is exact, infinite if the ground truth of any sample equals the mean of all, and NaN if
    both happen. The ground truth of all samples is kept until ``compute``.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = GeometricMeanRelativeAbsoluteError()
        >>> metric.update((torch.tensor([2.0, 5.0]), torch.tensor([1.0, 3.0])))
        >>> round(metric.compute(), 9)
        1.414213562
    """

    higher_is_better = False

    sum_of_logarithms = total()
    targets = gathered()

    def update(self, output: Any) -> None:
        y_pred, y = double_pair(self, output)
        if not y.numel():
            return
        self.sum_of_logarithms += (y - y_pred).abs().log().sum()
        self.targets.append(output[1].detach().reshape(-1).clone())

    def compute(self) -> float | Tensor:
        check_computable(self, self.targets)
        y = concatenated(self.targets)
        y = y.to(accumulation_dtype(y.device))
        errors_of_mean = (y - y.mean()).abs().log().mean()
        errors = torch.as_tensor(self.sum_of_logarithms, dtype=y.dtype, device=y.device) / y.numel()
        return number((errors - errors_of_mean).exp())

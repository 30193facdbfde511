"""Geometric means of errors.

Shapes: ``N`` samples. :math:`P` is what was predicted and :math:`A` is the ground truth.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, gathered, ratio, total
from ignite_core.metrics.regression.base import MeanOfErrors
from ignite_core.metrics.regression.pairs import as_doubles, check_seen, joined, number

__all__ = ["GeometricMeanAbsoluteError", "GeometricMeanRelativeAbsoluteError"]


class GeometricMeanAbsoluteError(MeanOfErrors):
    r"""Geometric mean of the absolute errors, :math:`\exp\left(\frac1n \sum_i \ln |A_i - P_i|\right)`.

    It is 0 as soon as one prediction is exact.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.

    References:
        Botchkarev, 2018, *Performance Metrics (Error Measures) in Machine Learning Regression, Forecasting and
        Prognostics*, arXiv:1809.03006.

    Example:
        >>> metric = GeometricMeanAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([2.0, 6.0])))
        >>> round(metric.compute(), 9)
        2.0
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return (y - y_pred).abs().log()

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_samples)
        mean = ratio(self.sum_of_errors, self.num_samples)
        return mean.exp() if isinstance(mean, Tensor) else math.exp(mean)


class GeometricMeanRelativeAbsoluteError(Metric):
    r"""Geometric mean of the errors relative to those of the mean of the ground truth as the prediction.

    .. math:: \exp\left(\frac1n \sum_i \ln \frac{|A_i - P_i|}{|A_i - \bar A|}\right)

    It is 0 as soon as one prediction is exact, infinite as soon as the ground truth of one sample equals the mean of
    all, and NaN where both happen. The ground truth of all samples is kept until then.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.

    References:
        Botchkarev, 2018, *Performance Metrics (Error Measures) in Machine Learning Regression, Forecasting and
        Prognostics*, arXiv:1809.03006.

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
        y_pred, y = as_doubles("GeometricMeanRelativeAbsoluteError.update", output)
        if not y.numel():
            return
        self.sum_of_logarithms += (y - y_pred).abs().log().sum()
        self.targets.append(output[1].detach().reshape(-1).clone())

    def compute(self) -> float | Tensor:
        check_seen(self, self.targets)
        y = joined(self.targets)
        y = y.to(accumulation_dtype(y.device))
        of_the_mean = (y - y.mean()).abs().log().mean()
        errors = torch.as_tensor(self.sum_of_logarithms, dtype=y.dtype, device=y.device) / y.numel()
        value: float | Tensor = number((errors - of_the_mean).exp())
        return value

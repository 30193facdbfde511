"""Means of errors, absolute or relative to the ground truth, arithmetic and geometric."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, gathered, total
from ignite_core.metrics.regression.base import MeanOfErrors, concatenated, double_pair, number, quotient

__all__ = [
    "FractionalAbsoluteError",
    "FractionalBias",
    "GeometricMeanAbsoluteError",
    "GeometricMeanRelativeAbsoluteError",
    "MeanAbsoluteRelativeError",
    "MeanError",
    "MeanNormalizedBias",
]


class MeanError(MeanOfErrors):
    r"""Mean error, :math:`\frac1n \sum_i (A_i - P_i)`: positive if the predictions are too small.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = MeanError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0])))
        >>> metric.compute()
        -0.75
    """

    higher_is_better = None

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return y - y_pred


class FractionalAbsoluteError(MeanOfErrors):
    r"""Fractional absolute error, :math:`\frac1n \sum_i \frac{2\,|A_i - P_i|}{|A_i| + |P_i|}`, between 0 and 2.

    A sample with :math:`A = P = 0` has no error.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = FractionalAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])))
        >>> metric.compute()
        0.5
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return 2 * quotient((y - y_pred).abs(), y.abs() + y_pred.abs())


class FractionalBias(MeanOfErrors):
    r"""Fractional bias, :math:`\frac1n \sum_i \frac{2\,(A_i - P_i)}{A_i + P_i}`.

    It is positive if the predictions are too small, and meant for non-negative numbers. A sample with :math:`A = P` has
    no error; one with :math:`A = -P \ne 0` has an infinite error.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = FractionalBias()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])))
        >>> metric.compute()
        0.5
    """

    higher_is_better = None

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return 2 * quotient(y - y_pred, y + y_pred)


class RelativeErrors(MeanOfErrors):
    """Mean of an error divided by the ground truth. Zeros are counted on the device and reported by ``compute``."""

    num_zeros = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        super().update(output)
        self.num_zeros += (output[1] == 0).sum()

    def compute(self) -> float | Tensor:
        if self.num_zeros > 0:
            raise NotComputableError(
                f"{type(self).__name__}.compute: the ground truth must not be 0, as errors are divided by it, "
                f"got {int(self.num_zeros)} zeros among {int(self.num_samples)} samples"
            )
        return super().compute()


class MeanAbsoluteRelativeError(RelativeErrors):
    r"""Mean of the absolute errors relative to the ground truth, :math:`\frac1n \sum_i \frac{|A_i - P_i|}{|A_i|}`.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Raises:
        ValueError: By ``update`` if the shapes differ.
        TypeError: By ``update`` if the tensors are not floats.
        NotComputableError: By ``compute`` also if the ground truth of any sample is 0.

    Example:
        >>> metric = MeanAbsoluteRelativeError()
        >>> metric.update((torch.tensor([1.0, 3.0]), torch.tensor([2.0, -1.0])))
        >>> metric.compute()
        2.25
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return (y - y_pred).abs() / y.abs()


class MeanNormalizedBias(RelativeErrors):
    r"""Mean of the signed errors relative to the ground truth, :math:`\frac1n \sum_i \frac{A_i - P_i}{A_i}`.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Raises:
        ValueError: By ``update`` if the shapes differ.
        TypeError: By ``update`` if the tensors are not floats.
        NotComputableError: By ``compute`` also if the ground truth of any sample is 0.

    Example:
        >>> metric = MeanNormalizedBias()
        >>> metric.update((torch.tensor([1.0, 5.0]), torch.tensor([2.0, 4.0])))
        >>> metric.compute()
        0.125
    """

    higher_is_better = None

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return (y - y_pred) / y


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

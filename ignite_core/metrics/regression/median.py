"""Medians of errors, for which the errors of all elements are kept until the end.

Shapes: ``N`` samples, ``D`` numbers each. :math:`P` is what was predicted and :math:`A` is the ground truth. The median
of an even number of values is the mean of the two in the middle; with NaN among them it is NaN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, gathered
from ignite_core.metrics.regression.pairs import check_seen, joined, number, number_pair

__all__ = ["MedianAbsoluteError", "MedianAbsolutePercentageError", "MedianRelativeAbsoluteError"]


class MedianAbsoluteError(Metric):
    r"""Median of the absolute errors, :math:`\operatorname{median}_i |A_i - P_i|`.

    The median of an even number of values is the mean of the two in the middle; with NaN among them it is NaN. The
    errors of all elements are kept until then.

    ``update`` takes ``(y_pred, y)``, real numbers of shape ``(N,)`` or ``(N, D)``; each element counts as one.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.

    References:
        Botchkarev, 2018, *Performance Metrics (Error Measures) in Machine Learning Regression, Forecasting and
        Prognostics*, arXiv:1809.03006.

    Example:
        >>> metric = MedianAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.5, 0.0, 3.25])))
        >>> metric.compute()
        0.5
    """

    higher_is_better = False

    errors = gathered()

    def update(self, output: Any) -> None:
        y_pred, y = _as_columns(self, output)
        if y.numel():
            self.errors.append((y - y_pred).abs())

    def compute(self) -> float | Tensor:
        check_seen(self, self.errors)
        value: float | Tensor = number(_median(joined(self.errors)))
        return value


class MedianAbsolutePercentageError(Metric):
    r"""Median of the absolute errors in percent of the ground truth.

    .. math:: 100 \operatorname{median}_i \frac{|A_i - P_i|}{|A_i|}

    Where the ground truth is 0, the error is infinite, which a median stands; if the prediction is 0 too, it is not
    defined, and the value is NaN.

    The median of an even number of values is the mean of the two in the middle; with NaN among them it is NaN. The
    errors of all elements are kept until then.

    ``update`` takes ``(y_pred, y)``, real numbers of shape ``(N,)`` or ``(N, D)``; each element counts as one.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.

    References:
        Botchkarev, 2018, *Performance Metrics (Error Measures) in Machine Learning Regression, Forecasting and
        Prognostics*, arXiv:1809.03006.

    Example:
        >>> metric = MedianAbsolutePercentageError()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 8.0, 4.0])))
        >>> metric.compute()
        50.0
    """

    higher_is_better = False

    errors = gathered()

    def update(self, output: Any) -> None:
        y_pred, y = _as_columns(self, output)
        if y.numel():
            self.errors.append((y - y_pred).abs() / y.abs())

    def compute(self) -> float | Tensor:
        check_seen(self, self.errors)
        value: float | Tensor = number(100 * _median(joined(self.errors)))
        return value


class MedianRelativeAbsoluteError(Metric):
    r"""Median of the errors relative to those of the mean of the ground truth as the prediction.

    .. math:: \operatorname{median}_i \frac{|A_i - P_i|}{|A_i - \bar A|}

    Where the ground truth equals its mean, the error is infinite, which a median stands; if the prediction does too,
    it is not defined, and the value is NaN.

    The median of an even number of values is the mean of the two in the middle; with NaN among them it is NaN. The
    errors and the ground truth of all elements are kept until then.

    ``update`` takes ``(y_pred, y)``, real numbers of shape ``(N,)`` or ``(N, D)``; each element counts as one.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.

    References:
        Botchkarev, 2018, *Performance Metrics (Error Measures) in Machine Learning Regression, Forecasting and
        Prognostics*, arXiv:1809.03006.

    Example:
        >>> metric = MedianRelativeAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 6.0, 7.0])))
        >>> metric.compute()
        2.0
    """

    higher_is_better = False

    errors = gathered()
    targets = gathered()

    def update(self, output: Any) -> None:
        y_pred, y = _as_columns(self, output)
        if y.numel():
            self.errors.append((y - y_pred).abs())
            self.targets.append(output[1].detach().reshape(-1).clone())

    def compute(self) -> float | Tensor:
        check_seen(self, self.errors)
        errors, y = joined(self.errors), joined(self.targets)
        y = y.to(errors.dtype)
        value: float | Tensor = number(_median(errors / (y - y.mean()).abs()))
        return value


def _as_columns(metric: Metric, output: Any) -> tuple[Tensor, Tensor]:
    """All elements of predictions and ground truth, in double precision."""
    who = f"{type(metric).__name__}.update"
    y_pred, y = number_pair(who, output)
    if max(y_pred.ndim, y.ndim) > 2:
        raise ValueError(
            f"{who}: y_pred and y must have the shape (N,) or (N, D), got {tuple(y_pred.shape)} and {tuple(y.shape)}"
        )
    dtype = accumulation_dtype(y.device)
    return y_pred.detach().reshape(-1).to(dtype), y.detach().reshape(-1).to(dtype)


def _median(values: Tensor) -> Tensor:
    """With the mean of the two values in the middle, and NaN if there is one."""
    ordered = values.sort().values  # NaN comes last
    middle = (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2
    return torch.where(ordered[-1].isnan(), ordered[-1], middle)

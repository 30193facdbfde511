"""Medians of errors. The errors of all elements are kept until ``compute``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import caller, check_computable
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, gathered
from ignite_core.metrics.regression.base import concatenated, number, real_pair

__all__ = ["MedianAbsoluteError", "MedianAbsolutePercentageError", "MedianRelativeAbsoluteError"]


class MedianAbsoluteError(Metric):
    r"""Median of the absolute errors, :math:`\operatorname{median}_i |A_i - P_i|`.

    The median of an even number of values is the mean of the middle two; if a value is NaN, the median is NaN. The
    errors of all elements are kept until ``compute``.

    ``update`` takes ``(y_pred, y)``, real numbers of shape ``(N,)`` or ``(N, D)``; each element counts as one.
    Other shapes raise a ValueError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = MedianAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.5, 0.0, 3.25])))
        >>> metric.compute()
        0.5
    """

    higher_is_better = False

    errors = gathered()

    def update(self, output: Any) -> None:
        y_pred, y = _flat_pair(self, output)
        if y.numel():
            self._add(y_pred, y)

    def compute(self) -> float | Tensor:
        check_computable(self, self.errors)
        return number(self._median(concatenated(self.errors)))

    def _add(self, y_pred: Tensor, y: Tensor) -> None:
        self.errors.append((y - y_pred).abs())

    def _median(self, errors: Tensor) -> Tensor:
        ordered = errors.sort().values  # NaN comes last
        middle = (ordered[(len(errors) - 1) // 2] + ordered[len(errors) // 2]) / 2
        return torch.where(ordered[-1].isnan(), ordered[-1], middle)


class MedianAbsolutePercentageError(MedianAbsoluteError):
    r"""Median of the absolute errors in percent of the ground truth.

    .. math:: 100 \operatorname{median}_i \frac{|A_i - P_i|}{|A_i|}

    Where the ground truth is 0, the error is infinite, and the median may still be finite; if the prediction is 0 too,
    the error is undefined and the value is NaN.

    The median of an even number of values is the mean of the middle two; if a value is NaN, the median is NaN. The
    errors of all elements are kept until ``compute``.

    ``update`` takes ``(y_pred, y)``, real numbers of shape ``(N,)`` or ``(N, D)``; each element counts as one.
    Other shapes raise a ValueError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = MedianAbsolutePercentageError()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 8.0, 4.0])))
        >>> metric.compute()
        50.0
    """

    def _add(self, y_pred: Tensor, y: Tensor) -> None:
        self.errors.append((y - y_pred).abs() / y.abs())

    def _median(self, errors: Tensor) -> Tensor:
        return 100 * super()._median(errors)


class MedianRelativeAbsoluteError(MedianAbsoluteError):
    r"""Median of the absolute errors, relative to the errors of predicting the mean of the ground truth.

    .. math:: \operatorname{median}_i \frac{|A_i - P_i|}{|A_i - \bar A|}

    Where the ground truth equals its mean, the error is infinite, and the median may still be finite; if the prediction
    equals it too, the error is undefined and the value is NaN.

    The median of an even number of values is the mean of the middle two; if a value is NaN, the median is NaN. The
    errors and the ground truth of all elements are kept until ``compute``.

    ``update`` takes ``(y_pred, y)``, real numbers of shape ``(N,)`` or ``(N, D)``; each element counts as one.
    Other shapes raise a ValueError.
    Definition: Botchkarev, 2018, *Performance Metrics in Machine Learning Regression*, arXiv:1809.03006.

    Example:
        >>> metric = MedianRelativeAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 6.0, 7.0])))
        >>> metric.compute()
        2.0
    """

    targets = gathered()

    def update(self, output: Any) -> None:
        super().update(output)
        if output[1].numel():
            self.targets.append(output[1].detach().reshape(-1).clone())

    def _median(self, errors: Tensor) -> Tensor:
        y = concatenated(self.targets).to(errors)
        return super()._median(errors / (y - y.mean()).abs())


def _flat_pair(metric: Metric, output: Any) -> tuple[Tensor, Tensor]:
    """All elements of predictions and ground truth, in double precision."""
    y_pred, y = real_pair(metric, output)
    if max(y_pred.ndim, y.ndim) > 2:
        raise ValueError(
            f"{caller(metric)}: y_pred and y must have the shape (N,) or (N, D), "
            f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
        )
    dtype = accumulation_dtype(y.device)
    return y_pred.detach().reshape(-1).to(dtype), y.detach().reshape(-1).to(dtype)

"""Errors relative to the ground truth, which must not be 0.

Shapes: ``N`` samples. :math:`P` is what was predicted and :math:`A` is the ground truth.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.states import ratio, total
from ignite_core.metrics.regression.base import MeanOfErrors
from ignite_core.metrics.regression.pairs import check_seen

__all__ = ["MeanAbsoluteRelativeError", "MeanNormalizedBias"]


class RelativeErrors(MeanOfErrors):
    """Mean of an error that is divided by the ground truth.

    Zeros are counted where they are, and told by ``compute``, so that ``update`` waits for no device.
    """

    num_zeros = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        super().update(output)
        self.num_zeros += (output[1] == 0).sum()

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_samples)
        if self.num_zeros > 0:
            raise NotComputableError(
                f"{type(self).__name__}.compute: the ground truth must not be 0, which it is divided by, "
                f"got {int(self.num_zeros)} zeros among {int(self.num_samples)} samples"
            )
        value: float | Tensor = ratio(self.sum_of_errors, self.num_samples)
        return value


class MeanAbsoluteRelativeError(RelativeErrors):
    r"""Mean of the absolute errors relative to the ground truth, :math:`\frac1n \sum_i \frac{|A_i - P_i|}{|A_i|}`.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.
        NotComputableError: By ``compute`` also if there is a zero among the ground truth.

    References:
        Botchkarev, 2018, *Performance Metrics (Error Measures) in Machine Learning Regression, Forecasting and
        Prognostics*, arXiv:1809.03006.

    Example:
        >>> metric = MeanAbsoluteRelativeError()
        >>> metric.update((torch.tensor([1.0, 3.0]), torch.tensor([2.0, -1.0])))
        >>> metric.compute()
        2.25
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return (y - y_pred).abs() / y.abs()


class MeanNormalizedBias(RelativeErrors):
    r"""Mean of the errors relative to the ground truth, with their sign, :math:`\frac1n \sum_i \frac{A_i - P_i}{A_i}`.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.
        NotComputableError: By ``compute`` also if there is a zero among the ground truth.

    References:
        Botchkarev, 2018, *Performance Metrics (Error Measures) in Machine Learning Regression, Forecasting and
        Prognostics*, arXiv:1809.03006.

    Example:
        >>> metric = MeanNormalizedBias()
        >>> metric.update((torch.tensor([1.0, 5.0]), torch.tensor([2.0, 4.0])))
        >>> metric.compute()
        0.125
    """

    higher_is_better = None

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return (y - y_pred) / y

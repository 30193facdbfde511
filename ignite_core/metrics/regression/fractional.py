"""Errors as fractions of the mean of prediction and ground truth.

Shapes: ``N`` samples. :math:`P` is what was predicted and :math:`A` is the ground truth.
"""

from __future__ import annotations

from torch import Tensor

from ignite_core.metrics.regression.base import MeanOfErrors, quotient

__all__ = ["FractionalAbsoluteError", "FractionalBias"]


class FractionalAbsoluteError(MeanOfErrors):
    r"""Fractional absolute error, :math:`\frac1n \sum_i \frac{2\,|A_i - P_i|}{|A_i| + |P_i|}`, between 0 and 2.

    A sample with :math:`A = P = 0` has no error.

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
        >>> import torch
        >>> metric = FractionalAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])))
        >>> metric.compute()
        0.5
    """

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return 2 * quotient((y - y_pred).abs(), y.abs() + y_pred.abs())


class FractionalBias(MeanOfErrors):
    r"""Fractional bias, :math:`\frac1n \sum_i \frac{2\,(A_i - P_i)}{A_i + P_i}`.

    It is positive where predictions are too small, and meant for numbers that are not negative. A sample with
    :math:`A = P` has no error; one with :math:`A = -P \ne 0` has an infinite one.

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
        >>> import torch
        >>> metric = FractionalBias()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])))
        >>> metric.compute()
        0.5
    """

    higher_is_better = None

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return 2 * quotient(y - y_pred, y + y_pred)

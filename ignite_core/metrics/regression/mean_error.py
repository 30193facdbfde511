"""The mean error, or bias.

Shapes: ``N`` samples.
"""

from __future__ import annotations

from torch import Tensor

from ignite_core.metrics.regression.base import MeanOfErrors

__all__ = ["MeanError"]


class MeanError(MeanOfErrors):
    r"""Mean error, :math:`\frac1n \sum_i (A_i - P_i)`: positive where predictions :math:`P` are too small.

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
        >>> metric = MeanError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0])))
        >>> metric.compute()
        -0.75
    """

    higher_is_better = None

    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        return y - y_pred

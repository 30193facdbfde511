"""The largest error.

Shapes: ``N`` samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import maximum, total
from ignite_core.metrics.regression.pairs import as_doubles, check_seen, number

__all__ = ["MaximumAbsoluteError"]


class MaximumAbsoluteError(Metric):
    r"""Largest absolute error, :math:`\max_i |A_i - P_i|` of predictions :math:`P` and ground truth :math:`A`.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``. With NaN among them the
    value is NaN.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.

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
        y_pred, y = as_doubles("MaximumAbsoluteError.update", output)
        if not y.numel():
            return
        self.largest = torch.maximum(self.largest, (y - y_pred).abs().max())
        self.num_samples += y.shape[0]

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_samples)
        value: float | Tensor = number(self.largest)
        return value

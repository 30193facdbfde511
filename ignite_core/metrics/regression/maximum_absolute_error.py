"""The largest absolute error.

Shapes: ``N`` samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import maximum, total
from ignite_core.metrics.regression.base import double_pair, number

__all__ = ["MaximumAbsoluteError"]


class MaximumAbsoluteError(Metric):
    r"""Largest absolute error, :math:`\max_i |A_i - P_i|` of predictions :math:`P` and ground truth :math:`A`.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``. If an element is NaN, the
    value is NaN.

    Raises:
        ValueError: By ``update`` if the shapes differ.
        TypeError: By ``update`` if the tensors are not floats.

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

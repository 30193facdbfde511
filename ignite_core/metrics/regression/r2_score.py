"""The coefficient of determination.

Shapes: ``N`` samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import gathered, total
from ignite_core.metrics.regression.moments import joined_moments, moments_of, with_moments
from ignite_core.metrics.regression.pairs import check_pair, check_seen, number, squared_error

__all__ = ["R2Score"]


class R2Score(Metric):
    r"""Coefficient of determination, :math:`R^2 = 1 - \frac{\sum_i (A_i - P_i)^2}{\sum_i (A_i - \bar A)^2}`.

    1 is perfect, 0 as good as the mean :math:`\bar A` of the ground truth, less is worse than that. It is exact to
    rounding for ground truth with a large mean and a small spread, however it is split. If the ground truth is
    constant, it is 1 where all predictions :math:`P` are exact and else 0.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.

    Example:
        >>> metric = R2Score()
        >>> metric.update((torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0])))
        >>> metric.compute()
        0.5
    """

    higher_is_better = True

    sum_of_errors = total()
    moments = gathered()

    def update(self, output: Any) -> None:
        y_pred, y = output
        check_pair("R2Score.update", y_pred, y)
        if y.numel():
            self.sum_of_errors += squared_error(y_pred, y)
            self.moments = with_moments(self.moments, moments_of(y_pred, y))

    def compute(self) -> float | Tensor:
        check_seen(self, self.moments)
        spread = joined_moments(self.moments)[1, 4]
        errors = torch.as_tensor(self.sum_of_errors, dtype=spread.dtype, device=spread.device)
        of_constant = torch.where(errors.isnan(), errors, (errors == 0).to(spread.dtype))
        value: float | Tensor = number(torch.where(spread == 0, of_constant, 1 - errors / spread))
        return value

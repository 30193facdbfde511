"""The linear correlation of predictions with ground truth.

Shapes: ``N`` samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric, unchanged
from ignite_core.metrics.core.states import gathered
from ignite_core.metrics.regression.moments import joined_moments, moments_of, with_moments
from ignite_core.metrics.regression.pairs import check_pair, check_seen, number

__all__ = ["PearsonCorrelation"]


class PearsonCorrelation(Metric):
    r"""Pearson's correlation of predictions :math:`P` with ground truth :math:`A`.

    .. math:: r = \frac{\operatorname{cov}(P, A)}{\max(\sigma_P\,\sigma_A,\ \epsilon)}

    with population covariance and standard deviations (divided by :math:`n`). It is exact to rounding for data with a
    large mean and a small spread, however it is split, and the same for data of any scale. Of constant data it is 0.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        eps: Smallest denominator, at least 0. With more than 0, data of a small scale has a smaller correlation.
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: If ``eps`` is negative; by ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.

    Example:
        >>> metric = PearsonCorrelation()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])))
        >>> round(metric.compute(), 9)
        0.5
    """

    higher_is_better = True

    moments = gathered()

    def __init__(
        self,
        eps: float = 0.0,
        output_transform: Callable[[Any], Any] = unchanged,
        device: str | torch.device | None = None,
        *,
        skip_unrolling: bool = False,
    ) -> None:
        if not eps >= 0:
            raise ValueError(f"PearsonCorrelation: eps must be at least 0, got {eps}")
        self.eps = eps
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        y_pred, y = output
        check_pair("PearsonCorrelation.update", y_pred, y)
        if y.numel():
            self.moments = with_moments(self.moments, moments_of(y_pred, y))

    def compute(self) -> float | Tensor:
        check_seen(self, self.moments)
        seen = joined_moments(self.moments)
        covariances = seen[:, 3:] / seen[0, 0]
        deviations = covariances.diagonal().sqrt().prod().clamp(min=self.eps)
        correlation = (covariances[0, 1] / deviations).clamp(-1, 1)
        value: float | Tensor = number(torch.where(deviations == 0, 0.0, correlation))
        return value

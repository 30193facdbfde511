"""The linear correlation between predictions and ground truth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import gathered
from ignite_core.metrics.regression.base import check_pair, number
from ignite_core.metrics.regression.moments import appended, merged_moments, moments_of

__all__ = ["PearsonCorrelation"]


class PearsonCorrelation(Metric):
    r"""Pearson correlation between predictions :math:`P` and ground truth :math:`A`.

    .. math:: r = \frac{\operatorname{cov}(P, A)}{\max(\sigma_P\,\sigma_A,\ \epsilon)}

    with population covariance and standard deviations (divided by :math:`n`). It is exact up to rounding, however the
    data are split into batches, also for a large mean with a small spread. For constant data it is 0.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        eps: Smallest denominator, at least 0. A positive value reduces the correlation of data of a small scale.

    Raises:
        ValueError: If ``eps`` is negative; by ``update`` if the shapes differ.
        TypeError: By ``update`` if the tensors are not floats.

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
        output_transform: OutputTransform = unchanged,
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
        check_pair(self, y_pred, y)
        if y.numel():
            self.moments = appended(self.moments, moments_of(y_pred, y))

    def compute(self) -> float | Tensor:
        check_computable(self, self.moments)
        moments = merged_moments(self.moments)
        covariances = moments[:, 3:] / moments[0, 0]
        deviations = covariances.diagonal().sqrt().prod().clamp(min=self.eps)
        correlation = (covariances[0, 1] / deviations).clamp(-1, 1)
        return number(torch.where(deviations == 0, 0.0, correlation))

"""The angle between predicted and true vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable, check_floating, check_same_shape
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total

__all__ = ["CosineSimilarity"]


class CosineSimilarity(Metric):
    r"""Mean cosine of the angle between vectors, :math:`\frac1n \sum_i \frac{x_i \cdot y_i}{\|x_i\|\,\|y_i\|}`.

    ``update`` takes ``(y_pred, y)``, both of shape ``(N, *)`` with at least one dimension ``*``, which are flattened.
    The cosine with a zero vector is 0.

    Args:
        eps: Smallest length to divide by. A positive value reduces the cosine of shorter vectors.

    Raises:
        ValueError: By ``update`` if the shapes differ or are ``(N,)``.
        TypeError: By ``update`` if ``y_pred`` or ``y`` is not of floats.

    Example:
        >>> metric = CosineSimilarity()
        >>> metric.update((torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.tensor([[0.0, 3.0], [1.0, 1.0]])))
        >>> round(metric.compute(), 6)  # a right angle, and the same direction
        0.5
    """

    higher_is_better = True

    cosine_sum = total()
    num_samples = total(dtype=torch.int64)

    def __init__(
        self,
        eps: float = 0.0,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        self.eps = eps
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        y_pred, y = output
        check_same_shape(self, y_pred, y)
        if y.ndim < 2:
            raise ValueError(
                "CosineSimilarity.update: y_pred and y must have shape (N, *), one vector per sample, "
                f"got {tuple(y.shape)}"
            )
        check_floating(self, y_pred=y_pred, y=y)
        dtype = accumulation_dtype(y.device)
        first, second = (vectors.detach().flatten(start_dim=1).to(dtype) for vectors in (y_pred, y))
        lengths = first.norm(dim=1).clamp(min=self.eps) * second.norm(dim=1).clamp(min=self.eps)
        self.cosine_sum += torch.where(lengths == 0, 0.0, (first * second).sum(dim=1) / lengths).sum()
        self.num_samples += y.shape[0]

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        return ratio(self.cosine_sum, self.num_samples)

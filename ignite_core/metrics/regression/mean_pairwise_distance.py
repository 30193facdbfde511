"""The mean distance of predicted from true vectors.

Shapes: ``N`` samples, ``*`` further dimensions, ``D`` components of a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pairwise_distance

from ignite_core.metrics.core.metric import Metric, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total
from ignite_core.metrics.regression.pairs import check_seen, number_pair

__all__ = ["MeanPairwiseDistance"]


class MeanPairwiseDistance(Metric):
    r"""Mean distance of predicted from true vectors, :math:`\frac1n \sum_i \lVert \hat y_i - y_i + \epsilon \rVert_p`.

    ``update`` takes ``(y_pred, y)``, real numbers of one shape ``(N, *, D)``; each of the ``N * prod(*)`` pairs counts
    as one.

    Args:
        p: Of the norm; 1, 2 and infinity are the usual ones.
        eps: Added to each component of the difference, as in :class:`torch.nn.PairwiseDistance`.
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes disagree or have fewer than two dimensions.

    Example:
        >>> metric = MeanPairwiseDistance(eps=0.0)
        >>> metric.update((torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 2.0]])))
        >>> metric.compute()
        3.0
    """

    higher_is_better = False

    sum_of_distances = total()
    num_pairs = total(dtype=torch.int64)

    def __init__(
        self,
        p: float = 2,
        eps: float = 1e-6,
        output_transform: Callable[[Any], Any] = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        self.p = p
        self.eps = eps
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        y_pred, y = number_pair("MeanPairwiseDistance.update", output)
        if y_pred.shape != y.shape or y.ndim < 2:
            raise ValueError(
                "MeanPairwiseDistance.update: y_pred and y must have the same shape (N, *, D), "
                f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
            )
        dtype = accumulation_dtype(y.device)
        distances = pairwise_distance(y_pred.detach().to(dtype), y.detach().to(dtype), p=self.p, eps=self.eps)
        self.sum_of_distances += distances.sum()
        self.num_pairs += distances.numel()

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_pairs)
        value: float | Tensor = ratio(self.sum_of_distances, self.num_pairs)
        return value

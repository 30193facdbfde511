"""How well the order of predictions agrees with that of the ground truth.

Shapes: ``N`` samples. :math:`P` is what was predicted and :math:`A` is the ground truth.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, gathered
from ignite_core.metrics.regression.pairs import check_pair, check_seen, joined, number
from ignite_core.metrics.regression.ranks import average_ranks, dense_ranks, num_inversions, num_pairs

__all__ = ["KendallRankCorrelation", "SpearmanRankCorrelation"]


class RankCorrelation(Metric):
    """Keeps all samples until the end."""

    higher_is_better = True

    predictions = gathered()
    targets = gathered()

    def update(self, output: Any) -> None:
        y_pred, y = output
        check_pair(f"{type(self).__name__}.update", y_pred, y)
        if y.numel():
            self.predictions.append(y_pred.detach().reshape(-1).clone())
            self.targets.append(y.detach().reshape(-1).clone())

    def compute(self) -> float | Tensor:
        check_seen(self, self.predictions)
        y_pred, y = joined(self.predictions), joined(self.targets)
        is_undefined = y_pred.isnan().any() | y.isnan().any()
        correlation = self._correlation(y_pred, y).clamp(-1, 1)
        value: float | Tensor = number(torch.where(is_undefined, torch.nan, correlation))
        return value

    @abstractmethod
    def _correlation(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Of all samples, without NaN."""


class KendallRankCorrelation(RankCorrelation):
    r"""Kendall's :math:`\tau`: how many more pairs of samples have the right order than the wrong one.

    With :math:`c` pairs in the right order, :math:`d` in the wrong one, :math:`t_P` with equal predictions only,
    :math:`t_A` with equal ground truth only, and :math:`m` distinct values of that side that has fewer,

    .. math::
        \tau_b = \frac{c - d}{\sqrt{(c + d + t_P)(c + d + t_A)}} \qquad
        \tau_c = \frac{2\,(c - d)}{n^2\,(m - 1) / m}

    It is NaN if one side is constant, a single sample included, or if there is NaN among the data. All samples are kept
    until it is computed, in :math:`O(n \log n)` time and :math:`O(n)` memory.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        variant: ``"b"`` corrects for ties, ``"c"`` for sides with different numbers of distinct values (Stuart's).
        output_transform: As for :class:`Metric`.
        check_compute_fn: For code written for pytorch-ignite; there is nothing to check.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: If the variant is not known; by ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.

    References:
        Kendall, 1945, *The Treatment of Ties in Ranking Problems*, Biometrika 33, 239-251. Knight, 1966, *A Computer
        Method for Calculating Kendall's Tau with Ungrouped Data*, Journal of the American Statistical Association 61,
        436-439.

    Example:
        >>> metric = KendallRankCorrelation()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 3.0, 2.0, 4.0])))
        >>> round(metric.compute(), 9)
        0.666666667
    """

    def __init__(
        self,
        variant: Literal["b", "c"] = "b",
        output_transform: Callable[[Any], Any] = unchanged,
        check_compute_fn: bool = True,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        if variant not in ("b", "c"):
            raise ValueError(f"KendallRankCorrelation: variant must be 'b' or 'c', got {variant!r}")
        self.variant = variant
        super().__init__(output_transform, device, skip_unrolling)

    def _correlation(self, y_pred: Tensor, y: Tensor) -> Tensor:
        (rank_pred, counts_pred), (rank, counts) = dense_ranks(y_pred), dense_ranks(y)
        both, order = (rank_pred * len(counts) + rank).sort()  # by prediction, then by ground truth
        ties_pred, ties = num_pairs(counts_pred), num_pairs(counts)
        ties_both = num_pairs(dense_ranks(both)[1])
        pairs = len(y) * (len(y) - 1) // 2
        surplus = pairs - ties_pred - ties + ties_both - 2 * num_inversions(rank[order], counts)
        dtype = accumulation_dtype(y.device)
        if self.variant == "b":
            return surplus.to(dtype) / (pairs - ties_pred).to(dtype).sqrt() / (pairs - ties).to(dtype).sqrt()
        fewer = min(len(counts_pred), len(counts))
        return surplus.to(dtype) * (2 * fewer / len(y) ** 2) / (fewer - 1)


class SpearmanRankCorrelation(RankCorrelation):
    r"""Spearman's :math:`\rho`, Pearson's correlation of the ranks :math:`R`.

    .. math:: \rho = \frac{\operatorname{cov}(R_P, R_A)}{\sigma_{R_P} \sigma_{R_A}}

    Equal values share the mean of their ranks. It is NaN if one side is constant, a single sample included, or if there
    is NaN among the data. All samples are kept until it is computed, in :math:`O(n \log n)` time.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        output_transform: As for :class:`Metric`.
        check_compute_fn: For code written for pytorch-ignite; there is nothing to check.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes do not fit.
        TypeError: By ``update`` if there are no floats.

    Example:
        >>> metric = SpearmanRankCorrelation()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 30.0, 20.0, 400.0])))
        >>> round(metric.compute(), 9)
        0.8
    """

    def __init__(
        self,
        output_transform: Callable[[Any], Any] = unchanged,
        check_compute_fn: bool = True,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        super().__init__(output_transform, device, skip_unrolling)

    def _correlation(self, y_pred: Tensor, y: Tensor) -> Tensor:
        a, b = (average_ranks(side) - (len(side) + 1) / 2 for side in (y_pred, y))
        return (a * b).sum() / a.square().sum().sqrt() / b.square().sum().sqrt()

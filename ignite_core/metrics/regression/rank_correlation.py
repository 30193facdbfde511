"""Correlation between the order of predictions and that of the ground truth, by sorting and running sums."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, gathered
from ignite_core.metrics.regression.base import check_pair, concatenated, number

__all__ = ["KendallRankCorrelation", "SpearmanRankCorrelation"]


class RankCorrelation(Metric):
    """Keeps all samples until ``compute``."""

    higher_is_better = True

    predictions = gathered()
    targets = gathered()

    def update(self, output: Any) -> None:
        y_pred, y = output
        check_pair(self, y_pred, y)
        if y.numel():
            self.predictions.append(y_pred.detach().reshape(-1).clone())
            self.targets.append(y.detach().reshape(-1).clone())

    def compute(self) -> float | Tensor:
        check_computable(self, self.predictions)
        y_pred, y = concatenated(self.predictions), concatenated(self.targets)
        is_undefined = y_pred.isnan().any() | y.isnan().any()
        correlation = self._correlation(y_pred, y).clamp(-1, 1)
        return number(torch.where(is_undefined, torch.nan, correlation))

    @abstractmethod
    def _correlation(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """The correlation of all samples, if none is NaN."""


class KendallRankCorrelation(RankCorrelation):
    r"""Kendall's :math:`\tau`: the surplus of concordant over discordant pairs of samples.

    With :math:`c` concordant pairs, :math:`d` discordant pairs, :math:`t_P` pairs tied only in the predictions,
    :math:`t_A` pairs tied only in the ground truth, and :math:`m` the smaller number of distinct values of the two,

    .. math::
        \tau_b = \frac{c - d}{\sqrt{(c + d + t_P)(c + d + t_A)}} \qquad
        \tau_c = \frac{2\,(c - d)}{n^2\,(m - 1) / m}

    It is NaN if the predictions or the ground truth are constant, as with a single sample, or contain NaN. All samples
    are kept until ``compute``, which takes :math:`O(n \log n)` time and :math:`O(n)` memory.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        variant: ``"b"`` corrects for ties, ``"c"`` (Stuart's) for different numbers of distinct values.
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.

    Raises:
        ValueError: If the variant is unknown; by ``update`` if the shapes differ.
        TypeError: By ``update`` if the tensors are not floats.

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
        output_transform: OutputTransform = unchanged,
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
    r"""Spearman's :math:`\rho`, the Pearson correlation of the ranks :math:`R`.

    .. math:: \rho = \frac{\operatorname{cov}(R_P, R_A)}{\sigma_{R_P} \sigma_{R_A}}

    Equal values share the mean of their ranks. It is NaN if the predictions or the ground truth are constant, as with a
    single sample, or contain NaN. All samples are kept until ``compute``, which takes :math:`O(n \log n)` time.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.

    Args:
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.

    Example:
        >>> metric = SpearmanRankCorrelation()
        >>> metric.update((torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 30.0, 20.0, 400.0])))
        >>> round(metric.compute(), 9)
        0.8
    """

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        check_compute_fn: bool = True,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        super().__init__(output_transform, device, skip_unrolling)

    def _correlation(self, y_pred: Tensor, y: Tensor) -> Tensor:
        a, b = (average_ranks(side) - (len(side) + 1) / 2 for side in (y_pred, y))
        return (a * b).sum() / a.square().sum().sqrt() / b.square().sum().sqrt()


def dense_ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks from 0 without gaps, shared by equal values, and the number of values of each rank.

    Example:
        >>> dense_ranks(torch.tensor([7.0, 3.0, 7.0]))
        (tensor([1, 0, 1]), tensor([1, 2]))
    """
    ranks: Tensor
    counts: Tensor
    _, ranks, counts = torch.unique(values, return_inverse=True, return_counts=True)
    return ranks, counts


def average_ranks(values: Tensor) -> Tensor:
    """Ranks from 1; equal values share the mean of their ranks.

    Example:
        >>> average_ranks(torch.tensor([7.0, 3.0, 7.0]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    ranks, counts = dense_ranks(values)
    twice = 2 * counts.cumsum(0) - counts + 1
    return twice[ranks].to(accumulation_dtype(values.device)) / 2


def num_inversions(ranks: Tensor, counts: Tensor) -> Tensor:
    """Number of pairs in which the larger rank comes first, in :math:`O(N log M)` time.

    It goes bit by bit from the highest one. Ranks that agree in all higher bits are kept together and in order; among
    these, each pair of a one bit before a zero bit is an inversion.

    Args:
        ranks: Integers in ``[0, M)``, shape ``(N,)``.
        counts: Number of occurrences of each rank, shape ``(M,)``.

    Example:
        >>> num_inversions(torch.tensor([2, 0, 1, 0]), torch.tensor([2, 1, 1]))
        tensor(4)
    """
    smaller = counts.cumsum(0) - counts  # number of values below each rank
    places = torch.arange(len(ranks), device=ranks.device)
    inversions = ranks.new_zeros(())
    for bit in reversed(range((len(counts) - 1).bit_length())):
        is_one = ranks >> bit & 1
        begin = smaller[ranks >> bit + 1 << bit + 1]  # of the ranks that agree in the higher bits
        ones = is_one.cumsum(0) - is_one
        ones = ones - ones[begin]  # before each rank, among these
        inversions = inversions + (ones * (1 - is_one)).sum()
        place = smaller[ranks >> bit << bit] + torch.where(is_one == 1, ones, places - begin - ones)
        ranks = torch.empty_like(ranks).scatter_(0, place, ranks)
    return inversions


def num_pairs(counts: Tensor) -> Tensor:
    """Number of pairs within groups of the given sizes."""
    return (counts * (counts - 1) // 2).sum()

"""Ranks of values and what follows from their order, with sorting and running sums alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ignite_core.metrics.core.states import accumulation_dtype

__all__ = ["average_ranks", "dense_ranks", "num_inversions", "num_pairs"]


def dense_ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """Ranks from 0, which values that are equal share, without gaps; and how many values have each rank.

    Args:
        values: Shape ``(N,)``.

    Example:
        >>> dense_ranks(torch.tensor([7.0, 3.0, 7.0]))
        (tensor([1, 0, 1]), tensor([1, 2]))
    """
    ranks: Tensor
    counts: Tensor
    _, ranks, counts = torch.unique(values, return_inverse=True, return_counts=True)
    return ranks, counts


def average_ranks(values: Tensor) -> Tensor:
    """Ranks from 1; values that are equal share the mean of theirs.

    Args:
        values: Shape ``(N,)``.

    Example:
        >>> average_ranks(torch.tensor([7.0, 3.0, 7.0]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    ranks, counts = dense_ranks(values)
    twice = 2 * counts.cumsum(0) - counts + 1
    return twice[ranks].to(accumulation_dtype(values.device)) / 2


def num_inversions(ranks: Tensor, counts: Tensor) -> Tensor:
    """Number of pairs that stand in the wrong order, those with the larger one first.

    Bit by bit from the highest one: among those that agree in all higher bits, which are kept together and in their
    order, each one bit in front of a zero bit is such a pair. That takes :math:`O(N log M)`.

    Args:
        ranks: Whole numbers in ``[0, M)``, shape ``(N,)``.
        counts: How often each of them occurs, shape ``(M,)``.

    Example:
        >>> num_inversions(torch.tensor([2, 0, 1, 0]), torch.tensor([2, 1, 1]))
        tensor(4)
    """
    smaller = counts.cumsum(0) - counts  # how many are smaller than each rank
    places = torch.arange(len(ranks), device=ranks.device)
    inversions = ranks.new_zeros(())
    for bit in reversed(range((len(counts) - 1).bit_length())):
        is_one = ranks >> bit & 1
        begin = smaller[ranks >> bit + 1 << bit + 1]  # of those that agree in the higher bits
        ones = is_one.cumsum(0) - is_one
        ones = ones - ones[begin]  # in front of each, of these
        inversions = inversions + (ones * (1 - is_one)).sum()
        place = smaller[ranks >> bit << bit] + torch.where(is_one == 1, ones, places - begin - ones)
        ranks = torch.empty_like(ranks).scatter_(0, place, ranks)
    return inversions


def num_pairs(counts: Tensor) -> Tensor:
    """Number of pairs within groups of these sizes."""
    return (counts * (counts - 1) // 2).sum()

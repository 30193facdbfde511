r"""Means, spreads and the common spread of predictions and ground truth, joined without loss.

A sum of squares minus the square of a sum loses everything where the mean is large beside the spread. What is kept
instead of a batch is the number of samples :math:`n`, the two means :math:`m`, and the sums of squares and products
:math:`C` of the deviations from these means. They are joined by

.. math:: m = \frac{\sum_k n_k m_k}{\sum_k n_k} \qquad C = \sum_k C_k + \sum_k n_k (m_k - m) (m_k - m)^T

(Chan, Golub and LeVeque, 1983, *Algorithms for Computing the Sample Variance*, The American Statistician 37, 242-247,
for two). A mean is kept as one of the samples and the distance from it, which is not rounded as coarsely as the mean
of numbers that are far from zero. As no sum of two states does that, they are gathered, and joined to one whenever
there are many.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.states import accumulation_dtype

__all__ = ["joined_moments", "moments_of", "with_moments"]

#: So many states are joined to one: rarely enough that it costs nothing, soon enough that they take no room.
MANY = 64


@memoized
def moments_of(y_pred: Tensor, y: Tensor) -> Tensor:
    """The state after these samples alone.

    It has a row for predictions and one for ground truth, of :math:`n`, a sample, the distance of :math:`m` from that
    sample, and the row of :math:`C`.

    Args:
        y_pred: Of ``N`` elements, at least one.
        y: Likewise.

    Returns:
        Shape ``(2, 5)``, in double precision.
    """
    values = torch.stack([y_pred.detach().reshape(-1), y.detach().reshape(-1)])
    values = values.to(accumulation_dtype(values.device))
    first = values[:, :1]
    deviations = values - first  # so that those of constant data are exactly 0
    means = deviations.mean(dim=1, keepdim=True)
    deviations -= means
    count = means.new_full((2, 1), values.shape[1])
    return torch.cat([count, first, means, deviations @ deviations.T], dim=1)


def with_moments(states: list[Tensor], new: Tensor) -> list[Tensor]:
    """The states and one more; where there are many, all in one."""
    states = [*states, new]
    return states if len(states) < MANY else [joined_moments(states)]


def joined_moments(states: list[Tensor]) -> Tensor:
    """The state after all samples, where the last of them lies."""
    rows = torch.stack([state.to(states[-1].device) for state in states])
    count, firsts, products = rows[:, :1, 0], rows[:, :, 1], rows[:, :, 3:]
    shifts = firsts - firsts[0] + rows[:, :, 2]  # of the means from one and the same sample; of constant data exactly 0
    shift = (count * shifts).sum(dim=0) / count.sum()
    shifts = shifts - shift
    joined = products.sum(dim=0) + (count * shifts).T @ shifts
    return torch.cat([count.sum().expand(2, 1), torch.stack([firsts[0], shift], dim=1), joined], dim=1)

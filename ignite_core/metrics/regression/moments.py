r"""Means and covariances of predictions and ground truth, updated and merged without loss of precision.

A sum of squares minus the square of a sum cancels if the mean is large compared to the spread. The state of a batch is
therefore the number of samples :math:`n`, the two means :math:`m`, and the sums of squares and products :math:`C` of
the deviations from the means. States are merged by

.. math:: m = \frac{\sum_k n_k m_k}{\sum_k n_k} \qquad C = \sum_k C_k + \sum_k n_k (m_k - m) (m_k - m)^T

(Chan, Golub and LeVeque, 1983, *Algorithms for Computing the Sample Variance*, The American Statistician 37, 242-247,
for two states). A mean is stored as one of the samples and the distance from it, which is rounded less than the mean of
numbers far from zero. The merge is not a sum, so states are gathered, and merged into one whenever there are many.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.states import accumulation_dtype

#: Number of states that are merged into one: large enough to cost little time, small enough to need little memory.
MANY = 64


@memoized
def moments_of(y_pred: Tensor, y: Tensor) -> Tensor:
    """The state of ``N > 0`` samples.

    It has a row for predictions and one for ground truth: :math:`n`, a sample, the distance of :math:`m` from that
    sample, and the row of :math:`C`. Its shape is ``(2, 5)``, in double precision.
    """
    values = torch.stack([y_pred.detach().reshape(-1), y.detach().reshape(-1)])
    values = values.to(accumulation_dtype(values.device))
    first = values[:, :1]
    deviations = values - first  # exactly 0 for constant data
    means = deviations.mean(dim=1, keepdim=True)
    deviations -= means
    count = means.new_full((2, 1), values.shape[1])
    return torch.cat([count, first, means, deviations @ deviations.T], dim=1)


def appended(states: list[Tensor], new: Tensor) -> list[Tensor]:
    """The states with one more, merged into one if there are many."""
    states = [*states, new]
    return states if len(states) < MANY else [merged_moments(states)]


def merged_moments(states: list[Tensor]) -> Tensor:
    """The state of all samples, on the device of the last state."""
    rows = torch.stack([state.to(states[-1].device) for state in states])
    count, firsts, products = rows[:, :1, 0], rows[:, :, 1], rows[:, :, 3:]
    shifts = firsts - firsts[0] + rows[:, :, 2]  # of the means from the same sample; exactly 0 for constant data
    shift = (count * shifts).sum(dim=0) / count.sum()
    shifts = shifts - shift
    merged = products.sum(dim=0) + (count * shifts).T @ shifts
    return torch.cat([count.sum().expand(2, 1), torch.stack([firsts[0], shift], dim=1), merged], dim=1)

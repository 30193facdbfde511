"""The coefficient of determination, and a plot of predictions over ground truth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import gathered, total
from ignite_core.metrics.plotting import axes_for
from ignite_core.metrics.regression.base import check_pair, double_pair, number, squared_error
from ignite_core.metrics.regression.moments import appended, merged_moments, moments_of

__all__ = ["R2Score", "plot_regression"]


class R2Score(Metric):
    r"""Coefficient of determination, :math:`R^2 = 1 - \frac{\sum_i (A_i - P_i)^2}{\sum_i (A_i - \bar A)^2}`.

    1 is perfect, 0 is as good as predicting the mean :math:`\bar A` of the ground truth, and less is worse than that.
    It is exact up to rounding, however the data are split into batches, also for a large mean with a small spread. If
    the ground truth is constant, it is 1 if all predictions :math:`P` are exact and 0 otherwise.

    ``update`` takes ``(y_pred, y)``, floats, both of shape ``(N,)`` or both of ``(N, 1)``.
    Other shapes raise a ValueError, other dtypes a TypeError.

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
        check_pair(self, y_pred, y)
        if y.numel():
            self.sum_of_errors += squared_error(y_pred, y)
            self.moments = appended(self.moments, moments_of(y_pred, y))

    def compute(self) -> float | Tensor:
        check_computable(self, self.moments)
        spread = merged_moments(self.moments)[1, 4]
        errors = torch.as_tensor(self.sum_of_errors, dtype=spread.dtype, device=spread.device)
        if_constant = torch.where(errors.isnan(), errors, (errors == 0).to(spread.dtype))
        return number(torch.where(spread == 0, if_constant, 1 - errors / spread))


def plot_regression(y_pred: Tensor, y: Tensor, ax: Any = None, *, max_points: int = 10_000) -> Any:
    r"""Plot predictions over ground truth, with the diagonal and :math:`R^2` of all samples.

    It is a function because :class:`R2Score` keeps no samples; pass those of a validation set.

    Args:
        y_pred: Floats, shape ``(N,)`` or ``(N, 1)``.
        y: Floats, of the same shape.
        ax: The matplotlib axes to draw on. Default: new ones.
        max_points: The largest number of points drawn; of more samples, evenly spaced ones are drawn.

    Returns:
        The axes.

    Raises:
        ValueError: If the shapes differ, or there is no sample.
        TypeError: If the tensors are not floats.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    predictions, truth = double_pair("plot_regression", (y_pred, y))
    if not len(truth) or max_points < 1:
        raise ValueError(
            "plot_regression: there must be at least one sample, and one point to draw, "
            f"got {len(truth)} and {max_points}"
        )
    score = R2Score()
    score.update((predictions, truth))
    ax = axes_for("plot_regression", ax)
    drawn = torch.arange(min(len(truth), max_points)) * len(truth) // min(len(truth), max_points)
    drawn_truth, drawn_predictions = (side[drawn.to(side.device)].tolist() for side in (truth, predictions))
    ax.scatter(drawn_truth, drawn_predictions, s=8, alpha=0.5)
    ax.axline((float(truth.mean()),) * 2, slope=1, color="black", linewidth=1)
    ax.set(xlabel="Ground truth", ylabel="Prediction", title=f"R² = {float(score.compute()):.4g}")
    return ax

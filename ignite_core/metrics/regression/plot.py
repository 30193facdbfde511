"""A picture of predictions against ground truth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.plotting import axes_for
from ignite_core.metrics.regression.pairs import as_doubles
from ignite_core.metrics.regression.r2_score import R2Score

__all__ = ["plot_regression"]


def plot_regression(y_pred: Tensor, y: Tensor, ax: Any = None, *, max_points: int = 10_000) -> Any:
    r"""Draw predictions over ground truth, with the line on which they agree and :math:`R^2` of all samples.

    It is a function, as :class:`R2Score` keeps no samples; hand it those of one validation set.

    Args:
        y_pred: Floats, shape ``(N,)`` or ``(N, 1)``.
        y: Floats, of the same shape.
        ax: Where to draw, matplotlib axes; by default new ones.
        max_points: Of more samples, so many are drawn, evenly spaced.

    Returns:
        The axes.

    Raises:
        ValueError: If the shapes do not fit, or there is no sample.
        TypeError: If there are no floats.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    predictions, truth = as_doubles("plot_regression", (y_pred, y))
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

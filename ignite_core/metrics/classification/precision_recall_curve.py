"""The precision-recall curve."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.classification.ranking import RankingMetric, cumulated
from ignite_core.metrics.plotting import axes_for

__all__ = ["PrecisionRecallCurve"]


class PrecisionRecallCurve(RankingMetric):
    r"""Precision :math:`\frac{TP}{TP + FP}` and recall :math:`\frac{TP}{TP + FN}` for :math:`s \geq t` as positive.

    ``update`` takes ``(y_pred, y)``, both of shape ``(N,)`` or ``(N, 1)``: scores of any range, higher for
    positives, and labels of zeros and ones. No activation is applied.

    The value is ``(precision, recall, thresholds)``, float64 tensors on the device of the samples: the thresholds
    :math:`t`, of shape ``(K,)``, are the distinct scores in increasing order; precision and recall have shape
    ``(K + 1,)`` and end in 1 and 0, without a threshold. Without positives recall is 1 at each threshold, with a
    warning.

    Args:
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.
        validate: Check the values of each batch in ``update``, not only of the first; ``compute`` checks all.

    Raises:
        ValueError: By ``update`` if the shapes do not fit, or values of the first batch are invalid; by ``compute`` if
            those of another batch are.

    References:
        Davis and Goadrich, 2006, *International Conference on Machine Learning*, 233-240.

    Example:
        >>> metric = PrecisionRecallCurve()
        >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
        >>> precision, recall, thresholds = metric.compute()
        >>> precision
        tensor([0.5000, 0.6667, 0.5000, 1.0000, 1.0000], dtype=torch.float64)
        >>> recall
        tensor([1.0000, 1.0000, 0.5000, 0.5000, 0.0000], dtype=torch.float64)
        >>> thresholds
        tensor([0.1000, 0.3500, 0.4000, 0.8000], dtype=torch.float64)
    """

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        scores, labels = self._all_samples()
        fps, tps, thresholds = cumulated(scores, labels == 1)
        precision, recall = tps / (tps + fps), tps / tps[-1]
        if tps[-1] == 0:
            warnings.warn(
                "PrecisionRecallCurve.compute: there are no positives; recall counts as 1 at each threshold",
                stacklevel=3,
            )
            recall = torch.ones_like(tps)
        pad = torch.nn.functional.pad
        return pad(precision.flip(0), (0, 1), value=1.0), pad(recall.flip(0), (0, 1)), thresholds.flip(0)

    def plot(self, *, ax: Any = None) -> Any:
        """Plot precision over recall. It calls ``compute``, so with several ranks all of them must call it.

        Args:
            ax: The matplotlib axes to draw on. Default: new ones.

        Returns:
            The axes.

        Raises:
            NotComputableError: If there was no sample.
            ModuleNotFoundError: If matplotlib is not installed.
        """
        precision, recall, _ = self.compute()
        ax = axes_for("PrecisionRecallCurve.plot", ax)
        ax.plot(recall.cpu().tolist(), precision.cpu().tolist(), drawstyle="steps-post")
        ax.set(xlabel="Recall", ylabel="Precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        return ax

"""The receiver operating characteristic (ROC) curve and the area under it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ignite_core.metrics.classification.ranking import AreaMetric, RankingMetric, cumulated
from ignite_core.metrics.plotting import axes_for

__all__ = ["ROC_AUC", "RocCurve"]


class ROC_AUC(AreaMetric):  # noqa: N801 - the name of pytorch-ignite
    r"""Area under the ROC curve, :math:`P(s^+ > s^-) + \frac12 P(s^+ = s^-)` for scores of positives and negatives.

    ``update`` takes ``(y_pred, y)``: scores of any range, higher for positives, and labels of zeros and ones,

    - binary: both of shape ``(N,)`` or ``(N, 1)``;
    - multilabel: both of shape ``(N, C)``; the value is the mean over labels.

    No activation is applied. Equal scores count half. If the data, or one of the labels, have only one class, the area
    is undefined and the value is NaN. The value is a number; for data on an accelerator it is a tensor there.

    By default all samples are kept and the value is exact. With ``bins`` it is exact for scores rounded to bins of
    [0, 1], which are narrow near 0 and 1, and memory is constant: 16 bytes per bin. The error is at most half the
    probability that a positive and a negative are in the same bin, below 1e-3 with 1000 bins unless most scores are in
    a few of them.

    Args:
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.
        bins: Number of bins to count in instead of keeping the samples; scores must then be in [0, 1].
        validate: Check the values of each batch in ``update``, not only of the first; ``compute`` checks all.

    Raises:
        ValueError: If ``bins`` is not an integer of at least 2; by ``update`` if the shapes do not fit or have changed,
            or values of the first batch are invalid; by ``compute`` if those of another batch are.

    References:
        Hanley and McNeil, 1982, *Radiology* 143, 29-36. Fawcett, 2006, *Pattern Recognition Letters* 27, 861-874.

    Example:
        >>> y_pred, y = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])
        >>> metric = ROC_AUC()
        >>> metric.update((y_pred, y))
        >>> metric.compute()
        0.75
        >>> binned = ROC_AUC(bins=1000)
        >>> binned.update((y_pred, y))
        >>> binned.compute()
        0.75
    """

    _takes: ClassVar[str] = "both the shape (N,), (N, 1) or (N, C)"
    _takes_labels: ClassVar[bool] = True

    def _area(self, fps: Tensor, tps: Tensor) -> Tensor:
        heights = tps + _shifted(tps)
        return ((fps - _shifted(fps)) * heights).sum(-1) / (2 * fps[..., -1] * tps[..., -1])


class RocCurve(RankingMetric):
    r"""The ROC curve: the fractions of negatives and positives with a score :math:`\geq t`, for decreasing :math:`t`.

    ``update`` takes ``(y_pred, y)``, both of shape ``(N,)`` or ``(N, 1)``: scores of any range, higher for positives,
    and labels of zeros and ones. No activation is applied.

    The value is ``(fpr, tpr, thresholds)``, float64 tensors of shape ``(K,)`` on the device of the samples: from (0, 0)
    at the threshold ``inf`` to (1, 1) at the lowest score. Equal scores are one threshold; points on a straight line
    between two others are omitted. Without negatives ``fpr`` is NaN, without positives ``tpr`` is NaN.

    Args:
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.
        validate: Check the values of each batch in ``update``, not only of the first; ``compute`` checks all.

    Raises:
        ValueError: By ``update`` if the shapes do not fit, or values of the first batch are invalid; by ``compute`` if
            those of another batch are.

    References:
        Fawcett, 2006, *Pattern Recognition Letters* 27, 861-874, algorithm 1.

    Example:
        >>> metric = RocCurve()
        >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
        >>> fpr, tpr, thresholds = metric.compute()
        >>> fpr.tolist(), tpr.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
        >>> thresholds
        tensor([   inf, 0.8000, 0.4000, 0.3500, 0.1000], dtype=torch.float64)
    """

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        scores, labels = self._all_samples()
        fps, tps, thresholds = cumulated(scores, labels == 1)
        if fps.numel() > 2:
            is_corner = torch.ones_like(fps, dtype=torch.bool)
            is_corner[1:-1] = (fps.diff(n=2) != 0) | (tps.diff(n=2) != 0)
            fps, tps, thresholds = fps[is_corner], tps[is_corner], thresholds[is_corner]
        fpr, tpr = (torch.nn.functional.pad(counts, (1, 0)) / counts[-1] for counts in (fps, tps))
        if fps[-1] == 0:
            fpr = torch.full_like(fpr, torch.nan)
        if tps[-1] == 0:
            tpr = torch.full_like(tpr, torch.nan)
        return fpr, tpr, torch.nn.functional.pad(thresholds, (1, 0), value=torch.inf)

    def plot(self, *, ax: Any = None) -> Any:
        """Plot the curve. It calls ``compute``, so with several ranks all of them must call it.

        Args:
            ax: The matplotlib axes to draw on. Default: new ones.

        Returns:
            The axes.

        Raises:
            NotComputableError: If there was no sample.
            ModuleNotFoundError: If matplotlib is not installed.
        """
        fpr, tpr, _ = self.compute()
        ax = axes_for("RocCurve.plot", ax)
        ax.plot(fpr.cpu().tolist(), tpr.cpu().tolist())
        ax.set(xlabel="False positive rate", ylabel="True positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        return ax


def _shifted(counts: Tensor) -> Tensor:
    """The counts at the next higher threshold, from zero."""
    return torch.nn.functional.pad(counts[..., :-1], (1, 0))

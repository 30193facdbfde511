"""The receiver operating characteristic: its curve and the area under it.

Shapes: ``N`` samples, ``C`` labels, ``K`` points.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ignite_core.metrics.classification.ranking import AreaMetric, RankingMetric, cumulated
from ignite_core.metrics.plotting import axes_for

__all__ = ["ROC_AUC", "RocCurve"]


class ROC_AUC(AreaMetric):  # noqa: N801 - the name of pytorch-ignite
    r"""Area under the ROC curve, :math:`P(s^+ > s^-) + \frac12 P(s^+ = s^-)` for scores of positives and negatives.

    ``update`` takes ``(y_pred, y)``: scores of any range, the higher the more positive, and labels of zeros and ones,

    - binary: both of shape ``(N,)`` or ``(N, 1)``;
    - multilabel: both of shape ``(N, C)``; the value is the mean over labels.

    No activation is applied. Equal scores count half. Where only one class occurs, in all or in one of the labels, the
    area is undefined and the value NaN. The value is a number; of data on an accelerator it is a tensor there.

    By default all samples are kept and the value is exact. With ``bins`` it is exact for scores rounded to so many bins
    of [0, 1], which are narrow near 0 and 1, so what is kept does not grow: 16 bytes a bin. Then the error is at most
    half the chance that a positive and a negative lie in the same bin, below 1e-3 with 1000 bins unless the scores
    crowd into a few of them.

    Args:
        output_transform: Makes what ``update`` takes of ``engine.state.output``.
        check_compute_fn: Has no effect: what is wrong with a batch is said in any case.
        device: As for :class:`~ignite_core.metrics.Metric`.
        skip_unrolling: As for :class:`~ignite_core.metrics.Metric`.
        bins: Count into so many bins instead of keeping the samples; scores must lie in [0, 1] then.
        validate: Look at the values of each batch, not only of the first, in ``update``; ``compute`` always does.

    Raises:
        ValueError: If ``bins`` is not a whole number of at least 2; by ``update`` if shapes do not fit or have changed,
            or values of the first batch are not as above; by ``compute`` if those of another batch are not.

    References:
        Hanley and McNeil, 1982, *Radiology* 143, 29-36. Fawcett, 2006, *Pattern Recognition Letters* 27, 861-874.

    Example:
        >>> y_pred, y = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])
        >>> metric = ROC_AUC()
        >>> metric.update((y_pred, y))
        >>> metric.compute()
        0.75
        >>> in_little_memory = ROC_AUC(bins=1000)
        >>> in_little_memory.update((y_pred, y))
        >>> in_little_memory.compute()
        0.75
    """

    _takes: ClassVar[str] = "both the shape (N,), (N, 1) or (N, C)"
    _takes_labels: ClassVar[bool] = True

    def _of(self, fps: Tensor, tps: Tensor) -> Tensor:
        heights = tps + _shifted(tps)
        return ((fps - _shifted(fps)) * heights).sum(-1) / (2 * fps[..., -1] * tps[..., -1])


class RocCurve(RankingMetric):
    r"""The ROC curve: the share of negatives and that of positives with a score :math:`\geq t`, as :math:`t` falls.

    ``update`` takes ``(y_pred, y)``, both of shape ``(N,)`` or ``(N, 1)``: scores of any range, the higher the more
    positive, and labels of zeros and ones. No activation is applied.

    The value is ``(fpr, tpr, thresholds)``, three float64 tensors of shape ``(K,)`` where the samples are: from (0, 0)
    at the threshold ``inf`` to (1, 1) at the lowest score. Equal scores are one threshold; points between two others on
    a straight line are left out. Without negatives ``fpr`` is NaN, without positives ``tpr`` is.

    Args:
        output_transform: Makes what ``update`` takes of ``engine.state.output``.
        check_compute_fn: Has no effect: what is wrong with a batch is said in any case.
        device: As for :class:`~ignite_core.metrics.Metric`.
        skip_unrolling: As for :class:`~ignite_core.metrics.Metric`.
        validate: Look at the values of each batch, not only of the first, in ``update``; ``compute`` always does.

    Raises:
        ValueError: By ``update`` if shapes do not fit, or values of the first batch are not as above; by ``compute`` if
            those of another batch are not.

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
        scores, labels = self._seen()
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
        """Draw the curve. It is computed for that, so on several ranks all of them must call it.

        Args:
            ax: Where to draw, matplotlib axes; by default new ones.

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
    """What they were before, one threshold up, from zero."""
    return torch.nn.functional.pad(counts[..., :-1], (1, 0))

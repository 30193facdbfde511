"""The ROC and precision-recall curves and the areas under them."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor

from ignite_core.metrics.classification.ranking import AreaMetric, RankingMetric, cumulated
from ignite_core.metrics.plotting import axes_for

__all__ = ["ROC_AUC", "AveragePrecision", "PrecisionRecallCurve", "RocCurve"]


class AveragePrecision(AreaMetric):
    r"""Average precision, :math:`\sum_k (R_k - R_{k-1}) P_k` over the distinct scores :math:`k` in decreasing order.

    :math:`P_k` and :math:`R_k` are precision and recall if samples with a score of at least :math:`k` are predicted as
    positive; nothing is interpolated. ``update`` takes ``(y_pred, y)``, scores of any range, higher for positives, and

    - binary: both of shape ``(N,)`` or ``(N, 1)``, labels of zeros and ones;
    - multilabel: both of shape ``(N, C)``, labels of zeros and ones; the value is the mean over labels;
    - multiclass: scores of shape ``(N, C)``, ``C > 2``, and classes in [0, C) of shape ``(N,)``; the value is the mean
      over classes, each against the others.

    No activation is applied. Without positives the value is 0, also within a mean over labels or classes, with a
    warning. The value is a number; for data on an accelerator it is a tensor there.

    By default all samples are kept and the value is exact. With ``bins`` it is exact for scores rounded to bins of
    [0, 1], which are narrow near 0 and 1, and memory is constant: 16 bytes per bin. With 1000 bins the error is below
    1e-3 unless most scores are in a few bins; rare positives need more bins.

    Args:
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.
        bins: Number of bins to count in instead of keeping the samples; scores must then be in [0, 1].
        validate: Check the values of each batch in ``update``, not only of the first; ``compute`` checks all.

    Raises:
        ValueError: If ``bins`` is not an integer of at least 2; by ``update`` if the shapes do not fit or have changed,
            or values of the first batch are invalid; by ``compute`` if those of another batch are.

    References:
        Manning, Raghavan and Schütze, 2008, *Introduction to Information Retrieval*, section 8.4.

    Example:
        >>> metric = AveragePrecision()
        >>> metric.update((torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])))
        >>> metric.compute()
        0.8333333333333333
    """

    _takes: ClassVar[str] = "both the shape (N,), (N, 1) or (N, C), or (N, C) with C > 2 and (N,)"
    _takes_labels: ClassVar[bool] = True
    _takes_classes: ClassVar[bool] = True

    def _area(self, fps: Tensor, tps: Tensor) -> Tensor:
        precision = tps / (tps + fps).clamp(min=1)  # an empty bin at the top adds nothing
        recalled = tps.diff(dim=-1, prepend=tps.new_zeros(*tps.shape[:-1], 1))
        return (recalled * precision).sum(-1) / tps[..., -1]

    def _mean(self, values: Tensor) -> Tensor:
        missing = int(values.isnan().sum())
        if missing:
            what = f"{missing} of {len(values)} labels have no positives" if values.ndim else "there are no positives"
            warnings.warn(f"AveragePrecision.compute: {what}, which counts as 0", stacklevel=4)
        return values.nan_to_num(0.0).mean()


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


class CurveMetric(RankingMetric):
    """A curve that can be plotted."""

    _drawstyle: ClassVar[str] = "default"

    _axes: ClassVar[dict[str, int]]  # labels of x and y, and the index of each in the value

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
        value = self.compute()
        (xlabel, x), (ylabel, y) = self._axes.items()
        ax = axes_for(f"{type(self).__name__}.plot", ax)
        ax.plot(value[x].cpu().tolist(), value[y].cpu().tolist(), drawstyle=self._drawstyle)
        ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        return ax


class RocCurve(CurveMetric):
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

    _axes: ClassVar[dict[str, int]] = {"False positive rate": 0, "True positive rate": 1}

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


class PrecisionRecallCurve(CurveMetric):
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

    _drawstyle = "steps-post"
    _axes: ClassVar[dict[str, int]] = {"Recall": 1, "Precision": 0}

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


def _shifted(counts: Tensor) -> Tensor:
    """The counts at the next higher threshold, from zero."""
    return torch.nn.functional.pad(counts[..., :-1], (1, 0))

"""Average precision, the area under the precision-recall curve."""

from __future__ import annotations

import warnings
from typing import ClassVar

from torch import Tensor

from ignite_core.metrics.classification.ranking import AreaMetric

__all__ = ["AveragePrecision"]


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
        >>> import torch
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

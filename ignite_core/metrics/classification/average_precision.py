"""Average precision, the area under the precision-recall curve.

Shapes: ``N`` samples, ``C`` labels or classes.
"""

from __future__ import annotations

import warnings
from typing import ClassVar

from torch import Tensor

from ignite_core.metrics.classification.ranking import AreaMetric

__all__ = ["AveragePrecision"]


class AveragePrecision(AreaMetric):
    r"""Average precision, :math:`\sum_k (R_k - R_{k-1}) P_k` over the distinct scores :math:`k` in falling order.

    :math:`P_k` and :math:`R_k` are precision and recall if what has at least the score :math:`k` is called positive;
    nothing is interpolated. ``update`` takes ``(y_pred, y)``, scores of any range, the higher the more positive, and

    - binary: both of shape ``(N,)`` or ``(N, 1)``, labels of zeros and ones;
    - multilabel: both of shape ``(N, C)``, labels of zeros and ones; the value is the mean over labels;
    - multiclass: scores of shape ``(N, C)``, ``C > 2``, and classes in [0, C) of ``(N,)``; the value is the mean over
      classes, each against the others.

    No activation is applied. Without positives the value is 0, and so it counts in a mean over labels or classes; a
    warning says so. The value is a number; of data on an accelerator it is a tensor there.

    By default all samples are kept and the value is exact. With ``bins`` it is exact for scores rounded to so many bins
    of [0, 1], which are narrow near 0 and 1, so what is kept does not grow: 16 bytes a bin. With 1000 bins that is
    within 1e-3 unless the scores crowd into a few of them; rare positives need more bins.

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

    def _of(self, fps: Tensor, tps: Tensor) -> Tensor:
        precision = tps / (tps + fps).clamp(min=1)  # an empty bin at the top adds nothing
        recalled = tps.diff(dim=-1, prepend=tps.new_zeros(*tps.shape[:-1], 1))
        return (recalled * precision).sum(-1) / tps[..., -1]

    def _mean(self, values: Tensor) -> Tensor:
        missing = int(values.isnan().sum())
        if missing:
            without = (
                f"{missing} of {len(values)} labels have no positives" if values.ndim else "there are no positives"
            )
            warnings.warn(f"AveragePrecision.compute: {without}, which counts as 0", stacklevel=4)
        return values.nan_to_num(0.0).mean()

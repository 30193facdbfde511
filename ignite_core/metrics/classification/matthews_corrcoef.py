"""The correlation between predicted and true classes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ignite_core.metrics.classification.agreement import AgreementMetric
from ignite_core.metrics.core.metric import OutputTransform, unchanged

__all__ = ["MatthewsCorrCoef"]


class MatthewsCorrCoef(AgreementMetric):
    r"""Matthews correlation, :math:`\frac{cN - \sum_k p_k t_k}{\sqrt{(N^2 - \sum_k p_k^2)(N^2 - \sum_k t_k^2)}}`.

    :math:`c` samples are correct; class :math:`k` is predicted :math:`p_k` times and true :math:`t_k` times. For two
    classes it is :math:`\frac{TP \cdot TN - FP \cdot FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}}`.

    ``update`` takes ``(y_pred, y)``:

    - integer labels, both of shape ``(N,)`` or ``(N, 1)``;
    - scores of shape ``(N, C)``, of which the largest along ``C`` is the prediction, and labels of ``(N,)`` or
      ``(N, 1)``, or one-hot of ``(N, C)``.

    If all predicted or all true labels are equal, the value is 0. It is a number; for data on an accelerator it is a
    tensor there.

    Args:
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.
        num_classes: ``C`` of labels in [0, C), of which only ``2C + 3`` numbers are kept. Default: all labels are kept,
            and may be any integers.
        validate: Check the values of each batch in ``update``, not only of the first.

    Raises:
        ValueError: If ``num_classes`` is invalid; by ``update`` if the shapes do not fit, or labels of the first batch
            are not integers or outside [0, C); by ``compute`` if those of another batch are.

    References:
        Matthews, 1975, *Biochimica et Biophysica Acta* 405, 442-451. Gorodkin, 2004, *Computational Biology and
        Chemistry* 28, 367-374, for more than two classes.

    Example:
        >>> metric = MatthewsCorrCoef()
        >>> metric.update((torch.tensor([1, 1, 1, -1]), torch.tensor([1, -1, 1, 1])))
        >>> round(metric.compute(), 6)
        -0.333333
    """

    _takes: ClassVar[str] = "labels of shape (N,) or (N, 1), or scores (N, C) and labels (N,), (N, 1) or one-hot (N, C)"
    _takes_scores: ClassVar[bool] = True

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        check_compute_fn: bool = False,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        num_classes: int | None = None,
        validate: bool = False,
    ) -> None:
        super().__init__(0, num_classes, output_transform, device, skip_unrolling, validate=validate)

    def _value(self, predicted: Tensor, true: Tensor, disagreement: Tensor, labels: Tensor) -> Tensor:
        count = true.sum()
        square = count * count
        covariance = (count - disagreement) * count - (predicted * true).sum()
        variances = (square - predicted.square().sum()) * (square - true.square().sum())
        return torch.where(variances > 0, covariance / variances.clamp(min=1).sqrt(), 0.0)

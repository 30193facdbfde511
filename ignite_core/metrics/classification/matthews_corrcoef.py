"""The correlation of predicted and true classes.

Shapes: ``N`` samples, ``C`` classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from ignite_core.metrics.classification.agreement import AgreementMetric
from ignite_core.metrics.core.metric import unchanged

__all__ = ["MatthewsCorrCoef"]


class MatthewsCorrCoef(AgreementMetric):
    r"""Matthews correlation, :math:`\frac{cN - \sum_k p_k t_k}{\sqrt{(N^2 - \sum_k p_k^2)(N^2 - \sum_k t_k^2)}}`.

    :math:`c` samples are right, class :math:`k` was predicted :math:`p_k` times and true :math:`t_k` times. For two
    classes it is :math:`\frac{TP \cdot TN - FP \cdot FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}}`.

    ``update`` takes ``(y_pred, y)``:

    - labels, both of shape ``(N,)`` or ``(N, 1)``, whole numbers;
    - scores of shape ``(N, C)``, the largest along ``C`` is the prediction, and labels of ``(N,)`` or ``(N, 1)``, or
      one-hot of ``(N, C)``.

    If only one class was predicted, or only one is true, the value is 0. It is a number; of data on an accelerator it
    is a tensor there.

    Args:
        output_transform: Makes what ``update`` takes of ``engine.state.output``.
        check_compute_fn: Has no effect: what is wrong with a batch is said in any case.
        device: As for :class:`~ignite_core.metrics.Metric`.
        skip_unrolling: As for :class:`~ignite_core.metrics.Metric`.
        num_classes: ``C`` of labels in [0, C), of which only ``2C + 3`` numbers are kept; by default all labels are
            kept, which may then be any whole numbers.
        validate: Look at the values of each batch, not only of the first, in ``update``.

    Raises:
        ValueError: If ``num_classes`` is none of the above; by ``update`` if shapes do not fit, or labels of the first
            batch are not whole numbers or outside [0, C); by ``compute`` if those of another batch are outside.

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
        output_transform: Callable[[Any], Any] = unchanged,
        check_compute_fn: bool = False,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        num_classes: int | None = None,
        validate: bool = False,
    ) -> None:
        super().__init__(0, num_classes, output_transform, device, skip_unrolling, validate=validate)

    def _of(self, predicted: Tensor, true: Tensor, disagreement: Tensor, labels: Tensor) -> Tensor:
        count = true.sum()
        square = count * count
        covariance = (count - disagreement) * count - (predicted * true).sum()
        variances = (square - predicted.square().sum()) * (square - true.square().sum())
        return torch.where(variances > 0, covariance / variances.clamp(min=1).sqrt(), 0.0)

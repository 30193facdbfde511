"""A confusion matrix of each label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import check_labels, label_counts
from ignite_core.metrics.core.checks import check_computable, check_values
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, total

__all__ = ["MultiLabelConfusionMatrix"]


class MultiLabelConfusionMatrix(Metric):
    r"""A confusion matrix of each label, :math:`M_c = \begin{pmatrix} TN_c & FP_c \\ FN_c & TP_c \end{pmatrix}`.

    ``update`` takes ``(y_pred, y)``, both of shape ``(N, C, *)``, of zeros and ones. The value is a tensor of shape
    ``(C, 2, 2)``, indexed by ``[label, true, predicted]``: int64 counts or float64 rates, on the device of the data.

    Args:
        num_classes: ``C``, at least 2.
        normalized: Divide the matrix of each label by its sum.
        validate: Check the values of each batch in ``update``, not only of the first; ``compute`` checks all.

    Raises:
        ValueError: If ``num_classes`` is less than 2; by ``update`` if the shapes do not fit or values of the first
            batch are not 0 or 1; by ``compute`` if those of another batch are not.

    Example:
        >>> metric = MultiLabelConfusionMatrix(num_classes=2)
        >>> metric.update((torch.tensor([[1, 0], [1, 1], [0, 1]]), torch.tensor([[1, 1], [0, 1], [0, 1]])))
        >>> metric.compute()
        tensor([[[1, 1],
                 [0, 1]],
        <BLANKLINE>
                [[0, 0],
                 [1, 2]]])
    """

    counts = total(dtype=torch.int64)  #: correct, predicted, true, not 0 or 1: (4, C)
    num_samples = total(dtype=torch.int64)

    def __init__(
        self,
        num_classes: int,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        normalized: bool = False,
        skip_unrolling: bool = False,
        *,
        validate: bool = False,
    ) -> None:
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(
                f"MultiLabelConfusionMatrix: num_classes must be a whole number of at least 2, got {num_classes!r}"
            )
        self.num_classes = num_classes
        self.normalized = normalized
        super().__init__(output_transform, device, skip_unrolling, validate=validate)

    def update(self, output: Any) -> None:
        y_pred, y = output
        if y.ndim < 2 or y.shape[1] != self.num_classes or y_pred.shape != y.shape:
            raise ValueError(
                "MultiLabelConfusionMatrix.update: y_pred and y must both have the shape "
                f"(N, {self.num_classes}, *), got {tuple(y_pred.shape)} and {tuple(y.shape)}"
            )
        if not y.numel():
            return
        if self._should_validate():
            for name, values in (("y_pred", y_pred), ("y", y)):
                check_values(self, (values != 0) & (values != 1), f"{name} must be 0 or 1")
        self.counts += label_counts(y_pred, y, True)
        self.num_samples += y.numel() // self.num_classes

    def compute(self) -> Tensor:
        check_computable(self, self.num_samples)
        check_labels(self, self.counts)
        correct, predicted, true = self.counts[:3]
        others = self.num_samples - predicted - true + correct
        matrix = torch.stack((others, predicted - correct, true - correct, correct), dim=1).view(-1, 2, 2)
        if not self.normalized:
            return matrix
        rates: Tensor = matrix.to(accumulation_dtype(matrix.device)) / self.num_samples
        return rates

"""The fraction of samples that are classified correctly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import Task, layout_of, predicted_classes
from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import ratio, total

__all__ = ["Accuracy"]


class Accuracy(Metric):
    r"""Fraction of correct predictions, :math:`\frac1n \sum_i [\hat y_i = y_i]`.

    ``update`` takes ``(y_pred, y)``:

    - binary: both of shape ``(N, *)`` or ``y_pred`` of ``(N, 1, *)``, of zeros and ones;
    - multiclass: scores of shape ``(N, C, *)``, of which the largest along ``C`` is the prediction, and ``y`` of
      ``(N, *)``;
    - multilabel (``is_multilabel=True``): both of shape ``(N, C, *)`` with ``C > 1``, of zeros and ones; a sample is
      correct if all its labels are.

    Binary and multilabel values other than 0 and 1 are counted on their device and reported by ``compute``, so
    ``update`` does not wait for a device. Round probabilities in ``output_transform``. The value is a number; for data
    on an accelerator it is a tensor there, and only a binary or multilabel ``compute`` waits.

    Args:
        is_multilabel: Whether a sample may have several labels.

    Raises:
        ValueError: By ``update`` if the shapes do not fit or the number of classes has changed; by ``compute`` if there
            were binary or multilabel values other than 0 and 1.

    Example:
        >>> metric = Accuracy()
        >>> metric.update((torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), torch.tensor([0, 1, 1])))
        >>> metric.compute()
        0.6666666666666666
    """

    higher_is_better = True

    num_correct = total(dtype=torch.int64)
    num_samples = total(dtype=torch.int64)
    num_invalid = total(dtype=torch.int64)

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        is_multilabel: bool = False,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        self.is_multilabel = is_multilabel
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Reset all states and the number of classes."""
        super().reset()
        self._num_classes: int | None = None
        self._checked: tuple[torch.Size, torch.Size] | None = None  # the shapes that the next two follow from
        self._is_multiclass = False
        self._samples_in_batch = 0

    def update(self, output: Any) -> None:
        y_pred, y = output
        if self._checked != (y_pred.shape, y.shape):
            self._check(y_pred.shape, y.shape)
        correct = predicted_classes(y_pred) == y if self._is_multiclass else self._compare(y_pred.reshape(y.shape), y)
        self.num_correct += correct.count_nonzero()
        self.num_samples += self._samples_in_batch

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        if self.num_invalid > 0:
            raise ValueError(
                "Accuracy.compute: binary and multilabel predictions and labels must be 0 or 1, "
                f"got {int(self.num_invalid)} others; round scores in output_transform"
            )
        return ratio(self.num_correct, self.num_samples)

    def _check(self, shape: torch.Size, shape_y: torch.Size) -> None:
        """Find the task, and store what follows from the shapes: most batches have the same ones."""
        layout = layout_of("Accuracy", shape, shape_y, self.is_multilabel)
        if self._num_classes not in (None, layout.num_classes):
            raise ValueError(
                f"Accuracy.update: the number of classes has changed from {self._num_classes} to {layout.num_classes}"
            )
        self._num_classes = layout.num_classes
        self._is_multiclass = layout.task is Task.MULTICLASS
        self._samples_in_batch = layout.num_samples
        self._checked = shape, shape_y

    def _compare(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Where binary or multilabel predictions are correct; counts values other than 0 and 1."""
        for values in (y_pred, y):
            if values.dtype is not torch.bool:
                self.num_invalid += ((values != 0) & (values != 1)).sum()
        correct = y_pred == y
        return correct.all(dim=1) if self.is_multilabel else correct

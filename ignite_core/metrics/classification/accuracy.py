"""The fraction of samples whose class is predicted, or among the k most likely ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import Task, layout_of, predicted_classes
from ignite_core.metrics.core.checks import check_computable, check_values
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import ratio, total

__all__ = ["Accuracy", "TopKCategoricalAccuracy"]


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


#: Up to so many scores, sorting is faster on the CPU than counting the classes ranked higher.
_FEW = 1024


class TopKCategoricalAccuracy(Metric):
    r"""Fraction of samples whose class is among the :math:`k` classes with the largest scores.

    With :math:`r_n` classes ranked higher than the true one, it is :math:`\frac1n \sum_n [r_n < k]`. A class is ranked
    higher if its score is larger, or equal and its number smaller. So ``k=1`` equals
    :class:`~ignite_core.metrics.Accuracy`, and ties do not depend on device or batch. NaN counts as the largest score.

    ``update`` takes ``(y_pred, y)``: scores of shape ``(N, C, *)`` with :math:`C \ge k`, and classes of shape
    ``(N, *)``, integers in [0, C). Other labels are reported by ``update`` for the first batch; in later ones such a
    sample counts as wrong. The value is a number; for data on an accelerator it is a tensor there, so that the host
    does not wait.

    Args:
        k: At least 1.
        validate: Check the values of each batch in ``update``, not only of the first.

    Raises:
        ValueError: If ``k`` is not an integer of at least 1; by ``update`` if the shapes do not fit, there are fewer
            than ``k`` classes, or labels of the first batch are outside [0, C).
        TypeError: By ``update`` if labels are not integers.

    Example:
        >>> metric = TopKCategoricalAccuracy(k=2)
        >>> metric.update((torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.2, 0.7, 0.1]]), torch.tensor([1, 2, 2])))
        >>> metric.compute()
        0.6666666666666666
    """

    higher_is_better = True

    num_correct = total(dtype=torch.int64)
    num_samples = total(dtype=torch.int64)

    _checked: tuple[Any, ...] = ()  # shapes and dtype of the last batch
    _samples_in_batch = 0

    def __init__(
        self,
        k: int = 5,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        validate: bool = False,
    ) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"TopKCategoricalAccuracy: k must be a whole number of at least 1, got {k!r}")
        self.k = k
        super().__init__(output_transform, device, skip_unrolling, validate=validate)

    def update(self, output: Any) -> None:
        y_pred, y = output
        if self._checked != (y_pred.shape, y.shape, y.dtype):
            self._check(y_pred, y)
        if not self._samples_in_batch:
            return
        if self._should_validate():
            num_classes = y_pred.shape[1]
            check_values(self, (y < 0) | (y >= num_classes), f"labels must be in [0, {num_classes})")
        true = y.unsqueeze(1)
        if y_pred.is_cpu and y_pred.numel() <= _FEW:
            correct = y_pred.argsort(dim=1, descending=True, stable=True)[:, : self.k] == true
        else:
            correct = _is_in_top_k(y_pred.detach(), true.long(), self.k)
        self.num_correct += correct.count_nonzero()
        self.num_samples += self._samples_in_batch

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        return ratio(self.num_correct, self.num_samples)

    def _check(self, y_pred: Tensor, y: Tensor) -> None:
        """Check shapes and dtypes, and store them: most batches have the same ones."""
        shape = y_pred.shape
        if len(shape) < 2 or shape[1] < self.k or y.shape != shape[:1] + shape[2:]:
            raise ValueError(
                "TopKCategoricalAccuracy.update: y_pred and y must have the shapes (N, C, *) and (N, *), "
                f"C >= {self.k}, got {tuple(shape)} and {tuple(y.shape)}"
            )
        if y.is_floating_point():
            raise TypeError(f"TopKCategoricalAccuracy.update: y must be of whole numbers, the classes, got {y.dtype}")
        self._samples_in_batch = y.numel()
        self._checked = shape, y.shape, y.dtype


def _is_in_top_k(scores: Tensor, y: Tensor, k: int) -> Tensor:
    """Where fewer than ``k`` classes are ranked higher than the true one.

    Comparisons are written as float32, which is many times faster on the CPU than bool, and faster to sum.
    """
    if not scores.is_cpu or math.isnan(scores.sum().item()):  # reading the sum would wait for another device
        scores = scores.nan_to_num(torch.inf)
    num_classes = scores.shape[1]
    true = y.clamp(0, num_classes - 1)
    true_score = scores.gather(1, true)
    numbers = torch.arange(num_classes, dtype=torch.float32, device=scores.device)
    ahead, other = (torch.empty(scores.shape, dtype=torch.float32, device=scores.device) for _ in range(2))
    torch.lt(numbers.view(-1, *[1] * (scores.ndim - 2)), true.float(), out=ahead)
    ahead.mul_(torch.eq(scores, true_score, out=other)).add_(torch.gt(scores, true_score, out=other))
    return (ahead.sum(dim=1, keepdim=True) < k) & (y == true)

"""Precision and recall, which share their counts."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import (
    Layout,
    Task,
    as_zero_division,
    check_labels,
    class_counts,
    label_counts,
    layout_of,
    mean_of_defined,
    plain,
    quotient,
    sample_counts,
)
from ignite_core.metrics.core.arithmetic import divide
from ignite_core.metrics.core.checks import check_computable, check_values
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import total

__all__ = ["Precision", "PrecisionRecall", "Recall"]

_AVERAGES = ("micro", "macro", "weighted", "samples")


class PrecisionRecall(Metric):
    """Base class of :class:`Precision` and :class:`Recall`, which differ only in the divisor."""

    higher_is_better = True

    #: Number of correct predictions, predictions and true labels of each class, (3, C) if multiclass; also of values
    #: other than 0 and 1, (4, C) if multilabel, or (4,) for class 1 if binary.
    counts = total(dtype=torch.int64)
    num_samples = total(dtype=torch.int64)
    sum_of_samples = total()  #: sum of the values of samples, for average="samples"
    num_defined = total(dtype=torch.int64)  #: number of these

    _divisor: ClassVar[int]  # the row of the counts by which the first row is divided

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        average: bool | Literal["micro", "macro", "weighted", "samples"] | None = False,
        is_multilabel: bool = False,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        zero_division: Literal[0, 1, "nan"] = 0,
        validate: bool = False,
    ) -> None:
        name = type(self).__name__
        if not (average is None or isinstance(average, bool) or average in _AVERAGES):
            raise ValueError(f"{name}: average must be None, a bool or one of {', '.join(_AVERAGES)}, got {average!r}")
        if average == "samples" and not is_multilabel:
            raise ValueError(
                f"{name}: average='samples' needs is_multilabel=True, as other samples have a single label"
            )
        self.average = "macro" if average is True else average
        self.is_multilabel = is_multilabel
        self.zero_division = as_zero_division(name, zero_division)
        super().__init__(output_transform, device, skip_unrolling, validate=validate)

    def reset(self) -> None:
        """Reset all states and the number of classes."""
        super().reset()
        self._checked: tuple[Any, ...] = ()  # the shapes and dtype that the layout follows from
        self._layout: Layout

    def update(self, output: Any) -> None:
        y_pred, y = output
        if self._checked != (y_pred.shape, y.shape, y.dtype):
            self._check(y_pred, y)
        layout = self._layout
        if not layout.num_samples:
            return
        if self._should_validate():
            self._check_values(y_pred, y)
        if self.average == "samples":
            counts = sample_counts(y_pred, y)
            values = quotient(counts[0], counts[self._divisor], self.zero_division)
            self.sum_of_samples += values.nansum()
            self.num_defined += (~values.isnan()).sum()
        if layout.task is Task.MULTICLASS:
            self.counts += class_counts(y_pred, y, layout.num_classes)
        else:
            self.counts += label_counts(y_pred, y, self.is_multilabel)
        self.num_samples += layout.num_samples

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        counts = self.counts
        if len(counts) == 4:
            check_labels(self, counts)
        elif num_invalid := int(counts[1].sum() - counts[2].sum()):
            raise ValueError(
                f"{type(self).__name__}.compute: labels must be in [0, {counts.shape[1]}), "
                f"got {num_invalid} that are not"
            )
        if self.average == "samples":
            value: float | Tensor = divide(self.sum_of_samples, self.num_defined)  # NaN if none is defined
            return plain(value) if isinstance(value, Tensor) else value
        if counts.ndim == 1 and self.average is not False:
            counts = _of_both_classes(counts, self.num_samples)
        if self.average == "micro":
            counts = counts.sum(dim=1)
        values = quotient(counts[0], counts[self._divisor], self.zero_division)
        if self.average == "macro":
            values = mean_of_defined(values)
        elif self.average == "weighted":
            values = mean_of_defined(values, counts[2])
        return plain(values)

    def _check(self, y_pred: Tensor, y: Tensor) -> None:
        """Find the task, and store what follows from the shapes: most batches have the same ones."""
        name = type(self).__name__
        layout = layout_of(name, y_pred.shape, y.shape, self.is_multilabel)
        if layout.task is Task.MULTICLASS and y.is_floating_point():
            raise TypeError(f"{name}.update: y must be of whole numbers, the classes, got {y.dtype}")
        if isinstance(self.counts, Tensor):
            num_classes = self.counts.shape[1] if self.counts.ndim == 2 else 1
            if num_classes != layout.num_classes:
                raise ValueError(
                    f"{name}.update: the number of classes has changed from {num_classes} to {layout.num_classes}"
                )
        self._layout = layout
        self._checked = y_pred.shape, y.shape, y.dtype

    def _check_values(self, y_pred: Tensor, y: Tensor) -> None:
        num_classes = self._layout.num_classes
        if self._layout.task is Task.MULTICLASS:
            check_values(self, (y < 0) | (y >= num_classes), f"labels must be in [0, {num_classes})")
            return
        check_values(self, (y != 0) & (y != 1), "labels must be 0 or 1")
        check_values(
            self, (y_pred != 0) & (y_pred != 1), "predictions must be 0 or 1: round scores in output_transform"
        )


class Precision(PrecisionRecall):
    r"""Fraction of the predictions of a class that are correct, :math:`P_c = \frac{TP_c}{TP_c + FP_c}`.

    ``update`` takes ``(y_pred, y)``:

    - binary: both of shape ``(N, *)`` or ``y_pred`` of ``(N, 1, *)``, of zeros and ones;
    - multiclass: scores of shape ``(N, C, *)``, of which the largest along ``C``, the first of equal ones, is the
      prediction, and ``y`` of ``(N, *)``, integers in [0, C);
    - multilabel (``is_multilabel=True``): both of shape ``(N, C, *)`` with ``C > 1``, of zeros and ones.

    The value is a tensor of shape ``(C,)`` or a number; for data on an accelerator it is a tensor there. Counts are
    exact integers. Labels outside [0, C), and values other than 0 and 1, are reported by ``update`` for the first batch
    and by ``compute`` for all.

    Args:
        average: How the values of several classes are averaged:

            - False: they are not; for binary data the value is that of class 1;
            - None: they are not; for binary data the values are those of both classes;
            - "micro": the counts are summed first; for binary and multiclass data this is the accuracy;
            - "macro" or True: the mean :math:`\frac1C \sum_c P_c`; binary data have two classes;
            - "weighted": the mean weighted by the number of true labels of each class;
            - "samples", multilabel only: the mean over samples of the value across the labels of each sample.
        is_multilabel: Whether a sample may have several labels.
        zero_division: The value of a class that was never predicted (a sample without predicted labels): 0, 1 or
            "nan", which excludes it from the mean.
        validate: Check the values of each batch in ``update``, not only of the first.

    Raises:
        ValueError: If ``average`` or ``zero_division`` is invalid; by ``update`` if the shapes do not fit, the number
            of classes has changed or values of the first batch are invalid; by ``compute`` if others are.
        TypeError: By ``update`` if the labels of multiclass data are not integers.

    References:
        Sokolova and Lapalme, 2009, *Information Processing & Management* 45, 427-437, table 3, for the averages.

    Example:
        >>> y_pred = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.9, 0.0, 0.1]])
        >>> y = torch.tensor([0, 1, 2, 0])
        >>> precision, macro = Precision(), Precision(average="macro")
        >>> for metric in (precision, macro):
        ...     metric.update((y_pred, y))
        >>> precision.compute(), macro.compute()
        (tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64), 0.5)
    """

    _divisor = 1


class Recall(PrecisionRecall):
    r"""Fraction of the samples of a class that are predicted correctly, :math:`R_c = \frac{TP_c}{TP_c + FN_c}`.

    Input, arguments, value and errors are those of :class:`Precision`, except that ``zero_division`` is the value of a
    class that is never true (a sample without labels), and that "weighted" also equals the accuracy for binary and
    multiclass data.

    Example:
        >>> y_pred, y = torch.tensor([1, 0, 1, 0]), torch.tensor([1, 1, 1, 0])
        >>> recall, both = Recall(), Recall(average=None)
        >>> for metric in (recall, both):
        ...     metric.update((y_pred, y))
        >>> recall.compute(), both.compute()
        (0.6666666666666666, tensor([1.0000, 0.6667], dtype=torch.float64))
    """

    _divisor = 2


def _of_both_classes(counts: Tensor, num_samples: Any) -> Tensor:
    """The counts of the classes 0 and 1, from those of class 1."""
    correct, predicted, true = counts[:3]
    others = torch.stack((num_samples - predicted - true + correct, num_samples - predicted, num_samples - true))
    return torch.stack((others, counts[:3]), dim=1)

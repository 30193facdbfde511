"""Confusion matrices, of classes and of each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import check_labels, label_counts, predicted_classes, quotient
from ignite_core.metrics.core.checks import check_computable, check_values
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, total
from ignite_core.metrics.plotting import axes_for

__all__ = ["ConfusionMatrix", "MultiLabelConfusionMatrix"]


class ConfusionMatrix(Metric):
    r"""How often samples of each class are predicted as each class, :math:`M_{ij} = \sum_n [y_n = i][\hat y_n = j]`.

    Rows are true classes, columns predicted classes. ``update`` takes ``(y_pred, y)``: scores of shape ``(N, C, *)``,
    of which the largest along ``C``, the first of equal ones, is the prediction; and integer classes of shape
    ``(N, *)``. Labels outside [0, C), such as 255 or -100 for unlabelled pixels, are ignored. For one score for two
    classes, make one-hot rows in ``output_transform``.

    The value is a tensor of shape ``(C, C)``: int64 counts or float64 rates, on the device of the data.

    Args:
        num_classes: ``C``, at least 2.
        average: None for counts; "samples" divides them by ``N``, ignoring further dimensions; "recall" divides
            each row by its sum, so that the diagonal holds the recall of each class; "precision" divides each column
            by its sum. 0/0 is 0.

    Raises:
        ValueError: If ``num_classes`` or ``average`` is invalid; by ``update`` if the shapes do not fit.
        TypeError: By ``update`` if labels are not integers.

    References:
        Stehman, 1997, *Remote Sensing of Environment* 62, 77-89.

    Example:
        >>> metric = ConfusionMatrix(num_classes=3)
        >>> y_pred = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1], [0.9, 0.0, 0.1]])
        >>> metric.update((y_pred, torch.tensor([0, 1, 2, 255])))
        >>> metric.compute()
        tensor([[1, 0, 0],
                [0, 1, 0],
                [0, 1, 0]])
    """

    confusion_matrix = total(dtype=torch.int64)
    num_samples = total(dtype=torch.int64)

    def __init__(
        self,
        num_classes: int,
        average: Literal["samples", "recall", "precision"] | None = None,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = True,
    ) -> None:
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f"ConfusionMatrix: num_classes must be a whole number of at least 2, got {num_classes!r}")
        if average not in (None, "samples", "recall", "precision"):
            raise ValueError(
                f"ConfusionMatrix: average must be None, 'samples', 'recall' or 'precision', got {average!r}"
            )
        self.num_classes = num_classes
        self.average = average
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        y_pred, y = output
        shape, size = y_pred.shape, self.num_classes
        if len(shape) < 2 or shape[1] != size or y.shape != shape[:1] + shape[2:]:
            raise ValueError(
                f"ConfusionMatrix.update: y_pred and y must have the shapes (N, {size}, *) and (N, *), "
                f"got {tuple(shape)} and {tuple(y.shape)}"
            )
        if y.is_floating_point():
            raise TypeError(f"ConfusionMatrix.update: y must be of whole numbers, the classes, got {y.dtype}")
        if not y.numel():
            return
        if not isinstance(self.confusion_matrix, Tensor):
            with torch.inference_mode(False):  # an inference tensor could only be changed in inference mode
                self.confusion_matrix = torch.zeros(size, size, dtype=torch.int64, device=y_pred.device)
        predicted, y = predicted_classes(y_pred).flatten(), y.flatten().long()
        true = y.clamp(0, size - 1)
        places = torch.add(predicted, true, alpha=size)
        # in place, as a temporary matrix would cost C * C numbers per batch; ignored labels add 0
        self.confusion_matrix.view(-1).scatter_add_(0, places, (y == true).long())
        self.num_samples += shape[0]

    def compute(self) -> Tensor:
        check_computable(self, self.num_samples)
        matrix: Tensor = self.confusion_matrix
        if self.average is None:
            return matrix.clone()
        if self.average == "samples":
            rates: Tensor = matrix.to(accumulation_dtype(matrix.device)) / self.num_samples
            return rates
        return self.normalize(matrix, self.average)

    @staticmethod
    def normalize(matrix: Tensor, average: Literal["recall", "precision"]) -> Tensor:
        """Divide each row of a matrix by its sum, for "recall", or each column, for "precision"."""
        if average not in ("recall", "precision"):
            raise ValueError(f"ConfusionMatrix.normalize: average must be 'recall' or 'precision', got {average!r}")
        return quotient(matrix, matrix.sum(dim=1 if average == "recall" else 0, keepdim=True), 0.0)

    def plot(self, *, ax: Any = None, normalize: bool = False, labels: Sequence[str] | None = None) -> Any:
        """Plot the matrix with its numbers. It calls ``compute``, so with several ranks all of them must call it.

        Args:
            ax: The matplotlib axes to draw on. Default: new ones.
            normalize: Show what fraction of each true class is predicted as each class.
            labels: Names of the classes. Default: their numbers.

        Returns:
            The axes.

        Raises:
            NotComputableError: If there was no sample.
            ValueError: If the number of labels is not the number of classes.
            ModuleNotFoundError: If matplotlib is not installed.
        """
        names = [str(number) for number in range(self.num_classes)] if labels is None else list(labels)
        if len(names) != self.num_classes:
            raise ValueError(f"ConfusionMatrix.plot: there must be {self.num_classes} labels, got {len(names)}")
        matrix = self.compute().cpu()
        if normalize:
            matrix = self.normalize(matrix, "recall")
        ax = axes_for("ConfusionMatrix.plot", ax)
        ax.imshow(matrix.tolist(), cmap="Blues")
        middle = float(matrix.max()) / 2
        for true, row in enumerate(matrix.tolist()):
            for predicted, value in enumerate(row):
                text = f"{value:.2f}" if matrix.is_floating_point() else str(value)
                color = "white" if value > middle else "black"
                ax.text(predicted, true, text, ha="center", va="center", color=color)
        ax.set_xticks(range(self.num_classes), names)
        ax.set_yticks(range(self.num_classes), names)
        ax.set(xlabel="Predicted", ylabel="True")
        return ax


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

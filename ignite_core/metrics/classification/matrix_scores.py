"""Scores computed from a confusion matrix, as expressions of it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ignite_core.metrics.classification.confusion_matrix import ConfusionMatrix
from ignite_core.metrics.classification.counts import as_zero_division, mean_of_defined, plain, quotient
from ignite_core.metrics.core.composite import MetricsLambda

__all__ = ["DiceCoefficient", "IoU", "JaccardIndex", "cmAccuracy", "cmPrecision", "cmRecall", "mIoU"]


def IoU(  # noqa: N802
    cm: ConfusionMatrix, ignore_index: int | None = None, *, zero_division: Literal[0, 1, "nan"] = 0
) -> MetricsLambda:
    r"""Intersection over union of each class, :math:`\frac{M_{cc}}{\sum_i M_{ic} + \sum_j M_{cj} - M_{cc}}`.

    The value is a tensor of shape ``(C,)``, or ``(C - 1,)`` without the ignored class.

    Args:
        cm: With ``average`` None or "samples".
        ignore_index: A class to leave out, such as the background. Its samples still count where they are predicted as
            other classes; to ignore the samples, label them outside [0, C).
        zero_division: The value of a class that is neither true nor predicted: 0, 1 or "nan".

    Raises:
        TypeError: If ``cm`` is not a :class:`ConfusionMatrix`.
        ValueError: If it is normalized by class, or another argument is invalid.

    References:
        Jaccard, 1912, *New Phytologist* 11, 37-50.

    Example:
        >>> cm = ConfusionMatrix(num_classes=3)
        >>> iou = IoU(cm)
        >>> iou.update((torch.eye(3), torch.tensor([0, 1, 1])))
        >>> iou.compute()
        tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    return _score("IoU", "iou", cm, ignore_index, zero_division)


def mIoU(  # noqa: N802
    cm: ConfusionMatrix, ignore_index: int | None = None, *, zero_division: Literal[0, 1, "nan"] = 0
) -> MetricsLambda:
    """The mean of :func:`IoU` over classes, without those that are NaN.

    The arguments are those of :func:`IoU`; ``zero_division="nan"`` gives the mean over classes that are true or
    predicted.

    Example:
        >>> metric = mIoU(ConfusionMatrix(num_classes=3))
        >>> metric.update((torch.eye(3), torch.tensor([0, 1, 1])))
        >>> metric.compute()
        0.5
    """
    return _score("mIoU", "iou", cm, ignore_index, zero_division, mean=True)


def JaccardIndex(  # noqa: N802
    cm: ConfusionMatrix, ignore_index: int | None = None, *, zero_division: Literal[0, 1, "nan"] = 0
) -> MetricsLambda:
    """Another name of :func:`IoU`.

    The arguments are those of :func:`IoU`.

    Example:
        >>> metric = JaccardIndex(ConfusionMatrix(num_classes=3), ignore_index=0)
        >>> metric.update((torch.eye(3), torch.tensor([0, 1, 1])))
        >>> metric.compute()
        tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    return _score("JaccardIndex", "iou", cm, ignore_index, zero_division)


def DiceCoefficient(  # noqa: N802
    cm: ConfusionMatrix, ignore_index: int | None = None, *, zero_division: Literal[0, 1, "nan"] = 0
) -> MetricsLambda:
    r"""Dice coefficient of each class, :math:`\frac{2 M_{cc}}{\sum_i M_{ic} + \sum_j M_{cj}}`, equal to its F1.

    The arguments are those of :func:`IoU`.

    References:
        Dice, 1945, *Ecology* 26, 297-302.

    Example:
        >>> metric = DiceCoefficient(ConfusionMatrix(num_classes=3))
        >>> metric.update((torch.eye(3), torch.tensor([0, 1, 1])))
        >>> metric.compute()
        tensor([1.0000, 0.6667, 0.0000], dtype=torch.float64)
    """
    return _score("DiceCoefficient", "dice", cm, ignore_index, zero_division)


def cmAccuracy(cm: ConfusionMatrix) -> MetricsLambda:  # noqa: N802
    r"""Fraction of correct predictions, :math:`\frac{\sum_c M_{cc}}{\sum_{ij} M_{ij}}`.

    Args:
        cm: With ``average`` None or "samples".

    Example:
        >>> metric = cmAccuracy(ConfusionMatrix(num_classes=3))
        >>> metric.update((torch.eye(3), torch.tensor([0, 1, 1])))
        >>> metric.compute()
        0.6666666666666666
    """
    return _score("cmAccuracy", "accuracy", cm)


def cmPrecision(  # noqa: N802
    cm: ConfusionMatrix, average: bool = True, *, zero_division: Literal[0, 1, "nan"] = 0
) -> MetricsLambda:
    r"""Precision, :math:`\frac{M_{cc}}{\sum_i M_{ic}}`.

    Args:
        cm: With ``average`` None, "samples" or "precision".
        average: Whether to return the unweighted mean over classes, or the value of each class.
        zero_division: The value of a class that is never predicted: 0, 1 or "nan", which excludes it from the mean.

    Example:
        >>> metric = cmPrecision(ConfusionMatrix(num_classes=3), average=False)
        >>> metric.update((torch.eye(3), torch.tensor([0, 1, 1])))
        >>> metric.compute()
        tensor([1., 1., 0.], dtype=torch.float64)
    """
    return _score("cmPrecision", "precision", cm, None, zero_division, mean=average, also="precision")


def cmRecall(  # noqa: N802
    cm: ConfusionMatrix, average: bool = True, *, zero_division: Literal[0, 1, "nan"] = 0
) -> MetricsLambda:
    r"""Recall, :math:`\frac{M_{cc}}{\sum_j M_{cj}}`.

    Args:
        cm: With ``average`` None, "samples" or "recall".
        average: Whether to return the unweighted mean over classes, or the value of each class.
        zero_division: The value of a class that is never true: 0, 1 or "nan", which excludes it from the mean.

    Example:
        >>> metric = cmRecall(ConfusionMatrix(num_classes=3), average=False)
        >>> metric.update((torch.eye(3), torch.tensor([0, 1, 1])))
        >>> metric.compute()
        tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    return _score("cmRecall", "recall", cm, None, zero_division, mean=average, also="recall")


def _score(
    who: str,
    score: str,
    cm: ConfusionMatrix,
    ignore_index: int | None = None,
    zero_division: Any = 0,
    mean: bool = False,
    also: str | None = None,
) -> MetricsLambda:
    """The expression, after checking the arguments. ``also`` names an average that does not change the value."""
    if not isinstance(cm, ConfusionMatrix):
        raise TypeError(f"{who}: cm must be a ConfusionMatrix, got {type(cm).__name__}")
    if cm.average not in (None, "samples", also):
        valid = ", ".join(repr(one) for one in (None, "samples", also)[: 2 + (also is not None)])
        raise ValueError(f"{who}: the average of the ConfusionMatrix must be one of {valid}, got {cm.average!r}")
    if ignore_index is not None and not (isinstance(ignore_index, int) and 0 <= ignore_index < cm.num_classes):
        raise ValueError(f"{who}: ignore_index must be None or in [0, {cm.num_classes}), got {ignore_index!r}")
    otherwise = as_zero_division(who, zero_division)
    metric = MetricsLambda(
        score_of_matrix, cm, score=score, ignore_index=ignore_index, zero_division=otherwise, mean=mean
    )
    metric.higher_is_better = True
    return metric


def score_of_matrix(
    matrix: Tensor, *, score: str, ignore_index: int | None, zero_division: float, mean: bool
) -> float | Tensor:
    """A score of each class, or of all of them."""
    correct, true, predicted = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
    part, whole = {
        "iou": (correct, true + predicted - correct),
        "dice": (2 * correct, true + predicted),
        "accuracy": (correct.sum(), true.sum()),
        "precision": (correct, predicted),
        "recall": (correct, true),
    }[score]
    values = quotient(part, whole, zero_division)
    if ignore_index is not None:
        values = torch.cat((values[:ignore_index], values[ignore_index + 1 :]))
    return plain(mean_of_defined(values) if mean else values)

"""What metrics count in a batch, once for all that are updated in one round.

Shapes: ``N`` samples, ``C`` classes or labels, ``*`` further dimensions, ``M`` samples with those of further
dimensions among them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.states import accumulation_dtype

__all__ = [
    "as_zero_division",
    "check_labels",
    "class_counts",
    "label_counts",
    "mean_of_defined",
    "plain",
    "predicted_classes",
    "quotient",
    "sample_counts",
]

#: From so many scores on, on the CPU, max is up to four times as fast as argmax, and says the same.
_MANY = 2048

#: Up to so many samples times classes, comparing each sample with each class is the quickest way to count.
_FEW = 4096


@memoized
def predicted_classes(y_pred: Tensor) -> Tensor:
    """The class with the largest score, the first of equal ones.

    Args:
        y_pred: Shape ``(N, C, *)``.

    Returns:
        int64, shape ``(N, *)``; not to be changed.
    """
    return y_pred.max(dim=1)[1] if y_pred.is_cpu and y_pred.numel() >= _MANY else y_pred.argmax(dim=1)


@lru_cache(maxsize=16)
def _classes(num_classes: int, device: torch.device) -> Tensor:
    """The numbers of all classes; not to be changed."""
    with torch.inference_mode(False):
        return torch.arange(num_classes, device=device)


@memoized
def class_counts(y_pred: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """How often each class was rightly predicted, predicted, and true.

    Args:
        y_pred: Scores, shape ``(N, C, *)``.
        y: Classes, whole numbers, shape ``(N, *)``. Those outside ``[0, C)`` are counted nowhere, so the numbers of
            predicted and of true ones then differ.
        num_classes: ``C``.

    Returns:
        int64, shape ``(3, C)``.
    """
    predicted, true = predicted_classes(y_pred), y.long()
    if y.ndim != 1:
        predicted, true = predicted.flatten(), true.flatten()
    if true.numel() * num_classes <= _FEW:
        classes = _classes(num_classes, true.device)
        is_predicted, is_true = predicted.unsqueeze(1) == classes, true.unsqueeze(1) == classes
        return torch.stack((is_predicted & is_true, is_predicted, is_true)).sum(dim=1)
    rightly = torch.where(predicted == true, predicted, -1)
    places = torch.stack((rightly, predicted, true.clamp(-1, num_classes))).add_(1)  # the first and the last are none
    counts = torch.zeros(3, num_classes + 2, dtype=torch.int64, device=places.device)
    return counts.scatter_add_(1, places, torch.ones_like(places))[:, 1:-1]


@memoized
def label_counts(y_pred: Tensor, y: Tensor, is_multilabel: bool) -> Tensor:
    """How often each label was rightly predicted, predicted, and true, and how often a value was neither 0 nor 1.

    Args:
        y_pred: Zeros and ones; shape ``(N, C, *)`` of several labels, or as many elements as ``y`` of one.
        y: Zeros and ones; shape ``(N, C, *)`` or ``(N, *)``.
        is_multilabel: Whether there are several labels.

    Returns:
        int64, shape ``(4, C)``, or ``(4,)`` of one label.
    """
    positives = _positives(y_pred, y)
    return positives.sum(dim=(1, *range(3, positives.ndim))) if is_multilabel else positives.flatten(1).sum(dim=1)


@memoized
def sample_counts(y_pred: Tensor, y: Tensor) -> Tensor:
    """How many labels of each sample were rightly predicted, predicted, and true, and how many values were neither.

    Args:
        y_pred: Zeros and ones, shape ``(N, C, *)``.
        y: Zeros and ones, shape ``(N, C, *)``.

    Returns:
        int64, shape ``(4, M)``, as of :func:`label_counts`.
    """
    return _positives(y_pred, y).sum(dim=2).flatten(1)


def _positives(y_pred: Tensor, y: Tensor) -> Tensor:
    """Where a label was rightly predicted, predicted, true, and neither 0 nor 1; shape ``(4, *)`` of that of ``y``."""
    y_pred = y_pred.reshape(y.shape)
    predicted, true = y_pred == 1, y == 1
    return torch.stack((predicted & true, predicted, true, (y_pred != predicted) | (y != true)))


def check_labels(metric: Any, counts: Tensor) -> None:
    """Refuse to compute from values that were neither 0 nor 1, in whichever batch; of counts as :func:`label_counts`.

    Raises:
        ValueError: With their number.
    """
    invalid = int(counts[3].sum())
    if invalid:
        raise ValueError(
            f"{type(metric).__name__}.compute: predictions and labels must be 0 or 1, got {invalid} that are not; "
            "round scores in output_transform"
        )


def as_zero_division(who: str, zero_division: Any) -> float:
    """What takes the place of 0/0, as a number.

    Raises:
        ValueError: If it is none of 0, 1 and "nan".
    """
    if zero_division == "nan" or (isinstance(zero_division, float) and math.isnan(zero_division)):
        return math.nan
    if zero_division not in (0, 1):
        raise ValueError(f"{who}: zero_division must be 0, 1 or 'nan', got {zero_division!r}")
    return float(zero_division)


def quotient(part: Tensor, whole: Tensor, zero_division: float) -> Tensor:
    """Of counts, in double precision; of nothing it is ``zero_division``."""
    dtype = accumulation_dtype(whole.device)
    return torch.where(whole == 0, zero_division, part.to(dtype) / whole.to(dtype))


def mean_of_defined(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean of those that are not NaN; if none of them weighs anything, the unweighted one."""
    if weights is None:
        return values.nanmean()
    weights = torch.where(values.isnan(), 0, weights)
    mean = (values.nan_to_num() * weights).sum() / weights.sum()
    return torch.where(weights.sum() == 0, values.nanmean(), mean)


def plain(value: Tensor) -> float | Tensor:
    """A single value on the CPU as a number."""
    return value.item() if value.ndim == 0 and value.is_cpu else value

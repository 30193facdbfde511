"""Classification by ranking and by agreement: ROC_AUC, AveragePrecision, their curves, CohenKappa, MatthewsCorrCoef."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    matthews_corrcoef,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from ignite_core.metrics import ROC_AUC, AveragePrecision, CohenKappa, MatthewsCorrCoef, PrecisionRecallCurve, RocCurve
from tests.metrics.table import Row

Data = tuple[torch.Tensor, ...]


def ranked(generator: torch.Generator, count: int) -> Data:
    """Scores of any range, and labels of both classes."""
    y = torch.randint(2, (count,), generator=generator)
    y[:2] = torch.tensor([0, 1])
    return torch.randn(count, generator=generator) + y, y


def tied(generator: torch.Generator, count: int) -> Data:
    """Scores in [0, 1] of which many are equal."""
    scores, y = ranked(generator, count)
    return (scores.sigmoid() * 8).round() / 8, y


def likely(generator: torch.Generator, count: int) -> Data:
    """Scores in [0, 1], some very close to its ends."""
    scores, y = ranked(generator, count)
    return (scores * 5).sigmoid(), y


def several(generator: torch.Generator, count: int) -> Data:
    """Three labels, each of which occurs and is missing once at least."""
    y = torch.randint(2, (count, 3), generator=generator)
    y[:2] = torch.tensor([[0, 1, 0], [1, 0, 1]])
    return (torch.randn(count, 3, generator=generator) + y).sigmoid(), y


def classes(generator: torch.Generator, count: int) -> Data:
    """Probabilities of three classes, all of which occur."""
    y = torch.randint(3, (count,), generator=generator)
    y[:3] = torch.tensor([2, 0, 1])
    return (torch.randn(count, 3, generator=generator) + torch.nn.functional.one_hot(y, 3)).softmax(1), y


def graded(generator: torch.Generator, count: int) -> Data:
    """Labels of which about half agree."""
    y = torch.randint(5, (count,), generator=generator)
    other = torch.randint(5, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.5, y, other), y


def signs(generator: torch.Generator, count: int) -> Data:
    return tuple(2 * torch.randint(2, (count,), generator=generator) - 1 for _ in range(2))


def scored(generator: torch.Generator, count: int) -> Data:
    y = torch.randint(4, (count,), generator=generator)
    return torch.randn(count, 4, generator=generator) + torch.nn.functional.one_hot(y, 4), y


def scored_one_hot(generator: torch.Generator, count: int) -> Data:
    scores, y = scored(generator, count)
    return scores, torch.nn.functional.one_hot(y, 4)


def rounded(function: Callable[..., Any], bins: int) -> Callable[..., Any]:
    """A reference on the number of the bin instead of the score: log-odds divided by three, equal widths from there."""

    def reference(y_pred: torch.Tensor, y: torch.Tensor) -> Any:
        scores = y_pred.double().numpy()
        t = np.cbrt(scores) / (np.cbrt(scores) + np.cbrt(1 - scores))
        return function(y.numpy(), np.floor(t * bins).clip(0, bins - 1))

    return reference


def rising(y_pred: torch.Tensor, y: torch.Tensor) -> Any:
    return tuple(torch.tensor(values.tolist()) for values in precision_recall_curve(y, y_pred.double()))


def kappa(weights: str | None) -> Callable[..., Any]:
    return lambda y_pred, y: cohen_kappa_score(y, y_pred, weights=weights, labels=range(5))


# By hand: the positives are 0.35 and 0.8, the negatives 0.1 and 0.4. Three of the four pairs are in order.
FOUR = (torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))
# Equal scores: of the 2 x 2 pairs one is in order (0.75 over 0.25), two are ties (0.75, 0.25), one is not.
TIES = (torch.tensor([0.25, 0.25, 0.75, 0.75]), torch.tensor([0, 1, 0, 1]))
# Two bins, cut at 0.5: 0.45 is as good as 0.1 and 0.4. Pairs in order 4 of 6, ties 2.
# Precision is 2 / 2 at recall 2 / 3, then 3 / 5 at recall 1: 2 / 3 + 1 / 3 * 3 / 5 = 13 / 15.
TWO_BINS = (torch.tensor([0.1, 0.4, 0.45, 0.6, 0.9]), torch.tensor([0, 0, 1, 1, 1]))
# The first label is in perfect order, area 1 and average precision 1. Of the second, the one positive lies between the
# two negatives: area 1 / 2, average precision 1 / 2.
TWO_LABELS = (torch.tensor([[0.9, 0.5], [0.2, 0.6], [0.1, 0.4]]), torch.tensor([[1, 1], [0, 0], [0, 0]]))
# Each class has one positive. It is the highest of class 0, the second of class 1, the last of class 2.
THREE_CLASSES = (torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.2, 0.7, 0.1]]), torch.tensor([0, 1, 2]))
# Each class was predicted twice, they are true 3, 2 and 1 times. Two samples disagree, each by 1: 2 with any weights.
# By chance 6 - (2 * 3 + 2 * 2 + 2 * 1) / 6 = 4 would. From a true 0, 1, 2 to the three predictions it is 0 + 1 + 2,
# 1 + 0 + 1, 2 + 1 + 0, so linear: 2 * (3 * 3 + 2 * 2 + 1 * 3) / 6 = 16 / 3,
# and quadratic: 2 * (3 * 5 + 2 * 2 + 1 * 5) / 6 = 8.
SIX = (torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 2]))
# TP 2, FP 1, FN 1, TN 1: (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2) = 1 / 6.
FIVE = (torch.tensor([1, 1, 1, 0, 0]), torch.tensor([1, 1, 0, 1, 0]))
# One sample of each of two classes right, the third wrong: c = 2, N = 3, p = (1, 2, 0), t = (1, 1, 1):
# (2 * 3 - 3) / sqrt((9 - 5) * (9 - 3)) = 3 / sqrt(24).
SCORED = (torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 2.0, 1.0]]), torch.tensor([0, 1, 2]))

ROWS = [
    Row("ROC_AUC", ROC_AUC, ranked, lambda y_pred, y: roc_auc_score(y, y_pred), (FOUR, 3 / 4)),
    Row("ROC_AUC ties", ROC_AUC, tied, lambda y_pred, y: roc_auc_score(y, y_pred), (TIES, 1 / 2)),
    Row("ROC_AUC labels", ROC_AUC, several, lambda y_pred, y: roc_auc_score(y, y_pred), (TWO_LABELS, 3 / 4)),
    Row("ROC_AUC bins", lambda: ROC_AUC(bins=50), likely, rounded(roc_auc_score, 50), (FOUR, 3 / 4)),
    Row("ROC_AUC two bins", lambda: ROC_AUC(bins=2), likely, rounded(roc_auc_score, 2), (TWO_BINS, 5 / 6)),
    Row("ROC_AUC labels bins", lambda: ROC_AUC(bins=50), several, rounded(roc_auc_score, 50), (TWO_LABELS, 3 / 4)),
    Row(
        "RocCurve",
        RocCurve,
        ranked,
        lambda y_pred, y: roc_curve(y, y_pred),
        (FOUR, ([0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1], [torch.inf, 0.8, 0.4, 0.35, 0.1])),
    ),
    Row(
        "RocCurve ties",
        RocCurve,
        tied,
        lambda y_pred, y: roc_curve(y, y_pred),
        (TIES, ([0, 0.5, 1], [0, 0.5, 1], [torch.inf, 0.75, 0.25])),
    ),
    # Of FOUR: 1 / 1 at recall 1 / 2, 2 / 3 at recall 1.
    Row(
        "AveragePrecision",
        AveragePrecision,
        ranked,
        lambda y_pred, y: average_precision_score(y, y_pred),
        (FOUR, 5 / 6),
    ),
    Row(
        "AveragePrecision ties",
        AveragePrecision,
        tied,
        lambda y_pred, y: average_precision_score(y, y_pred),
        (TIES, 1 / 2),
    ),
    Row(
        "AveragePrecision labels",
        AveragePrecision,
        several,
        lambda y_pred, y: average_precision_score(y, y_pred),
        (TWO_LABELS, 3 / 4),
    ),
    Row(
        "AveragePrecision classes",
        AveragePrecision,
        classes,
        lambda y_pred, y: average_precision_score(y, y_pred),
        (THREE_CLASSES, (1 + 1 / 2 + 1 / 3) / 3),
    ),
    Row(
        "AveragePrecision bins",
        lambda: AveragePrecision(bins=50),
        likely,
        rounded(average_precision_score, 50),
        (FOUR, 5 / 6),
    ),
    Row(
        "AveragePrecision two bins",
        lambda: AveragePrecision(bins=2),
        likely,
        rounded(average_precision_score, 2),
        (TWO_BINS, 13 / 15),
    ),
    Row(
        "AveragePrecision labels bins",
        lambda: AveragePrecision(bins=50),
        several,
        rounded(average_precision_score, 50),
        (TWO_LABELS, 3 / 4),
    ),
    Row(
        "AveragePrecision classes bins",
        lambda: AveragePrecision(bins=50),
        classes,
        rounded(average_precision_score, 50),
        (THREE_CLASSES, (1 + 1 / 2 + 1 / 3) / 3),
    ),
    Row(
        "PrecisionRecallCurve",
        PrecisionRecallCurve,
        ranked,
        rising,
        (FOUR, ([0.5, 2 / 3, 0.5, 1, 1], [1, 1, 0.5, 0.5, 0], [0.1, 0.35, 0.4, 0.8])),
    ),
    Row(
        "PrecisionRecallCurve ties",
        PrecisionRecallCurve,
        tied,
        rising,
        (TIES, ([0.5, 0.5, 1], [1, 0.5, 0], [0.25, 0.75])),
    ),
    Row("CohenKappa", CohenKappa, graded, kappa(None), (SIX, 1 - 2 / 4)),
    Row("CohenKappa linear", lambda: CohenKappa(weights="linear"), graded, kappa("linear"), (SIX, 1 - 2 / (16 / 3))),
    Row("CohenKappa quadratic", lambda: CohenKappa(weights="quadratic"), graded, kappa("quadratic"), (SIX, 1 - 2 / 8)),
    Row("CohenKappa counted", lambda: CohenKappa(num_classes=5), graded, kappa(None), (SIX, 1 - 2 / 4)),
    Row(
        "CohenKappa counted linear",
        lambda: CohenKappa(weights="linear", num_classes=5),
        graded,
        kappa("linear"),
        (SIX, 1 - 2 / (16 / 3)),
    ),
    Row(
        "CohenKappa counted quadratic",
        lambda: CohenKappa(weights="quadratic", num_classes=5),
        graded,
        kappa("quadratic"),
        (SIX, 1 - 2 / 8),
    ),
    Row("MatthewsCorrCoef", MatthewsCorrCoef, graded, lambda y_pred, y: matthews_corrcoef(y, y_pred), (FIVE, 1 / 6)),
    Row(
        "MatthewsCorrCoef signs",
        MatthewsCorrCoef,
        signs,
        lambda y_pred, y: matthews_corrcoef(y, y_pred),
        ((2 * FIVE[0] - 1, 2 * FIVE[1] - 1), 1 / 6),
    ),
    Row(
        "MatthewsCorrCoef scores",
        MatthewsCorrCoef,
        scored,
        lambda y_pred, y: matthews_corrcoef(y, y_pred.argmax(1)),
        (SCORED, 3 / 24**0.5),
    ),
    Row(
        "MatthewsCorrCoef one-hot",
        MatthewsCorrCoef,
        scored_one_hot,
        lambda y_pred, y: matthews_corrcoef(y.argmax(1), y_pred.argmax(1)),
        ((SCORED[0], torch.eye(3).long()), 3 / 24**0.5),
    ),
    Row(
        "MatthewsCorrCoef counted",
        lambda: MatthewsCorrCoef(num_classes=5),
        graded,
        lambda y_pred, y: matthews_corrcoef(y, y_pred),
        (FIVE, 1 / 6),
    ),
    Row(
        "MatthewsCorrCoef counted scores",
        lambda: MatthewsCorrCoef(num_classes=4),
        scored,
        lambda y_pred, y: matthews_corrcoef(y, y_pred.argmax(1)),
        (SCORED, 3 / 24**0.5),
    ),
]

"""Accuracy, Loss and the averages."""

from __future__ import annotations

import torch
from sklearn.metrics import accuracy_score, log_loss

from ignite_core.metrics import Accuracy, Average, EpochMetric, GeometricAverage, Loss, MetricGroup
from tests.metrics.table import Row


def scores_and_labels(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(count, 4, generator=generator), torch.randint(4, (count,), generator=generator)


def binary(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randint(2, (count,), generator=generator) for _ in range(2))


def tags(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randint(2, (count, 3), generator=generator) for _ in range(2))


def positive(generator: torch.Generator, count: int) -> tuple[torch.Tensor, ...]:
    return (torch.rand(count, 3, generator=generator, dtype=torch.float64) + 0.1,)


def median_error(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (y_pred.double().sum(1) - y).abs().median()


THREE = (torch.eye(3), torch.tensor([0, 1, 1]))
ROWS = [
    Row(
        "Accuracy multiclass",
        Accuracy,
        scores_and_labels,
        lambda y_pred, y: accuracy_score(y, y_pred.argmax(1)),
        (THREE, 2 / 3),
    ),
    Row("Accuracy binary", Accuracy, binary, lambda y_pred, y: accuracy_score(y, y_pred), ((THREE[1], THREE[1]), 1.0)),
    Row(
        "Accuracy multilabel",
        lambda: Accuracy(is_multilabel=True),
        tags,
        lambda y_pred, y: accuracy_score(y, y_pred),
        ((torch.eye(2).long(), torch.tensor([[1, 0], [1, 1]])), 0.5),
    ),
    Row(
        "Loss",
        lambda: Loss(torch.nn.functional.cross_entropy),
        scores_and_labels,
        lambda y_pred, y: log_loss(y, y_pred.double().softmax(1), labels=range(4)),
        ((torch.zeros(2, 2), torch.tensor([0, 1])), 0.6931471805599453),
        tolerance=1e-5,
    ),
    Row("Average", Average, positive, lambda x: x.mean(0), ((torch.tensor([[1.0, 2.0], [3.0, 6.0]]),), [2.0, 4.0])),
    Row(
        "GeometricAverage",
        GeometricAverage,
        positive,
        lambda x: x.prod(0) ** (1 / len(x)),
        ((torch.tensor([[1.0, 2.0], [4.0, 8.0]]),), [2.0, 4.0]),
    ),
    Row(
        "EpochMetric",
        lambda: EpochMetric(median_error),
        scores_and_labels,
        median_error,
        ((torch.ones(3, 2), torch.tensor([0, 4, 5])), 2.0),
    ),
    Row(
        "MetricGroup",
        lambda: MetricGroup({"accuracy": Accuracy(), "error": 1 - Accuracy()}),
        scores_and_labels,
        lambda y_pred, y: {
            "accuracy": accuracy_score(y, y_pred.argmax(1)),
            "error": 1 - accuracy_score(y, y_pred.argmax(1)),
        },
        (THREE, {"accuracy": 2 / 3, "error": 1 / 3}),
    ),
]

"""One table of metrics: what they are fed, and what an independent reference says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import accuracy_score, log_loss

from ignite_core.metrics import Accuracy, Loss, Metric, gathered, maximum, minimum, total

N = 60


class Moments(Metric):
    """Every kind of state at once: sum, extremes, and all values."""

    values_sum = total()
    count = total(dtype=torch.int64)
    largest = maximum()
    smallest = minimum()
    values = gathered()

    def update(self, output: Any) -> None:
        values = output[0].detach()
        self.values_sum += values.sum()
        self.count += values.numel()
        self.largest = torch.maximum(self.largest, values.max())
        self.smallest = torch.minimum(self.smallest, values.min())
        self.values.append(values)

    def compute(self) -> float:
        if self.count == 0:
            from ignite_core.exceptions import NotComputableError

            raise NotComputableError("Moments.compute: nothing was seen")
        spread = float(self.largest) - float(self.smallest)
        return float(self.values_sum) / int(self.count) + spread + float(torch.cat(self.values).double().median())


@dataclass(frozen=True)
class Case:
    """A metric with data on which an independent reference is known."""

    name: str
    make: Callable[[], Metric]
    data: tuple[torch.Tensor, torch.Tensor]
    expected: float


def _scores(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _labels(high: int, *shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def _table() -> list[Case]:
    scores, labels = _scores(N, 5), _labels(5, N)
    pictures, targets = _scores(N, 4, 3, 2), _labels(4, N, 3, 2)
    predicted, truth = _labels(2, N), _labels(2, N, seed=3)
    tags, true_tags = _labels(2, N, 3), _labels(2, N, 3, seed=3)
    moments = scores[:, 0].double().numpy()
    return [
        Case("multiclass", Accuracy, (scores, labels), accuracy_score(labels, scores.argmax(1))),
        Case(
            "multiclass of pictures",
            Accuracy,
            (pictures, targets),
            accuracy_score(targets.flatten(), pictures.argmax(1).flatten()),
        ),
        Case("binary", Accuracy, (predicted, truth), accuracy_score(truth, predicted)),
        Case("binary (N, 1)", Accuracy, (predicted[:, None].float(), truth), accuracy_score(truth, predicted)),
        Case("multilabel", lambda: Accuracy(is_multilabel=True), (tags, true_tags), accuracy_score(true_tags, tags)),
        Case(
            "cross entropy",
            lambda: Loss(torch.nn.functional.cross_entropy),
            (scores, labels),
            log_loss(labels, scores.double().softmax(1).numpy(), labels=range(5)),
        ),
        Case(
            "every kind of state",
            Moments,
            (scores[:, 0], labels),
            float(moments.mean() + np.ptp(moments) + np.sort(moments)[(N - 1) // 2]),
        ),
    ]


CASES = _table()

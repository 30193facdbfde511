"""Metrics that are a sum or a mean of something that each sample has."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import ratio, total
from ignite_core.metrics.regression.pairs import as_doubles, check_seen, number

__all__ = ["MeanOfErrors", "SumOfErrors", "quotient"]


class SumOfErrors(Metric):
    """Sum of an error over all samples."""

    higher_is_better: bool | None = False

    sum_of_errors = total()
    num_samples = total(dtype=torch.int64)

    @abstractmethod
    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """The error of each sample; all are of shape ``(N,)`` and in double precision."""

    def update(self, output: Any) -> None:
        y_pred, y = as_doubles(f"{type(self).__name__}.update", output)
        self.sum_of_errors += self._errors(y_pred, y).sum()
        self.num_samples += y.shape[0]

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_samples)
        value: float | Tensor = number(self.sum_of_errors)
        return value


class MeanOfErrors(SumOfErrors):
    """Mean of an error over all samples."""

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_samples)
        value: float | Tensor = ratio(self.sum_of_errors, self.num_samples)
        return value


def quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Elementwise, with 0 / 0 = 0; what else is divided by 0 is infinite."""
    return numerator / denominator.masked_fill((numerator == 0) & (denominator == 0), 1)

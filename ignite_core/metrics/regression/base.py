"""Common parts of regression metrics: checked inputs, differences in float64, and base classes for sums and means."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import caller, check_computable, check_floating
from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total


class ErrorMetric(Metric):
    """Mean of an error over all samples; ``update`` adds to the two states."""

    higher_is_better: bool | None = False

    sum_of_errors = total()
    num_samples = total(dtype=torch.int64)

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        return ratio(self.sum_of_errors, self.num_samples)


class MeanOfErrors(ErrorMetric):
    """Mean of an error of each sample."""

    @abstractmethod
    def _errors(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """The errors, shape ``(N,)``, for predictions and ground truth in double precision."""

    def update(self, output: Any) -> None:
        y_pred, y = double_pair(self, output)
        self.sum_of_errors += self._errors(y_pred, y).sum()
        self.num_samples += y.shape[0]


class SumOfErrors(MeanOfErrors):
    """Sum of an error of each sample."""

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        return number(self.sum_of_errors)


def check_pair(metric: object, y_pred: Tensor, y: Tensor) -> None:
    """Check for floats, both of shape ``(N,)`` or both of shape ``(N, 1)``."""
    if y_pred.shape != y.shape or not (y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)):
        raise ValueError(
            f"{caller(metric)}: y_pred and y must both have the shape (N,) or both (N, 1), "
            f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
        )
    check_floating(metric, y_pred=y_pred, y=y)


def double_pair(metric: object, output: Any) -> tuple[Tensor, Tensor]:
    """Predictions and ground truth of shape ``(N,)`` in double precision, after :func:`check_pair`."""
    y_pred, y = output
    check_pair(metric, y_pred, y)
    dtype = accumulation_dtype(y.device)
    return y_pred.detach().reshape(-1).to(dtype), y.detach().reshape(-1).to(dtype)


def real_pair(metric: object, output: Any) -> tuple[Tensor, Tensor]:
    """Check for real numbers, both of shape ``(N, *)``; dimensions of size 1 may be missing in one of the tensors."""
    y_pred, y = output
    if y_pred.shape != y.shape or y.ndim == 0:
        squeezed, squeezed_y = ([*shape[:1], *(d for d in shape[1:] if d != 1)] for shape in (y_pred.shape, y.shape))
        if squeezed != squeezed_y or not squeezed:
            raise ValueError(
                f"{caller(metric)}: y_pred and y must have the same shape (N, *), but for dimensions of size 1, "
                f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
            )
    if y_pred.is_complex() or y.is_complex():
        name, dtype = ("y_pred", y_pred.dtype) if y_pred.is_complex() else ("y", y.dtype)
        raise TypeError(f"{caller(metric)}: {name} must be of real numbers, got {dtype}")
    return y_pred, y


def difference(y_pred: Tensor, y: Tensor) -> Tensor:
    """Ground truth minus predictions, in double precision, as single precision may overflow."""
    if y_pred.shape != y.shape:
        y_pred = y_pred.reshape(y.shape)
    dtype = accumulation_dtype(y.device)
    errors = y.to(dtype) - (y_pred if y_pred.is_floating_point() else y_pred.to(dtype))
    return errors.detach() if errors.requires_grad else errors


@memoized
def squared_error(y_pred: Tensor, y: Tensor) -> Tensor:
    """Sum of the squared differences, a scalar in double precision."""
    errors = difference(y_pred, y)
    if errors.ndim != 1:
        errors = errors.reshape(-1)
    return errors.dot(errors)


def quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Elementwise quotient, with 0 / 0 = 0."""
    return numerator / denominator.masked_fill((numerator == 0) & (denominator == 0), 1)


def concatenated(tensors: list[Tensor]) -> Tensor:
    """Gathered tensors on the device of the last one; a loaded state may be on another device."""
    return torch.cat([tensor.to(tensors[-1].device) for tensor in tensors])


def number(value: Any) -> float | Tensor:
    """A scalar as a number; on an accelerator it stays a tensor, so that the host does not wait."""
    if isinstance(value, Tensor):
        return value.item() if value.is_cpu else value
    return float(value)

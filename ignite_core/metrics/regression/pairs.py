"""Predicted and true numbers as they come, checked and brought into one form; and sums over them.

Shapes: ``N`` samples, ``*`` further dimensions. What several metrics need of one output is computed once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.states import accumulation_dtype

__all__ = [
    "absolute_error",
    "as_doubles",
    "check_pair",
    "check_seen",
    "joined",
    "number",
    "number_pair",
    "squared_error",
]


def check_pair(who: str, y_pred: Tensor, y: Tensor) -> None:
    """Refuse what is not floats, both of shape ``(N,)`` or both of ``(N, 1)``.

    Args:
        who: Begins the message.
        y_pred: Predictions.
        y: Ground truth.

    Raises:
        ValueError: If the shapes are others.
        TypeError: If they are not of floats.
    """
    if y_pred.shape != y.shape or not (y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)):
        raise ValueError(
            f"{who}: y_pred and y must both have the shape (N,) or both (N, 1), "
            f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
        )
    for name, tensor in (("y_pred", y_pred), ("y", y)):
        if not tensor.is_floating_point():
            raise TypeError(f"{who}: {name} must be of floats, got {tensor.dtype}")


def as_doubles(who: str, output: Any) -> tuple[Tensor, Tensor]:
    """Predictions and ground truth of shape ``(N,)`` in double precision, after :func:`check_pair`."""
    y_pred, y = output
    check_pair(who, y_pred, y)
    dtype = accumulation_dtype(y.device)
    return y_pred.detach().reshape(-1).to(dtype), y.detach().reshape(-1).to(dtype)


def number_pair(who: str, output: Any) -> tuple[Tensor, Tensor]:
    """Predictions and ground truth as they came.

    Args:
        who: Begins the message.
        output: Real numbers ``(y_pred, y)``, both of shape ``(N, *)``; dimensions of size 1 may be missing in one.

    Raises:
        ValueError: If the shapes are others.
        TypeError: If they are complex.
    """
    y_pred, y = output
    if y_pred.shape != y.shape or y.ndim == 0:
        squeezed, squeezed_y = ([*shape[:1], *(d for d in shape[1:] if d != 1)] for shape in (y_pred.shape, y.shape))
        if squeezed != squeezed_y or not squeezed:
            raise ValueError(
                f"{who}: y_pred and y must have the same shape (N, *), but for dimensions of size 1, "
                f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
            )
    if y_pred.is_complex() or y.is_complex():
        name, dtype = ("y_pred", y_pred.dtype) if y_pred.is_complex() else ("y", y.dtype)
        raise TypeError(f"{who}: {name} must be of real numbers, got {dtype}")
    return y_pred, y


def difference(y_pred: Tensor, y: Tensor) -> Tensor:
    """Ground truth minus predictions, of any real numbers, in double precision: in single one it may be infinite."""
    if y_pred.shape != y.shape:
        y_pred = y_pred.reshape(y.shape)
    dtype = accumulation_dtype(y.device)
    errors = y.to(dtype) - (y_pred if y_pred.is_floating_point() else y_pred.to(dtype))
    return errors.detach() if errors.requires_grad else errors


def absolute_error(y_pred: Tensor, y: Tensor) -> Tensor:
    """Sum of the absolute differences, a scalar in double precision."""
    return difference(y_pred, y).abs().sum()


@memoized
def squared_error(y_pred: Tensor, y: Tensor) -> Tensor:
    """Sum of the squared differences, a scalar in double precision."""
    errors = difference(y_pred, y)
    if errors.ndim != 1:
        errors = errors.reshape(-1)
    return errors.dot(errors)


def check_seen(metric: Any, seen: Any) -> None:
    """Refuse to compute without data.

    Raises:
        NotComputableError: If there was none.
    """
    if not seen:
        raise NotComputableError(f"{type(metric).__name__}.compute: no sample was seen; call update() first")


def joined(tensors: list[Tensor]) -> Tensor:
    """What was gathered, in order, where the last of it lies: a state that was loaded may lie elsewhere."""
    return torch.cat([tensor.to(tensors[-1].device) for tensor in tensors])


def number(value: Any) -> Any:
    """A scalar as a number; on an accelerator it stays a tensor, so that nobody waits."""
    if isinstance(value, Tensor):
        return value.item() if value.is_cpu else value
    return float(value)

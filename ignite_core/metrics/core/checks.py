"""What metrics say about wrong input."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["check_floating", "check_same_shape", "check_values"]


def check_same_shape(who: str, y_pred: Tensor, y: Tensor) -> None:
    """Refuse tensors of different shapes.

    Raises:
        ValueError: With both shapes.
    """
    if y_pred.shape != y.shape:
        raise ValueError(
            f"{who}.update: y_pred and y must have the same shape, got {tuple(y_pred.shape)} and {tuple(y.shape)}"
        )


def check_floating(who: str, **tensors: Tensor) -> None:
    """Refuse tensors that are not of real numbers with a fraction.

    Raises:
        TypeError: With the dtype.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{who}.update: {name} must be of floats, got {tensor.dtype}")


def check_values(metric: Any, wrong: Tensor, must: str) -> None:
    """Refuse values. It waits for the device, so it stands under ``if self._looks_at_values():``.

    Args:
        metric: For the message.
        wrong: True where a value is not what it must be.
        must: What must hold.

    Raises:
        ValueError: With the number of wrong values.
    """
    count = int(wrong.sum())
    if count:
        raise ValueError(f"{type(metric).__name__}.update: {must}, got {count} of {wrong.numel()} that are not")

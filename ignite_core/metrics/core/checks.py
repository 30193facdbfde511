"""Checks of the input of metrics, with uniform error messages."""

from __future__ import annotations

from torch import Tensor

from ignite_core.exceptions import NotComputableError


def check_computable(metric: object, data: object) -> None:
    """Raise NotComputableError if ``data``, a count or a list of tensors, is zero or empty."""
    if not data:
        raise NotComputableError(f"{type(metric).__name__}.compute: no sample was seen; call update() first")


def check_same_shape(metric: object, y_pred: Tensor, y: Tensor) -> None:
    """Raise ValueError if the shapes differ."""
    if y_pred.shape != y.shape:
        raise ValueError(
            f"{type(metric).__name__}.update: y_pred and y must have the same shape, "
            f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
        )


def check_floating(metric: object, **tensors: Tensor) -> None:
    """Raise TypeError if a tensor does not have a floating-point dtype. ``metric`` may be the name of a function."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{caller(metric)}: {name} must be of floats, got {tensor.dtype}")


def check_values(metric: object, wrong: Tensor, must: str) -> None:
    """Raise ValueError if an element of ``wrong`` is True. Waits for the device: call it if ``_should_validate()``."""
    count = int(wrong.sum())
    if count:
        raise ValueError(f"{type(metric).__name__}.update: {must}, got {count} of {wrong.numel()} that are not")


def caller(metric: object) -> str:
    """The beginning of an error message: a metric's ``update``, or the name of a function."""
    return metric if isinstance(metric, str) else f"{type(metric).__name__}.update"

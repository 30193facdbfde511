"""Scores of checkpoints: where they come from, and how they are converted to numbers."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ignite_core.engine.engine import Engine
from ignite_core.handlers._direction import higher_is_better

__all__ = ["as_number", "as_python_number", "get_default_score_fn"]


def get_default_score_fn(metric_name: str, score_sign: float | None = None) -> Callable[[Any], Any]:
    """A score function that reads a metric of the engine.

    Args:
        metric_name: A key of ``engine.state.metrics``.
        score_sign: 1.0, or -1.0 if smaller is better. By default ``higher_is_better`` of the metric that is attached
            under the name decides; 1.0 if there is none, as in pytorch-ignite.

    Raises:
        ValueError: If the sign is another number.

    Example:
        >>> engine = Engine(lambda engine, batch: None)
        >>> engine.state.metrics["loss"] = 0.25
        >>> get_default_score_fn("loss", -1.0)(engine)
        -0.25
    """
    if score_sign not in (None, 1.0, -1.0):
        raise ValueError(f"Checkpoint.get_default_score_fn: score_sign must be 1.0 or -1.0, got {score_sign!r}")

    def score(engine: Engine) -> Any:
        sign = score_sign or (-1.0 if higher_is_better(engine, metric_name) is False else 1.0)
        return sign * engine.state.metrics[metric_name]

    return score


def as_number(value: Any, where: str) -> Any:
    """A number as it is, or the element of a tensor with one element. None stays None.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if value is not None and not isinstance(value, numbers.Real):
        raise ValueError(f"Checkpoint: {where} must give a number, got {value!r} of type {type(value).__name__}")
    return value


def as_python_number(number: Any) -> float | None:
    """A number (of numpy, say) as an int or a float."""
    if number is None:
        return None
    return int(number) if isinstance(number, numbers.Integral) else float(number)

"""Options of the supervised steps: one checked value for each step."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Module
from torch.optim import Optimizer

__all__ = ["Device", "EvaluationOptions", "TrainingOptions"]

Device = str | torch.device | None


@dataclass(frozen=True)
class EvaluationOptions:
    """Arguments of ``create_supervised_evaluator``, where they are described."""

    model: Module
    device: Device
    non_blocking: bool
    prepare_batch: Callable[..., tuple[Any, Any]]
    model_transform: Callable[[Any], Any]
    output_transform: Callable[..., Any]
    model_fn: Callable[[Module, Any], Any]
    amp_mode: str | None = field(default=None, kw_only=True)
    amp_dtype: torch.dtype | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("prepare_batch", "model_transform", "output_transform", "model_fn"):
            self._check_callable(name)
        if self.amp_mode == "apex":
            raise ValueError(
                "supervised step: amp_mode must be 'amp' or None, got 'apex'; apex.amp is retired by its authors in "
                "favour of torch.amp: use amp_mode='amp'"
            )
        if self.amp_mode not in ("amp", None):
            raise ValueError(f"supervised step: amp_mode must be 'amp' or None, got {self.amp_mode!r}")
        if self.amp_mode is None and self.amp_dtype is not None:
            raise ValueError(
                f"supervised step: amp_dtype needs amp_mode='amp', got amp_dtype={self.amp_dtype}, amp_mode=None"
            )
        if self.amp_dtype not in (torch.float16, torch.bfloat16, None):
            raise ValueError(
                f"supervised step: amp_dtype must be torch.float16 or torch.bfloat16, got {self.amp_dtype!r}"
            )

    def _check_callable(self, name: str) -> None:
        function = getattr(self, name)
        if not callable(function):
            raise TypeError(
                f"supervised step: {name} must be callable, got {function!r} of type {type(function).__name__}"
            )

    def autocast(self) -> Callable[[], AbstractContextManager[Any]]:
        """A function that returns the context in which model and loss run."""
        if self.amp_mode is None:
            return nullcontext
        return functools.partial(torch.autocast, self._device_type(), dtype=self.amp_dtype)

    def _device_type(self) -> str:
        """The type of the device on which the model is expected to run."""
        if self.device is not None:
            return torch.device(self.device).type
        parameter = next(self.model.parameters(), None)
        return "cpu" if parameter is None else parameter.device.type


@dataclass(frozen=True)
class TrainingOptions(EvaluationOptions):
    """Arguments of ``create_supervised_trainer``, where they are described."""

    optimizer: Optimizer
    loss_fn: Callable[[Any, Any], Tensor]
    gradient_accumulation_steps: int
    clip_grad_norm: float | None
    clip_grad_value: float | None
    scaler: bool | GradScaler | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_callable("loss_fn")
        steps: Any = self.gradient_accumulation_steps
        scaler = self.scaler
        if isinstance(steps, bool) or not isinstance(steps, numbers.Integral):
            raise TypeError(f"supervised step: gradient_accumulation_steps must be an integer, got {steps!r}")
        if steps < 1:
            raise ValueError(f"supervised step: gradient_accumulation_steps must be at least 1, got {steps}")
        if scaler not in (False, None) and self.amp_mode is None:
            raise ValueError(f"supervised step: scaler needs amp_mode='amp', got scaler={scaler}, amp_mode=None")
        if scaler is not None and not isinstance(scaler, bool | GradScaler):
            raise TypeError(f"supervised step: scaler must be a torch.amp.GradScaler, got {scaler!r}")
        for name in ("clip_grad_norm", "clip_grad_value"):
            limit: Any = getattr(self, name)
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, numbers.Real)):
                raise TypeError(f"supervised step: {name} must be a number, got {limit!r}")
            if limit is not None and not limit > 0:  # type: ignore[operator]
                raise ValueError(f"supervised step: {name} must be above 0, got {limit}")
        if self.clip_grad_norm is not None and self.clip_grad_value is not None:
            raise ValueError(
                "supervised step: clip_grad_norm and clip_grad_value exclude each other, "
                f"got {self.clip_grad_norm} and {self.clip_grad_value}"
            )

    def grad_scaler(self) -> GradScaler | None:
        """The scaler; a new one for True."""
        if self.scaler is True:
            return GradScaler(self._device_type())
        return self.scaler or None

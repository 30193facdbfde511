"""Trainers and evaluators for the usual case: a model, a loss, an optimizer.

There is one training step and one evaluation step (see :mod:`ignite_core.engine.supervised.step`). What differs between
the functions below (autocast, a gradient scaler, clipping, accumulation) is data that they hand to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Module
from torch.optim import Optimizer

from ignite_core.engine.deterministic import DeterministicEngine
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.supervised.step import Device, EvaluationStep, Forward, StepEvents, TrainingStep, Update
from ignite_core.tensors import convert_tensor

__all__ = [
    "create_supervised_evaluator",
    "create_supervised_trainer",
    "supervised_evaluation_step",
    "supervised_evaluation_step_amp",
    "supervised_training_step",
    "supervised_training_step_amp",
]

#: Priority of the optimizer step that ends a cut epoch: before whatever looks at the weights.
_BEFORE_ALL_OTHERS = 1_000_000

# ---------------------------------------------------------------------------------------------- what users may replace


def _prepare_batch(batch: Any, device: Device = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """A pair is ``x, y``; a batch of another structure, as a mapping, is handed on as a whole, as both of them."""
    if not isinstance(batch, Sequence | Tensor):
        whole = convert_tensor(batch, device, non_blocking)
        return whole, whole
    if len(batch) != 2:
        raise ValueError(
            f"supervised step: a batch must be a pair (x, y), got a {type(batch).__name__} of {len(batch)}; pass "
            "prepare_batch=lambda batch, device, non_blocking: (x, y)"
        )
    x, y = batch
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)


def _unchanged(output: Any) -> Any:
    return output


def _call_model(model: Module, x: Any) -> Any:
    return model(x)


def _detached_loss(x: Any, y: Any, y_pred: Any, loss: Tensor) -> Any:
    return loss.detach()


def _prediction_and_target(x: Any, y: Any, y_pred: Any) -> Any:
    return y_pred, y


# ---------------------------------------------------------------------------------------------------- public functions


def create_supervised_trainer(
    model: Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = _prepare_batch,
    model_transform: Callable[[Any], Any] = _unchanged,
    output_transform: Callable[[Any, Any, Any, Tensor], Any] = _detached_loss,
    deterministic: bool = False,
    amp_mode: str | None = None,
    scaler: bool | GradScaler = False,
    gradient_accumulation_steps: int = 1,
    model_fn: Callable[[Module, Any], Any] = _call_model,
    *,
    amp_dtype: torch.dtype | None = None,
    clip_grad_norm: float | None = None,
    clip_grad_value: float | None = None,
) -> Engine:
    """Make an engine that trains a model: each batch ``(x, y)`` lowers ``loss_fn(model(x), y)``.

    Handlers of :class:`StepEvents` see, and may change, what happens inside a step.

    Args:
        model: On its device already, and its parameters in ``optimizer``. It is put into training mode when it is not;
            a submodule that you freeze with ``.eval()`` after that stays frozen until the model is switched as a whole,
            as an evaluator does.
        optimizer: One step is taken for each batch, or for each ``gradient_accumulation_steps`` of them.
        loss_fn: Called with ``y_pred, y``; must return a scalar tensor, the mean over the batch.
        device: Where batches are moved to; None leaves them where they are.
        non_blocking: Do not wait for copies from pinned memory.
        prepare_batch: Called as ``prepare_batch(batch, device=device, non_blocking=non_blocking)``, returns ``x, y``.
            By default a batch is such a pair, of tensors in any structure that
            :func:`~ignite_core.utils.convert_tensor` knows. One that is no sequence (a mapping, a dataclass, an object
            with ``.to()``) is moved and handed on as a whole: the model gets it as ``x`` and the loss function as
            ``y``. ``model_fn=lambda model, batch: model(**batch)`` is for models that take its entries as arguments.
        model_transform: Called with what the model returns; its result is ``y_pred``.
        output_transform: Called with ``x, y, y_pred, loss``; its result is ``engine.state.output``. By default that is
            the detached loss, a tensor on the device: no step waits for the device. ``.item()`` makes it a number.
        deterministic: Make a :class:`~ignite_core.engine.deterministic.DeterministicEngine`, else a plain engine.
        amp_mode: ``"amp"`` runs model and loss under :class:`torch.autocast`; None does not.
        scaler: True multiplies the loss by the factor of a new :class:`torch.amp.GradScaler`, which is put on
            ``engine.state.scaler`` for checkpoints; or a scaler of your own. Needs ``amp_mode="amp"``.
        gradient_accumulation_steps: Batches whose mean gradient makes one optimizer step, at least 1. Each batch counts
            alike, however many samples it has. They are counted
            from the start of each epoch, and the last step of an epoch is that of the batches left, divided by their
            true number, also where ``terminate_epoch()`` or the data cut the epoch. ``terminate()``, or leaving out
            ``EPOCH_COMPLETED``, drops what is not a whole step. DistributedDataParallel synchronises once a step.
        model_fn: Called with ``model, x`` instead of ``model(x)``.
        amp_dtype: ``torch.float16`` or ``torch.bfloat16``; by default that of autocast on the device.
        clip_grad_norm: Largest norm of all gradients of a step together, above 0.
        clip_grad_value: Largest absolute value of each gradient, above 0. Excludes ``clip_grad_norm``.

    Raises:
        TypeError: If a function is not callable, a number not a number, or ``scaler`` no scaler.
        ValueError: If a number is out of its range, or arguments exclude each other.

    Example:
        >>> model = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
        >>> x = torch.linspace(-1, 1, 8).reshape(8, 1)
        >>> state = trainer.run([(x, 3 * x + 1)], max_epochs=50)
        >>> model.weight.detach().round(decimals=2), model.bias.detach().round(decimals=2)
        (tensor([[3.]]), tensor([1.]))
    """
    context = _autocast(model, device, amp_mode, amp_dtype)
    grad_scaler = _scaler(scaler, model, device, amp_mode)
    step = TrainingStep(
        Forward(model, device, non_blocking, prepare_batch, model_transform, model_fn, context),
        Update(optimizer, grad_scaler, clip_grad_norm, clip_grad_value),
        loss_fn,
        output_transform,
        gradient_accumulation_steps,
    )
    trainer = DeterministicEngine(step) if deterministic else Engine(step)
    trainer.register_events(*StepEvents)
    if gradient_accumulation_steps > 1:
        trainer.add_event_handler(Events.EPOCH_COMPLETED(priority=_BEFORE_ALL_OTHERS), step.flush)
    if scaler is True:
        trainer.state.scaler = grad_scaler
    return trainer


def supervised_training_step(
    model: Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = _prepare_batch,
    model_transform: Callable[[Any], Any] = _unchanged,
    output_transform: Callable[[Any, Any, Any, Tensor], Any] = _detached_loss,
    gradient_accumulation_steps: int = 1,
    model_fn: Callable[[Module, Any], Any] = _call_model,
    *,
    clip_grad_norm: float | None = None,
    clip_grad_value: float | None = None,
) -> TrainingStep:
    """Make the step of :func:`create_supervised_trainer`, for an engine of your own.

    Arguments and errors are described there. Two things that a trainer has must be added if they are wanted: the
    events inside the step, and the last optimizer step of an epoch that ends before anyone could know.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> loss_fn = torch.nn.functional.mse_loss
        >>> step = supervised_training_step(model, optimizer, loss_fn, gradient_accumulation_steps=2)
        >>> trainer = Engine(step)
        >>> trainer.register_events(*StepEvents)
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED(priority=10), step.flush)
        >>> handle = trainer.add_event_handler(StepEvents.OPTIM_STEP_COMPLETED, lambda: print("optimizer step"))
        >>> state = trainer.run((torch.ones(4, 2), torch.ones(4, 1)) for _ in range(3))
        optimizer step
        optimizer step
    """
    return TrainingStep(
        Forward(model, device, non_blocking, prepare_batch, model_transform, model_fn, nullcontext),
        Update(optimizer, None, clip_grad_norm, clip_grad_value),
        loss_fn,
        output_transform,
        gradient_accumulation_steps,
    )


def supervised_training_step_amp(
    model: Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Tensor],
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = _prepare_batch,
    model_transform: Callable[[Any], Any] = _unchanged,
    output_transform: Callable[[Any, Any, Any, Tensor], Any] = _detached_loss,
    scaler: GradScaler | None = None,
    gradient_accumulation_steps: int = 1,
    model_fn: Callable[[Module, Any], Any] = _call_model,
    *,
    amp_dtype: torch.dtype | None = None,
    clip_grad_norm: float | None = None,
    clip_grad_value: float | None = None,
) -> TrainingStep:
    """Make the step of :func:`supervised_training_step` with autocast, as ``amp_mode="amp"`` does for a trainer.

    Arguments and errors are described at :func:`create_supervised_trainer`.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> def loss_fn(y_pred, y):
        ...     print(y_pred.dtype)
        ...     return torch.nn.functional.mse_loss(y_pred.float(), y)
        >>> trainer = Engine(supervised_training_step_amp(model, optimizer, loss_fn, amp_dtype=torch.bfloat16))
        >>> state = trainer.run([(torch.ones(4, 2), torch.ones(4, 1))])
        torch.bfloat16
    """
    context = _autocast(model, device, "amp", amp_dtype)
    return TrainingStep(
        Forward(model, device, non_blocking, prepare_batch, model_transform, model_fn, context),
        Update(optimizer, scaler, clip_grad_norm, clip_grad_value),
        loss_fn,
        output_transform,
        gradient_accumulation_steps,
    )


class Attachable(Protocol):
    """What an evaluator can attach to itself under a name, as a metric."""

    def attach(self, engine: Engine, name: str, /) -> Any: ...


def create_supervised_evaluator(
    model: Module,
    metrics: Mapping[str, Attachable] | None = None,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = _prepare_batch,
    model_transform: Callable[[Any], Any] = _unchanged,
    output_transform: Callable[[Any, Any, Any], Any] = _prediction_and_target,
    amp_mode: str | None = None,
    model_fn: Callable[[Module, Any], Any] = _call_model,
    *,
    amp_dtype: torch.dtype | None = None,
) -> Engine:
    """Make an engine that applies a model to each batch ``(x, y)``, without gradients.

    Args:
        model: On its device already. It is put into evaluation mode when it is not. Of a DistributedDataParallel the
            module inside is called, so that ranks may have different numbers of batches.
        metrics: Metrics by the names under which their values will be in ``engine.state.metrics``.
        device: Where batches are moved to; None leaves them where they are.
        non_blocking: Do not wait for copies from pinned memory.
        prepare_batch: Called as ``prepare_batch(batch, device=device, non_blocking=non_blocking)``, returns ``x, y``.
            By default a batch is such a pair, of tensors in any structure that
            :func:`~ignite_core.utils.convert_tensor` knows. One that is no sequence (a mapping, a dataclass, an object
            with ``.to()``) is moved and handed on as a whole: the model gets it as ``x`` and the loss function as
            ``y``. ``model_fn=lambda model, batch: model(**batch)`` is for models that take its entries as arguments.
        model_transform: Called with what the model returns; its result is ``y_pred``.
        output_transform: Called with ``x, y, y_pred``; its result is ``engine.state.output``. By default that is
            ``(y_pred, y)``, which metrics take as it is.
        amp_mode: ``"amp"`` runs the model under :class:`torch.autocast`; None does not.
        model_fn: Called with ``model, x`` instead of ``model(x)``.
        amp_dtype: ``torch.float16`` or ``torch.bfloat16``; by default that of autocast on the device.

    Raises:
        TypeError: If a function is not callable.
        ValueError: If ``amp_mode`` or ``amp_dtype`` is something else, or ``amp_dtype`` stands without ``amp_mode``.

    Example:
        >>> evaluator = create_supervised_evaluator(torch.nn.Flatten())
        >>> y_pred, y = evaluator.run([(torch.zeros(4, 2, 3), torch.ones(4))]).output
        >>> y_pred.shape, y.shape
        (torch.Size([4, 6]), torch.Size([4]))
    """
    context = _autocast(model, device, amp_mode, amp_dtype)
    forward = Forward(model, device, non_blocking, prepare_batch, model_transform, model_fn, context)
    evaluator = Engine(EvaluationStep(forward, output_transform))
    for name, metric in (metrics or {}).items():
        metric.attach(evaluator, name)
    return evaluator


def supervised_evaluation_step(
    model: Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = _prepare_batch,
    model_transform: Callable[[Any], Any] = _unchanged,
    output_transform: Callable[[Any, Any, Any], Any] = _prediction_and_target,
    model_fn: Callable[[Module, Any], Any] = _call_model,
) -> EvaluationStep:
    """Make the step of :func:`create_supervised_evaluator`, where the arguments are described.

    Example:
        >>> evaluator = Engine(supervised_evaluation_step(torch.nn.Flatten()))
        >>> evaluator.run([(torch.zeros(4, 2, 3), torch.ones(4))]).output[0].shape
        torch.Size([4, 6])
    """
    forward = Forward(model, device, non_blocking, prepare_batch, model_transform, model_fn, nullcontext)
    return EvaluationStep(forward, output_transform)


def supervised_evaluation_step_amp(
    model: Module,
    device: Device = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = _prepare_batch,
    model_transform: Callable[[Any], Any] = _unchanged,
    output_transform: Callable[[Any, Any, Any], Any] = _prediction_and_target,
    model_fn: Callable[[Module, Any], Any] = _call_model,
    *,
    amp_dtype: torch.dtype | None = None,
) -> EvaluationStep:
    """Make the step of :func:`supervised_evaluation_step` with autocast, as ``amp_mode="amp"`` does for an evaluator.

    Example:
        >>> step = supervised_evaluation_step_amp(torch.nn.Linear(3, 1), amp_dtype=torch.bfloat16)
        >>> Engine(step).run([(torch.zeros(4, 3), torch.ones(4, 1))]).output[0].dtype
        torch.bfloat16
    """
    context = _autocast(model, device, "amp", amp_dtype)
    forward = Forward(model, device, non_blocking, prepare_batch, model_transform, model_fn, context)
    return EvaluationStep(forward, output_transform)


# ------------------------------------------------------------------------------------------------- arguments and checks


def _autocast(
    model: Module, device: Device, amp_mode: str | None, dtype: torch.dtype | None
) -> Callable[[], AbstractContextManager[Any]]:
    """What makes the context in which model and loss run."""
    if amp_mode == "apex":
        raise ValueError(
            "supervised step: amp_mode must be 'amp' or None, got 'apex'; apex.amp is retired by its authors in favour "
            "of torch.amp: use amp_mode='amp'"
        )
    if amp_mode not in ("amp", None):
        raise ValueError(f"supervised step: amp_mode must be 'amp' or None, got {amp_mode!r}")
    if amp_mode is None and dtype is not None:
        raise ValueError(f"supervised step: amp_dtype needs amp_mode='amp', got amp_dtype={dtype}, amp_mode=None")
    if dtype not in (torch.float16, torch.bfloat16, None):
        raise ValueError(f"supervised step: amp_dtype must be torch.float16 or torch.bfloat16, got {dtype!r}")
    if amp_mode is None:
        return nullcontext
    return functools.partial(torch.autocast, _device_type(model, device), dtype=dtype)


def _scaler(scaler: bool | GradScaler | None, model: Module, device: Device, amp_mode: str | None) -> GradScaler | None:
    if scaler is False or scaler is None:
        return None
    if amp_mode is None:
        raise ValueError(f"supervised step: scaler needs amp_mode='amp', got scaler={scaler}, amp_mode=None")
    return GradScaler(_device_type(model, device)) if scaler is True else scaler


def _device_type(model: Module, device: Device) -> str:
    """The kind of device that the model will run on, as far as one can tell."""
    if device is not None:
        return torch.device(device).type
    parameter = next(model.parameters(), None)
    return "cpu" if parameter is None else parameter.device.type

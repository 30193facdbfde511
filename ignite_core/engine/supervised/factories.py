"""Trainers and evaluators for a model, a loss function and an optimizer.

They share one training step and one evaluation step (see :mod:`ignite_core.engine.supervised.step`), which differ by
their options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Module
from torch.optim import Optimizer

from ignite_core.engine.deterministic import DeterministicEngine
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.supervised.options import Device, EvaluationOptions, TrainingOptions
from ignite_core.engine.supervised.step import EvaluationStep, StepEvents, TrainingStep
from ignite_core.tensors import convert_tensor

__all__ = [
    "create_supervised_evaluator",
    "create_supervised_trainer",
    "supervised_evaluation_step",
    "supervised_evaluation_step_amp",
    "supervised_training_step",
    "supervised_training_step_amp",
]

#: Priority of the optimizer step that ends a cut epoch: before all handlers that read the weights.
_FIRST = 1_000_000

# --------------------------------------------------------------------------------------------------- default functions


def _prepare_batch(batch: Any, device: Device = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """Split a pair into ``x, y``; a batch of another structure, as a mapping, is both ``x`` and ``y``."""
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
    """Create an engine that trains a model on batches ``(x, y)`` with the loss ``loss_fn(model(x), y)``.

    Handlers of :class:`StepEvents` run inside a step, and may change its values.

    Args:
        model: On its device already, with its parameters in ``optimizer``. It is switched to training mode if it is in
            another one; a submodule that is frozen with ``.eval()`` afterwards stays frozen until the whole model is
            switched, as an evaluator does.
        optimizer: One step is taken for each batch, or for each ``gradient_accumulation_steps`` batches.
        loss_fn: Called with ``y_pred, y``; must return a scalar tensor, the mean over the batch.
        device: Batches are moved there; None: they are not moved.
        non_blocking: Do not wait for copies from pinned memory.
        prepare_batch: Called as ``prepare_batch(batch, device=device, non_blocking=non_blocking)``, returns ``x, y``.
            By default a batch is such a pair, of tensors in any structure that
            :func:`~ignite_core.utils.convert_tensor` supports. A batch that is not a sequence (a mapping, a dataclass,
            an object with ``.to()``) is moved and passed as a whole: to the model as ``x``, to the loss function as
            ``y``. Use ``model_fn=lambda model, batch: model(**batch)`` for models that take its entries as arguments.
        model_transform: Called with the output of the model; its result is ``y_pred``.
        output_transform: Called with ``x, y, y_pred, loss``; its result is ``engine.state.output``. By default that is
            the detached loss, a tensor on the device, so that no step waits for the device.
        deterministic: Create a :class:`~ignite_core.engine.deterministic.DeterministicEngine` instead of an
            :class:`Engine`.
        amp_mode: ``"amp"`` runs model and loss under :class:`torch.autocast`; None does not.
        scaler: True scales the loss with a new :class:`torch.amp.GradScaler`, which is ``engine.state.scaler`` for
            checkpoints; or your own scaler. Needs ``amp_mode="amp"``.
        gradient_accumulation_steps: Batches whose mean gradient makes one optimizer step, at least 1; each batch has
            the same weight, regardless of its size. They are counted from the start of each epoch. The last step of an
            epoch is that of the batches left, divided by their true number, also if ``terminate_epoch()`` or the data
            cut the epoch. After ``terminate()``, or without ``EPOCH_COMPLETED``, an incomplete step is dropped.
            DistributedDataParallel synchronises once a step.
        model_fn: Called with ``model, x`` instead of ``model(x)``.
        amp_dtype: ``torch.float16`` or ``torch.bfloat16``; default: that of autocast on the device.
        clip_grad_norm: Largest norm of all gradients of a step together, above 0.
        clip_grad_value: Largest absolute value of each gradient, above 0. Excludes ``clip_grad_norm``.

    Raises:
        TypeError: If a function is not callable, or an argument is not a number or not a scaler.
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
    common = model, device, non_blocking, prepare_batch, model_transform, output_transform, model_fn
    update = optimizer, loss_fn, gradient_accumulation_steps, clip_grad_norm, clip_grad_value
    options = TrainingOptions(*common, *update, amp_mode=amp_mode, amp_dtype=amp_dtype, scaler=scaler)
    step = TrainingStep(options)
    trainer = DeterministicEngine(step) if deterministic else Engine(step)
    trainer.register_events(*StepEvents)
    if gradient_accumulation_steps > 1:
        trainer.add_event_handler(Events.EPOCH_COMPLETED(priority=_FIRST), step.flush)
    if scaler is True:
        trainer.state.scaler = step.scaler
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
    """Create the step of :func:`create_supervised_trainer`, for a custom engine.

    Arguments and errors are described there. If needed, add to the engine what a trainer has: the events inside the
    step, and ``flush``, the last optimizer step of an epoch that ends early.

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
    common = model, device, non_blocking, prepare_batch, model_transform, output_transform, model_fn
    update = optimizer, loss_fn, gradient_accumulation_steps, clip_grad_norm, clip_grad_value
    return TrainingStep(TrainingOptions(*common, *update))


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
    """Create the step of :func:`supervised_training_step` with autocast, as ``amp_mode="amp"`` does for a trainer.

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
    common = model, device, non_blocking, prepare_batch, model_transform, output_transform, model_fn
    update = optimizer, loss_fn, gradient_accumulation_steps, clip_grad_norm, clip_grad_value
    return TrainingStep(TrainingOptions(*common, *update, amp_mode="amp", amp_dtype=amp_dtype, scaler=scaler))


class Attachable(Protocol):
    """A metric, or another object that is attached under a name."""

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
    """Create an engine that applies a model to each batch ``(x, y)``, without gradients.

    Args:
        model: On its device already. It is switched to evaluation mode if it is in another one. The module inside a
            DistributedDataParallel is called, so that ranks may have different numbers of batches.
        metrics: Metrics by the names under which their values will be in ``engine.state.metrics``.
        device: Batches are moved there; None: they are not moved.
        non_blocking: Do not wait for copies from pinned memory.
        prepare_batch: As of :func:`create_supervised_trainer`.
        model_transform: Called with the output of the model; its result is ``y_pred``.
        output_transform: Called with ``x, y, y_pred``; its result is ``engine.state.output``. By default that is
            ``(y_pred, y)``, the input of most metrics.
        amp_mode: ``"amp"`` runs the model under :class:`torch.autocast`; None does not.
        model_fn: Called with ``model, x`` instead of ``model(x)``.
        amp_dtype: ``torch.float16`` or ``torch.bfloat16``; default: that of autocast on the device.

    Raises:
        TypeError: If a function is not callable.
        ValueError: If ``amp_mode`` or ``amp_dtype`` has another value, or ``amp_dtype`` is given without ``amp_mode``.

    Example:
        >>> evaluator = create_supervised_evaluator(torch.nn.Flatten())
        >>> y_pred, y = evaluator.run([(torch.zeros(4, 2, 3), torch.ones(4))]).output
        >>> y_pred.shape, y.shape
        (torch.Size([4, 6]), torch.Size([4]))
    """
    common = model, device, non_blocking, prepare_batch, model_transform, output_transform, model_fn
    evaluator = Engine(EvaluationStep(EvaluationOptions(*common, amp_mode=amp_mode, amp_dtype=amp_dtype)))
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
    """Create the step of :func:`create_supervised_evaluator`, where the arguments are described.

    Example:
        >>> evaluator = Engine(supervised_evaluation_step(torch.nn.Flatten()))
        >>> evaluator.run([(torch.zeros(4, 2, 3), torch.ones(4))]).output[0].shape
        torch.Size([4, 6])
    """
    common = model, device, non_blocking, prepare_batch, model_transform, output_transform, model_fn
    return EvaluationStep(EvaluationOptions(*common))


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
    """Create the step of :func:`supervised_evaluation_step` with autocast, as ``amp_mode="amp"`` does for an evaluator.

    Example:
        >>> step = supervised_evaluation_step_amp(torch.nn.Linear(3, 1), amp_dtype=torch.bfloat16)
        >>> Engine(step).run([(torch.zeros(4, 3), torch.ones(4, 1))]).output[0].dtype
        torch.bfloat16
    """
    common = model, device, non_blocking, prepare_batch, model_transform, output_transform, model_fn
    return EvaluationStep(EvaluationOptions(*common, amp_mode="amp", amp_dtype=amp_dtype))

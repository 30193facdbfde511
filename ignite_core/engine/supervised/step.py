"""What happens to one batch: the step that trains a model, and the one that evaluates it.

Four things are kept apart: from a batch to predictions (:class:`Forward`), from a loss to new weights
(:class:`Update`), the batches that make one optimizer step (``_Window``), and the order of it all, with its events
(:class:`TrainingStep`).
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Module, Parameter
from torch.optim import Optimizer

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventEnum
from ignite_core.engine.supervised.gradients import average_over_ranks, find_ddp, scale_gradients, without_ddp

__all__ = ["Device", "EvaluationStep", "Forward", "Step", "StepEvents", "TrainingStep", "Update"]

Device = str | torch.device | None


class StepEvents(EventEnum):
    """The moments inside a supervised training step, in their order.

    They are fired only while a handler listens to one of them. ``engine.state.step`` is then a :class:`Step`; what a
    handler puts there is what the step goes on with.

    - ``FORWARD_STARTED``: ``x`` and ``y`` are on the device; both may be replaced.
    - ``FORWARD_COMPLETED``: ``y_pred`` is there and may be replaced. This and the next event lie inside autocast, if
      there is one.
    - ``LOSS_STARTED``: the loss is computed next, from ``y_pred`` and ``y``.
    - ``LOSS_COMPLETED``: ``loss`` is there, the mean of this batch whatever the accumulation, and may be replaced.
    - ``BACKWARD_STARTED``: the backward pass of ``loss`` is next.
    - ``BACKWARD_COMPLETED``: gradients lie in ``parameter.grad``. While they are accumulated, they are those of all
      batches so far; after the last of them they are complete, and no longer multiplied by a scaler.
    - ``OPTIM_STEP_STARTED``: gradients are complete and clipped; the last moment to change them, or to skip the step.
    - ``OPTIM_STEP_COMPLETED``: the optimizer has moved the weights (a scaler that met infinite gradients kept it from
      that). Not fired for a step that was skipped.

    The last two are fired once for each optimizer step, so not for every batch if gradients are accumulated; where an
    epoch is cut, they are fired, alone, at ``EPOCH_COMPLETED``. Filters count how often the event was fired.

    Example:
        >>> from ignite_core.engine.supervised.factories import create_supervised_trainer
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
        >>> @trainer.on(StepEvents.LOSS_COMPLETED)
        ... def punish_large_weights(engine):
        ...     engine.state.step.loss = engine.state.step.loss + 0.01 * model.weight.square().sum()
        >>> @trainer.on(StepEvents.BACKWARD_COMPLETED)
        ... def skip_what_is_not_finite(engine):
        ...     if not model.weight.grad.isfinite().all():
        ...         engine.state.step.skip_optimizer_step = True
        >>> @trainer.on(StepEvents.OPTIM_STEP_COMPLETED)
        ... def count(engine):
        ...     print("optimizer step in iteration", engine.state.iteration)
        >>> y = torch.ones(4, 1)
        >>> state = trainer.run([(torch.ones(4, 2), y), (torch.full((4, 2), torch.inf), y), (torch.zeros(4, 2), y)])
        optimizer step in iteration 1
        optimizer step in iteration 3
    """

    FORWARD_STARTED = "forward_started"
    FORWARD_COMPLETED = "forward_completed"
    LOSS_STARTED = "loss_started"
    LOSS_COMPLETED = "loss_completed"
    BACKWARD_STARTED = "backward_started"
    BACKWARD_COMPLETED = "backward_completed"
    OPTIM_STEP_STARTED = "optim_step_started"
    OPTIM_STEP_COMPLETED = "optim_step_completed"


class Step:
    """What a training step holds while it runs; with handlers of :class:`StepEvents`, ``engine.state.step``.

    Attributes:
        x: Input of the model; None in the step that ends a cut epoch.
        y: Target of the loss; None as above.
        y_pred: What the model, then ``model_transform`` made of ``x``; None before.
        loss: Loss of this batch; None before.
        skip_optimizer_step: Set it to leave out the optimizer step. If gradients are accumulated, the step that is left
            out is the one of all batches accumulated with this one.
    """

    __slots__ = ("loss", "skip_optimizer_step", "x", "y", "y_pred")

    def __init__(self, x: Any = None, y: Any = None, *, skip_optimizer_step: bool = False) -> None:
        self.x = x
        self.y = y
        self.y_pred: Any = None
        self.loss: Any = None
        self.skip_optimizer_step = skip_optimizer_step


class TrainingStep:
    """The step of a trainer, ``step(engine, batch) -> output``, made by :mod:`ignite_core.engine.supervised.factories`.

    A window is the batches that make one optimizer step: ``accumulation_steps`` of them, counted from the start of each
    epoch; fewer where the epoch or the run is known to end. Inside a window the gradients so far are part of what a
    seeded engine saves. A run that goes on there without them begins a window with the batches left of it.
    """

    def __init__(
        self,
        forward: Forward,
        update: Update,
        loss_fn: Callable[[Any, Any], Tensor],
        output_transform: Callable[[Any, Any, Any, Tensor], Any],
        accumulation_steps: int,
    ) -> None:
        _check_callables(loss_fn=loss_fn, output_transform=output_transform)
        _check_accumulation(accumulation_steps)
        self._forward = forward
        self._update = update
        self._loss_fn = loss_fn
        self._output_transform = output_transform
        self._accumulation_steps = accumulation_steps
        self._ddp = find_ddp(forward.model)
        self._window = _CLOSED

    def __call__(self, engine: Engine, batch: Any) -> Any:
        """Train on one batch; what ``output_transform`` makes of it is the output."""
        window, is_last = self._enter_window(engine)
        forward, update = self._forward, self._update
        forward.set_training(True)
        x, y = forward.prepare(batch)
        step = Step(x, y, skip_optimizer_step=window.skip)
        with _audience(engine, step) as fire:
            with self._synced(is_last):
                with forward.autocast():
                    fire(StepEvents.FORWARD_STARTED)
                    step.y_pred = forward.predict(forward.model, step.x)
                    fire(StepEvents.FORWARD_COMPLETED)
                    fire(StepEvents.LOSS_STARTED)
                    step.loss = self._loss_fn(step.y_pred, step.y)
                fire(StepEvents.LOSS_COMPLETED)
                fire(StepEvents.BACKWARD_STARTED)
                update.backward(step.loss, window.size)
            with update.unscaled() if is_last else _AS_IT_IS:
                fire(StepEvents.BACKWARD_COMPLETED)
                if is_last:
                    update.apply(step, fire)
        self._leave_window(step, is_last)
        return self._output_transform(step.x, step.y, step.y_pred, step.loss)

    @property
    def to_save(self) -> dict[str, Any]:
        """What a checkpoint of this training should hold beside the trainer: model, optimizer and scaler, by name."""
        found = {"model": self._forward.model, "optimizer": self._update.optimizer, "scaler": self._update.scaler}
        return {name: one for name, one in found.items() if one is not None}

    def flush(self, engine: Engine) -> None:
        """Take the optimizer step of a window that ended early, as if its true size had been known.

        Made for ``EPOCH_COMPLETED``, before whatever looks at the weights. With a DistributedDataParallel model every
        rank must call it. Without an open window it does nothing.
        """
        window, self._window = self._window, _CLOSED
        update = self._update
        if window.done:
            scale_gradients(update.parameters(), window.size / window.done)
        done = window.done if self._ddp is None else average_over_ranks(self._ddp, window.done)
        if done:
            step = Step(skip_optimizer_step=window.skip)
            with _audience(engine, step) as fire, update.unscaled():
                update.apply(step, fire)

    def carried_state(self) -> dict[str, Any]:
        """The open window, with copies of its gradients on the CPU; empty between windows."""
        window = self._window
        if not window.done:
            return {}
        gradients = [_copied(parameter.grad) for parameter in self._update.parameters()]
        return {
            "last": window.last,
            "size": window.size,
            "done": window.done,
            "skip": window.skip,
            "gradients": gradients,
        }

    def load_carried_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Open the window again that was open when it was saved.

        Args:
            states: What :meth:`carried_state` gave this rank; or where there were more or fewer of them, all ranks:
                then each gets the mean of their gradients.

        Raises:
            ValueError: If they do not fit the parameters; nothing is changed then.
        """
        first = states[0]
        for state in states:
            _check_window(state, list(self._update.parameters()))
        if len(states) > 1 and any(hasattr(parameter, "to_local") for parameter in self._update.parameters()):
            raise ValueError(
                f"supervised step: {len(states)} processes saved inside a window of gradient accumulation, and sharded "
                "parameters can go on there with as many only; save at the end of a window"
            )
        self._window = _Window(first["last"], first["size"], first["done"], first["skip"])
        for number, parameter in enumerate(self._update.parameters()):
            parts = [state["gradients"][number] for state in states if state["gradients"][number] is not None]
            parameter.grad = None
            if parts:
                mean = parts[0] if len(states) == 1 else torch.stack(parts).sum(0) / len(states)
                parameter.grad = _as_gradient(mean, parameter)

    def _enter_window(self, engine: Engine) -> tuple[_Window, bool]:
        """The window that this batch belongs to, and whether it is the last one of it."""
        state, place, steps = engine.state, engine.epoch_iteration, self._accumulation_steps
        before = (place - 1) % steps
        left = steps - before
        if state.epoch_length is not None:
            left = min(left, state.epoch_length - place + 1)
        if state.max_iters is not None:
            left = min(left, state.max_iters - state.iteration + 1)
        left = max(left, 1)  # somebody has shortened the epoch under way
        last = state.iteration + left - 1
        if before == 0 or self._window.last != last:
            self._window = _Window(last, left)
            self._update.optimizer.zero_grad()
        return self._window, left == 1

    def _leave_window(self, step: Step, is_last: bool) -> None:
        if is_last:
            self._window = _CLOSED
        else:
            self._window.done += 1
            self._window.skip = step.skip_optimizer_step

    def _synced(self, is_last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over the ranks by the last backward pass of a window only."""
        return _AS_IT_IS if is_last or self._ddp is None else self._ddp.no_sync()


class EvaluationStep:
    """The step of an evaluator, ``step(engine, batch) -> output``."""

    def __init__(self, forward: Forward, output_transform: Callable[[Any, Any, Any], Any]) -> None:
        _check_callables(output_transform=output_transform)
        self._forward = forward
        self._module = without_ddp(forward.model)  # ranks may have different numbers of batches, or none
        self._output_transform = output_transform

    def __call__(self, engine: Engine, batch: Any) -> Any:
        forward = self._forward
        forward.set_training(False)  # of the wrapper too, where the trainer looks
        with torch.no_grad():
            x, y = forward.prepare(batch)
            with forward.autocast():
                y_pred = forward.predict(self._module, x)
            return self._output_transform(x, y, y_pred)


@dataclass(slots=True)
class _Window:
    """Batches that make one optimizer step."""

    last: int = -1  #: the iteration of its last batch
    size: int = 1  #: its batches, as far as can be known at the first one
    done: int = 0  #: its batches whose gradients are there
    skip: bool = False  #: a handler said to leave out the optimizer step


_CLOSED: Final = _Window()  # it is never changed: the next batch opens another


@dataclass(frozen=True, slots=True)
class Forward:
    """From a batch to predictions: what training and evaluation share."""

    model: Module
    device: Device
    non_blocking: bool
    prepare_batch: Callable[..., tuple[Any, Any]]
    model_transform: Callable[[Any], Any]
    model_fn: Callable[[Module, Any], Any]
    autocast: Callable[[], AbstractContextManager[Any]]

    def __post_init__(self) -> None:
        _check_callables(prepare_batch=self.prepare_batch, model_transform=self.model_transform, model_fn=self.model_fn)

    def set_training(self, mode: bool) -> None:
        """Switch the model as a whole, if it is not there yet: submodules frozen afterwards stay frozen."""
        if self.model.training is not mode:
            self.model.train(mode)

    def prepare(self, batch: Any) -> tuple[Any, Any]:
        return self.prepare_batch(batch, device=self.device, non_blocking=self.non_blocking)

    def predict(self, model: Module, x: Any) -> Any:
        return self.model_transform(self.model_fn(model, x))


@dataclass(frozen=True, slots=True)
class Update:
    """From a loss to new weights."""

    optimizer: Optimizer
    scaler: GradScaler | None
    max_norm: float | None
    max_value: float | None

    def __post_init__(self) -> None:
        _check_scaler(self.scaler)
        _check_limit("clip_grad_norm", self.max_norm)
        _check_limit("clip_grad_value", self.max_value)
        if self.max_norm is not None and self.max_value is not None:
            raise ValueError(
                "supervised step: clip_grad_norm and clip_grad_value exclude each other, "
                f"got {self.max_norm} and {self.max_value}"
            )

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for group in self.optimizer.param_groups for parameter in group["params"])

    def backward(self, loss: Tensor, num_batches: int) -> None:
        """Add the gradients of a batch, which is one of several that make a step."""
        share = loss if num_batches == 1 else loss / num_batches
        scaled = share if self.scaler is None else self.scaler.scale(share)
        scaled.backward()  # type: ignore[no-untyped-call]

    def unscaled(self) -> AbstractContextManager[None]:
        """Inside, gradients are without the factor of the scaler."""
        return _AS_IT_IS if self.scaler is None else _unscaled(self.scaler, self.optimizer)

    def apply(self, step: Step, fire: Callable[[EventEnum], None]) -> None:
        """Clip the gradients and move the weights, unless a handler has said no, or does so now."""
        if not step.skip_optimizer_step:
            self.clip()
            fire(StepEvents.OPTIM_STEP_STARTED)
        if not step.skip_optimizer_step:
            self.move()
            fire(StepEvents.OPTIM_STEP_COMPLETED)

    def clip(self) -> None:
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), self.max_norm)
        if self.max_value is not None:
            torch.nn.utils.clip_grad_value_(self.parameters(), self.max_value)

    def move(self) -> None:
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)


@contextmanager
def _unscaled(scaler: GradScaler, optimizer: Optimizer) -> Iterator[None]:
    scaler.unscale_(optimizer)
    try:
        yield
    finally:
        scaler.update()  # also after a skipped step or an exception: a scaler refuses to unscale twice without it


def _copied(gradient: Any) -> Tensor | None:
    """What this rank has of a gradient, on the CPU."""
    if gradient is None:
        return None
    local: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return local.detach().to("cpu", copy=True)


def _check_window(saved: Mapping[str, Any], parameters: Sequence[Any]) -> None:
    """Refuse a window out of a file that is damaged, or of another model."""
    numbers, gradients = [saved.get(key) for key in ("last", "size", "done")], saved.get("gradients")
    if not all(type(number) is int and number > 0 for number in numbers) or not isinstance(saved.get("skip"), bool):
        shown = {key: value for key, value in saved.items() if key != "gradients"}
        raise ValueError(f"supervised step: a saved window must have positive integers and a flag, got {shown!r:.100}")
    if not isinstance(gradients, list) or len(gradients) != len(parameters):
        count = len(gradients) if isinstance(gradients, list) else type(gradients).__name__
        raise ValueError(f"supervised step: {len(parameters)} gradients must have been saved, got {count}")
    for gradient, parameter in zip(gradients, parameters, strict=True):
        wanted = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        if gradient is not None and getattr(gradient, "shape", None) != wanted.shape:
            got = getattr(gradient, "shape", type(gradient).__name__)
            raise ValueError(f"supervised step: a saved gradient must have shape {tuple(wanted.shape)}, got {got}")


def _as_gradient(value: Tensor, parameter: Any) -> Tensor:
    """A copy where the parameter is, and shared out as it is."""
    if not hasattr(parameter, "to_local"):
        return value.to(parameter, copy=True)
    from torch.distributed.tensor import DTensor  # only those who shard have loaded it

    local = value.to(parameter.to_local(), copy=True)
    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(local, mesh, placements, shape=parameter.shape, stride=parameter.stride())


def _audience(engine: Engine, step: Step) -> AbstractContextManager[Callable[[EventEnum], None]]:
    """Inside, ``engine.state.step`` is the step, and the value is what fires events; nothing if nobody listens."""
    return _announced(engine, step) if engine.listens_to(StepEvents) else _NOBODY


@contextmanager
def _announced(engine: Engine, step: Step) -> Iterator[Callable[[EventEnum], None]]:
    engine.state.step = step
    try:
        yield engine.fire_event
    finally:
        engine.state.step = None  # it holds the graph


def _unheard(event: EventEnum) -> None:
    """Stand in for ``engine.fire_event`` where nobody listens."""


_NOBODY = nullcontext(_unheard)
_AS_IT_IS = nullcontext()


def _check_callables(**functions: Any) -> None:
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(
                f"supervised step: {name} must be callable, got {function!r} of type {type(function).__name__}"
            )


def _check_accumulation(steps: Any) -> None:
    if isinstance(steps, bool) or not isinstance(steps, numbers.Integral):
        raise TypeError(f"supervised step: gradient_accumulation_steps must be an integer, got {steps!r}")
    if steps < 1:
        raise ValueError(f"supervised step: gradient_accumulation_steps must be at least 1, got {steps}")


def _check_scaler(scaler: Any) -> None:
    if scaler is not None and not isinstance(scaler, GradScaler):
        raise TypeError(f"supervised step: scaler must be a torch.amp.GradScaler, got {scaler!r}")


def _check_limit(name: str, limit: Any) -> None:
    if limit is None:
        return
    if isinstance(limit, bool) or not isinstance(limit, numbers.Real):
        raise TypeError(f"supervised step: {name} must be a number, got {limit!r}")
    if not limit > 0:  # type: ignore[operator]
        raise ValueError(f"supervised step: {name} must be above 0, got {limit}")

"""The step that trains a model, with events inside, and the step that evaluates it."""

from __future__ import annotations

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
from ignite_core.engine.supervised.options import EvaluationOptions, TrainingOptions

__all__ = ["EvaluationStep", "Step", "StepEvents", "TrainingStep"]


class StepEvents(EventEnum):
    """Events inside a supervised training step, in their order.

    They are fired only if one of them has a handler. ``engine.state.step`` is then a :class:`Step`; the training step
    continues with what a handler assigns to its attributes.

    - ``FORWARD_STARTED``: ``x`` and ``y`` are on the device; both may be replaced.
    - ``FORWARD_COMPLETED``: ``y_pred`` is computed and may be replaced. This and the next event are fired inside
      autocast, if it is used.
    - ``LOSS_STARTED``: the loss is computed next, from ``y_pred`` and ``y``.
    - ``LOSS_COMPLETED``: ``loss`` is computed and may be replaced. It is the mean of this batch, not divided by the
      number of accumulation steps.
    - ``BACKWARD_STARTED``: the backward pass of ``loss`` is next.
    - ``BACKWARD_COMPLETED``: gradients are in ``parameter.grad``. While they are accumulated, they are the sum over the
      batches so far; after the last batch they are complete, and not multiplied by a scaler.
    - ``OPTIM_STEP_STARTED``: gradients are complete and clipped; the last event at which they may be changed, or the
      optimizer step skipped.
    - ``OPTIM_STEP_COMPLETED``: the optimizer has updated the parameters (unless a scaler met infinite gradients). Not
      fired for a step that was skipped.

    The last two are fired once for each optimizer step, so not for every batch if gradients are accumulated; if an
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
    """Values inside a training step; ``engine.state.step`` in handlers of :class:`StepEvents`.

    Attributes:
        x: Input of the model; None in the optimizer step that ends a cut epoch.
        y: Target of the loss; None as above.
        y_pred: Output of the model after ``model_transform``; None before.
        loss: Loss of this batch; None before.
        skip_optimizer_step: Set it to True to skip the optimizer step. If gradients are accumulated, that is the step
            of all batches accumulated with this one.
    """

    __slots__ = ("loss", "skip_optimizer_step", "x", "y", "y_pred")

    def __init__(self, x: Any = None, y: Any = None, *, skip_optimizer_step: bool = False) -> None:
        self.x = x
        self.y = y
        self.y_pred: Any = None
        self.loss: Any = None
        self.skip_optimizer_step = skip_optimizer_step


@dataclass(slots=True)
class _Window:
    """Batches that make one optimizer step: several if gradients are accumulated."""

    last: int = -1  #: the iteration of its last batch
    size: int = 1  #: its number of batches, as known at the first one
    done: int = 0  #: batches whose gradients are accumulated
    skip: bool = False  #: a handler asked to skip the optimizer step


_CLOSED: Final = _Window()  # never changed: the next batch opens another one
_NO_CONTEXT: Final = nullcontext()


class TrainingStep:
    """The step of a trainer, ``step(engine, batch) -> output``, made by :mod:`ignite_core.engine.supervised.factories`.

    Windows of ``gradient_accumulation_steps`` batches are counted from the start of each epoch; they are shorter where
    the epoch or the run is known to end. Inside a window the gradients so far are part of what a seeded engine saves. A
    run that is resumed there without them opens a window with the batches left of it.
    """

    def __init__(self, options: TrainingOptions) -> None:
        self.options = options
        self.scaler = options.grad_scaler()
        self._autocast = options.autocast()
        self._ddp = find_ddp(options.model)
        self._window = _CLOSED

    def __call__(self, engine: Engine, batch: Any) -> Any:
        """Train on one batch, and return the result of ``output_transform``."""
        options = self.options
        window, is_last = self._enter_window(engine)
        _set_training(options.model, True)
        x, y = options.prepare_batch(batch, device=options.device, non_blocking=options.non_blocking)
        step = Step(x, y, skip_optimizer_step=window.skip)
        with _events_of(engine, step) as fire:
            with self._synced(is_last):
                with self._autocast():
                    fire(StepEvents.FORWARD_STARTED)
                    step.y_pred = options.model_transform(options.model_fn(options.model, step.x))
                    fire(StepEvents.FORWARD_COMPLETED)
                    fire(StepEvents.LOSS_STARTED)
                    step.loss = options.loss_fn(step.y_pred, step.y)
                fire(StepEvents.LOSS_COMPLETED)
                fire(StepEvents.BACKWARD_STARTED)
                self._backward(step.loss, window.size)
            with self._unscaled() if is_last else _NO_CONTEXT:
                fire(StepEvents.BACKWARD_COMPLETED)
                if is_last:
                    self._update(step, fire)
        if is_last:
            self._window = _CLOSED
        else:
            window.done += 1
            window.skip = step.skip_optimizer_step
        return options.output_transform(step.x, step.y, step.y_pred, step.loss)

    @property
    def to_save(self) -> dict[str, Any]:
        """What a checkpoint of this training should hold beside the trainer: model, optimizer and scaler, by name."""
        found = {"model": self.options.model, "optimizer": self.options.optimizer, "scaler": self.scaler}
        return {name: one for name, one in found.items() if one is not None}

    def flush(self, engine: Engine) -> None:
        """Take the optimizer step of a window that ended early, as if its true size had been known.

        A handler of ``EPOCH_COMPLETED``, before all that read the weights. With a DistributedDataParallel model every
        rank must call it. Without an open window it does nothing.
        """
        window, self._window = self._window, _CLOSED
        if window.done:
            scale_gradients(self._parameters(), window.size / window.done)
        done = window.done if self._ddp is None else average_over_ranks(self._ddp, window.done)
        if done:
            step = Step(skip_optimizer_step=window.skip)
            with _events_of(engine, step) as fire, self._unscaled():
                self._update(step, fire)

    # ----------------------------------------------------------------------------------------------- the optimizer step

    def _parameters(self) -> Iterator[Parameter]:
        return (parameter for group in self.options.optimizer.param_groups for parameter in group["params"])

    def _backward(self, loss: Tensor, num_batches: int) -> None:
        """Add the gradients of one of the batches that make an optimizer step."""
        share = loss if num_batches == 1 else loss / num_batches
        scaled = share if self.scaler is None else self.scaler.scale(share)
        scaled.backward()  # type: ignore[no-untyped-call]

    def _unscaled(self) -> AbstractContextManager[None]:
        """Inside, gradients are not multiplied by the scaler."""
        return _NO_CONTEXT if self.scaler is None else _unscaled(self.scaler, self.options.optimizer)

    def _update(self, step: Step, fire: Callable[[EventEnum], None]) -> None:
        """Clip the gradients and update the parameters, unless a handler skips that."""
        options = self.options
        if not step.skip_optimizer_step:
            if options.clip_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(self._parameters(), options.clip_grad_norm)
            if options.clip_grad_value is not None:
                torch.nn.utils.clip_grad_value_(self._parameters(), options.clip_grad_value)
            fire(StepEvents.OPTIM_STEP_STARTED)
        if not step.skip_optimizer_step:
            if self.scaler is None:
                options.optimizer.step()
            else:
                self.scaler.step(options.optimizer)
            fire(StepEvents.OPTIM_STEP_COMPLETED)

    # ------------------------------------------------------------------------------------------------------- the window

    def _enter_window(self, engine: Engine) -> tuple[_Window, bool]:
        """The window of this batch, and whether the batch is the last one of it."""
        state, place, steps = engine.state, engine.epoch_iteration, self.options.gradient_accumulation_steps
        before = (place - 1) % steps
        left = steps - before
        if state.epoch_length is not None:
            left = min(left, state.epoch_length - place + 1)
        if state.max_iters is not None:
            left = min(left, state.max_iters - state.iteration + 1)
        left = max(left, 1)  # the epoch may have been shortened
        last = state.iteration + left - 1
        if before == 0 or self._window.last != last:
            self._window = _Window(last, left)
            self.options.optimizer.zero_grad()
        return self._window, left == 1

    def _synced(self, is_last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over the ranks by the last backward pass of a window only."""
        return _NO_CONTEXT if is_last or self._ddp is None else self._ddp.no_sync()

    def step_state(self) -> dict[str, Any]:
        """The open window, with copies of its gradients on the CPU; empty between windows."""
        window = self._window
        if not window.done:
            return {}
        gradients = [_copied(parameter.grad) for parameter in self._parameters()]
        return {
            "last": window.last,
            "size": window.size,
            "done": window.done,
            "skip": window.skip,
            "gradients": gradients,
        }

    def load_step_state(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Open the window that was open when :meth:`step_state` was called.

        Args:
            states: The step state of this rank; if the number of ranks has changed, those of all ranks: each rank then
                gets the mean of their gradients.

        Raises:
            ValueError: If they do not fit the parameters; nothing is changed then.
        """
        first = states[0]
        for state in states:
            _check_window(state, list(self._parameters()))
        if len(states) > 1 and any(hasattr(parameter, "to_local") for parameter in self._parameters()):
            raise ValueError(
                f"supervised step: {len(states)} processes saved inside a window of gradient accumulation; with "
                "sharded parameters it can be resumed there by as many processes only; save at the end of a window"
            )
        self._window = _Window(first["last"], first["size"], first["done"], first["skip"])
        for number, parameter in enumerate(self._parameters()):
            parts = [state["gradients"][number] for state in states if state["gradients"][number] is not None]
            parameter.grad = None
            if parts:
                mean = parts[0] if len(states) == 1 else torch.stack(parts).sum(0) / len(states)
                parameter.grad = _as_gradient(mean, parameter)


class EvaluationStep:
    """The step of an evaluator, ``step(engine, batch) -> output``."""

    def __init__(self, options: EvaluationOptions) -> None:
        self.options = options
        self._autocast = options.autocast()
        self._module = without_ddp(options.model)  # ranks may have different numbers of batches, or none

    def __call__(self, engine: Engine, batch: Any) -> Any:
        options = self.options
        _set_training(options.model, False)  # of the wrapper too, where the trainer checks it
        with torch.no_grad():
            x, y = options.prepare_batch(batch, device=options.device, non_blocking=options.non_blocking)
            with self._autocast():
                y_pred = options.model_transform(options.model_fn(self._module, x))
            return options.output_transform(x, y, y_pred)


def _set_training(model: Module, mode: bool) -> None:
    """Switch the whole model, if its own mode differs: submodules frozen afterwards stay frozen."""
    if model.training is not mode:
        model.train(mode)


@contextmanager
def _unscaled(scaler: GradScaler, optimizer: Optimizer) -> Iterator[None]:
    scaler.unscale_(optimizer)
    try:
        yield
    finally:
        scaler.update()  # also after a skipped step or an exception: a scaler refuses to unscale twice without it


def _copied(gradient: Any) -> Tensor | None:
    """The part of a gradient on this rank, on the CPU."""
    if gradient is None:
        return None
    local: Tensor = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return local.detach().to("cpu", copy=True)


def _check_window(saved: Mapping[str, Any], parameters: Sequence[Any]) -> None:
    """Raise ValueError for a window that is damaged, or of another model."""
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
    """A copy on the device of the parameter, sharded as the parameter is."""
    if not hasattr(parameter, "to_local"):
        return value.to(parameter, copy=True)
    from torch.distributed.tensor import DTensor  # imported already if parameters are sharded

    local = value.to(parameter.to_local(), copy=True)
    mesh, placements = parameter.device_mesh, parameter.placements
    return DTensor.from_local(local, mesh, placements, shape=parameter.shape, stride=parameter.stride())


def _events_of(engine: Engine, step: Step) -> AbstractContextManager[Callable[[EventEnum], None]]:
    """Return what fires events; inside, ``engine.state.step`` is the step. Without handlers neither happens."""
    return _fired(engine, step) if engine.listens_to(StepEvents) else _NOT_FIRED


@contextmanager
def _fired(engine: Engine, step: Step) -> Iterator[Callable[[EventEnum], None]]:
    engine.state.step = step
    try:
        yield engine.fire_event
    finally:
        engine.state.step = None  # it holds the graph


def _do_not_fire(event: EventEnum) -> None:
    """Replace ``engine.fire_event`` if no event has a handler."""


_NOT_FIRED: Final = nullcontext(_do_not_fire)

"""Truncated backpropagation through time: train a recurrent model chunk by chunk of a long sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Module
from torch.optim import Optimizer

from ignite_core.engine import (
    Engine,
    EventEnum,
    Events,
    StepEvents,
    supervised_training_step,
    supervised_training_step_amp,
)
from ignite_core.utils import convert_tensor

__all__ = ["Tbptt_Events", "create_supervised_tbptt_trainer"]


class Tbptt_Events(EventEnum):  # noqa: N801 - the name in pytorch-ignite
    """Events that a trainer of :func:`create_supervised_tbptt_trainer` fires for each chunk.

    Both are counted by ``state.time_iteration``, the number of chunks started in the run; the first is 1.
    """

    TIME_ITERATION_STARTED = "time_iteration_started"
    TIME_ITERATION_COMPLETED = "time_iteration_completed"


def _prepare_batch(batch: Any, device: str | torch.device | None = None, non_blocking: bool = False) -> tuple[Any, Any]:
    x, y = batch
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)


def create_supervised_tbptt_trainer(
    model: Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Tensor],
    tbtt_step: int,
    dim: int = 0,
    device: str | torch.device | None = None,
    non_blocking: bool = False,
    prepare_batch: Callable[..., tuple[Any, Any]] = _prepare_batch,
    *,
    amp_mode: str | None = None,
    scaler: GradScaler | None = None,
    clip_grad_norm: float | None = None,
) -> Engine:
    """Create an engine that trains a recurrent model on sequences, with an optimizer step for each chunk.

    A batch ``(x, y)`` of long sequences is split along time. The model is called with the first chunk as
    ``y_pred, hidden = model(x)``, and with each further one as ``model(x, hidden)``, where ``hidden`` is the detached
    hidden state of the previous chunk: gradients reach back to the start of the chunk. Each batch starts without hidden
    state.

    Args:
        model: The model, on its device. Its hidden state is a tensor, or tensors in tuples, lists and mappings.
        optimizer: The optimizer, which takes a step for each chunk.
        loss_fn: Called with ``y_pred, y`` of a chunk; returns a scalar tensor.
        tbtt_step: Number of time steps of a chunk, at least 1; the last chunk of a batch may be shorter.
        dim: Time dimension of ``x`` and ``y``.
        device: Device to move chunks to; None does not move them.
        non_blocking: Do not wait for copies from pinned memory.
        prepare_batch: Called for each chunk as ``prepare_batch((x, y), device=device, non_blocking=non_blocking)``.
        amp_mode: ``"amp"`` runs model and loss under :class:`torch.autocast`.
        scaler: Gradient scaler for ``amp_mode="amp"``.
        clip_grad_norm: Largest total norm of the gradients of a chunk.

    Returns:
        A trainer. Its output is the mean loss of the chunks, a tensor on the device; at ``TIME_ITERATION_COMPLETED`` it
        is the loss of the chunk. :class:`~ignite_core.engine.StepEvents` are fired for each chunk too.

    Raises:
        TypeError: If ``tbtt_step`` or ``dim`` is not an integer.
        ValueError: If ``tbtt_step`` is below 1, or ``x`` and ``y`` of a batch differ in length.

    Example:
        >>> rnn = torch.nn.RNN(1, 2)
        >>> optimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)
        >>> trainer = create_supervised_tbptt_trainer(rnn, optimizer, torch.nn.functional.mse_loss, tbtt_step=4)
        >>> @trainer.on(Tbptt_Events.TIME_ITERATION_COMPLETED)
        ... def show(engine):
        ...     print("chunk", engine.state.time_iteration, "of batch", engine.state.iteration)
        >>> state = trainer.run([(torch.ones(10, 3, 1), torch.zeros(10, 3, 2))])
        chunk 1 of batch 1
        chunk 2 of batch 1
        chunk 3 of batch 1
    """
    for name, value in (("tbtt_step", tbtt_step), ("dim", dim)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"create_supervised_tbptt_trainer: {name} must be an integer, got {value!r}")
    if tbtt_step < 1:
        raise ValueError(f"create_supervised_tbptt_trainer: tbtt_step must be at least 1, got {tbtt_step}")
    if scaler is not None and amp_mode is None:
        raise ValueError("create_supervised_tbptt_trainer: scaler needs amp_mode='amp', got amp_mode=None")
    if amp_mode not in ("amp", None):
        raise ValueError(f"create_supervised_tbptt_trainer: amp_mode must be 'amp' or None, got {amp_mode!r}")
    step = _ChunkedStep(tbtt_step, dim)
    make: Any = supervised_training_step
    options: dict[str, Any] = {"model_fn": step.call_model, "clip_grad_norm": clip_grad_norm}
    if amp_mode is not None:
        make, options = supervised_training_step_amp, {**options, "scaler": scaler}
    step.chunk_step = make(model, optimizer, loss_fn, device, non_blocking, prepare_batch, **options)
    trainer = Engine(step)
    trainer.register_events(*StepEvents)
    trainer.register_events(*Tbptt_Events, event_to_attr=dict.fromkeys(Tbptt_Events, "time_iteration"))
    trainer.state_dict_user_keys.append("time_iteration")
    trainer.add_event_handler(Events.STARTED, _reset_count)
    return trainer


def _reset_count(trainer: Engine) -> None:
    if trainer.state.iteration == 0:
        trainer.state.time_iteration = 0


class _ChunkedStep:
    """Trains on a batch chunk by chunk, and passes the hidden state from chunk to chunk.

    Attributes:
        chunk_step: The step of a chunk, which calls the model through :meth:`call_model`.
    """

    chunk_step: Any

    def __init__(self, size: int, dim: int) -> None:
        self._size = size
        self._dim = dim
        self._hidden: Any = None

    def __call__(self, engine: Engine, batch: Any) -> Tensor:
        losses = []
        self._hidden = None
        try:
            for chunk in self._chunks(batch):
                engine.state.time_iteration += 1
                engine.fire_event(Tbptt_Events.TIME_ITERATION_STARTED)
                engine.state.output = self.chunk_step(engine, chunk)
                losses.append(engine.state.output)
                engine.fire_event(Tbptt_Events.TIME_ITERATION_COMPLETED)
        finally:
            self._hidden = None
        return torch.stack(losses).mean()

    @property
    def to_save(self) -> dict[str, Any]:
        """Model, optimizer and scaler, by name."""
        objects: dict[str, Any] = self.chunk_step.to_save
        return objects

    def call_model(self, model: Module, x: Any) -> Any:
        y_pred, hidden = model(x) if self._hidden is None else model(x, self._hidden)
        self._hidden = _detached(hidden)
        return y_pred

    def _chunks(self, batch: Any) -> Iterator[tuple[Tensor, Tensor]]:
        (x, y), dim = batch, self._dim
        if x.shape[dim] != y.shape[dim]:
            raise ValueError(
                f"create_supervised_tbptt_trainer: x and y must be equally long along dim={dim}, got shapes "
                f"{tuple(x.shape)} and {tuple(y.shape)}"
            )
        return zip(x.split(self._size, dim), y.split(self._size, dim), strict=True)


def _detached(hidden: Any) -> Any:
    """Detach all tensors of a structure."""
    if isinstance(hidden, Tensor):
        return hidden.detach()
    if isinstance(hidden, Mapping):
        return {name: _detached(part) for name, part in hidden.items()}
    if isinstance(hidden, Sequence) and not isinstance(hidden, str | bytes):
        parts = [_detached(part) for part in hidden]
        return type(hidden)(*parts) if hasattr(hidden, "_fields") else type(hidden)(parts)  # type: ignore[call-arg]
    return hidden

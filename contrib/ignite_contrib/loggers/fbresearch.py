"""Progress as lines of text, in the format of research code of FAIR."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import torch

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, RemovableEventHandle
from ignite_core.handlers import Timer

__all__ = ["FBResearchLogger"]


class FBResearchLogger:
    """Logs lines of text: progress, learning rates, output, and time per iteration.

    Rank 0 logs. It may be attached to several engines.

    Args:
        logger: An object whose ``info`` receives the lines, such as a :class:`logging.Logger`.
        delimiter: Separator of the parts of a line.
        show_output: Also log the output of the step.
        clock: Returns the time in seconds.

    Example:
        >>> class Screen:
        ...     info = staticmethod(print)
        >>> trainer = Engine(lambda engine, batch: {"loss": 1 / batch})
        >>> logger = FBResearchLogger(Screen, show_output=True, clock=lambda: 0.0)
        >>> handle = logger.attach(trainer, "Train", every=2)
        >>> state = trainer.run([1, 2, 4, 8])
        Train: start epoch [1/1]
        Epoch [1/1]  [2/4]:  ETA: 0:00:00  loss: 0.5000  Iter time: 0.0000 s  Data prep time: 0.0000 s
        Epoch [1/1]  [4/4]:  ETA: 0:00:00  loss: 0.1250  Iter time: 0.0000 s  Data prep time: 0.0000 s
        Train: Epoch [1/1]  Total time: 0:00:00  (0.00... s / it)
    """

    def __init__(
        self,
        logger: Any,
        delimiter: str = "  ",
        show_output: bool = False,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.logger = logger
        self.delimiter = delimiter
        self.show_output = show_output
        self._clock = clock

    def attach(
        self,
        engine: Engine,
        name: str,
        every: int = 1,
        output_transform: Callable[[Any], Any] | None = None,
        state_attributes: Iterable[str] | None = None,
        optimizer: Any = None,
    ) -> RemovableEventHandle:
        """Log the runs of an engine.

        Args:
            engine: The engine.
            name: Its name in the lines, such as ``"Train"``.
            every: Iterations between two lines.
            output_transform: Converts the output to what is logged.
            state_attributes: Names of attributes of ``engine.state`` to log.
            optimizer: The optimizer whose learning rates are logged.

        Returns:
            A handle that detaches it.
        """
        event = Events.ITERATION_COMPLETED(every=every)
        if idist.get_rank() != 0:
            return RemovableEventHandle(event)
        data, step = Timer(average=True, clock=self._clock), Timer(average=True, clock=self._clock)
        lines = _Lines(self, name, output_transform, tuple(state_attributes or ()), optimizer, data, step)
        first, last = 10_000, -10_000  # priorities: the time of other handlers is not counted
        handlers: list[tuple[Any, Callable[..., None]]] = [
            (Events.GET_BATCH_STARTED(priority=last), data.resume),
            (Events.GET_BATCH_COMPLETED(priority=first), data.pause),
            (Events.GET_BATCH_COMPLETED(priority=first), data.step),
            (Events.ITERATION_STARTED(priority=last), step.resume),
            (Events.ITERATION_COMPLETED(priority=first), step.pause),
            (Events.ITERATION_COMPLETED(priority=first), step.step),
            (Events.EPOCH_STARTED, lines.start_epoch),
            (event, lines.log_iteration),
            (Events.EPOCH_COMPLETED, lines.end_epoch),
            (Events.COMPLETED, lines.end_run),
        ]
        handles = [engine.add_event_handler(event, handler) for event, handler in handlers]
        return RemovableEventHandle(event, *(handle.remove for handle in handles))


@dataclass(frozen=True, eq=False)
class _Lines:
    """The lines of one engine."""

    event_priority: ClassVar[int] = -100

    shared: FBResearchLogger
    name: str
    output_transform: Callable[[Any], Any] | None
    state_attributes: tuple[str, ...]
    optimizer: Any
    data: Timer
    step: Timer

    def start_epoch(self, engine: Engine) -> None:
        for timer in (self.data, self.step):
            timer.reset()
            timer.pause()
        self._log(f"{self.name}: start epoch {_epoch(engine)}")

    def log_iteration(self, engine: Engine) -> None:
        state, done = engine.state, engine.epoch_iteration
        length = state.epoch_length
        eta = "?" if length is None else _duration(self.step.value() * (length - done))
        memory = torch.cuda.is_available()
        self._log(
            f"Epoch {_epoch(engine)}",
            f"[{done}/{'?' if length is None else length}]:",
            f"ETA: {eta}",
            *self._rates(),
            *self._outputs(engine),
            *_shown({name: getattr(state, name, None) for name in self.state_attributes}),
            f"Iter time: {self.step.value():.4f} s",
            f"Data prep time: {self.data.value():.4f} s",
            *([f"GPU Max Mem: {torch.cuda.max_memory_allocated() / 2**20:.0f} MB"] if memory else []),
        )

    def end_epoch(self, engine: Engine) -> None:
        seconds = engine.state.times[Events.EPOCH_COMPLETED.name] or 0.0
        each = seconds / max(1, self.step.step_count)
        self._log(f"{self.name}: Epoch {_epoch(engine)}", f"Total time: {_duration(seconds)}", f"({each:.4f} s / it)")

    def end_run(self, engine: Engine) -> None:
        if (engine.state.max_epochs or 1) > 1:
            seconds = engine.state.times[Events.COMPLETED.name] or 0.0
            self._log(f"{self.name}: run completed", f"Total time: {_duration(seconds)}")

    def _log(self, *parts: str) -> None:
        self.shared.logger.info(self.shared.delimiter.join(parts))

    def _rates(self) -> list[str]:
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        if len(groups) == 1:
            return [f"lr: {float(groups[0]['lr']):.5f}"]
        return [f"lr [g{number}]: {float(group['lr']):.5f}" for number, group in enumerate(groups)]

    def _outputs(self, engine: Engine) -> list[str]:
        output = engine.state.output
        if not self.shared.show_output or output is None:
            return []
        return _shown(output if self.output_transform is None else self.output_transform(output))


def _epoch(engine: Engine) -> str:
    return f"[{engine.state.epoch}/{engine.state.max_epochs}]"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _shown(value: object, name: str = "") -> list[str]:
    """Format the numbers of a structure with four digits, as ``name: number``."""
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, Mapping):
        named = [(f"{name}/{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        named = [(f"{name}/{number}" if name else "", part) for number, part in enumerate(value)]
    else:
        text = f"{value:.4f}" if isinstance(value, float) else str(value)
        return [f"{name}: {text}" if name else text]
    return [line for label, part in named for line in _shown(part, label)]

"""Logs progress as lines of text, in the form that research code of FAIR made known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

import torch

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events

__all__ = ["FBResearchLogger"]


class FBResearchLogger:
    """Logs lines of text: where a run is, its learning rates, its output, and where its time goes.

    Rank 0 logs. One may be attached to several engines.

    Args:
        logger: Whose ``info`` gets the lines, such as that of :func:`logging.getLogger`.
        delimiter: What stands between the parts of a line.
        show_output: Log the output of the step, too.
        clock: Gives the time, in seconds.

    Example:
        >>> class Screen:
        ...     info = staticmethod(print)
        >>> trainer = Engine(lambda engine, batch: {"loss": 1 / batch})
        >>> FBResearchLogger(Screen, show_output=True, clock=lambda: 0.0).attach(trainer, "Train", every=2)
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
    ) -> None:
        """Log what this engine does.

        Args:
            engine: The engine.
            name: What it is called, such as ``"Train"``.
            every: Log every so many iterations.
            output_transform: Makes of the output what is logged.
            state_attributes: Names of attributes of ``engine.state``.
            optimizer: Whose learning rates are logged.
        """
        if idist.get_rank() == 0:
            _Lines(self, name, output_transform, tuple(state_attributes or ()), optimizer, self._clock).attach(
                engine, every
            )


class _Lines:
    """The lines of one engine."""

    event_priority = -100

    def __init__(
        self,
        shared: FBResearchLogger,
        name: str,
        output_transform: Callable[[Any], Any] | None,
        state_attributes: tuple[str, ...],
        optimizer: Any,
        clock: Callable[[], float],
    ) -> None:
        self._shared = shared
        self._name = name
        self._output_transform = output_transform
        self._state_attributes = state_attributes
        self._optimizer = optimizer
        self._data, self._step = _Stopwatch(clock), _Stopwatch(clock)

    def attach(self, engine: Engine, every: int) -> None:
        for start, stop, watch in (
            (Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED, self._data),
            (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, self._step),
        ):
            engine.add_event_handler(start(priority=-10_000), watch.start)  # what handlers take is not counted
            engine.add_event_handler(stop(priority=10_000), watch.stop)
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=every), self.log_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        engine.add_event_handler(Events.COMPLETED, self.end_run)

    def start_epoch(self, engine: Engine) -> None:
        self._data.reset()
        self._step.reset()
        self._log(f"{self._name}: start epoch {_epoch(engine)}")

    def log_iteration(self, engine: Engine) -> None:
        state, done = engine.state, engine.epoch_iteration
        length = state.epoch_length
        left = "?" if length is None else _duration(self._step.average * (length - done))
        self._log(
            f"Epoch {_epoch(engine)}",
            f"[{done}/{'?' if length is None else length}]:",
            f"ETA: {left}",
            *self._rates(),
            *self._outputs(engine),
            *_shown({name: getattr(state, name, None) for name in self._state_attributes}),
            f"Iter time: {self._step.average:.4f} s",
            f"Data prep time: {self._data.average:.4f} s",
            *_memory(),
        )

    def end_epoch(self, engine: Engine) -> None:
        seconds = engine.state.times[Events.EPOCH_COMPLETED.name] or 0.0
        each = seconds / max(1, self._step.count)
        self._log(f"{self._name}: Epoch {_epoch(engine)}", f"Total time: {_duration(seconds)}", f"({each:.4f} s / it)")

    def end_run(self, engine: Engine) -> None:
        if (engine.state.max_epochs or 1) > 1:
            seconds = engine.state.times[Events.COMPLETED.name] or 0.0
            self._log(f"{self._name}: run completed", f"Total time: {_duration(seconds)}")

    def _log(self, *parts: str) -> None:
        self._shared.logger.info(self._shared.delimiter.join(parts))

    def _rates(self) -> list[str]:
        groups = [] if self._optimizer is None else self._optimizer.param_groups
        if len(groups) == 1:
            return [f"lr: {float(groups[0]['lr']):.5f}"]
        return [f"lr [g{number}]: {float(group['lr']):.5f}" for number, group in enumerate(groups)]

    def _outputs(self, engine: Engine) -> list[str]:
        output = engine.state.output
        if not self._shared.show_output or output is None:
            return []
        return _shown(output if self._output_transform is None else self._output_transform(output))


class _Stopwatch:
    """The average of what lies between start and stop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self.count, self._total, self._started = 0, 0.0, self._clock()

    def start(self) -> None:
        self._started = self._clock()

    def stop(self) -> None:
        self._total += self._clock() - self._started
        self.count += 1

    @property
    def average(self) -> float:
        return self._total / max(1, self.count)


def _epoch(engine: Engine) -> str:
    return f"[{engine.state.epoch}/{engine.state.max_epochs}]"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _memory() -> list[str]:
    if not torch.cuda.is_available():
        return []
    return [f"GPU Max Mem: {torch.cuda.max_memory_allocated() / 2**20:.0f} MB"]


def _shown(value: Any, name: str = "") -> list[str]:
    """Numbers with four digits, ``name: number``; structures one by one."""
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

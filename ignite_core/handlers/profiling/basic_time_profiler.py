"""Measure the fetches, the steps, and the handlers of each event of a run."""

from __future__ import annotations

import math
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any, Final

import torch
from torch import Tensor

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import Registration
from ignite_core.handlers.profiling._spans import OUTSIDE, Callback, Profiler, SpanRecorder
from ignite_core.handlers.profiling._stats import name_of, print_table, stats, write_csv

__all__ = ["BasicTimeProfiler"]

#: The columns of an iteration; those of events hold the times of their handlers.
_EPOCH, _ITERATION, _PROCESSING, _DATAFLOW, _IS, _IC, _GS, _GC = range(8)
_WIDTH: Final = 8
_BLANK: Final = array("d", [0.0, 0.0, math.nan, math.nan, 0.0, 0.0, 0.0, 0.0])

_OF_ITERATION: Final = {
    Events.ITERATION_STARTED: _IS,
    Events.ITERATION_COMPLETED: _IC,
    Events.GET_BATCH_STARTED: _GS,
    Events.GET_BATCH_COMPLETED: _GC,
}
_OF_EPOCH: Final = (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED)
_OF_RUN: Final = (Events.STARTED, Events.COMPLETED)


class BasicTimeProfiler(Profiler):
    """Measures, in each iteration, the fetch of the batch, the step, and the handlers of each event.

    The time of a step that only launches work on an accelerator is the time of the launch; see
    :class:`~ignite_core.handlers.TorchProfile` for what the device does. A new run starts from zero; pauses are not
    counted.

    Args:
        clock: Returns the time in seconds.

    Attributes:
        events_to_ignore: Events whose handlers are not measured.

    Raises:
        TypeError: If ``clock`` is not callable.

    Example:
        >>> times = iter(range(1000))
        >>> trainer, profiler = Engine(lambda engine, batch: next(times)), BasicTimeProfiler(clock=lambda: next(times))
        >>> handle = profiler.attach(trainer)
        >>> state = trainer.run([1, 2], max_epochs=2)
        >>> profiler.processing_times.tolist()  # reads: before, in and after the step
        [2.0, 2.0, 2.0, 2.0]
        >>> profiler.get_results()["processing_stats"]["total"]
        8.0
    """

    events_to_ignore: Final = [
        Events.EXCEPTION_RAISED,
        Events.TERMINATE,
        Events.TERMINATE_SINGLE_EPOCH,
        Events.DATALOADER_STOP_ITERATION,
        Events.INTERRUPT,
    ]

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(clock)
        self._names: dict[Any, list[str]] = {}
        self._reset()

    def _reset(self) -> None:
        self._rows = array("d")  # _WIDTH numbers for each iteration
        self._base = 0  # where the present iteration begins
        self._longer: dict[Any, list[list[Any]]] = {event: [] for event in (*_OF_RUN, *_OF_EPOCH)}

    def _event_handlers(self) -> Iterable[tuple[Events, Callable[..., None]]]:
        return (
            (Events.STARTED, self._begin_run),
            (Events.EPOCH_STARTED, self._begin_longer),
            (Events.GET_BATCH_STARTED, self._begin_fetch),
            (Events.ITERATION_STARTED, self._begin_step),
            (Events.EPOCH_COMPLETED, self._begin_longer),
            (Events.COMPLETED, self._begin_longer),
        )

    def _span_recorder(self) -> SpanRecorder:
        return SpanRecorder(self._clock, self._phase_column(_DATAFLOW), self._phase_column(_PROCESSING), self._column)

    # ------------------------------------------------------------------------------------------------------- events

    def _begin_run(self, engine: Engine) -> None:
        self._reset()
        for event in (*_OF_RUN, *_OF_EPOCH, *_OF_ITERATION):
            handlers = [one.handler for one in engine.handlers(event) if abs(one.priority) != OUTSIDE]
            self._names[event] = [name_of(handler) for handler in handlers]
        self._begin_longer(engine)

    def _begin_longer(self, engine: Engine) -> None:
        self._longer[engine.last_event_name].append([engine.state.epoch, 0.0])

    def _begin_fetch(self, engine: Engine) -> None:
        self._add_row(engine.state.epoch, engine.state.iteration + 1)

    def _begin_step(self, engine: Engine) -> None:
        if engine.state.dataloader is None:
            self._add_row(engine.state.epoch, engine.state.iteration)
            self._rows[self._base + _GS] = self._rows[self._base + _GC] = math.nan

    def _add_row(self, epoch: int, iteration: int) -> None:
        self._base = len(self._rows)
        self._rows.extend(_BLANK)
        self._rows[self._base] = epoch
        self._rows[self._base + _ITERATION] = iteration

    # An iteration, epoch or run that began before this was attached has no place for its times.

    def _phase_column(self, place: int) -> Callback:
        def of_phase(engine: Engine, began: float, ended: float) -> None:
            if self._rows:
                self._rows[self._base + place] = ended - began

        return of_phase

    def _column(self, registration: Registration) -> Callback | None:
        event = registration.bare_event
        place = _OF_ITERATION.get(event, 0) if isinstance(event, Events) else 0

        def of_iteration(engine: Engine, began: float, ended: float) -> None:
            if self._rows:
                self._rows[self._base + place] += ended - began

        def of_longer(engine: Engine, began: float, ended: float) -> None:
            if self._longer[event]:
                self._longer[event][-1][1] += ended - began

        return of_iteration if place else of_longer if event in self._longer else None

    # ------------------------------------------------------------------------------------------------------ results

    @property
    def processing_times(self) -> Tensor:
        """Seconds of the step, by iteration; NaN if it did not return."""
        return torch.tensor(self._rows[_PROCESSING::_WIDTH], dtype=torch.float64)

    @property
    def dataflow_times(self) -> Tensor:
        """Seconds of the fetch, by iteration, without the handlers around it; NaN without data."""
        return torch.tensor(self._rows[_DATAFLOW::_WIDTH], dtype=torch.float64)

    @property
    def event_handlers_times(self) -> dict[Any, Tensor]:
        """Seconds of all handlers of an event, by iteration, epoch or run."""
        longer = {event: [seconds for _, seconds in times] for event, times in self._longer.items()}
        times = {**longer, **{event: self._rows[place::_WIDTH] for event, place in _OF_ITERATION.items()}}
        return {event: torch.tensor(values, dtype=torch.float64) for event, values in times.items()}

    def get_results(self) -> dict[str, Any]:
        """The results of the run so far.

        Returns:
            ``processing_stats`` and ``dataflow_stats``: ``total``, and for more than one time ``min/index``,
            ``max/index``, ``mean`` and ``std``, in seconds; ``event_handlers_stats``: the same by the name of the
            event, and ``total_time``; ``event_handlers_names``: the handlers, by the name of the event with ``_names``.
        """
        of_events = self.event_handlers_times
        found: dict[str, Any] = {event.name: _basic_stats(times) for event, times in of_events.items()}
        found["total_time"] = math.fsum(float(times.nansum()) for times in of_events.values())
        return OrderedDict(
            processing_stats=_basic_stats(self.processing_times),
            dataflow_stats=_basic_stats(self.dataflow_times),
            event_handlers_stats=found,
            event_handlers_names={f"{event.name}_names": names for event, names in self._names.items()},
        )

    def write_results(self, output_path: str | PathLike[str]) -> None:
        """Write all times to a CSV file, a line for each iteration; what did not happen is empty.

        Args:
            output_path: The file.
        """
        header = ["epoch", "iteration", "processing_stats", "dataflow_stats"]
        header += [f"Event_{event.name}" for event in (*_OF_RUN, *_OF_EPOCH, *_OF_ITERATION)]
        by_epoch = [dict(self._longer[event]) for event in _OF_EPOCH]
        of_run = [self._longer[event][-1][1] if self._longer[event] else None for event in _OF_RUN]

        def lines() -> Iterator[list[Any]]:
            for base in range(0, len(self._rows), _WIDTH):
                row = self._rows[base : base + _WIDTH]
                epoch = int(row[_EPOCH])
                numbers = [epoch, int(row[_ITERATION]), row[_PROCESSING], row[_DATAFLOW]]
                yield [*numbers, *of_run, *(times.get(epoch) for times in by_epoch), *row[_IS:]]

        write_csv(output_path, header, lines())

    @staticmethod
    def print_results(results: Mapping[str, Any]) -> str:
        """Print the result of :meth:`get_results`.

        Returns:
            The printed text.
        """
        names, of_events = results["event_handlers_names"], results["event_handlers_stats"]
        rule = " " + "-" * 52
        lines = ["", rule, f"| {'Time profiling stats (in seconds):':<51}|", rule]
        lines += ["total  |  min/index  |  max/index  |  mean  |  std", ""]
        lines += ["Processing function:", _show(results["processing_stats"]), ""]
        lines += ["Dataflow:", _show(results["dataflow_stats"]), ""]
        lines += ["Event handlers:", _show({"total": of_events["total_time"]}), ""]
        for event in (*_OF_RUN[:1], *_OF_EPOCH[:1], *_OF_ITERATION, *_OF_EPOCH[1:], *_OF_RUN[1:]):
            lines += [f"- {event!r}: {names.get(f'{event.name}_names', [])}", _show(of_events[event.name]), ""]
        text = "\n".join(lines)
        print_table(text)
        return text


def _basic_stats(times: Tensor) -> dict[str, Any]:
    """With the keys of pytorch-ignite; only the total for a single time."""
    found = stats(times.tolist())
    if not found:
        return OrderedDict(total="not yet triggered")
    keys = {"total": "total", "min": "min/index", "max": "max/index", "mean": "mean", "std": "std"}
    return OrderedDict((keys[key], value) for key, value in found.items() if key == "total" or found["std"] is not None)


def _show(found: Mapping[str, Any]) -> str:
    shown = (f"{value[0]:.5f}/{value[1]}" if isinstance(value, tuple) else value for value in found.values())
    return " | ".join(value if isinstance(value, str) else f"{value:.5f}" for value in shown)

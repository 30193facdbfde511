"""Measure each call of each handler, and the fetches and steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from os import PathLike
from typing import Any, Final

from ignite_core.engine.events import Events
from ignite_core.engine.registration import Registration
from ignite_core.handlers.profiling._spans import Callback, Profiler, SpanRecorder
from ignite_core.handlers.profiling._stats import name_of, print_table, stats, write_csv

__all__ = ["HandlersTimeProfiler"]

_NONE: Final = ("None", "None")
_HEADER: Final = ("Handler", "Event Name", "Total(s)", "Min(s)/IDX", "Max(s)/IDX", "Mean(s)", "Std(s)")


class HandlersTimeProfiler(Profiler):
    """Measures each call of each handler, including handlers of custom events and those added during the run.

    Handlers that are not due are not called, and not measured. The time of a handler includes the engines that run in
    it. A new run starts from zero; pauses are not counted.

    Args:
        clock: Returns the time in seconds.

    Attributes:
        processing_times: Seconds of each step.
        dataflow_times: Seconds of each fetch, without the handlers around it.
        event_handlers_times: Seconds of each call, by event and by the name of the handler; if several have the same
            name, the second one is called ``name (2)``.

    Raises:
        TypeError: If ``clock`` is not callable.

    Example:
        >>> from ignite_core.engine import Engine
        >>> times = iter(range(1000))
        >>> trainer, profiler = Engine(lambda engine, batch: None), HandlersTimeProfiler(clock=lambda: next(times))
        >>> @trainer.on(Events.ITERATION_COMPLETED(every=2))
        ... def slow():
        ...     next(times)
        >>> handle = profiler.attach(trainer)
        >>> state = trainer.run(range(5))
        >>> profiler.event_handlers_times[Events.ITERATION_COMPLETED]
        {'slow': [2, 2]}
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(clock)
        self._of_registration: dict[int, list[float]] = {}
        self.processing_times: list[float] = []
        self.dataflow_times: list[float] = []
        self.event_handlers_times: dict[Any, dict[str, list[float]]] = {}

    def _event_handlers(self) -> Iterable[tuple[Events, Callable[..., None]]]:
        return ((Events.STARTED, self._begin_run),)

    def _span_recorder(self) -> SpanRecorder:
        self._of_registration, self.event_handlers_times = {}, {}  # another engine has other registrations
        fetch, step = _appended_to(self.dataflow_times), _appended_to(self.processing_times)
        return SpanRecorder(self._clock, fetch, step, lambda registration: _appended_to(self._times_of(registration)))

    def _times_of(self, registration: Registration) -> list[float]:
        times = self._of_registration.get(registration.number)
        if times is None:
            times = self._of_registration[registration.number] = []
            named = self.event_handlers_times.setdefault(registration.bare_event, {})
            name = unnumbered = name_of(registration.handler)
            number = 1
            while name in named:
                number += 1
                name = f"{unnumbered} ({number})"
            named[name] = times
        return times

    def _begin_run(self) -> None:
        for times in (self.processing_times, self.dataflow_times, *self._of_registration.values()):
            times.clear()

    # ------------------------------------------------------------------------------------------------------ results

    def get_results(self) -> list[list[Any]]:
        """The results of the run so far.

        Returns:
            For each handler a row with its name, the name of the event, and in seconds the total, the minimum with its
            index, the maximum with its index, the mean and the standard deviation; ``"not triggered"`` and ``"None"``
            if it was not called. Then rows for ``Total``, ``Processing`` and ``Dataflow``.
        """
        rows = [
            [name, getattr(event, "name", str(event)), *_row(times)]
            for event, named in self.event_handlers_times.items()
            for name, times in named.items()
        ]
        total = math.fsum(second for times in self._of_registration.values() for second in times)
        rows.append(["Total", "", total, "", "", "", ""])
        rows.append(["Processing", "None", *_row(self.processing_times)])
        rows.append(["Dataflow", "None", *_row(self.dataflow_times)])
        return rows

    def write_results(self, output_path: str | PathLike[str]) -> None:
        """Write all times to a CSV file: a column for each handler, with its k-th call in the k-th line.

        Args:
            output_path: The file.
        """
        columns = {
            f"{name} ({getattr(event, 'name', str(event))})": times
            for event, named in self.event_handlers_times.items()
            for name, times in named.items()
        }
        lines = zip_longest(self.processing_times, self.dataflow_times, *columns.values())
        header = ["#", "processing_stats", "dataflow_stats", *columns]
        write_csv(output_path, header, ([number, *line] for number, line in enumerate(lines, start=1)))

    @staticmethod
    def print_results(results: Sequence[Sequence[Any]]) -> None:
        """Print the result of :meth:`get_results` as a table."""
        table = [list(_HEADER), *([_show(cell) for cell in row] for row in results)]
        *of_handlers, processing, dataflow = table
        widths = [max(map(len, column)) for column in zip(*of_handlers, strict=True)]
        lines = [
            "  ".join([*map(str.ljust, row[:2], widths), *map(str.rjust, row[2:], widths[2:])]).rstrip()
            for row in of_handlers
        ]
        rule = "  ".join("-" * width for width in widths)
        lines = ["", rule, lines[0], rule, *lines[1:-1], rule, lines[-1], rule]
        for name, _, total, least, most, mean, std in (processing, dataflow):
            lines.append(
                f"{name} took total {total}s [min/index: {least}, max/index: {most}, mean: {mean}s, std: {std}s]"
            )
        print_table("\n".join(lines))


def _appended_to(times: list[float]) -> Callback:
    append = times.append
    return lambda engine, began, ended: append(ended - began)


def _row(times: list[float]) -> list[Any]:
    found = stats(times)
    if not found:
        return ["not triggered", _NONE, _NONE, "None", "None"]
    std = "None" if found["std"] is None else found["std"]
    return [found["total"], found["min"], found["max"], found["mean"], std]


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(map(_show, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)

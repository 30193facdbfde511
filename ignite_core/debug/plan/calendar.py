"""The calendar of a run: its epochs, the calls of each handler, what is saved, and the values of schedules."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

__all__ = ["Calendar", "Firings", "Mark", "PlannedEpoch", "PlannedHandler", "Series"]

#: The table shows at most this many epochs: the first and the last ones.
_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class Firings:
    """Moments of a run as pairs ``(epoch, iteration)``, stored as spans of regular steps.

    Args:
        spans: Pairs of an epoch and a range of iterations.

    Example:
        >>> firings = Firings(((1, range(2, 7, 2)), (2, range(8, 9))))
        >>> len(firings), firings.first, firings.last, firings.in_epoch(1)
        (4, (1, 2), (2, 8), 3)
        >>> list(firings)
        [(1, 2), (1, 4), (1, 6), (2, 8)]
    """

    spans: tuple[tuple[int, range], ...] = ()

    def __len__(self) -> int:
        return sum(len(iterations) for _, iterations in self.spans)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((epoch, iteration) for epoch, iterations in self.spans for iteration in iterations)

    @property
    def first(self) -> tuple[int, int] | None:
        """The first moment; None if there is none."""
        return (self.spans[0][0], self.spans[0][1][0]) if self.spans else None

    @property
    def last(self) -> tuple[int, int] | None:
        """The last moment; None if there is none."""
        return (self.spans[-1][0], self.spans[-1][1][-1]) if self.spans else None

    def in_epoch(self, number: int) -> int:
        """The number of moments in an epoch."""
        return sum(len(iterations) for epoch, iterations in self.spans if epoch == number)


@dataclass(frozen=True, slots=True)
class PlannedEpoch:
    """An epoch, and the iterations that begin in it."""

    number: int
    iterations: range


@dataclass(frozen=True, slots=True)
class PlannedHandler:
    """One registration of a handler.

    Attributes:
        name: Name of the handler, with its place in the source.
        event: Name of the event.
        filter: The filter as text; empty without a filter.
        firings: When it is called.
        acts: Whether it, or its stand-in, was called in the dry run; otherwise its calls were only recorded.
        is_of_loop: Whether each run reaches its event. When other events are fired, as by the step, is not known,
            unless a handler that acts fires them.
    """

    name: str
    event: str
    filter: str
    firings: Firings
    acts: bool
    is_of_loop: bool

    def __str__(self) -> str:
        where = f"{self.event}({self.filter})" if self.filter else self.event
        first, last = self.firings.first, self.firings.last
        if first is None or last is None:
            times = "never" if self.is_of_loop else "not known"
        elif len(self.firings) == 1:
            times = f"once, at iteration {first[1]} (epoch {first[0]})"
        else:
            times = f"{len(self.firings)} times, at iterations {first[1]} to {last[1]} (epochs {first[0]} to {last[0]})"
        return f"{where}: {self.name}: {times}"


@dataclass(frozen=True, slots=True)
class Mark:
    """An action of a handler at one moment.

    Attributes:
        kind: ``"validation"``, ``"save"``, or a word chosen by the handler.
        epoch: The epoch.
        iteration: Iterations begun.
        what: Details, as the name of the file that is saved.
        certain: False if it depends on values known only in the real run, as a score.
    """

    kind: str
    epoch: int
    iteration: int
    what: str = ""
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """A number that handlers change, as a learning rate.

    Args:
        steps: The first iteration of each value, ascending.
        values: The values.

    Example:
        >>> rate = Series(array("q", [1, 11]), array("d", [0.5, 0.25]))
        >>> rate.at(1), rate.at(10), rate.at(11), rate.at(0)
        (0.5, 0.5, 0.25, None)
    """

    steps: array[int]
    values: array[float]

    def at(self, iteration: int) -> float | None:
        """The value during the step of an iteration; None before the first value."""
        place = bisect_right(self.steps, iteration)
        return self.values[place - 1] if place else None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.steps, self.values, strict=True)

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Result of :meth:`Engine.plan <ignite_core.engine.Engine.plan>`; ``print`` it, or read its attributes.

    Attributes:
        epochs: The epochs in their order.
        handlers: All handlers of the engine, in the order in which they were registered.
        marks: Actions of handlers, in order of time.
        values: Values that handlers write, by name.
        end: The event by which the run ends: ``"COMPLETED"``, ``"TERMINATE"`` (also if ``max_iters`` is reached inside
            an epoch) or ``"INTERRUPT"``.
    """

    epochs: tuple[PlannedEpoch, ...]
    handlers: tuple[PlannedHandler, ...]
    marks: tuple[Mark, ...] = ()
    values: Mapping[str, Series] = field(default_factory=lambda: MappingProxyType({}))
    end: str = "COMPLETED"

    @property
    def iterations(self) -> range:
        """All iterations that begin."""
        if not self.epochs:
            return range(1, 1)
        return range(self.epochs[0].iterations.start, self.epochs[-1].iterations.stop)

    @property
    def saves(self) -> tuple[Mark, ...]:
        """The checkpoints that are written, including those that are removed later."""
        return tuple(mark for mark in self.marks if mark.kind == "save")

    @property
    def validations(self) -> tuple[Mark, ...]:
        """The calls of the handlers in ``validations``."""
        return tuple(mark for mark in self.marks if mark.kind == "validation")

    @property
    def lr(self) -> Series | None:
        """The learning rate, of the first parameter group if there are several; None if no handler writes it."""
        return next((series for name, series in self.values.items() if name.partition("[")[0] == "lr"), None)

    @property
    def never(self) -> tuple[PlannedHandler, ...]:
        """Handlers of the events of the loop that are never called."""
        return tuple(handler for handler in self.handlers if handler.is_of_loop and not len(handler.firings))

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each handler that is never called."""
        iterations, epochs = len(self.iterations), len(self.epochs)
        return tuple(f"{handler} in {iterations} iterations and {epochs} epochs" for handler in self.never)

    def __str__(self) -> str:
        count = len(self.iterations)
        lines = [f"{len(self.epochs)} epochs with {count} iterations in all, ends with {self.end}", "", *self._table()]
        lines += ["", "handlers:", *(f"  {handler}" for handler in self.handlers)] if self.handlers else []
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """By epoch: iterations, marks, and the values at the first and the last step."""
        kinds = list(dict.fromkeys(mark.kind for mark in self.marks))
        header = ["epoch", "iterations", *(f"{kind}s" for kind in kinds), *self.values]
        epochs = list(self.epochs)
        hidden = len(epochs) - _ROWS
        if hidden > 0:
            epochs = [*epochs[: _ROWS // 2], *epochs[-_ROWS // 2 :]]
        marks: dict[tuple[str, int], list[str]] = {}
        for mark in self.marks:
            marks.setdefault((mark.kind, mark.epoch), []).append(f"{mark.iteration}{'' if mark.certain else '?'}")
        rows = []
        for epoch in epochs:
            steps = epoch.iterations
            row = [str(epoch.number), f"{steps[0]}-{steps[-1]}" if steps else "none"]
            row += [_shortened(marks.get((kind, epoch.number), [])) for kind in kinds]
            rows.append(row + [_values_over(series, steps) for series in self.values.values()])
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]
        ]
        if hidden > 0:
            lines.insert(1 + _ROWS // 2, f"... {hidden} more epochs ...")
        return lines


def _shortened(moments: list[str]) -> str:
    """The iterations, or the number of them if there are more than 3."""
    if len(moments) <= 3:
        return ", ".join(moments) or "-"
    return f"{len(moments)}: {moments[0]}, ..., {moments[-1]}"


def _values_over(series: Series, steps: range) -> str:
    """The values at the first and the last step."""
    if not steps:
        return "-"
    first, last = (series.at(steps[place]) for place in (0, -1))
    shown = ["-" if value is None else f"{value:.6g}" for value in (first, last)]
    return shown[0] if first == last else " -> ".join(shown)

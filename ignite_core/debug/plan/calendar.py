"""What a run will do, as a value: its epochs, when each handler is called, what is saved, and what is written where."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

__all__ = ["Calendar", "Firings", "Mark", "PlannedEpoch", "PlannedHandler", "Series"]

#: Rows of the table by epoch that are shown in full; of more, the first and the last are.
_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class Firings:
    """Moments of a run, as pairs ``(epoch, iteration)``; a million of them in regular steps take next to no memory.

    Args:
        spans: Epochs, and the iterations in each.

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
        """The first one; None if there is none."""
        return (self.spans[0][0], self.spans[0][1][0]) if self.spans else None

    @property
    def last(self) -> tuple[int, int] | None:
        """The last one; None if there is none."""
        return (self.spans[-1][0], self.spans[-1][1][-1]) if self.spans else None

    def in_epoch(self, number: int) -> int:
        """How many there are in an epoch."""
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
        name: Of the handler, with its place in the source.
        event: The name of the event.
        filter: The filter in words; empty without.
        firings: When it is called.
        acts: It took part in the virtual run; otherwise it was only noted when it is due.
        is_of_loop: Its event is one that each run reaches; of others, such as those that the step fires, it is not
            known when they are fired, unless a handler that acts does it.
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
            said = "never" if self.is_of_loop else "not known"
        elif len(self.firings) == 1:
            said = f"once, at iteration {first[1]} (epoch {first[0]})"
        else:
            said = f"{len(self.firings)} times, at iterations {first[1]} to {last[1]} (epochs {first[0]} to {last[0]})"
        return f"{where}: {self.name}: {said}"


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happens at one moment.

    Attributes:
        kind: ``"validation"``, ``"save"``, or a word of the handler's own.
        epoch: The epoch.
        iteration: Iterations begun.
        what: The name of the file that is saved, say.
        certain: False: it depends on what only the run itself can tell, such as a score.
    """

    kind: str
    epoch: int
    iteration: int
    what: str = ""
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """A number that handlers change, such as a learning rate, as each step finds it.

    Args:
        steps: The iterations from which on ``values`` hold, ascending.
        values: The values.

    Example:
        >>> rate = Series(array("q", [1, 11]), array("d", [0.5, 0.25]))
        >>> rate.at(1), rate.at(10), rate.at(11), rate.at(0)
        (0.5, 0.5, 0.25, None)
    """

    steps: array[int]
    values: array[float]

    def at(self, iteration: int) -> float | None:
        """What the step of an iteration finds; None: what nobody has written yet."""
        place = bisect_right(self.steps, iteration)
        return self.values[place - 1] if place else None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.steps, self.values, strict=True)

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class Calendar:
    """What :meth:`Engine.plan <ignite_core.engine.Engine.plan>` foresees; ``print`` it, or read its attributes.

    Attributes:
        epochs: The epochs in their order.
        handlers: All handlers of the engine, in the order in which they were registered.
        marks: What happens at single moments, in order of time.
        values: What is written over time, by name.
        end: The event by which the run ends: ``"COMPLETED"``, ``"TERMINATE"`` (also where ``max_iters`` is reached
            inside an epoch) or ``"INTERRUPT"``.
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
        """The checkpoints that are written; which of them stay, their handlers know."""
        return tuple(mark for mark in self.marks if mark.kind == "save")

    @property
    def validations(self) -> tuple[Mark, ...]:
        """The calls of the handlers that were said to be validations."""
        return tuple(mark for mark in self.marks if mark.kind == "validation")

    @property
    def lr(self) -> Series | None:
        """The learning rate, that of the first group of parameters if there are several; None: nobody writes it."""
        return next((series for name, series in self.values.items() if name.partition("[")[0] == "lr"), None)

    @property
    def never(self) -> tuple[PlannedHandler, ...]:
        """The handlers of the loop's own events that are never called."""
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
        """By epoch: iterations, what happens, and the values of the first and the last step."""
        kinds = list(dict.fromkeys(mark.kind for mark in self.marks))
        header = ["epoch", "iterations", *(f"{kind}s" for kind in kinds), *self.values]
        epochs = list(self.epochs)
        hidden = len(epochs) - _ROWS
        if hidden > 0:
            epochs = [*epochs[: _ROWS // 2], *epochs[-_ROWS // 2 :]]
        happens: dict[tuple[str, int], list[str]] = {}
        for mark in self.marks:
            happens.setdefault((mark.kind, mark.epoch), []).append(f"{mark.iteration}{'' if mark.certain else '?'}")
        rows = [[*self._columns(epoch), *self._cells(epoch, kinds, happens)] for epoch in epochs]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]
        ]
        if hidden > 0:
            lines.insert(1 + _ROWS // 2, f"... {hidden} more epochs ...")
        return lines

    @staticmethod
    def _columns(epoch: PlannedEpoch) -> tuple[str, str]:
        steps = epoch.iterations
        return str(epoch.number), f"{steps[0]}-{steps[-1]}" if steps else "none"

    def _cells(self, epoch: PlannedEpoch, kinds: list[str], happens: Mapping[tuple[str, int], list[str]]) -> list[str]:
        marked = [_shortened(happens.get((kind, epoch.number), [])) for kind in kinds]
        return marked + [_over(series, epoch.iterations) for series in self.values.values()]


def _shortened(moments: list[str]) -> str:
    """The iterations of an epoch, or how many, if they are many."""
    if len(moments) <= 3:
        return ", ".join(moments) or "-"
    return f"{len(moments)}: {moments[0]}, ..., {moments[-1]}"


def _over(series: Series, steps: range) -> str:
    """A value at the first and the last step."""
    if not steps:
        return "-"
    first, last = (series.at(steps[place]) for place in (0, -1))
    said = ["-" if value is None else f"{value:.6g}" for value in (first, last)]
    return said[0] if first == last else " -> ".join(said)

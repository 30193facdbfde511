"""Stand-ins for handlers in a virtual run: what :meth:`Engine.plan <ignite_core.engine.Engine.plan>` calls instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.engine.forecast import Forecast

__all__ = ["ForeseenLimit", "ForeseenWrites", "foreseen_writes"]


class ForeseenLimit:
    """Ends a virtual run when it has taken longer than so many seconds.

    Args:
        limit_sec: Seconds.
        forecast: Of a run with a clock.
    """

    def __init__(self, limit_sec: float, forecast: Forecast) -> None:
        self._limit_sec = limit_sec
        self._forecast = forecast

    def __call__(self, engine: Engine) -> None:
        if self._forecast.seconds() > self._limit_sec:
            self._forecast.ask(engine.terminate)


class ForeseenWrites:
    """Says what a schedule will write.

    Args:
        values: ``values(count)``: what the next ``count`` calls write; each a number, or a list with one for each name.
        names: What is written.
        forecast: Where that is said.
        write: ``write(engine, value)``, for what filters look at in the state of the engine.
    """

    def __init__(
        self,
        values: Callable[[int], list[Any]],
        names: list[str],
        forecast: Forecast,
        write: Callable[[Engine, Any], object] | None = None,
    ) -> None:
        self._next = _in_growing_parts(values)
        self._names = names
        self._forecast = forecast
        self._write = write

    def __call__(self, engine: Engine, *extras: Any, **named: Any) -> None:
        value = next(self._next)
        if self._write is not None:
            self._write(engine, value)
        numbers = list(_flat(value))
        names = self._names
        if len(names) != len(numbers):  # several groups of parameters
            names = [f"{names[0]}[{place}]" for place in range(len(numbers))]
        for name, number in zip(names, numbers, strict=True):
            self._forecast.write(name, number)


def foreseen_writes(scheduler: Any, forecast: Forecast) -> ForeseenWrites | None:
    """What stands in for a scheduler; None for one whose values nobody can know beforehand.

    Args:
        scheduler: With ``values(count)``, and either ``param_name`` or ``names``; it may have ``is_predictable``, and
            it writes to the state of the engine unless it has an ``optimizer`` or ``schedulers``.
        forecast: Where it is said what is written.
    """
    if not getattr(scheduler, "is_predictable", True):
        return None
    names = list(getattr(scheduler, "names", None) or [scheduler.param_name])
    for name, number in _in_force(scheduler, names):
        forecast.write(name, number)
    writes_state = not any(hasattr(scheduler, name) for name in ("optimizer", "schedulers", "dataloader"))
    write = (lambda engine, value: setattr(engine.state, names[0], value)) if writes_state else None
    return ForeseenWrites(scheduler.values, names, forecast, write)


def _in_force(scheduler: Any, names: list[str]) -> Iterator[tuple[str, float]]:
    """The values that the optimizer has before the run, by name."""
    groups = getattr(scheduler, "optimizer_param_groups", None)
    if groups is None or len(names) != 1 or not all(names[0] in group for group in groups):
        return
    values = [group[names[0]] for group in groups]
    if all(value == values[0] for value in values):
        yield names[0], float(values[0])


def _in_growing_parts(values: Callable[[int], list[Any]]) -> Iterator[Any]:
    """All that is to come, asked for in parts that double, as each part may begin with a copy of the schedule."""
    given, count = 0, 64
    while True:
        yield from values(count)[given:]
        given, count = count, 2 * count


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _flat(one)
    else:
        yield float(value)

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
        is_loaded: It goes on from what was saved: what a run announces again that goes on inside an epoch is no call.
    """

    def __init__(
        self,
        values: Callable[[int], list[Any]],
        names: list[str],
        forecast: Forecast,
        write: Callable[[Engine, Any], object] | None = None,
        is_loaded: bool = False,
    ) -> None:
        self._next = _in_growing_parts(values)
        self._names = names
        self._forecast = forecast
        self._write = write
        self._is_loaded = is_loaded

    def __call__(self, engine: Engine, *extras: Any, **named: Any) -> None:
        if self._is_loaded and engine.is_resumed:
            return
        self._is_loaded = False
        value = next(self._next)
        if self._write is not None:
            self._write(engine, value)
        numbers = list(_flat(value))
        for name, number in zip(_names_for(self._names, len(numbers)), numbers, strict=True):
            self._forecast.write(name, number)


def foreseen_writes(scheduler: Any, forecast: Forecast) -> ForeseenWrites | None:
    """What stands in for a scheduler; None for one whose values nobody can know beforehand.

    Args:
        scheduler: With ``next_values(count)``, and either ``param_name`` or ``names``; it may have ``is_predictable``.
            It writes to the state of the engine unless it has an ``optimizer``, ``schedulers`` or a ``dataloader``.
        forecast: Where it is said what is written.
    """
    if not getattr(scheduler, "is_predictable", True):
        return None
    names = list(getattr(scheduler, "names", None) or [scheduler.param_name])
    for name, number in _in_force(scheduler, names):
        forecast.write(name, number)
    writes_state = not any(hasattr(scheduler, name) for name in ("optimizer", "schedulers", "dataloader"))
    write = (lambda engine, value: setattr(engine.state, names[0], value)) if writes_state else None
    is_loaded = getattr(scheduler, "_is_loaded", False)
    return ForeseenWrites(scheduler.next_values, names, forecast, write, is_loaded)


def _in_force(scheduler: Any, names: list[str]) -> Iterator[tuple[str, float]]:
    """What the optimizer holds before the first call; nothing where one value is to replace different ones."""
    groups = getattr(scheduler, "optimizer_param_groups", None) or []
    held = [group[name] for group, name in zip(groups, names * len(groups), strict=False) if name in group]
    before = [
        float(value[0] if isinstance(value, tuple) else value) for value in held
    ]  # of betas, the first is written
    count = len(list(_flat(scheduler.next_values(1))))
    if count == 1 and len(set(before)) == 1:
        before = before[:1]
    if len(before) == count:
        yield from zip(_names_for(names, count), before, strict=True)


def _names_for(names: list[str], count: int) -> list[str]:
    """A name for each number: those of the schedule, or where there are several groups of parameters, with numbers."""
    if len(names) == count and len(set(names)) == count:
        return names
    return [f"{names[min(place, len(names) - 1)]}[{place}]" for place in range(count)]


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

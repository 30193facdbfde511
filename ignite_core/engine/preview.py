"""A run on a virtual clock: the one real loop, over batches that are not there, with handlers that only take note.

:func:`preview` mirrors the handlers of an engine on another one and runs that. A handler takes part in the virtual run
in one of these ways; all others are only noted:

- it is ``terminate``, ``terminate_epoch`` or ``interrupt`` of the engine itself;
- the user names it, ``engine.plan(run=[handler])``: then it is called with the virtual engine;
- its class has a method ``foresee``, see :class:`~ignite_core.engine.forecast.Foreseeable`.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ignite_core.engine.calendar import Calendar, PlannedEpoch, PlannedHandler
from ignite_core.engine.describe import describe
from ignite_core.engine.events import Events
from ignite_core.engine.forecast import Forecast, Tally
from ignite_core.engine.registration import Listener
from ignite_core.engine.virtual import Limits, set_up

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["preview"]

#: The events that each run reaches.
_OF_LOOP: Final = frozenset(
    {
        Events.STARTED,
        Events.EPOCH_STARTED,
        Events.GET_BATCH_STARTED,
        Events.GET_BATCH_COMPLETED,
        Events.ITERATION_STARTED,
        Events.ITERATION_COMPLETED,
        Events.EPOCH_COMPLETED,
        Events.COMPLETED,
    }
)

#: The methods of an engine that act on the virtual one, where they are handlers.
_REQUESTS: Final = ("terminate", "terminate_epoch", "interrupt")

#: Before all others.
_FIRST: Final = 10**9


def preview(
    real: Engine,
    virtual: Engine,
    limits: Limits,
    run: Sequence[Callable[..., Any]],
    validations: Sequence[Callable[..., Any]],
    seconds_per_iteration: float | None,
) -> Calendar:
    """What :meth:`Engine.plan <ignite_core.engine.Engine.plan>` does.

    Args:
        real: Whose run is foreseen; it is not changed.
        virtual: A new engine whose step does nothing; it is used up.
        limits: How far it runs.
        run: Handlers that are called in the virtual run.
        validations: Handlers whose calls are marked as validations.
        seconds_per_iteration: How long a step takes, with all that belongs to it.
    """
    _check_registered(real, run, validations)
    data, plan = set_up(real, virtual, limits)
    state, goes_on = virtual.state, virtual._paused_at is not None
    begun = 0 if plan.is_new else real._position.progress(state)[0]
    seconds_before = real._position._stopped - real._position._began if goes_on else None
    forecast = Forecast(virtual, seconds_per_iteration, begun, seconds_before)
    virtual._process_function = forecast.step
    entries = [entry for entry in _mirror(real, virtual, forecast, run, validations) if entry.is_shown]
    epochs: list[tuple[int, int]] = []
    if goes_on and virtual._position.in_epoch:
        epochs.append((state.epoch, begun + 1))
    terminated = Tally()
    virtual.add_event_handler(Events.EPOCH_STARTED(priority=_FIRST), lambda: epochs.append(_next_epoch(virtual)))
    virtual.add_event_handler(Events.TERMINATE(priority=_FIRST), terminated)
    if real._resumption.is_waiting and begun and not goes_on:
        virtual.add_event_handler(Events.STARTED(priority=_FIRST), lambda: setattr(virtual._position, "resumed", True))
    if not plan.is_over:
        virtual.run(data, limits.max_epochs, limits.max_iters, limits.epoch_length)

    calendar = Calendar(
        epochs=_epochs(epochs, state.iteration),
        handlers=tuple(entry.planned() for entry in entries),
        marks=tuple(forecast.marks),
        values=MappingProxyType(forecast.values),
        end="INTERRUPT" if virtual._paused_at else "TERMINATE" if len(terminated.firings) else "COMPLETED",
    )
    for said in () if plan.is_over else calendar.warnings:
        warnings.warn(f"Engine.plan: {said}", stacklevel=3)
    return calendar


def _next_epoch(engine: Engine) -> tuple[int, int]:
    return engine.state.epoch, engine.state.iteration + 1


def _epochs(begun: list[tuple[int, int]], iteration: int) -> tuple[PlannedEpoch, ...]:
    """Epochs, of which only the beginnings are known, and the last iteration of all."""
    ends = [*(first for _, first in begun[1:]), iteration + 1]
    return tuple(PlannedEpoch(number, range(first, end)) for (number, first), end in zip(begun, ends, strict=False))


# -------------------------------------------------------------------------------------------------------- who listens


@dataclass(frozen=True, slots=True)
class _Entry:
    """A registration of the real engine, and what takes note of its firings on the virtual one."""

    listener: Listener
    tally: Tally
    acts: bool
    is_shown: bool

    def planned(self) -> PlannedHandler:
        listener = self.listener
        event = listener.event if isinstance(listener.event, str) else listener.event.bare
        name = event if isinstance(event, str) else event.name
        shown = "" if listener.filter is None else str(listener.filter)
        is_of_loop = isinstance(event, Events) and event in _OF_LOOP
        return PlannedHandler(describe(listener.handler), name, shown, self.tally.firings, self.acts, is_of_loop)


def _mirror(
    real: Engine,
    virtual: Engine,
    forecast: Forecast,
    run: Sequence[Callable[..., Any]],
    validations: Sequence[Callable[..., Any]],
) -> list[_Entry]:
    """Register, on the virtual engine, something for each handler of the real one, in the same order.

    Those that only are noted, at one event and with one numeric filter, are noted together.
    """
    for channel in real._dispatch:
        virtual._dispatch.register(channel.event, channel.counter)
    shared: dict[tuple[Any, Any], Tally] = {}
    entries = []
    for listener in sorted((one for channel in real._dispatch for one in channel), key=lambda one: one.number):
        owner = _owner(listener.handler)
        is_shown = not getattr(type(owner), "not_in_calendar", False)
        act = _stand_in(listener.handler, real, virtual, forecast, run)
        is_validation = listener.handler in validations
        is_plain = act is None and not is_validation and listener.condition is None
        event = listener.event if isinstance(listener.event, str) else listener.event.bare
        key = event, listener.filter
        tally = shared.get(key) if is_plain else None
        if tally is None:
            tally = Tally()
            noting: Callable[..., Any] = tally
            if act is not None or is_validation:
                inner = None if act is None else Listener(virtual, event, 0, act, listener.args, listener.kwargs)
                noting = functools.partial(_note_and_act, tally, inner, forecast if is_validation else None)
            _place(virtual, listener, noting)
        if is_plain:
            shared[key] = tally
        entries.append(_Entry(listener, tally, act is not None, is_shown))
    return entries


def _note_and_act(tally: Tally, inner: Listener | None, forecast: Forecast | None, engine: Engine, *extras: Any) -> Any:
    tally(engine)
    if forecast is not None:
        forecast.mark("validation")
    return None if inner is None else inner.invoke(engine, extras, {})


def _place(virtual: Engine, listener: Listener, handler: Callable[..., Any]) -> None:
    """Register a handler with the event, the filter and the place in the order of another one."""
    mirrored = Listener(virtual, listener.event, listener.number, handler, (), {})
    mirrored.priority, mirrored.rank = listener.priority, listener.rank
    virtual._dispatch._numbers = listener.number
    virtual._dispatch.channel(listener.event).add(mirrored)


def _owner(handler: Callable[..., Any]) -> Any:
    """The object whose method a handler is, else the handler itself."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return getattr(handler, "__self__", handler)


def _stand_in(
    handler: Callable[..., Any], real: Engine, virtual: Engine, forecast: Forecast, run: Sequence[Callable[..., Any]]
) -> Callable[..., Any] | None:
    """What is called in place of a handler; None: it is only noted."""
    if handler in run:
        return handler
    if isinstance(handler, functools.partial):
        inner = _stand_in(handler.func, real, virtual, forecast, ())
        return None if inner is None else functools.partial(inner, *handler.args, **handler.keywords)
    owner = _owner(handler)
    name = getattr(handler, "__name__", "")
    if owner is real:
        return getattr(virtual, name) if name in _REQUESTS else None
    stand_in = forecast.stand_in(owner)
    if owner is not handler:
        stand_in = getattr(stand_in, name, None)
    return stand_in if callable(stand_in) else None


def _check_registered(real: Engine, *named: Sequence[Callable[..., Any]]) -> None:
    for handler in itertools.chain(*named):
        if not real.has_event_handler(handler):
            raise ValueError(f"Engine.plan: {describe(handler)} must be a handler of this engine; attach it first")

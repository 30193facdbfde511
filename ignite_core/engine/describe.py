"""An engine as text: names of handlers with their source places, and the loop with all handlers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ignite_core.engine.events import BareEvent, Events, Filter

__all__ = ["LOOP_EVENTS", "describe", "draw", "source_place"]


def describe(handler: Callable[..., Any]) -> str:
    """The name of a callable and the place where it is defined, as far as Python knows."""
    named, place = _named(handler), source_place(handler)
    return f"{named.__qualname__} ({place})" if place else str(named.__qualname__)


def source_place(handler: Callable[..., Any]) -> str:
    """File name and line of the definition of a callable; empty if Python does not know them."""
    named = _named(handler)
    code = getattr(inspect.unwrap(getattr(named, "__func__", named)), "__code__", None)
    if code is None and isinstance(named, type):
        code = getattr(vars(named).get("__call__"), "__code__", None)
    return "" if code is None else f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}"


def _named(handler: Callable[..., Any]) -> Any:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler if hasattr(handler, "__qualname__") else type(handler)


#: The lines of the drawing: depth, and an event or text.
_LOOP: tuple[tuple[int, Events | str], ...] = (
    (1, Events.STARTED),
    (1, "for each epoch:"),
    (2, Events.EPOCH_STARTED),
    (2, "for each batch:"),
    (3, Events.GET_BATCH_STARTED),
    (3, Events.DATALOADER_STOP_ITERATION),
    (3, Events.GET_BATCH_COMPLETED),
    (3, Events.ITERATION_STARTED),
    (3, "output = step(engine, batch)"),
    (3, Events.ITERATION_COMPLETED),
    (2, Events.TERMINATE_SINGLE_EPOCH),
    (2, Events.EPOCH_COMPLETED),
    (1, Events.INTERRUPT),
    (1, Events.EXCEPTION_RAISED),
    (1, Events.TERMINATE),
    (1, Events.COMPLETED),
)

#: The events of a run, in the order in which it reaches them.
LOOP_EVENTS: tuple[Events, ...] = tuple(event for _, event in _LOOP if isinstance(event, Events))

#: Events that most runs never reach; drawn only if they have handlers.
_RARE = frozenset(
    {
        Events.DATALOADER_STOP_ITERATION,
        Events.TERMINATE_SINGLE_EPOCH,
        Events.INTERRUPT,
        Events.EXCEPTION_RAISED,
        Events.TERMINATE,
    }
)


class _Registration(Protocol):
    handler: Callable[..., Any]
    filter: Filter | None
    priority: int

    @property
    def bare_event(self) -> BareEvent: ...


def draw(title: str, step: str, registrations: Iterable[_Registration]) -> str:
    """The loop as text: each event, followed by its handlers in the order in which they run.

    Args:
        title: First word of the drawing.
        step: The description of the step.
        registrations: The registered handlers in their order; those of custom events are drawn below the loop.
    """
    by_event: dict[BareEvent, list[_Registration]] = {}
    for registration in registrations:
        by_event.setdefault(registration.bare_event, []).append(registration)
    lines = [f"{title} with the step {step}"]
    for depth, line in _LOOP:
        if isinstance(line, str):
            lines.append("    " * depth + line)
        elif line in by_event or line not in _RARE:
            lines += _draw_event(depth, line, by_event.pop(line, []))
    for event, handlers in by_event.items():
        lines += _draw_event(0, event, handlers)
    return "\n".join(lines)


def _draw_event(depth: int, event: BareEvent, handlers: list[_Registration]) -> list[str]:
    indent = "    " * depth
    name = event if isinstance(event, str) else repr(event)
    return [indent + name, *(f"{indent}  - {_draw_handler(handler)}" for handler in handlers)]


def _draw_handler(registration: _Registration) -> str:
    notes = [] if registration.filter is None else [str(registration.filter)]
    if registration.priority:
        notes.append(f"priority={registration.priority}")
    return describe(registration.handler) + (f" [{', '.join(notes)}]" if notes else "")

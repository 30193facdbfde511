"""An engine in words: names of handlers with their source places, and the whole loop drawn with all who listen."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["describe", "draw"]


def describe(handler: Callable[..., Any]) -> str:
    """The name of a callable and where it was written, as far as Python knows."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    named = handler if hasattr(handler, "__qualname__") else type(handler)
    code = getattr(inspect.unwrap(getattr(named, "__func__", named)), "__code__", None)
    if code is None:
        code = getattr(vars(named).get("__call__"), "__code__", None) if isinstance(named, type) else None
    place = "" if code is None else f" ({code.co_filename.rpartition('/')[2]}:{code.co_firstlineno})"
    return f"{named.__qualname__}{place}"


#: The loop as it is drawn: depth, and the name of an event or a line of its own.
_LOOP = (
    (1, "STARTED"),
    (1, "for each epoch:"),
    (2, "EPOCH_STARTED"),
    (2, "for each batch:"),
    (3, "GET_BATCH_STARTED"),
    (3, "DATALOADER_STOP_ITERATION"),
    (3, "GET_BATCH_COMPLETED"),
    (3, "ITERATION_STARTED"),
    (3, "output = step(engine, batch)"),
    (3, "ITERATION_COMPLETED"),
    (2, "TERMINATE_SINGLE_EPOCH"),
    (2, "EPOCH_COMPLETED"),
    (1, "INTERRUPT"),
    (1, "EXCEPTION_RAISED"),
    (1, "TERMINATE"),
    (1, "COMPLETED"),
)

#: Events that most runs never reach; drawn only where somebody listens.
_RARE = frozenset({"DATALOADER_STOP_ITERATION", "TERMINATE_SINGLE_EPOCH", "INTERRUPT", "EXCEPTION_RAISED", "TERMINATE"})


def draw(title: str, step: str, channels: Iterable[Any]) -> str:
    """The loop as text, each event followed by its handlers in the order in which they run.

    Args:
        title: First word of the drawing.
        step: The step, in words.
        channels: The channels of all events; those that are not part of the loop are drawn below it.
    """
    own = {channel.event.name: channel for channel in channels if type(channel.event).__name__ == "Events"}
    lines = [f"{title} with the step {step}"]
    for depth, name in _LOOP:
        channel = own.get(name)
        if channel is None:
            lines.append("    " * depth + name)
        elif len(channel) or name not in _RARE:
            lines += _draw_channel(depth, channel)
    for channel in channels:
        if channel not in own.values() and len(channel):
            lines += _draw_channel(0, channel)
    return "\n".join(lines)


def _draw_channel(depth: int, channel: Any) -> list[str]:
    indent = "    " * depth
    name = channel.event if isinstance(channel.event, str) else repr(channel.event)
    return [indent + name, *(f"{indent}  - {_draw_listener(listener)}" for listener in channel)]


def _draw_listener(listener: Any) -> str:
    notes = [] if listener.filter is None else [str(listener.filter)]
    if listener.priority:
        notes.append(f"priority={listener.priority}")
    return describe(listener.handler) + (f" [{', '.join(notes)}]" if notes else "")

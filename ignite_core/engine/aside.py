"""A state on which an engine may run for something else, and be back afterwards where it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ignite_core.engine.data import Position
from ignite_core.engine.seeding import Resumption
from ignite_core.engine.state import State

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["ScratchState", "set_aside"]

#: What an engine knows of its run, beside its state, its place in the data and the counts of its events.
_OF_RUN: Final = ("_data_is_set", "_length_is_found", "_paused_at", "_skip", "_stop", "last_event_name")


class ScratchState(State):
    """A state that reads what it does not have from another one, and writes nothing there.

    Example:
        >>> real = State(alpha=0.5)
        >>> scratch = ScratchState(real)
        >>> scratch.alpha
        0.5
        >>> scratch.alpha = 1.0
        >>> real.alpha, scratch.alpha
        (0.5, 1.0)
    """

    def __init__(self, real: State) -> None:
        super().__init__()
        self._real = real
        self.event_to_attr = real.event_to_attr
        self.metrics = dict(real.metrics)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@contextmanager
def set_aside(engine: Engine) -> Iterator[None]:
    """Inside, the engine stands before a new run; afterwards it is where it was, a pause or a loaded place included.

    Attributes of its state that are written inside are forgotten. Objects that lie there and are changed stay changed.

    Args:
        engine: It must not be running.

    Raises:
        RuntimeError: If it is running.

    Example:
        >>> from ignite_core.engine import Engine
        >>> engine = Engine(lambda engine, batch: batch)
        >>> _ = engine.run([1, 2, 3])
        >>> with set_aside(engine):
        ...     print(engine.run([1, 2]).iteration)
        2
        >>> engine.state.iteration
        3
    """
    if engine._is_running:
        raise RuntimeError("set_aside: the engine is running; do this before its run, or in a handler of another one")
    kept = {name: getattr(engine, name) for name in _OF_RUN}
    state, position, resumption = engine.state, engine._position, engine._resumption
    counts = {channel: (channel.fired, channel.muted) for channel in engine._dispatch}
    restored = engine._dispatch.counts
    engine.state, engine._position, engine._resumption = ScratchState(state), Position(), Resumption()
    engine._paused_at, engine._data_is_set = None, False
    try:
        yield
    finally:
        engine.state, engine._position, engine._resumption = state, position, resumption
        engine._dispatch.counts = restored
        for channel, (fired, muted) in counts.items():
            channel.fired, channel.muted = fired, muted
        for name, value in kept.items():
            setattr(engine, name, value)

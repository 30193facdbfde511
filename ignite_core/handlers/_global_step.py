"""Which engine provides the global step of an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events

__all__ = ["clock_of", "global_step_from_engine", "step_of"]

#: Events at which the results of an evaluator belong to a step of the engine that runs it.
_OF_WHOLE_EPOCHS: Final = frozenset({Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED})


def clock_of(engine: Engine, event: EventName | None = None) -> Engine:
    """The engine that provides the global step of an event: ``engine`` itself, or the engine that runs it.

    An engine that another one runs for a single epoch is an evaluator: at events of its epoch or run, the global step
    is that of the other engine. At events of an iteration it is its own.

    Args:
        engine: The engine that fires the event.
        event: The event; by default the last one.

    Example:
        >>> trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
        >>> @evaluator.on(Events.COMPLETED)
        ... def show(engine):
        ...     print(clock_of(engine).state.iteration, engine.state.iteration)
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2, 3]))
        >>> state = trainer.run([1, 2, 3, 4, 5], max_epochs=2)
        5 3
        10 3
    """
    event = engine.last_event_name if event is None else event
    if engine.parent is not None and engine.state.max_epochs == 1 and event in _OF_WHOLE_EPOCHS:
        return engine.parent
    return engine


def step_of(engine: Engine, event: EventName) -> int:
    """The step that loggers use at an event.

    It is the count of the event: epochs at an event of an epoch or a run, iterations at other events. For an evaluator
    it is the count of the engine that runs it: its epoch, or its iteration if the evaluator runs inside an epoch.
    """
    source = clock_of(engine, event)
    at = event if source is engine else source.last_event_name
    attribute = source.state.event_to_attr.get(at, "iteration")
    step: int = getattr(source.state, attribute)
    return step


def global_step_from_engine(
    engine: Engine, custom_event_name: EventName | None = None, fallback_attr: str = "epoch"
) -> Callable[[Any, Any], int]:
    """A ``global_step_transform`` that reads the counters of another engine.

    Args:
        engine: The engine whose counters are read.
        custom_event_name: The event whose count is used; by default the event that is passed to the function.
        fallback_attr: The attribute of ``engine.state`` for events that have no counter attribute.

    Returns:
        A function of (engine, event name).

    Example:
        >>> trainer = Engine(lambda engine, batch: None)
        >>> state = trainer.run([1, 2, 3], max_epochs=2)
        >>> step = global_step_from_engine(trainer)
        >>> step(None, Events.EPOCH_COMPLETED), step(None, Events.ITERATION_COMPLETED), step(None, "saved")
        (2, 6, 2)
    """

    def global_step(_: object, event_name: EventName) -> int:
        event = event_name if custom_event_name is None else custom_event_name
        attribute = engine.state.event_to_attr.get(event, fallback_attr)
        step: int = getattr(engine.state, attribute)
        return step

    return global_step

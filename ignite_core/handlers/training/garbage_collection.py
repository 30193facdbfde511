"""Collect garbage at chosen events."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine

__all__ = ["GarbageCollection"]


class GarbageCollection:
    """Disables Python's automatic garbage collection while an engine runs, and collects at events instead.

    This concerns only objects in reference cycles; all others are freed at once by reference counting. Automatic
    collection can start at any allocation, and the other ranks then wait for this one. With this handler all ranks
    collect after the same iteration: the young generations often, which is fast, and everything now and then. Automatic
    collection is restored when the run ends or raises.

    Example:
        >>> trainer = Engine(lambda engine, batch: gc.isenabled())
        >>> handle = GarbageCollection().attach(trainer)
        >>> trainer.run([0]).output, gc.isenabled()
        (False, True)
    """

    def attach(
        self,
        engine: Engine,
        young: EventName | None = Events.ITERATION_COMPLETED(every=100),  # noqa: B008 - events are immutable
        everything: EventName | None = Events.EPOCH_COMPLETED,
    ) -> RemovableHandle:
        """Collect at events of an engine.

        Args:
            engine: The trainer.
            young: When to collect objects created since the last two collections; None: never.
            everything: When to collect all objects; None: never, so that a reference cycle that has survived two
                collections of the young generations is kept until the end of the run.

        Returns:
            A handle whose ``remove()`` detaches this handler; during a run, automatic collection is restored at once.
        """
        check_engine("GarbageCollection.attach", engine)
        with ExitStack() as attached:
            attached.enter_context(engine.add_run_context(_disabled))
            for event, generation in ((young, 1), (everything, 2)):
                if event is not None:
                    attached.enter_context(engine.add_event_handler(event, partial(_collect, generation)))
            return RemovableHandle(attached.pop_all().close)


def _collect(generation: int) -> None:
    gc.collect(generation)


@contextmanager
def _disabled(engine: Engine) -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

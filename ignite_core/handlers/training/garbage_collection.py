"""Say when Python looks for garbage, instead of whenever it likes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers._arguments import check_engine

__all__ = ["GarbageCollection"]


class GarbageCollection:
    """Turns Python's automatic garbage collection off while an engine runs, and collects at events instead.

    What Python frees by counting references it frees at once as ever; this is about objects that refer to each other
    in a circle. Automatic collection looks for them at any allocation, for which one rank waits while the others wait
    for it. Here all ranks collect after the same iteration: often only what is young, which is fast, and all of it
    now and then. When the run ends, or raises, collection is what it was before.

    Example:
        >>> trainer = Engine(lambda engine, batch: gc.isenabled())
        >>> GarbageCollection().attach(trainer)
        >>> trainer.run([0]).output, gc.isenabled()
        (False, True)
    """

    def attach(
        self,
        engine: Engine,
        young: Any = Events.ITERATION_COMPLETED(every=100),  # noqa: B008 - events are immutable
        everything: Any = Events.EPOCH_COMPLETED,
    ) -> None:
        """Collect at events of an engine.

        Args:
            engine: The trainer.
            young: When to collect what was made since the last two collections; None: never.
            everything: When to collect everything; None: never, and a circle that has outlived two collections of what
                is young is kept until the end of the run.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        check_engine("GarbageCollection.attach", engine)
        engine.add_run_context(_collected_by_hand)
        for event, generation in ((young, 1), (everything, 2)):
            if event is not None:
                engine.add_event_handler(event, partial(_collect, generation))


def _collect(generation: int) -> None:
    gc.collect(generation)


@contextmanager
def _collected_by_hand(engine: Engine) -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

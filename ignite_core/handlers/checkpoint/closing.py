"""Savers that work in the background are waited for when the run ends."""

from __future__ import annotations

import weakref
from typing import Any

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers.checkpoint.ranks import caught, saving_rank, share

__all__ = ["Closing"]

#: After everything else that may save at the same event.
_LATE = -1000


class Closing:
    """Calls ``saver.close()``, if there is such a method, at the end of each run.

    Args:
        saver: It is closed on the rank that saves; what its ``close`` raises, all ranks raise.
        rank: The one that saves.

    Example:
        >>> class Saver:
        ...     def close(self):
        ...         print("closed")
        >>> trainer = Engine(lambda engine, batch: print("step"))
        >>> Closing(Saver(), 0).watch(trainer)
        >>> state = trainer.run([1])
        step
        closed
    """

    def __init__(self, saver: Any, rank: int) -> None:
        self._close = getattr(saver, "close", None)
        self._rank = rank
        self._engines: weakref.WeakSet[Engine] = weakref.WeakSet()

    def watch(self, engine: Engine) -> None:
        """Close at the end of each run of the engine, or of the one that runs it, as that goes on when it has ended."""
        while engine.parent is not None:
            engine = engine.parent
        if not callable(self._close) or engine in self._engines:
            return
        self._engines.add(engine)
        for event in (Events.TERMINATE, Events.INTERRUPT, Events.COMPLETED):
            engine.add_event_handler(event(priority=_LATE), self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED(priority=_LATE), self._fail)

    def _end(self, engine: Engine) -> None:
        if engine.last_event_name is Events.TERMINATE and engine.should_terminate != "skip_completed":
            return  # COMPLETED follows, where more may be saved
        error: Exception | None = None
        try:
            self._close_here()
        except Exception as failure:
            error = caught(failure)
        share("Checkpoint: what was being saved when the run ended is lost", error, None)

    def _fail(self, engine: Engine, error: BaseException) -> None:
        """After an error nothing is exchanged, and a second one is only noted on the first."""
        try:
            self._close_here()
        except Exception as failure:
            error.add_note(f"A save under way failed too: {type(failure).__name__}: {failure}")

    def _close_here(self) -> None:
        if idist.get_rank() == saving_rank(self._rank):
            assert self._close is not None
            self._close()

"""End the run when its time is up."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from typing import Any

from ignite_core.engine.data.position import Position
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers._arguments import check_engine, number
from ignite_core.handlers.voting.vote import vote_of

__all__ = ["TimeLimit"]


class TimeLimit:
    """Ends the run when it has taken longer than a limit; on several ranks, all of them after the same iteration.

    It counts from the start of each run, with the pauses in it.

    Args:
        limit_sec: Seconds, 8 hours by default.
        clock: What tells the time, in seconds.

    Raises:
        TypeError: If ``limit_sec`` is not a number, or ``clock`` not callable.
        ValueError: If ``limit_sec`` is not above 0.

    Example:
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> limit = TimeLimit(60, clock=lambda: 25.0 * trainer.state.iteration)
        >>> handle = trainer.add_event_handler(Events.ITERATION_COMPLETED, limit)
        >>> trainer.run(range(10)).iteration  # it began at 25 s
        4
    """

    collective = "TimeLimit"

    def __init__(self, limit_sec: float = 28800, clock: Callable[[], float] = time.monotonic) -> None:
        if not callable(clock):
            raise TypeError(f"TimeLimit: clock must be callable, got {clock!r}")
        self.limit_sec = number("TimeLimit", "limit_sec", limit_sec, above=0)
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self._clock = clock
        self._run: weakref.ref[Position] | None = None  # the one that is timed
        self._ends = 0.0
        self._asks: weakref.WeakKeyDictionary[Engine, Callable[[], None]] = weakref.WeakKeyDictionary()

    def attach(self, engine: Engine, event: Any = Events.ITERATION_COMPLETED) -> None:
        """Look at the clock whenever ``event`` of an engine is fired, on all ranks.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        check_engine("TimeLimit.attach", engine)
        self._ask_of(engine)
        engine.add_event_handler(event, self)

    def __call__(self, engine: Engine) -> None:
        """Look at the clock."""
        run = self._run
        if run is None or run() is not engine._position:
            self._begin(engine)
        if self._clock() > self._ends:
            self._asks[engine]()

    def _begin(self, engine: Engine) -> None:
        """The first look in a run, which began a little earlier."""
        self._run = weakref.ref(engine._position)
        self._ends = self._clock() - engine._position.seconds_in_run() + self.limit_sec
        self._ask_of(engine)

    def _ask_of(self, engine: Engine) -> None:
        if engine not in self._asks:
            self._asks[engine] = vote_of(engine).add(type(self).__name__, self._stop)

    def _stop(self, engine: Engine, asked: int) -> None:
        self.logger.info("The time limit of %s s is reached: the run ends", self.limit_sec)
        engine.terminate()

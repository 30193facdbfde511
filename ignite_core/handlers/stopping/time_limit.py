"""End a run after a time limit."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle, weak_call
from ignite_core.handlers._arguments import check_engine, number
from ignite_core.handlers.voting.vote import Request, vote_of

__all__ = ["TimeLimit"]


class TimeLimit:
    """Ends the run when it has taken longer than a limit; on several ranks, all of them after the same iteration.

    The time is counted from the start of each run and includes pauses.

    Args:
        limit_sec: Seconds, 8 hours by default.
        clock: Returns the time in seconds.

    Raises:
        TypeError: If ``limit_sec`` is not a number, or ``clock`` not callable.
        ValueError: If ``limit_sec`` is not above 0.

    Example:
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> limit = TimeLimit(60, clock=lambda: 25.0 * trainer.state.iteration)
        >>> handle = trainer.add_event_handler(Events.ITERATION_COMPLETED, limit)
        >>> trainer.run(range(10)).iteration  # the clock starts at 25 s
        4
    """

    collective = "TimeLimit"

    def __init__(self, limit_sec: float = 28800, clock: Callable[[], float] = time.monotonic) -> None:
        if not callable(clock):
            raise TypeError(f"TimeLimit: clock must be callable, got {clock!r}")
        self.limit_sec = number("TimeLimit", "limit_sec", limit_sec, above=0)
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self._clock = clock
        self._started_at: float | None = None  # of the timed run
        self._ends = 0.0
        self._requests: weakref.WeakKeyDictionary[Engine, Request] = weakref.WeakKeyDictionary()

    def attach(self, engine: Engine, event: EventName = Events.ITERATION_COMPLETED) -> RemovableHandle:
        """Check the time each time ``event`` of an engine is fired; on all ranks.

        Returns:
            A handle that detaches it.

        Raises:
            TypeError: If ``engine`` is not an Engine.
        """
        check_engine("TimeLimit.attach", engine)
        handle = engine.add_event_handler(event, self)
        self._add_request(engine)
        return RemovableHandle(weak_call(self._detach, [engine]), handle.remove)

    def _detach(self, engine: Engine) -> None:
        if engine in self._requests and not engine.has_event_handler(self):  # attached at one event only
            self._requests.pop(engine).remove()
            self._started_at = None

    def __call__(self, engine: Engine) -> None:
        """Check the time."""
        if self._started_at != engine.run_started_at:
            self._begin_run(engine)
        if self._clock() > self._ends:
            self._requests[engine]()

    def _begin_run(self, engine: Engine) -> None:
        """The first check in a run, which began a little earlier."""
        self._started_at = engine.run_started_at
        self._ends = self._clock() - (time.perf_counter() - engine.run_started_at) + self.limit_sec
        self._add_request(engine)

    def _add_request(self, engine: Engine) -> None:
        if engine not in self._requests:
            self._requests[engine] = vote_of(engine).add("TimeLimit", self._stop)

    def _stop(self, engine: Engine, number: int) -> None:
        self.logger.info("The time limit of %s s is reached: the run ends", self.limit_sec)
        engine.terminate()

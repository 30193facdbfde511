"""Measure the fetches, steps and handler calls of an engine; the profilers and the flight recorder are built on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import Registration

__all__ = ["OUTSIDE", "Note", "SpanRecorder"]

#: The priority of handlers that measure: before and after those of all others, and not measured themselves.
OUTSIDE: Final = 10**9

#: What the engine does between events.
Phase: TypeAlias = Literal["fetch", "step"]

#: Called with the engine, and the begin and the end of a span.
Note: TypeAlias = Callable[[Any, Any, Any], object]


class SpanRecorder:
    """Reports each fetch, step and handler call of one engine when it has ended.

    Args:
        engine: What is measured from now on.
        clock: Gives the time.
        fetch: ``fetch(engine, began, ended)`` is called after each fetch of a batch, without the handlers
            around it.
        step: As ``fetch``, for the step.
        handler: ``handler(registration)`` gives what is called after each call of that handler; None: it is not
            measured.

    Attributes:
        phase: The fetch or step in progress and when it began; None between them.
        calls: The handlers in progress, the innermost last, and when they began.
        running: How many runs are in progress: 0 or 1.
        thread: Identifier and name of the thread of the last run.

    Example:
        >>> times = iter(range(100))
        >>> engine = Engine(lambda engine, batch: next(times))
        >>> def show(engine, began, ended):
        ...     print(began, ended)
        >>> recorder = SpanRecorder(engine, lambda: next(times), show, show, lambda registration: None)
        >>> state = engine.run([1])
        0 1
        2 4
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], Any],
        fetch: Note,
        step: Note,
        handler: Callable[[Registration], Note | None],
    ) -> None:
        self._clock = clock
        self._handler = handler
        self.phase: tuple[Phase, Any] | None = None
        self.calls: list[tuple[Registration, Any]] = []
        self.running = 0
        self.thread: tuple[int, str] = (0, "MainThread")
        for phase, note, first, last in (
            ("fetch", fetch, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED),
            ("step", step, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED),
        ):
            engine.add_event_handler(first(priority=-OUTSIDE), self._begin(phase))
            engine.add_event_handler(last(priority=OUTSIDE), self._end(note))
        engine.instrument(self._measured)
        engine.add_run_context(self._run)

    def _begin(self, phase: Any) -> Callable[[], None]:
        clock = self._clock

        def begin() -> None:
            self.phase = phase, clock()

        return begin

    def _end(self, note: Note) -> Callable[[Engine], None]:
        clock = self._clock

        def end(engine: Engine) -> None:
            if self.phase is not None:
                note(engine, self.phase[1], clock())
                self.phase = None

        return end

    def _measured(self, registration: Registration, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        note = None if abs(registration.priority) == OUTSIDE else self._handler(registration)
        if note is None:
            return call
        clock, calls = self._clock, self.calls

        def measured(engine: Any) -> Any:
            began = clock()
            calls.append((registration, began))
            try:
                return call(engine)
            finally:
                calls.pop()
                note(engine, began, clock())

        return measured

    @contextmanager
    def _run(self, engine: Engine) -> Iterator[None]:
        """Entered around each run. A run that goes on after a pause does not count the pause."""
        thread = threading.current_thread()
        self.thread = thread.ident or 0, thread.name
        if self.phase is not None:
            self.phase = self.phase[0], self._clock()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            if engine._paused_at is None:
                self.phase = None

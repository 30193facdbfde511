"""Measure the fetches, steps and handler calls of an engine: the basis of the profilers and the recorder."""

from __future__ import annotations

import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import Registration, RemovableHandle, weak_call
from ignite_core.handlers._arguments import check_engine

__all__ = ["OUTSIDE", "Callback", "Profiler", "SpanRecorder"]

#: The priority of handlers that measure: before and after all others. They are not measured themselves.
OUTSIDE: Final = 10**9

#: What the engine does between events.
Phase: TypeAlias = Literal["fetch", "step"]

#: Called with the engine, and the begin and the end of a span.
Callback: TypeAlias = Callable[[Any, Any, Any], object]


class SpanRecorder:
    """Reports the begin and the end of each fetch, step and handler call of one engine.

    Args:
        clock: Returns the time.
        fetch: ``fetch(engine, began, ended)`` is called after each fetch of a batch, which excludes its handlers.
        step: ``step(engine, began, ended)`` is called after each step.
        handler: ``handler(registration)`` returns the function that is called in the same way after each call of that
            handler; None if the handler is not measured.

    Attributes:
        phase: The fetch or step in progress and when it began; None between them.
        calls: The handlers in progress, innermost last, and when they began.
        running: The number of runs in progress: 0 or 1.
        thread: Identifier and name of the thread of the last run.

    Example:
        >>> times = iter(range(100))
        >>> engine = Engine(lambda engine, batch: next(times))
        >>> def show(engine, began, ended):
        ...     print(began, ended)
        >>> handle = SpanRecorder(lambda: next(times), show, show, lambda registration: None).attach(engine)
        >>> state = engine.run([1])
        0 1
        2 4
    """

    def __init__(
        self,
        clock: Callable[[], Any],
        fetch: Callback,
        step: Callback,
        handler: Callable[[Registration], Callback | None],
    ) -> None:
        self._clock = clock
        self._fetch = fetch
        self._step = step
        self._handler = handler
        self.phase: tuple[Phase, Any] | None = None
        self.calls: list[tuple[Registration, Any]] = []
        self.running = 0
        self.thread: tuple[int, str] = (0, "MainThread")

    def attach(self, engine: Engine) -> RemovableHandle:
        """Begin to report; at most one engine."""
        handles: list[RemovableHandle] = []
        for phase, callback, first, last in (
            ("fetch", self._fetch, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED),
            ("step", self._step, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED),
        ):
            handles.append(engine.add_event_handler(first(priority=-OUTSIDE), self._begin(phase)))
            handles.append(engine.add_event_handler(last(priority=OUTSIDE), self._end(callback)))
        handles += [engine.instrument(self._measured), engine.add_run_context(self._run)]
        return RemovableHandle(*(handle.remove for handle in handles))

    def _begin(self, phase: Any) -> Callable[[], None]:
        clock = self._clock

        def begin() -> None:
            self.phase = phase, clock()

        return begin

    def _end(self, callback: Callback) -> Callable[[Engine], None]:
        clock = self._clock

        def end(engine: Engine) -> None:
            if self.phase is not None:
                callback(engine, self.phase[1], clock())
                self.phase = None

        return end

    def _measured(self, registration: Registration, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        callback = None if abs(registration.priority) == OUTSIDE else self._handler(registration)
        if callback is None:
            return call
        clock, calls = self._clock, self.calls

        def measured(engine: Engine) -> Any:
            began = clock()
            calls.append((registration, began))
            try:
                return call(engine)
            finally:
                calls.pop()
                callback(engine, began, clock())

        return measured

    @contextmanager
    def _run(self, engine: Engine) -> Iterator[None]:
        """Entered around each run; a pause is not part of a fetch or step."""
        thread = threading.current_thread()
        self.thread = thread.ident or 0, thread.name
        if self.phase is not None:
            self.phase = self.phase[0], self._clock()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            if not engine.is_paused:
                self.phase = None


class Profiler(ABC):
    """Base of the profilers, which aggregate the spans of one engine.

    Raises:
        TypeError: If ``clock`` is not callable.
    """

    not_in_calendar = True

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        if not callable(clock):
            raise TypeError(f"{type(self).__name__}: clock must be callable, got {clock!r}")
        self._clock = clock
        self._attached: tuple[weakref.ref[Engine], RemovableHandle] | None = None

    def attach(self, engine: Engine) -> RemovableHandle:
        """Measure the runs of an engine from now on; idempotent.

        Returns:
            A handle that detaches it; the times are kept.

        Raises:
            TypeError: If ``engine`` is not an Engine.
            ValueError: If this measures another engine.
        """
        where = f"{type(self).__name__}.attach"
        check_engine(where, engine)
        if self._attached is not None:
            measured, handle = self._attached
            if measured() is engine:
                return handle
            raise ValueError(f"{where}: it already measures another engine; create one for each")
        handles: list[RemovableHandle] = [
            engine.add_event_handler(event(priority=OUTSIDE), handler) for event, handler in self._event_handlers()
        ]
        handles.append(self._span_recorder().attach(engine))
        handle = RemovableHandle(weak_call(self._forget, [engine]), *(one.remove for one in handles))
        self._attached = weakref.ref(engine), handle
        return handle

    def _forget(self, engine: Engine) -> None:
        self._attached = None

    @abstractmethod
    def _event_handlers(self) -> Iterable[tuple[Events, Callable[..., None]]]:
        """Handlers that run before all others."""

    @abstractmethod
    def _span_recorder(self) -> SpanRecorder: ...

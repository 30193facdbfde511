"""Record what engines did last, and write it to files when a run fails or on request."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import socket
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any, Final

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import Registration, RemovableHandle, weak_call
from ignite_core.handlers._arguments import check_engine, integer
from ignite_core.handlers._signals import SignalCatcher
from ignite_core.handlers.profiling._chrome_trace import as_trace
from ignite_core.handlers.profiling._report import Label, Report, Span, Track, as_text
from ignite_core.handlers.profiling._spans import OUTSIDE, Callback, SpanRecorder
from ignite_core.handlers.profiling._stats import name_of

__all__ = ["FlightRecorder"]

#: Events that are recorded as instants; an iteration is recorded as a fetch and a step.
_INSTANTS: Final = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.EPOCH_COMPLETED,
    Events.COMPLETED,
    Events.TERMINATE,
    Events.TERMINATE_SINGLE_EPOCH,
    Events.INTERRUPT,
    Events.DATALOADER_STOP_ITERATION,
)

_FILES: Final = "flight_rank{rank}"

#: For names of temporary files: a signal may come while files are written.
_numbers: Final = itertools.count()


class FlightRecorder:
    """Records the last events, fetches, steps and handler calls, and writes them when a run fails.

    Two files are written and replaced each time: ``flight_rank{rank}.json``, a trace for https://ui.perfetto.dev, and
    ``flight_rank{rank}.txt``, a summary of ten lines. They are written when a run raises (a note on the error says
    where they are), when one of ``signals`` comes, and by :meth:`dump`. ``python -m ignite_core trace merge FOLDER``
    merges the traces of several ranks.

    Args:
        folder: Where the files are written; created when needed.
        capacity: How many spans are kept.
        signals: Signals, such as ``"SIGUSR2"``, at which the files are written while an engine runs. The previous
            handler is called afterwards, but ``SIGUSR1`` and ``SIGUSR2`` do not end the process. Python handles signals
            between two instructions: not while it waits inside a library, for example for another rank.
        clock: Returns the time in nanoseconds.
        wall_clock: Returns the time that all machines share, in nanoseconds since 1970.

    Raises:
        TypeError: If ``capacity`` is not an integer.
        ValueError: If ``capacity`` is below 1, or a signal cannot be caught.

    Example:
        >>> import tempfile
        >>> def step(engine, batch):
        ...     return 1 / batch
        >>> trainer = Engine(step)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     handle = FlightRecorder(folder).attach(trainer, "trainer")
        ...     try:
        ...         _ = trainer.run([2, 1, 0])
        ...     except ZeroDivisionError:
        ...         print(Path(folder, "flight_rank0.txt").read_text().splitlines()[1])
        why: ZeroDivisionError: division by zero
    """

    not_in_calendar = True

    def __init__(
        self,
        folder: str | PathLike[str] = "flight",
        capacity: int = 10_000,
        signals: Iterable[str | int] = (),
        clock: Callable[[], int] = time.perf_counter_ns,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.folder = Path(folder)
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self._clock = clock
        self._wall_clock = wall_clock
        self._started = clock(), wall_clock()
        capacity = integer("FlightRecorder", "capacity", capacity, least=1)
        #: Full from the start, so that its memory does not grow.
        self._ring: deque[Any] = deque([None] * capacity, maxlen=capacity)
        self._tracks: weakref.WeakKeyDictionary[Engine, Track] = weakref.WeakKeyDictionary()
        self._attached = 0  # so far, for default names
        self._catcher = SignalCatcher("FlightRecorder", signals, self._on_signal, observes=True)

    def attach(self, engine: Engine, name: str | None = None) -> RemovableHandle:
        """Record what an engine does from now on; several may be attached.

        Args:
            engine: A trainer, or an evaluator.
            name: Its name in the files; by default ``engine``, ``engine 2``, ….

        Returns:
            A handle that detaches it. Spans that were recorded are kept.

        Raises:
            TypeError: If ``engine`` is not an Engine.
            ValueError: If it is already attached.
        """
        check_engine("FlightRecorder.attach", engine)
        if engine in self._tracks:
            raise ValueError(f"FlightRecorder.attach: the engine is already attached, as {self._tracks[engine].name!r}")
        self._attached += 1
        default = "engine" if self._attached == 1 else f"engine {self._attached}"
        track = self._tracks[engine] = Track(name or default, weakref.ref(engine))
        fetch, step = (self._append(Label(track, phase, "iteration")) for phase in ("fetch", "step"))
        track.recorder = SpanRecorder(
            self._clock, fetch, step, lambda registration: self._append(_label(track, registration))
        )
        handles: list[RemovableHandle] = [
            *(engine.add_event_handler(event(priority=OUTSIDE), self._instant(track, event)) for event in _INSTANTS),
            engine.add_event_handler(Events.EXCEPTION_RAISED(priority=OUTSIDE), self._on_error),
            track.recorder.attach(engine),
            engine.add_run_context(self._catching),
        ]
        return RemovableHandle(weak_call(self._forget, [engine]), *(handle.remove for handle in handles))

    def _forget(self, engine: Engine) -> None:
        self._tracks.pop(engine)

    # ---------------------------------------------------------------------------------------------------- recording

    def _append(self, label: Label) -> Callback:
        append = self._ring.append
        return lambda engine, began, ended: append((label, began, ended, engine.state.iteration))

    def _instant(self, track: Track, event: Events) -> Callable[..., None]:
        label, of_epoch = Label(track, event.name, "event"), Label(track, "epoch", "epoch")

        def note(engine: Engine, iter_counter: int = 0) -> None:
            now, iteration = self._clock(), engine.state.iteration
            if event is Events.EPOCH_STARTED:
                track.epoch_began = now
            elif event is not Events.DATALOADER_STOP_ITERATION:
                assert track.recorder is not None
                track.recorder.phase = None  # a fetch that found no batch
            if event is Events.EPOCH_COMPLETED and track.epoch_began:
                self._ring.append((of_epoch, track.epoch_began, now, iteration))
                track.epoch_began = 0
            self._ring.append((label, now, now, iteration))

        return note

    @contextmanager
    def _catching(self, engine: Engine) -> Iterator[None]:
        """Entered around each run."""
        self._catcher.install()
        try:
            yield
        finally:
            self._catcher.uninstall()

    # ------------------------------------------------------------------------------------------------------ writing

    def dump(self, reason: str = "asked for", *, notes: Iterable[str] = ()) -> Path:
        """Write both files now.

        Args:
            reason: Why, for the files.
            notes: Details; the first one has a line in the summary.

        Returns:
            The path of the trace; the summary is beside it.
        """
        report = self._report(reason, tuple(notes))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (_FILES.format_map(report.context) + ".json")
        _write(path, json.dumps(as_trace(report)))
        _write(path.with_suffix(".txt"), as_text(report))
        return path

    def _report(self, reason: str, notes: tuple[str, ...]) -> Report:
        now, wall = self._clock(), self._wall_clock()
        spans = [Span(*span) for span in list(self._ring) if span is not None]
        attached = list(self._tracks.values())
        in_progress = [span for track in attached for span in _in_progress(track, now)]
        context = {
            "reason": reason,
            "rank": idist.get_rank(),
            "world_size": idist.get_world_size(),
            "host": socket.gethostname(),
            "process": os.getpid(),
            "clock_at_start_ns": self._started[0],
            "wall_at_start_ns": self._started[1],
            "clock_at_end_ns": now,
            "wall_at_end_ns": wall,
        }
        return Report(
            notes=notes,
            spans=tuple(spans),
            open=tuple(sorted(in_progress, key=lambda span: span.began)),
            tracks=tuple(dict.fromkeys([*attached, *(span.label.track for span in spans)])),
            context=context,
        )

    def _on_error(self, engine: Engine, error: BaseException) -> None:
        """Write the files, once for each error; a failure to write must not replace the error."""
        error_notes = getattr(error, "__notes__", [])
        if any(note.startswith("Flight record") for note in error_notes):
            return  # they were written for an engine inside this one
        try:
            summary = traceback.format_exception_only(error)[0].strip()
            path = self.dump(summary, notes=[note for note in error_notes if note.startswith("Raised by")])
            error.add_note(f"Flight record: {path}")
        except Exception as failure:
            error.add_note(f"Flight record: could not be written: {type(failure).__name__}: {failure}")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Write the files; a failure to write must not end the run."""
        name = signal.Signals(number).name
        where = [] if frame is None else [f"at {frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"]
        try:
            path = self.dump(name, notes=where)
        except Exception:
            self.logger.exception("FlightRecorder: %s: the files could not be written", name)
        else:
            self.logger.warning("FlightRecorder: %s: wrote %s", name, path)

    @contextmanager
    def rehearse(self, folder: Path) -> Iterator[None]:
        """Write to another folder inside the block; see :func:`~ignite_core.debug.dev_run`."""
        before, self.folder = self.folder, folder
        try:
            yield
        finally:
            self.folder = before


def _label(track: Track, registration: Registration) -> Label:
    event = registration.bare_event
    return Label(track, name_of(registration.handler), "handler", event if isinstance(event, str) else event.name)


def _in_progress(track: Track, now: int) -> Iterator[Span]:
    """The fetch or step and the handlers in progress, as spans that end now."""
    engine, recorder = track.engine(), track.recorder
    if recorder is None or not recorder.running:
        return
    iteration = 0 if engine is None else engine.state.iteration
    if recorder.phase is not None:
        yield Span(Label(track, recorder.phase[0], "iteration"), recorder.phase[1], now, iteration)
    for registration, began in recorder.calls:
        yield Span(_label(track, registration), began, now, iteration)


def _write(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}_{next(_numbers)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

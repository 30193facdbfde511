"""Remembers what engines did last, and writes it down when somebody wants to know."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
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
from ignite_core.engine.registration import Registration
from ignite_core.handlers._arguments import check_engine, integer
from ignite_core.handlers._signal_watch import SignalWatch
from ignite_core.handlers._signals import signal_number
from ignite_core.handlers.profiling._chrome_trace import as_trace
from ignite_core.handlers.profiling._records import Label, Record, Report, Track, as_text
from ignite_core.handlers.profiling._spans import OUTSIDE, Note, SpanRecorder
from ignite_core.handlers.profiling._stats import name_of

__all__ = ["FlightRecorder"]

#: Events that are remembered as they are; those of an iteration are seen as a fetch and a step.
_INSTANTS: Final = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.EPOCH_COMPLETED,
    Events.COMPLETED,
    Events.TERMINATE,
    Events.INTERRUPT,
    Events.DATALOADER_STOP_ITERATION,
)

_FILES: Final = "flight_rank{rank}"


class FlightRecorder:
    """Remembers the last events, fetches, steps and calls of handlers, and writes them when a run fails.

    Two files are written: ``flight_rank{rank}.json``, a trace for https://ui.perfetto.dev, and
    ``flight_rank{rank}.txt``, ten lines; those of before are replaced. It happens when a run raises (the error gets a
    note that says where they are), when one of ``signals`` comes, and by :meth:`dump`. The traces of several ranks
    become one by ``python -m ignite_core trace merge FOLDER``.

    Args:
        folder: Where the files are written; it is made then.
        capacity: How many spans are remembered.
        signals: Signals, such as ``"SIGUSR2"``, at which the files are written while an engine runs. What handled them
            before does so afterwards; ``SIGUSR1`` and ``SIGUSR2``, which would end the process, do no more. Python
            looks at signals between two instructions: not while it waits inside a library, as for another rank.
        clock: What tells the time, in nanoseconds.
        wall_clock: What tells the time that all machines share, in nanoseconds since 1970.

    Raises:
        TypeError: If ``capacity`` is not an integer.
        ValueError: If it is below 1, or a signal cannot be caught.

    Example:
        >>> import tempfile
        >>> def step(engine, batch):
        ...     return 1 / batch
        >>> trainer = Engine(step)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     FlightRecorder(folder).attach(trainer, "trainer")
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
        #: full from the start, so that its memory never grows
        self._ring: deque[Any] = deque([None] * capacity, maxlen=capacity)
        self._tracks: list[Track] = []
        self._of_engine: weakref.WeakKeyDictionary[Engine, Track] = weakref.WeakKeyDictionary()
        numbers = [signal_number("FlightRecorder", asked) for asked in signals]
        self._watch = SignalWatch(numbers, self._on_signal)

    def attach(self, engine: Engine, name: str | None = None) -> None:
        """Remember what an engine does from now on; several may be attached.

        Args:
            engine: A trainer, or an evaluator.
            name: What it is called in the files; by default ``engine``, ``engine 2``, ….

        Raises:
            TypeError: If it is no engine.
            ValueError: If it is attached already.
        """
        check_engine("FlightRecorder.attach", engine)
        if engine in self._of_engine:
            raise ValueError(
                f"FlightRecorder.attach: the engine is attached already, as {self._of_engine[engine].name!r}"
            )
        number = len(self._tracks) + 1
        track = Track(name or ("engine" if number == 1 else f"engine {number}"), weakref.ref(engine))
        self._tracks.append(track)
        self._of_engine[engine] = track
        for event in _INSTANTS:
            engine.add_event_handler(event(priority=OUTSIDE), self._instant(track, event))
        engine.add_event_handler(Events.TERMINATE_SINGLE_EPOCH(priority=OUTSIDE), self._cut(track))
        engine.add_event_handler(Events.EXCEPTION_RAISED(priority=OUTSIDE), self._fail)
        fetch, step = (self._note(Label(track, what, "iteration")) for what in ("fetch", "step"))
        track.spans = SpanRecorder(
            engine, self._clock, fetch, step, lambda registration: self._note(_label(track, registration))
        )
        engine.add_run_context(self._running)

    # --------------------------------------------------------------------------------------------- what is remembered

    def _note(self, label: Label) -> Note:
        append = self._ring.append
        return lambda engine, began, ended: append((label, began, ended, engine.state.iteration))

    def _instant(self, track: Track, event: Events) -> Callable[[Engine], None]:
        label, of_epoch = Label(track, event.name, "event"), Label(track, "epoch", "epoch")

        def note(engine: Engine) -> None:
            now, iteration = self._clock(), engine.state.iteration
            if event is Events.EPOCH_STARTED:
                track.epoch_began = now
            elif event is not Events.DATALOADER_STOP_ITERATION:
                assert track.spans is not None
                track.spans.phase = None  # a fetch that found no batch
            if event is Events.EPOCH_COMPLETED and track.epoch_began:
                self._ring.append((of_epoch, track.epoch_began, now, iteration))
                track.epoch_began = 0
            self._ring.append((label, now, now, iteration))

        return note

    def _cut(self, track: Track) -> Callable[[Engine, int], None]:
        note = self._instant(track, Events.TERMINATE_SINGLE_EPOCH)
        return lambda engine, iter_counter: note(engine)

    @contextmanager
    def _running(self, engine: Engine) -> Iterator[None]:
        """Entered around each run."""
        self._watch.put_on()
        try:
            yield
        finally:
            self._watch.put_back()

    # ----------------------------------------------------------------------------------------------- what is written

    def dump(self, reason: str = "asked for", *, notes: Iterable[str] = ()) -> Path:
        """Write both files now.

        Args:
            reason: Why, for the files.
            notes: More about that; the first one has a line in the text.

        Returns:
            The path of the trace; the text lies beside it.
        """
        report = self._report(reason, tuple(notes))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (_FILES.format(rank=report.rank) + ".json")
        _write(path, json.dumps(as_trace(report)))
        _write(path.with_suffix(".txt"), as_text(report))
        return path

    def _report(self, reason: str, notes: tuple[str, ...]) -> Report:
        now = self._clock(), self._wall_clock()
        in_progress = [record for track in self._tracks for record in _in_progress(track, now[0])]
        return Report(
            reason=reason,
            notes=notes,
            records=tuple(Record(*record) for record in list(self._ring) if record is not None),
            open=tuple(sorted(in_progress, key=lambda record: record.began)),
            tracks=tuple(self._tracks),
            rank=idist.get_rank(),
            world_size=idist.get_world_size(),
            host=socket.gethostname(),
            process=os.getpid(),
            started=self._started,
            written=now,
        )

    def _fail(self, engine: Engine, error: BaseException) -> None:
        """Write the files, once for each error; whatever comes of that, the error goes on its way."""
        told = getattr(error, "__notes__", [])
        if any(note.startswith("Flight record") for note in told):
            return  # an engine inside this one has met it first
        try:
            summary = traceback.format_exception_only(error)[0].strip()
            path = self.dump(summary, notes=[note for note in told if note.startswith("Raised by")])
            error.add_note(f"Flight record: {path}")
        except Exception as failure:
            error.add_note(f"Flight record: could not be written: {type(failure).__name__}: {failure}")

    def _on_signal(self, name: str, frame: FrameType | None) -> None:
        """Write the files; the run goes on whatever comes of that."""
        where = [] if frame is None else [f"at {frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"]
        try:
            path = self.dump(name, notes=where)
        except Exception:
            self.logger.exception("FlightRecorder: %s came, but the files could not be written", name)
        else:
            self.logger.warning("FlightRecorder: %s came; wrote %s", name, path)

    @contextmanager
    def rehearse(self, folder: Path) -> Iterator[None]:
        """Inside, files are written to another folder; see :func:`~ignite_core.debug.dev_run`."""
        before, self.folder = self.folder, folder
        try:
            yield
        finally:
            self.folder = before


def _label(track: Track, registration: Registration) -> Label:
    event = registration.bare_event
    return Label(track, name_of(registration.handler), "handler", event if isinstance(event, str) else event.name)


def _in_progress(track: Track, now: int) -> Iterator[Record]:
    """The fetch or step and the handlers that an engine is in, as spans that end now."""
    engine, spans = track.engine(), track.spans
    if spans is None or not spans.running:
        return
    iteration = 0 if engine is None else engine.state.iteration
    if spans.phase is not None:
        yield Record(Label(track, spans.phase[0], "iteration"), spans.phase[1], now, iteration)
    for registration, began in spans.calls:
        yield Record(_label(track, registration), began, now, iteration)


def _write(path: Path, text: str) -> None:
    """Put a file there as a whole, or not at all."""
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        if sys.exc_info()[0] is not None:
            temporary.unlink(missing_ok=True)

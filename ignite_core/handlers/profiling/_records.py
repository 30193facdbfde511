"""What a flight recorder writes: the last spans with their labels, as data and as ten lines of text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ignite_core.handlers.profiling._spans import SpanRecorder

__all__ = ["Label", "Record", "Report", "Track", "as_text"]

_LINES: Final = 10
_ENGINES: Final = 3
_WIDTH: Final = 160


@dataclass(eq=False)
class Track:
    """One engine.

    Attributes:
        name: What it is called.
        engine: A weak reference.
        spans: What it is doing now.
        epoch_began: In nanoseconds.
    """

    name: str
    engine: Any
    spans: SpanRecorder | None = None
    epoch_began: int = 0

    @property
    def thread(self) -> tuple[int, str]:
        """Identifier and name of the thread of its last run."""
        assert self.spans is not None
        return self.spans.thread


class Label(NamedTuple):
    """What a span is of.

    Args:
        track: Of which engine.
        name: The name of a handler or an event; ``fetch`` or ``step``.
        kind: ``"handler"``, ``"event"``, ``"epoch"``, or ``"iteration"`` for fetch and step.
        event: The event of a handler.
    """

    track: Track
    name: str
    kind: str
    event: str = ""


class Record(NamedTuple):
    """A span; an event is one without length. They are made as plain tuples, which is faster."""

    label: Label
    began: int  #: in nanoseconds of the recorder's clock, as is the end
    ended: int
    iteration: int


@dataclass(frozen=True)
class Report:
    """What is written, at one moment.

    Attributes:
        reason: Why it is written, in words.
        notes: More about that, such as which handler raised.
        records: In the order in which they ended.
        open: Spans in progress, the outermost first.
        tracks: The engines.
        rank: Of this process.
        world_size: How many processes there are.
        host: The name of the machine.
        process: The number of the process.
        started: The recorder's clock and the wall clock, in nanoseconds, when the recorder was made.
        written: The same now.
    """

    reason: str
    notes: tuple[str, ...]
    records: tuple[Record, ...]
    open: tuple[Record, ...]
    tracks: tuple[Track, ...]
    rank: int
    world_size: int
    host: str
    process: int
    started: tuple[int, int]
    written: tuple[int, int]


def as_text(report: Report) -> str:
    """When and where it was written and why, what each engine is doing, and what happened last."""
    when = datetime.fromtimestamp(report.written[1] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [
        f"rank {report.rank} of {report.world_size}, {report.host}, process {report.process}, {when}",
        f"why: {report.reason}",
        *report.notes[:1],
        *(_engine(track, report) for track in report.tracks[:_ENGINES]),
        "last, in seconds before this was written:",
    ]
    left = _LINES - len(lines)
    lines += [_record(record, report.written[0]) for record in report.records[-left:]]
    return "".join(f"{_one_line(line)}\n" for line in lines)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _engine(track: Track, report: Report) -> str:
    engine = track.engine()
    if engine is None:
        return f"{track.name}: gone"
    state, now = engine.state, report.written[0]
    doing = [f"{one.label.name} for {(now - one.began) / 1e9:.3f} s" for one in report.open if one.label.track is track]
    limit = f" of {state.max_epochs}" if state.max_epochs is not None else ""
    place = f"{track.name}: epoch {state.epoch}{limit}, iteration {state.iteration}"
    if track.spans is None or not track.spans.running:
        return f"{place}, not running"
    return f"{place}, last event {engine.last_event_name!r}" + (f", in {', '.join(doing)}" if doing else "")


def _record(record: Record, now: int) -> str:
    label = record.label
    what = f"{label.name} at {label.event}" if label.event else label.name
    took = "" if label.kind == "event" else f", took {(record.ended - record.began) / 1e6:.3f} ms"
    return f"-{(now - record.ended) / 1e9:.3f}: {label.track.name} {record.iteration}: {what}{took}"

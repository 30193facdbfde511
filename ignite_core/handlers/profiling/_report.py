"""The report that a recorder writes: the last spans with their labels, as data and as ten lines of text."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ignite_core.engine.engine import Engine
from ignite_core.handlers.profiling._spans import SpanRecorder

__all__ = ["Label", "Report", "Span", "Track", "as_text"]

_LINES: Final = 10
_ENGINES: Final = 3
_WIDTH: Final = 160


@dataclass(eq=False)
class Track:
    """One recorded engine."""

    name: str
    engine: weakref.ref[Engine]
    recorder: SpanRecorder | None = None
    epoch_began: int = 0  #: in nanoseconds; 0 outside of an epoch

    @property
    def thread(self) -> tuple[int, str]:
        """Identifier and name of the thread of its last run."""
        assert self.recorder is not None
        return self.recorder.thread


class Label(NamedTuple):
    """What a span is.

    Args:
        track: The engine.
        name: The name of a handler or an event; ``fetch`` or ``step``.
        kind: ``"handler"``, ``"event"``, ``"epoch"``, or ``"iteration"`` for fetch and step.
        event: The event of a handler.
    """

    track: Track
    name: str
    kind: str
    event: str = ""


class Span(NamedTuple):
    """A span of time; an event has length 0. The recorder makes plain tuples, which is faster."""

    label: Label
    began: int  #: in nanoseconds of the recorder's clock, as is the end
    ended: int
    iteration: int


@dataclass(frozen=True)
class Report:
    """The content of the files."""

    notes: tuple[str, ...]  #: details of the reason, such as which handler raised
    spans: tuple[Span, ...]  #: in the order of their ends
    open: tuple[Span, ...]  #: in progress, outermost first
    tracks: tuple[Track, ...]
    context: dict[str, Any]  #: why, where and when they are written; times are in nanoseconds

    @property
    def now(self) -> int:
        """The recorder's clock."""
        now: int = self.context["clock_at_end_ns"]
        return now


def as_text(report: Report) -> str:
    """When, where and why it was written, what each engine is doing, and the last spans."""
    context = report.context
    when = datetime.fromtimestamp(context["wall_at_end_ns"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [
        "rank {rank} of {world_size}, {host}, process {process}, ".format_map(context) + when,
        f"why: {context['reason']}",
        *report.notes[:1],
        *(_engine(track, report) for track in report.tracks[:_ENGINES]),
        "last, in seconds before this was written:",
    ]
    left = _LINES - len(lines)
    lines += [_span(span, report.now) for span in report.spans[-left:]]
    return "".join(f"{_one_line(line)}\n" for line in lines)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _engine(track: Track, report: Report) -> str:
    engine = track.engine()
    if engine is None:
        return f"{track.name}: deleted"
    state, now = engine.state, report.now
    doing = [f"{one.label.name} for {(now - one.began) / 1e9:.3f} s" for one in report.open if one.label.track is track]
    limit = f" of {state.max_epochs}" if state.max_epochs is not None else ""
    place = f"{track.name}: epoch {state.epoch}{limit}, iteration {state.iteration}"
    if track.recorder is None or not track.recorder.running:
        return f"{place}, not running"
    return f"{place}, last event {engine.last_event_name!r}" + (f", in {', '.join(doing)}" if doing else "")


def _span(span: Span, now: int) -> str:
    label = span.label
    name = f"{label.name} at {label.event}" if label.event else label.name
    took = "" if label.kind == "event" else f", took {(span.ended - span.began) / 1e6:.3f} ms"
    return f"-{(now - span.ended) / 1e9:.3f}: {label.track.name} {span.iteration}: {name}{took}"

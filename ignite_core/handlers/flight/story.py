"""A flight record in ten lines, for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from ignite_core.handlers.flight.records import Record, Snapshot, Track

__all__ = ["as_text"]

_LINES: Final = 10
_ENGINES: Final = 3
_WIDTH: Final = 160


def as_text(snapshot: Snapshot) -> str:
    """When and where it was written and why, what each engine is doing, and what happened last."""
    when = datetime.fromtimestamp(snapshot.written[1] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [
        f"rank {snapshot.rank} of {snapshot.world_size}, {snapshot.host}, process {snapshot.process}, {when}",
        f"why: {snapshot.reason}",
        *snapshot.notes[:1],
        *(_engine(track, snapshot) for track in snapshot.tracks[:_ENGINES]),
        "last, in seconds before this was written:",
    ]
    left = _LINES - len(lines)
    lines += [_record(record, snapshot.written[0]) for record in snapshot.records[-left:]]
    return "".join(f"{_one_line(line)}\n" for line in lines)


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _engine(track: Track, snapshot: Snapshot) -> str:
    engine = track.engine()
    if engine is None:
        return f"{track.name}: gone"
    state, now = engine.state, snapshot.written[0]
    doing = [
        f"{one.label.name} for {(now - one.began) / 1e9:.3f} s" for one in snapshot.open if one.label.track is track
    ]
    limit = f" of {state.max_epochs}" if state.max_epochs is not None else ""
    place = f"{track.name}: epoch {state.epoch}{limit}, iteration {state.iteration}"
    if not track.running:
        return f"{place}, not running"
    return f"{place}, last event {engine.last_event_name!r}" + (f", in {', '.join(doing)}" if doing else "")


def _record(record: Record, now: int) -> str:
    label = record.label
    what = f"{label.name} at {label.event}" if label.event else label.name
    took = "" if label.kind == "event" else f", took {(record.ended - record.began) / 1e6:.3f} ms"
    return f"-{(now - record.ended) / 1e9:.3f}: {label.track.name} {record.iteration}: {what}{took}"

"""The traces of several ranks as one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from ignite_core.handlers.flight.trace import FORMAT

__all__ = ["merge"]


def merge(sources: Iterable[str | PathLike[str]], target: str | PathLike[str] | None = None) -> Path:
    """Put the traces of several ranks into one file, on one axis of time: that of their wall clocks.

    Args:
        sources: Files, or folders with ``flight_rank*.json``.
        target: The file to write; by default ``flight.json`` beside the first one.

    Returns:
        The path of what was written.

    Raises:
        ValueError: If there is no trace, one is not by a flight recorder, or two are of the same rank.
    """
    paths = [path for source in sources for path in _files(Path(source))]
    if not paths:
        raise ValueError("merge: there must be a flight_rank*.json, found none")
    traces = {path: _read(path) for path in paths}
    by_rank: dict[int, Path] = {}
    for path, trace in traces.items():
        rank = trace["otherData"]["rank"]
        if rank in by_rank:
            raise ValueError(f"merge: each rank must come once, but {by_rank[rank]} and {path} are both of rank {rank}")
        by_rank[rank] = path
    origin = min(_began(trace) for trace in traces.values())
    metadata, events = [], []
    for trace in traces.values():
        later = (_began(trace) - origin) / 1000
        for event in trace["traceEvents"]:
            if event["ph"] == "M":
                metadata.append(event)
            else:
                events.append({**event, "ts": event["ts"] + later})
    events.sort(key=lambda event: (event["ts"], -event.get("dur", 0)))
    reasons = {f"rank {rank}": traces[by_rank[rank]]["otherData"]["reason"] for rank in sorted(by_rank)}
    merged = {"traceEvents": [*metadata, *events], "displayTimeUnit": "ms", "otherData": {"reasons": reasons}}
    path = paths[0].with_name("flight.json") if target is None else Path(target)
    path.write_text(json.dumps(merged), encoding="utf-8")
    return path


def _files(source: Path) -> list[Path]:
    return sorted(source.glob("flight_rank*.json")) if source.is_dir() else [source]


def _read(path: Path) -> dict[str, Any]:
    trace: Any = json.loads(path.read_text(encoding="utf-8"))
    other = trace.get("otherData", {}) if isinstance(trace, dict) else {}
    if other.get("format") != FORMAT:
        raise ValueError(f"merge: {path} must be a trace that a FlightRecorder has written")
    return trace  # type: ignore[no-any-return]


def _began(trace: dict[str, Any]) -> int:
    """When the recorder was made, by the wall clock at the end: over days the two clocks drift apart."""
    other = trace["otherData"]
    began: int = other["wall_at_end_ns"] - (other["clock_at_end_ns"] - other["clock_at_start_ns"])
    return began

"""Traces in Chrome's format, for https://ui.perfetto.dev and chrome://tracing: write one, merge several.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ("Trace Event Format"),
with complete events (``X``), instants (``i``) and metadata (``M``). A process is a rank.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final

from ignite_core.handlers.profiling._report import Report, Span

__all__ = ["as_trace", "main", "merge"]

#: Identifies the files of a FlightRecorder.
_FORMAT: Final = "ignite_core flight record 1"


def as_trace(report: Report) -> dict[str, Any]:
    """The trace as a JSON object; times are microseconds since the recorder was created."""
    context = report.context
    threads = {track.thread: number for number, track in enumerate(report.tracks, start=1)}
    began, rank = context["clock_at_start_ns"], context["rank"]
    spans = [_event(span, began, rank, threads) for span in report.spans]
    spans += [_event(span, began, rank, threads, unfinished=True) for span in report.open]
    spans.sort(key=lambda event: (event["ts"], -event.get("dur", 0)))
    metadata: list[tuple[str, int, dict[str, Any]]] = [
        ("process_name", 0, {"name": "rank {rank} ({host}, process {process})".format_map(context)}),
        ("process_sort_index", 0, {"sort_index": rank}),
        *(("thread_name", number, {"name": name}) for (_, name), number in threads.items()),
    ]
    events = [{"ph": "M", "name": name, "pid": rank, "tid": thread, "args": args} for name, thread, args in metadata]
    return {
        "traceEvents": [*events, *spans],
        "displayTimeUnit": "ms",
        "otherData": {"format": _FORMAT, **context},
    }


def _event(
    span: Span, began: int, rank: int, threads: dict[tuple[int, str], int], unfinished: bool = False
) -> dict[str, Any]:
    label, start, end, iteration = span
    args: dict[str, Any] = {"engine": label.track.name, "iteration": iteration}
    if label.event:
        args["event"] = label.event
    if unfinished:
        args["unfinished"] = True
    event: dict[str, Any] = {
        "ph": "X",
        "name": label.name,
        "cat": label.kind,
        "pid": rank,
        "tid": threads[label.track.thread],
        "ts": (start - began) / 1000,
        "args": args,
    }
    if label.kind == "event":
        return {**event, "ph": "i", "s": "t"}
    return {**event, "dur": (end - start) / 1000}


def merge(sources: Iterable[str | PathLike[str]], target: str | PathLike[str] | None = None) -> Path:
    """Merge the traces of several ranks into one file, aligned by their wall clocks.

    Args:
        sources: Files, or folders with ``flight_rank*.json``.
        target: The file to write; by default ``flight.json`` beside the first source.

    Returns:
        The path of the file.

    Raises:
        ValueError: If there is no trace, a file is not from a FlightRecorder, or two are from the same rank.
    """
    paths = [path for source in sources for path in _files(Path(source))]
    if not paths:
        raise ValueError("merge: found no flight_rank*.json")
    traces = {path: _read(path) for path in paths}
    by_rank: dict[int, Path] = {}
    for path, trace in traces.items():
        rank = trace["otherData"]["rank"]
        if rank in by_rank:
            raise ValueError(
                f"merge: each rank must occur once, but {by_rank[rank]} and {path} are both of rank {rank}"
            )
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
    if other.get("format") != _FORMAT:
        raise ValueError(f"merge: {path} is not a trace written by a FlightRecorder")
    return trace  # type: ignore[no-any-return]


def _began(trace: dict[str, Any]) -> int:
    """When the recorder was created, by the wall clock at the end: over days the two clocks drift apart."""
    other = trace["otherData"]
    began: int = other["wall_at_end_ns"] - (other["clock_at_end_ns"] - other["clock_at_start_ns"])
    return began


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``python -m ignite_core trace merge FOLDER [-o FILE]``."""
    parser = argparse.ArgumentParser(prog="python -m ignite_core trace")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("merge", help="merge the traces of several ranks into one file")
    command.add_argument("sources", nargs="+", help="folders, or files flight_rank*.json")
    command.add_argument("-o", "--output", help="the file to write, by default flight.json beside the first source")
    asked = parser.parse_args(arguments)
    try:
        print(merge(asked.sources, asked.output))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")

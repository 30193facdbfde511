"""Flight records in the format of Chrome's traces, which https://ui.perfetto.dev and chrome://tracing show.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ("Trace Event Format"),
with complete events (``X``), instants (``i``) and metadata (``M``). A process is a rank.
"""

from __future__ import annotations

from typing import Any, Final

from ignite_core.handlers.flight.records import Record, Snapshot

__all__ = ["FORMAT", "as_trace"]

#: Says, in a file, who wrote it.
FORMAT: Final = "ignite_core flight record 1"


def as_trace(snapshot: Snapshot) -> dict[str, Any]:
    """The trace as JSON will have it; times are microseconds since the recorder was made."""
    threads = {track.thread: number for number, track in enumerate(snapshot.tracks, start=1)}
    began, _ = snapshot.started
    spans = [_event(record, began, snapshot.rank, threads) for record in snapshot.records]
    spans += [_event(record, began, snapshot.rank, threads, unfinished=True) for record in snapshot.open]
    spans.sort(key=lambda event: (event["ts"], -event.get("dur", 0)))
    return {
        "traceEvents": [*_metadata(snapshot, threads), *spans],
        "displayTimeUnit": "ms",
        "otherData": {
            "format": FORMAT,
            "reason": snapshot.reason,
            "rank": snapshot.rank,
            "world_size": snapshot.world_size,
            "host": snapshot.host,
            "process": snapshot.process,
            "clock_at_start_ns": snapshot.started[0],
            "wall_at_start_ns": snapshot.started[1],
            "clock_at_end_ns": snapshot.written[0],
            "wall_at_end_ns": snapshot.written[1],
        },
    }


def _metadata(snapshot: Snapshot, threads: dict[tuple[int, str], int]) -> list[dict[str, Any]]:
    rank = snapshot.rank
    process = f"rank {rank} ({snapshot.host}, process {snapshot.process})"
    told: list[tuple[str, int, dict[str, Any]]] = [
        ("process_name", 0, {"name": process}),
        ("process_sort_index", 0, {"sort_index": rank}),
        *(("thread_name", number, {"name": name}) for (_, name), number in threads.items()),
    ]
    return [{"ph": "M", "name": name, "pid": rank, "tid": thread, "args": args} for name, thread, args in told]


def _event(
    record: Record, began: int, rank: int, threads: dict[tuple[int, str], int], unfinished: bool = False
) -> dict[str, Any]:
    label, start, end, iteration = record
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

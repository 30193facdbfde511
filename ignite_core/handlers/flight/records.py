"""What a flight recorder remembers: spans of time with a label, and who ran them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Label", "Record", "Snapshot", "Track"]


@dataclass(eq=False)
class Track:
    """One engine: where it is now.

    Attributes:
        name: What it is called.
        thread: The thread of its run, as an identifier and a name.
        running: Whether it runs now.
        phase: The fetch or the step that is under way, and when it began; None between them.
        calls: The handlers that are under way, the innermost last, and when they began.
        epoch_began: In nanoseconds.
    """

    name: str
    engine: Any  #: a weak reference
    thread: tuple[int, str] = (0, "MainThread")
    running: int = 0
    phase: tuple[Label, int] | None = None
    calls: list[tuple[Label, int]] = field(default_factory=list)
    epoch_began: int = 0


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
class Snapshot:
    """All there is to write, at one moment.

    Attributes:
        reason: Why it is written, in words.
        notes: More about that, such as which handler raised.
        records: In the order in which they ended.
        open: What had begun and not ended, the outermost first.
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

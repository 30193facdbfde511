"""The error store: the part of a key-value store in which the ranks of a run report failures and heartbeats."""

from __future__ import annotations

import json
from typing import Any

from torch.distributed import Store  # type: ignore[attr-defined]

__all__ = ["ErrorStore"]

#: Added to the heartbeats of a rank that deregisters; larger than any number of heartbeats.
_LEFT = 2**40


class ErrorStore:
    """Entries that all ranks read in the order in which they were posted, and a heartbeat counter for each rank.

    ``reader`` is a connection for the watcher's thread and ``writer`` one for all other threads, because a call that
    waits blocks all calls of its connection.
    """

    def __init__(self, reader: Store, writer: Store, rank: int, world_size: int) -> None:
        self._reader, self._writer = reader, writer
        self._rank = rank
        self.world_size = world_size
        self._next = 1

    def post(self, entry: dict[str, Any]) -> int:
        """Post an entry; returns its number."""
        number = self._writer.add("entries", 1)
        self._writer.set(f"entry_{number}", json.dumps(entry))
        return number

    def post_once(self, key: str, entry: dict[str, Any]) -> None:
        """Post an entry, unless another rank has posted one with this key."""
        if self._writer.compare_set(f"once_{key}", "", str(self._rank)).decode() == str(self._rank):
            self.post(entry)

    def read(self) -> tuple[int, dict[str, Any]] | None:
        """The next entry and its number, if there is one. For the watcher's thread only."""
        number = self._next
        if not self._reader.check([f"entry_{number}"]):
            return None
        self._next += 1
        return number, json.loads(self._reader.get(f"entry_{number}"))

    def skip_gap(self) -> None:
        """Skip an entry that has a number but no content, because its rank died in between."""
        if self._reader.check([f"entry_{self._next + 1}"]) and not self._reader.check([f"entry_{self._next}"]):
            self._next += 1

    def beat(self) -> None:
        """Send a heartbeat. For the watcher's thread only."""
        self._reader.add(f"alive_{self._rank}", 1)

    def heartbeats_of(self, rank: int) -> int:
        """How many heartbeats a rank has sent. For the watcher's thread only."""
        return self._reader.add(f"alive_{rank}", 0)

    def heartbeats(self) -> list[int]:
        """How many heartbeats each rank has sent, for all other threads."""
        return [self._writer.add(f"alive_{rank}", 0) for rank in range(self.world_size)]

    @staticmethod
    def has_left(heartbeats: int) -> bool:
        """Whether the rank with this counter has deregistered."""
        return heartbeats >= _LEFT

    def deregister(self) -> None:
        """Deregister this rank, so that the others do not take its silence for a loss."""
        self._writer.add(f"alive_{self._rank}", _LEFT)

    def resolve(self, number: int, outcome: str) -> bool:
        """Set the outcome of an entry, which the first rank to call this decides; whether it is the given one."""
        return self._writer.compare_set(f"outcome_{number}", "", outcome).decode() == outcome

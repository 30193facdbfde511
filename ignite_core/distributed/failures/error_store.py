"""Where the ranks of a run tell each other of failures: a part of a store that lives outside of them."""

from __future__ import annotations

import json
from typing import Any

from torch.distributed import Store  # type: ignore[attr-defined]

__all__ = ["Board"]

#: A sign of life that is larger than any count of heartbeats: the rank has left.
_LEFT = 2**40


class Board:
    """Entries that all ranks read in the order in which they were posted, and a sign of life of each rank.

    Args:
        watching: A connection to the store for the thread of the watcher.
        telling: Another one for all other threads: one that waits for an answer would keep the others waiting.
        rank: Of this process.
        world_size: Number of processes.
    """

    def __init__(self, watching: Store, telling: Store, rank: int, world_size: int) -> None:
        self._watching, self._telling = watching, telling
        self._rank = rank
        self.world_size = world_size
        self._next = 1

    def post(self, entry: dict[str, Any]) -> int:
        """Post an entry; returns its number."""
        number = self._telling.add("entries", 1)
        self._telling.set(f"entry_{number}", json.dumps(entry))
        return number

    def post_once(self, key: str, entry: dict[str, Any]) -> None:
        """Post an entry, unless another rank has done so under this key."""
        if self._telling.compare_set(f"once_{key}", "", str(self._rank)).decode() == str(self._rank):
            self.post(entry)

    def read(self) -> tuple[int, dict[str, Any]] | None:
        """The next entry and its number, if there is one. For the watcher's thread alone."""
        number = self._next
        if not self._watching.check([f"entry_{number}"]):
            return None
        self._next += 1
        return number, json.loads(self._watching.get(f"entry_{number}"))

    def skip_hole(self) -> None:
        """Go past an entry whose number was taken but that never came, because its rank died in between."""
        if self._watching.check([f"entry_{self._next + 1}"]) and not self._watching.check([f"entry_{self._next}"]):
            self._next += 1

    def beat(self) -> None:
        """Give a sign of life. For the watcher's thread alone."""
        self._watching.add(f"alive_{self._rank}", 1)

    def watch(self, rank: int) -> int:
        """The sign of life of another rank, for the watcher's thread."""
        return self._watching.add(f"alive_{rank}", 0)

    def signs(self) -> list[int]:
        """The signs of life of all ranks, for all other threads. One that is the same later has been silent."""
        return [self._telling.add(f"alive_{rank}", 0) for rank in range(self.world_size)]

    @staticmethod
    def has_left(sign: int) -> bool:
        """Whether that sign of life is a farewell."""
        return sign >= _LEFT

    def leave(self) -> None:
        """Take leave, so that nobody misses this rank."""
        self._telling.add(f"alive_{self._rank}", _LEFT)

    def settle(self, number: int, fate: str) -> bool:
        """Decide what becomes of an entry: of all ranks the first one decides. Whether it is what this one wants."""
        return self._telling.compare_set(f"fate_{number}", "", fate).decode() == fate

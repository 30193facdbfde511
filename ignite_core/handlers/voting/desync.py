"""What the ranks tell each other in each round of a vote, so that those that have come apart are found and named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["Doing", "Notice", "Summary"]

#: Of a number: the bits of what is told, above those of the rank that tells it.
_TOLD_BITS: Final = 42
_RANK_BITS: Final = 20
_ITERATION_BITS: Final = 38
_ALL: Final = 2**_TOLD_BITS - 1


class Doing(IntEnum):
    """What a rank is doing in a round."""

    STEPPING = 1
    EXHAUSTED = 2  #: it waits for ranks that have batches left
    ENDED = 3  #: as above, and it has reached EPOCH_COMPLETED
    BEGINNING = 4
    SETTLING = 5
    STOPPING = 6
    MEETING = 7  #: it begins a run, or goes on after an error, and passes over all rounds until all ranks do


@dataclass(frozen=True)
class Notice:
    """What a rank tells of itself."""

    rank: int
    names: tuple[str, ...]  #: what can be asked for
    every: int
    uneven: bool
    doing: Doing
    iteration: int
    length: int | None  #: of the epoch
    limit: int  #: ``max_epochs``, or the negative of ``max_iters``

    def numbers(self) -> list[int]:
        """Four facts, each as two numbers: the largest over all ranks tells the largest, and the smallest; and whose.

        The facts are the place, the length, the limit and the rest as a hash.
        """
        schema = repr((self.names, self.every, self.uneven)).encode()
        facts = (
            self.doing << _ITERATION_BITS | self.iteration,
            0 if self.length is None else self.length + 1,
            abs(self.limit) << 1 | (self.limit < 0),
            int.from_bytes(hashlib.blake2b(schema, digest_size=8).digest(), "little") & _ALL,
        )
        return [told << _RANK_BITS | self.rank for fact in facts for told in (fact, _ALL - fact)]


class Summary:
    """What came of the notices of all ranks.

    Attributes:
        least: What those ranks do that have come least far.
        most: What those do that have come farthest.
    """

    SIZE: Final = 8

    def __init__(self, numbers: Sequence[int]) -> None:
        pairs = [divmod(number, 2**_RANK_BITS) for number in numbers[: self.SIZE]]
        largest, smallest = pairs[::2], [(_ALL - told, rank) for told, rank in pairs[1::2]]
        #: The smallest and the largest of each fact, with a rank that told it.
        self._place, self._length, self._limit, self._schema = zip(smallest, largest, strict=True)
        self.least, self.most = (Doing(told >> _ITERATION_BITS) for told, _ in self._place)

    @property
    def is_of_one_moment(self) -> bool:
        """All ranks wait for this very round, so they may exchange more."""
        return self.least is self.most is not Doing.STEPPING

    def fault(self, uneven: bool) -> str | None:
        """What the ranks should tell alike and do not: a key of :data:`COMPLAINTS`.

        Args:
            uneven: They may have different numbers of batches.
        """
        if self.most is Doing.MEETING:
            return "doing"
        if _differ(self._schema):
            return "schema"
        if self.least is not self.most and not (uneven and self.most <= Doing.ENDED):
            return "doing"
        if uneven:
            return None
        if _differ(self._place):
            return "iteration"
        if self.most is Doing.BEGINNING:  # later the length may have been found, or the limit moved
            return "length" if _differ(self._length) else "limit" if _differ(self._limit) else None
        return None

    def complaint(self, fault: str, notices: Sequence[Notice] | None) -> str:
        """A message that says which rank tells what, what must hold, and how to mend it.

        Args:
            fault: As of :meth:`fault`.
            notices: Those of all ranks, if they could be exchanged; else two ranks are named.
        """
        rule, mend = COMPLAINTS[fault]
        said = self._say_extremes(fault) if notices is None else {one.rank: _say(fault, one) for one in notices}
        told = "; ".join(f"rank {rank} {words}" for rank, words in sorted(said.items()))
        return f"Vote: all ranks must {rule}, but {told}; {mend}"

    def _say_extremes(self, fault: str) -> dict[int, str]:
        if fault == "schema":
            return {rank: "has attached others" for _, rank in self._schema}
        mask = 2**_ITERATION_BITS - 1
        return {rank: _say_place(Doing(told >> _ITERATION_BITS), told & mask) for told, rank in self._place}


def _differ(pair: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    return pair[0][0] != pair[1][0]


def _say(fault: str, notice: Notice) -> str:
    if fault == "schema":
        return f"asks for {list(notice.names)} with every={notice.every} and uneven={notice.uneven}"
    if fault == "length":
        return f"has {'an unknown number of' if notice.length is None else notice.length} batches"
    if fault == "limit":
        return f"has {'max_iters' if notice.limit < 0 else 'max_epochs'}={abs(notice.limit)}"
    return _say_place(notice.doing, notice.iteration)


def _say_place(doing: Doing, iteration: int) -> str:
    return f"{_DOING[doing]} iteration {iteration}"


_DOING: Final = {
    Doing.STEPPING: "goes on after",
    Doing.EXHAUSTED: "has no batch left after",
    Doing.ENDED: "has no batch left after",
    Doing.BEGINNING: "begins an epoch after",
    Doing.SETTLING: "saves, or ends an epoch, after",
    Doing.STOPPING: "ends its run after",
    Doing.MEETING: "begins a run, or goes on after an error, at",
}

_ALLOW: Final = "or allow them to differ with vote_of(engine, uneven=True)"

#: By what differs: what must hold, and how to mend it.
COMPLAINTS: Final = {
    "schema": ("attach the same handlers in the same order", "attach what votes on all ranks, at the same event"),
    "doing": (
        "do the same",
        f"give all ranks as many batches, {_ALLOW}; end, save and pause on all ranks at the same event: what one rank "
        "finds out alone it asks for with Vote.add",
    ),
    "iteration": ("be at the same iteration", "start all of them anew, or from the same checkpoint"),
    "length": (
        "have as many batches in an epoch",
        f"pass epoch_length, use a sampler that gives all ranks as many, {_ALLOW}",
    ),
    "limit": ("run as far", "pass the same max_epochs or max_iters to Engine.run"),
}

"""Detect ranks that are out of sync: each reports its state in every round of a vote, and differences are named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["Activity", "DesyncCheck", "RankReport"]

#: Bits of a number: the reported value, above those of the reporting rank.
_VALUE_BITS: Final = 42
_RANK_BITS: Final = 20
_ITERATION_BITS: Final = 38
_MAX_VALUE: Final = 2**_VALUE_BITS - 1


class Activity(IntEnum):
    """What a rank is doing when it takes part in a round."""

    STEPPING = 1
    EXHAUSTED = 2  #: it has no batches left and waits for ranks that have
    ENDED = 3  #: as EXHAUSTED, at EPOCH_COMPLETED
    BEGINNING = 4
    SETTLING = 5
    STOPPING = 6
    SYNCHRONIZING = 7  #: it begins a run, or continues after an error, and skips rounds until all ranks do


@dataclass(frozen=True)
class RankReport:
    """What a rank reports of itself."""

    rank: int
    names: tuple[str, ...]  #: of the requests
    every: int
    uneven: bool
    activity: Activity
    iteration: int
    length: int | None  #: of the epoch
    limit: int  #: ``max_epochs``, or the negative of ``max_iters``

    def numbers(self) -> list[int]:
        """Four values, each as two numbers whose maxima over all ranks give the largest and the smallest value.

        The values are the position, the length, the limit, and a hash of the rest. The lowest bits of each number name
        the rank.
        """
        schema = repr((self.names, self.every, self.uneven)).encode()
        values = (
            self.activity << _ITERATION_BITS | self.iteration,
            0 if self.length is None else self.length + 1,
            abs(self.limit) << 1 | (self.limit < 0),
            int.from_bytes(hashlib.blake2b(schema, digest_size=8).digest(), "little") & _MAX_VALUE,
        )
        return [part << _RANK_BITS | self.rank for value in values for part in (value, _MAX_VALUE - value)]


class DesyncCheck:
    """Compares the reports of all ranks.

    Args:
        numbers: The maxima of :meth:`RankReport.numbers` over all ranks.

    Attributes:
        least: The activity of the ranks that are furthest behind.
        most: The activity of the ranks that are furthest ahead.
    """

    SIZE: Final = 8

    def __init__(self, numbers: Sequence[int]) -> None:
        pairs = [divmod(number, 2**_RANK_BITS) for number in numbers[: self.SIZE]]
        largest, smallest = pairs[::2], [(_MAX_VALUE - value, rank) for value, rank in pairs[1::2]]
        # The smallest and the largest of each value, each with a rank that reported it.
        self._position, self._length, self._limit, self._schema = zip(smallest, largest, strict=True)
        self.least, self.most = (Activity(value >> _ITERATION_BITS) for value, _ in self._position)

    @property
    def can_gather(self) -> bool:
        """Whether all ranks wait for this round, so that they may exchange more."""
        return self.least is self.most is not Activity.STEPPING

    def fault(self, uneven: bool) -> str | None:
        """What differs between the ranks but must not: a key of :data:`_FAULTS`."""
        if self.most is Activity.SYNCHRONIZING:
            return "activity"
        if _differ(self._schema):
            return "schema"
        if self.least is not self.most and not (uneven and self.most <= Activity.ENDED):
            return "activity"
        if uneven:
            return None
        if _differ(self._position):
            return "iteration"
        if self.most is Activity.BEGINNING:  # later the length may have been found, or the limit moved
            return "length" if _differ(self._length) else "limit" if _differ(self._limit) else None
        return None

    def message(self, fault: str, reports: Sequence[RankReport] | None) -> str:
        """The error message for a fault. If the reports of all ranks could not be gathered, it names two ranks."""
        rule, remedy = _FAULTS[fault]
        found = self._extremes(fault) if reports is None else {one.rank: _describe(fault, one) for one in reports}
        ranks = "; ".join(f"rank {rank} {words}" for rank, words in sorted(found.items()))
        return f"Vote: all ranks must {rule}, but {ranks}; {remedy}"

    def _extremes(self, fault: str) -> dict[int, str]:
        if fault == "schema":
            return {rank: "has attached others" for _, rank in self._schema}
        mask = 2**_ITERATION_BITS - 1
        return {rank: _position(Activity(value >> _ITERATION_BITS), value & mask) for value, rank in self._position}


def _differ(pair: tuple[tuple[int, int], tuple[int, int]]) -> bool:
    return pair[0][0] != pair[1][0]


def _describe(fault: str, report: RankReport) -> str:
    if fault == "schema":
        return f"has the requests {list(report.names)} with every={report.every} and uneven={report.uneven}"
    if fault == "length":
        return f"has {'an unknown number of' if report.length is None else report.length} batches"
    if fault == "limit":
        return f"has {'max_iters' if report.limit < 0 else 'max_epochs'}={abs(report.limit)}"
    return _position(report.activity, report.iteration)


def _position(activity: Activity, iteration: int) -> str:
    return f"{_ACTIVITIES[activity]} iteration {iteration}"


_ACTIVITIES: Final = {
    Activity.STEPPING: "continues after",
    Activity.EXHAUSTED: "has no batch left after",
    Activity.ENDED: "has no batch left after",
    Activity.BEGINNING: "begins an epoch after",
    Activity.SETTLING: "saves, or ends an epoch, after",
    Activity.STOPPING: "ends its run after",
    Activity.SYNCHRONIZING: "begins a run, or continues after an error, at",
}

_ALLOW: Final = "or allow them to differ with vote_of(engine, uneven=True)"

#: By what differs: what must hold, and how to fix it.
_FAULTS: Final = {
    "schema": (
        "attach the same handlers in the same order",
        "attach handlers that vote on all ranks, at the same event",
    ),
    "activity": (
        "do the same",
        f"give all ranks the same number of batches, {_ALLOW}; end, save and pause on all ranks at the same event: "
        "request what one rank decides alone with Vote.add",
    ),
    "iteration": ("be at the same iteration", "start all of them from the beginning, or from the same checkpoint"),
    "length": (
        "have the same number of batches in an epoch",
        f"pass epoch_length, use a sampler that gives all ranks the same number, {_ALLOW}",
    ),
    "limit": ("run to the same limit", "pass the same max_epochs or max_iters to Engine.run"),
}

"""The side channel of votes: a gloo process group that is separate from the collectives of the user's step."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ignite_core.distributed import utils as idist
from ignite_core.distributed.current import current_model
from ignite_core.distributed.failures.api import begin, explained, finish
from ignite_core.distributed.models.base import ComputationModel

__all__ = ["Round", "SideChannel", "mark_unsynchronized", "side_channel"]

T = TypeVar("T")


class Round:
    """Numbers that are being reduced over all ranks; ``work`` is the asynchronous reduction, None if it is complete."""

    __slots__ = ("numbers", "work")

    def __init__(self, numbers: Tensor, work: Any) -> None:
        self.numbers = numbers
        self.work = work

    def result(self) -> list[int]:
        """The maximum of each number; waits for ranks that have not begun this round, unless one of them fails.

        Raises:
            RankFailed: If another rank has failed.
            RuntimeError: If a rank does not begin the round in time; the message says where that rank is.
        """
        if self.work is not None:
            with explained("vote", idist.get_rank(), idist.get_world_size(), "gloo"):
                finish(self.work, "vote")
        largest: list[int] = self.numbers.tolist()
        return largest


class SideChannel:
    """Reduces numbers over all ranks without waiting. All ranks must create it together.

    Attributes:
        is_synchronized: Whether the next round of this rank pairs with the next round of the others. It may not at the
            start of a run, or after an error: some ranks may have begun rounds that others never will.
    """

    def __init__(self) -> None:
        self.is_synchronized = False
        is_asynchronous = idist.model_name() == "native-dist" and dist.is_gloo_available()
        ranks = list(range(idist.get_world_size()))
        self._group = idist.new_group(ranks, backend="gloo") if is_asynchronous else None  # None: each round waits

    def send(self, numbers: Sequence[int]) -> Round:
        """Begin a round with 64-bit numbers, the same number of them on all ranks."""
        begin("vote")
        tensor = torch.tensor(numbers, dtype=torch.int64)
        if self._group is None:
            return Round(idist.all_reduce(tensor, "MAX"), None)
        return Round(tensor, dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._group, async_op=True))

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in the order of the ranks."""
        return idist.all_gather_object(value, self._group)


#: Each lives as long as the process group.
_channels: weakref.WeakKeyDictionary[ComputationModel, SideChannel] = weakref.WeakKeyDictionary()


def side_channel() -> SideChannel:
    """The side channel of this process, created on first use by all ranks together."""
    model = current_model()
    if model not in _channels:
        _channels[model] = SideChannel()
    return _channels[model]


def mark_unsynchronized() -> None:
    """A run begins, or has failed: rounds that are in progress may have no counterpart on other ranks."""
    found = _channels.get(current_model())
    if found is not None:
        found.is_synchronized = False

"""The way on which all votes of a process travel: a gloo group of their own, beside what the user's step exchanges."""

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

__all__ = ["Lane", "Round", "lane", "lose_step"]

T = TypeVar("T")


class Round:
    """Numbers under way to all ranks."""

    __slots__ = ("numbers", "work")

    def __init__(self, numbers: Tensor, work: Any) -> None:
        self.numbers = numbers
        self.work = work  #: None: they have come already

    def result(self) -> list[int]:
        """The largest of each number; it waits for ranks that have not begun this round, unless one of them fails.

        Raises:
            RankFailed: If another rank has failed.
            RuntimeError: If a rank does not begin it in time; it says where that is.
        """
        if self.work is not None:
            with explained("vote", idist.get_rank(), idist.get_world_size(), "gloo"):
                finish(self.work, "vote")
        largest: list[int] = self.numbers.tolist()
        return largest


class Lane:
    """Exchanges numbers without waiting; all ranks make it at the same moment.

    Attributes:
        is_in_step: What this rank sends next belongs to what the others send next. It does not where a run begins, or
            ended with an error: there may be rounds left that some ranks have begun and others never will.
    """

    def __init__(self) -> None:
        self.is_in_step = False
        is_asynchronous = idist.model_name() == "native-dist" and dist.is_gloo_available()
        ranks = list(range(idist.get_world_size()))
        #: None where the framework has nothing of the kind: then each round waits at once.
        self._group = idist.new_group(ranks, backend="gloo") if is_asynchronous else None

    def send(self, numbers: Sequence[int]) -> Round:
        """Send numbers of 64 bits, as many as all ranks send.

        Raises:
            RankFailed: If another rank has failed.
        """
        begin("vote")
        tensor = torch.tensor(numbers, dtype=torch.int64)
        if self._group is None:
            return Round(idist.all_reduce(tensor, "MAX"), None)
        return Round(tensor, dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._group, async_op=True))

    def gather(self, value: T) -> list[T]:
        """What each rank brings, in the order of the ranks."""
        return idist.all_gather_object(value, self._group)


#: They live as long as the ranks are joined.
_lanes: weakref.WeakKeyDictionary[ComputationModel, Lane] = weakref.WeakKeyDictionary()


def lane() -> Lane:
    """The lane of this process, made when it is first needed, by all ranks together."""
    model = current_model()
    if model not in _lanes:
        _lanes[model] = Lane()
    return _lanes[model]


def lose_step() -> None:
    """Do not rely on what was sent before: a run begins, or has ended with an error."""
    found = _lanes.get(current_model())
    if found is not None:
        found.is_in_step = False

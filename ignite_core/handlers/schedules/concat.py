"""Several schedulers one after another, and a warm-up before a scheduler."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch.optim.lr_scheduler import LRScheduler as TorchScheduler

from ignite_core.engine.engine import Engine
from ignite_core.handlers._arguments import check_keys, integer, number
from ignite_core.handlers.schedules.base import BaseParamScheduler, is_of_pytorch_ignite, rows_of
from ignite_core.handlers.schedules.group import ParamGroupScheduler, check_count, check_schedulers, simulate
from ignite_core.handlers.schedules.param_scheduler import ParamScheduler, PiecewiseLinear
from ignite_core.handlers.schedules.torch_scheduler import LRScheduler

__all__ = ["ConcatScheduler", "create_lr_scheduler_with_warmup"]

_WARMUP = "create_lr_scheduler_with_warmup"


class ConcatScheduler(ParamScheduler):
    """Calls schedulers of one optimizer one after another.

    Args:
        schedulers: At least two different ones; a ``ConcatScheduler`` or :class:`ParamGroupScheduler` may be among
            them.
        durations: Number of events of each scheduler but the last, which has no end.
        save_history: Append what is written to ``engine.state.param_history``.

    Raises:
        ValueError: If there are too few schedulers or not one duration less, if they write to different optimizers or
            parameters, or if a scheduler occurs twice.

    Example:
        >>> import torch
        >>> from ignite_core.handlers import LinearCyclicalScheduler, PiecewiseLinear
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> up = PiecewiseLinear(optimizer, "lr", [(0, 0.0), (2, 1.0)])
        >>> down = LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.0, cycle_size=4, monotonic=True)
        >>> ConcatScheduler([up, down], durations=[2]).next_values(6)
        [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """

    def __init__(
        self, schedulers: Sequence[BaseParamScheduler], durations: Sequence[int], save_history: bool = False
    ) -> None:
        check_schedulers("ConcatScheduler", schedulers, ParamScheduler | ParamGroupScheduler, least=2)
        if not isinstance(durations, list | tuple):
            raise TypeError(f"ConcatScheduler: durations must be a list or tuple, got {durations!r}")
        if len(durations) != len(schedulers) - 1:
            raise ValueError(
                f"ConcatScheduler: {len(schedulers)} schedulers need {len(schedulers) - 1} durations, as the last one "
                f"has no end; got {list(durations)}"
            )
        for duration in durations:
            integer("ConcatScheduler", "a duration", duration, least=0)
        names = [sorted(set(_names(scheduler))) for scheduler in schedulers]
        if any(other != names[0] for other in names):
            raise ValueError(f"ConcatScheduler: all schedulers must write the same param_name, got {names}")
        self.schedulers = schedulers
        self.durations = durations
        self._ends: list[int] = [*accumulate(durations), sys.maxsize]
        self._call_current: Any = None  # a bound method, which is called faster than an object
        self._enters_at = 0  # the event at which the next scheduler begins
        super().__init__(_optimizer_of(schedulers), names[0][0], save_history)

    def __call__(self, engine: Engine | None = None, name: str | None = None) -> None:
        if self._is_loaded and self._is_repeated(engine):
            return
        index = self.event_index
        if index >= self._enters_at:
            self._enter(index)
        self._call_current(engine, name)
        self.event_index = index + 1

    @property
    def optimizer_param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups that the current scheduler writes."""
        current: Any = self.schedulers[bisect_right(self._ends, self.event_index)]
        groups: list[dict[str, Any]] = current.optimizer_param_groups
        return groups

    @property
    def save_history(self) -> bool:
        """Whether each of the schedulers appends what it writes to ``engine.state.param_history``."""
        return self._save_history

    @save_history.setter
    def save_history(self, value: bool) -> None:
        self._save_history = value
        for scheduler in self.schedulers:
            scheduler.save_history = value

    @property
    def is_predictable(self) -> bool:
        """Whether all schedulers are predictable."""
        return all(scheduler.is_predictable for scheduler in self.schedulers)

    def get_param(self) -> Any:
        return self.value_at(self.event_index)

    def _values(self, first: int, count: int) -> list[Any]:
        values: list[Any] = []
        index, stop = first, first + count
        while index < stop:
            place = bisect_right(self._ends, index)
            until = min(self._ends[place], stop)
            scheduler = self.schedulers[place]
            ahead = index - self._event_of_next_call(place)
            values += scheduler._values(scheduler.event_index + ahead, until - index)
            index = until
        return values

    @classmethod
    def simulate_values(  # type: ignore[override]
        cls,
        num_events: int,
        schedulers: Sequence[BaseParamScheduler],
        durations: Sequence[int],
        param_names: Sequence[str] | None = None,
    ) -> list[list[Any]]:
        """The values that these schedulers would write from their current step on; they are not changed.

        ``param_names`` is accepted as in pytorch-ignite, and not used.
        """
        if param_names is not None and (
            not isinstance(param_names, list | tuple) or not all(isinstance(name, str) for name in param_names)
        ):
            raise TypeError(
                f"{cls.__name__}.simulate_values: param_names must be a list of strings, got {param_names!r}"
            )
        return simulate(lambda: cls(schedulers, durations), schedulers, num_events)

    def state_dict(self) -> OrderedDict[str, Any]:
        """``event_index``, and the states of all schedulers."""
        return OrderedDict(super().state_dict(), schedulers=[scheduler.state_dict() for scheduler in self.schedulers])

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        check_keys("ConcatScheduler", state_dict, ["schedulers"])
        states = state_dict["schedulers"]
        check_count("ConcatScheduler", states, self.schedulers)
        super().load_state_dict(state_dict)
        for scheduler, state in zip(self.schedulers, states, strict=True):
            scheduler.load_state_dict(state)
        if is_of_pytorch_ignite(state_dict):
            self._go_to(self.event_index)
        self._enters_at = 0

    def _enter(self, index: int) -> None:
        place = bisect_right(self._ends, index)
        current: Any = self.schedulers[place]
        if index == self._begin_of(place):  # not after a state was loaded in the middle
            current._take_over()
        self._call_current, self._enters_at = current.__call__, self._ends[place]

    def _event_of_next_call(self, place: int) -> int:
        """The number of the event at which the scheduler in this place is called next, or would have been."""
        return min(max(self.event_index, self._begin_of(place)), self._ends[place])

    def _begin_of(self, place: int) -> int:
        return self._ends[place - 1] if place else 0

    def _go_to(self, event_index: int) -> None:
        self.event_index = event_index
        for place, scheduler in enumerate(self.schedulers):
            scheduler._go_to(self._event_of_next_call(place) - self._begin_of(place))

    def _take_over(self) -> None:
        self._enters_at = 0

    def _event_index_of(self, state_dict: Mapping[str, Any]) -> Any:
        """In pytorch-ignite it stays 0, and the rest of the current scheduler is counted down."""
        if not is_of_pytorch_ignite(state_dict) or "_scheduler_index" not in state_dict:
            return state_dict["event_index"]
        place, left = state_dict["_scheduler_index"], state_dict["_current_duration"]
        durations = state_dict["durations"]  # a warm-up may be one event longer in pytorch-ignite
        total = durations[place] if place < len(durations) else -1
        done: int = sum(durations[:place]) + total - left
        return done


def create_lr_scheduler_with_warmup(
    lr_scheduler: ParamScheduler | TorchScheduler,
    warmup_start_value: float,
    warmup_duration: int,
    warmup_end_value: float | None = None,
    save_history: bool = False,
    output_simulated_values: list[Any] | None = None,
) -> ConcatScheduler:
    """Put a linear warm-up before a learning rate scheduler, whose first value is not written twice.

    The rate is ``warmup_start_value`` at event 0 and ``warmup_end_value`` at event ``warmup_duration - 1``. The
    scheduler starts at that event if its first value is the same in all parameter groups, otherwise one event later.

    Args:
        lr_scheduler: The scheduler after the warm-up: a :class:`ParamScheduler`, or one of torch.
        warmup_start_value: The rate at the first event.
        warmup_duration: Number of events in the warm-up, at least 2.
        warmup_end_value: The rate at the end of the warm-up; by default the current one of each parameter group.
        save_history: Append what is written to ``engine.state.param_history["lr"]``.
        output_simulated_values: A list, such as ``[None] * 100``, which is filled with as many rows ``[event, rate,
            ...]`` of the values to come.

    Raises:
        ValueError: If ``warmup_duration`` is below 2.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> create_lr_scheduler_with_warmup(decay, warmup_start_value=0.0, warmup_duration=3).next_values(5)
        [0.0, 0.5, 1.0, 0.5, 0.25]
    """
    if isinstance(lr_scheduler, TorchScheduler):
        lr_scheduler = LRScheduler(lr_scheduler)
    if not isinstance(lr_scheduler, ParamScheduler):
        raise TypeError(f"{_WARMUP}: lr_scheduler must be a ParamScheduler, or one of torch, got {lr_scheduler!r}")
    number(_WARMUP, "warmup_start_value", warmup_start_value)
    integer(_WARMUP, "warmup_duration", warmup_duration, least=2)
    if warmup_end_value is not None:
        number(_WARMUP, "warmup_end_value", warmup_end_value)
    if not isinstance(output_simulated_values, list | None):
        raise TypeError(f"{_WARMUP}: output_simulated_values must be a list, got {output_simulated_values!r}")

    groups = lr_scheduler.optimizer.param_groups
    ends = [float(group["lr"]) if warmup_end_value is None else warmup_end_value for group in groups]
    warmups = [
        PiecewiseLinear(
            lr_scheduler.optimizer, "lr", [(0, warmup_start_value), (warmup_duration - 1, end)], False, index
        )
        for index, end in enumerate(ends)
    ]
    first = lr_scheduler.get_param()
    ends_there = (first if isinstance(first, list) else [first] * len(ends)) == ends
    duration = warmup_duration - 1 if ends_there else warmup_duration
    combined = ConcatScheduler([ParamGroupScheduler(warmups), lr_scheduler], [duration], save_history)
    if output_simulated_values is not None:
        output_simulated_values[:] = rows_of(combined, len(output_simulated_values))
    return combined


def _optimizer_of(schedulers: Sequence[Any]) -> Any:
    each = [one.optimizer if isinstance(one.optimizer, list) else [one.optimizer] for one in schedulers]
    first = each[0][0]
    if any(other is not first for optimizers in each for other in optimizers):
        raise ValueError("ConcatScheduler: all schedulers must write to the same optimizer, got several")
    return first


def _names(scheduler: Any) -> list[str]:
    """Names of the parameters that a scheduler writes."""
    if isinstance(scheduler, ConcatScheduler):
        return _names(scheduler.schedulers[0])
    return scheduler.param_name if isinstance(scheduler.param_name, list) else [scheduler.param_name]

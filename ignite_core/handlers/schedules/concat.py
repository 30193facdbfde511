"""Schedulers one after another."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.handlers._arguments import check_keys, integer
from ignite_core.handlers.schedules.base import BaseParamScheduler, is_of_pytorch_ignite, rows_of
from ignite_core.handlers.schedules.group import ParamGroupScheduler, check_count, check_schedulers
from ignite_core.handlers.schedules.param_scheduler import ParamScheduler

__all__ = ["ConcatScheduler"]


class ConcatScheduler(ParamScheduler):
    """Schedulers of one optimizer, one after another.

    Args:
        schedulers: At least two, each once; a ``ConcatScheduler`` or :class:`ParamGroupScheduler` may be among them.
        durations: Events of each but the last, which goes on for ever.
        save_history: Append what is written to ``engine.state.param_history``.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If there are too few schedulers, or not one duration less; if they write into different optimizers
            or parameters, or one stands there twice.

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
                f"goes on for ever; got {list(durations)}"
            )
        for duration in durations:
            integer("ConcatScheduler", "a duration", duration, least=0)
        names = [sorted(set(_names(scheduler))) for scheduler in schedulers]
        if any(other != names[0] for other in names):
            raise ValueError(f"ConcatScheduler: all schedulers must write the same param_name, got {names}")
        self.schedulers = schedulers
        self.durations = durations
        self._ends: list[int] = [*accumulate(durations), sys.maxsize]
        self._call_present: Any = None  # a bound method, called sooner than an object
        self._enters_at = 0  # the event at which the next scheduler has to be looked for
        super().__init__(_optimizer_of(schedulers), names[0][0])
        self.save_history = save_history

    def __call__(self, engine: Engine | None = None, name: str | None = None) -> None:
        if self._is_loaded and self._was_made(engine):
            return
        index = self.event_index
        if index >= self._enters_at:
            self._enter(index)
        self._call_present(engine, name)
        self.event_index = index + 1

    @property
    def optimizer_param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups that the present scheduler writes."""
        groups: list[dict[str, Any]] = self._present().optimizer_param_groups  # type: ignore[attr-defined]
        return groups

    @property
    def save_history(self) -> bool:
        return self._save_history

    @save_history.setter
    def save_history(self, value: bool) -> None:
        self._save_history = value
        for scheduler in self.schedulers:
            scheduler.save_history = value

    @property
    def is_predictable(self) -> bool:
        """Whether what comes can be told beforehand: if each of the schedulers can tell."""
        return all(scheduler.is_predictable for scheduler in self.schedulers)

    def get_param(self) -> Any:
        return self.value_at(self.event_index)

    def value_at(self, event_index: int) -> Any:
        number = bisect_right(self._ends, event_index)
        scheduler = self.schedulers[number]
        return scheduler.value_at(scheduler.event_index + event_index - self._now_in(number))

    def _ahead(self, skip: int, count: int) -> list[Any]:
        values: list[Any] = []
        index, stop = self.event_index + skip, self.event_index + skip + count
        while index < stop:
            number = bisect_right(self._ends, index)
            until = min(self._ends[number], stop)
            values += self.schedulers[number]._ahead(index - self._now_in(number), until - index)
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
        """What these schedulers, from where they are, would write one after another; they are left alone.

        Args:
            num_events: How many rows, at least 0.
            schedulers: As of the class.
            durations: As of the class.
            param_names: Accepted as in pytorch-ignite: the names of what is written.

        Returns:
            ``[[0, value, ...], [1, value, ...], ...]``
        """
        if param_names is not None and (
            not isinstance(param_names, list | tuple) or not all(isinstance(name, str) for name in param_names)
        ):
            raise TypeError(
                f"{cls.__name__}.simulate_values: param_names must be a list of strings, got {param_names!r}"
            )
        histories = [scheduler.save_history for scheduler in schedulers]
        concat = cls(schedulers, durations)
        for scheduler, save_history in zip(schedulers, histories, strict=True):
            scheduler.save_history = save_history
        unknown = set(param_names or ()) - set(_names(concat))
        if unknown:
            raise ValueError(
                f"{cls.__name__}.simulate_values: param_names must be among {_names(concat)}, got {param_names!r}"
            )
        return rows_of(concat, num_events)

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
        number = bisect_right(self._ends, index)
        present: Any = self.schedulers[number]
        if index == self._begin_of(number):  # and not where it goes on from a state
            present._take_over()
        self._call_present, self._enters_at = present.__call__, self._ends[number]

    def _present(self) -> BaseParamScheduler:
        return self.schedulers[bisect_right(self._ends, self.event_index)]

    def _now_in(self, number: int) -> int:
        """The event of this scheduler that stands for the next one of a scheduler in it."""
        return min(max(self.event_index, self._begin_of(number)), self._ends[number])

    def _begin_of(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    def _go_to(self, event_index: int) -> None:
        self.event_index = event_index
        for number, scheduler in enumerate(self.schedulers):
            scheduler._go_to(self._now_in(number) - self._begin_of(number))

    def _take_over(self) -> None:
        self._enters_at = 0

    def _event_index_of(self, state_dict: Mapping[str, Any]) -> Any:
        """There, it stays 0, and what is left of the present scheduler is counted down."""
        if not is_of_pytorch_ignite(state_dict) or "_scheduler_index" not in state_dict:
            return state_dict["event_index"]
        number, left = state_dict["_scheduler_index"], state_dict["_current_duration"]
        durations = state_dict["durations"]  # a warm-up may be one event longer there
        total = durations[number] if number < len(durations) else -1
        done: int = sum(durations[:number]) + total - left
        return done


def _optimizer_of(schedulers: Sequence[Any]) -> Any:
    found: list[Any] = []
    for scheduler in schedulers:
        found += scheduler.optimizer if isinstance(scheduler.optimizer, list) else [scheduler.optimizer]
    if any(other is not found[0] for other in found):
        raise ValueError("ConcatScheduler: all schedulers must write into the same optimizer, got several")
    return found[0]


def _names(scheduler: Any) -> list[str]:
    """What a scheduler writes."""
    if isinstance(scheduler, ConcatScheduler):
        return [name for one in scheduler.schedulers[:1] for name in _names(one)]
    return scheduler.param_name if isinstance(scheduler.param_name, list) else [scheduler.param_name]

"""Several schedulers at the same events."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.handlers._arguments import check_keys
from ignite_core.handlers.schedules.base import BaseParamScheduler, record, rows_of
from ignite_core.handlers.schedules.param_scheduler import ParamScheduler, number_in

__all__ = ["ParamGroupScheduler", "check_count", "check_schedulers", "simulate"]


class ParamGroupScheduler(BaseParamScheduler):
    """Calls several schedulers at the same events, usually one for each parameter group of an optimizer.

    Args:
        schedulers: At least one.
        names: Name of each in the history, by default its ``param_name``. The values of schedulers with the same name
            are in one list.
        save_history: Append what is written to ``engine.state.param_history[name]``.

    Raises:
        ValueError: If there is not one name for each scheduler, or a scheduler occurs twice.

    Example:
        >>> import torch
        >>> from ignite_core.handlers import PiecewiseLinear
        >>> groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)]}]
        >>> optimizer = torch.optim.SGD(groups, lr=0.1)
        >>> slow = PiecewiseLinear(optimizer, "lr", [(0, 0.01), (2, 0.0)], param_group_index=0)
        >>> fast = PiecewiseLinear(optimizer, "lr", [(0, 1.0), (2, 0.0)], param_group_index=1)
        >>> ParamGroupScheduler([slow, fast], names=["body", "head"]).next_values(3)
        [[0.01, 1.0], [0.005, 0.5], [0.0, 0.0]]
    """

    def __init__(
        self, schedulers: Sequence[ParamScheduler], names: Sequence[str] | None = None, save_history: bool = False
    ) -> None:
        where = type(self).__name__
        check_schedulers(where, schedulers, ParamScheduler, least=1)
        if names is None:
            names = [scheduler.param_name for scheduler in schedulers]
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"{where}: names must be a list of strings, got {names!r}")
        if len(names) != len(schedulers):
            raise ValueError(f"{where}: there must be one name for each of {len(schedulers)} schedulers, got {names}")
        super().__init__(names[0], save_history)
        self.schedulers = schedulers
        self.names = names
        self.optimizer = [scheduler.optimizer for scheduler in schedulers]
        self.param_name = [scheduler.param_name for scheduler in schedulers]  # type: ignore[assignment]
        for scheduler in schedulers:
            scheduler.save_history = False  # the group records one entry for each name
        self._calls = [scheduler.__call__ for scheduler in schedulers]  # bound methods are called faster than objects

    def __call__(self, engine: Engine | None = None, name: str | None = None) -> None:
        """Write the next values.

        Args:
            engine: The history is appended to its state; not needed without history.
            name: Not used; the names are those of the constructor.
        """
        if self._is_loaded and self._is_repeated(engine):
            return
        for call in self._calls:
            call(engine)
        self.event_index += 1
        if self.save_history and engine is not None:
            for one in dict.fromkeys(self.names):
                record(engine, one, self._values_of(one))

    @property
    def optimizer_param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups that are written; a group occurs once for each scheduler that writes it."""
        return [group for scheduler in self.schedulers for group in scheduler.optimizer_param_groups]

    @property
    def is_predictable(self) -> bool:
        """Whether all schedulers are predictable."""
        return all(scheduler.is_predictable for scheduler in self.schedulers)

    def get_param(self) -> Any:
        """A list with the next value of each scheduler; the value itself, if there is only one scheduler."""
        return self.value_at(self.event_index)

    def _values(self, first: int, count: int) -> list[Any]:
        ahead = first - self.event_index
        columns = [one._values(one.event_index + ahead, count) for one in self.schedulers]
        return [list(row) if len(row) > 1 else row[0] for row in zip(*columns, strict=True)]

    @classmethod
    def simulate_values(cls, num_events: int, schedulers: Sequence[ParamScheduler], **kwargs: Any) -> list[list[Any]]:  # type: ignore[override]
        """The values that these schedulers would write from their current step on; they are not changed."""
        return simulate(lambda: cls(schedulers, **kwargs), schedulers, num_events)

    def state_dict(self) -> OrderedDict[str, Any]:
        """``event_index``, and the names and states of all schedulers."""
        states = [(name, one.state_dict()) for name, one in zip(self.names, self.schedulers, strict=True)]
        return OrderedDict(super().state_dict(), schedulers=states)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        where = type(self).__name__
        check_keys(where, state_dict, ["schedulers"])
        states = state_dict["schedulers"]
        check_count(where, states, self.schedulers)
        saved = [name for name, _ in states]
        if saved != list(self.names):
            raise ValueError(f"{where}: the names must be {list(self.names)}, got {saved}")
        super().load_state_dict({"event_index": 0, **state_dict})  # pytorch-ignite saves no count
        for scheduler, (_, state) in zip(self.schedulers, states, strict=True):
            scheduler.load_state_dict(state)
        if "event_index" not in state_dict:
            self.event_index = self.schedulers[0].event_index

    def _go_to(self, event_index: int) -> None:
        self.event_index = event_index
        for scheduler in self.schedulers:
            scheduler._go_to(event_index)

    def _take_over(self) -> None:
        for scheduler in self.schedulers:
            scheduler._take_over()

    def _values_of(self, name: str) -> list[Any]:
        return [
            number_in(group, scheduler.param_name)
            for own, scheduler in zip(self.names, self.schedulers, strict=True)
            if own == name
            for group in scheduler.optimizer_param_groups
        ]


def simulate(combine: Callable[[], BaseParamScheduler], schedulers: Sequence[Any], num_events: int) -> list[list[Any]]:
    """Rows of a combination of schedulers, whose ``save_history`` is left as it is."""
    histories = [scheduler.save_history for scheduler in schedulers]
    combined = combine()
    for scheduler, save_history in zip(schedulers, histories, strict=True):
        scheduler.save_history = save_history
    return rows_of(combined, num_events)


def check_schedulers(where: str, schedulers: Any, kinds: Any, least: int) -> None:
    """Check that it is a list of at least so many different schedulers."""
    if not isinstance(schedulers, Sequence):
        raise TypeError(f"{where}: schedulers must be a list or tuple, got {schedulers!r}")
    if len(schedulers) < least:
        raise ValueError(f"{where}: there must be at least {least} schedulers, got {len(schedulers)}")
    for scheduler in schedulers:
        if not isinstance(scheduler, kinds):
            raise TypeError(
                f"{where}: schedulers must be parameter schedulers, got {scheduler!r}; LRScheduler makes one of a "
                "scheduler of torch"
            )
    if len({id(scheduler) for scheduler in schedulers}) < len(schedulers):
        raise ValueError(f"{where}: a scheduler may occur only once, as it has one counter; make another one")


def check_count(where: str, states: Any, schedulers: Sequence[Any]) -> None:
    """Check that there is a state for each scheduler."""
    if len(states) != len(schedulers):
        raise ValueError(f"{where}: there must be states for {len(schedulers)} schedulers, got {len(states)}")

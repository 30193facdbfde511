"""Schedulers side by side."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers._arguments import check_engine, check_keys
from ignite_core.handlers.schedules.base import BaseParamScheduler, record, rows_of
from ignite_core.handlers.schedules.optimizers import number_in
from ignite_core.handlers.schedules.param_scheduler import ParamScheduler

__all__ = ["ParamGroupScheduler", "check_count", "check_schedulers"]


class ParamGroupScheduler(BaseParamScheduler):
    """Schedulers side by side, mostly of the parameter groups of one optimizer.

    Args:
        schedulers: At least one.
        names: What each is called in the history, the names of what they write by default. The values of schedulers of
            one name stand in one list.
        save_history: Append what is written to ``engine.state.param_history[name]``.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If there are not as many names as schedulers, or one stands there twice.

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
            scheduler.save_history = False  # it is kept here, an entry for all of one name
        self._calls = [scheduler.__call__ for scheduler in schedulers]  # called sooner than an object

    def attach(self, engine: Engine, event: Any = Events.ITERATION_STARTED) -> None:
        """Write the next values whenever ``event`` of an engine is fired.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        check_engine(f"{type(self).__name__}.attach", engine)
        engine.add_event_handler(event, self)

    def __call__(self, engine: Engine | None = None, name: str | None = None) -> None:
        """Write the next values.

        Args:
            engine: Whose state takes the history; none is needed without it.
            name: Accepted beside other schedulers; the names are those of the constructor.
        """
        if self._is_loaded and self._was_made(engine):
            return
        for call in self._calls:
            call(engine)
        self.event_index += 1
        if self._save_history and engine is not None:
            for one in dict.fromkeys(self.names):
                record(engine, one, self._values_of(one))

    @property
    def optimizer_param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups that are written, once for each scheduler that writes them."""
        return [group for scheduler in self.schedulers for group in scheduler.optimizer_param_groups]

    @property
    def is_predictable(self) -> bool:
        """Whether what comes can be told beforehand: if each of the schedulers can tell."""
        return all(scheduler.is_predictable for scheduler in self.schedulers)

    def get_param(self) -> Any:
        """A list with the next value of each scheduler; of a single one its value."""
        return self.value_at(self.event_index)

    def value_at(self, event_index: int) -> Any:
        skip = event_index - self.event_index
        return _one_or_all([scheduler.value_at(scheduler.event_index + skip) for scheduler in self.schedulers])

    def _ahead(self, skip: int, count: int) -> list[Any]:
        columns = [scheduler._ahead(skip, count) for scheduler in self.schedulers]
        return [_one_or_all(list(row)) for row in zip(*columns, strict=True)]

    @classmethod
    def simulate_values(cls, num_events: int, schedulers: Sequence[ParamScheduler], **kwargs: Any) -> list[list[Any]]:  # type: ignore[override]
        """What these schedulers, from where they are, would write; they are left alone.

        Args:
            num_events: How many rows, at least 0.
            schedulers: As of the class.
            kwargs: The other arguments of the class.

        Returns:
            ``[[0, value of the first, value of the second, ...], ...]``
        """
        histories = [scheduler.save_history for scheduler in schedulers]
        group = cls(schedulers, **kwargs)
        for scheduler, save_history in zip(schedulers, histories, strict=True):
            scheduler.save_history = save_history
        return rows_of(group, num_events)

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
        super().load_state_dict({"event_index": 0, **state_dict})  # pytorch-ignite does not count here
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


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def check_schedulers(where: str, schedulers: Any, kinds: Any, least: int) -> None:
    """Make sure that it is a list of so many different schedulers.

    Raises:
        TypeError: If it is no list, or of something else.
        ValueError: If there are too few, or one stands there twice.
    """
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
        raise ValueError(f"{where}: a scheduler may stand there once, as it has one count; make another like it")


def check_count(where: str, states: Any, schedulers: Sequence[Any]) -> None:
    """Make sure that there is a state of each.

    Raises:
        ValueError: If there is not.
    """
    if len(states) != len(schedulers):
        raise ValueError(f"{where}: there must be states of {len(schedulers)} schedulers, got {len(states)}")

"""A curve written into a parameter of an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers._arguments import check_engine
from ignite_core.handlers.schedules.base import BaseParamScheduler, record, rows_of
from ignite_core.handlers.schedules.curves import piecewise_linear
from ignite_core.handlers.schedules.joins import Curve, check_curve
from ignite_core.handlers.schedules.optimizers import (
    HasGroups,
    check_index,
    check_optimizer,
    check_param,
    number_in,
    stand_in,
    write,
)

__all__ = ["ParamScheduler", "PiecewiseLinear", "groups_of"]


class ParamScheduler(BaseParamScheduler):
    """Writes a curve into a parameter of an optimizer, such as its learning rate, one step further at each call.

    Any curve will do, from :mod:`ignite_core.handlers.schedules.curves` or a function of yours; or override
    :meth:`get_param`, which is called with ``event_index`` set. Values are absolute: they do not depend on what the
    optimizer holds. A tensor in the optimizer is filled in place; of ``betas`` a number replaces the first.

    Args:
        optimizer: A torch optimizer, or anything with a list ``param_groups``.
        param_name: ``"lr"``, ``"momentum"``, ``"weight_decay"``, ``"betas"``, ...: a key of the parameter groups.
        save_history: Append what the groups hold, as a list, to ``engine.state.param_history[param_name]``.
        param_group_index: The only parameter group that is written; all of them by default.
        curve: ``curve(step) -> value``, the first step is 0; or a list of them, one for each parameter group.

    Raises:
        TypeError: If the optimizer has no parameter groups, a curve is not callable, or there is none.
        ValueError: If the groups do not have the parameter, or are not as many as the curves.

    Example:
        >>> import torch
        >>> from ignite_core.engine import Engine, Events
        >>> from ignite_core.handlers.schedules.curves import cosine
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> trainer = Engine(lambda engine, batch: print(round(optimizer.param_groups[0]["lr"], 3)))
        >>> ParamScheduler(optimizer, "lr", curve=cosine(0.1, 0.0, steps=4)).attach(trainer)
        >>> state = trainer.run(range(5))
        0.1
        0.085
        0.05
        0.015
        0.0
    """

    def __init__(
        self,
        optimizer: HasGroups,
        param_name: str,
        save_history: bool = False,
        param_group_index: int | None = None,
        *,
        curve: Curve | Sequence[Curve] | None = None,
    ) -> None:
        where = type(self).__name__
        check_optimizer(where, optimizer)
        check_index(where, optimizer, param_group_index)
        check_param(where, optimizer, param_group_index, param_name, differ=isinstance(curve, Sequence))
        self.optimizer = optimizer
        self.param_group_index = param_group_index
        if isinstance(curve, Sequence):
            each: Any = _Each(where, curve, len(self.optimizer_param_groups))
            super().__init__(param_name, save_history, curve=each)
            self._at = None  # which is for a single value
        else:
            super().__init__(param_name, save_history, curve=curve)

    def attach(self, engine: Engine, event: Any = Events.ITERATION_STARTED) -> None:
        """Write the next value whenever ``event`` of an engine is fired.

        Args:
            engine: Mostly the trainer.
            event: With or without filter.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        check_engine(f"{type(self).__name__}.attach", engine)
        engine.add_event_handler(event, self)

    def __call__(self, engine: Engine | None = None, name: str | None = None) -> None:
        """Write the next value.

        Args:
            engine: Whose state takes the history; none is needed without it.
            name: Of the history, ``param_name`` by default.
        """
        if self._is_loaded and self._was_made(engine):
            return
        curve, groups = self._at, self.optimizer.param_groups
        if self.param_group_index is not None:
            groups = (groups[self.param_group_index],)
        if curve is not None:
            value = curve(self.event_index)
        else:
            value = self._own(self)
            if isinstance(value, list):
                self._write_each(groups, value)
                groups = ()
        param = self.param_name
        for group in groups:
            if type(group[param]) is float:
                group[param] = value
            else:
                write(group, param, value)
        self.event_index += 1
        if self._save_history and engine is not None:
            self._record(engine, name)

    @property
    def optimizer_param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups that are written."""
        groups = self.optimizer.param_groups
        return list(groups) if self.param_group_index is None else [groups[self.param_group_index]]

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[Any]]:
        """What a scheduler of these arguments would write: ``[[0, value], [1, value], ...]``.

        Args:
            num_events: How many rows, at least 0.
            scheduler_kwargs: Arguments of the scheduler but for the optimizer, which one made for this stands in for.

        Returns:
            A row is the number of the event and the value, or the values of the parameter groups where they differ.

        Example:
            >>> PiecewiseLinear.simulate_values(3, param_name="lr", milestones_values=[(0, 1.0), (2, 0.0)])
            [[0, 1.0], [1, 0.5], [2, 0.0]]
        """
        kwargs = {key: value for key, value in scheduler_kwargs.items() if key not in ("optimizer", "save_history")}
        return rows_of(cls(stand_in(kwargs.get("param_name"), groups_of(kwargs)), **kwargs), num_events)

    def _write_each(self, groups: Sequence[dict[str, Any]], values: list[Any]) -> None:
        if len(values) != len(groups):
            raise ValueError(
                f"{type(self).__name__}: there must be one value for each of the {len(groups)} parameter groups, got "
                f"{values}"
            )
        for group, value in zip(groups, values, strict=True):
            write(group, self.param_name, value)

    def _record(self, engine: Engine, name: str | None) -> None:
        param = self.param_name
        held = [number_in(group, param) for group in self.optimizer_param_groups]
        record(engine, param if name is None else name, held)


class PiecewiseLinear(ParamScheduler):
    """Straight lines between milestones, flat before the first and after the last.

    Args:
        optimizer: As of :class:`ParamScheduler`.
        param_name: As of :class:`ParamScheduler`.
        milestones_values: Pairs of a step and the value there, the steps in increasing order. Where two share a step,
            the value jumps to the second.
        save_history: As of :class:`ParamScheduler`.
        param_group_index: As of :class:`ParamScheduler`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the steps do not increase, or there are none.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> PiecewiseLinear(optimizer, "lr", [(1, 1.0), (3, 0.8), (5, 0.2)]).next_values(6)
        [1.0, 1.0, 0.9, 0.8, 0.5, 0.2]
    """

    def __init__(
        self,
        optimizer: HasGroups,
        param_name: str,
        milestones_values: Sequence[tuple[int, float]],
        save_history: bool = False,
        param_group_index: int | None = None,
    ) -> None:
        curve = piecewise_linear(milestones_values)
        super().__init__(optimizer, param_name, save_history, param_group_index, curve=curve)


class _Each:
    """A list of values, one of each curve."""

    def __init__(self, where: str, curves: Sequence[Curve], groups: int) -> None:
        for curve in curves:
            check_curve(where, curve)
        if len(curves) != groups:
            raise ValueError(
                f"{where}: there must be one curve for each of the {groups} parameter groups, got {len(curves)}"
            )
        self.curves = tuple(curves)

    def __call__(self, step: int) -> list[float]:
        return [curve(step) for curve in self.curves]


def groups_of(kwargs: dict[str, Any]) -> int:
    """How many parameter groups these arguments need."""
    index, curve = kwargs.get("param_group_index"), kwargs.get("curve")
    if isinstance(index, int):
        return index + 1 if index >= 0 else -index
    return len(curve) if isinstance(curve, Sequence) else 1

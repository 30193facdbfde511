"""A curve written into a parameter of an optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Protocol

import torch
from torch import Tensor

from ignite_core.engine.engine import Engine
from ignite_core.handlers.schedules.base import BaseParamScheduler, record, rows_of
from ignite_core.handlers.schedules.curves import piecewise_linear
from ignite_core.handlers.schedules.joins import Curve, check_curve

__all__ = [
    "HasGroups",
    "ParamScheduler",
    "PiecewiseLinear",
    "check_optimizer",
    "dummy_optimizer",
    "num_groups",
    "number_in",
    "write",
]


class HasGroups(Protocol):
    """The part of an optimizer that schedulers use."""

    param_groups: Any


class ParamScheduler(BaseParamScheduler):
    """Writes a curve into a parameter of an optimizer, such as its learning rate, one step further at each call.

    Give any function of the step, such as those of :mod:`ignite_core.handlers.schedules.curves`, or override
    :meth:`get_param`, which is called with ``event_index`` set. Values are absolute: they do not depend on what the
    optimizer holds. A tensor in the optimizer is filled in place; in ``betas`` a number replaces the first element.

    Args:
        optimizer: A torch optimizer, or any object with a list ``param_groups``.
        param_name: A key of the parameter groups: ``"lr"``, ``"momentum"``, ``"weight_decay"``, ``"betas"``, ...
        save_history: Append what the groups hold, as a list, to ``engine.state.param_history[param_name]``.
        param_group_index: Index of the only parameter group that is written; by default all are.
        curve: ``curve(step) -> value``, where the first step is 0; or a list of curves, one for each parameter group.

    Raises:
        TypeError: If the optimizer has no parameter groups, a curve is not callable, or there is no curve.
        ValueError: If the groups do not have the parameter, or their number is not that of the curves.

    Example:
        >>> import torch
        >>> from ignite_core.engine import Engine, Events
        >>> from ignite_core.handlers.schedules.curves import cosine
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> trainer = Engine(lambda engine, batch: print(round(optimizer.param_groups[0]["lr"], 3)))
        >>> handle = ParamScheduler(optimizer, "lr", curve=cosine(0.1, 0.0, steps=4)).attach(trainer)
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
        groups = optimizer.param_groups
        _check_groups(where, groups, param_group_index, param_name, differ=isinstance(curve, Sequence))
        self.optimizer = optimizer
        self.param_group_index = param_group_index
        if isinstance(curve, Sequence):
            per_group: Any = _PerGroup(where, curve, len(self.optimizer_param_groups))
            super().__init__(param_name, save_history, curve=per_group)
            self._at = None  # this is for a single value
        else:
            super().__init__(param_name, save_history, curve=curve)

    def __call__(self, engine: Engine | None = None, name: str | None = None) -> None:
        """Write the next value.

        Args:
            engine: The history is appended to its state; not needed without history.
            name: Name of the history, ``param_name`` by default.
        """
        if self._is_loaded and self._is_repeated(engine):
            return
        curve, groups = self._at, self.optimizer.param_groups
        if self.param_group_index is not None:
            groups = (groups[self.param_group_index],)
        if curve is not None:
            value = curve(self.event_index)
        else:
            value = self._value()
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
        if self.save_history and engine is not None:
            self._record(engine, name)

    @property
    def optimizer_param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups that are written."""
        groups = self.optimizer.param_groups
        return list(groups) if self.param_group_index is None else [groups[self.param_group_index]]

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[Any]]:
        """The values that a scheduler with these arguments would write; ``optimizer`` is not needed.

        Args:
            num_events: Number of rows, at least 0.
            scheduler_kwargs: Arguments of the scheduler.

        Returns:
            A row is the number of the event and the value, or the values of the parameter groups where they differ.

        Example:
            >>> PiecewiseLinear.simulate_values(3, param_name="lr", milestones_values=[(0, 1.0), (2, 0.0)])
            [[0, 1.0], [1, 0.5], [2, 0.0]]
        """
        kwargs = {key: value for key, value in scheduler_kwargs.items() if key not in ("optimizer", "save_history")}
        return rows_of(cls(dummy_optimizer(kwargs.get("param_name"), num_groups(kwargs)), **kwargs), num_events)

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
        optimizer, param_name, save_history, param_group_index: See :class:`ParamScheduler`.
        milestones_values: Pairs of a step and the value at that step, the steps in increasing order. Where two have the
            same step, the value jumps to the second.

    Raises:
        ValueError: If the steps do not increase, or there are no milestones.

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


class _PerGroup:
    """Several curves as one, whose value is a list."""

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


def write(group: dict[str, Any], name: str, value: Any) -> None:
    """Write a value into a parameter group.

    A tensor is filled in place, so that a captured graph or a compiled step sees the new value. In a tuple, such as
    ``betas``, a single number replaces the first element, which is the momentum.

    Example:
        >>> group = {"lr": torch.tensor(0.5), "betas": (0.9, 0.999)}
        >>> before = group["lr"]
        >>> write(group, "lr", 0.25)
        >>> write(group, "betas", 0.8)
        >>> group["lr"] is before, before.item(), group["betas"]
        (True, 0.25, (0.8, 0.999))
    """
    present = group[name]
    if isinstance(present, Tensor):
        present.fill_(value)
    elif isinstance(present, tuple) and not isinstance(value, tuple):
        group[name] = (value, *present[1:])
    else:
        group[name] = value


def number_in(group: dict[str, Any], name: str) -> Any:
    """The current value in a group; of a tensor on the CPU its number, of one on another device a copy."""
    value = group[name]
    if type(value) is float or not isinstance(value, Tensor):  # the first test is the faster one
        return value
    return value.item() if value.device.type == "cpu" else value.detach().clone()


def check_optimizer(where: str, optimizer: object) -> None:
    """Raise a TypeError if the optimizer has no parameter groups."""
    if not isinstance(getattr(optimizer, "param_groups", None), Sequence):
        raise TypeError(
            f"{where}: optimizer must be a torch.optim.Optimizer, or have a list param_groups, got {optimizer!r}"
        )


def dummy_optimizer(param_name: str | None, groups: int) -> torch.optim.Optimizer:
    """An optimizer to try a scheduler on; its groups have the parameters of SGD, ``betas`` and ``param_name``."""
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(groups)], lr=0.01)
    for group in optimizer.param_groups:
        group["betas"] = (0.9, 0.999)
        if param_name is not None:
            group.setdefault(param_name, 0.0)
    return optimizer


def num_groups(kwargs: dict[str, Any]) -> int:
    """The number of parameter groups that these arguments of a scheduler require."""
    index, curve = kwargs.get("param_group_index"), kwargs.get("curve")
    if isinstance(index, int):
        return index + 1 if index >= 0 else -index
    return len(curve) if isinstance(curve, Sequence) else 1


def _check_groups(where: str, every: Sequence[dict[str, Any]], index: object, name: str, differ: bool) -> None:
    """Check that the groups exist and have the parameter, and that different values are not for a shared tensor."""
    if index is not None:
        if isinstance(index, bool) or not isinstance(index, Integral):
            raise TypeError(f"{where}: param_group_index must be an integer or None, got {index!r}")
        if not -len(every) <= int(index) < len(every):
            raise ValueError(
                f"{where}: param_group_index must be one of the {len(every)} parameter groups, got {index}"
            )
    chosen = every if index is None else [every[int(index)]]
    for group in chosen:
        if name not in group:
            known = [key for key in group if key != "params"]
            raise ValueError(f"{where}: param_name must be one of {known}, got {name!r}")
    others = [(group, other) for group in chosen for other in every if other is not group]
    if (index is not None or differ) and any(
        isinstance(group[name], Tensor) and other.get(name) is group[name] for group, other in others
    ):
        raise ValueError(
            f"{where}: parameter groups share one tensor as {name!r} and cannot have different values; give each group "
            f"its own tensor: for group in optimizer.param_groups: group[{name!r}] = group[{name!r}].clone()"
        )

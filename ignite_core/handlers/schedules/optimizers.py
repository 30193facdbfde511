"""The parameter groups of an optimizer, as something to write into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["HasGroups", "check_index", "check_optimizer", "check_param", "number_in", "stand_in", "write"]


class HasGroups(Protocol):
    """An optimizer, as far as schedulers know one."""

    param_groups: Any


def write(group: dict[str, Any], name: str, value: Any) -> None:
    """Put a value into a parameter group.

    A tensor keeps its place and its device, so that a captured graph or a compiled step sees the new value. Of a tuple,
    such as ``betas``, a single number replaces the first element, which is the momentum.

    Example:
        >>> group = {"lr": torch.tensor(0.5), "betas": (0.9, 0.999)}
        >>> kept = group["lr"]
        >>> write(group, "lr", 0.25)
        >>> write(group, "betas", 0.8)
        >>> group["lr"] is kept, kept.item(), group["betas"]
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
    """What a group holds now, for the record: of a tensor a number, or a copy where asking for one would wait.

    Example:
        >>> number_in({"lr": torch.tensor(0.5)}, "lr")
        0.5
    """
    value = group[name]
    if not isinstance(value, Tensor):
        return value
    return value.item() if value.device.type == "cpu" else value.detach().clone()


def check_optimizer(where: str, optimizer: Any) -> None:
    """Make sure that it has parameter groups.

    Raises:
        TypeError: If it has none.
    """
    if not isinstance(getattr(optimizer, "param_groups", None), Sequence):
        raise TypeError(
            f"{where}: optimizer must be a torch.optim.Optimizer, or have a list param_groups, got {optimizer!r}"
        )


def check_index(where: str, optimizer: HasGroups, index: Any) -> None:
    """Make sure that the optimizer has this parameter group.

    Raises:
        TypeError: If the index is no integer.
        ValueError: If there is no such group.
    """
    if index is None:
        return
    if isinstance(index, bool) or not isinstance(index, Integral):
        raise TypeError(f"{where}: param_group_index must be an integer or None, got {index!r}")
    count = len(optimizer.param_groups)
    if not -count <= int(index) < count:
        raise ValueError(f"{where}: param_group_index must name one of the {count} parameter groups, got {index}")


def check_param(where: str, optimizer: HasGroups, index: int | None, name: str, differ: bool) -> None:
    """Make sure that the groups have a parameter of this name, and can hold values of their own if they must.

    Args:
        where: For messages.
        optimizer: Whose groups.
        index: Of the group, None for all of them.
        name: Of the parameter.
        differ: Whether the groups get different values.

    Raises:
        ValueError: If a group has no such parameter, or shares its tensor with a group that gets another value.
    """
    every: Sequence[dict[str, Any]] = optimizer.param_groups
    chosen = every if index is None else [every[index]]
    for group in chosen:
        if name not in group:
            known = [key for key in group if key != "params"]
            raise ValueError(f"{where}: param_name must be one of {known}, got {name!r}")
    if (index is not None or differ) and _share_a_tensor(chosen, every, name):
        raise ValueError(
            f"{where}: parameter groups share one tensor as {name!r} and cannot have values of their own; give each "
            f"its own: for group in optimizer.param_groups: group[{name!r}] = group[{name!r}].clone()"
        )


def _share_a_tensor(chosen: Iterable[dict[str, Any]], every: Iterable[dict[str, Any]], name: str) -> bool:
    return any(
        isinstance(group[name], Tensor) and other is not group and other.get(name) is group[name]
        for group in chosen
        for other in every
    )


def stand_in(param_name: str | None, groups: int) -> torch.optim.Optimizer:
    """An optimizer of nothing, to try a scheduler on.

    Args:
        param_name: A parameter that its groups have besides those of SGD and Adam.
        groups: How many parameter groups.

    Example:
        >>> stand_in("lr", 2).param_groups[1]["betas"]
        (0.9, 0.999)
    """
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(groups)], lr=0.01)
    for group in optimizer.param_groups:
        group["betas"] = (0.9, 0.999)
        if param_name is not None:
            group.setdefault(param_name, 0.0)
    return optimizer

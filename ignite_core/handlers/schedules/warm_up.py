"""A learning rate scheduler with a linear warm-up before it."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LRScheduler as TorchScheduler

from ignite_core.handlers._arguments import integer, number
from ignite_core.handlers.schedules.base import rows_of
from ignite_core.handlers.schedules.concat import ConcatScheduler
from ignite_core.handlers.schedules.group import ParamGroupScheduler
from ignite_core.handlers.schedules.param_scheduler import ParamScheduler, PiecewiseLinear
from ignite_core.handlers.schedules.torch_scheduler import LRScheduler

__all__ = ["create_lr_scheduler_with_warmup"]

_HERE = "create_lr_scheduler_with_warmup"


def create_lr_scheduler_with_warmup(
    lr_scheduler: ParamScheduler | TorchScheduler,
    warmup_start_value: float,
    warmup_duration: int,
    warmup_end_value: float | None = None,
    save_history: bool = False,
    output_simulated_values: list[Any] | None = None,
) -> ConcatScheduler:
    """Lead straight up to a learning rate, and then go on with a scheduler, whose first value is not written twice.

    Event 0 has ``warmup_start_value``, event ``warmup_duration - 1`` has ``warmup_end_value``. The scheduler starts
    with that event if its first value is this one in all parameter groups, else with the event after it.

    Args:
        lr_scheduler: Comes after the warm-up: a scheduler of here, or of torch.
        warmup_start_value: The rate of the first event.
        warmup_duration: Events of the warm-up, at least 2.
        warmup_end_value: The rate that it leads to; by default what each parameter group has now.
        save_history: Append what is written to ``engine.state.param_history["lr"]``.
        output_simulated_values: A list, such as ``[None] * 100``, that is filled with as many rows ``[event, rate,
            ...]`` of what is to come.

    Raises:
        TypeError: If an argument is of the wrong kind.
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
        raise TypeError(f"{_HERE}: lr_scheduler must be a ParamScheduler, or one of torch, got {lr_scheduler!r}")
    number(_HERE, "warmup_start_value", warmup_start_value)
    integer(_HERE, "warmup_duration", warmup_duration, least=2)
    if warmup_end_value is not None:
        number(_HERE, "warmup_end_value", warmup_end_value)
    if not isinstance(output_simulated_values, list | None):
        raise TypeError(f"{_HERE}: output_simulated_values must be a list, got {output_simulated_values!r}")

    groups = lr_scheduler.optimizer.param_groups
    ends = [float(group["lr"]) if warmup_end_value is None else warmup_end_value for group in groups]
    warmups = [
        PiecewiseLinear(
            lr_scheduler.optimizer,
            "lr",
            [(0, warmup_start_value), (warmup_duration - 1, end)],
            param_group_index=index,
        )
        for index, end in enumerate(ends)
    ]
    first = lr_scheduler.get_param()
    meets = (first if isinstance(first, list) else [first] * len(ends)) == ends
    duration = warmup_duration - 1 if meets else warmup_duration
    combined = ConcatScheduler([ParamGroupScheduler(warmups), lr_scheduler], [duration], save_history)
    if output_simulated_values is not None:
        output_simulated_values[:] = rows_of(combined, len(output_simulated_values))
    return combined

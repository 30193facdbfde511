"""Learning rate schedulers of torch as handlers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, ReduceLROnPlateau
from torch.optim.lr_scheduler import LRScheduler as TorchScheduler

from ignite_core.engine.engine import Engine
from ignite_core.handlers.schedules.base import is_of_pytorch_ignite, rows_of
from ignite_core.handlers.schedules.param_scheduler import ParamScheduler, write

__all__ = ["LRScheduler"]


class LRScheduler(ParamScheduler):
    """Calls any learning rate scheduler of torch; at event ``n`` the rate is that after ``n`` of its steps.

    The first call leaves the rate as the scheduler of torch has initialized it, each further call makes a step. Attach
    it to ``ITERATION_STARTED``, so that the step of the optimizer comes after it. Rates to come can be predicted; rates
    before the last call cannot be computed, as schedulers of torch only go forward.

    Args:
        lr_scheduler: The scheduler of torch; do not call its ``step`` yourself.
        save_history: Append the rates of all parameter groups to ``engine.state.param_history["lr"]``.
        use_legacy: Make a step in the first call too: for ``ITERATION_COMPLETED``, after the step of the optimizer.

    Raises:
        TypeError: If it is not a scheduler of torch, or ``ReduceLROnPlateau``, which needs a metric.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.8)
        >>> scheduler = LRScheduler(torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5))
        >>> scheduler.next_values(6)
        [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]
    """

    def __init__(self, lr_scheduler: TorchScheduler, save_history: bool = False, use_legacy: bool = False) -> None:
        if isinstance(lr_scheduler, ReduceLROnPlateau):
            raise TypeError("LRScheduler: ReduceLROnPlateau needs a metric; use ReduceLROnPlateauScheduler")
        if not isinstance(lr_scheduler, TorchScheduler):
            raise TypeError(
                f"LRScheduler: lr_scheduler must be a torch.optim.lr_scheduler.LRScheduler, got {lr_scheduler!r}"
            )
        super().__init__(lr_scheduler.optimizer, "lr", save_history)
        self.lr_scheduler = lr_scheduler
        self._skips = 0 if use_legacy else 1  # number of first calls that make no step
        self._has_plain_step = type(lr_scheduler).step is TorchScheduler.step
        self._state_attrs += ["lr_scheduler"]

    def __call__(self, engine: Engine | None = None, name: str | None = None) -> None:
        if self._is_loaded and self._is_repeated(engine):
            return
        if self.event_index >= self._skips:
            _advance(self.lr_scheduler, self._has_plain_step)
        self.event_index += 1
        if self.save_history and engine is not None:
            self._record(engine, name)

    def get_param(self) -> Any:
        """The value that the next call writes: the rate, or a list with that of each parameter group."""
        return self.value_at(self.event_index)

    def _values(self, first: int, count: int) -> list[Any]:
        """The rates of a copy that is advanced, from the last call on."""
        last = self.event_index - 1
        if first < last:
            raise ValueError(
                f"LRScheduler.value_at: event_index must be at least {last}, that of the last call, as schedulers of "
                f"torch only go forward; got {first}"
            )
        other = _copy_of(self.lr_scheduler)
        values = [_one_or_each(other.get_last_lr())]
        for index in range(self.event_index, first + count):
            if index >= self._skips:
                _advance(other, self._has_plain_step)
            values.append(_one_or_each(other.get_last_lr()))
        return values[first - last :][:count]

    @classmethod
    def simulate_values(cls, num_events: int, lr_scheduler: TorchScheduler, **kwargs: Any) -> list[list[Any]]:  # type: ignore[override]
        """The rates that a scheduler of torch would set from its current step on; it is not changed."""
        return rows_of(cls(lr_scheduler, **{**kwargs, "save_history": False}), num_events)

    def state_dict(self) -> OrderedDict[str, Any]:
        """``event_index``, and the state of the scheduler of torch.

        Load it together with the state of the optimizer: most schedulers of torch multiply the current rate.
        """
        return super().state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if is_of_pytorch_ignite(state_dict):
            self._go_to(self.event_index)

    def _go_to(self, event_index: int) -> None:
        """In pytorch-ignite, torch's counter is one step ahead, two after a warm-up; warm restarts count by two."""
        self.event_index = event_index
        lr_scheduler: Any = self.lr_scheduler
        if isinstance(lr_scheduler, CosineAnnealingWarmRestarts):
            lr_scheduler.last_epoch = event_index
        elif self._has_plain_step:
            lr_scheduler.last_epoch = max(event_index - self._skips, 0)
            lr_scheduler._step_count = lr_scheduler.last_epoch + 1
        lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _take_over(self) -> None:
        """Write the rate that the next step multiplies; another scheduler has overwritten it."""
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            write(group, "lr", rate)


def _advance(lr_scheduler: Any, has_plain_step: bool) -> None:
    """One step, without torch's warning about the order of steps: a gradient scaler may skip the first one."""
    if not has_plain_step:
        lr_scheduler.step()
        return
    lr_scheduler.last_epoch += 1
    lr_scheduler._step_count += 1
    if not lr_scheduler._get_lr_called_within_step:
        lr_scheduler._get_lr_called_within_step = True  # it stays True: it only avoids a warning
    rates = lr_scheduler._last_lr = lr_scheduler.get_lr()
    for number, group in enumerate(lr_scheduler.optimizer.param_groups):
        if type(group["lr"]) is float:
            group["lr"] = rates[number]
        else:
            write(group, "lr", rates[number])


def _one_or_each(rates: Sequence[Any]) -> Any:
    numbers = [rate.item() if isinstance(rate, Tensor) else rate for rate in rates]
    return numbers[0] if len(numbers) == 1 else numbers


class _Groups:
    """Copies of the parameter groups of an optimizer, without the parameters."""

    _opt_called = True  # torch warns without it

    def __init__(self, optimizer: Any, rates: Sequence[Any]) -> None:
        self.param_groups = [
            {key: copy.deepcopy(value) for key, value in group.items() if key != "params"} | {"params": []}
            for group in optimizer.param_groups
        ]
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = copy.deepcopy(rate)

    def step(self) -> None:
        """Do nothing; torch requires the method."""

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]


def _copy_of(lr_scheduler: Any) -> Any:
    """A copy, with all schedulers in it, that writes to a copy of the parameter groups."""
    optimizer = lr_scheduler.optimizer
    return copy.deepcopy(lr_scheduler, {id(optimizer): _Groups(optimizer, lr_scheduler.get_last_lr())})

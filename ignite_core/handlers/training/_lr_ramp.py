"""Learning rates that increase from iteration to iteration, over the length of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from ignite_core.engine.engine import Engine
from ignite_core.handlers._arguments import choice, integer, number

__all__ = ["LRRamp", "write_lrs"]


class LRRamp:
    """Writes increasing learning rates into an optimizer.

    Args:
        where: Name for error messages.
        optimizer: Its parameter groups are written.
        num_iter: Number of iterations; by default the length of the run.
        start_lr: Rate of the first iteration, one for all groups or one for each; by default those of the optimizer.
        end_lr: Rate of the last iteration, one for all groups or one for each.
        mode: ``"exp"`` for a geometric progression, ``"linear"`` for an arithmetic one.

    Attributes:
        length: Number of iterations, once the run has started.
    """

    def __init__(
        self,
        where: str,
        optimizer: Optimizer,
        num_iter: int | None,
        start_lr: float | Sequence[float] | None,
        end_lr: float | Sequence[float],
        mode: Literal["exp", "linear"],
    ) -> None:
        groups = len(optimizer.param_groups)
        starts = [group["lr"] for group in optimizer.param_groups] if start_lr is None else start_lr
        self.optimizer = optimizer
        self.start_lrs = _for_each_group(where, "start_lr", starts, groups)
        self.end_lrs = _for_each_group(where, "end_lr", end_lr, groups)
        for start, end in zip(self.start_lrs, self.end_lrs, strict=True):
            if not start < end:
                raise ValueError(f"{where}: start_lr must be below end_lr, got {start} and {end}")
        self.length = 0
        self._where = where
        self._num_iter = None if num_iter is None else integer(where, "num_iter", num_iter, least=1)
        self._is_linear = choice(where, "step_mode", mode, ("exp", "linear")) == "linear"

    def set_length(self, trainer: Engine) -> None:
        """Set the number of iterations of the run that starts, or take it from the run if ``num_iter`` is None."""
        state = trainer.state
        if self._num_iter is not None:
            self.length = self._num_iter
        elif state.max_iters is not None:
            self.length = state.max_iters
        elif state.max_epochs is not None and state.epoch_length is not None:
            self.length = state.max_epochs * state.epoch_length
        else:
            raise ValueError(f"{self._where}: the length of an epoch is not known; give num_iter")
        state.max_epochs, state.max_iters = None, self.length

    def set_lr(self, trainer: Engine) -> None:
        """Write the learning rates of the iteration that starts."""
        write_lrs(self.optimizer, self.lrs(trainer.state.iteration))

    def lrs(self, iteration: int) -> list[float]:
        """The learning rate of each parameter group in an iteration; the first is 1."""
        share = (iteration - 1) / (self.length - 1) if self.length > 1 else 0.0
        ends = zip(self.start_lrs, self.end_lrs, strict=True)
        if self._is_linear:
            return [start * (1 - share) + end * share for start, end in ends]
        return [float(start ** (1 - share) * end**share) for start, end in ends]


def write_lrs(optimizer: Optimizer, lrs: Sequence[float]) -> None:
    """Write a learning rate into each parameter group; tensors are filled in place, unless groups share them."""
    seen: set[int] = set()
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        if not isinstance(group["lr"], Tensor):
            group["lr"] = lr
            continue
        if id(group["lr"]) in seen:
            group["lr"] = group["lr"].clone()
        seen.add(id(group["lr"]))
        group["lr"].fill_(lr)


def _for_each_group(where: str, name: str, lrs: Any, groups: int) -> list[float]:
    values = list(lrs) if isinstance(lrs, list | tuple) else [lrs] * groups
    if len(values) != groups:
        raise ValueError(f"{where}: {name} must have a value for each of {groups} parameter groups, got {lrs!r}")
    plain = [value.item() if isinstance(value, Tensor) else value for value in values]
    return [float(number(where, name, value, above=0)) for value in plain]

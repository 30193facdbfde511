"""Learning rates that grow from iteration to iteration, for as many iterations as a run has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from torch import Tensor
from torch.optim import Optimizer

from ignite_core.engine.engine import Engine
from ignite_core.handlers._arguments import choice, integer, number

__all__ = ["LRRamp", "write_lrs"]


class LRRamp:
    """Writes learning rates into an optimizer, from the first ones to the last ones.

    Args:
        where: Who asks, for error messages.
        optimizer: One or several parameter groups.
        num_iter: Iterations; by default those that the run is to have.
        start_lr: Of the first iteration, one for all groups or one for each; by default those of the optimizer.
        end_lr: Of the last iteration, one for all groups or one for each.
        mode: ``"exp"``: each is a multiple of the one before; ``"linear"``: each is that much more.

    Attributes:
        length: Iterations of the run, when it has begun.

    Raises:
        TypeError: If a number is none.
        ValueError: If one is not above 0, or does not grow; if there are not as many as groups; for another mode.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
        >>> ramp = LRRamp("here", optimizer, 3, None, 1.0, "exp")
        >>> trainer = Engine(lambda engine, batch: print(optimizer.param_groups[0]["lr"]))
        >>> from ignite_core.engine import Events
        >>> _ = trainer.add_event_handler(Events.STARTED, ramp.plan)
        >>> _ = trainer.add_event_handler(Events.ITERATION_STARTED, ramp.set_lr)
        >>> state = trainer.run([0] * 10)
        0.01
        0.1
        1.0
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
        self._grow = _GROWTH[choice(where, "step_mode", mode, tuple(_GROWTH))]

    def plan(self, trainer: Engine) -> None:
        """Let the run that starts have as many iterations as this, or this as many as the run.

        Raises:
            ValueError: If neither knows how many.
        """
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
        return [self._grow(start, end, share) for start, end in zip(self.start_lrs, self.end_lrs, strict=True)]


def write_lrs(optimizer: Optimizer, lrs: Sequence[float]) -> None:
    """Give each parameter group its learning rate; a tensor stays that tensor, unless groups share it."""
    seen: set[int] = set()
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        if not isinstance(group["lr"], Tensor):
            group["lr"] = lr
            continue
        if id(group["lr"]) in seen:
            group["lr"] = group["lr"].clone()
        seen.add(id(group["lr"]))
        group["lr"].fill_(lr)


def _exponential(start: float, end: float, share: float) -> float:
    return float(start ** (1 - share) * end**share)


def _linear(start: float, end: float, share: float) -> float:
    return start * (1 - share) + end * share


_GROWTH: Final[dict[str, Callable[[float, float, float], float]]] = {"exp": _exponential, "linear": _linear}


def _for_each_group(where: str, name: str, lrs: Any, groups: int) -> list[float]:
    values = list(lrs) if isinstance(lrs, list | tuple) else [lrs] * groups
    if len(values) != groups:
        raise ValueError(f"{where}: {name} must have a value for each of {groups} parameter groups, got {lrs!r}")
    plain = [value.item() if isinstance(value, Tensor) else value for value in values]
    return [float(number(where, name, value, above=0)) for value in plain]

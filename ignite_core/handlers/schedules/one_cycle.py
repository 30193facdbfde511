"""The one-cycle policy, and learning rates that differ between parameter groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ignite_core.handlers._arguments import integer, number
from ignite_core.handlers.schedules.base import rows_of
from ignite_core.handlers.schedules.cycles import one_cycle
from ignite_core.handlers.schedules.group import ParamGroupScheduler
from ignite_core.handlers.schedules.param_scheduler import HasGroups, ParamScheduler, check_optimizer, dummy_optimizer

__all__ = ["OneCycle", "spread"]


class OneCycle(ParamGroupScheduler):
    """Raises the learning rate and lowers it again, and the momentum in reverse: :class:`~.curves.one_cycle`.

    The values are those of ``torch.optim.lr_scheduler.OneCycleLR``; after the last step they stay constant. In an
    optimizer with ``betas`` the first one is the momentum.

    Args:
        optimizer: A torch optimizer, or any object with a list ``param_groups``.
        max_lr: The largest rate; or a list with one for each parameter group, see :func:`spread`.
        total_steps: Number of events in the cycle, at least 2.
        momentum: The smallest momentum, at the largest rate, and the largest, at both ends. None: it is not written.
        pct_start: The share of the steps before the largest rate, between 0 and 1.
        div_factor: The first rate is ``max_lr / div_factor``.
        final_div_factor: The last rate is the first one divided by ``final_div_factor``.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        save_history: Append what is written to ``engine.state.param_history``, as ``"lr"`` and ``"momentum"``.

    Raises:
        ValueError: If a number is out of its range, there is not one ``max_lr`` for each parameter group, or the
            optimizer has no momentum.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
        >>> scheduler = OneCycle(optimizer, max_lr=1.0, total_steps=7, pct_start=3 / 7, div_factor=10)
        >>> [[round(value, 3) for value in values] for values in scheduler.next_values(4)]
        [[0.1, 0.95], [0.55, 0.9], [1.0, 0.85], [0.854, 0.865]]
    """

    def __init__(
        self,
        optimizer: HasGroups,
        max_lr: float | Sequence[float],
        total_steps: int,
        momentum: tuple[float, float] | None = (0.85, 0.95),
        *,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        save_history: bool = False,
    ) -> None:
        check_optimizer("OneCycle", optimizer)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycle: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        shape: Literal["cosine", "linear"] = "cosine" if anneal_strategy == "cos" else "linear"

        def rate(peak: float) -> one_cycle:
            number("OneCycle", "max_lr", peak)
            return one_cycle(peak, total_steps, pct_start, div_factor, final_div_factor, shape)

        curve = [rate(peak) for peak in max_lr] if isinstance(max_lr, Sequence) else rate(max_lr)
        schedulers, names = [ParamScheduler(optimizer, "lr", curve=curve)], ["lr"]
        if momentum is not None:
            low, high = _pair(momentum)
            # As a rate that starts at `high`, goes to `low`, and ends at `high` again.
            curve = one_cycle(low, total_steps, pct_start, low / high, 1.0, shape)
            schedulers.append(ParamScheduler(optimizer, _momentum_of(optimizer), curve=curve))
            names.append("momentum")
        super().__init__(schedulers, names, save_history)

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[Any]]:  # type: ignore[override]
        """The values that a scheduler with these arguments would write; ``optimizer`` is not needed.

        Example:
            >>> OneCycle.simulate_values(3, max_lr=[0.5, 1.0], total_steps=10, momentum=None, div_factor=2)
            [[0, 0.25, 0.5], [1, 0.375, 0.75], [2, 0.5, 1.0]]
        """
        kwargs = {key: value for key, value in scheduler_kwargs.items() if key not in ("optimizer", "save_history")}
        max_lr = kwargs.get("max_lr")
        groups = len(max_lr) if isinstance(max_lr, Sequence) else 1
        return rows_of(cls(dummy_optimizer("lr", groups), **kwargs), num_events)


def spread(low: float, high: float, groups: int) -> list[float]:
    r"""Learning rates for layers, in geometric progression: :math:`l (h / l)^{i / (n - 1)}`.

    This is the discriminative fine-tuning of Howard and Ruder, 2018, "Universal language model fine-tuning", section
    3.2.

    Args:
        low: :math:`l`, the rate of the first group (the layers next to the input), above 0.
        high: :math:`h`, the rate of the last group, above 0.
        groups: :math:`n`, at least 1; a single group has the high rate.

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> [round(rate, 5) for rate in spread(1e-5, 1e-3, groups=3)]
        [1e-05, 0.0001, 0.001]
    """
    number("spread", "low", low, above=0)
    number("spread", "high", high, above=0)
    integer("spread", "groups", groups, least=1)
    if groups == 1:
        return [float(high)]
    return [low * (high / low) ** (index / (groups - 1)) for index in range(groups - 1)] + [float(high)]


def _pair(momentum: Any) -> tuple[float, float]:
    if not isinstance(momentum, tuple | list) or len(momentum) != 2:
        raise TypeError(f"OneCycle: momentum must be a pair (smallest, largest), or None, got {momentum!r}")
    low, high = momentum
    number("OneCycle", "the smallest momentum", low, above=0)
    number("OneCycle", "the largest momentum", high, least=low)
    return low, high


def _momentum_of(optimizer: HasGroups) -> str:
    for name in ("betas", "momentum"):
        if all(name in group for group in optimizer.param_groups):
            return name
    raise ValueError("OneCycle: the optimizer has neither momentum nor betas; pass momentum=None")

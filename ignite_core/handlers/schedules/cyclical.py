"""Cycles written into a parameter of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite_core.handlers._arguments import integer
from ignite_core.handlers.schedules.base import is_of_pytorch_ignite
from ignite_core.handlers.schedules.cycles import Cycle, Shape, cyclic
from ignite_core.handlers.schedules.param_scheduler import HasGroups, ParamScheduler

__all__ = ["CosineAnnealingScheduler", "CyclicalScheduler", "LinearCyclicalScheduler"]


class CyclicalScheduler(ParamScheduler):
    """Base class of schedulers that go from one value to another in cycles, see :class:`~.curves.cyclic`.

    A subclass overrides :meth:`get_param`. While it is called, ``event_index`` is the position in the cycle, and
    ``cycle``, ``cycle_size``, ``warmup_duration``, ``start_value`` and ``end_value`` are those of the current cycle.
    At all other times ``event_index`` counts all calls. Without such a ``get_param`` the attributes keep the values of
    the arguments.

    Args:
        optimizer, param_name, save_history, param_group_index: See :class:`~ignite_core.handlers.ParamScheduler`.
        start_value: Value at the start of a cycle.
        end_value: Value at its end; in its middle, if the subclass goes back to the start value.
        cycle_size: Number of events in a cycle, at least 2; for iterations, often the length of an epoch.
        cycle_mult: Factor of ``cycle_size`` and ``warmup_duration`` after each cycle; the result is rounded down.
        start_value_mult: Factor of the start value after each cycle.
        end_value_mult: Factor of the end value after each cycle.
        warmup_duration: Number of events on a straight line from the end of a cycle to the start of the next.

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> import torch
        >>> class Stairs(CyclicalScheduler):
        ...     def get_param(self):
        ...         return self.start_value if self.event_index < self.cycle_size // 2 else self.end_value
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> Stairs(optimizer, "lr", 1.0, 0.5, cycle_size=4, end_value_mult=0.5).next_values(8)
        [1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.25, 0.25]
    """

    _shape: Shape | None = None

    def __init__(
        self,
        optimizer: HasGroups,
        param_name: str,
        start_value: float,
        end_value: float,
        cycle_size: int,
        cycle_mult: float = 1.0,
        start_value_mult: float = 1.0,
        end_value_mult: float = 1.0,
        warmup_duration: int = 0,
        save_history: bool = False,
        param_group_index: int | None = None,
    ) -> None:
        integer(type(self).__name__, "cycle_size", cycle_size, least=2)
        self.start_value, self.end_value = start_value, end_value
        self.cycle_size, self.cycle_mult = cycle_size, cycle_mult
        self.start_value_mult, self.end_value_mult = start_value_mult, end_value_mult
        self.warmup_duration = warmup_duration
        self._cycles = cyclic(
            start_value,
            end_value,
            cycle_size,
            self._shape or "linear",
            steps_mult=cycle_mult,
            start_mult=start_value_mult,
            end_mult=end_value_mult,
            warmup=warmup_duration,
        )
        curve = None if self._shape is None else self._cycles
        self._current: Cycle | None = None  # the cycle of the attributes, if a subclass overrides get_param
        super().__init__(optimizer, param_name, save_history, param_group_index, curve=curve)

    @property
    def cycle(self) -> int:
        """Number of the cycle of the next event; the first is 0."""
        return (self._current or self._cycles.cycle_at(self.event_index)).number

    @property
    def total_cycle_size(self) -> int:
        """Number of events in a cycle and in the warm-up after it."""
        return self.cycle_size + self.warmup_duration

    def _value(self) -> Any:
        """The next value by a subclass's ``get_param``, which sees the position in the cycle."""
        index, cycle = self.event_index, self._current
        if cycle is None or not cycle.first <= index < cycle.stop:
            cycle = self._enter(index)
        position = index - cycle.first
        if position > cycle.size:  # in the warm-up
            return self._cycles(index)
        self.event_index = position
        try:
            return self.get_param()
        finally:
            self.event_index = index

    def _enter(self, event_index: int) -> Cycle:
        cycle = self._current = self._cycles.cycle_at(event_index)
        self.start_value, self.end_value = cycle.start, cycle.end
        self.cycle_size, self.warmup_duration = cycle.size, cycle.warmup
        if self._shape is not None:
            self._curve = cyclic(cycle.start, cycle.end, cycle.size, self._shape)
        return cycle

    def _event_index_of(self, state_dict: Mapping[str, Any]) -> Any:
        """pytorch-ignite counts from the start of the cycle; cycles are as long as the arguments of this one say."""
        event_index = state_dict["event_index"]
        if is_of_pytorch_ignite(state_dict) and "cycle" in state_dict:
            cycle = self._cycles.cycle_at(0)
            for _ in range(integer(type(self).__name__, "cycle", state_dict["cycle"], least=0)):
                cycle = self._cycles.cycle_at(cycle.stop)
            event_index += cycle.first
        return event_index


class LinearCyclicalScheduler(CyclicalScheduler):
    """Goes on a straight line to ``end_value`` in the first half of a cycle, and back in the second.

    Args:
        args, kwargs: See :class:`CyclicalScheduler`.
        monotonic: Use the whole cycle to go to ``end_value``, and do not go back.

    Raises:
        ValueError: If there is a ``warmup_duration`` without ``monotonic``: such a cycle ends at its start value.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> LinearCyclicalScheduler(optimizer, "lr", 0.0, 1.0, cycle_size=4).next_values(6)
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.5]
        >>> LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.0, 2, warmup_duration=2, monotonic=True).next_values(6)
        [1.0, 0.5, 0.0, 0.5, 1.0, 0.5]
    """

    _shape: Shape | None = "triangle"

    def __init__(self, *args: Any, monotonic: bool = False, **kwargs: Any) -> None:
        self.monotonic = monotonic
        if monotonic:
            self._shape = "linear"
        super().__init__(*args, **kwargs)
        if self.warmup_duration > 0 and not monotonic:
            raise ValueError(
                f"{type(self).__name__}: warmup_duration needs monotonic=True, as a cycle that goes back ends where "
                f"the next one starts; got warmup_duration={self.warmup_duration}, monotonic={monotonic}"
            )


class CosineAnnealingScheduler(CyclicalScheduler):
    """Goes from ``start_value`` to ``end_value`` along half a cosine wave in each cycle.

    The arguments are those of :class:`CyclicalScheduler`. From Loshchilov and Hutter, 2017, "SGDR".

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> scheduler = CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.0, cycle_size=4, start_value_mult=0.5)
        >>> [round(rate, 3) for rate in scheduler.next_values(6)]
        [1.0, 0.854, 0.5, 0.146, 0.5, 0.427]
    """

    _shape: Shape | None = "cosine"

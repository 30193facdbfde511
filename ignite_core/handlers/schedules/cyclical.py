"""Cycles written into a parameter of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite_core.handlers._arguments import integer
from ignite_core.handlers.schedules.base import is_of_pytorch_ignite
from ignite_core.handlers.schedules.cycles import Cycle, Shape, cyclic
from ignite_core.handlers.schedules.optimizers import HasGroups
from ignite_core.handlers.schedules.param_scheduler import ParamScheduler

__all__ = ["CosineAnnealingScheduler", "CyclicalScheduler", "LinearCyclicalScheduler"]


class CyclicalScheduler(ParamScheduler):
    """Base class of schedulers that go from a value to another in cycles, see :class:`~.curves.cyclic`.

    A subclass overrides :meth:`get_param`, which sees the place in the cycle: ``event_index``, counted from the start
    of the cycle, and ``cycle``, ``cycle_size``, ``warmup_duration``, ``start_value``, ``end_value`` of that cycle.
    Anywhere else ``event_index`` counts all calls. Without such a ``get_param`` the others stay as they were given.

    Args:
        optimizer: As of :class:`~ignite_core.handlers.ParamScheduler`.
        param_name: As of :class:`~ignite_core.handlers.ParamScheduler`.
        start_value: At the start of a cycle.
        end_value: At its end; where it goes there and back, in its middle.
        cycle_size: Events of a cycle, at least 2; where this sits on iterations, often those of an epoch.
        cycle_mult: By what ``cycle_size`` and ``warmup_duration`` are multiplied after each cycle, and rounded down.
        start_value_mult: By what the start value is multiplied after each cycle.
        end_value_mult: By what the end value is multiplied after each cycle.
        warmup_duration: So many events lead straight from the end of a cycle to the start of the next.
        save_history: As of :class:`~ignite_core.handlers.ParamScheduler`.
        param_group_index: As of :class:`~ignite_core.handlers.ParamScheduler`.

    Raises:
        TypeError: If an argument is of the wrong kind.
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
        self._seen: Cycle | None = None  # the cycle that the attributes are of, where a subclass has a get_param
        super().__init__(optimizer, param_name, save_history, param_group_index, curve=curve)
        self._own = CyclicalScheduler._now

    @property
    def cycle(self) -> int:
        """The number of the cycle that the next event lies in; the first is 0."""
        return (self._seen or self._cycles.cycle_at(self.event_index)).number

    @property
    def total_cycle_size(self) -> int:
        """Events of a cycle and of the warm-up after it."""
        return self.cycle_size + self.warmup_duration

    def _now(self) -> Any:
        """The next value, where a subclass has a ``get_param``: it sees the place in the cycle."""
        index, seen = self.event_index, self._seen
        if seen is None or not seen.first <= index < seen.stop:
            seen = self._see(index)
        position = index - seen.first
        if position > seen.size:  # on the way to the next one
            return self._cycles(index)
        self.event_index = position
        try:
            return self.get_param()
        finally:
            self.event_index = index

    def _see(self, event_index: int) -> Cycle:
        cycle = self._seen = self._cycles.cycle_at(event_index)
        self.start_value, self.end_value = cycle.start, cycle.end
        self.cycle_size, self.warmup_duration = cycle.size, cycle.warmup
        if self._shape is not None:
            self._curve = cyclic(cycle.start, cycle.end, cycle.size, self._shape)
        return cycle

    def _event_index_of(self, state_dict: Mapping[str, Any]) -> Any:
        """There, it is counted from the start of the cycle; cycles are as long as the arguments here say."""
        event_index = state_dict["event_index"]
        if is_of_pytorch_ignite(state_dict) and "cycle" in state_dict:
            cycle = self._cycles.cycle_at(0)
            for _ in range(integer(type(self).__name__, "cycle", state_dict["cycle"], least=0)):
                cycle = self._cycles.cycle_at(cycle.stop)
            event_index += cycle.first
        return event_index


class LinearCyclicalScheduler(CyclicalScheduler):
    """Goes straight to ``end_value`` in the first half of a cycle, and back in the second.

    Args:
        args: Those of :class:`CyclicalScheduler`.
        monotonic: Go there in the whole cycle, and not back.
        kwargs: Those of :class:`CyclicalScheduler`.

    Raises:
        ValueError: If there is a ``warmup_duration``, but nothing that it leads back from: not ``monotonic``.

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

    Its arguments are those of :class:`CyclicalScheduler`. From Loshchilov and Hutter, 2017, "SGDR".

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> scheduler = CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.0, cycle_size=4, start_value_mult=0.5)
        >>> [round(rate, 3) for rate in scheduler.next_values(6)]
        [1.0, 0.854, 0.5, 0.146, 0.5, 0.427]
    """

    _shape: Shape | None = "cosine"

"""Throughput: items per second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ignite_core.engine.events import EventName, Events
from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.arithmetic import divide
from ignite_core.metrics.core.attachment import attach, detach, is_attached
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import maximum, ratio, total

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["Frequency"]


class Frequency(Metric):
    """Items per second between a reset and the last update.

    ``update`` takes the number of items of a batch, such as its tokens: a number or a scalar tensor, for which it does
    not wait. With several ranks, the items of all ranks are divided by the longest time of any rank. Where it is
    computed at each iteration, the value is that of this rank and nothing is reduced.

    Args:
        output_transform: Maps ``engine.state.output`` to the number of items.
        clock: Called without arguments; returns the time in seconds from an arbitrary origin.

    Example:
        >>> ticks = iter([0.0, 1.0, 4.0])  # at the reset and at two updates
        >>> metric = Frequency(clock=lambda: next(ticks))
        >>> metric.update(30)
        >>> metric.update(10)
        >>> metric.compute()
        10.0
    """

    higher_is_better = True
    required_output_keys = None
    default_usage = "single_epoch_running_batch_wise"
    _stays_local = True

    items = total()
    seconds = maximum()

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Reset the count and restart the clock."""
        super().reset()
        self._last = self._clock()

    def update(self, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim:
            raise ValueError(
                "Frequency.update: takes the number of items, a number or a scalar tensor, "
                f"got the shape {tuple(output.shape)}"
            )
        self.items += output
        now = self._clock()
        self.seconds = self.seconds.clamp(min=0.0) + (now - self._last)
        self._last = now

    def compute(self) -> float | Tensor:
        if self.seconds < 0:
            raise NotComputableError("Frequency.compute: no item was counted; call update() first")
        value: float | Tensor = divide(ratio(self.items, 1), float(self.seconds))
        return value

    def attach(  # type: ignore[override]
        self,
        engine: Engine,
        name: str,
        event_name: EventName = Events.ITERATION_COMPLETED,
        *,
        reset: EventName | None = None,
        update: EventName | None = None,
        compute: EventName | None = None,
    ) -> None:
        """Count the items of each iteration, restarting in each epoch; the value is ``engine.state.metrics[name]``.

        Args:
            engine: The engine.
            name: Name of the value.
            event_name: The event that stores the value, such as ``Events.ITERATION_COMPLETED(every=50)``.
            reset: As for :meth:`Metric.attach`.
            update: As for :meth:`Metric.attach`.
            compute: Replaces ``event_name``.

        Raises:
            ValueError: If the name is taken by another metric of this engine.

        Example:
            >>> from ignite_core.engine import Engine, Events
            >>> ticks = iter(range(100))
            >>> trainer = Engine(lambda engine, batch: {"tokens": len(batch)})
            >>> Frequency("tokens", clock=lambda: next(ticks)).attach(trainer, "tokens/s", Events.EPOCH_COMPLETED)
            >>> trainer.run([[1, 2, 3], [4, 5], [6]]).metrics
            {'tokens/s': 2.0}
        """
        attach(self, engine, name, self._resolve_usage(None, reset=reset, update=update, compute=compute or event_name))

    def detach(  # type: ignore[override]
        self, engine: Engine, event_name: EventName = Events.ITERATION_COMPLETED, **events: EventName | None
    ) -> None:
        """Undo :meth:`attach` with the same events."""
        detach(self, engine, self._resolve_usage(None, **{"compute": event_name, **events}))

    def is_attached(  # type: ignore[override]
        self, engine: Engine, event_name: EventName = Events.ITERATION_COMPLETED, **events: EventName | None
    ) -> bool:
        """Whether the metric is attached with these events."""
        return is_attached(self, engine, self._resolve_usage(None, **{"compute": event_name, **events}))

    def _is_partial(self) -> bool:
        return False  # a rate does not depend on data from before a resume

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._last = self._clock()  # another process may have another origin of time

"""How fast things are processed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.arithmetic import divide
from ignite_core.metrics.core.metric import Metric, unchanged
from ignite_core.metrics.core.states import maximum, ratio, total

__all__ = ["Frequency"]


class Frequency(Metric):
    """Items per second between a reset and the last update.

    ``update`` takes the number of items of a batch, such as its tokens: a number, or a tensor without dimensions, which
    is not waited for. On several ranks, the items of all of them are divided by the longest time of any; but attached
    to be computed at iterations, no rank asks the others, and the value is that of the rank.

    Args:
        output_transform: Makes the number of items of ``engine.state.output``.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.
        clock: Called without arguments, gives the time in seconds, from any beginning.

    Example:
        >>> ticks = iter([0.0, 1.0, 4.0])  # at the reset, and at two updates
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
        output_transform: Any = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        super().__init__(output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Forget everything that was counted; time is counted from here."""
        super().reset()
        self._last = self._clock()

    def update(self, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim:
            raise ValueError(
                "Frequency.update: takes the number of items, a number or a tensor without dimensions, "
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

    def attach(
        self,
        engine: Any,
        name: str,
        event_name: Any = "ITERATION_COMPLETED",
        *,
        reset: Any = None,
        update: Any = None,
        compute: Any = None,
    ) -> None:
        """Count the items of each iteration, anew in each epoch; the value is ``engine.state.metrics[name]``.

        Args:
            engine: An :class:`~ignite_core.engine.Engine`.
            name: Of the value.
            event_name: The event that stores the value, such as ``Events.ITERATION_COMPLETED(every=50)``.
            reset: As for :meth:`Metric.attach`.
            update: As for :meth:`Metric.attach`.
            compute: Instead of ``event_name``.

        Raises:
            ValueError: If another metric of this engine has the name.

        Example:
            >>> from ignite_core.engine import Engine, Events
            >>> ticks = iter(range(100))
            >>> trainer = Engine(lambda engine, batch: {"tokens": len(batch)})
            >>> Frequency("tokens", clock=lambda: next(ticks)).attach(trainer, "tokens/s", Events.EPOCH_COMPLETED)
            >>> trainer.run([[1, 2, 3], [4, 5], [6]]).metrics
            {'tokens/s': 2.0}
        """
        self._usage.attach(self, engine, name, None, reset, update, compute or event_name)

    def detach(
        self,
        engine: Any,
        event_name: Any = "ITERATION_COMPLETED",
        *,
        reset: Any = None,
        update: Any = None,
        compute: Any = None,
    ) -> None:
        """Undo :meth:`attach` with the same events."""
        self._usage.detach(self, engine, None, reset, update, compute or event_name)

    def is_attached(
        self,
        engine: Any,
        event_name: Any = "ITERATION_COMPLETED",
        *,
        reset: Any = None,
        update: Any = None,
        compute: Any = None,
    ) -> bool:
        """Whether :meth:`attach` was called with these events, and not undone."""
        attached: bool = self._usage.is_attached(self, engine, None, reset, update, compute or event_name)
        return attached

    def _is_partial(self) -> bool:
        return False  # a rate needs no past

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._last = self._clock()  # that of another process may have another beginning

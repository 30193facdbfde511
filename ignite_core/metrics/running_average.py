"""Exponential moving average of a metric or of an output of the step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import TYPE_CHECKING, Any, Self

import torch

from ignite_core.engine.events import EventName, Events
from ignite_core.exceptions import NotComputableError, few
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.sync import synced
from ignite_core.metrics.core.usage import MetricUsage

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["RunningAverage"]


class RunningAverage(Metric):
    r"""Exponential moving average, :math:`v_t = \alpha\, v_{t-1} + (1 - \alpha)\, x_t` with :math:`v_1 = x_1`.

    Attached, it is updated with :math:`x_t` and computed at each iteration. On an accelerator the average stays a
    tensor until it is read, so no step waits.

    Args:
        src: The metric whose value of each batch is averaged. A copy is used, so ``src`` may be attached too. None
            averages an output of the step.
        alpha: Weight of the previous average, in (0, 1].
        output_transform: Maps ``engine.state.output`` to the number to average; required without ``src``, and only
            then.
        epoch_bound: Whether to restart in each epoch. Default: the average continues over the run. A ``usage`` may be
            passed to ``attach`` instead.

    Raises:
        TypeError: If ``src`` is not a metric; by ``update``, if it gets neither a number nor a tensor.
        ValueError: If ``alpha`` is out of range, or neither or both of ``src`` and ``output_transform`` are given.

    Example:
        >>> from ignite_core.engine import Engine
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> RunningAverage(output_transform=lambda loss: loss, alpha=0.5).attach(trainer, "loss")
        >>> trainer.run([4.0, 2.0, 0.0]).metrics
        {'loss': 1.5}
    """

    required_output_keys = None
    default_usage = "running_batch_wise"
    _stays_local = True

    def __init__(
        self,
        src: Metric | None = None,
        alpha: float = 0.98,
        output_transform: OutputTransform | None = None,
        epoch_bound: bool | None = None,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        if src is not None and not isinstance(src, Metric):
            raise TypeError(f"RunningAverage: src must be a Metric or None, got {type(src).__name__}")
        if not 0.0 < alpha <= 1.0:
            raise ValueError(f"RunningAverage: alpha must be in (0, 1], got {alpha}")
        if (src is None) == (output_transform is None):
            raise ValueError(
                "RunningAverage: exactly one of src and output_transform must be given, "
                f"got src={src!r} and output_transform={output_transform!r}"
            )
        self.src = None if src is None else src._copy()
        if self.src is not None:
            for metric in (self.src, *self.src._leaves()):
                metric._is_synced = True  # computed on this rank: no rank waits for others at each iteration
        self.higher_is_better = None if src is None else src.higher_is_better
        self.alpha = alpha
        if epoch_bound:
            self.default_usage = "single_epoch_running_batch_wise"
        super().__init__(unchanged if output_transform is None else output_transform, device, skip_unrolling)

    def reset(self) -> None:
        """Reset the average and the source."""
        self._value: Any = None
        if self.src is not None:
            self.src.reset()

    def update(self, output: Any) -> None:
        """Add a number; with ``src`` add the value of its data since the last call, and ignore ``output``."""
        if self.src is not None:
            try:
                output = self.src.compute()
            except NotComputableError:
                if self.src._has_data():
                    raise
                return  # a batch without samples changes nothing
            self.src.reset()
        if isinstance(output, torch.Tensor):
            output = output.item() if output.is_cpu and output.ndim == 0 else output.detach()
        elif type(output) is not float and not isinstance(output, Number):
            raise TypeError(f"RunningAverage.update: needs a number or a tensor, got {type(output).__name__}")
        value = self._value
        if value is None:
            self._value = output.clone() if isinstance(output, torch.Tensor) else output
        else:
            self._value = value * self.alpha + (1.0 - self.alpha) * output

    def compute(self) -> Any:
        """The average; with several ranks the mean of their averages."""
        return self._local_value()

    def _local_value(self) -> Any:
        if self._value is None:
            raise NotComputableError("RunningAverage.compute: nothing was seen; call update() first")
        return self._value

    def iteration_completed(self, engine: Engine) -> None:
        """Add the output of an iteration; ``src`` has a handler that updates it before."""
        self.update(None if self.src is not None else self._transformed(engine.state.output))

    def completed(self, engine: Engine, name: str) -> None:
        """Store the average; on an accelerator it becomes a number when it is read.

        Nothing is stored while the source has seen only batches without samples.
        """
        if self.src is None or self._value is not None:
            engine.state.metrics[name] = self._local_value()

    def _export(self) -> dict[str, Any]:
        return {"value": self._value}

    def _combined(self, ranks: Sequence[Mapping[str, Any]]) -> Self:
        values = [states["value"] for states in ranks if states["value"] is not None]
        new = copy.copy(self)
        new._value = sum(values[1:], values[0]) / len(values) if values else None
        new._is_synced = True
        return new

    def to(self, device: str | torch.device) -> Self:
        if isinstance(self._value, torch.Tensor):
            self._value = self._value.to(device)
        if self.src is not None:
            self.src.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """The average and the state of the source."""
        (metric,) = [self] if self._is_synced else synced([(type(self).__name__, self)])
        saved = {"value": _cloned(metric._value)}
        return saved if self.src is None else {**saved, "src": self.src.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        wanted = {"value"} if self.src is None else {"value", "src"}
        if set(state_dict) != wanted:
            raise ValueError(
                f"RunningAverage.load_state_dict: the states must be {few(sorted(wanted))}, "
                f"got {few(sorted(state_dict))}"
            )
        if self.src is not None:
            self.src.load_state_dict(state_dict["src"])
        self._value = _cloned(state_dict["value"])  # on every rank, so that their mean is the same

    def merged(self, other: Self) -> Self:
        """Not supported: an exponential moving average depends on the order of the data.

        Raises:
            TypeError: Always.
        """
        raise TypeError("RunningAverage.merged: averages that decay cannot be merged, as they depend on the order")

    def _is_partial(self) -> bool:
        """Data from before a resume matters over an epoch; over a run it decays."""
        return self._value is None and self.default_usage != RunningAverage.default_usage

    def _hooks(self, usage: MetricUsage) -> list[tuple[EventName, Callable[[Any], None]]]:
        hooks = super()._hooks(usage)
        return hooks if self.src is None else [(Events.ITERATION_COMPLETED, self.src.iteration_completed), *hooks]

    def _copy(self) -> Self:
        new = copy.copy(self)
        new.src = None if self.src is None else self.src._copy()
        new.reset()
        return new


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value

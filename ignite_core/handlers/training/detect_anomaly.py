"""Find the operation that produced a NaN or failed in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine

__all__ = ["DetectAnomaly"]


class DetectAnomaly:
    """Runs an engine in the anomaly mode of autograd, which makes every backward pass much slower.

    In this mode an error in a backward pass comes with the lines of the corresponding forward pass, and a NaN in a
    gradient is an error. The mode holds for the whole process; it is restored when the run ends or raises.

    Args:
        check_nan: Whether a NaN in a gradient is an error.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> def step(engine, batch):
        ...     (weight.sqrt() * 0).sum().backward()  # 0 times infinity
        >>> trainer = Engine(step)
        >>> handle = DetectAnomaly().attach(trainer)
        >>> import warnings
        >>> try:
        ...     with warnings.catch_warnings(action="ignore"):  # the lines of the forward pass
        ...         trainer.run([0])
        ... except RuntimeError as error:
        ...     print(error)
        Function 'SqrtBackward0' returned nan values in its 0th output.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan

    def attach(self, engine: Engine, start: EventName | None = None, stop: EventName | None = None) -> RemovableHandle:
        """Enable the mode while an engine runs.

        Args:
            engine: The trainer.
            start: The event that enables the mode; by default the start of each run.
            stop: The event that disables it; by default the end of each run.

        Returns:
            A handle whose ``remove()`` detaches this handler; during a run, the mode is restored at once.

        Example:
            >>> trainer = Engine(lambda engine, batch: print(batch, torch.is_anomaly_enabled()))
            >>> from ignite_core.engine import Events
            >>> window = Events.ITERATION_STARTED(once=2), Events.ITERATION_COMPLETED(once=3)
            >>> handle = DetectAnomaly().attach(trainer, *window)
            >>> state = trainer.run([1, 2, 3, 4])
            1 False
            2 True
            3 True
            4 False
        """
        check_engine("DetectAnomaly.attach", engine)
        with ExitStack() as attached:
            attached.enter_context(engine.add_run_context(self._enabled if start is None else _restored))
            if start is not None:
                attached.enter_context(engine.add_event_handler(start, self._enable))
            if stop is not None:
                attached.enter_context(engine.add_event_handler(stop, _disable))
            return RemovableHandle(attached.pop_all().close)

    @contextmanager
    def _enabled(self, engine: Engine) -> Iterator[None]:
        with _restored(engine):
            self._enable()
            yield

    def _enable(self) -> None:
        torch.autograd.set_detect_anomaly(True, self.check_nan)


@contextmanager
def _restored(engine: Engine) -> Iterator[None]:
    """Restore the mode on exit."""
    is_enabled, checks_nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(is_enabled, checks_nan)


def _disable() -> None:
    torch.autograd.set_detect_anomaly(False)

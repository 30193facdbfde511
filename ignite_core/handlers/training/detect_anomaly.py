"""Let autograd say which operation made a NaN, or failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ignite_core.engine.engine import Engine
from ignite_core.handlers._arguments import check_engine

__all__ = ["DetectAnomaly"]


class DetectAnomaly:
    """Runs an engine in the anomaly mode of autograd, which makes every backward pass much slower.

    An error in a backward pass then shows the lines of the forward pass that belong to it, and a NaN in a gradient is
    an error. The mode is that of the whole process; when the run ends, or raises, it is what it was before.

    Args:
        check_nan: Whether a NaN in a gradient is an error.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> def step(engine, batch):
        ...     (weight.sqrt() * 0).sum().backward()  # 0 times infinity
        >>> trainer = Engine(step)
        >>> DetectAnomaly().attach(trainer)
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

    def attach(self, engine: Engine, start: Any = None, stop: Any = None) -> None:
        """Turn the mode on while an engine runs.

        Args:
            engine: The trainer.
            start: The event from which on it is; by default from the start of each run.
            stop: The event until which it is; by default to the end of each run.

        Raises:
            TypeError: If ``engine`` is no engine.

        Example:
            >>> trainer = Engine(lambda engine, batch: print(batch, torch.is_anomaly_enabled()))
            >>> from ignite_core.engine import Events
            >>> window = Events.ITERATION_STARTED(once=2), Events.ITERATION_COMPLETED(once=3)
            >>> DetectAnomaly().attach(trainer, *window)
            >>> state = trainer.run([1, 2, 3, 4])
            1 False
            2 True
            3 True
            4 False
        """
        check_engine("DetectAnomaly.attach", engine)
        engine.add_run_context(self._from_the_start if start is None else _as_before)
        if start is not None:
            engine.add_event_handler(start, self._turn_on)
        if stop is not None:
            engine.add_event_handler(stop, _turn_off)

    @contextmanager
    def _from_the_start(self, engine: Engine) -> Iterator[None]:
        with _as_before(engine):
            self._turn_on()
            yield

    def _turn_on(self) -> None:
        torch.autograd.set_detect_anomaly(True, self.check_nan)


@contextmanager
def _as_before(engine: Engine) -> Iterator[None]:
    """Whatever is set inside, the mode is afterwards what it was."""
    is_enabled, checks_nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(is_enabled, checks_nan)


def _turn_off() -> None:
    torch.autograd.set_detect_anomaly(False)

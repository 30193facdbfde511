"""Measure durations, driven by events or by hand."""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.handlers._arguments import check_engine, check_keys, integer, number

__all__ = ["Timer"]


class Timer:
    """Measures seconds: a stopwatch that runs from its creation, and that events can control.

    Args:
        average: :meth:`value` is the time of a step: the total divided by the number of calls of :meth:`step` (1 if
            there was none).
        synchronize: Wait for all work of the accelerator before each reading of the clock. Otherwise work that was only
            launched is not part of the time.
        clock: Returns the time in seconds.

    Attributes:
        total: Seconds up to the last pause.
        step_count: How often :meth:`step` was called.
        running: Whether it is measuring now.

    Raises:
        TypeError: If ``clock`` is not callable.

    Example:
        >>> now = iter([10.0, 12.0, 20.0, 23.0])
        >>> timer = Timer(average=True, clock=lambda: next(now))
        >>> timer.pause()  # from 10 s to 12 s
        >>> timer.resume()
        >>> timer.pause()  # from 20 s to 23 s
        >>> timer.value()
        5.0
        >>> timer.step()
        >>> timer.step()
        >>> timer.value()
        2.5
    """

    def __init__(
        self, average: bool = False, *, synchronize: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if not callable(clock):
            raise TypeError(f"Timer: clock must be callable, got {clock!r}")
        self._average = average
        self._now = partial(_after_all_work, clock) if synchronize else clock
        self._attached: weakref.WeakKeyDictionary[Engine, ExitStack] = weakref.WeakKeyDictionary()
        self._is_loaded = False
        self.reset()

    def attach(
        self,
        engine: Engine,
        start: EventName = Events.STARTED,
        pause: EventName = Events.COMPLETED,
        resume: EventName | None = None,
        step: EventName | None = None,
    ) -> Timer:
        """Control the timer by events of an engine; at the same event, in the order of the arguments.

        Args:
            engine: Any engine.
            start: When to restart from zero. A run or epoch that continues from a loaded state continues the time.
            pause: When to stop measuring.
            resume: When to continue measuring.
            step: When to count a step.

        Returns:
            This timer; :meth:`detach` undoes this.

        Raises:
            TypeError: If ``engine`` is not an Engine.

        Example:
            >>> trainer = Engine(lambda engine, batch: None)
            >>> timer = Timer(average=True, clock=lambda: 0.5 * trainer.state.iteration)
            >>> at = {"resume": Events.ITERATION_STARTED, "pause": Events.ITERATION_COMPLETED}
            >>> timer = timer.attach(trainer, step=Events.ITERATION_COMPLETED, **at)
            >>> state = trainer.run(range(4))
            >>> timer.value(), timer.step_count  # the first iteration is measured from iteration 0
            (0.125, 4)
        """
        check_engine("Timer.attach", engine)
        with ExitStack() as attached:
            for event, handler in ((start, self._start), (pause, self.pause), (resume, self.resume), (step, self.step)):
                if event is not None:
                    attached.enter_context(engine.add_event_handler(event, handler))
            self._attached.setdefault(engine, ExitStack()).push(attached.pop_all())
        return self

    def detach(self, engine: Engine) -> None:
        """Undo :meth:`attach`. Idempotent."""
        self._attached.pop(engine, ExitStack()).close()

    def reset(self, *args: Any) -> Timer:
        """Restart from zero."""
        self.total = 0.0
        self.step_count = 0
        self.running = True
        self._since = self._now()
        return self

    def pause(self, *args: Any) -> None:
        """Stop measuring."""
        if self.running:
            self.total += self._now() - self._since
            self.running = False

    def resume(self, *args: Any) -> None:
        """Continue measuring."""
        if not self.running:
            self.running = True
            self._since = self._now()

    def value(self) -> float:
        """The measured seconds, in total or per step."""
        total = self.total
        if self.running:
            total += self._now() - self._since
        return total / max(self.step_count, 1) if self._average else total

    def step(self, *args: Any) -> None:
        """Count a step."""
        self.step_count += 1

    def state_dict(self) -> OrderedDict[str, Any]:
        """``total`` up to now, ``step_count`` and ``running``."""
        total = self.total + (self._now() - self._since if self.running else 0.0)
        return OrderedDict(total=total, step_count=self.step_count, running=self.running)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict`.

        Raises:
            TypeError: If it is not a mapping, or a value is not a number.
            ValueError: If a key is missing, or a number is negative.
        """
        check_keys("Timer", state_dict, ["total", "step_count", "running"])
        total = number("Timer", "total", state_dict["total"], least=0)
        self.step_count = integer("Timer", "step_count", state_dict["step_count"], least=0)
        self.total, self.running = float(total), bool(state_dict["running"])
        self._since = self._now()
        self._is_loaded = True

    def _start(self, engine: Engine) -> None:
        is_continued = self._is_loaded and engine.is_resumed
        self._is_loaded = False
        if is_continued:
            self._since = self._now()  # exclude the time between loading and the run
        else:
            self.reset()


def _after_all_work(clock: Callable[[], float]) -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return clock()

"""End a run when the step returns a NaN or an infinity."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ignite_core.engine.describe import describe
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle, weak_call
from ignite_core.handlers._arguments import check_engine
from ignite_core.handlers.stopping._nonfinite import DeviceFlags, Place, find_nonfinite, holds_numbers, show
from ignite_core.handlers.voting.vote import FIRST, LARGEST, vote_of

__all__ = ["TerminateOnNan"]


class TerminateOnNan:
    """Ends the run when the step returns a NaN or an infinity.

    Numbers and tensors on the CPU are checked immediately. For tensors on an accelerator nothing waits: the device
    itself keeps the first iteration and place, which are read every ``k`` iterations, before a checkpoint is written
    and at the end of each epoch. The run may therefore end a little later, but the first bad iteration is reported and
    nothing is saved from it on. On several ranks all stop after the same iteration, at most ``2k`` later; see
    :func:`~ignite_core.handlers.voting.vote.vote_of` for ``k``.

    Args:
        output_transform: Computes what is checked from ``engine.state.output``: tensors and numbers, in arbitrarily
            nested mappings and sequences. Values of other types in it are skipped.

    Attributes:
        bad_iteration: The first bad iteration on any rank; None if there was none.

    Raises:
        TypeError: If ``output_transform`` is not callable; at the first event, if there is no number to check.

    Example:
        >>> trainer = Engine(lambda engine, batch: {"loss": batch})
        >>> guard = TerminateOnNan()
        >>> handle = trainer.add_event_handler(Events.ITERATION_COMPLETED, guard)
        >>> trainer.run([1e300, 0.5, float("nan"), 0.25]).iteration
        3
        >>> guard.bad_iteration
        3
    """

    collective = "TerminateOnNan"

    def __init__(self, output_transform: Callable[[Any], Any] | None = None) -> None:
        if output_transform is not None and not callable(output_transform):
            raise TypeError(f"TerminateOnNan: output_transform must be callable, got {output_transform!r}")
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self.bad_iteration: int | None = None
        self._output_transform = output_transform
        self._monitors: weakref.WeakKeyDictionary[Engine, _Monitor] = weakref.WeakKeyDictionary()
        self._latest: _Monitor | None = None  # a cache: the monitor that was used last

    def attach(self, engine: Engine, event: EventName = Events.ITERATION_COMPLETED) -> RemovableHandle:
        """Check the output of an engine each time ``event`` is fired.

        Args:
            engine: Usually the trainer.
            event: With or without filter.

        Returns:
            A handle that detaches it.

        Raises:
            TypeError: If ``engine`` is not an Engine.
        """
        check_engine("TerminateOnNan.attach", engine)
        handle = engine.add_event_handler(event, self)
        self._monitor(engine, event)
        return RemovableHandle(weak_call(self._detach, [engine]), handle.remove)

    def _detach(self, engine: Engine) -> None:
        if engine in self._monitors and not engine.has_event_handler(self):  # attached at one event only
            self._monitors.pop(engine).detach()
            self._latest = None

    def __call__(self, engine: Engine) -> None:
        """Check the output of an engine now."""
        monitor = self._latest
        if monitor is None or monitor.engine() is not engine:
            monitor = self._latest = self._monitor(engine, engine.last_event_name)
        monitor.check_output(engine)

    def _monitor(self, engine: Engine, event: EventName | None) -> _Monitor:
        monitor = self._monitors.get(engine)
        if monitor is None:
            monitor = self._monitors[engine] = _Monitor(engine, event, self._output_transform, self._stop)
        return monitor

    def _stop(self, engine: Engine, number: int) -> None:
        """Runs on all ranks when one of them has found something; the first one describes it to the others."""
        vote, found = vote_of(engine), self._monitors[engine].found
        iteration = self.bad_iteration = LARGEST - number
        places = vote.gather(found[1] if found is not None and found[0] == iteration else None)
        rank, place = next((rank, place) for rank, place in enumerate(places) if place is not None)
        where = f" on rank {rank}" if len(places) > 1 else ""
        vote.unsafe_to_save = f"{place} is NaN or infinite{where}, first in iteration {iteration}"
        self.logger.warning("%s: %s; the run ends", type(self).__name__, vote.unsafe_to_save)
        engine.terminate()


class _Monitor:
    """Checks the outputs of one engine.

    Attributes:
        found: The first bad iteration of this run on this rank, and what was bad.
    """

    def __init__(
        self,
        engine: Engine,
        event: EventName | None,
        output_transform: Callable[[Any], Any] | None,
        stop: Callable[[Engine, int], None],
    ) -> None:
        vote = vote_of(engine)
        self.engine = weakref.ref(engine)
        self.found: tuple[int, str] | None = None
        self._sees_each_iteration = event == Events.ITERATION_COMPLETED
        self._output_transform = output_transform
        self._request = vote.add("TerminateOnNan", stop)
        self._flags = DeviceFlags()
        self._has_seen_numbers = False
        check = vote.add_check(self._check_before_round)
        started = engine.add_event_handler(Events.STARTED(priority=FIRST), self._reset)
        self._handle = RemovableHandle(self._request.remove, check.remove, started.remove)

    def detach(self) -> None:
        self._handle.remove()

    def check_output(self, engine: Engine) -> None:
        output = engine.state.output
        if self._output_transform is not None:
            output = self._output_transform(output)
        if not self._has_seen_numbers:
            self._has_seen_numbers = _check_numbers(output, self._output_transform)
        on_devices: list[tuple[Place, Tensor]] = []
        place = find_nonfinite(output, on_devices)
        if place is not False:
            self._report(engine.state.iteration, place)
        for place, tensor in on_devices:
            self._flags.update(engine.state.iteration, place, tensor)

    def _check_before_round(self) -> None:
        engine = self.engine()
        assert engine is not None, "the engine holds its vote"
        if self._sees_each_iteration and engine.last_event_name == Events.ITERATION_COMPLETED:
            self.check_output(engine)  # a handler that saves may run before this one
        first = self._flags.first()
        if first is not None:
            self._report(*first)

    def _report(self, iteration: int, place: Place) -> None:
        if self.found is None or iteration < self.found[0]:
            self.found = iteration, show(place)
        self._request(LARGEST - self.found[0])

    def _reset(self) -> None:
        self.found = None
        self._flags.reset()


def _check_numbers(output: object, output_transform: Callable[[Any], Any] | None) -> bool:
    if holds_numbers(output):
        return True
    what = "the output of the step" if output_transform is None else f"the result of {describe(output_transform)}"
    raise TypeError(
        f"TerminateOnNan: {what} must hold a number or a tensor, in mappings and sequences if need be, got {output!r}; "
        "return the loss from the step, or pass an output_transform that does"
    )

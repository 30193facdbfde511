"""End the run at a NaN or an infinity."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ignite_core.engine.describe import describe
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers._arguments import check_engine
from ignite_core.handlers.stopping._nonfinite import DeviceFlags, Place, holds_numbers, non_finite, show
from ignite_core.handlers.voting.vote import FIRST, LARGEST, vote_of

__all__ = ["TerminateOnNan"]


class TerminateOnNan:
    """Ends the run when the step returns a NaN or an infinity.

    Numbers and tensors on the CPU are looked at at once. For tensors on an accelerator nothing waits: the device itself
    keeps the first iteration and place, and is asked for them every ``k`` iterations, before a checkpoint is written
    and at the end of each epoch. So the run may end a little later, but what is reported is the first bad iteration,
    and nothing is saved after it. On several ranks all stop after the same iteration, at most ``2k`` later; see
    :func:`~ignite_core.handlers.voting.vote.vote_of` for ``k``.

    Args:
        output_transform: What is looked at, made of ``engine.state.output``: tensors and numbers, in mappings and
            sequences nested at will. Anything else in it is passed over.

    Attributes:
        bad_iteration: The first iteration that was bad, on any rank; None so far.

    Raises:
        TypeError: If ``output_transform`` is not callable; at the first event, if there is no number to be looked at.

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
        self._watches: weakref.WeakKeyDictionary[Engine, _Watch] = weakref.WeakKeyDictionary()
        self._latest: _Watch | None = None  # the one that was used last

    def attach(self, engine: Engine, event: Any = Events.ITERATION_COMPLETED) -> None:
        """Look at the output of an engine whenever ``event`` is fired.

        Args:
            engine: Mostly the trainer.
            event: With or without filter.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        check_engine("TerminateOnNan.attach", engine)
        self._watch(engine, event)
        engine.add_event_handler(event, self)

    def __call__(self, engine: Engine) -> None:
        """Look at the output of an engine now."""
        watch = self._latest
        if watch is None or watch.engine() is not engine:
            watch = self._latest = self._watch(engine, engine.last_event_name)
        watch.look(engine)

    def _watch(self, engine: Engine, event: Any) -> _Watch:
        watch = self._watches.get(engine)
        if watch is None:
            ask = vote_of(engine).add(type(self).__name__, self._stop)
            watch = self._watches[engine] = _Watch(engine, event, self._output_transform, ask)
        return watch

    def _stop(self, engine: Engine, number: int) -> None:
        """What all ranks do when one of them has met something bad; who has met it first tells the others what."""
        vote, found = vote_of(engine), self._watches[engine].found
        iteration = self.bad_iteration = LARGEST - number
        told = vote.gather(found[1] if found is not None and found[0] == iteration else None)
        rank, what = next((rank, what) for rank, what in enumerate(told) if what is not None)
        where = f" on rank {rank}" if len(told) > 1 else ""
        vote.bad = f"{what} is NaN or infinite{where}, first in iteration {iteration}"
        self.logger.warning("%s: %s; the run ends", type(self).__name__, vote.bad)
        engine.terminate()


class _Watch:
    """What is known of the output of one engine in the present run."""

    def __init__(
        self,
        engine: Engine,
        event: Any,
        output_transform: Callable[[Any], Any] | None,
        ask: Callable[[int], None],
    ) -> None:
        self.engine = weakref.ref(engine)
        self.found: tuple[int, str] | None = None  #: the first bad iteration of this rank, and what was bad
        self._sees_each_iteration = event == Events.ITERATION_COMPLETED
        self._output_transform = output_transform
        self._ask = ask
        self._flags = DeviceFlags()
        self._has_met_numbers = False
        vote_of(engine).add_check(self._check)
        engine.add_event_handler(Events.STARTED(priority=FIRST), self._forget)

    def look(self, engine: Engine) -> None:
        """Look at what the step has returned."""
        output = engine.state.output
        if self._output_transform is not None:
            output = self._output_transform(output)
        if not self._has_met_numbers:
            self._has_met_numbers = _check_numbers(output, self._output_transform)
        later: list[tuple[Place, Tensor]] = []
        place = non_finite(output, later)
        if place is not False:
            self._note(engine.state.iteration, place)
        for place, tensor in later:
            self._flags.watch(engine.state.iteration, place, tensor)

    def _check(self) -> None:
        """Before a round, or before something is saved: ask the devices, and look at what was not looked at yet."""
        engine = self.engine()
        assert engine is not None, "the engine holds its vote"
        if self._sees_each_iteration and engine.last_event_name == Events.ITERATION_COMPLETED:
            self.look(engine)  # who writes a checkpoint may come before this handler
        first = self._flags.first()
        if first is not None:
            self._note(*first)

    def _note(self, iteration: int, place: Place) -> None:
        if self.found is None or iteration < self.found[0]:
            self.found = iteration, show(place)
        self._ask(LARGEST - self.found[0])

    def _forget(self) -> None:
        self.found = None
        self._flags.forget()


def _check_numbers(output: Any, output_transform: Callable[[Any], Any] | None) -> bool:
    if holds_numbers(output):
        return True
    what = "the output of the step" if output_transform is None else f"what {describe(output_transform)} makes of it"
    raise TypeError(
        f"TerminateOnNan: {what} must hold a number or a tensor, in mappings and sequences if need be, got {output!r}; "
        "return the loss from the step, or give an output_transform that does"
    )

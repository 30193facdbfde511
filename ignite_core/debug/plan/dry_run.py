"""What the stand-ins of handlers know of a dry run, and what they report to it."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Callable
from typing import Any, Final, Protocol

from ignite_core.debug.plan.calendar import Firings, Mark, Series
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events

__all__ = ["DryRun", "Foreseeable", "Tally", "stand_in_of"]

#: After all other handlers.
_LAST: Final = -(10**6)


class Foreseeable(Protocol):
    """A handler that takes part in a dry run.

    Example:
        >>> from ignite_core.engine import Engine, Events
        >>> class Patience:
        ...     def __init__(self, epochs, score=lambda: 0.5):
        ...         self.left, self.score = epochs, score
        ...
        ...     def __call__(self, engine):
        ...         self.left -= 1
        ...         if not self.left:
        ...             engine.terminate()
        ...
        ...     def foresee(self, dry_run):
        ...         return Patience(self.left)
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, Patience(2))
        >>> calendar = trainer.plan(max_epochs=9, epoch_length=10)
        >>> len(calendar.epochs), calendar.end
        (2, 'TERMINATE')
    """

    def foresee(self, dry_run: DryRun) -> Any:
        """Return the stand-in that is called instead of this object in one dry run.

        Called once, before the run, even if the object is registered several times. If the handler is the object, the
        stand-in is called with the same arguments; if the handler is a method, the method of the same name is. The
        stand-in must not change anything but the engine.

        Returns:
            The stand-in. If it is None, or lacks the method, calls of the handler are only recorded.
        """


@functools.singledispatch
def stand_in_of(owner: object, dry_run: DryRun) -> Any:
    """Return the stand-in for a handler of this library, registered by its class; None if there is none."""
    return None


class DryRun:
    """What a stand-in knows of the dry run, and what it reports to it.

    Attributes:
        engine: The engine. Its state is restored after the dry run.
        seconds_per_iteration: As given to ``engine.plan``; None if times are not known.
        goes_on: Whether the run continues after a pause.
    """

    def __init__(
        self, engine: Engine, seconds_per_iteration: float | None, begun: int, seconds_before: float | None
    ) -> None:
        self.engine = engine
        self.seconds_per_iteration = seconds_per_iteration
        self.goes_on = seconds_before is not None
        self.marks: list[Mark] = []
        self._begun = begun  # iterations before the run
        self._seconds_before = seconds_before or 0.0
        self._steps = 0
        self._requested: Callable[[], object] | None = None
        self._values: dict[str, tuple[array[int], array[float]]] = {}
        self._stand_ins: dict[int, Any] = {}

    def step(self, engine: Engine, batch: None) -> None:
        """Replace the step of the engine: count a step."""
        self._steps += 1

    @property
    def iterations_done(self) -> int:
        """Iterations whose step has returned."""
        engine = self.engine
        return engine.iterations_done if engine.is_running else self._begun

    def seconds(self) -> float:
        """Seconds since the run began, without the pause after which it continues.

        Raises:
            RuntimeError: If ``engine.plan`` was called without ``seconds_per_iteration``.
        """
        if self.seconds_per_iteration is None:
            raise RuntimeError("DryRun.seconds: needs seconds_per_iteration, an argument of engine.plan")
        return self._seconds_before + self._steps * self.seconds_per_iteration

    def request(self, action: Callable[[], object]) -> None:
        """Schedule an action for the next vote of all ranks: the end of the iteration or epoch, or a save."""
        if self._requested is None:
            ends = Events.ITERATION_COMPLETED(priority=_LAST) | Events.EPOCH_COMPLETED(priority=_LAST)
            self.engine.add_event_handler(ends, self.settle)
        self._requested = action

    def settle(self) -> None:
        """Run the scheduled action."""
        if self._requested is not None:
            self._requested()

    def mark(self, kind: str, what: str = "", certain: bool = True) -> None:
        """Add a :class:`~ignite_core.debug.plan.calendar.Mark` at the current iteration."""
        state = self.engine.state
        self.marks.append(Mark(kind, state.epoch, state.iteration, what, certain))

    def write(self, name: str, value: float) -> None:
        """Record a value that holds from the next step on; before the run, from its first step on."""
        steps, values = self._values.setdefault(name, (array("q"), array("d")))
        step = self.iterations_done + 1
        if steps and steps[-1] == step:
            steps.pop()
            values.pop()
        if not steps or values[-1] != value:
            steps.append(step)
            values.append(value)

    def stand_in(self, owner: Any) -> Any:
        """The stand-in for an object; None if it has none."""
        if id(owner) not in self._stand_ins:
            foresee = getattr(type(owner), "foresee", None)
            self._stand_ins[id(owner)] = stand_in_of(owner, self) if foresee is None else foresee(owner, self)
        return self._stand_ins[id(owner)]

    @property
    def values(self) -> dict[str, Series]:
        """All recorded values, by name."""
        return {name: Series(*written) for name, written in self._values.items()}


class Tally:
    """Records when it is called, as few spans of regular steps."""

    __slots__ = ("_epoch", "_first", "_last", "_next", "_spans", "_step")

    def __init__(self) -> None:
        self._spans: list[tuple[int, range]] = []
        self._epoch = self._first = self._last = self._next = -1
        self._step = 0  # 0: the span has one call so far

    def __call__(self, engine: Engine) -> None:
        state = engine.state
        iteration = state.iteration
        if iteration == self._next and state.epoch == self._epoch:
            self._last = iteration
            self._next = iteration + self._step
        else:
            self._turn(state.epoch, iteration)

    def _turn(self, epoch: int, iteration: int) -> None:
        if epoch == self._epoch and not self._step and iteration > self._first >= 0:
            self._step = iteration - self._first
        else:
            self._spans += self._open_span()
            self._epoch, self._first, self._step = epoch, iteration, 0
        self._last = iteration
        self._next = iteration + self._step if self._step else -1

    def _open_span(self) -> list[tuple[int, range]]:
        return [(self._epoch, range(self._first, self._last + 1, self._step or 1))] if self._first >= 0 else []

    @property
    def firings(self) -> Firings:
        return Firings((*self._spans, *self._open_span()))

"""How a handler takes part in a virtual run, and what is noted of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from ignite_core.engine.calendar import Firings, Mark, Series
from ignite_core.engine.events import Events

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["Forecast", "Foreseeable", "Tally"]

#: After all other handlers.
_LAST: Final = -(10**6)


class Foreseeable(Protocol):
    """What a handler's class has that takes part in a virtual run.

    A handler that the library keeps for itself has the class attribute ``not_in_calendar = True`` instead.

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
        ...     def foresee(self, forecast):
        ...         return Patience(self.left)
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, Patience(2))
        >>> calendar = trainer.plan(max_epochs=9, epoch_length=10)
        >>> len(calendar.epochs), calendar.end
        (2, 'TERMINATE')
    """

    def foresee(self, forecast: Forecast) -> Any:
        """What stands in for this object in one virtual run; it must not change anything outside it.

        Called once, before the run, however often the object is registered. Where the handler is the object, its
        stand-in is called with the same arguments, but the virtual engine; where it is a method, the method of the same
        name.

        Returns:
            The stand-in. Without the method in question, the handler is only noted; so it is for None.
        """


class Forecast:
    """What a stand-in knows of the virtual run, and where it says what it does.

    Attributes:
        engine: The virtual engine. Its state reads what it does not have from that of the real one.
        seconds_per_iteration: As given to ``engine.plan``; None: nothing is known of time.
        goes_on: The run goes on after a pause.
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
        self._asked: Callable[[], object] | None = None
        self._values: dict[str, tuple[array[int], array[float]]] = {}
        self._stand_ins: dict[int, Any] = {}

    def step(self, engine: Engine, batch: None) -> None:
        """Be the step of the virtual engine: it takes time, and does nothing."""
        self._steps += 1

    @property
    def iterations_done(self) -> int:
        """Iterations whose step has returned."""
        engine = self.engine
        return engine._position.progress(engine.state)[0] if engine._is_running else self._begun

    def seconds(self) -> float:
        """Seconds since the run began, without the pause that it goes on after.

        Raises:
            RuntimeError: If ``engine.plan`` was not told how long an iteration takes.
        """
        if self.seconds_per_iteration is None:
            raise RuntimeError("Forecast.seconds: needs seconds_per_iteration, an argument of engine.plan")
        return self._seconds_before + self._steps * self.seconds_per_iteration

    def ask(self, act: Callable[[], object]) -> None:
        """Have something done where a vote of all ranks does it: at the end of the iteration or epoch, or by a save."""
        if self._asked is None:
            ends = Events.ITERATION_COMPLETED(priority=_LAST) | Events.EPOCH_COMPLETED(priority=_LAST)
            self.engine.add_event_handler(ends, self.settle)
        self._asked = act

    def settle(self) -> None:
        """Do what was asked for."""
        if self._asked is not None:
            self._asked()

    def mark(self, kind: str, what: str = "", certain: bool = True) -> None:
        """Something happens now; see :class:`~ignite_core.engine.calendar.Mark`."""
        state = self.engine.state
        self.marks.append(Mark(kind, state.epoch, state.iteration, what, certain))

    def write(self, name: str, value: float) -> None:
        """A value holds from the next step on; said before the run: from its first step on."""
        steps, values = self._values.setdefault(name, (array("q"), array("d")))
        step = self.iterations_done + 1
        if steps and steps[-1] == step:
            steps.pop()
            values.pop()
        if not steps or values[-1] != value:
            steps.append(step)
            values.append(value)

    def stand_in(self, owner: Any) -> Any:
        """What stands in for an object; None: nothing does."""
        if id(owner) not in self._stand_ins:
            foresee = getattr(type(owner), "foresee", None)
            self._stand_ins[id(owner)] = None if foresee is None else foresee(owner, self)
        return self._stand_ins[id(owner)]

    @property
    def values(self) -> dict[str, Series]:
        """All that was written, by name."""
        return {name: Series(*written) for name, written in self._values.items()}


class Tally:
    """Takes note of when it is called, as few spans of regular steps."""

    __slots__ = ("_epoch", "_first", "_last", "_next", "_spans", "_step")

    def __init__(self) -> None:
        self._spans: list[tuple[int, range]] = []
        self._epoch = self._first = self._last = self._next = -1
        self._step = 0  # 0: there is one so far

    def __call__(self, engine: Any, *extras: Any) -> None:
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
            self._close()
            self._epoch, self._first, self._step = epoch, iteration, 0
        self._last = iteration
        self._next = iteration + self._step if self._step else -1

    def _close(self) -> None:
        if self._first >= 0:
            self._spans.append((self._epoch, range(self._first, self._last + 1, self._step or 1)))

    @property
    def firings(self) -> Firings:
        spans = self._spans
        if self._first >= 0:
            spans = [*spans, (self._epoch, range(self._first, self._last + 1, self._step or 1))]
        return Firings(tuple(spans))

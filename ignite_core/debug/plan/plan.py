"""A dry run: the loop of the engine itself, over batches that are all None, with handlers that are only recorded.

The state of the engine is saved before and restored afterwards. A handler takes part in one of these ways; calls of
all others are only recorded:

- it is ``terminate``, ``terminate_epoch`` or ``interrupt`` of the engine itself;
- it is named by the user, ``engine.plan(run=[handler])``;
- it has a stand-in: one registered in :mod:`ignite_core.debug.plan.stand_ins`, or that of its method ``foresee``, see
  :class:`~ignite_core.debug.plan.dry_run.Foreseeable`.
"""

from __future__ import annotations

import functools
import itertools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType, MethodType
from typing import Any, Final

import ignite_core.debug.plan.stand_ins  # noqa: F401  # which registers them
from ignite_core.debug.plan.calendar import Calendar, PlannedEpoch, PlannedHandler
from ignite_core.debug.plan.dry_run import DryRun, Tally
from ignite_core.debug.plan.start import set_up
from ignite_core.debug.rehearsal import is_request
from ignite_core.distributed.current import run_alone
from ignite_core.engine.describe import describe
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import Registration
from ignite_core.engine.run_arguments import Arguments
from ignite_core.snapshot import Snapshot

__all__ = ["make_plan"]

#: The events that each run reaches.
_OF_LOOP: Final = frozenset(
    {
        Events.STARTED,
        Events.EPOCH_STARTED,
        Events.GET_BATCH_STARTED,
        Events.GET_BATCH_COMPLETED,
        Events.ITERATION_STARTED,
        Events.ITERATION_COMPLETED,
        Events.EPOCH_COMPLETED,
        Events.COMPLETED,
    }
)

#: Before all other handlers.
_FIRST: Final = 10**9

_silent: Final = logging.Logger("a dry run")
_silent.disabled = True


def make_plan(
    engine: Engine,
    arguments: Arguments,
    run: Sequence[Callable[..., Any]],
    validations: Sequence[Callable[..., Any]],
    seconds_per_iteration: float | None,
) -> Calendar:
    """Implement :meth:`Engine.plan <ignite_core.engine.Engine.plan>`, where the arguments are described."""
    if engine.is_running:
        raise RuntimeError("Engine.plan: this engine is running; call plan() before or after the run")
    for handler in itertools.chain(run, validations):
        if not engine.has_event_handler(handler):
            raise ValueError(f"Engine.plan: {describe(handler)} must be a handler of this engine; attach it first")
    with Snapshot() as snapshot:
        snapshot.save_run(engine)
        data, resolved = set_up(engine, arguments)
        state, position, goes_on = engine.state, engine._run.position, engine.is_paused
        begun = 0 if resolved.is_new else position.progress(state)[0]
        seconds_before = position._stopped - position._began if goes_on else None
        dry_run = DryRun(engine, seconds_per_iteration, begun, seconds_before)
        epochs = [(state.epoch, begun + 1)] if goes_on and position.in_epoch else []
        terminated = Tally()
        with _recorded(engine, dry_run, run, validations) as entries:
            first = Events.EPOCH_STARTED(priority=_FIRST)
            engine.add_event_handler(first, lambda: epochs.append((state.epoch, state.iteration + 1)))
            engine.add_event_handler(Events.TERMINATE(priority=_FIRST), terminated)
            if not resolved.is_over:
                with run_alone():
                    Engine.run(engine, data, arguments.max_epochs, arguments.max_iters, arguments.epoch_length)
        calendar = Calendar(
            epochs=_epochs(epochs, state.iteration),
            handlers=tuple(entry.planned() for entry in entries if entry.is_shown),
            marks=tuple(dry_run.marks),
            values=MappingProxyType(dry_run.values),
            end="INTERRUPT" if engine._run.paused_at else "TERMINATE" if len(terminated.firings) else "COMPLETED",
        )
    for message in () if resolved.is_over else calendar.warnings:
        warnings.warn(f"Engine.plan: {message}", stacklevel=3)
    return calendar


def _epochs(begun: list[tuple[int, int]], iteration: int) -> tuple[PlannedEpoch, ...]:
    """The epochs, given the number and first iteration of each, and the last iteration of all."""
    ends = [*(first for _, first in begun[1:]), iteration + 1]
    return tuple(PlannedEpoch(number, range(first, end)) for (number, first), end in zip(begun, ends, strict=False))


# ------------------------------------------------------------------------------------------------------- the handlers


@dataclass(frozen=True, slots=True)
class _Entry:
    """A handler, and what happens in place of its calls."""

    registration: Registration
    tally: Tally  #: records its calls, perhaps also those of another one
    is_called: bool
    stand_in: Callable[[Engine], Any] | None  #: called instead of the handler
    is_validation: bool
    is_first: bool  #: of the handlers that share the tally

    @property
    def is_shown(self) -> bool:
        return not getattr(type(self.registration.owner), "not_in_calendar", False)

    def replacement(self, call: Callable[[Any], Any], dry_run: DryRun) -> Callable[[Any], Any]:
        """What is called instead of ``call``, a call of the handler."""
        inner = call if self.is_called else self.stand_in
        if inner is None and not self.is_validation:
            return self.tally if self.is_first else _do_nothing

        def recorded(engine: Engine) -> Any:
            self.tally(engine)
            if self.is_validation:
                dry_run.mark("validation")
            return None if inner is None else inner(engine)

        return recorded

    def planned(self) -> PlannedHandler:
        one = self.registration
        event = one.bare_event
        name = event if isinstance(event, str) else event.name
        shown = "" if one.filter is None else str(one.filter)
        acts = self.is_called or self.stand_in is not None
        is_of_loop = isinstance(event, Events) and event in _OF_LOOP
        return PlannedHandler(describe(one.handler), name, shown, self.tally.firings, acts, is_of_loop)


@contextmanager
def _recorded(
    engine: Engine, dry_run: DryRun, run: Sequence[Callable[..., Any]], validations: Sequence[Callable[..., Any]]
) -> Iterator[list[_Entry]]:
    """Inside, calls of handlers are recorded, and the step, the run contexts and the log of the engine are replaced.

    Handlers that are added inside are called, and removed at the end.
    """
    entries: dict[Registration, _Entry] = {}
    shared: dict[tuple[Any, Any], Tally] = {}  # by event and filter
    for one in sorted(engine.handlers(), key=lambda one: one.number):
        is_called = one.handler in run or is_request(engine, one)
        stand_in = None if is_called else _stand_in(one, engine, dry_run)
        is_validation = one.handler in validations
        is_plain = not is_called and stand_in is None and not is_validation and one.condition is None
        own = Tally()
        tally = shared.setdefault((one.bare_event, one.filter), own) if is_plain else own
        entries[one] = _Entry(one, tally, is_called, stand_in, is_validation, is_first=tally is own)

    def wrap(one: Registration, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return entries[one].replacement(call, dry_run) if one in entries else call

    instrument = engine.instrument(wrap)
    try:
        with _replaced(
            engine,
            _process_function=dry_run.step,
            _run_contexts=[],
            logger=_silent,
            _always_seeded=False,
            _fire_event=MethodType(Engine._fire_event, engine),  # not that of a subclass
        ):
            yield list(entries.values())
    finally:
        for one in engine.handlers():
            if one not in entries:
                engine._dispatch.remove(one)
        instrument.remove()


@contextmanager
def _replaced(engine: Engine, **attributes: Any) -> Iterator[None]:
    """Inside, an engine has other attributes."""
    before = {name: value for name, value in vars(engine).items() if name in attributes}
    vars(engine).update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            del vars(engine)[name]
        vars(engine).update(before)


def _do_nothing(engine: Engine) -> None:
    """Replace a handler whose calls are recorded with those of another one."""


def _stand_in(registration: Registration, engine: Engine, dry_run: DryRun) -> Callable[[Engine], Any] | None:
    """A call of the stand-in for a handler, with the arguments of the handler; None if it has no stand-in."""
    stand_in = dry_run.stand_in(registration.owner)
    function, arguments = registration.handler, []
    while isinstance(function, functools.partial):
        arguments.append((function.args, function.keywords))
        function = function.func
    if registration.owner is not function:
        stand_in = getattr(stand_in, getattr(function, "__name__", ""), None)
    if not callable(stand_in):
        return None
    for args, keywords in reversed(arguments):
        stand_in = functools.partial(stand_in, *args, **keywords)
    event = registration.bare_event
    inner = Registration(engine, event, 0, stand_in, registration.args, registration.kwargs)

    def call(engine: Engine) -> Any:
        extras = (engine._run.position.begun_in_epoch(engine.state),) if event is Events.TERMINATE_SINGLE_EPOCH else ()
        return inner.invoke(engine, extras, {})

    return call

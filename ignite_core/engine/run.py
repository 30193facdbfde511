"""The state of a run, and the loop that walks through its events."""

from __future__ import annotations

import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from enum import IntEnum
from typing import Any, Final, Protocol

from ignite_core.distributed.failures import api as failures
from ignite_core.engine.channel import EventChannel, ForwardingChannel
from ignite_core.engine.data.position import Position
from ignite_core.engine.data.reproducibility import ResumeState, check_seed, drawn_seed
from ignite_core.engine.describe import describe
from ignite_core.engine.dispatch import Dispatch
from ignite_core.engine.events import Events, SingleEvent
from ignite_core.engine.lone_handlers import separate_lone_handlers
from ignite_core.engine.registration import FiringEngine
from ignite_core.engine.run_arguments import Arguments, Resolved, check_not_empty, is_done, over_message, resolve
from ignite_core.engine.state import State
from ignite_core.engine.state_dict import BEFORE_STEP, CUTS, read_progress, read_resume_info, results_of
from ignite_core.exceptions import RankFailed

__all__ = ["ITERATION_EVENTS", "Run", "RunningEngine", "Stop", "innermost"]

#: The engine whose run is the innermost one in this thread (or task).
innermost: Final[ContextVar[Any]] = ContextVar("ignite_core_innermost_engine", default=None)

#: The events that every batch reaches, in their order.
ITERATION_EVENTS: Final = (
    Events.GET_BATCH_STARTED,
    Events.GET_BATCH_COMPLETED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
)

#: How many of them were fired for the current batch when a run is interrupted after this event.
_FIRED_BEFORE_PAUSE: Final[Mapping[SingleEvent | None, int]] = {
    Events.GET_BATCH_STARTED: 1,
    Events.DATALOADER_STOP_ITERATION: 1,
    Events.GET_BATCH_COMPLETED: 2,
    Events.ITERATION_STARTED: 3,
}


class Stop(IntEnum):
    """A request of a handler, the step or the data to stop; the stronger request wins."""

    NO = 0
    EPOCH = 1
    INTERRUPT = 2
    RUN = 3
    FAILED = 4  # set internally when another rank failed


class RunningEngine(FiringEngine, Protocol):
    """What a run needs of its engine."""

    state: State
    logger: logging.Logger
    _dispatch: Dispatch
    _always_seeded: bool
    _process_function: Callable[[Any, Any], Any]


class Run:
    """The state of an engine's run, which outlasts it: the next one continues it, or starts from it.

    Attributes:
        position: How far the run has come.
        resumption: Random states, the position in the data and what the step holds, for a run that is resumed.
        stop: The request to stop.
        skip: The request leaves out the COMPLETED event that belongs to it.
        is_final: The run was terminated for good.
        is_running: A run is in progress.
        was_nested: The last run was inside that of another engine.
        paused_at: The event after which the run was interrupted; None if it was not.
        data_is_set: ``set_data`` has set the data of the next run.
        length_is_found: ``state.epoch_length`` was found from the data, not given by the user.
        overrides_firing: Events are fired by a ``_fire_event`` that is not that of :class:`Engine`.
        rank_failed: What ``Stop.FAILED`` is to raise.
        suppressed: A handler of EXCEPTION_RAISED returned True.
        note: The note on the exception of this run.
    """

    __slots__ = (
        "data_is_set",
        "is_final",
        "is_running",
        "length_is_found",
        "note",
        "overrides_firing",
        "paused_at",
        "position",
        "rank_failed",
        "resumption",
        "skip",
        "stop",
        "suppressed",
        "was_nested",
    )

    def __init__(self) -> None:
        self.position = Position()
        self.resumption = ResumeState()
        self.stop = Stop.NO
        self.skip = False
        self.is_final = False
        self.is_running = False
        self.was_nested = False
        self.paused_at: SingleEvent | None = None
        self.data_is_set = False
        self.length_is_found = False
        self.overrides_firing = False
        self.rank_failed: RankFailed | None = None
        self.suppressed = False
        self.note: str | None = None

    def request(self, stop: Stop, skip: bool = False) -> None:
        if stop >= self.stop:
            self.stop, self.skip = stop, skip

    def on_rank_failed(self, failure: RankFailed) -> None:
        """Called in another thread: the run raises the failure after the current step or handler."""
        self.rank_failed, self.stop = failure, Stop.FAILED

    def is_paused(self, state: State) -> bool:
        """Whether the run was interrupted, and not dropped since."""
        return self.paused_at is not None and not (state.max_epochs is None and state.max_iters is None)

    # ------------------------------------------------------------------------------------------------- save and load

    def save(self, engine: RunningEngine, user_keys: Sequence[str]) -> OrderedDict[str, Any]:
        """See :meth:`Engine.state_dict`."""
        state, position = engine.state, self.position
        limit = "max_epochs" if state.max_iters is None else "max_iters"
        left = self._left(state)
        is_cut = left in CUTS
        iteration, *progress = position.progress(state, is_cut)
        saved: OrderedDict[str, Any] = OrderedDict(
            epoch_length=state.epoch_length, iteration=iteration, **{limit: getattr(state, limit)}
        )
        follows = divmod(iteration, state.epoch_length or 1)
        if tuple(progress) != follows or (iteration and not state.epoch_length):
            saved["epochs_done"], saved["epoch_iteration"] = progress
        at = self.paused_at or position.failed_at or engine.last_event_name
        begun = 0 if is_cut else position.begun(state, at)
        if left:
            saved["left"] = left
        if begun:
            saved["begun"] = list(BEFORE_STEP)[begun - 1]
        saved.update(self.resumption.state_dict(state, position, engine._process_function, is_cut))
        counts = engine._dispatch.counts
        if counts:
            saved["event_counts"] = counts
        saved.update(results_of(state))
        for key in user_keys:
            saved[key] = getattr(state, key)
        return saved

    def _left(self, state: State) -> str | None:
        """What is left of the run; None if that follows from its numbers."""
        position = self.position
        if position.left is not None:
            return position.left
        if position.in_epoch and (position.epoch_is_over or self.stop is Stop.EPOCH):
            if position.epoch_is_over:
                return "epoch_completed" if position.completes else None
            return "skip_epoch_completed" if self.skip else "terminate_epoch"
        if self.stop is Stop.RUN and self.is_final:
            return "nothing"
        is_evaluator = self.was_nested and state.max_epochs == 1 == state.epoch
        return "everything" if is_evaluator and not position.in_epoch else None

    def load(self, engine: RunningEngine, saved: Mapping[str, Any], user_keys: Sequence[str]) -> None:
        """See :meth:`Engine.load_state_dict`."""
        progress, info = read_progress(saved, user_keys), read_resume_info(saved)
        state = engine.state
        if not self.is_running:
            self.position = Position()
            self.paused_at = None
        position = self.position
        if not position.in_epoch:
            position.place, position.left = progress.epoch_iteration, progress.left
            begun = BEFORE_STEP.get(progress.begun or "", 0)
            position.again = (progress.epochs_done + 1, progress.iteration, begun) if begun else None
            self.resumption.load(state, info)
            state.metrics.update(progress.results.get("metrics", {}))
            state.output = progress.results.get("output", state.output)
        state.iteration, state.epoch = progress.iteration, progress.epochs_done
        state.epoch_length = progress.epoch_length
        state.max_epochs, state.max_iters = progress.max_epochs, progress.max_iters
        self.length_is_found = False
        engine._dispatch.counts = progress.event_counts
        for key in user_keys:
            setattr(state, key, saved[key])

    # ------------------------------------------------------------------------------------------------- before the loop

    def set_up(self, engine: RunningEngine, arguments: Arguments) -> bool:
        """Check the arguments of ``run`` and put state and position where it starts; False if nothing is left."""
        state = engine.state
        if arguments.data is None and self.data_is_set:
            arguments = replace(arguments, data=state.dataloader)
        data, paused = arguments.data, self.is_paused(state)
        resolved = self.resolve(state, arguments)
        if resolved.is_over:
            engine.logger.warning("Engine.run: %s", over_message(state, resolved))
            return False
        check_seed(arguments.seed, None if resolved.is_new else state.seed)  # up to here nothing is changed
        state.seed = state.seed if arguments.seed is None else int(arguments.seed)
        if resolved.is_new:
            known_length = self._known_length(state, arguments)
            self._reset(engine)
            is_given = data is None or arguments.epoch_length is not None
            self.length_is_found = not is_given and resolved.epoch_length != known_length
        state.max_epochs, state.max_iters = resolved.max_epochs, resolved.max_iters
        state.epoch_length = resolved.epoch_length
        self.data_is_set = False
        self.note = None
        if paused:
            self._continue(engine)
        else:
            self._start(engine, data)
        limit = f"max_epochs={state.max_epochs}" if state.max_iters is None else f"max_iters={state.max_iters}"
        begun = "starting" if resolved.is_new else f"continuing from epoch {state.epoch}, iteration {state.iteration},"
        engine.logger.info("Engine run %s with %s.", begun, limit)
        return True

    def resolve(self, state: State, arguments: Arguments) -> Resolved:
        """What a run with these arguments does; nothing is changed."""
        limit = state.max_epochs if arguments.max_epochs is None else arguments.max_epochs
        is_evaluator = self.position.left == "everything" or (limit == 1 and innermost.get() is not None)
        return resolve(
            state,
            arguments,
            paused=self.is_paused(state),
            known_length=self._known_length(state, arguments),
            loaded=self.position if self.resumption.is_waiting and not is_evaluator else None,
        )

    def _known_length(self, state: State, arguments: Arguments) -> int | None:
        return None if self.length_is_found and arguments.data is not None else state.epoch_length

    def _reset(self, engine: RunningEngine) -> None:
        """Forget how far an earlier run had come."""
        engine.state.iteration = engine.state.epoch = 0
        self.position = Position()
        self.resumption.load(engine.state, None)
        engine._dispatch.counts = {}

    def _start(self, engine: RunningEngine, data: Any) -> None:
        """Prepare to fire STARTED: at zero, at the next epoch, or inside the epoch that was loaded."""
        state, before = engine.state, self.position
        if engine._always_seeded and state.seed is None:
            state.seed = drawn_seed()
        if before.started:
            position = Position(0, before.passes)
        else:
            position = Position(before.place, left=before.left if before.left in CUTS else None)
            position.epoch_is_over, position.again = before.left == "epoch_completed", before.again
        self.resumption.begin(state, data, position, engine._process_function)
        self.position = position
        self.stop, self.skip, self.is_final, self.paused_at = Stop.NO, False, False, None
        engine._dispatch.note_counters(state)
        state.dataloader = data
        state.times = {"EPOCH_COMPLETED": 0.0, "COMPLETED": 0.0}

    def _continue(self, engine: RunningEngine) -> None:
        """Prepare to continue after the event at which the run was interrupted; nothing is fired twice."""
        state, position, at = engine.state, self.position, self.paused_at
        position.resume_clock()
        self.resumption.go_on()
        self.paused_at = None
        nothing_to_end = not position.in_epoch or position.epoch_is_over
        if self.stop is Stop.INTERRUPT or (self.stop is Stop.EPOCH and nothing_to_end):  # made during the pause
            self.stop = Stop.NO
        if self.stop or position.epoch_is_over or at not in _FIRED_BEFORE_PAUSE:
            return
        fired = ITERATION_EVENTS[: _FIRED_BEFORE_PAUSE[at]]
        for event in fired if state.dataloader is not None else fired[2:]:
            engine._dispatch.channel(event).mute()
        position.place -= 1
        if Events.GET_BATCH_COMPLETED in fired:
            position.put_back(state.batch)
        if Events.ITERATION_STARTED in fired:
            state.iteration -= 1

    # -------------------------------------------------------------------------------------------------------- the loop

    def walk(self, engine: RunningEngine) -> None:
        """Walk through the events of a run, from its position.

        ::

            STARTED
            per epoch:
                EPOCH_STARTED
                per batch:
                    GET_BATCH_STARTED, <next batch>, GET_BATCH_COMPLETED
                    ITERATION_STARTED, output = step(engine, batch), ITERATION_COMPLETED
                EPOCH_COMPLETED
            COMPLETED

        After each event the request to stop is checked: ``EPOCH`` leads to TERMINATE_SINGLE_EPOCH and the end of the
        epoch, ``INTERRUPT`` to INTERRUPT and out, ``RUN`` to TERMINATE and COMPLETED.
        """
        state, position, resumption = engine.state, self.position, self.resumption
        at = self.paused_at
        if not position.started:
            separate_lone_handlers(engine)
            position.start_clock()
            position.started = True
            resumption.begin_epoch(state, 0)
            at = _reach(engine, Events.STARTED)
            engine._dispatch.note_counters(state)
            self._refuse_to_cut_epoch(at)
        while self.stop < Stop.INTERRUPT and (position.in_epoch or not self._is_done(state)):
            if not position.in_epoch:
                if resumption.is_waiting:  # loaded by a handler of STARTED
                    resumption.begin(state, state.dataloader, position, engine._process_function)
                position.begin_epoch(state)
                position.resumed = position.place > 0 or position.is_again(Events.EPOCH_STARTED, state)
                resumption.begin_epoch(state, state.epoch)
                at = _reach(engine, Events.EPOCH_STARTED)
                engine._dispatch.note_counters(state)
                position.resumed = False
                self._refuse_to_cut_epoch(at)
                resumption.go_on()
                self._cut_loaded_epoch()
            if not self.stop and not position.epoch_is_over:
                at = self._run_batches(engine, position)
            if self.stop < Stop.INTERRUPT:
                at = self._end_epoch(engine, at)
        if self.stop is Stop.INTERRUPT:
            self._pause(engine, at)
        elif self.stop < Stop.FAILED:
            self._complete(engine)
        if self.stop is Stop.FAILED:
            failures.raise_if_failed()
            assert self.rank_failed is not None
            raise self.rank_failed  # it was withdrawn at this moment

    def _run_batches(self, engine: RunningEngine, position: Position) -> Events:
        """Run what is left of the epoch; returns the event reached last."""
        state, step = engine.state, engine._process_function
        get_started, get_completed, started, completed = self._iteration_channels(engine)
        getting, starting = Events.GET_BATCH_STARTED, Events.ITERATION_STARTED
        for position.place in position.batches(state):  # noqa: B020 - counted where it is kept: an assignment less
            engine.last_event_name = getting
            if not get_started.lo < state.iteration < get_started.hi:
                get_started.fire(engine, state.iteration)
                if self.stop:
                    return getting
            state.batch = None
            exhausted = False
            try:
                state.batch = next(position.iterator)
            except StopIteration:
                exhausted = True
            except BaseException as error:
                engine._annotate(error, "the data")
                raise
            if exhausted:
                self._refill(engine)
                if self.stop or position.epoch_is_over:
                    return Events.DATALOADER_STOP_ITERATION
            state.output = None
            if not get_completed.lo < state.iteration < get_completed.hi:
                get_completed.fire(engine, state.iteration)
            if self.stop:
                return Events.GET_BATCH_COMPLETED
            state.iteration += 1
            engine.last_event_name = starting
            if not started.lo < state.iteration < started.hi:
                started.fire(engine, state.iteration)
                if self.stop:
                    return starting
            try:
                state.output = step(engine, state.batch)
            except BaseException as error:
                engine._annotate(error, f"the step {describe(step)}")
                raise
            position.done = iteration = state.iteration
            if not completed.lo < iteration < completed.hi:
                completed.fire(engine, iteration)
            if self.stop:
                return Events.ITERATION_COMPLETED
        if position.place != state.epoch_length and state.max_iters is not None and state.iteration >= state.max_iters:
            self.request(Stop.RUN)
        return Events.ITERATION_COMPLETED

    def _iteration_channels(self, engine: RunningEngine) -> list[EventChannel]:
        """The channels of the events that every batch reaches. Without data, those of fetching have no handlers."""
        channels = [engine._dispatch.channel(event) for event in ITERATION_EVENTS]
        if self.overrides_firing:
            channels = [ForwardingChannel(channel) for channel in channels]
        if engine.state.dataloader is None:
            channels[:2] = (EventChannel(event, None) for event in ITERATION_EVENTS[:2])
        return channels

    def _refill(self, engine: RunningEngine) -> None:
        """The data ran out where a batch is needed: fetch the first one of the next pass, or end the epoch."""
        state, position = engine.state, self.position
        if state.epoch_length is None:
            position.place -= 1
            check_not_empty(position.place)
            position.epoch_is_over = True
            state.epoch_length = self.resumption.data_length = position.place
            self.length_is_found = True
            return
        if not position.restarted:
            position.restarted = True
            _reach(engine, Events.DATALOADER_STOP_ITERATION)
            position.iterate(self.resumption.passes)
            if self.stop:
                return
            try:
                state.batch = next(position.iterator)
            except StopIteration:
                pass
            except BaseException as error:
                engine._annotate(error, "the data")
                raise
            else:
                return
        position.place -= 1
        position.epoch_is_over = position.exhausted = True
        warnings.warn(
            f"Engine.run: the data gave {position.place} of the {state.epoch_length} batches of epoch {state.epoch} "
            "and has no more: it is an iterator that cannot be iterated twice. Pass data that can, or give a new "
            "iterator to engine.set_data() in a handler of DATALOADER_STOP_ITERATION.",
            stacklevel=5,
        )

    def _end_epoch(self, engine: RunningEngine, at: SingleEvent | None) -> SingleEvent | None:
        """Fire the events at the end of an epoch, completed or cut; returns the event reached last."""
        state, position = engine.state, self.position
        skip = False
        if self.stop is Stop.EPOCH:
            skip = self.skip
            position.cut_epoch(completes=not skip)
            at = _reach(engine, Events.TERMINATE_SINGLE_EPOCH, position.begun_in_epoch(state))
            position.iterate(self.resumption.passes)
            if self.stop > Stop.EPOCH and not skip:
                return at
        position.end_epoch()
        if not skip:
            state.times["EPOCH_COMPLETED"] = position.seconds_in_epoch()
            at = _reach(engine, Events.EPOCH_COMPLETED)
            state.times["EPOCH_COMPLETED"] = position.seconds_in_epoch()
        if self.stop is Stop.EPOCH:  # answered: nothing is left to end
            self.stop = Stop.NO
        engine.logger.info("Epoch %d of the run completed in %.3f s.", state.epoch, position.seconds_in_epoch())
        return at

    def _is_done(self, state: State) -> bool:
        """Whether the run is at its end. A run limited by ``max_iters`` also ends with data that has no more."""
        if self.position.exhausted and state.max_iters is not None:
            return True
        return is_done(state) and not self.position.has_epoch_to_end(state)

    def _complete(self, engine: RunningEngine) -> None:
        """Fire the events at the end of a run, completed or terminated."""
        state, position = engine.state, self.position
        position.leave()
        terminated, skip = self.stop is Stop.RUN, self.skip
        if terminated:
            _reach(engine, Events.TERMINATE)
        state.times["COMPLETED"] = position.seconds_in_run()
        if not (terminated and skip):
            _reach(engine, Events.COMPLETED)
            state.times["COMPLETED"] = position.seconds_in_run()
        engine.logger.info("Engine run completed in %.3f s.", position.seconds_in_run())

    def _pause(self, engine: RunningEngine, at: SingleEvent | None) -> None:
        self.stop, self.paused_at = Stop.NO, at
        self.position.stop_clock()
        self.resumption.pause(engine.state)
        _reach(engine, Events.INTERRUPT)
        if self.stop is Stop.INTERRUPT:  # requested by a handler of INTERRUPT: it is being answered
            self.stop = Stop.NO

    def _refuse_to_cut_epoch(self, at: Events) -> None:
        if self.stop is Stop.EPOCH:
            self.stop = Stop.NO
            raise RuntimeError(
                f"terminate_epoch() was called at {at!r}, where no epoch is running; call it at GET_BATCH_STARTED or "
                "later, or call terminate()"
            )

    def _cut_loaded_epoch(self) -> None:
        """Continue with what was left of an epoch that was cut when it was saved."""
        left, self.position.left = self.position.left, None
        if left in ("terminate_epoch", "skip_epoch_completed"):
            self.request(Stop.EPOCH, left == "skip_epoch_completed")


def _reach(engine: RunningEngine, event: Events, *extras: Any) -> Events:
    engine._fire_event(event, *extras)
    return event

"""The loop that walks through the events of a run."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ignite_core.distributed.failures import api as failures
from ignite_core.engine.channel import EventChannel, ForwardingChannel
from ignite_core.engine.data.position import Position
from ignite_core.engine.describe import describe
from ignite_core.engine.events import Events, SingleEvent
from ignite_core.engine.lone_handlers import separate_lone_handlers
from ignite_core.engine.run import ITERATION_EVENTS, Run, RunningEngine, Stop, innermost
from ignite_core.engine.run_arguments import check_not_empty, is_done
from ignite_core.engine.state import State

__all__ = ["exclusive", "execute"]


def execute(engine: RunningEngine, run: Run) -> None:
    """Walk through the events of a run as the innermost one of this thread, and report errors to handlers and ranks."""
    token = innermost.set(engine)
    failures.add_listener(run.on_rank_failed)
    try:
        run.is_running = True
        _walk(engine, run)
    except BaseException as error:
        run.paused_at = None
        run.position.leave()
        run.position.failed_at = engine.last_event_name
        engine._annotate(error, "the engine")
        if not _is_suppressed(engine, run, error):
            raise
    finally:
        failures.remove_listener(run.on_rank_failed)
        if run.stop is Stop.FAILED:
            run.stop, run.rank_failed = Stop.NO, None
        innermost.reset(token)
        engine.parent = None
        run.is_running = False
        for event in ITERATION_EVENTS:
            engine._dispatch.channel(event).muted = False


def _walk(engine: RunningEngine, run: Run) -> None:
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
    state, position, resumption = engine.state, run.position, run.resumption
    at = run.paused_at
    if not position.started:
        separate_lone_handlers(engine)
        position.start_clock()
        position.started, run.started_at = True, time.perf_counter()
        resumption.begin_epoch(state, 0)
        at = _reach(engine, Events.STARTED)
        engine._dispatch.note_counters(state)
        _refuse_to_cut_epoch(run, at)
    while run.stop < Stop.INTERRUPT and (position.in_epoch or not _is_done(run, state)):
        if not position.in_epoch:
            if resumption.is_waiting:  # loaded by a handler of STARTED
                resumption.begin(state, state.dataloader, position, engine._process_function)
            position.begin_epoch(state)
            position.resumed = position.place > 0 or position.is_again(Events.EPOCH_STARTED, state)
            resumption.begin_epoch(state, state.epoch)
            at = _reach(engine, Events.EPOCH_STARTED)
            engine._dispatch.note_counters(state)
            position.resumed = False
            _refuse_to_cut_epoch(run, at)
            resumption.go_on()
            _cut_loaded_epoch(run)
        if not run.stop and not position.epoch_is_over:
            at = _run_batches(engine, run, position)
        if run.stop < Stop.INTERRUPT:
            at = _end_epoch(engine, run, at)
    if run.stop is Stop.INTERRUPT:
        _pause(engine, run, at)
    elif run.stop < Stop.FAILED:
        _complete(engine, run)
    if run.stop is Stop.FAILED:
        failures.raise_if_failed()
        assert run.rank_failed is not None
        raise run.rank_failed  # it was withdrawn at this moment


def _run_batches(engine: RunningEngine, run: Run, position: Position) -> Events:
    """Run what is left of the epoch; returns the event reached last."""
    state, step = engine.state, engine._process_function
    get_started, get_completed, started, completed = _iteration_channels(engine, run)
    getting, starting = Events.GET_BATCH_STARTED, Events.ITERATION_STARTED
    for position.place in position.batches(state):  # noqa: B020 - counted where it is kept: an assignment less
        engine.last_event_name = getting
        if not get_started.lo < state.iteration < get_started.hi:
            get_started.fire(engine, state.iteration)
            if run.stop:
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
            _refill(engine, run)
            if run.stop or position.epoch_is_over:
                return Events.DATALOADER_STOP_ITERATION
        state.output = None
        if not get_completed.lo < state.iteration < get_completed.hi:
            get_completed.fire(engine, state.iteration)
        if run.stop:
            return Events.GET_BATCH_COMPLETED
        state.iteration += 1
        engine.last_event_name = starting
        if not started.lo < state.iteration < started.hi:
            started.fire(engine, state.iteration)
            if run.stop:
                return starting
        try:
            state.output = step(engine, state.batch)
        except BaseException as error:
            engine._annotate(error, f"the step {describe(step)}")
            raise
        position.done = iteration = state.iteration
        if not completed.lo < iteration < completed.hi:
            completed.fire(engine, iteration)
        if run.stop:
            return Events.ITERATION_COMPLETED
    if position.place != state.epoch_length and state.max_iters is not None and state.iteration >= state.max_iters:
        run.request(Stop.RUN)
    return Events.ITERATION_COMPLETED


def _iteration_channels(engine: RunningEngine, run: Run) -> list[EventChannel]:
    """The channels of the events that every batch reaches. Without data, those of fetching have no handlers."""
    channels = [engine._dispatch.channel(event) for event in ITERATION_EVENTS]
    if run.overrides_firing:
        channels = [ForwardingChannel(channel) for channel in channels]
    if engine.state.dataloader is None:
        channels[:2] = (EventChannel(event, None) for event in ITERATION_EVENTS[:2])
    return channels


def _refill(engine: RunningEngine, run: Run) -> None:
    """The data ran out where a batch is needed: fetch the first one of the next pass, or end the epoch."""
    state, position = engine.state, run.position
    if state.epoch_length is None:
        position.place -= 1
        check_not_empty(position.place)
        position.epoch_is_over = True
        state.epoch_length = run.resumption.data_length = position.place
        run.length_is_found = True
        return
    if not position.restarted:
        position.restarted = True
        _reach(engine, Events.DATALOADER_STOP_ITERATION)
        position.iterate(run.resumption.passes)
        if run.stop:
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
        stacklevel=6,
    )


def _end_epoch(engine: RunningEngine, run: Run, at: SingleEvent | None) -> SingleEvent | None:
    """Fire the events at the end of an epoch, completed or cut; returns the event reached last."""
    state, position = engine.state, run.position
    skip = False
    if run.stop is Stop.EPOCH:
        skip = run.skip
        position.cut_epoch(completes=not skip)
        at = _reach(engine, Events.TERMINATE_SINGLE_EPOCH, position.begun_in_epoch(state))
        position.iterate(run.resumption.passes)
        if run.stop > Stop.EPOCH and not skip:
            return at
    position.end_epoch()
    if not skip:
        state.times["EPOCH_COMPLETED"] = position.seconds_in_epoch()
        at = _reach(engine, Events.EPOCH_COMPLETED)
        state.times["EPOCH_COMPLETED"] = position.seconds_in_epoch()
    if run.stop is Stop.EPOCH:  # answered: nothing is left to end
        run.stop = Stop.NO
    engine.logger.info("Epoch %d of the run completed in %.3f s.", state.epoch, position.seconds_in_epoch())
    return at


def _is_done(run: Run, state: State) -> bool:
    """Whether the run is at its end. A run limited by ``max_iters`` also ends with data that has no more."""
    if run.position.exhausted and state.max_iters is not None:
        return True
    return is_done(state) and not run.position.has_epoch_to_end(state)


def _complete(engine: RunningEngine, run: Run) -> None:
    """Fire the events at the end of a run, completed or terminated."""
    state, position = engine.state, run.position
    position.leave()
    terminated, skip = run.stop is Stop.RUN, run.skip
    if terminated:
        _reach(engine, Events.TERMINATE)
    state.times["COMPLETED"] = position.seconds_in_run()
    if not (terminated and skip):
        _reach(engine, Events.COMPLETED)
        state.times["COMPLETED"] = position.seconds_in_run()
    engine.logger.info("Engine run completed in %.3f s.", position.seconds_in_run())


def _pause(engine: RunningEngine, run: Run, at: SingleEvent | None) -> None:
    run.stop, run.paused_at = Stop.NO, at
    run.position.stop_clock()
    run.resumption.pause(engine.state)
    _reach(engine, Events.INTERRUPT)
    if run.stop is Stop.INTERRUPT:  # requested by a handler of INTERRUPT: it is being answered
        run.stop = Stop.NO


def _refuse_to_cut_epoch(run: Run, at: Events) -> None:
    if run.stop is Stop.EPOCH:
        run.stop = Stop.NO
        raise RuntimeError(
            f"terminate_epoch() was called at {at!r}, where no epoch is running; call it at GET_BATCH_STARTED or "
            "later, or call terminate()"
        )


def _cut_loaded_epoch(run: Run) -> None:
    """Continue with what was left of an epoch that was cut when it was saved."""
    left, run.position.left = run.position.left, None
    if left in ("terminate_epoch", "skip_epoch_completed"):
        run.request(Stop.EPOCH, left == "skip_epoch_completed")


def _reach(engine: RunningEngine, event: Events, *extras: Any) -> Events:
    engine._fire_event(event, *extras)
    return event


@contextmanager
def exclusive(engine: RunningEngine, runner: dict[str, list[int]]) -> Iterator[None]:
    """Refuse further runs of an engine meanwhile, in this thread and in others.

    Args:
        engine: The engine.
        runner: A dict of the engine that holds the thread that runs it.
    """
    own = [threading.get_ident()]
    running = runner.setdefault("run", own)  # only one call finds its own list, without a lock
    if running is not own:
        remedy = "a handler or step may run another engine, not its own"
        if running != own:
            remedy = "another thread runs it: make an engine for each thread"
        state = engine.state
        raise RuntimeError(
            f"Engine.run: this engine is running already (epoch {state.epoch}, iteration {state.iteration}); {remedy}"
        )
    try:
        yield
    finally:
        del runner["run"]


def _is_suppressed(engine: RunningEngine, run: Run, error: BaseException) -> bool:
    """Report an error to the other ranks, then to the handlers of EXCEPTION_RAISED; whether one of these suppresses it.

    Raises:
        RankFailed: Instead of an error caused by the failure or loss of another rank, unless it is suppressed.
    """
    run.suppressed = False
    with failures.reported(error) as reported:
        engine._fire_event(Events.EXCEPTION_RAISED, reported)
    suppressed = run.suppressed and not isinstance(error, KeyboardInterrupt | SystemExit)
    try:
        if reported is not error and not suppressed:
            raise reported from error
        return suppressed
    finally:
        del reported, error  # what is raised would refer to this frame, and it to that

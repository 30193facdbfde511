"""The state of a run: how it starts, continues, is saved and loaded. Its loop is in :mod:`ignite_core.engine.loop`."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from dataclasses import replace
from enum import IntEnum
from typing import Any, Final, Protocol

import torch.distributed as dist

from ignite_core.engine.data.position import Position
from ignite_core.engine.data.reproducibility import ResumeState, check_seed, drawn_seed
from ignite_core.engine.dispatch import Dispatch
from ignite_core.engine.events import Events, SingleEvent
from ignite_core.engine.registration import FiringEngine
from ignite_core.engine.run_arguments import Arguments, Resolved, over_message, resolve
from ignite_core.engine.state import State
from ignite_core.engine.state_dict import BEFORE_STEP, CUTS, read_progress, read_resume_info, results_of
from ignite_core.exceptions import RankFailed

__all__ = ["ITERATION_EVENTS", "Run", "RunContext", "RunningEngine", "Stop", "innermost"]

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
    parent: Any
    logger: logging.Logger
    _dispatch: Dispatch
    _always_seeded: bool
    _process_function: Callable[[Any, Any], Any]


class RunContext:
    """What is entered around each run of an engine; it can be exited before the run ends."""

    def __init__(self, factory: Callable[[Any], AbstractContextManager[object]]) -> None:
        self.factory = factory
        self._entered = ExitStack()

    def enter(self, engine: object) -> ExitStack:
        """Enter it for the run that begins; returns what exits it, if it is still entered."""
        self._entered.enter_context(self.factory(engine))
        return self._entered

    def exit(self) -> None:
        self._entered.close()


class Run:
    """The state of an engine's run, which outlasts it: the next one continues it, or starts from it.

    Attributes:
        position: How far the run has come.
        started_at: The :func:`time.perf_counter` at which it started.
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
        "started_at",
        "stop",
        "suppressed",
        "was_nested",
    )

    def __init__(self) -> None:
        self.position = Position()
        self.started_at = 0.0
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

    def annotate(self, error: BaseException, culprit: str, state: State) -> None:
        """Note on an exception where it came from; only the first note of a run is added."""
        if self.note is None or self.note not in getattr(error, "__notes__", ()):
            rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
            self.note = f"Raised by {culprit}, epoch {state.epoch}, iteration {state.iteration}, rank {rank}."
            error.add_note(self.note)

    def reopen(self) -> None:
        if self.position.left == "nothing":
            self.position.left = None

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

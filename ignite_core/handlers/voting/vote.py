"""A vote of all ranks: what any rank requests, all ranks do after the same iteration.

Every ``k`` iterations each rank sends a few numbers without waiting, and reads the result ``k`` iterations later. Every
round has the same shape and reports what each rank is doing. So rounds always pair up, and ranks that do different
things (one saves, another has no batch left) raise an error instead of waiting for each other. On several ranks:

- ``EPOCH_STARTED``, last: a round that waits. The ranks compare the lengths of their epochs.
- ``ITERATION_COMPLETED``, last: every ``k`` iterations the previous round is read and the next one is sent.
- ``EPOCH_COMPLETED``, first: if the epoch was cut or its length was not known, or if ranks may have different numbers
  of batches, rounds until no rank has a batch left. Last: a round that waits, so that none is pending between epochs.
- ``TERMINATE`` and ``INTERRUPT``, first, and ``COMPLETED``, last: a round that waits.
- ``EXCEPTION_RAISED``: the pending round is dropped.
- Before the first round of a run, or after an error: rounds until all ranks have come to this point.

On one process, a requested action runs at the end of the same iteration.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import integer
from ignite_core.handlers.voting.channel import Round, mark_unsynchronized, side_channel
from ignite_core.handlers.voting.desync import Activity, DesyncCheck, RankReport

__all__ = ["FIRST", "LAST", "Request", "Vote", "find_vote", "vote_of"]

T = TypeVar("T")

#: Priorities before and after those of all other handlers.
FIRST: Final = 10**6
LAST: Final = -FIRST

#: The largest number of a request.
LARGEST: Final = 2**62

#: The default number of iterations between two rounds.
_EVERY: Final = 10

#: How many requests an engine may have: every round has a number for each, so that all rounds have the same size.
_CAPACITY: Final = 54


class _Flags:
    """What this rank requests. Request objects hold this instead of the vote, which would be a reference cycle."""

    __slots__ = ("awake", "is_alone", "numbers")

    def __init__(self) -> None:
        self.numbers = [0] * _CAPACITY
        self.is_alone = True
        self.awake = False  # the vote must act at the end of this iteration


class Request:
    """Requests an action of a vote when it is called; made by :meth:`Vote.add`.

    Call it with a number from 1 to 2**62, by default 1, at any time and on any rank, also in a signal handler: it only
    sets a flag.
    """

    __slots__ = ("_flags", "_place", "_vote")

    def __init__(self, vote: Vote, place: int) -> None:
        self._flags = vote._flags
        self._place: int | None = place
        self._vote = weakref.ref(vote)

    def __call__(self, number: int = 1) -> None:
        place, flags = self._place, self._flags
        if place is not None:
            flags.numbers[place] = max(flags.numbers[place], number)
            if flags.is_alone:
                flags.awake = True

    def remove(self) -> None:
        """Remove the request from the vote, on all ranks at the same event. Idempotent."""
        place, self._place = self._place, None
        vote = self._vote()
        if place is not None and vote is not None:
            vote._remove_request(place)


class _Action(NamedTuple):
    name: str
    callback: Callable[[Engine, int], object]


class _Pending(NamedTuple):
    round: Round
    report: RankReport
    actions: dict[int, _Action]  # those that the numbers of the round belong to


def vote_of(engine: Engine, every: int | None = None, uneven: bool | None = None) -> Vote:
    """The vote of an engine, created on first use. On several ranks, all ranks must call this at the same event.

    Args:
        engine: The engine whose iterations are counted.
        every: Iterations between two rounds, 10 by default. A requested action runs at most twice as many iterations
            later.
        uneven: Whether the ranks may have different numbers of batches in an epoch, as in an evaluation. Ranks without
            batches then wait until no rank has any. False by default: different numbers are an error.

    Raises:
        TypeError: If ``every`` is not an integer.
        ValueError: If ``every`` is below 1.

    Example:
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> vote = vote_of(trainer, every=5)
        >>> stop = vote.add("stop", lambda engine, number: engine.terminate())
        >>> handle = trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: stop())
        >>> trainer.run(range(100)).iteration
        3
    """
    vote: Vote | None = getattr(engine, "_vote", None)
    if vote is None:
        vote = engine._vote = Vote(engine)  # type: ignore[attr-defined]
    vote._attach(engine)
    if every is not None:
        vote.every = integer("vote_of", "every", every, least=1)
    if uneven is not None:
        vote.uneven = uneven
    return vote


def find_vote(engine: Engine) -> Vote | None:
    """The vote of an engine; None if it has none."""
    vote: Vote | None = getattr(engine, "_vote", None)
    return vote if vote is not None and vote._handle is not None else None


class Vote:
    """Decisions that the ranks of a run take together, for one engine; created by :func:`vote_of`.

    It detaches from the engine when its last request and check are removed.

    Attributes:
        every: Iterations between two rounds.
        uneven: Whether the ranks may have different numbers of batches in an epoch.
        unsafe_to_save: Why the present state must not be saved, such as a NaN that was found; None if it may be. After
            :meth:`settle` it is the same on all ranks. A new run resets it.
    """

    not_in_calendar = True
    collective = "Vote"

    def __init__(self, engine: Engine) -> None:
        self.every = _EVERY
        self.uneven = False
        self.unsafe_to_save: str | None = None
        self._engine = weakref.ref(engine)
        self._handle: RemovableHandle | None = None
        self._flags = _Flags()
        self._actions: dict[int, _Action] = {}  # by the place of their number in a round
        self._checks: dict[object, Callable[[], object]] = {}
        self._decided: deque[tuple[int, _Action, int]] = deque()  # to run now on all ranks: place, action, number
        self._pending: _Pending | None = None
        self._left = 0  # iterations until the next round
        self._is_alone = True
        self._epoch_length: int | None = None
        self._epoch_start = 0  # iterations before this epoch
        self._is_exhausted = False  # no rank has a batch left in this epoch

    def _attach(self, engine: Engine) -> None:
        if self._handle is not None:
            return
        self._reset()
        self._note_epoch(engine)
        handlers = (
            (Events.STARTED(priority=FIRST), self._begin_run),
            (Events.EPOCH_STARTED(priority=LAST), self._begin_epoch),
            (Events.ITERATION_COMPLETED(priority=LAST), self._end_iteration),
            (Events.TERMINATE_SINGLE_EPOCH(priority=FIRST), self._cut_epoch),
            (Events.EPOCH_COMPLETED(priority=FIRST), self._leave_epoch),
            (Events.EPOCH_COMPLETED(priority=LAST), self._end_epoch),
            (Events.TERMINATE(priority=FIRST), self._stop),
            (Events.INTERRUPT(priority=FIRST), self._stop),
            (Events.COMPLETED(priority=LAST), self._stop),
            (Events.EXCEPTION_RAISED(priority=FIRST), self._drop),
        )
        handles = [engine.add_event_handler(event, handler) for event, handler in handlers]
        self._handle = RemovableHandle(*(handle.remove for handle in handles))

    def _detach_if_unused(self) -> None:
        if self._handle is not None and not self._actions and not self._checks:
            self._handle.remove()
            self._handle = None
            self._pending = None
            self.unsafe_to_save = None

    # ------------------------------------------------------------------------------------------ requests and checks

    def add(self, name: str, callback: Callable[[Engine, int], object]) -> Request:
        """Add an action that can be requested; on all ranks, in the same order.

        Args:
            name: What it is, for messages.
            callback: ``callback(engine, number)`` is called on all ranks after the same iteration if any of them has
                requested it, with the largest requested number.

        Returns:
            The :class:`Request`: call it to request the action, or remove it.

        Raises:
            RuntimeError: If there are too many requests.
        """
        place = next((place for place in range(_CAPACITY) if place not in self._actions), None)
        if place is None:
            raise RuntimeError(f"Vote.add: an engine has at most {_CAPACITY} requests, got {name!r} in addition")
        engine = self._engine()
        if engine is not None:
            self._attach(engine)
        self._actions[place] = _Action(name, callback)
        return Request(self, place)

    def _remove_request(self, place: int) -> None:
        self._actions.pop(place, None)
        self._flags.numbers[place] = 0
        self._detach_if_unused()

    def add_check(self, check: Callable[[], object]) -> RemovableHandle:
        """Call a function before each round: for what is too expensive in each iteration, such as reading a device.

        Returns:
            A handle that removes the check.
        """
        engine = self._engine()
        if engine is not None:
            self._attach(engine)
        key, reference = object(), weakref.ref(self)
        self._checks[key] = check

        def remove() -> None:
            vote = reference()
            if vote is not None:
                vote._checks.pop(key)
                vote._detach_if_unused()

        return RemovableHandle(remove)

    def settle(self) -> None:
        """Run the checks and all requested actions now; on several ranks, in one round that waits.

        On several ranks all of them must call this at the same event.

        Raises:
            RuntimeError: On all ranks, if they are out of sync; the message says where each of them is.
            RankFailed: If another rank has failed.
            BaseException: What an action raises.
        """
        engine = self._engine()
        assert engine is not None, "the engine holds its vote"
        self._settle(engine, Activity.SETTLING)

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in the order of the ranks; for use in actions, which run on all ranks."""
        return [value] if self._is_alone else side_channel().gather(value)

    # ------------------------------------------------------------------------------------------------------- events

    def _begin_run(self) -> None:
        self._reset()
        mark_unsynchronized()

    def _reset(self) -> None:
        self.unsafe_to_save = None
        self._decided.clear()
        self._pending = None
        self._left = self.every
        self._is_alone = idist.get_world_size() == 1
        flags = self._flags
        flags.numbers[:] = [0] * _CAPACITY
        flags.is_alone, flags.awake = self._is_alone, self.uneven and not self._is_alone

    def _begin_epoch(self, engine: Engine) -> None:
        self._note_epoch(engine)
        if not self._is_alone:
            self._settle(engine, Activity.BEGINNING)
            if self.uneven and self._epoch_length == 0:  # the run can still be ended before EPOCH_COMPLETED
                self._wait_for_all(engine, Activity.EXHAUSTED)

    def _note_epoch(self, engine: Engine) -> None:
        self._epoch_length = engine.state.epoch_length
        self._epoch_start = engine.state.iteration - engine.epoch_iteration
        self._is_exhausted = False

    def _end_iteration(self, engine: Engine) -> None:
        self._left -= 1
        if not self._left or self._flags.awake:
            self._vote_in_iteration(engine)

    def _vote_in_iteration(self, engine: Engine) -> None:
        is_due = self._left == 0
        if is_due:
            self._left = self.every
        if self._is_alone:
            self._decide_alone(engine, run_checks=is_due)
            return
        if is_due:
            self._catch_up(engine)
            if not engine.should_terminate:
                self._begin_round(engine, Activity.STEPPING)
        is_last = engine.epoch_iteration == self._epoch_length or engine.state.iteration == engine.state.max_iters
        if self.uneven and is_last:
            self._wait_for_all(engine, Activity.EXHAUSTED)

    def _cut_epoch(self, engine: Engine, iter_counter: int) -> None:
        if self.uneven and not self._is_alone and not self._is_exhausted:
            self._wait_for_all(engine, Activity.EXHAUSTED)

    def _leave_epoch(self, engine: Engine) -> None:
        is_short = engine.state.iteration - self._epoch_start != self._epoch_length  # or the length was not known
        if (self.uneven or is_short) and not self._is_alone and not self._is_exhausted:
            self._wait_for_all(engine, Activity.ENDED)

    def _end_epoch(self, engine: Engine) -> None:
        self._settle(engine, Activity.SETTLING)

    def _stop(self, engine: Engine) -> None:
        self._settle(engine, Activity.STOPPING)

    def _drop(self, engine: Engine, error: BaseException) -> None:
        """Other ranks may be at another round, or gone."""
        self._pending = None
        self._decided.clear()
        mark_unsynchronized()

    def _wait_for_all(self, engine: Engine, activity: Activity) -> None:
        """Take part in the rounds of ranks that have batches until no rank has any, or the run is ended."""
        self._is_exhausted = True
        self._catch_up(engine)
        while not engine.should_terminate:
            self._begin_round(engine, activity)
            if self._read(engine) >= Activity.EXHAUSTED:
                return

    # ------------------------------------------------------------------------------------------------------- rounds

    def _settle(self, engine: Engine, activity: Activity) -> None:
        if self._is_alone:
            self._decide_alone(engine, run_checks=True)
        else:
            self._catch_up(engine)
            self._begin_round(engine, activity)
            self._read(engine)

    def _decide_alone(self, engine: Engine, run_checks: bool) -> None:
        if run_checks:
            for check in list(self._checks.values()):
                check()
        self._flags.awake = False  # not later: a signal handler may make a request in between
        self._decide(self._flags.numbers, self._actions)
        self._run_decided(engine)

    def _begin_round(self, engine: Engine, activity: Activity) -> None:
        for check in list(self._checks.values()):
            check()
        channel = side_channel()
        if not channel.is_synchronized:
            self._synchronize(engine)
        report = self._report(engine, activity)
        sent = channel.send([*report.numbers(), *self._flags.numbers])
        self._pending = _Pending(sent, report, dict(self._actions))

    def _synchronize(self, engine: Engine) -> None:
        """Skip rounds that are left of an earlier run, until all ranks do so."""
        numbers = [*self._report(engine, Activity.SYNCHRONIZING).numbers(), *([0] * _CAPACITY)]
        channel = side_channel()
        while DesyncCheck(channel.send(numbers).result()).least is not Activity.SYNCHRONIZING:
            pass
        channel.is_synchronized = True

    def _report(self, engine: Engine, activity: Activity) -> RankReport:
        state = engine.state
        last = max(self._actions, default=-1)
        names = tuple(self._actions[place].name if place in self._actions else "" for place in range(last + 1))
        limit = (state.max_epochs or 0) if state.max_iters is None else -state.max_iters
        rank, length = idist.get_rank(), state.epoch_length
        return RankReport(rank, names, self.every, self.uneven, activity, state.iteration, length, limit)

    def _catch_up(self, engine: Engine) -> None:
        """Finish what is pending: decided actions (one of them may have called :meth:`settle`), and the last round."""
        self._run_decided(engine)
        if self._pending is not None:
            self._read(engine)

    def _read(self, engine: Engine) -> Activity:
        """Act on the result of the pending round; returns the activity of the ranks that are furthest behind.

        Raises:
            RuntimeError: If the ranks are out of sync; the message says where they are.
        """
        assert self._pending is not None
        (sent, report, actions), self._pending = self._pending, None
        result = sent.result()
        check = DesyncCheck(result)
        fault = check.fault(self.uneven)
        if fault is not None:
            error = RuntimeError(check.message(fault, self.gather(report) if check.can_gather else None))
            raise error if check.most is Activity.SYNCHRONIZING else agreed(error)
        if not check.least < check.most is Activity.ENDED:  # some are at EPOCH_COMPLETED: all act there
            self._decide(result[DesyncCheck.SIZE :], actions)
            self._run_decided(engine)
        return check.least

    def _decide(self, requested: list[int], actions: dict[int, _Action]) -> None:
        """Queue the actions that any rank has requested, except those that were removed since."""
        own = self._flags.numbers
        for place, number in enumerate(requested):
            if number and self._actions.get(place) is actions[place]:
                self._decided.append((place, actions[place], number))
                if own[place] <= number:
                    own[place] = 0

    def _run_decided(self, engine: Engine) -> None:
        while self._decided:
            place, action, number = self._decided.popleft()
            if self._actions.get(place) is action:  # it was not removed since
                action.callback(engine, number)

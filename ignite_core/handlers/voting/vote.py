"""A vote of all ranks: whatever one of them asks for, all do after the same iteration.

Every ``k`` iterations each rank sends a few numbers, without waiting, and reads at the next such iteration what came of
it. Each round of exchange has the same shape whatever it is for, and tells what each rank is doing. So rounds always
pair up, and ranks that do different things (one saves, one has no batch left) are told so, instead of waiting for each
other for ever. In this order, on several ranks:

- ``EPOCH_STARTED``, last of its handlers: a round that waits. The ranks agree on the length of the epoch.
- ``ITERATION_COMPLETED``, last: every ``k`` iterations the round before is read and the next one begins.
- ``EPOCH_COMPLETED``: first, where the epoch is not as long as agreed (cut, or of a length that nobody knew) or ranks
  may have different numbers of batches: rounds until no rank has one left. Last: a round that waits, so that nothing is
  under way between epochs.
- ``TERMINATE`` and ``INTERRUPT``, first, ``COMPLETED``, last: a round that waits.
- ``EXCEPTION_RAISED``: the round under way is dropped.
- Before the first round of a run, or after an error: rounds until all ranks have come here.

A process that is alone asks itself: what was asked for is done at the end of the same iteration.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.handlers._arguments import integer
from ignite_core.handlers.voting.channel import Round, lane, lose_step
from ignite_core.handlers.voting.desync import Doing, Notice, Summary

__all__ = ["FIRST", "LAST", "Vote", "find_vote", "vote_of"]

T = TypeVar("T")

#: Priorities before and after those of all other handlers.
FIRST: Final = 10**6
LAST: Final = -FIRST

#: The largest number that can be asked with.
LARGEST: Final = 2**62

#: Iterations from one round to the next, where nothing else is said.
_EVERY = 10

#: How many things can be asked for on one engine; a round has room for all of them, so that it always has one size.
_ROOM = 54


class _Asks:
    """What this rank asks for. It is apart from the vote: who may ask holds it, and the vote holds who may ask."""

    __slots__ = ("acts_at_once", "awake", "numbers")

    def __init__(self) -> None:
        self.numbers = [0] * _ROOM
        self.acts_at_once = True  # the process is alone
        self.awake = False  # each iteration is to be looked at

    def ask(self, place: int, number: int = 1) -> None:
        self.numbers[place] = max(self.numbers[place], number)
        if self.acts_at_once:
            self.awake = True


def vote_of(engine: Engine, every: int | None = None, uneven: bool | None = None) -> Vote:
    """The vote of an engine, made when it is first asked for; on several ranks all ask for it at the same event.

    Args:
        engine: Whose iterations are counted.
        every: Iterations between two rounds, 10 by default. What is asked for is done at most twice as many later.
        uneven: The ranks may have different numbers of batches in an epoch, as in an evaluation; False by default: then
            it is an error. Those that have no more wait until no rank has.

    Raises:
        TypeError: If ``every`` is not an integer.
        ValueError: If it is below 1.

    Example:
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> vote = vote_of(trainer, every=5)
        >>> stop = vote.add("stop", lambda engine, number: engine.terminate())
        >>> handle = trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: stop())
        >>> trainer.run(range(100)).iteration
        3
    """
    vote = find_vote(engine)
    if vote is None:
        vote = engine._vote = Vote(engine)  # type: ignore[attr-defined]
    if every is not None:
        vote.every = integer("vote_of", "every", every, least=1)
    if uneven is not None:
        vote.uneven = uneven
    return vote


def find_vote(engine: Engine) -> Vote | None:
    """The vote of an engine, if it has one."""
    return getattr(engine, "_vote", None)


class Vote:
    """What the ranks of a run decide together, for one engine; :func:`vote_of` makes it.

    Attributes:
        every: Iterations between two rounds.
        uneven: The ranks may have different numbers of batches in an epoch.
        bad: Why what the run holds now must not be saved (a NaN was found); None: nothing speaks against it. After
            :meth:`settle` it is the same on all ranks. A new run forgets it.
    """

    not_in_calendar = True
    collective = "Vote"

    def __init__(self, engine: Engine) -> None:
        self.every = _EVERY
        self.uneven = False
        self.bad: str | None = None
        self._engine = weakref.ref(engine)
        self._names: list[str] = []
        self._acts: list[Callable[[Engine, int], object]] = []
        self._checks: list[Callable[[], object]] = []
        self._asks = _Asks()
        self._decided: deque[tuple[int, int]] = deque()  # to be done now, on all ranks
        self._under_way: tuple[Round, Notice] | None = None
        self._left = 0  # iterations until the next round
        self._is_alone = True
        self._length: int | None = None  # of this epoch
        self._before = 0  # iterations before it
        self._has_left = False  # this epoch: no rank has a batch left
        self._forget()
        self._note_epoch(engine)
        for event, handler in (
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
        ):
            engine.add_event_handler(event, handler)

    # ------------------------------------------------------------------------------------------------ what is asked

    def add(self, name: str, act: Callable[[Engine, int], object]) -> Callable[..., None]:
        """Add something that can be asked for; the same on all ranks, in the same order.

        Args:
            name: What it is, for messages.
            act: ``act(engine, number)`` is called on all ranks after the same iteration, when any of them has asked;
                with the largest number that was given.

        Returns:
            ``ask(number=1)``, for numbers from 1 to 2**62. It only takes a note: it may be called at any time, on any
            rank, also by a signal handler.

        Raises:
            RuntimeError: If there are too many of them.
        """
        place = len(self._names)
        if place == _ROOM:
            raise RuntimeError(f"Vote.add: there is room for {_ROOM} things to ask for, got {name!r} besides")
        self._names.append(name)
        self._acts.append(act)
        return partial(self._asks.ask, place)

    def add_check(self, check: Callable[[], object]) -> None:
        """Add what costs too much at each iteration, such as reading from a device; it is called before each round."""
        self._checks.append(check)

    def settle(self) -> None:
        """Have done now whatever is asked for: make all checks, and on several ranks one round that waits.

        On several ranks all of them must call it at the same event.

        Raises:
            RuntimeError: On all ranks, if they have come apart; it says where each of them is.
            RankFailed: If another rank has failed.
            BaseException: What is done may raise.
        """
        engine = self._engine()
        assert engine is not None, "the engine holds its vote"
        self._settle(engine, Doing.SETTLING)

    def gather(self, value: T) -> list[T]:
        """What each rank brings, for things that are done on all ranks: in the order of the ranks."""
        return [value] if self._is_alone else lane().gather(value)

    # ----------------------------------------------------------------------------------------------- when it is asked

    def _begin_run(self) -> None:
        self._forget()
        lose_step()

    def _forget(self) -> None:
        self.bad = None
        self._decided.clear()
        self._under_way = None
        self._left = self.every
        self._is_alone = idist.get_world_size() == 1
        asks = self._asks
        asks.numbers[:] = [0] * _ROOM
        asks.acts_at_once, asks.awake = self._is_alone, self.uneven and not self._is_alone

    def _begin_epoch(self, engine: Engine) -> None:
        self._note_epoch(engine)
        if not self._is_alone:
            self._settle(engine, Doing.BEGINNING)
            if self.uneven and self._length == 0:  # here the run can still be ended before EPOCH_COMPLETED
                self._wait_for_all(engine, Doing.EXHAUSTED)

    def _note_epoch(self, engine: Engine) -> None:
        self._length = engine.state.epoch_length
        self._before = engine.state.iteration - engine.epoch_iteration
        self._has_left = False

    def _end_iteration(self, engine: Engine) -> None:
        self._left -= 1
        if not self._left or self._asks.awake:
            self._take_turn(engine)

    def _take_turn(self, engine: Engine) -> None:
        is_due = self._left == 0
        if is_due:
            self._left = self.every
        if self._is_alone:
            self._ask_oneself(engine, look=is_due)
            return
        if is_due:
            self._catch_up(engine)
            if not engine.should_terminate:
                self._begin_round(engine, Doing.STEPPING)
        is_last = engine.epoch_iteration == self._length or engine.state.iteration == engine.state.max_iters
        if self.uneven and is_last:
            self._wait_for_all(engine, Doing.EXHAUSTED)

    def _cut_epoch(self, engine: Engine, iter_counter: int) -> None:
        if self.uneven and not self._is_alone and not self._has_left:
            self._wait_for_all(engine, Doing.EXHAUSTED)

    def _leave_epoch(self, engine: Engine) -> None:
        is_short = engine.state.iteration - self._before != self._length  # or of a length that nobody knew
        if (self.uneven or is_short) and not self._is_alone and not self._has_left:
            self._wait_for_all(engine, Doing.ENDED)

    def _end_epoch(self, engine: Engine) -> None:
        self._settle(engine, Doing.SETTLING)

    def _stop(self, engine: Engine) -> None:
        self._settle(engine, Doing.STOPPING)

    def _drop(self, engine: Engine, error: BaseException) -> None:
        """Other ranks may be at another round, or gone."""
        self._under_way = None
        self._decided.clear()
        lose_step()

    def _wait_for_all(self, engine: Engine, doing: Doing) -> None:
        """Have rounds, for those that still have batches, until no rank has or the run is ended."""
        self._has_left = True
        self._catch_up(engine)
        while not engine.should_terminate:
            self._begin_round(engine, doing)
            if self._read(engine) >= Doing.EXHAUSTED:
                return

    # ------------------------------------------------------------------------------------------------- how it is asked

    def _settle(self, engine: Engine, doing: Doing) -> None:
        if self._is_alone:
            self._ask_oneself(engine, look=True)
        else:
            self._catch_up(engine)
            self._begin_round(engine, doing)
            self._read(engine)

    def _ask_oneself(self, engine: Engine, look: bool) -> None:
        if look:
            for check in self._checks:
                check()
        self._asks.awake = False  # not after: somebody may ask in between
        self._decide(self._asks.numbers)
        self._act(engine)

    def _begin_round(self, engine: Engine, doing: Doing) -> None:
        for check in self._checks:
            check()
        if not lane().is_in_step:
            self._meet(engine)
        notice = self._notice(engine, doing)
        self._under_way = lane().send([*notice.numbers(), *self._asks.numbers]), notice

    def _meet(self, engine: Engine) -> None:
        """Pass over rounds that are left of an earlier run, until all ranks do so."""
        numbers = [*self._notice(engine, Doing.MEETING).numbers(), *([0] * _ROOM)]
        while Summary(lane().send(numbers).result()).least is not Doing.MEETING:
            pass
        lane().is_in_step = True

    def _notice(self, engine: Engine, doing: Doing) -> Notice:
        state, names = engine.state, tuple(self._names)
        limit = (state.max_epochs or 0) if state.max_iters is None else -state.max_iters
        rank, length = idist.get_rank(), state.epoch_length
        return Notice(rank, names, self.every, self.uneven, doing, state.iteration, length, limit)

    def _catch_up(self, engine: Engine) -> None:
        """Finish what was begun: things that were decided (something is done that settles), and the round under way."""
        self._act(engine)
        if self._under_way is not None:
            self._read(engine)

    def _read(self, engine: Engine) -> Doing:
        """Take in what came of the round under way; returns what those ranks do that have come least far.

        Raises:
            RuntimeError: If the ranks are not at the same place; it says where they are.
        """
        assert self._under_way is not None
        (under_way, notice), self._under_way = self._under_way, None
        result = under_way.result()
        summary = Summary(result)
        fault = summary.fault(self.uneven)
        if fault is not None:
            error = RuntimeError(summary.complaint(fault, self.gather(notice) if summary.is_of_one_moment else None))
            raise error if summary.most is Doing.MEETING else agreed(error)
        if not summary.least < summary.most is Doing.ENDED:  # some are at EPOCH_COMPLETED: all do it there
            self._decide(result[Summary.SIZE :])
            self._act(engine)
        return summary.least

    def _decide(self, asked: list[int]) -> None:
        """Have done on this rank what any rank has asked for."""
        own = self._asks.numbers
        for place, number in enumerate(asked):
            if number:
                self._decided.append((place, number))
                if own[place] <= number:
                    own[place] = 0

    def _act(self, engine: Engine) -> None:
        while self._decided:
            place, number = self._decided.popleft()
            self._acts[place](engine, number)

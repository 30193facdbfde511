"""Where a run stands in its data: plain values and one live iterator, nothing suspended."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from ignite_core.engine.data.epochs import tell_epoch
from ignite_core.engine.state import State
from ignite_core.engine.state_dict import BEFORE_STEP, CUTS

__all__ = ["Passes", "PlainPasses", "Position", "has_state", "length_of", "share_of"]


class Passes(Protocol):
    """The data of a run, which is iterated once for each pass over it."""

    data: Iterable[Any]

    def begin(self, number: int, done: int) -> Iterator[Any]:
        """Begin a pass.

        Args:
            number: Of the pass; the first is 1.
            done: How many of its batches were run before, in the run that was saved; the next one is wanted.
        """


class PlainPasses:
    """Data as it is, from its start."""

    def __init__(self, data: Iterable[Any]) -> None:
        self.data = data

    def begin(self, number: int, done: int) -> Iterator[Any]:
        tell_epoch(self.data, number)
        return iter(self.data)


class Position:
    """How far a run has come. It lives as long as the run, pauses included.

    Attributes:
        place: Number of the current batch in its epoch; 0 before the first.
        started: ``STARTED`` was fired.
        in_epoch: ``EPOCH_STARTED`` was fired, the epoch is not over.
        exhausted: The data ran out for good: it gives nothing when it is iterated anew.
        epoch_is_over: No batch of this epoch will follow, whatever its length.
        restarted: The data ran out and was asked again, but has not given a batch since.
        resumed: What ``STARTED`` or ``EPOCH_STARTED`` announces had begun before, in the run that was loaded.
        left: What is left of the run that was loaded, where that does not follow from its numbers (see
            :mod:`ignite_core.engine.state_dict`).
        again: Epoch, iterations done, and number of the last event that the run that was loaded had fired before the
            step of the iteration that is run again.
        failed_at: The event reached last when the run raised.
        completes: ``EPOCH_COMPLETED`` follows where ``epoch_is_over``.
        done: ``state.iteration`` when the step returned last; another number while an iteration is under way.
        iterator: Where the next batch comes from.
    """

    __slots__ = (
        "__weakref__",
        "_before",
        "_began",
        "_epoch",
        "_epoch_began",
        "_in_pass",
        "_pass",
        "_pass_began",
        "_stopped",
        "_to_leave",
        "_to_skip",
        "again",
        "completes",
        "done",
        "epoch_is_over",
        "exhausted",
        "failed_at",
        "in_epoch",
        "iterator",
        "left",
        "place",
        "restarted",
        "resumed",
        "started",
    )

    def __init__(self, place: int = 0, passes: int = 0, left: str | None = None) -> None:
        self.place = place
        self.left = left
        self.again: tuple[int, int, int] | None = None
        self.failed_at: Any = None
        self.completes = True
        self.started = False
        self.in_epoch = False
        self.epoch_is_over = False
        self.exhausted = False
        self.restarted = False
        self.resumed = False
        self.done = 0
        self.iterator: Iterator[Any] = iter(())
        self._before = 0  # iterations before this epoch
        self._epoch = 0
        self._pass = passes  # the number of the pass that was begun last
        self._pass_began = 0  # iterations before it
        self._in_pass = False  # the next batch comes from it
        self._to_skip = 0  # batches of it that were done in the run that was loaded
        self._to_leave = False  # these were all; asked before a handler could change the length
        self._began = self._epoch_began = self._stopped = 0.0

    def start_clock(self) -> None:
        self._began = self._epoch_began = time.perf_counter()

    def stop_clock(self) -> None:
        self._stopped = time.perf_counter()

    def resume_clock(self) -> None:
        pause = time.perf_counter() - self._stopped
        self._began += pause
        self._epoch_began += pause

    def seconds_in_run(self) -> float:
        return time.perf_counter() - self._began

    def seconds_in_epoch(self) -> float:
        return time.perf_counter() - self._epoch_began

    def begin_epoch(self, state: State) -> None:
        """Move on to the next epoch, at the place it was loaded with, else at its beginning."""
        state.epoch += 1
        self._epoch = state.epoch
        self._before = state.iteration - self.place
        self.done = state.iteration
        self.in_epoch = True
        self._epoch_began = time.perf_counter()

    def end_epoch(self) -> None:
        self.in_epoch = self.epoch_is_over = False
        self.completes = True
        self.place = 0

    def cut_epoch(self, completes: bool) -> None:
        """No batch of this epoch will follow, and none of the pass over the data that it is in."""
        self.epoch_is_over, self.completes = True, completes
        self.resume_pass(self._pass + 1, 0, False)
        self._in_pass = False

    def has_epoch_to_end(self, state: State) -> bool:
        """Whether the run was saved between the last batch of an epoch and ``EPOCH_COMPLETED``."""
        return not self.in_epoch and self.place > 0 and (self.left in CUTS or self.place == state.epoch_length)

    def leave(self) -> None:
        """Let go of the data: the run is over."""
        self.iterator = iter(())

    def progress(self, state: State, is_cut: bool = False) -> tuple[int, int, int]:
        """Iterations done, epochs done, and the iterations done in the epoch that is not.

        An iteration is done when its step has returned, or the epoch was cut; an epoch from ``EPOCH_COMPLETED`` on.
        """
        if not self.in_epoch:
            return state.iteration, state.epoch, self.place
        if is_cut:
            return state.iteration, state.epoch - 1, self.begun_in_epoch(state)
        if self.epoch_is_over:
            return state.iteration, state.epoch, 0
        done = self._iterations_done(state)
        return done, state.epoch - 1, done - self._before

    def begun(self, state: State, event: Any) -> int:
        """The number of the last event before the step that was fired for an iteration that is not done; 0: none.

        Args:
            state: Of the engine.
            event: The event reached last.
        """
        number = self._begun_now(state, event)
        if self.again is not None:
            epoch, iteration, before = self.again
            if state.epoch <= epoch and self.progress(state)[0] == iteration:
                return max(number, before)
        return number

    def _begun_now(self, state: State, event: Any) -> int:
        if not self.started or self.epoch_is_over:
            return 0
        if not self.in_epoch:
            return int(state.epoch == 0)
        if self.done != state.iteration:
            return 5
        begun = self.begun_in_epoch(state)
        if self.place > begun:
            return 4 if event == "GET_BATCH_COMPLETED" else 3
        return 0 if begun else 2

    def is_again(self, event: Any, state: State) -> bool:
        """Whether the event was fired already before the run was saved, for the iteration that is run again."""
        number = BEFORE_STEP.get(getattr(event, "name", ""), 0)
        if self.again is None or not number:
            return False
        epoch, iteration, before = self.again
        return number <= before and (state.epoch, state.iteration - (number == 5)) == (epoch - (number == 1), iteration)

    def progress_in_data(self, state: State, is_cut: bool = False) -> tuple[int, int]:
        """The number of a pass over the data, and how many of its batches are done; the next one comes from there."""
        if is_cut:
            return self._pass + 1, 0
        if self._to_skip:
            return self._pass, self._to_skip
        if not self._in_pass:
            return self._pass + 1, 0
        return self._pass, self._iterations_done(state) - self._pass_began

    @property
    def passes(self) -> int:
        """The number of the pass over the data that began last."""
        return self._pass

    def _iterations_done(self, state: State) -> int:
        return state.iteration - (self.done != state.iteration)

    def begun_in_epoch(self, state: State) -> int:
        """Iterations begun in this epoch."""
        return state.iteration - self._before

    def iterate(self, data: Passes | None) -> None:
        """Take the next batch from a new pass over the data, asked for only when that batch is needed."""
        self.iterator = itertools.repeat(None) if data is None else _NewPass(self, data)
        self.exhausted = self._in_pass = False

    def resume_pass(self, number: int, done: int, is_over: bool) -> None:
        """Begin with this pass, of which so many batches were done before, or all."""
        self._pass, self._to_skip = number if done else number - 1, done
        self._to_leave = done > 0 and is_over

    def leave_pass(self) -> bool:
        """Whether the run was saved where its pass over the data had no more batches; then another one is to begin."""
        is_over, self._to_leave = self._to_leave, False
        if is_over:
            self._to_skip = 0
        return is_over

    def next_pass(self) -> tuple[int, int]:
        """The number of the pass over the data that begins, and how many of its batches were done before it was saved.

        The number is that of the epoch, unless that has had a pass already.
        """
        done, self._to_skip = self._to_skip, 0
        if not done:
            self._pass = max(self._epoch, self._pass + 1)
        self._pass_began = self._before + self.place - 1 - done
        self._in_pass = True
        return self._pass, done

    def put_back(self, batch: Any) -> None:
        """Hand this batch out once more before the others."""
        self.iterator = _PutBack(self, batch, self.iterator)

    def batches(self, state: State) -> Iterable[int]:
        """The numbers of the batches that this epoch still has to run."""
        last = state.epoch_length
        if state.max_iters is not None:
            allowed = self.place + state.max_iters - state.iteration
            last = allowed if last is None else min(last, allowed)
        return itertools.count(self.place + 1) if last is None else range(self.place + 1, last + 1)


class _NewPass:
    """Stands before the first batch of a pass: ``iter(data)`` is called when that batch is asked for."""

    __slots__ = ("data", "position")

    def __init__(self, position: Position, data: Passes) -> None:
        self.position = weakref.ref(position)
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        position = self.position()
        assert position is not None
        if position.leave_pass():
            raise StopIteration  # as in the run that was saved, where the data ran out here
        number, done = position.next_pass()
        try:
            iterator = self.data.begin(number, done)
        except StopIteration as error:  # it would be taken for the end of the data
            name = type(self.data.data).__name__
            raise RuntimeError(f"iter() of the data, a {name}, raised StopIteration") from error
        position.iterator = iterator
        batch = next(iterator)
        position.restarted = False
        return batch


class _PutBack:
    """Hands out one batch again, then steps aside."""

    __slots__ = ("batch", "position", "rest")

    def __init__(self, position: Position, batch: Any, rest: Iterator[Any]) -> None:
        self.position = weakref.ref(position)
        self.batch = batch
        self.rest = rest

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        position = self.position()
        assert position is not None
        position.iterator = self.rest
        return self.batch


def has_state(data: Any) -> bool:
    """Whether data can report its own place and be set to it, with nothing lost."""
    if not (hasattr(data, "state_dict") and hasattr(data, "load_state_dict")):
        return False
    if _has_shuffle_buffer(getattr(data, "_ex_iterable", None)):
        return False
    if type(data).__module__.partition(".")[0] == "torchdata":
        return True  # asked for its state it would start its workers
    try:
        data.state_dict()
    except NotImplementedError:
        return False
    except AttributeError as error:
        return error.obj is None or error.obj is data  # else it hands the call on to something that has no state
    except Exception:
        return True  # it has none before it is iterated
    return True


def _has_shuffle_buffer(examples: Any) -> bool:
    """Whether a stream of Hugging Face's ``datasets`` has a buffer: its state leaves that out, so examples get lost."""
    if type(examples).__name__ == "BufferShuffledExamplesIterable":
        return True
    inner = (getattr(examples, "ex_iterable", None), *getattr(examples, "ex_iterables", ()))
    return any(_has_shuffle_buffer(one) for one in inner if one is not None)


def share_of(data: Any, rank: int, world_size: int) -> tuple[int, int]:
    """Which share of the samples a loader gets, of how many: that of its sampler, else that of the process.

    Ranks of a tensor-parallel group get the same one.
    """
    for holder in (data, getattr(data, "batch_sampler", None)):
        sampler = getattr(holder, "sampler", None)
        share = getattr(sampler, "rank", None), getattr(sampler, "num_replicas", None)
        if isinstance(share[0], int) and isinstance(share[1], int):
            return share[0], share[1]
    return rank, world_size


def length_of(data: Iterable[Any]) -> int | None:
    """Number of batches, if the data knows it."""
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:  # no __len__, or that of a DataLoader over an IterableDataset that has none
        return None

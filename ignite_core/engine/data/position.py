"""The position of a run in its epochs and in its data."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from ignite_core.engine.data.epochs import set_epoch
from ignite_core.engine.state import State
from ignite_core.engine.state_dict import BEFORE_STEP, CUTS

__all__ = ["Passes", "PlainPasses", "Position", "has_state", "length_of", "share_of"]


class Passes(Protocol):
    """The data of a run, iterated once for each pass over it."""

    data: Iterable[Any]

    def begin(self, number: int, done: int) -> Iterator[Any]:
        """Begin pass ``number``, the first is 1, after ``done`` batches that were run before the run was saved."""
        ...


class PlainPasses:
    """Passes that begin at the start of the data."""

    def __init__(self, data: Iterable[Any]) -> None:
        self.data = data

    def begin(self, number: int, done: int) -> Iterator[Any]:
        set_epoch(self.data, number)
        return iter(self.data)


@dataclass(eq=False, slots=True, weakref_slot=True)
class Position:
    """How far a run has come. It lives as long as the run, pauses included."""

    place: int = 0  #: number of the current batch in its epoch; 0 before the first
    passes: int = 0  #: number of the pass over the data that began last
    left: str | None = None  #: what is left of a loaded run if not known from its numbers, see ``engine.state_dict``
    started: bool = False  #: STARTED was fired
    in_epoch: bool = False  #: EPOCH_STARTED was fired, the epoch is not over
    epoch_is_over: bool = False  #: no batch of this epoch will follow, regardless of its length
    completes: bool = True  #: EPOCH_COMPLETED follows an epoch that is over
    exhausted: bool = False  #: the data has no more batches, even if it is iterated again
    restarted: bool = False  #: the data ended and was iterated again, but has not given a batch since
    resumed: bool = False  #: STARTED or EPOCH_STARTED is being fired again for a loaded run
    #: Epoch, iterations done, and number of the last event fired before the step of the iteration that is run again.
    again: tuple[int, int, int] | None = None
    failed_at: Any = None  #: the event reached last when the run raised
    done: int = 0  #: ``state.iteration`` when the step returned last; another number during an iteration
    iterator: Iterator[Any] = field(default_factory=lambda: iter(()))  #: gives the next batch
    _before: int = 0  # iterations before this epoch
    _epoch: int = 0
    _pass_began: int = 0  # iterations before the pass
    _in_pass: bool = False  # the next batch comes from the pass
    _to_skip: int = 0  # batches of the pass that were done in the loaded run
    _to_leave: bool = False  # these were all batches of the pass
    _began: float = 0.0
    _epoch_began: float = 0.0
    _stopped: float = 0.0

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
        """Begin the next epoch, at its loaded place or at its start."""
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
        """End this epoch and its pass over the data, with or without ``EPOCH_COMPLETED``."""
        self.epoch_is_over, self.completes = True, completes
        self.resume_pass(self.passes + 1, 0, False)
        self._in_pass = False

    def has_epoch_to_end(self, state: State) -> bool:
        """Whether the run was saved between the last batch of an epoch and ``EPOCH_COMPLETED``."""
        return not self.in_epoch and self.place > 0 and (self.left in CUTS or self.place == state.epoch_length)

    def leave(self) -> None:
        """Release the data at the end of the run."""
        self.iterator = iter(())

    def progress(self, state: State, is_cut: bool = False) -> tuple[int, int, int]:
        """Iterations done, epochs done, and the iterations done in the current epoch.

        An iteration is done when its step has returned or the epoch was cut, an epoch from ``EPOCH_COMPLETED`` on.
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
        """The number of the last event before the step fired for an iteration that is not done; 0 if there is none.

        ``event`` is the event reached last. Numbers are those of ``BEFORE_STEP``.
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

    def is_again(self, event: object, state: State) -> bool:
        """Whether the event was fired before the run was saved, for the iteration that is run again."""
        number = BEFORE_STEP.get(getattr(event, "name", ""), 0)
        if self.again is None or not number:
            return False
        epoch, iteration, before = self.again
        return number <= before and (state.epoch, state.iteration - (number == 5)) == (epoch - (number == 1), iteration)

    def progress_in_data(self, state: State, is_cut: bool = False) -> tuple[int, int]:
        """The number of the pass that gives the next batch, and how many of its batches are done."""
        if is_cut or not (self._to_skip or self._in_pass):
            return self.passes + 1, 0
        return self.passes, self._to_skip or self._iterations_done(state) - self._pass_began

    def _iterations_done(self, state: State) -> int:
        return state.iteration - (self.done != state.iteration)

    def begun_in_epoch(self, state: State) -> int:
        """Iterations begun in this epoch."""
        return state.iteration - self._before

    def iterate(self, data: Passes | None) -> None:
        """Take the next batch from a new pass, which begins when that batch is needed; None: batches are None."""
        self.iterator = itertools.repeat(None) if data is None else _NewPass(self, data)
        self.exhausted = self._in_pass = False

    def resume_pass(self, number: int, done: int, is_over: bool) -> None:
        """Begin with this pass, of which ``done`` batches, or all of them, were done before."""
        self.passes, self._to_skip = number if done else number - 1, done
        self._to_leave = done > 0 and is_over

    def leave_pass(self) -> bool:
        """Whether the run was saved at the end of its pass; if so, the next pass begins."""
        is_over, self._to_leave = self._to_leave, False
        if is_over:
            self._to_skip = 0
        return is_over

    def next_pass(self) -> tuple[int, int]:
        """Begin a pass; returns its number, and how many of its batches were done before the run was saved.

        The number is that of the epoch, unless the epoch has had a pass already.
        """
        done, self._to_skip = self._to_skip, 0
        if not done:
            self.passes = max(self._epoch, self.passes + 1)
        self._pass_began = self._before + self.place - 1 - done
        self._in_pass = True
        return self.passes, done

    def put_back(self, batch: Any) -> None:
        """Give this batch again before the others."""
        self.iterator = itertools.chain(iter([batch]), self.iterator)  # iter() releases the batch at its end

    def batches(self, state: State) -> Iterable[int]:
        """The numbers of the batches left in this epoch."""
        last = state.epoch_length
        if state.max_iters is not None:
            allowed = self.place + state.max_iters - state.iteration
            last = allowed if last is None else min(last, allowed)
        return itertools.count(self.place + 1) if last is None else range(self.place + 1, last + 1)


class _NewPass:
    """Begins a pass when its first batch is needed, then is replaced by the iterator of the pass."""

    def __init__(self, position: Position, data: Passes) -> None:
        self.position = weakref.ref(position)
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        position = self.position()
        assert position is not None
        if position.leave_pass():
            raise StopIteration  # as in the run that was saved: the data ended here
        number, done = position.next_pass()
        try:
            iterator = self.data.begin(number, done)
        except StopIteration as error:  # which would be handled as the end of the data
            name = type(self.data.data).__name__
            raise RuntimeError(f"iter() of the data, a {name}, raised StopIteration") from error
        position.iterator = iterator
        batch = next(iterator)
        position.restarted = False
        return batch


def has_state(data: Any) -> bool:
    """Whether data can save and load its own position without losing samples."""
    if not (hasattr(data, "state_dict") and hasattr(data, "load_state_dict")):
        return False
    if _has_shuffle_buffer(getattr(data, "_ex_iterable", None)):
        return False
    if type(data).__module__.partition(".")[0] == "torchdata":
        return True  # state_dict() would start its workers
    try:
        data.state_dict()
    except NotImplementedError:
        return False
    except AttributeError as error:
        return error.obj is None or error.obj is data  # else it forwards the call to an object without state
    except Exception:
        return True  # it has none before it is iterated
    return True


def _has_shuffle_buffer(examples: Any) -> bool:
    """Whether a stream of Hugging Face's ``datasets`` has a buffer, which its state leaves out: examples get lost."""
    if type(examples).__name__ == "BufferShuffledExamplesIterable":
        return True
    inner = (getattr(examples, "ex_iterable", None), *getattr(examples, "ex_iterables", ()))
    return any(_has_shuffle_buffer(one) for one in inner if one is not None)


def share_of(data: Any, rank: int, world_size: int) -> tuple[int, int]:
    """The shard of the samples that a loader gives, and the number of shards: of its sampler, else of the process.

    Ranks of a tensor-parallel group have the same shard.
    """
    for holder in (data, getattr(data, "batch_sampler", None)):
        sampler = getattr(holder, "sampler", None)
        share = getattr(sampler, "rank", None), getattr(sampler, "num_replicas", None)
        if isinstance(share[0], int) and isinstance(share[1], int):
            return share[0], share[1]
    return rank, world_size


def length_of(data: Iterable[Any]) -> int | None:
    """Number of batches; None if the data has no length."""
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:  # no __len__, or a DataLoader over an IterableDataset without
        return None

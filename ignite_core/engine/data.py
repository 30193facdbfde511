"""Where a run stands in its data: plain values and one live iterator, nothing suspended."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from ignite_core.engine.state import State

__all__ = ["Position", "length_of", "tell_epoch"]


class Position:
    """How far a run has come. It lives as long as the run, pauses included.

    Attributes:
        place: Number of the current batch in its epoch; 0 before the first.
        started: ``STARTED`` was fired.
        in_epoch: ``EPOCH_STARTED`` was fired, the epoch is not over.
        exhausted: The data ran out for good: it gives nothing when it is iterated anew.
        epoch_is_over: No batch of this epoch will follow, whatever its length.
        restarted: The data ran out and was asked again, but has not given a batch since.
        is_inexact: The epoch was resumed at its place, but the data starts from its own beginning: how many batches the
            data gives is not the length of this epoch.
        iterator: Where the next batch comes from.
    """

    __slots__ = (
        "__weakref__",
        "_before",
        "_began",
        "_epoch",
        "_epoch_began",
        "_pass",
        "_stopped",
        "epoch_is_over",
        "exhausted",
        "in_epoch",
        "is_inexact",
        "iterator",
        "place",
        "restarted",
        "started",
    )

    def __init__(self, place: int = 0) -> None:
        self.place = place
        self.started = False
        self.in_epoch = False
        self.epoch_is_over = False
        self.exhausted = False
        self.is_inexact = False
        self.restarted = False
        self.iterator: Iterator[Any] = iter(())
        self._before = 0  # iterations before this epoch
        self._epoch = self._pass = 0
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
        self.in_epoch = True
        self._epoch_began = time.perf_counter()

    def end_epoch(self) -> None:
        self.in_epoch = self.epoch_is_over = self.is_inexact = False
        self.place = 0

    def leave(self) -> None:
        """Let go of the data: the run is over."""
        self.iterator = iter(())

    def progress(self, state: State) -> tuple[int, int]:
        """Epochs done, and iterations begun in the one that is not."""
        if not self.in_epoch:
            return state.epoch, self.place
        begun = self.begun_in_epoch(state)
        if self.epoch_is_over or begun == state.epoch_length:
            return state.epoch, 0
        return state.epoch - 1, begun

    def begun_in_epoch(self, state: State) -> int:
        """Iterations begun in this epoch."""
        return state.iteration - self._before

    def iterate(self, data: Iterable[Any] | None) -> None:
        """Take the next batch from a new pass over the data, asked for only when that batch is needed."""
        self.iterator = itertools.repeat(None) if data is None else _NewPass(self, data)
        self.exhausted = False

    def next_pass(self) -> int:
        """The number of the pass over the data that begins: that of the epoch, unless it has had one already."""
        self._pass = max(self._epoch, self._pass + 1)
        return self._pass

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

    def __init__(self, position: Position, data: Iterable[Any]) -> None:
        self.position = weakref.ref(position)
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        position = self.position()
        assert position is not None
        tell_epoch(self.data, position.next_pass())
        try:
            iterator = iter(self.data)
        except StopIteration as error:  # it would be taken for the end of the data
            raise RuntimeError(f"iter() of the data, a {type(self.data).__name__}, raised StopIteration") from error
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


def tell_epoch(data: Any, number: int) -> None:
    """Call ``set_epoch`` of the sampler of a DataLoader, where it has one: samplers of several ranks shuffle by it."""
    for sampler in (getattr(data, "sampler", None), getattr(data, "batch_sampler", None)):
        for told in (sampler, getattr(sampler, "sampler", None)):
            set_epoch = getattr(told, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(number)


def length_of(data: Iterable[Any]) -> int | None:
    """Number of batches, if the data knows it."""
    try:
        return len(data)  # type: ignore[arg-type]
    except TypeError:  # no __len__, or that of a DataLoader over an IterableDataset that has none
        return None

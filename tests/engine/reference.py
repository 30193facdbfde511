"""A model of the engine in plain lines, written from its contract and not from its code.

It is slow and straightforward on purpose: a run is one suspended generator, every firing sorts all registrations and
asks each filter by its formula. ``test_reference_model`` runs random programs on it and on the engine.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ignite_core.engine import Events
from tests.engine.tracing import Own

EPOCH, INTERRUPT, RUN = 1, 2, 3

COUNTED_BY = {
    **dict.fromkeys(["GET_BATCH_STARTED", "GET_BATCH_COMPLETED"], "iteration"),
    **dict.fromkeys(["ITERATION_STARTED", "ITERATION_COMPLETED"], "iteration"),
    **dict.fromkeys(["STARTED", "EPOCH_STARTED", "EPOCH_COMPLETED", "COMPLETED"], "epoch"),
    "MOVED": "moved",
}

NO_MORE = object()

running: list[Model] = []


@dataclass(frozen=True)
class When:
    """A filter and a priority, as they are handed to an event."""

    every: int | None = None
    after: int | None = None
    before: int | None = None
    once: tuple[int, ...] | None = None
    condition: int | None = None  # holds where count % condition == 0
    priority: int | None = None

    @property
    def filter(self) -> tuple[Any, ...] | None:
        once = None if self.once is None else frozenset(self.once)
        fields = (None if self.every == 1 else self.every, self.after, self.before, once, self.condition)
        return None if fields == (None,) * 5 else fields

    def due(self, count: int, earlier: int | None = None) -> bool:
        """Whether a count is let through; a counter that jumps has come from an earlier one."""
        came = range(count if earlier is None else min(earlier + 1, count), count + 1)
        if self.once is not None:
            return any(k in came for k in self.once)
        if (self.after is not None and not count > self.after) or (self.before is not None and not count < self.before):
            return False
        return any(k % (self.every or 1) == 0 for k in came)


class TerminatedError(Exception):
    """The run is over; holds skip_completed."""


class EpochEndedError(Exception):
    """The epoch is over; holds skip_epoch_completed."""


@dataclass(eq=False)
class Registration:
    """A handler on an event."""

    owner: Model
    number: int
    event: Any
    when: When
    handler: Callable[..., Any]
    extra: int
    condition: Callable[[Any, int], bool] | None

    def remove(self) -> None:
        self.owner.registrations = [other for other in self.owner.registrations if other is not self]

    @property
    def is_alive(self) -> bool:
        return self in self.owner.registrations


@dataclass(eq=False)
class Model:
    """What an engine is, in the plainest words."""

    step: Callable[[Any, Any], Any]
    iteration: int = 0
    epoch: int = 0
    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None
    batch: Any = None
    output: Any = None
    moved: int = 0
    moved_at_last: int | None = 0  # when its event was fired last
    data: Any = None
    parent: Any = None
    last: Any = None
    registrations: list[Registration] = field(default_factory=list)
    numbers: int = 0
    counts: Counter[Any] = field(default_factory=Counter)
    request: int = 0
    skip: bool = False
    walk: Iterator[None] | None = None  # the suspended run
    is_running: bool = False
    iterator: Iterator[Any] | None = None  # None: the data is to be iterated anew when a batch is needed
    data_is_set: bool = False
    length_is_found: bool = False
    restarted: bool = False
    exhausted: bool = False  # the data has no more, even anew
    in_epoch: bool = False
    cannot_go_on: bool = False  # nothing of this epoch is left but its end
    before: int = 0  # iterations before this epoch
    place: int = 0  # number of the current batch in its epoch
    started: bool = False
    is_loaded: bool = False  # no run has begun since
    left: str | None = None  # of an epoch that was cut when it was saved
    skips: bool = False  # EPOCH_COMPLETED of the epoch that is over

    @property
    def state(self) -> Model:
        return self

    # ---- who listens

    def add(self, event: Any, when: When, handler: Callable[..., Any], extra: int, condition: Any) -> Registration:
        self.numbers += 1
        self.registrations.append(Registration(self, self.numbers, event, when, handler, extra, condition))
        return self.registrations[-1]

    def remove(self, handler: Callable[..., Any], event: Any, when: When, condition: Any) -> None:
        found = [r for r in self.registrations if r.handler == handler and r.event is event]
        found = [r for r in found if when.filter is None or r.when.filter == when.filter]
        if not found:
            raise ValueError("no such handler")
        self.registrations = [r for r in self.registrations if r not in found]

    def fire(self, event: Any, *extras: Any) -> bool:
        counter = COUNTED_BY.get(event.name)
        if counter is None:
            self.counts[event] += 1
        count = self.counts[event] if counter is None else getattr(self, counter)
        earlier = None
        if counter == "moved":
            earlier, self.moved_at_last = self.moved_at_last, count
        self.last = event
        suppressed, raised, newest = False, None, self.numbers
        queue = sorted(self.of(event), key=lambda r: (-(r.when.priority or 0), r.number))
        while queue:
            registration = queue.pop(0)
            if registration.is_alive and registration.when.due(count, earlier):
                try:
                    if registration.condition is None or registration.condition(self, count):
                        suppressed |= registration.handler(self, *extras, registration.extra) is True
                except BaseException as error:
                    if event is not Events.EXCEPTION_RAISED:
                        raise
                    if error is not extras[0] and raised is None:
                        raised = error
            if not queue:  # those added meanwhile
                queue = [r for r in self.of(event) if r.number > newest]
                newest = self.numbers
        if raised is not None:
            raise raised
        return suppressed

    def of(self, event: Any) -> list[Registration]:
        return [registration for registration in self.registrations if registration.event is event]

    # ---- requests

    def ask(self, request: int, skip: bool = False) -> None:
        if request >= self.request:
            self.request, self.skip = request, skip

    def set_data(self, data: Iterable[Any]) -> None:
        self.data, self.iterator, self.data_is_set = data, None, not self.is_running

    # ---- save and load

    def save(self) -> dict[str, Any]:
        iteration, left = self.iteration, self.left
        counts = {**self.counts, Own.MOVED: self.moved_at_last}
        if not self.in_epoch:
            epochs_done, place = self.epoch, self.place
        elif self.cannot_go_on and self.skips:
            epochs_done, place = self.epoch, 0
        elif left or self.cannot_go_on or self.request == EPOCH:
            epochs_done, place = self.epoch - 1, iteration - self.before
            asked = "skip_epoch_completed" if self.skip else "terminate_epoch"
            left = left or ("epoch_completed" if self.cannot_go_on else asked)
        else:
            iteration -= self.in_step
            epochs_done, place = self.epoch - 1, iteration - self.before
        return {
            "epochs_done": epochs_done,
            "epoch_iteration": place,
            "iteration": iteration,
            "left": left,
            "epoch_length": self.epoch_length,
            "max_epochs": self.max_epochs,
            "max_iters": self.max_iters,
            "event_counts": {f"{type(event).__name__}.{event.name}": n for event, n in counts.items() if (n or 0) > 0},
        }

    def load(self, saved: dict[str, Any]) -> None:
        self.walk, self.started, self.in_epoch, self.length_is_found = None, False, False, False
        self.epoch, self.place, self.iteration = saved["epochs_done"], saved["epoch_iteration"], saved["iteration"]
        self.left, self.is_loaded = saved["left"], True
        self.epoch_length, self.max_epochs, self.max_iters = (
            saved["epoch_length"],
            saved["max_epochs"],
            saved["max_iters"],
        )
        events = {f"{type(event).__name__}.{event.name}": event for event in (*Events, *Own)}
        self.counts = Counter({events[name]: n for name, n in saved["event_counts"].items()})
        self.moved_at_last = self.counts.pop(Own.MOVED, None)

    # ---- the run

    def run(
        self,
        data: Any = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> None:
        if self.is_running:
            raise RuntimeError("running already")
        if not self.set_up(data, max_epochs, max_iters, epoch_length):
            return
        assert self.walk is not None
        self.is_running, self.parent = True, running[-1] if running else None
        running.append(self)
        try:
            if next(self.walk, "over") == "over":
                self.walk = None
        except BaseException as error:
            self.walk = None
            if not self.fire(Events.EXCEPTION_RAISED, error) or isinstance(error, KeyboardInterrupt):
                raise
        finally:
            running.pop()
            self.is_running, self.parent = False, None

    def set_up(self, data: Any, max_epochs: int | None, max_iters: int | None, epoch_length: int | None) -> bool:
        data = self.data if data is None and self.data_is_set else data
        if max_epochs and max_iters:
            raise ValueError("two limits")
        dropped = self.max_epochs is None and self.max_iters is None
        paused = self.walk is not None and not dropped
        if (max_epochs and self.max_iters) or (max_iters and self.max_epochs):
            raise ValueError("another kind of limit")
        if not dropped and ((max_epochs or self.epoch) < self.epoch or (max_iters or self.iteration) < self.iteration):
            raise ValueError("below what is done")
        limits = max_epochs or self.max_epochs, max_iters or self.max_iters
        done = self.is_done(*limits)
        if self.is_loaded and not dropped and done and not self.has_epoch_to_end():
            return False  # what was loaded is over
        is_new = dropped or (not paused and done and not (self.is_loaded and self.has_epoch_to_end()))

        told = len(data) if isinstance(data, list) else None
        found = self.length_is_found
        if is_new:
            known = None if found and data is not None else self.epoch_length
            length = epoch_length or told or known or (max_iters if data is None else None)
            found = data is not None and epoch_length is None and length != known
        else:
            if epoch_length and (self.epoch_length or paused) and epoch_length != self.epoch_length:
                raise ValueError("another length")
            length = self.epoch_length or epoch_length
            if not paused:
                length = length or told or (limits[1] if data is None else None)
        if data is None and length is None and not paused:
            raise ValueError("neither data nor length")

        if is_new:
            self.epoch = self.iteration = self.place = 0
            self.left = None
            self.counts.clear()
            self.moved_at_last = None
            limits = max_epochs or (None if max_iters else 1), max_iters
        (self.max_epochs, self.max_iters), self.epoch_length, self.length_is_found = limits, length, found
        self.data_is_set = False
        if not paused:
            self.place, self.left = (0, None) if self.started else (self.place, self.left)
            if self.place > 0 and data is not None and self.place != length and self.left is None:
                warnings.warn("inside an epoch", stacklevel=1)
                self.place = 0
            self.data, self.iterator, self.restarted, self.in_epoch, self.request = data, None, False, False, 0
            self.started, self.is_loaded, self.walk = False, False, self.walking()
            self.look_at_counter()
        return True

    def look_at_counter(self) -> None:
        if self.moved_at_last is None or self.moved < self.moved_at_last:
            self.moved_at_last = self.moved

    def has_epoch_to_end(self) -> bool:
        return not self.in_epoch and self.place > 0 and (self.left is not None or self.place == self.epoch_length)

    def is_done(self, max_epochs: int | None, max_iters: int | None) -> bool:
        return self.epoch >= (max_epochs or 10**9) or self.iteration >= (max_iters or 10**9)

    def is_starved(self) -> bool:
        """Whether a run by iterations would go through epochs without a batch for ever."""
        return self.max_iters is not None and self.exhausted and self.iterator is not None

    def reach(self, event: Events, *extras: Any) -> Iterator[None]:
        """Fire an event of the loop and answer what is asked for; a pause stands exactly here."""
        self.fire(event, *extras)
        yield from self.answer(event)

    def answer(self, event: Events) -> Iterator[None]:
        paused = self.request == INTERRUPT
        if paused:
            self.request = 0
            self.fire(Events.INTERRUPT)
            self.request = 0 if self.request == INTERRUPT else self.request
            yield
            self.request = 0 if self.request == INTERRUPT else self.request
        fetching = (Events.GET_BATCH_STARTED, Events.DATALOADER_STOP_ITERATION, Events.GET_BATCH_COMPLETED)
        if paused and not self.request and event in fetching and self.iteration >= (self.max_iters or 10**9):
            raise TerminatedError(False)  # the run goes on to fewer iterations than before, and these are done
        if self.request == RUN:
            raise TerminatedError(self.skip)
        if self.request == EPOCH:
            self.request = 0
            if event in (Events.STARTED, Events.EPOCH_STARTED) and not paused:
                raise RuntimeError("no epoch to end")
            if event not in (Events.STARTED, Events.TERMINATE_SINGLE_EPOCH, Events.EPOCH_COMPLETED):
                raise EpochEndedError(self.skip)

    def walking(self) -> Iterator[None]:
        self.started = True
        try:
            self.fire(Events.STARTED)
            self.look_at_counter()
            yield from self.answer(Events.STARTED)
            while not self.is_starved() and (
                self.has_epoch_to_end() or not self.is_done(self.max_epochs, self.max_iters)
            ):
                yield from self.one_epoch()
        except TerminatedError as terminated:
            self.ask(RUN, terminated.args[0])
            self.fire(Events.TERMINATE)
            if terminated.args[0]:
                return
        self.fire(Events.COMPLETED)

    def one_epoch(self) -> Iterator[None]:
        self.epoch += 1
        self.before, self.in_epoch, self.cannot_go_on, skip = self.iteration - self.place, True, False, False
        self.in_step = False
        try:
            self.cannot_go_on = self.left == "epoch_completed"
            self.fire(Events.EPOCH_STARTED)
            self.look_at_counter()
            yield from self.answer(Events.EPOCH_STARTED)
            left, self.left = self.left, None
            if left in ("terminate_epoch", "skip_epoch_completed"):
                raise EpochEndedError(left == "skip_epoch_completed")
            while not self.cannot_go_on and (self.epoch_length is None or self.place < self.epoch_length):
                if self.max_iters is not None and self.iteration >= self.max_iters:
                    raise TerminatedError(False)
                self.place += 1
                yield from self.one_iteration()
        except EpochEndedError as ended:
            skip, self.cannot_go_on, self.iterator = ended.args[0], True, None
            self.skips = skip
            yield from self.reach(Events.TERMINATE_SINGLE_EPOCH, self.iteration - self.before)
        self.in_epoch, self.place, self.skips = False, 0, False
        if not skip:
            yield from self.reach(Events.EPOCH_COMPLETED)

    def one_iteration(self) -> Iterator[None]:
        if self.data is not None:
            yield from self.reach(Events.GET_BATCH_STARTED)
        self.batch = None
        if self.data is not None:
            yield from self.fetch()
            if self.cannot_go_on:
                return
        self.output = None
        if self.data is not None:
            yield from self.reach(Events.GET_BATCH_COMPLETED)
        self.iteration += 1
        self.in_step = True
        yield from self.reach(Events.ITERATION_STARTED)
        self.output = self.step(self, self.batch)
        self.in_step = False
        yield from self.reach(Events.ITERATION_COMPLETED)

    def fetch(self) -> Iterator[None]:
        if self.took_batch():
            return
        if self.epoch_length is None:
            if self.place == 1:
                raise ValueError("no data")
            self.epoch_length, self.length_is_found, self.cannot_go_on = self.place - 1, True, True
            return
        if not self.restarted:
            self.restarted = True
            yield from self.reach(Events.DATALOADER_STOP_ITERATION)
            self.iterator = None
            if self.took_batch():
                return
        warnings.warn("no more batches", stacklevel=1)
        self.cannot_go_on = self.exhausted = True

    def took_batch(self) -> bool:
        if self.iterator is None:
            self.iterator, self.exhausted = iter(self.data), False
        batch = next(self.iterator, NO_MORE)
        if batch is NO_MORE:
            return False
        self.batch, self.restarted = batch, False
        return True

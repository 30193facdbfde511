"""The handlers of one event, compiled so that firing the event costs nothing where no handler is due.

A channel keeps an open window of counts, ``lo < count < hi``, in which no handler is due: outside of handlers the loop
makes one chained comparison per event, for any number of handlers. Invariants:

- Handlers run by priority, the highest first, then in the order of registration.
- The ``call`` of a removed registration does nothing, so a firing in progress skips it. Lists over which a firing in
  progress iterates are replaced, never changed.
- Registrations with a numeric filter wait in a heap of their next due counts, one entry per distinct filter.
- Other threads may add and remove handlers while the event is fired: what is compiled from the registrations is read
  and written under one lock. A firing takes it only if a handler may be due or the registrations have changed.
- Nothing in this module refers to the engine, and no registration to its channel: there are no reference cycles.
"""

from __future__ import annotations

import heapq
import sys
import threading
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any, Final

from ignite_core.engine.describe import describe
from ignite_core.engine.events import BareEvent, Events, When
from ignite_core.engine.registration import FiringEngine, Registration, do_nothing
from ignite_core.engine.state import State

__all__ = ["EventChannel", "ForwardingChannel", "lock"]

NEVER: Final = sys.maxsize

#: One for all channels: it is held for microseconds, and a channel with its own lock could not be copied.
lock: Final = threading.RLock()

_rank = attrgetter("rank")


class _Group:
    """Registrations of one event with the same numeric filter, which wait for the count ``due``."""

    __slots__ = ("due", "registrations", "when")

    def __init__(self, when: When) -> None:
        self.when = when
        self.registrations: list[Registration] = []
        self.due = 0

    def __lt__(self, other: _Group) -> bool:
        return self.due < other.due

    def wait(self, count: int, jumps: bool) -> bool:
        """Set the next count, from ``count`` on, at which the group may be due; False if there is none."""
        due = self.when.next_crossing(count) if jumps else self.when.next_due(count)
        if due is None:
            return False
        self.due = due
        return True


class EventChannel:
    """The registrations of one event, and the window of counts in which none of them is due."""

    __slots__ = (
        "_always",
        "_asleep_above",
        "_asleep_below",
        "_awake_at",
        "_before",
        "_groups",
        "_has_conditions",
        "_newest",
        "_registrations",
        "_sleeping",
        "_stale",
        "counter",
        "event",
        "fired",
        "hi",
        "jumps",
        "lo",
        "muted",
    )

    def __init__(self, event: BareEvent, counter: str | None) -> None:
        self.event: Final = event
        self.counter: str | None = None  #: the attribute of the state that counts this event; None if ``fired`` does
        self.jumps = False  #: the counter may move by more than one
        #: How often the event was fired in this run, if nothing else counts it. With a counter that may jump: its value
        #: at the last firing, None if unknown.
        self.fired: Any = 0
        self.muted = False  #: skip the next firing, which was done before a pause
        self.lo, self.hi = -1, NEVER
        self._registrations: list[Registration] = []
        self._newest = -1  # number of the last registration
        self._stale = False
        self._has_conditions = False  # some registration has a filter function
        self._always: list[Registration] = []
        self._groups: list[_Group] = []
        self._sleeping: list[_Group] = []  # a heap
        self._awake_at = NEVER  # the count for which the heap is valid
        self._asleep_above, self._asleep_below = -1, NEVER
        self._before: int | None = None  # value of a counter that may jump, at the firing before this one
        if counter is not None:
            self.count_by(counter)

    def count_by(self, counter: str) -> None:
        """Count the event by an attribute of the state. That of a custom event may move by any number at a time."""
        self.counter, self.jumps = counter, not isinstance(self.event, Events)
        if self.jumps:
            self.fired = None

    def note_counter(self, value: Any) -> None:
        """Take over the value of a counter that was moved back."""
        if self.fired is None or value < self.fired:
            self.fired = int(value)
            self.renew()

    def __len__(self) -> int:
        return len(self._registrations)

    def __iter__(self) -> Iterator[Registration]:
        """The registrations in the order in which their handlers run."""
        return iter(sorted(self._registrations, key=_rank))

    def add(self, registration: Registration) -> None:
        with lock:
            self._registrations.append(registration)
            self._newest = registration.number
            self.renew()

    def remove(self, registration: Registration) -> None:
        with lock:
            self._registrations.remove(registration)
            registration.call = do_nothing
            self.renew()

    def mute(self) -> None:
        """Skip the next firing."""
        self.muted = True
        self.renew()

    def fire(self, engine: FiringEngine, count: int) -> None:
        """Run all handlers that are due at ``count``, then those that were added meanwhile."""
        newest, before = self._newest, self._before
        due: Iterable[Registration] = self._always
        engine.last_event_name = self.event
        if not self._asleep_above < count < self._asleep_below:  # read after the list, see renew
            due = self._wake(engine, count)
        registration = None
        try:
            for registration in due:
                call = registration.call
                call(engine)
            if self._newest != newest:
                for registration in self._added_since(engine, newest, count, before):
                    registration.call(engine)
        except BaseException as error:
            if registration is not None:
                engine._annotate(error, registration.culprit)
            raise

    def fire_with(self, engine: FiringEngine, count: int, extras: tuple[Any, ...], named: dict[str, Any]) -> None:
        """As :meth:`fire`, with the arguments of the event."""
        for registration in self.due(engine, count):
            try:
                registration.invoke(engine, extras, named)
            except BaseException as error:
                engine._annotate(error, registration.culprit)
                raise

    def fire_exception(self, engine: FiringEngine, count: int, error: BaseException) -> bool:
        """Run all handlers of EXCEPTION_RAISED, even if some raise; returns whether one of them suppresses ``error``.

        The first exception raised by a handler, other than ``error`` itself, is raised after all have run.
        """
        suppressed = False
        raised: BaseException | None = None
        for registration in self.due(engine, count):
            try:
                suppressed |= registration.invoke(engine, (error,), {}) is True
            except BaseException as other:
                if other is error:
                    continue
                if raised is None:
                    raised = other
                    engine._annotate(other, registration.culprit)
                else:
                    handler = describe(registration.handler)
                    raised.add_note(f"Another handler of {self.event!r}, {handler}, raised {other!r}")
        if raised is not None:
            raise raised
        return suppressed

    def count(self, state: State) -> int:
        """The count of an event that is fired now."""
        if self.counter is None:
            self.fired += 1
            return int(self.fired)
        count: int = getattr(state, self.counter)
        if self.jumps:
            self._before, self.fired = self.fired, int(count)
        return count

    def due(self, engine: FiringEngine, count: int) -> Iterator[Registration]:
        """The registrations due at ``count``, one by one, including those that are added meanwhile."""
        newest, before = self._newest, self._before
        due: Iterable[Registration] = self._always
        engine.last_event_name = self.event
        if not self._asleep_above < count < self._asleep_below:
            due = self._wake(engine, count)
        for registration in due:
            if not registration.removed:
                yield registration
        yield from self._added_since(engine, newest, count, before)

    def _added_since(self, engine: FiringEngine, number: int, count: int, before: int | None) -> Iterator[Registration]:
        """Registrations after ``number`` that are due at ``count``, including those that they add."""
        while self._newest > number:
            registration = next((other for other in list(self._registrations) if other.number > number), None)
            if registration is None:
                return
            number = registration.number
            if registration.when is None or registration.when.is_due(count, before):
                yield from self._agreeing(engine, [registration], count)

    def _agreeing(
        self, engine: FiringEngine, registrations: Iterable[Registration], count: int
    ) -> Iterator[Registration]:
        """Those whose filter function, called when it is their turn, accepts this firing."""
        for registration in registrations:
            if registration.condition is not None:
                try:
                    agrees = not registration.removed and registration.condition(engine, count)
                except BaseException as error:
                    engine._annotate(error, registration.culprit)
                    raise
                if not agrees:
                    continue
            yield registration

    def renew(self) -> None:
        """Compile again at the next firing; until then a handler may be due at every count."""
        with lock:
            self._stale = True
            self.lo = self._asleep_above = NEVER  # first: a firing in another thread takes the list before it reads it
            self._always, self._groups, self._sleeping = [], [], []  # a removed handler is released at once

    def _refresh(self) -> bool:
        """Compile the registrations into lists; False if this firing is to be skipped."""
        if self.muted:
            self.muted = False
            return False
        self._stale = False
        self._always = []
        groups: dict[When, _Group] = {}
        for registration in self:
            when = registration.when
            if when is None:
                self._always.append(registration)
            else:
                groups.setdefault(when, _Group(when)).registrations.append(registration)
        self._groups = list(groups.values())
        self._has_conditions = any(registration.condition is not None for registration in self._registrations)
        self._sleep(above=-1, below=NEVER if not groups else -1, awake_at=NEVER)
        return True

    def _wake(self, engine: FiringEngine, count: int) -> Iterable[Registration]:
        """The registrations due at ``count``, in order, where the window does not tell them."""
        with lock:
            if self._stale and not self._refresh():
                return ()
            due = self._awaken(count) if self._groups else None
            turns = sorted(self._always + due, key=_rank) if due else self._always
            return self._agreeing(engine, turns, count) if self._has_conditions else turns

    def _awaken(self, count: int) -> list[Registration]:
        """Take those with a numeric filter that are due at ``count`` from the heap; they wait for their next count.

        The heap is valid for one count and moves forward; where the count was moved back, it is built again.
        """
        jumps, before = self.jumps, self._before
        if count <= self._awake_at:
            first = count if before is None else min(count, before + 1)
            self._sleeping = [group for group in self._groups if group.wait(first, jumps)]
            heapq.heapify(self._sleeping)
        sleeping = self._sleeping
        due: list[Registration] = []
        while sleeping and sleeping[0].due <= count:
            group = sleeping[0]
            first = count + 1
            if jumps:
                if group.when.is_due(count, before):
                    due += group.registrations
            elif group.due == count:
                due += group.registrations
            else:
                first = count  # the count was moved over it
            if group.wait(first, jumps):
                heapq.heapreplace(sleeping, group)
            else:
                heapq.heappop(sleeping)
        self._sleep(above=count if due else count - 1, below=sleeping[0].due if sleeping else NEVER, awake_at=count)
        return due

    def _sleep(self, above: int, below: int, awake_at: int) -> None:
        self.lo, self.hi = (NEVER, NEVER) if self._always else (above, below)
        self._asleep_above, self._asleep_below = NEVER if self._has_conditions else above, below
        self._awake_at = awake_at


class ForwardingChannel(EventChannel):
    """Takes the place of a channel where the engine's ``_fire_event`` is overridden: every firing goes through that."""

    __slots__ = ()

    def __init__(self, channel: EventChannel) -> None:
        super().__init__(channel.event, channel.counter)
        self.lo = NEVER
        self.muted, channel.muted = channel.muted, False

    def fire(self, engine: FiringEngine, count: int) -> None:
        if self.muted:
            self.muted = False
        else:
            engine._fire_event(self.event)

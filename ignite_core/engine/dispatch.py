"""Who listens to what: registration, order, and firing that costs nothing where no handler is due.

One :class:`Channel` an event. It tells the loop an open window of counts, ``lo < count < hi``, in which no handler is
due, so that an event nobody waits for costs one chained comparison, whether 0 or 1000 handlers sleep on it. Invariants:

- Listeners stand in their order: higher priority first, then as they were registered.
- A removed listener's ``call`` does nothing, so a firing under way skips it; lists that a firing under way iterates
  are never changed, only replaced.
- Listeners with a numeric filter sleep in a heap of next-due counts, one entry for each different filter.
- Handlers may be added and removed by other threads while an event is fired: what is compiled from the listeners is
  read and written under one lock, which a firing takes only where a handler may be due or the listeners have changed.
- Nothing here refers back to the engine or from a listener to its channel: no reference cycles.
"""

from __future__ import annotations

import difflib
import heapq
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from ignite_core.engine.events import CallableEventWithFilter, EventEnum, Events, EventsList, Filter, When
from ignite_core.engine.registration import Listener, Wrap, nothing

if TYPE_CHECKING:
    from ignite_core.engine.emitter import Emitter
    from ignite_core.engine.state import State

__all__ = ["Channel", "Dispatch", "Relay", "RemovableEventHandle"]

NEVER: Final = sys.maxsize

#: Of all channels, as it is held for microseconds; a channel with a lock of its own could not be copied.
_lock: Final = threading.RLock()


class _Group:
    """Listeners of one event that share the numeric part of their filter, asleep until the count ``due``."""

    __slots__ = ("due", "listeners", "when")

    def __init__(self, when: When) -> None:
        self.when = when
        self.listeners: list[Listener] = []
        self.due = 0

    def __lt__(self, other: _Group) -> bool:
        return self.due < other.due


class Channel:
    """The listeners of one event, and the window of counts in which none of them is due."""

    __slots__ = (
        "_always",
        "_asks",
        "_asleep_above",
        "_asleep_below",
        "_awake_at",
        "_before",
        "_groups",
        "_listeners",
        "_newest",
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

    def __init__(self, event: Any, counter: str | None) -> None:
        self.event: Final = event
        self.counter: str | None = None  #: the attribute of the state that counts this event; None if ``fired`` does
        self.jumps = False  #: it may move by more than one
        #: How often it was fired in this run, if nothing else counts it. Of a counter that may jump: the count at the
        #: last firing; None if that is not known.
        self.fired: Any = 0
        self.muted = False  #: pass over the next firing, which was done before a pause
        self.lo, self.hi = -1, NEVER
        self._listeners: list[Listener] = []
        self._newest = -1  # number of the listener that came last
        self._stale = False
        self._asks = False  # somebody has a filter function of his own
        self._always: list[Listener] = []
        self._groups: list[_Group] = []
        self._sleeping: list[_Group] = []  # a heap
        self._awake_at = NEVER  # the count for which the heap stands
        self._asleep_above, self._asleep_below = -1, NEVER
        self._before: int | None = None  # of a counter that may jump: the count at the firing before this one
        if counter is not None:
            self.count_by(counter)

    def count_by(self, counter: str) -> None:
        """Count the event by an attribute of the state; of a custom event that may move by any number at a time."""
        self.counter, self.jumps = counter, not isinstance(self.event, Events)
        if self.jumps:
            self.fired = None

    def move_to(self, count: Any) -> None:
        """The event is fired, and its counter has come here."""
        self._before, self.fired = self.fired, int(count)

    def note_counter(self, value: Any) -> None:
        """The counter may have been moved back, to begin again from there."""
        if self.fired is None or value < self.fired:
            self.fired = int(value)
            self._renew()

    @property
    def newest(self) -> int:
        """Number of the listener that was added last; it grows with each."""
        return self._newest

    def __len__(self) -> int:
        return len(self._listeners)

    def __iter__(self) -> Iterator[Listener]:
        """The listeners in the order in which they would run."""
        return iter(sorted(self._listeners, key=_rank))

    def add(self, listener: Listener) -> None:
        with _lock:
            self._listeners.append(listener)
            self._newest = listener.number
            self._renew()

    def remove(self, listener: Listener) -> None:
        with _lock:
            self._listeners.remove(listener)
            listener.call = nothing
            self._renew()

    def mute(self) -> None:
        """Let the next firing pass unheard."""
        self.muted = True
        self._renew()

    def fire(self, engine: Emitter, count: int) -> None:
        """Run all listeners that are due at ``count``, then those that were added meanwhile."""
        newest, before = self._newest, self._before
        due: Iterable[Listener] = self._always
        engine.last_event_name = self.event
        if not self._asleep_above < count < self._asleep_below:  # looked at after the list, see _renew
            due = self._wake(engine, count)
        listener = None
        try:
            for listener in due:
                call = listener.call
                call(engine)
            if self._newest != newest:
                for listener in self._added_since(engine, newest, count, before):
                    listener.call(engine)
        except BaseException as error:
            if listener is not None:
                engine._blame(error, listener)
            raise

    def fire_with(self, engine: Emitter, count: int, extras: tuple[Any, ...], named: dict[str, Any]) -> None:
        """As :meth:`fire`, with what the event hands to each handler."""
        for listener in self.listening(engine, count):
            try:
                listener.invoke(engine, extras, named)
            except BaseException as error:
                engine._blame(error, listener)
                raise

    def listening(self, engine: Emitter, count: int) -> Iterator[Listener]:
        """Those whose turn it is at ``count``, one by one, those that are added meanwhile included."""
        newest, before = self._newest, self._before
        due: Iterable[Listener] = self._always
        engine.last_event_name = self.event
        if not self._asleep_above < count < self._asleep_below:
            due = self._wake(engine, count)
        for listener in due:
            if not listener.removed:
                yield listener
        yield from self._added_since(engine, newest, count, before)

    def _added_since(self, engine: Emitter, number: int, count: int, before: int | None) -> Iterator[Listener]:
        """Listeners younger than ``number`` that are due at ``count``, the ones they add included."""
        while self._newest > number:
            listener = next((other for other in list(self._listeners) if other.number > number), None)
            if listener is None:
                return
            number = listener.number
            if listener.when is None or listener.when.is_due(count, before):
                yield from self._agreeing(engine, [listener], count)

    def _agreeing(self, engine: Emitter, listeners: Iterable[Listener], count: int) -> Iterator[Listener]:
        """Those whose own filter function, asked when it is their turn, lets this firing through."""
        for listener in listeners:
            if listener.condition is not None:
                try:
                    agrees = not listener.removed and listener.condition(engine, count)
                except BaseException as error:
                    engine._blame(error, listener)
                    raise
                if not agrees:
                    continue
            yield listener

    def _renew(self) -> None:
        """Compile anew at the next firing; until then every count is one at which somebody may be due."""
        with _lock:
            self._stale = True
            self.lo = self._asleep_above = (
                NEVER  # first: a firing in another thread takes the list before it looks here
            )
            self._always, self._groups, self._sleeping = [], [], []  # a removed handler is let go at once

    def _refresh(self) -> bool:
        """Compile the listeners into lists; False if this firing is to pass unheard."""
        if self.muted:
            self.muted = False
            return False
        self._stale = False
        self._always = []
        groups: dict[When, _Group] = {}
        for listener in self:
            when = listener.when
            if when is None:
                self._always.append(listener)
            else:
                groups.setdefault(when, _Group(when)).listeners.append(listener)
        self._groups = list(groups.values())
        self._asks = any(listener.condition is not None for listener in self._listeners)
        self._sleep(above=-1, below=NEVER if not groups else -1, awake_at=NEVER)
        return True

    def _wake(self, engine: Emitter, count: int) -> Iterable[Listener]:
        """The listeners due at ``count``, in order, where that cannot be told by the window."""
        with _lock:
            if self._stale and not self._refresh():
                return ()
            due = self._awaken(count) if self._groups else None
            turns = sorted(self._always + due, key=_rank) if due else self._always
            return self._agreeing(engine, turns, count) if self._asks else turns

    def _awaken(self, count: int) -> list[Listener]:
        """Those with a numeric filter that are due at ``count``; they fall asleep until they are due next.

        The heap stands for one count and moves forward; where the count was moved back, it is built anew.
        """
        jumps, before = self.jumps, self._before
        if count <= self._awake_at:
            first = count if before is None else min(count, before + 1)
            self._sleeping = [group for group in self._groups if _doze(group, first, jumps)]
            heapq.heapify(self._sleeping)
        sleeping = self._sleeping
        due: list[Listener] = []
        while sleeping and sleeping[0].due <= count:
            group = sleeping[0]
            first = count + 1
            if jumps:
                if group.when.is_due(count, before):
                    due += group.listeners
            elif group.due == count:
                due += group.listeners
            else:
                first = count  # the count was moved over it
            if _doze(group, first, jumps):
                heapq.heapreplace(sleeping, group)
            else:
                heapq.heappop(sleeping)
        self._sleep(above=count if due else count - 1, below=sleeping[0].due if sleeping else NEVER, awake_at=count)
        return due

    def _sleep(self, above: int, below: int, awake_at: int) -> None:
        self.lo, self.hi = (NEVER, NEVER) if self._always else (above, below)
        self._asleep_above, self._asleep_below, self._awake_at = NEVER if self._asks else above, below, awake_at


def _doze(group: _Group, count: int, jumps: bool) -> bool:
    """Set the next count, from ``count`` on, at which the group may be due; False if there is none."""
    due = group.when.next_crossing(count) if jumps else group.when.next_due(count)
    if due is None:
        return False
    group.due = due
    return True


class RemovableEventHandle:
    """Removes exactly the registrations it was made for; also a context manager that does so at its end.

    It keeps neither the engine nor the handler alive, and removing twice does no harm.

    Example:
        >>> from ignite_core.engine import Engine, Events
        >>> engine = Engine(lambda engine, batch: batch)
        >>> with engine.add_event_handler(Events.STARTED, lambda: print("hello")):
        ...     _ = engine.run([1])
        hello
        >>> _ = engine.run([1])
    """

    def __init__(self, event_name: Any, listeners: list[Listener], engine: Emitter) -> None:
        self.event_name = event_name
        self._listeners = [weakref.ref(listener) for listener in listeners]
        self._engine = weakref.ref(engine)

    def remove(self) -> None:
        """Remove the handler from the events it was registered on."""
        engine = self._engine()
        if engine is not None:
            engine._dispatch.remove([listener for ref in self._listeners if (listener := ref()) is not None])

    def __enter__(self) -> RemovableEventHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Relay(Channel):
    """Stands in for a channel where the engine's class has its own ``_fire_event``: everything goes through that."""

    __slots__ = ()

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel.event, channel.counter)
        self.lo = NEVER
        self.muted, channel.muted = channel.muted, False

    def fire(self, engine: Emitter, count: int) -> None:
        """Hand the event to the engine's own ``_fire_event``."""
        if self.muted:
            self.muted = False
        else:
            engine._fire_event(self.event)


class Dispatch:
    """All channels of one engine."""

    __slots__ = ("_channels", "_listening", "_numbers", "_restored", "_wraps")

    def __init__(self) -> None:
        self._channels: dict[Any, Channel] = {}
        self._numbers = 0
        self._listening: dict[type, int] = {}  # listeners on all events of one enum
        self._restored: dict[str, int] = {}  # counts of events that are not registered yet
        self._wraps: tuple[Wrap, ...] = ()  # who watches the calls of all handlers

    def register(self, event: Any, counter: str | None) -> None:
        """Allow an event. Registering it again may only name its counter."""
        channel = self._channels.get(event)
        if channel is None:
            channel = self._channels[event] = Channel(event, counter)
            channel.fired = self._restored.pop(_key(event), channel.fired)
        elif counter is not None:
            channel.count_by(counter)

    def __contains__(self, event: Any) -> bool:
        return isinstance(event, str | CallableEventWithFilter) and event in self._channels

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._channels.values()))

    def channel(self, event: Any) -> Channel:
        """The channel of an event, filtered or not.

        Raises:
            ValueError: If the event was not registered, and does not register itself.
        """
        if not isinstance(event, str | CallableEventWithFilter):
            raise TypeError(f"an event must come from an EventEnum or be a str, got {event!r}")
        channel = self._channels.get(event)
        if channel is None:
            if isinstance(event, str) or not event.bare.registers_itself:
                raise ValueError(_unknown_event(event, self._channels))
            self.register(event.bare, None)
            channel = self._channels[event]
        return channel

    def add(
        self, engine: Emitter, event: Any, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Listener]:
        """Register a handler on an event or a list of events: on all of them, or on none if one is wrong."""
        if not callable(handler):
            raise TypeError(f"a handler must be callable, got {handler!r} of type {type(handler).__name__}")
        events = event if isinstance(event, EventsList) else (event,)
        added = [(self.channel(one), Listener(engine, one, 0, handler, args, kwargs)) for one in events]
        with _lock:
            for channel, listener in added:
                self._numbers += 1
                listener.take_number(self._numbers)
                if self._wraps:
                    listener.wrap(self._wraps)
                channel.add(listener)
                self._count_listeners(channel, +1)
        return [listener for _, listener in added]

    def find(self, handler: Callable[..., Any], event: Any = None) -> list[Listener]:
        """The registrations of a handler, on one event (with that filter, if it has one) or on all of them."""
        if event is None:
            channels = list(self)
        elif isinstance(event, EventsList):
            return [listener for one in event for listener in self.find(handler, one)]
        else:
            channels = [self.channel(event)]
        wanted: Filter | None = getattr(event, "filter", None)
        return [
            listener
            for channel in channels
            for listener in channel
            if listener.handler == handler and (wanted is None or listener.filter == wanted)
        ]

    def remove(self, listeners: list[Listener]) -> None:
        """Remove registrations; those that are gone already do not matter."""
        with _lock:
            for listener in listeners:
                if not listener.removed:
                    channel = self.channel(listener.event)
                    channel.remove(listener)
                    self._count_listeners(channel, -1)

    def watch(self, wrap: Wrap) -> None:
        """Let somebody stand around each call of each handler, those to come included; nobody pays for it otherwise."""
        self._rewrap((*self._wraps, wrap))

    def unwatch(self, wrap: Wrap) -> None:
        """Undo :meth:`watch`."""
        self._rewrap(tuple(one for one in self._wraps if one != wrap))

    def _rewrap(self, wraps: tuple[Wrap, ...]) -> None:
        self._wraps = wraps
        for channel in self:
            for listener in channel:
                listener.wrap(wraps)

    def listens_to(self, events: type[EventEnum]) -> bool:
        """Whether any handler is registered on any event of an enum."""
        return self._listening.get(events, 0) > 0

    @property
    def counts(self) -> dict[str, int]:
        """How often the events were fired that nothing but their firing counts; only those that were.

        Of those that an attribute of the user counts, its value at the last firing, as far as it is known. Events that
        register themselves are left out: they are not the user's, and what they tell of may be the very save.
        """
        own = [channel for channel in self if (channel.fired or 0) > 0 and (channel.counter is None or channel.jumps)]
        counted = {_key(channel.event): channel.fired for channel in own if not _registers_itself(channel.event)}
        return {**self._restored, **counted}

    @counts.setter
    def counts(self, counts: dict[str, int]) -> None:
        self._restored = dict(counts)
        for channel in self:
            channel.fired = self._restored.pop(_key(channel.event), None if channel.jumps else 0)
            if channel.jumps:
                channel._renew()

    def note_counters(self, state: State) -> None:
        """Look where the counters that may jump are, so that they are crossed from there."""
        for channel in self:
            value = getattr(state, channel.counter or "", None) if channel.jumps else None
            if value is not None:
                channel.note_counter(value)

    def _count_listeners(self, channel: Channel, change: int) -> None:
        kind = type(channel.event)
        self._listening[kind] = self._listening.get(kind, 0) + change


_rank = attrgetter("rank")


def _registers_itself(event: Any) -> bool:
    return isinstance(event, EventEnum) and event.registers_itself


def _key(event: Any) -> str:
    """The name under which the count of an event is saved; two enums may have members of one name."""
    return event if isinstance(event, str) else f"{type(event.bare).__name__}.{event.name}"


def _unknown_event(event: Any, known: dict[Any, Channel]) -> str:
    names = {_name(other): other for other in known}
    near = difflib.get_close_matches(_name(event).upper(), names, n=3, cutoff=0.5)
    near += [name for name in difflib.get_close_matches(_name(event), names, n=3) if name not in near]
    hint = f"did you mean {', '.join(repr(names[name]) for name in near)}? " if near else ""
    bare = event if isinstance(event, str) else event.bare
    return (
        f"unknown event {bare!r}; {hint}An event of your own must be registered first: engine.register_events({bare!r})"
    )


def _name(event: Any) -> str:
    return event if isinstance(event, str) else str(event.name)

"""The events of an engine, and the handlers registered on them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ignite_core.engine.channel import EventChannel, lock
from ignite_core.engine.describe import LOOP_EVENTS
from ignite_core.engine.events import (
    BareEvent,
    CallableEventWithFilter,
    EventEnum,
    EventName,
    Events,
    EventsList,
    SingleEvent,
)
from ignite_core.engine.registration import Registration, RemovableEventHandle, RemovableHandle, Wrap, weak_call
from ignite_core.engine.state import State

__all__ = ["Dispatch"]


class _Instrument:
    """A wrap around each call of each handler, and for which handlers it ignores numeric filters."""

    def __init__(self, wrap: Wrap, opens_filter: Callable[[Registration], bool] | None) -> None:
        self.wrap = wrap
        self.opens_filter = opens_filter

    def opens(self, registration: Registration) -> bool:
        return self.opens_filter is not None and self.opens_filter(registration)


class Dispatch:
    """All channels of one engine."""

    __slots__ = ("__weakref__", "_channels", "_counts_by_enum", "_instruments", "_numbers", "_restored")

    def __init__(self) -> None:
        self._channels: dict[SingleEvent, EventChannel] = {}
        self._numbers = 0
        self._counts_by_enum: dict[type, int] = {}  # registrations on all events of one enum
        self._restored: dict[str, int] = {}  # counts of events that are not registered yet
        self._instruments: tuple[_Instrument, ...] = ()

    def register_events(self, events: Iterable[BareEvent], counters: Mapping[Any, str | None], state: State) -> None:
        """See :meth:`Engine.register_events <ignite_core.engine.Engine.register_events>`."""
        if not isinstance(counters, Mapping):
            raise TypeError(f"register_events: event_to_attr must be a mapping, got {type(counters).__name__}")
        for event in events:
            if not isinstance(event, str | EventEnum):
                raise TypeError(f"register_events: an event must be a str or a member of an EventEnum, got {event!r}")
        for event in events:
            counter = counters.get(event)
            self.register(event, counter)
            if counter is not None and not isinstance(event, Events):
                state.event_to_attr = {**state.event_to_attr, event: counter}
                if not hasattr(state, counter):
                    setattr(state, counter, 0)
                self.note_counters(state)

    def register(self, event: BareEvent, counter: str | None) -> None:
        """Allow an event. Registering it again may only name its counter."""
        channel = self._channels.get(event)
        if channel is None:
            channel = self._channels[event] = EventChannel(event, counter)
            channel.fired = self._restored.pop(_key(event), channel.fired)
        elif counter is not None:
            channel.count_by(counter)

    def __contains__(self, event: object) -> bool:
        return isinstance(event, str | CallableEventWithFilter) and event in self._channels

    def __iter__(self) -> Iterator[EventChannel]:
        return iter(list(self._channels.values()))

    def registrations(self, event: EventName | None = None) -> list[Registration]:
        """What is registered on some events or all: in the order of the loop, then custom events as registered."""
        if event is None:
            custom = [channel for channel in self if not isinstance(channel.event, Events)]
            channels = [*(self._channels[one] for one in LOOP_EVENTS), *custom]
        else:
            channels = [self.channel(one) for one in _each(event)]
        return [registration for channel in channels for registration in channel]

    def channel(self, event: SingleEvent) -> EventChannel:
        """The channel of an event, filtered or not.

        Raises:
            ValueError: If the event was not registered, and does not register itself.
        """
        try:
            return self._channels[event]  # checked only if it is not found: this is called for each event fired
        except (KeyError, TypeError):
            pass
        if not isinstance(event, str | CallableEventWithFilter):
            raise TypeError(f"an event must come from an EventEnum or be a str, got {event!r}")
        if isinstance(event, str) or not event.bare.registers_itself:
            raise ValueError(_unknown_event(event, self._channels))
        self.register(event.bare, None)
        return self._channels[event.bare]

    def add(
        self,
        engine: object,
        event: EventName,
        handler: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> RemovableEventHandle:
        """Register a handler on one or several events: on all of them, or on none if one is wrong."""
        if not callable(handler):
            raise TypeError(f"a handler must be callable, got {handler!r} of type {type(handler).__name__}")
        added = [(self.channel(one), Registration(engine, one, 0, handler, args, kwargs)) for one in _each(event)]
        with lock:
            for channel, registration in added:
                self._numbers += 1
                registration.take_number(self._numbers)
                if self._instruments:
                    self._instrument(registration)
                channel.add(registration)
                self._count(channel, +1)
        return RemovableEventHandle(event, weak_call(self.remove, [registration for _, registration in added]))

    def find(
        self, handler: Callable[..., Any], event: EventName | None = None, *, unknown_is_error: bool = True
    ) -> list[Registration]:
        """The registrations of a handler, on one event (with that filter, if it has one) or on all of them."""
        if event is None:
            return [registration for registration in self.registrations() if registration.handler == handler]
        return [
            registration
            for one in _each(event)
            if unknown_is_error or one in self
            for registration in self.channel(one)
            if registration.handler == handler and _fits(registration, one)
        ]

    def remove(self, registration: Registration) -> None:
        """Remove a registration; idempotent."""
        with lock:
            if not registration.removed:
                channel = self.channel(registration.event)
                channel.remove(registration)
                self._count(channel, -1)

    def instrument(self, wrap: Wrap, opens_filter: Callable[[Registration], bool] | None) -> RemovableHandle:
        """See :meth:`Engine.instrument <ignite_core.engine.Engine.instrument>`."""
        instrument = _Instrument(wrap, opens_filter)
        self._reinstrument((*self._instruments, instrument))
        return RemovableHandle(weak_call(self._remove_instrument, [instrument]))

    def _remove_instrument(self, instrument: _Instrument) -> None:
        self._reinstrument(tuple(one for one in self._instruments if one is not instrument))

    def _reinstrument(self, instruments: tuple[_Instrument, ...]) -> None:
        with lock:
            self._instruments = instruments
            for channel in self:
                for registration in channel:
                    self._instrument(registration)
                channel.renew()

    def _instrument(self, registration: Registration) -> None:
        wraps = tuple(one.wrap for one in self._instruments)
        registration.instrument(wraps, any(one.opens(registration) for one in self._instruments))

    def listens_to(self, events: type[EventEnum]) -> bool:
        """Whether any handler is registered on any event of an enum."""
        return self._counts_by_enum.get(events, 0) > 0

    @property
    def counts(self) -> dict[str, int]:
        """How often each event was fired that only its firings count, if it was; else its counter at the last firing.

        Events that register themselves are left out: they belong to handlers, and may report the very save.
        """
        counted = [channel for channel in self if channel.counter is None or channel.jumps]
        own = [channel for channel in counted if (channel.fired or 0) > 0 and not _registers_itself(channel.event)]
        return {**self._restored, **{_key(channel.event): channel.fired for channel in own}}

    @counts.setter
    def counts(self, counts: dict[str, int]) -> None:
        self._restored = dict(counts)
        for channel in self:
            channel.fired = self._restored.pop(_key(channel.event), None if channel.jumps else 0)
            if channel.jumps:
                channel.renew()

    def saved(self) -> Callable[[], None]:
        """A function that restores the counts of all events, and which of them are muted."""
        saved = {channel.event: (channel.fired, channel.muted) for channel in self}
        counts = self.counts

        def restore() -> None:
            self.counts = counts
            for channel in self:
                if channel.event in saved:
                    channel.fired, channel.muted = saved[channel.event]
                    channel.renew()

        return restore

    def note_counters(self, state: State) -> None:
        """Read the counters that may jump, so that they are crossed from their present values."""
        for channel in self:
            value = getattr(state, channel.counter or "", None) if channel.jumps else None
            if value is not None:
                channel.note_counter(value)

    def _count(self, channel: EventChannel, change: int) -> None:
        kind = type(channel.event)
        self._counts_by_enum[kind] = self._counts_by_enum.get(kind, 0) + change


def _each(event: EventName) -> Iterable[SingleEvent]:
    return event if isinstance(event, EventsList) else (event,)


def _fits(registration: Registration, event: SingleEvent) -> bool:
    """Whether a registration has the filter of an event; a bare event fits all."""
    wanted = getattr(event, "filter", None)
    return wanted is None or getattr(registration.event, "filter", None) == wanted


def _registers_itself(event: BareEvent) -> bool:
    return isinstance(event, EventEnum) and event.registers_itself


def _key(event: BareEvent) -> str:
    """The name under which the count of an event is saved; two enums may have members of one name."""
    return event if isinstance(event, str) else f"{type(event).__name__}.{event.name}"


def _unknown_event(event: SingleEvent, known: Iterable[SingleEvent]) -> str:
    names = {_name(other): other for other in known}
    near = difflib.get_close_matches(_name(event).upper(), names, n=3, cutoff=0.5)
    near += [name for name in difflib.get_close_matches(_name(event), names, n=3) if name not in near]
    hint = f"did you mean {', '.join(repr(names[name]) for name in near)}? " if near else ""
    bare = event if isinstance(event, str) else event.bare
    return f"unknown event {bare!r}; {hint}A custom event must be registered first: engine.register_events({bare!r})"


def _name(event: SingleEvent) -> str:
    return event if isinstance(event, str) else event.name

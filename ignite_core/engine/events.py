"""Events as values: a named point of a run, a filter of its occurrences, and a priority.

A filter is called with the *count* of an event:

========================================  ===================================================================
event                                     count
========================================  ===================================================================
``ITERATION_STARTED/COMPLETED``           ``state.iteration``, the first is 1
``GET_BATCH_STARTED/COMPLETED``           ``state.iteration`` too, so batch ``k`` is fetched at count ``k - 1``
``EPOCH_STARTED/COMPLETED``               ``state.epoch``, the first is 1
``STARTED``, ``COMPLETED``                ``state.epoch``: 0 at the start of a new run
every other event, including custom ones  how often it was fired on this engine, the first is 1
========================================  ===================================================================

A custom event registered with ``event_to_attr`` is counted by that attribute of the state, which the user moves.

Such a counter (of tokens or samples) may move by more than one between two firings. ``every=n`` and ``once=k`` are then
due where it *crosses* one of their counts: ``every=n`` if ``count // n`` has grown since the last firing, ``once=k`` if
``k`` was not reached then and is now. A handler is called once, however many counts are crossed. ``after`` and
``before`` compare the present count, ``after < count < before``, and an ``event_filter`` gets it, too. If the counter
has not moved, or was moved back, a filter is due only at exactly its counts.
"""

from __future__ import annotations

import numbers
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

__all__ = [
    "BareEvent",
    "CallableEventWithFilter",
    "EventEnum",
    "EventName",
    "Events",
    "EventsList",
    "Filter",
    "SingleEvent",
    "When",
]


@dataclass(frozen=True, slots=True)
class When:
    """The numeric part of a filter: the counts at which a handler is due.

    Args:
        every: The period; due where ``count % every == 0``.
        after: Due only where ``count > after``.
        before: Due only where ``count < before``.
        once: The counts at which it is due, sorted; excludes the other three.

    Example:
        >>> when = When(every=5, after=8)
        >>> [count for count in range(25) if when.next_due(count) == count]
        [10, 15, 20]
    """

    every: int = 1
    after: int | None = None
    before: int | None = None
    once: tuple[int, ...] = ()

    def next_due(self, count: int) -> int | None:
        """The first due count from ``count`` on; None if there is none."""
        if self.once:
            place = bisect_left(self.once, count)
            return self.once[place] if place < len(self.once) else None
        first = count if self.after is None else max(count, self.after + 1)
        due = -(-first // self.every) * self.every
        return due if self.before is None or due < self.before else None

    def next_crossing(self, count: int) -> int | None:
        """The first count from ``count`` on at which a counter that jumps may have crossed a due count."""
        if self.once:
            return self.next_due(count)
        due = -(-count // self.every) * self.every
        due = due if self.after is None else max(due, self.after + 1)
        return due if self.before is None or due < self.before else None

    def is_due(self, count: int, before: int | None = None) -> bool:
        """Whether a count is due.

        Args:
            count: The count.
            before: The count at the previous firing, of a counter that may jump; None: only ``count`` itself matters.

        Example:
            >>> When(every=1000).is_due(1200, before=900), When(every=1000).is_due(1500, before=1200)
            (True, False)
        """
        if self.next_due(count) == count:
            return True
        if before is None or before >= count:
            return False
        if self.once:
            return bisect_right(self.once, before) < bisect_right(self.once, count)
        if (self.after is not None and count <= self.after) or (self.before is not None and count >= self.before):
            return False
        return count // self.every > before // self.every

    def __str__(self) -> str:
        if self.once:
            return f"once={self.once[0] if len(self.once) == 1 else list(self.once)}"
        parts = {"every": None if self.every == 1 else self.every, "after": self.after, "before": self.before}
        return ", ".join(f"{name}={value}" for name, value in parts.items() if value is not None)


@dataclass(frozen=True, slots=True)
class Filter:
    """At which occurrences of an event a handler is called: a numeric part, and a function of engine and count."""

    when: When | None = None
    condition: Callable[[Any, int], Any] | None = None

    def __call__(self, engine: Any, count: int) -> bool:
        if self.when is not None and not self.when.is_due(count):
            return False
        return self.condition is None or bool(self.condition(engine, count))

    def __str__(self) -> str:
        parts = [] if self.when is None else [str(self.when)]
        if self.condition is not None:
            parts.append(f"event_filter={getattr(self.condition, '__name__', repr(self.condition))}")
        return ", ".join(parts)


class CallableEventWithFilter:
    """An event, bare or with a filter and a priority. It is immutable; calling it returns a new event.

    A bare event is a member of an :class:`EventEnum`. Two events are equal if they are of the same member and their
    filters are equal; a bare event equals any filter of it, and the string of its name. The priority is ignored. Equal
    events have the same hash, that of the name.

    Example:
        >>> Events.EPOCH_COMPLETED(every=3)
        Events.EPOCH_COMPLETED(every=3)
        >>> Events.EPOCH_COMPLETED(every=3) == Events.EPOCH_COMPLETED, Events.EPOCH_COMPLETED == "EPOCH_COMPLETED"
        (True, True)
        >>> Events.EPOCH_COMPLETED(every=3) == Events.EPOCH_COMPLETED(every=4)
        False
    """

    _name_: str
    _value_: Any
    _bare: EventEnum | None = None
    _filter: Filter | None = None
    _priority: int | None = None

    def __init__(self, bare: EventEnum, event_filter: Filter | None, priority: int | None) -> None:
        self._bare = bare
        self._filter = event_filter
        self._priority = priority
        self._name_ = bare._name_
        self._value_ = bare._value_

    @property
    def name(self) -> str:
        """The name of the event, filtered or not."""
        return self._name_

    @property
    def value(self) -> Any:
        """The value of the enum member."""
        return self._value_

    @property
    def bare(self) -> EventEnum:
        """The event without filter and priority."""
        assert self._bare is not None
        return self._bare

    @property
    def filter(self) -> Filter | None:
        """Which occurrences call the handler, a callable of engine and count; None for every occurrence."""
        return self._filter

    @property
    def priority(self) -> int | None:
        """Handlers of a higher priority run first; None: ``event_priority`` of the handler's class, by default 0."""
        return self._priority

    def __call__(
        self,
        event_filter: Callable[[Any, int], Any] | None = None,
        every: int | None = None,
        once: int | Sequence[int] | None = None,
        before: int | None = None,
        after: int | None = None,
        *,
        priority: int | None = None,
    ) -> CallableEventWithFilter:
        """The same event with a filter, or with a priority.

        ``every``, ``after`` and ``before`` must all hold, and ``event_filter`` may be combined with any of them.
        Counts are described in :mod:`ignite_core.engine.events`.

        Args:
            event_filter: ``event_filter(engine, count) -> bool``, called only if the numeric part holds.
            every: Due where ``count % every == 0``; at least 1.
            once: The one count, or the list of counts, at which it is due; each at least 1.
            before: Due where ``count < before``; at least 0.
            after: Due where ``count > after``; at least 0.
            priority: Handlers of a higher priority run first, regardless of the order of registration.

        Raises:
            TypeError: If a number is not an integer (a bool is not) or ``event_filter`` is not callable.
            ValueError: If there is no argument, arguments exclude each other, a number is out of range, the filter can
                never hold, or the event already has a filter.

        Example:
            >>> Events.ITERATION_COMPLETED(every=100, before=1000)
            Events.ITERATION_COMPLETED(every=100, before=1000)
            >>> Events.EPOCH_COMPLETED(once=[1, 10])
            Events.EPOCH_COMPLETED(once=[1, 10])
            >>> Events.EPOCH_STARTED(lambda engine, epoch: epoch < 3 or epoch % 10 == 0, priority=5).priority
            5
        """
        when = _numeric_part(self, every, once, before, after)
        if event_filter is not None and not callable(event_filter):
            raise TypeError(f"{self!r}: event_filter must be callable, got {type(event_filter).__name__}")
        if priority is not None:
            priority = _integer(self, "priority", priority, least=None)
        asked = Filter(when, event_filter)
        if all(given is None for given in (event_filter, every, once, before, after)):
            if priority is None:
                raise ValueError(
                    f"{self!r}: an event must be called with at least one of event_filter, every, once, before, after "
                    "and priority, got none"
                )
            return CallableEventWithFilter(self.bare, self._filter, priority)
        if self._filter is not None:
            raise ValueError(
                f"{self!r} already has a filter and cannot take another one ({asked}); pass both in one call, "
                f"e.g. Events.{self.name}(every=5, after=8)"
            )
        found = None if when is None and event_filter is None else asked
        return CallableEventWithFilter(self.bare, found, self._priority if priority is None else priority)

    def __or__(self, other: CallableEventWithFilter | EventsList) -> EventsList:
        return EventsList(self) | other

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, CallableEventWithFilter):
            if self.bare is not other.bare:
                return False
            return self._filter is None or other._filter is None or self._filter == other._filter
        if isinstance(other, str):
            return self._name_ == other
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._name_)

    def __repr__(self) -> str:
        parts = [] if self._filter is None else [str(self._filter)]
        if self._priority is not None:
            parts.append(f"priority={self._priority}")
        call = f"({', '.join(parts)})" if parts else ""
        return f"{type(self.bare).__name__}.{self._name_}{call}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return CallableEventWithFilter, (self.bare, self._filter, self._priority)


class EventEnum(CallableEventWithFilter, Enum):
    """Base class of events, those of the engine and custom ones.

    Example:
        >>> class BackpropEvents(EventEnum):
        ...     BACKWARD_STARTED = "backward_started"
        ...     BACKWARD_COMPLETED = "backward_completed"
        >>> BackpropEvents.BACKWARD_STARTED(every=10)
        BackpropEvents.BACKWARD_STARTED(every=10)
    """

    def __init__(self, value: str) -> None:
        """A member has no filter and no priority."""

    @property
    def bare(self) -> EventEnum:
        """The event itself."""
        return self

    @property
    def registers_itself(self) -> bool:
        """Whether it needs no ``register_events``, as the events that handlers of this library fire."""
        return False

    __hash__ = CallableEventWithFilter.__hash__

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self._value_,)


class Events(EventEnum):
    """The events of a run, in the order in which :meth:`Engine.run <ignite_core.engine.Engine.run>` reaches them.

    - ``STARTED``: a run starts, ``state`` is set up.
    - ``EPOCH_STARTED``: ``state.epoch`` is the new epoch.
    - ``GET_BATCH_STARTED``, ``GET_BATCH_COMPLETED``: before and after ``state.batch`` is fetched.
    - ``ITERATION_STARTED``: ``state.iteration`` is the new iteration; a handler may replace ``state.batch``.
    - ``ITERATION_COMPLETED``: ``state.output`` is what the step returned.
    - ``EPOCH_COMPLETED``: all batches of the epoch were run, or the epoch was cut by ``terminate_epoch()``.
    - ``COMPLETED``: the run is over.
    - ``DATALOADER_STOP_ITERATION``: the data ran out where a batch is needed; a new pass over it follows.
    - ``TERMINATE_SINGLE_EPOCH``: ``terminate_epoch()`` ends the epoch; handlers get ``iter_counter``, the number of
      batches of this epoch that were started.
    - ``TERMINATE``: ``terminate()`` ends the run, or ``max_iters`` was reached inside an epoch.
    - ``INTERRUPT``: ``interrupt()`` pauses the run; the next ``run()`` continues from here.
    - ``EXCEPTION_RAISED``: the step, a handler or the data raised; handlers get the exception.

    The table shows the events of each way to end, with three batches per epoch and two epochs. ``...`` is an iteration,
    GS GC IS IC, and ``+++`` one with a new pass over the data, GS STOP GC IS IC. The letters: S STARTED, ES
    EPOCH_STARTED, GS and GC GET_BATCH_STARTED and _COMPLETED, IS and IC ITERATION_STARTED and _COMPLETED, EC
    EPOCH_COMPLETED, C COMPLETED, STOP DATALOADER_STOP_ITERATION, TE TERMINATE_SINGLE_EPOCH, T TERMINATE, I INTERRUPT,
    X EXCEPTION_RAISED.

    ===================================================  =============================================================
    way to end                                           events
    ===================================================  =============================================================
    done                                                 S ES ... ... ... EC ES +++ ... ... EC C
    terminate() at iteration 2 completed                 S ES ... ... T C
    terminate() at epoch 1 completed                     S ES ... ... ... EC T C
    terminate() at STARTED                               S T C
    terminate(skip_completed=True) at iteration 2        S ES ... ... T
    terminate_epoch() at iteration 2 completed           S ES ... ... TE EC ES ... ... ... EC C
    terminate_epoch(skip_epoch_completed=True), same     S ES ... ... TE ES ... ... ... EC C
    terminate_epoch() at GET_BATCH_COMPLETED 2           S ES ... GS GC TE EC ES ... ... ... EC C
    terminate_epoch() at epoch 1 completed               S ES ... ... ... EC ES +++ ... ... EC C
    terminate_epoch() at STARTED                         S X
    terminate_epoch() at EPOCH_STARTED                   S ES X
    interrupt() at iteration 2 completed                 S ES ... ... I
    interrupt() at iteration 2 completed, run again      S ES ... ... I ... EC ES +++ ... ... EC C
    interrupt() at ITERATION_STARTED 2, run again        S ES ... GS GC IS I IC ... EC ES +++ ... ... EC C
    interrupt() at epoch 2 completed, run again          S ES ... ... ... EC ES +++ ... ... EC I C
    exception in step 2                                  S ES ... GS GC IS X
    exception in step 2, suppressed                      S ES ... GS GC IS X
    exception in step 2, run again                       S ES ... GS GC IS X S ES ... ... ... EC C
    max_iters=5                                          S ES ... ... ... EC ES +++ ... T C
    max_iters=6                                          S ES ... ... ... EC ES +++ ... ... EC C
    epoch_length=4                                       S ES ... ... ... +++ EC ES ... ... +++ ... EC C
    epoch_length=2                                       S ES ... ... EC ES ... +++ EC C
    data=None                                            S ES IS IC IS IC IS IC EC ES IS IC IS IC IS IC EC C
    length unknown                                       S ES ... ... ... GS EC ES +++ ... ... EC C
    one-shot iterator                                    S ES ... ... ... GS EC ES GS STOP EC C
    ===================================================  =============================================================

    Events can be filtered, given a priority, and combined:

    Example:
        >>> Events.ITERATION_COMPLETED(every=100) | Events.EPOCH_COMPLETED
        EventsList([Events.ITERATION_COMPLETED(every=100), Events.EPOCH_COMPLETED])
    """

    EPOCH_STARTED = "epoch_started"
    EPOCH_COMPLETED = "epoch_completed"
    STARTED = "started"
    COMPLETED = "completed"
    ITERATION_STARTED = "iteration_started"
    ITERATION_COMPLETED = "iteration_completed"
    EXCEPTION_RAISED = "exception_raised"
    GET_BATCH_STARTED = "get_batch_started"
    GET_BATCH_COMPLETED = "get_batch_completed"
    DATALOADER_STOP_ITERATION = "dataloader_stop_iteration"
    TERMINATE = "terminate"
    TERMINATE_SINGLE_EPOCH = "terminate_single_epoch"
    INTERRUPT = "interrupt"


class EventsList:
    """Events joined by ``|``, in order, including duplicates. It is immutable: ``|`` returns a new one.

    Example:
        >>> events = Events.STARTED | Events.COMPLETED
        >>> len(events), events[1], list(events | Events.TERMINATE)[-1]
        (2, Events.COMPLETED, Events.TERMINATE)
    """

    __slots__ = ("_events",)

    def __init__(self, *events: CallableEventWithFilter) -> None:
        for event in events:
            if not isinstance(event, CallableEventWithFilter):
                raise TypeError(f"EventsList: an event must come from an EventEnum, got {event!r}")
        self._events = events

    def __or__(self, other: CallableEventWithFilter | EventsList) -> EventsList:
        more = other._events if isinstance(other, EventsList) else (other,)
        return EventsList(*self._events, *more)

    def __getitem__(self, item: int) -> CallableEventWithFilter:
        return self._events[item]

    def __iter__(self) -> Iterator[CallableEventWithFilter]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"EventsList({list(self._events)})"


#: An event without filter; strings are custom events.
BareEvent: TypeAlias = EventEnum | str

#: One event, with or without filter.
SingleEvent: TypeAlias = CallableEventWithFilter | str

#: One event, or several joined by ``|``.
EventName: TypeAlias = CallableEventWithFilter | str | EventsList

#: Events whose count may be 0. All others of ``Events`` are counted from 1; the counter of a custom event is not known
#: before it is registered.
_COUNTED_FROM_0 = frozenset({"STARTED", "COMPLETED", "GET_BATCH_STARTED", "GET_BATCH_COMPLETED"})


def _numeric_part(
    event: CallableEventWithFilter,
    every: int | None,
    once: int | Sequence[int] | None,
    before: int | None,
    after: int | None,
) -> When | None:
    """The checked numeric part of a filter; None if every count is due."""
    if once is not None:
        if every is not None or before is not None or after is not None:
            raise ValueError(
                f"{event!r}: once excludes every, before and after, "
                f"got once={once!r}, every={every!r}, before={before!r}, after={after!r}"
            )
        counts: Any = once if isinstance(once, Sequence) else [once]
        if isinstance(counts, str):
            raise TypeError(f"{event!r}: once must be an integer or a list of integers, got {once!r}")
        if not counts:
            raise ValueError(f"{event!r}: once must name at least one count, got {once!r}")
        return When(once=tuple(sorted({_integer(event, "once", count, least=1) for count in counts})))

    period = 1 if every is None else _integer(event, "every", every, least=1)
    if before is not None:
        before = _integer(event, "before", before, least=0)
    if after is not None:
        after = _integer(event, "after", after, least=0)
    if period == 1 and before is None and after is None:
        return None
    when = When(period, after, before)
    least = 0 if event.name in _COUNTED_FROM_0 or not isinstance(event.bare, Events) else 1
    if when.next_due(least) is None:
        raise ValueError(f"{event!r}: no count from {least} on satisfies ({when})")
    return when


def _integer(event: CallableEventWithFilter, name: str, value: Any, least: int | None) -> int:
    """``value`` as an int, if it is an integer (a bool is not) and not below ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{event!r}: {name} must be an integer, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{event!r}: {name} must be at least {least}, got {value}")
    return int(value)

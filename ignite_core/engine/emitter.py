"""What can be listened to: events are registered, handlers are attached, and firing runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch.distributed as dist

from ignite_core.engine.describe import describe
from ignite_core.engine.dispatch import Channel, Dispatch, RemovableEventHandle
from ignite_core.engine.events import CallableEventWithFilter, EventEnum, Events, EventsList
from ignite_core.engine.registration import Listener
from ignite_core.engine.state import State

__all__ = ["Emitter"]

Handler = TypeVar("Handler", bound=Callable[..., Any])

#: One event, or several joined by ``|``.
EventName = str | CallableEventWithFilter | EventsList


class Emitter:
    """The half of an engine that fires events; the other half, the run, is in :mod:`ignite_core.engine.engine`."""

    def __init__(self) -> None:
        self.state = State()
        self.last_event_name: Any = None
        self._dispatch = Dispatch()
        self._suppressed = False  # a handler of EXCEPTION_RAISED returned True
        self._note: str | None = None  # what was noted on the exception of this run
        self.register_events(*Events, event_to_attr={event: State.event_to_attr.get(event) for event in Events})

    def register_events(
        self, *event_names: str | EventEnum, event_to_attr: Mapping[Any, str | None] | None = None
    ) -> None:
        """Allow events of your own to be fired and listened to.

        Each counts how often it is fired on this engine, so filters work on it with no further set-up.

        Args:
            event_names: Members of an :class:`EventEnum`, or strings.
            event_to_attr: For events that something else counts: the attribute of ``state`` to read the count from. You
                move it, by any number at a time (see :class:`Events`); it starts at 0 if it does not exist.

        Raises:
            TypeError: If an event is of another kind, or ``event_to_attr`` is not a mapping.

        Example:
            >>> from ignite_core.engine import Engine, EventEnum
            >>> class BackpropEvents(EventEnum):
            ...     BACKWARD_COMPLETED = "backward_completed"
            >>> def step(engine, batch):
            ...     engine.fire_event(BackpropEvents.BACKWARD_COMPLETED)
            >>> trainer = Engine(step)
            >>> trainer.register_events(*BackpropEvents)
            >>> @trainer.on(BackpropEvents.BACKWARD_COMPLETED(every=2))
            ... def show():
            ...     print("backward", trainer.state.iteration)
            >>> state = trainer.run(range(5))
            backward 2
            backward 4
        """
        if event_to_attr is not None and not isinstance(event_to_attr, Mapping):
            raise TypeError(f"register_events: event_to_attr must be a mapping, got {type(event_to_attr).__name__}")
        for event in event_names:
            if not isinstance(event, str | EventEnum):
                raise TypeError(f"register_events: an event must be a str or a member of an EventEnum, got {event!r}")
        for event in event_names:
            attribute = (event_to_attr or {}).get(event)
            self._dispatch.register(event, attribute)
            if attribute is not None and not isinstance(event, Events):
                self.state.event_to_attr = {**self.state.event_to_attr, event: attribute}
                if not hasattr(self.state, attribute):
                    setattr(self.state, attribute, 0)
                self._dispatch.note_counters(self.state)

    def has_registered_events(self, event: Any) -> bool:
        """Whether the event may be fired on this engine."""
        return event in self._dispatch

    def add_event_handler(
        self, event_name: EventName, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Call ``handler`` whenever the event is fired.

        The handler is called with the engine first if its signature has a place for it (any first parameter is one,
        also one with a default; a method of this engine has it already), then what the event hands over
        (the exception for ``EXCEPTION_RAISED``, ``iter_counter`` for ``TERMINATE_SINGLE_EPOCH``), then ``args`` and
        ``kwargs``. Handlers run by priority, then in the order in which they were added. One that is removed while its
        event is fired and has not run yet does not run; one that is added runs after those present.

        Args:
            event_name: An event, with or without filter, or several joined by ``|``.
            handler: Any callable.
            args: Handed to the handler.
            kwargs: Handed to the handler.

        Returns:
            A handle that removes exactly this registration, also as a context manager.

        Raises:
            TypeError: If ``handler`` is not callable or ``event_name`` is no event.
            ValueError: If the event is not known, or the handler cannot take what it will be given.

        Example:
            >>> from ignite_core.engine import Engine
            >>> engine = Engine(lambda engine, batch: batch)
            >>> def show(engine, text):
            ...     print(text, engine.state.epoch)
            >>> handle = engine.add_event_handler(Events.STARTED | Events.COMPLETED, show, "epochs:")
            >>> state = engine.run([1, 2], max_epochs=3)
            epochs: 0
            epochs: 3
            >>> handle.remove()
        """
        return RemovableEventHandle(event_name, self._dispatch.add(self, event_name, handler, args, kwargs), self)

    def on(self, event_name: EventName, *args: Any, **kwargs: Any) -> Callable[[Handler], Handler]:
        """Decorator for :meth:`add_event_handler`; the function stays what it was."""

        def decorator(handler: Handler) -> Handler:
            self.add_event_handler(event_name, handler, *args, **kwargs)
            return handler

        return decorator

    def has_event_handler(self, handler: Callable[..., Any], event_name: EventName | None = None) -> bool:
        """Whether ``handler`` listens to the event, or to any event if none is named.

        A bare event stands for all its filters, a filtered one only for itself. Nobody listens to an unknown event.
        """
        if not isinstance(event_name, EventsList | None) and event_name not in self._dispatch:
            return False
        return bool(self._dispatch.find(handler, event_name))

    def remove_event_handler(self, handler: Callable[..., Any], event_name: EventName) -> None:
        """Remove every registration of ``handler`` on the event.

        A bare event stands for all its filters, a filtered one only for itself.

        Raises:
            ValueError: If the handler does not listen to the event.
        """
        found = self._dispatch.find(handler, event_name)
        if not found:
            raise ValueError(f"remove_event_handler: {describe(handler)} is no handler of {event_name!r}")
        self._dispatch.remove(found)

    def listens_to(self, events: type[EventEnum]) -> bool:
        """Whether any handler is registered on any event of ``events``; a step may skip firing them if not."""
        return self._dispatch.listens_to(events)

    def fire_event(self, event_name: str | CallableEventWithFilter) -> None:
        """Run the handlers of an event, mostly of one of your own.

        Raises:
            ValueError: If the event is not known.
        """
        self._fire_event(event_name)

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        """Run the handlers of an event, with more arguments for each. A subclass that overrides it sees every event."""
        channel = self._dispatch.channel(event_name)
        count = self._count(channel)
        self.last_event_name = channel.event
        if channel.event is Events.EXCEPTION_RAISED and event_args:
            self._suppressed = self._show_exception(channel, count, event_args[0])
        elif event_args or event_kwargs:
            channel.fire_with(self, count, event_args, event_kwargs)
        elif not channel.lo < count < channel.hi:
            channel.fire(self, count)

    def _show_exception(self, channel: Channel, count: int, error: BaseException) -> bool:
        """Run all handlers of EXCEPTION_RAISED, whatever they raise; whether one of them suppresses ``error``.

        The first exception of theirs, other than ``error`` itself, is raised when all have run.
        """
        suppressed = False
        raised: BaseException | None = None
        for listener in channel.listening(self, count):
            try:
                suppressed |= listener.invoke(self, (error,), {}) is True
            except BaseException as other:
                if other is error:
                    continue
                if raised is None:
                    raised = other
                    self._blame(other, listener)
                else:
                    raised.add_note(
                        f"Another handler of {channel.event!r}, {describe(listener.handler)}, raised {other!r}"
                    )
        if raised is not None:
            raise raised
        return suppressed

    def _count(self, channel: Channel) -> int:
        """The count of an event that is fired now."""
        if channel.counter is None:
            channel.fired += 1
            return int(channel.fired)
        count: int = getattr(self.state, channel.counter)
        if channel.jumps:
            channel.move_to(count)
        return count

    def _blame(self, error: BaseException, listener: Listener) -> None:
        self._annotate(error, f"the handler {describe(listener.handler)} of {listener.event!r}")

    def _annotate(self, error: BaseException, culprit: str) -> None:
        """Note on an exception where it came from: once a run, by whoever was nearest."""
        if self._note is None or self._note not in getattr(error, "__notes__", ()):
            state = self.state
            rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
            self._note = f"Raised by {culprit}, epoch {state.epoch}, iteration {state.iteration}, rank {rank}."
            error.add_note(self._note)

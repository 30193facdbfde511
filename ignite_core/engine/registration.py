"""One handler registered on one event: its place in the order and how it is called; handles that remove it."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any, Final, Protocol, Self

from ignite_core.engine.describe import describe, source_place
from ignite_core.engine.events import BareEvent, EventName, Events, Filter, SingleEvent, When

__all__ = [
    "FiringEngine",
    "Registration",
    "RemovableEventHandle",
    "RemovableHandle",
    "Wrap",
    "do_nothing",
    "weak_call",
]

#: The extra argument of handlers of some events, with an example value for checking signatures.
_EXTRAS: Final[dict[Any, tuple[str, Any]]] = {
    Events.EXCEPTION_RAISED: ("the exception", Exception()),
    Events.TERMINATE_SINGLE_EPOCH: ("iter_counter", 0),
}


class FiringEngine(Protocol):
    """What firing an event needs of an engine."""

    last_event_name: SingleEvent | None

    def _fire_event(self, event_name: SingleEvent, *event_args: Any, **event_kwargs: Any) -> None: ...

    def _annotate(self, error: BaseException, culprit: str) -> None: ...


class Registration:
    """One handler registered on one event, as :meth:`Engine.handlers <ignite_core.engine.Engine.handlers>` lists it.

    Attributes:
        event: The event, with its filter and priority if it has any.
        handler: The handler as it was registered.
        args: Positional arguments passed to the handler.
        kwargs: Keyword arguments passed to the handler.
        priority: Handlers of an event run from the highest to the lowest priority.
        number: Counts the registrations on an engine; decides the order of handlers of the same priority.
        filter: Which occurrences of the event call the handler; None for all.
    """

    __slots__ = (
        "__weakref__",
        "args",
        "call",
        "condition",
        "event",
        "filter",
        "handler",
        "kwargs",
        "number",
        "priority",
        "rank",
        "wants_engine",
        "wraps",
    )

    def __init__(
        self,
        engine: object,
        event: SingleEvent,
        number: int,
        handler: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.event = event
        self.handler = handler
        self.args = args
        self.kwargs = kwargs
        self.filter = _filter_of(event)
        self.condition = None if self.filter is None else self.filter.condition
        self.priority = _priority(event, handler)
        self.wants_engine = _wants_engine(engine, event, handler, args, kwargs)
        self.wraps: tuple[Wrap, ...] = ()
        self.call: Callable[[Any], Any] = self._compiled()  # what a firing calls, with the engine
        self.take_number(number)

    def take_number(self, number: int) -> None:
        self.number, self.rank = number, (-self.priority, number)

    @property
    def bare_event(self) -> BareEvent:
        """The event without filter and priority."""
        return self.event if isinstance(self.event, str) else self.event.bare

    @property
    def owner(self) -> Any:
        """The object whose method the handler is; the handler itself if it is not a method."""
        handler = self.handler
        while isinstance(handler, functools.partial):
            handler = handler.func
        return getattr(handler, "__self__", handler)

    @property
    def where(self) -> str:
        """File and line where the handler is defined; empty if Python does not know."""
        return source_place(self.handler)

    @property
    def when(self) -> When | None:
        """The numeric part of the filter."""
        return None if self.filter is None else self.filter.when

    @property
    def removed(self) -> bool:
        return self.call is do_nothing

    @property
    def culprit(self) -> str:
        """What a note on an exception names."""
        return f"the handler {describe(self.handler)} of {self.event!r}"

    def __repr__(self) -> str:
        return f"Registration({self.event!r}, {describe(self.handler)})"

    def invoke(self, engine: FiringEngine, extras: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the handler with the arguments of the event: (engine, extras, args), or (extras, args)."""
        if self.wraps:
            return self._wrapped(lambda engine: self._invoke(engine, extras, named))(engine)
        return self._invoke(engine, extras, named)

    def instrument(self, wraps: tuple[Wrap, ...], opens_filter: bool) -> None:
        """Run each call inside these wraps, the first one innermost, with or without the numeric part of the filter."""
        if not self.removed:
            self.wraps = wraps
            self.call = self._wrapped(self._compiled())
            self.filter = _filter_of(self.event)
            if opens_filter and self.filter is not None:
                self.filter = None if self.condition is None else Filter(None, self.condition)

    def _wrapped(self, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        for wrap in self.wraps:
            call = wrap(self, call)
        return call

    def _invoke(self, engine: FiringEngine, extras: tuple[Any, ...], named: dict[str, Any]) -> Any:
        first = (engine,) if self.wants_engine else ()
        return self.handler(*first, *extras, *self.args, **{**self.kwargs, **named})

    def _compiled(self) -> Callable[[Any], Any]:
        handler, args, kwargs = self.handler, self.args, self.kwargs
        if args or kwargs:
            if self.wants_engine:
                return lambda engine: handler(engine, *args, **kwargs)
            return lambda engine: handler(*args, **kwargs)
        return _direct(handler) if self.wants_engine else lambda engine: handler()


#: ``wrap(registration, call)`` returns what runs in place of ``call(engine)``; it must make that call itself.
Wrap = Callable[[Registration, Callable[[Any], Any]], Callable[[Any], Any]]


class RemovableHandle:
    """Removes what it was returned for; also a context manager that does so on exit. Removing is idempotent.

    A handle keeps neither the engine nor what was registered on it alive.

    Args:
        parts: Functions that :meth:`remove` calls in reverse order, such as the ``remove`` of other handles.

    Example:
        >>> from ignite_core.engine import Engine, Events
        >>> engine = Engine(lambda engine, batch: batch)
        >>> hello = engine.add_event_handler(Events.STARTED, lambda: print("hello"))
        >>> goodbye = engine.add_event_handler(Events.COMPLETED, lambda: print("goodbye"))
        >>> with RemovableHandle(hello.remove, goodbye.remove):
        ...     _ = engine.run([1])
        hello
        goodbye
        >>> _ = engine.run([1])
    """

    def __init__(self, *parts: Callable[[], object]) -> None:
        self._parts = list(parts)

    def remove(self) -> None:
        """Remove what the handle was returned for."""
        while self._parts:
            self._parts.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class RemovableEventHandle(RemovableHandle):
    """Removes exactly the registrations it was returned for.

    Example:
        >>> from ignite_core.engine import Engine, Events
        >>> engine = Engine(lambda engine, batch: batch)
        >>> with engine.add_event_handler(Events.STARTED, lambda: print("hello")):
        ...     _ = engine.run([1])
        hello
        >>> _ = engine.run([1])
    """

    def __init__(self, event_name: EventName, *parts: Callable[[], object]) -> None:
        super().__init__(*parts)
        self.event_name = event_name


def weak_call(method: Callable[[Any], None], things: Iterable[Any]) -> Callable[[], None]:
    """A function that calls a bound method with each of some objects, as far as they are alive; it holds none."""
    weak_method, references = weakref.WeakMethod(method), [weakref.ref(thing) for thing in things]

    def call() -> None:
        alive = weak_method()
        for reference in references if alive is not None else ():
            thing = reference()
            if thing is not None:
                alive(thing)  # type: ignore[misc]

    return call


def _direct(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Bind an object's ``__call__`` once; looking it up at each call would take half as long as the call."""
    call = type(handler).__call__
    return MethodType(call, handler) if isinstance(call, FunctionType) else handler


def do_nothing(engine: object) -> None:
    """The call of a removed registration, so that a firing in progress skips it."""


def _filter_of(event: SingleEvent) -> Filter | None:
    return None if isinstance(event, str) else event.filter


def _priority(event: SingleEvent, handler: Callable[..., Any]) -> int:
    """The priority of the event, else that of the handler's class (``event_priority``), else 0."""
    if not isinstance(event, str) and event.priority is not None:
        return event.priority
    while isinstance(handler, functools.partial):
        handler = handler.func
    owner = getattr(handler, "__self__", handler)
    return int(getattr(type(owner), "event_priority", 0))


def _wants_engine(
    engine: object, event: SingleEvent, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether to call a handler with the engine first: if its signature accepts it.

    A method of the engine itself does not get it: ``engine.terminate`` would take it for ``skip_completed``.

    Raises:
        ValueError: If the handler can be called neither with the engine nor without.
    """
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{event!r}: the signature of the handler {describe(handler)} cannot be read ({error}); "
            "wrap it in a function"
        ) from error
    name, value = _EXTRAS.get(event, (None, None))
    names, values = ([], []) if name is None else ([name], [value])
    is_own_method = getattr(handler, "__self__", None) is engine
    refusals = []
    for with_engine in (False, True) if is_own_method else (True, False):
        try:
            bound = signature.bind(*([None] if with_engine else []), *values, *args, **kwargs)
        except TypeError as error:
            refusals.append(str(error))  # not the error itself: it would hold this frame, which holds it
            continue
        if values and not with_engine and next(iter(bound.arguments)) == "engine":
            raise ValueError(
                f"{event!r}: the handler {describe(handler)} takes {signature} and would get {names[0]} as its engine; "
                f"let it take both, (engine, {names[0].split()[-1]})"
            )
        return with_engine
    given = [*names, *(repr(arg) for arg in args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    raise ValueError(
        f"{event!r}: the handler {describe(handler)} takes {signature}, but will be called with "
        f"({', '.join(['engine', *given])}), or without the engine: {refusals[0]}"
    )

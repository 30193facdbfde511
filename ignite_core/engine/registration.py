"""One registration of one handler: its place in the order, and how it wants to be called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from ignite_core.engine.describe import describe
from ignite_core.engine.events import Events, Filter, When

if TYPE_CHECKING:
    from ignite_core.engine.emitter import Emitter

__all__ = ["Listener", "Wrap", "nothing"]

#: What some events hand to each handler, as an example value for looking at signatures.
EXTRAS: Final[dict[Any, tuple[str, Any]]] = {
    Events.EXCEPTION_RAISED: ("the exception", Exception()),
    Events.TERMINATE_SINGLE_EPOCH: ("iter_counter", 0),
}


#: ``wrap(listener, call) -> call``: what runs instead of a call of the handler, and makes that call.
Wrap = Callable[["Listener", Callable[["Emitter"], Any]], Callable[["Emitter"], Any]]


class Listener:
    """One registration of one handler on one event.

    ``call(engine)`` runs the handler; when that is due, the channel decides.
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
        engine: Emitter,
        event: Any,
        number: int,
        handler: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.event = event
        self.number = number
        self.handler = handler
        self.args = args
        self.kwargs = kwargs
        self.filter: Filter | None = getattr(event, "filter", None)
        self.condition = None if self.filter is None else self.filter.condition
        self.priority = _priority(event, handler)
        self.rank = (-self.priority, number)
        self.wants_engine = _wants_engine(engine, event, handler, args, kwargs)
        self.wraps: tuple[Wrap, ...] = ()
        self.call: Callable[[Emitter], Any] = self._compiled()

    def take_number(self, number: int) -> None:
        """Have this number among the registrations of the engine; it decides among handlers of one priority."""
        self.number, self.rank = number, (-self.priority, number)

    @property
    def when(self) -> When | None:
        """The numeric part of the filter."""
        return None if self.filter is None else self.filter.when

    @property
    def removed(self) -> bool:
        return self.call is nothing

    def invoke(self, engine: Emitter, extras: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the handler with what the event hands over: (engine, extras, args), or (extras, args)."""
        if self.wraps:
            return self._wrapped(lambda engine: self._invoke(engine, extras, named))(engine)
        return self._invoke(engine, extras, named)

    def wrap(self, wraps: tuple[Wrap, ...]) -> None:
        """Let others stand around each call of the handler, the first of them next to it; none: only the handler."""
        if not self.removed:
            self.wraps = wraps
            self.call = self._wrapped(self._compiled())

    def _wrapped(self, call: Callable[[Emitter], Any]) -> Callable[[Emitter], Any]:
        for wrap in self.wraps:
            call = wrap(self, call)
        return call

    def _invoke(self, engine: Emitter, extras: tuple[Any, ...], named: dict[str, Any]) -> Any:
        first = (engine,) if self.wants_engine else ()
        return self.handler(*first, *extras, *self.args, **{**self.kwargs, **named})

    def _compiled(self) -> Callable[[Emitter], Any]:
        handler, args, kwargs = self.handler, self.args, self.kwargs
        if args or kwargs:
            if self.wants_engine:
                return lambda engine: handler(engine, *args, **kwargs)
            return lambda engine: handler(*args, **kwargs)
        return _direct(handler) if self.wants_engine else lambda engine: handler()


def _direct(handler: Callable[..., Any]) -> Callable[..., Any]:
    """What calls an object without looking for its ``__call__`` each time, which costs half as much again as a call."""
    call = type(handler).__call__
    return MethodType(call, handler) if isinstance(call, FunctionType) else handler


def nothing(engine: Emitter) -> None:
    """What a removed listener does, so that a firing under way passes over it."""


def _priority(event: Any, handler: Callable[..., Any]) -> int:
    """The priority the event names, else that of the handler's class (``event_priority``), else 0."""
    asked = getattr(event, "priority", None)
    if asked is not None:
        return int(asked)
    while isinstance(handler, functools.partial):
        handler = handler.func
    owner = getattr(handler, "__self__", handler)
    return int(getattr(type(owner), "event_priority", 0))


def _wants_engine(
    engine: Emitter, event: Any, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether a handler is to be called with the engine first: if its signature has a place for it.

    A method of the engine itself has it already: ``engine.terminate`` would take it for ``skip_completed``.

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
    name, value = EXTRAS.get(event, (None, None))
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

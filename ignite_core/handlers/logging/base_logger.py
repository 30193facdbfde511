"""The base class of loggers, to which the handlers of :mod:`~ignite_core.handlers.logging.log_handlers` log."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from ignite_core.distributed import utils as idist
from ignite_core.engine.describe import describe
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events, EventsList
from ignite_core.engine.registration import RemovableEventHandle, weak_call
from ignite_core.handlers.logging._scalars import Key
from ignite_core.handlers.logging.log_handlers import OptimizerParamsHandler, OutputHandler

__all__ = ["BaseLogger", "Writer"]

#: After all other handlers of an event, loggers and checkpoints included.
_LAST = -10_000

#: The events at which a run ends.
_ENDS = (
    Events.TERMINATE(priority=_LAST)
    | Events.INTERRUPT(priority=_LAST)
    | Events.COMPLETED(priority=_LAST)
    | Events.EXCEPTION_RAISED(priority=_LAST)
)


class Writer(Protocol):
    """The methods that a back-end must have.

    It may have more methods like ``scalars``: ``histograms`` for tensors of any shape, ``images`` for tensors of shape
    ``(C, H, W)`` (floats in [0, 1] or bytes), ``figures`` for figures of matplotlib, ``texts`` for strings.
    """

    def scalars(self, step: int, values: Mapping[Key, Any]) -> None:
        """Write numbers, or tensors with one element, by name at a step."""

    def flush(self) -> None:
        """Make everything that was written visible."""

    def close(self) -> None:
        """Stop writing."""


class _NoOpClient:
    """The client on ranks that do not write: all its methods do nothing."""

    def __getattr__(self, name: str) -> Self:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Self:
        return self


class BaseLogger:
    """Attaches handlers that log to engines. For a custom back-end, derive from it and define ``scalars``.

    Construct and attach it on all ranks, after ``idist.initialize``; only rank 0 writes. On the other ranks no
    connection is opened, and calls of the client do nothing. A logger is flushed when a run ends or fails.

    Args:
        open_client: Function that returns the client of the back-end. Attributes of the client are available through
            the logger.

    Attributes:
        client: The client.
        takes_text: Class attribute: whether ``scalars`` accepts text.

    Example:
        >>> class Screen(BaseLogger):
        ...     def scalars(self, step, values):
        ...         print(step, {"/".join(key): value for key, value in values.items()})
        >>> trainer = Engine(lambda engine, batch: {"loss": 1 / batch})
        >>> with Screen() as logger:
        ...     handle = logger.attach_output_handler(
        ...         trainer, Events.ITERATION_COMPLETED(every=2), tag="training", output_transform=lambda output: output
        ...     )
        ...     state = trainer.run([1, 2, 4, 8])
        2 {'training/loss': 0.5}
        4 {'training/loss': 0.125}
    """

    client: Any = None
    takes_text: ClassVar[bool] = False

    def __init__(self, open_client: Callable[[], Any] | None = None) -> None:
        if open_client is not None:
            self.client = open_client() if self.writes else _NoOpClient()

    @property
    def writes(self) -> bool:
        """Whether this process writes, which is that of rank 0."""
        return idist.get_rank() == 0

    def attach(
        self, engine: Engine, log_handler: Callable[..., Any], event_name: EventName, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Call ``log_handler(engine, logger, event_name, *args, **kwargs)`` at an event of an engine.

        Args:
            engine: The engine.
            log_handler: A log handler, such as :class:`~ignite_core.handlers.OutputHandler`, or a function.
            event_name: An event, or several joined by ``|``; the handler gets the one that was fired.
            args: Further arguments of the handler.
            kwargs: Further keyword arguments of the handler.

        Returns:
            A handle whose ``remove()`` detaches the handler.

        Raises:
            TypeError: If the back-end does not support what the handler logs.
            ValueError: If the engine does not know the event.
        """
        needs = getattr(log_handler, "needs", None)
        if needs is not None and not callable(getattr(type(self), needs, None)):
            name = type(self).__name__
            raise TypeError(
                f"{name}.attach: {describe(log_handler)} logs {needs}, but there is no {name}.{needs}(step, values); "
                "use another back-end, or define this method"
            )
        with ExitStack() as attached:
            for one in event_name if isinstance(event_name, EventsList) else (event_name,):
                bare = getattr(one, "bare", one)
                attached.enter_context(engine.add_event_handler(one, log_handler, self, bare, *args, **kwargs))
            self._flush_at_ends_of(engine)
            detached = weak_call(self._detached_from, [engine])
            return RemovableEventHandle(event_name, detached, attached.pop_all().close)

    def attach_output_handler(
        self, engine: Engine, event_name: EventName, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Log metrics, outputs or attributes of the state: :class:`~ignite_core.handlers.OutputHandler` (``*args``)."""
        return self.attach(engine, self._create_output_handler(*args, **kwargs), event_name)

    def attach_opt_params_handler(
        self, engine: Engine, event_name: EventName, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Log a parameter of an optimizer: :class:`~ignite_core.handlers.OptimizerParamsHandler` (``*args``)."""
        return self.attach(engine, self._create_opt_params_handler(*args, **kwargs), event_name)

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return OutputHandler(*args, **kwargs)

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return OptimizerParamsHandler(*args, **kwargs)

    def flush(self) -> None:
        """Make everything that was written visible."""

    def close(self) -> None:
        """Stop writing; also called at the end of a ``with`` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self.client is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.client, name)

    @property
    def _flushes(self) -> weakref.WeakKeyDictionary[Engine, tuple[RemovableEventHandle, int]]:
        """For each engine, the handle of the flush at its end, and the number of log handlers attached to it."""
        flushes: weakref.WeakKeyDictionary[Engine, tuple[RemovableEventHandle, int]]
        flushes = self.__dict__.setdefault("_by_engine", weakref.WeakKeyDictionary())  # __init__ may be overridden
        return flushes

    def _flush_at_ends_of(self, engine: Engine) -> None:
        """Flush at the end of each run of an engine, until all log handlers are detached from it."""
        handle, users = self._flushes.get(engine, (None, 0))
        self._flushes[engine] = handle or engine.add_event_handler(_ENDS, self._flush_at_end), users + 1

    def _detached_from(self, engine: Engine) -> None:
        handle, users = self._flushes.pop(engine)
        if users > 1:
            self._flushes[engine] = handle, users - 1
        else:
            handle.remove()

    def _flush_at_end(self, engine: Engine, *error: BaseException) -> None:
        """Flush, unless the engine was run by another one, which continues."""
        if engine.parent is None and self.writes:
            self.flush()

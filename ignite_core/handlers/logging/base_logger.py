"""The base class of all loggers. What they log is in :mod:`ignite_core.handlers.logging.log_handlers`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from ignite_core.distributed import utils as idist
from ignite_core.engine.describe import describe
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events, EventsList
from ignite_core.engine.registration import RemovableEventHandle
from ignite_core.handlers.logging._scalars import Key
from ignite_core.handlers.logging.log_handlers import OptimizerParamsHandler, OutputHandler

__all__ = ["BaseLogger", "Writer"]

#: After everything else of an event, loggers and checkpoints too.
_LAST = -10_000


class Writer(Protocol):
    """Where values go: what a back-end must have.

    It may have more methods like ``scalars``: ``histograms`` for tensors of any shape, ``images`` for tensors of shape
    ``(C, H, W)`` (floats in [0, 1] or bytes), ``figures`` for those of matplotlib, ``texts`` for strings.
    """

    def scalars(self, step: int, values: Mapping[Key, Any]) -> None:
        """Write numbers (tensors of one element among them) by name, at a step."""

    def flush(self) -> None:
        """Let everything that was written be there to be seen."""

    def close(self) -> None:
        """Write no more."""


class Elsewhere:
    """Stands for the client of a back-end on ranks that write nothing: whatever it is asked to do, it does nothing."""

    def __getattr__(self, name: str) -> Elsewhere:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Elsewhere:
        return self


class BaseLogger:
    """Attaches handlers that log to engines; derive from it, with a method ``scalars``, to log somewhere else.

    Make and attach it on all ranks, after ``idist.initialize``: rank 0 writes. On the others no connection is opened,
    and what is asked of the client does nothing. A logger is flushed when a run ends or fails.

    Args:
        open_client: Makes the client of the back-end. Its attributes are found through the logger.

    Attributes:
        client: What ``open_client`` has returned.
        takes_text: Of the class: ``scalars`` takes text too.

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
        self._watched: weakref.WeakSet[Engine] = weakref.WeakSet()
        if open_client is not None:
            self.client = open_client() if self.writes else Elsewhere()

    @property
    def writes(self) -> bool:
        """Whether this process writes: that of rank 0 does."""
        return idist.get_rank() == 0

    def attach(
        self, engine: Engine, log_handler: Callable[..., Any], event_name: Any, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Call ``log_handler(engine, logger, event_name, *args, **kwargs)`` at each event.

        Args:
            engine: Whose events.
            log_handler: Such as an :class:`~ignite_core.handlers.OutputHandler`, or a function of your own.
            event_name: An event, or several joined by ``|``; the handler gets the one that was fired.
            args: Handed to the handler.
            kwargs: Handed to the handler.

        Returns:
            A handle that removes it.

        Raises:
            TypeError: If the back-end does not take what the handler logs.
            ValueError: If the engine does not know the event.
        """
        needs = getattr(log_handler, "needs", None)
        if needs is not None and not callable(getattr(type(self), needs, None)):
            name = type(self).__name__
            raise TypeError(
                f"{name}.attach: {describe(log_handler)} logs {needs}, but there is no {name}.{needs}(step, values); "
                "use another back-end for that, or define it"
            )
        events = list(event_name) if isinstance(event_name, EventsList) else [event_name]
        handles = [
            engine.add_event_handler(one, log_handler, self, getattr(one, "bare", one), *args, **kwargs)
            for one in events
        ]
        self._watch(engine)
        return RemovableEventHandle(event_name, *(handle.remove for handle in handles))

    def attach_output_handler(self, engine: Engine, event_name: Any, *args: Any, **kwargs: Any) -> RemovableEventHandle:
        """Log metrics, outputs or attributes of the state: :class:`~ignite_core.handlers.OutputHandler` (``*args``)."""
        return self.attach(engine, self._create_output_handler(*args, **kwargs), event_name)

    def attach_opt_params_handler(
        self, engine: Engine, event_name: Any, *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Log a parameter of an optimizer: :class:`~ignite_core.handlers.OptimizerParamsHandler` (``*args``)."""
        return self.attach(engine, self._create_opt_params_handler(*args, **kwargs), event_name)

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return OutputHandler(*args, **kwargs)

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return OptimizerParamsHandler(*args, **kwargs)

    def flush(self) -> None:
        """Let everything that was written be there to be seen."""

    def close(self) -> None:
        """Write no more; the end of a ``with`` block does it too."""

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

    def _watch(self, engine: Engine) -> None:
        """Flush when a run of the engine has ended or failed, unless another engine runs it, and goes on."""
        watched = self.__dict__.setdefault("_watched", weakref.WeakSet())  # a subclass may not call __init__
        if engine in watched:
            return
        watched.add(engine)
        for event in (Events.TERMINATE, Events.INTERRUPT, Events.COMPLETED, Events.EXCEPTION_RAISED):
            engine.add_event_handler(event(priority=_LAST), self._flush_at_end)

    def _flush_at_end(self, engine: Engine, *error: BaseException) -> None:
        if engine.parent is None and self.writes:
            self.flush()

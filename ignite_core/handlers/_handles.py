"""What ``attach`` methods return: a handle that removes everything they have added to an engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Self

from ignite_core.engine.engine import Engine

__all__ = ["AttachHandle", "add_run_context"]


class AttachHandle:
    """Detaches a handler from an engine; also a context manager that does so on exit. Removing is idempotent.

    Args:
        removals: Functions that undo the parts of an ``attach``; they are called in the reverse order.

    Example:
        >>> from ignite_core.engine import Events
        >>> engine = Engine(lambda engine, batch: None)
        >>> first = engine.add_event_handler(Events.STARTED, lambda: print("started"))
        >>> last = engine.add_event_handler(Events.COMPLETED, lambda: print("completed"))
        >>> with AttachHandle(first.remove, last.remove):
        ...     state = engine.run([0])
        started
        completed
        >>> state = engine.run([0])
    """

    def __init__(self, *removals: Callable[[], object]) -> None:
        self._removals = list(removals)

    def remove(self) -> None:
        """Detach the handler; during a run, it has no further effect on that run."""
        while self._removals:
            self._removals.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def add_run_context(engine: Engine, factory: Callable[[Engine], AbstractContextManager[object]]) -> AttachHandle:
    """Enter ``factory(engine)`` around each run of an engine, until the handle is removed; it is then exited at once.

    Example:
        >>> from contextlib import contextmanager
        >>> @contextmanager
        ... def announced(engine):
        ...     print("before")
        ...     yield
        ...     print("after")
        >>> engine = Engine(lambda engine, batch: handle.remove() if batch == 2 else print(batch))
        >>> handle = add_run_context(engine, announced)
        >>> state = engine.run([1, 2, 3])
        before
        1
        after
        3
    """
    context = _RunContext(factory)
    engine._scopes.append(context)
    return AttachHandle(partial(_remove, engine._scopes, context))


class _RunContext:
    """The context of each run of one engine, which can be exited before the run ends."""

    def __init__(self, factory: Callable[[Engine], AbstractContextManager[object]]) -> None:
        self.__self__ = getattr(factory, "__self__", factory)
        self._factory = factory
        self._entered = ExitStack()

    def __call__(self, engine: Engine) -> ExitStack:
        self._entered.enter_context(self._factory(engine))
        return self._entered

    def exit(self) -> None:
        self._entered.close()


def _remove(contexts: list[Any], context: _RunContext) -> None:
    if context in contexts:
        contexts.remove(context)
    context.exit()

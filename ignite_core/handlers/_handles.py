"""What ``attach`` methods return: a handle that removes everything they have added to an engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from ignite_core.engine.engine import Engine
from ignite_core.engine.registration import RemovableHandle as AttachHandle

__all__ = ["AttachHandle", "add_run_context"]


def add_run_context(engine: Engine, factory: Callable[[Engine], AbstractContextManager[object]]) -> AttachHandle:
    """:meth:`Engine.add_run_context`."""
    return engine.add_run_context(factory)

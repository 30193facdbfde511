"""Handlers of a training, made anew for each."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

from ignite_core.engine import Engine
from ignite_core.exceptions import few

__all__ = ["attach", "make_handlers", "takes_evaluator"]


def make_handlers(handlers: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[Any]:
    """Handlers that no other training has: classes are called, objects are copied.

    Args:
        handlers: Classes or objects, by name.
        arguments: By ``NAME__ARGUMENT``: what a class is called with, or an attribute of an object to be set.

    Raises:
        TypeError: If one of them has no method ``attach``.
        ValueError: If an argument is for none of them, or an object has no such attribute.
    """
    by_name: dict[str, dict[str, Any]] = {name: {} for name in handlers}
    for path, value in arguments.items():
        name, _, argument = path.partition("__")
        if name not in handlers:
            raise ValueError(f"handlers: {path} is for a handler {name!r}, but there are {few(sorted(handlers))}")
        by_name[name][argument] = value
    return [_made(name, handler, by_name[name]) for name, handler in handlers.items()]


def _made(name: str, handler: Any, arguments: Mapping[str, Any]) -> Any:
    if not hasattr(handler, "attach"):
        raise TypeError(
            f"handlers: {name!r} must be a class or an object with a method attach(engine), got {handler!r}"
        )
    if isinstance(handler, type):
        return handler(**arguments)
    made = copy.deepcopy(handler)
    for attribute, value in arguments.items():
        if not hasattr(made, attribute):
            raise ValueError(f"handlers: {name!r}, a {type(made).__name__}, has no attribute {attribute!r} to be set")
        setattr(made, attribute, value)
    return made


def takes_evaluator(handler: Any) -> bool:
    """Whether it is to be attached to an evaluator too."""
    return "evaluator" in inspect.signature(handler.attach).parameters


def attach(handler: Any, trainer: Engine, evaluator: Engine) -> None:
    """Attach it to the trainer, and to the evaluator if it takes one."""
    if takes_evaluator(handler):
        handler.attach(trainer, evaluator)
    else:
        handler.attach(trainer)

"""Which models, optimizers and other objects a run may change."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.engine.step import EvaluationStep, TrainingStep
from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

__all__ = ["find_objects"]


def find_objects(engine: Engine) -> Iterator[Any]:
    """What an engine's step and handlers name: models, optimizers and whatever else has a state that can be loaded."""
    step = engine._process_function
    if isinstance(step, TrainingStep | EvaluationStep):
        yield step._forward.model
    if isinstance(step, TrainingStep):
        yield from (step._update.optimizer, step._update.scaler)
    yield from _named_by(step)
    for channel in engine._dispatch:
        for listener in channel:
            yield from _named_by(listener.handler)
            yield from _flat((*listener.args, *listener.kwargs.values()))
            owner = getattr(listener.handler, "__self__", listener.handler)
            if isinstance(owner, Checkpoint):
                yield from _flat([owner.to_save])


def _named_by(function: Callable[..., Any]) -> Iterator[Any]:
    """The object whose method it is, with what that has, and the variables of outer scopes that it uses."""
    while isinstance(function, functools.partial):
        yield from _flat((*function.args, *function.keywords.values()))
        function = function.func
    owner = getattr(function, "__self__", None)
    if owner is not None:
        yield from _flat([owner, *getattr(owner, "__dict__", {}).values()])
    function = getattr(function, "__func__", function)
    if inspect.isfunction(function):
        found = inspect.getclosurevars(function)
        yield from _flat((*found.nonlocals.values(), *found.globals.values()))
    elif not inspect.isbuiltin(function):
        yield from _flat([function, *getattr(function, "__dict__", {}).values()])


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """The values, and those in lists and dictionaries among them."""
    for value in values:
        if isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, list | tuple):
            yield from value
        else:
            yield value

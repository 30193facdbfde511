"""Put models, optimizers and other objects back as they were."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Generator, Tensor
from torch.nn import Module
from torch.optim import Optimizer

from ignite_core.engine.engine import Engine
from ignite_core.engine.step import EvaluationStep, TrainingStep
from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

__all__ = ["find_objects", "snapshot"]


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


def snapshot(objects: Iterable[Any]) -> Callable[[], None]:
    """Remember the states of objects; what is returned puts them back. Engines, and what has no state, are left out."""
    seen: dict[int, Any] = {}
    for one in objects:
        if not isinstance(one, Engine | type):
            seen.setdefault(id(one), one)
    restores = [restore for one in seen.values() if (restore := _restorer(one)) is not None]

    def put_back() -> None:
        for restore in restores:
            restore()

    return put_back


def _restorer(one: Any) -> Callable[[], None] | None:
    if isinstance(one, Module):
        return _of_module(one)
    if isinstance(one, Optimizer):
        return _of_optimizer(one)
    if isinstance(one, Generator):
        return functools.partial(_set_generator, one, one.get_state())
    if all(callable(getattr(type(one), name, None)) for name in ("state_dict", "load_state_dict")):
        saved = copy.deepcopy(one.state_dict())
        return lambda: one.load_state_dict(saved)
    return None


def _set_generator(generator: Generator, state: Tensor) -> None:
    generator.set_state(state)


def _of_module(module: Module) -> Callable[[], None]:
    """Its values, whether it trains and what of it, and its gradients."""
    saved = copy.deepcopy(module.state_dict())
    modes = [(part, part.training) for part in module.modules()]
    parameters = [
        (one, one.requires_grad, None if one.grad is None else one.grad.clone()) for one in module.parameters()
    ]

    def restore() -> None:
        module.load_state_dict(saved)
        for part, mode in modes:
            part.training = mode
        for parameter, requires_grad, gradient in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient

    return restore


def _of_optimizer(optimizer: Optimizer) -> Callable[[], None]:
    """Its groups and states; the dictionaries of the groups stay the same ones, to which schedulers may refer."""
    groups = [
        (group, {name: value if name == "params" else copy.deepcopy(value) for name, value in group.items()})
        for group in optimizer.param_groups
    ]
    states = {parameter: copy.deepcopy(state) for parameter, state in optimizer.state.items()}

    def restore() -> None:
        optimizer.param_groups[:] = [group for group, _ in groups]
        for group, saved in groups:
            group.clear()
            group.update(saved)
        optimizer.state.clear()
        optimizer.state.update(states)

    return restore

"""A trial: whatever happens in it, everything is put back afterwards to what it was, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from ignite_core.engine.aside import set_aside
from ignite_core.engine.engine import Engine
from ignite_core.rng import rng_state, set_rng_state, source_of

__all__ = ["PutBack", "can_be_remembered"]


class PutBack:
    """Remembers things, and puts them back at its end, the last one first; also if the trial, or one of them, raises.

    Objects stay the objects that they are: a tensor, a parameter group or the state of an engine gets its old contents
    back, so who has kept a reference to it has the right one.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> with PutBack() as trial:
        ...     trial.remember(optimizer)
        ...     weight.sum().backward()
        ...     optimizer.step()
        >>> weight.detach(), weight.grad, len(optimizer.state)
        (tensor([1., 1.]), None, 0)
    """

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._seen: dict[int, Tensor] = {}  # those that are remembered; they must live, so that no id is used again

    def __enter__(self) -> PutBack:
        self._undo.callback(set_rng_state, rng_state())
        return self

    def __exit__(self, *error: Any) -> None:
        self._seen = {}
        self._undo.close()

    def remember(self, thing: Any) -> None:
        """Remember a module, an optimizer with its parameters, a random generator, or what else has a state dict."""
        source = source_of(thing)
        if isinstance(thing, Module):
            self._remember_module(thing)
        elif isinstance(thing, Optimizer):
            for group in thing.param_groups:
                for parameter in group["params"]:
                    self._remember_parameter(parameter)
            for value in (thing.state, thing.param_groups):
                self._undo.callback(self._kept(value))
        elif source is not None:
            self._undo.callback(source.set, copy.deepcopy(source.get()))
        else:
            self._undo.callback(thing.load_state_dict, copy.deepcopy(thing.state_dict()))

    def remember_data(self, data: Any) -> None:
        """Remember where data stand: their state dict, and generators of a DataLoader and its sampler."""
        if can_be_remembered(data):
            self.remember(data)
        batch_sampler = getattr(data, "batch_sampler", None)
        for holder in (data, getattr(data, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
            generator = getattr(holder, "generator", None)
            if can_be_remembered(generator):
                self.remember(generator)

    def remember_engine(self, engine: Engine) -> None:
        """Remember how far an engine has come, and make it as new; the user's own attributes can be read meanwhile."""
        step: Any = engine._process_function
        carried = copy.deepcopy(step.carried_state()) if hasattr(step, "carried_state") else None
        if carried:
            self._undo.callback(step.load_carried_state, [carried])
        for value in vars(engine.state).values():
            if can_be_remembered(value):  # a scaler
                self.remember(value)
        self._undo.enter_context(set_aside(engine))

    def _remember_module(self, module: Module) -> None:
        for part in module.modules():
            self._undo.callback(setattr, part, "training", part.training)
            for parameter in part._parameters.values():
                if parameter is not None:
                    self._remember_parameter(parameter)
            for table in (part._parameters, part._buffers):
                self._undo.callback(self._kept(table))
            if type(part).get_extra_state is not Module.get_extra_state:
                self._undo.callback(part.set_extra_state, copy.deepcopy(part.get_extra_state()))

    def _remember_parameter(self, parameter: Tensor) -> None:
        """Its gradient, and whether it needs one; its values are remembered with what holds it."""
        if id(parameter) not in self._seen:
            self._undo.callback(_set_gradient, parameter, self._kept(parameter.grad), parameter.requires_grad)
            self._undo.callback(self._kept(parameter))

    def _kept(self, value: Any) -> Callable[[], Any]:
        """What puts a value back, and returns it: the same object, with its old contents if they can be changed."""
        if isinstance(value, Tensor):
            if id(value) in self._seen:
                return lambda: value
            self._seen[id(value)] = value
            clone = value.detach().clone()
            return lambda: _copy(value, clone)
        if isinstance(value, dict):
            items = {key: self._kept(one) for key, one in value.items()}
            return lambda: _refill(value, items)
        if isinstance(value, list):
            ones = [self._kept(one) for one in value]
            return lambda: _replace(value, ones)
        clone = copy.deepcopy(value)
        return lambda: clone


def can_be_remembered(thing: Any) -> bool:
    """Whether :meth:`PutBack.remember` takes it; engines it does not."""
    if isinstance(thing, Engine | type):
        return False
    has_state = all(callable(getattr(type(thing), name, None)) for name in ("state_dict", "load_state_dict"))
    return has_state or source_of(thing) is not None


def _copy(tensor: Tensor, clone: Tensor) -> Tensor:
    with torch.no_grad():
        return tensor.copy_(clone)


def _refill(value: dict[Any, Any], items: Mapping[Any, Callable[[], Any]]) -> dict[Any, Any]:
    old = {key: put_back() for key, put_back in items.items()}
    value.clear()
    value.update(old)
    return value


def _replace(value: list[Any], ones: list[Callable[[], Any]]) -> list[Any]:
    value[:] = [put_back() for put_back in ones]
    return value


def _set_gradient(parameter: Tensor, gradient: Callable[[], Tensor | None], requires_grad: bool) -> None:
    parameter.requires_grad_(requires_grad)
    parameter.grad = gradient()

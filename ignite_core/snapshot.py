"""Save engines, modules, optimizers and random states in memory, and restore them in place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from ignite_core.engine.engine import Engine
from ignite_core.engine.run import Run
from ignite_core.engine.state import State
from ignite_core.rng import rng_state, set_rng_state, source_of

__all__ = ["Snapshot", "can_be_saved"]

#: Attributes of a state that are not the user's.
_COUNTERS: Final = tuple(name for name in State.__slots__ if not name.startswith("__"))


class Snapshot:
    """Saves the state of objects, and restores it on exit in reverse order, also if an exception is raised.

    The random states of Python, numpy and torch are always included. Objects are restored in place, as a tensor, a
    parameter group or the state of an engine, so references to them stay valid.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> with Snapshot() as snapshot:
        ...     snapshot.save(optimizer)
        ...     weight.sum().backward()
        ...     optimizer.step()
        >>> weight.detach(), weight.grad, len(optimizer.state)
        (tensor([1., 1.]), None, 0)
    """

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._seen: dict[int, Tensor] = {}  # saved tensors by id, kept alive so that ids are not reused

    def __enter__(self) -> Snapshot:
        self._undo.callback(set_rng_state, rng_state())
        return self

    def __exit__(self, *error: object) -> None:
        self._seen = {}
        self._undo.close()

    def save(self, thing: Any) -> None:
        """Save a module, an optimizer with its parameters, a random generator, or any object with a state dict."""
        source = source_of(thing)
        if isinstance(thing, Module):
            self._save_module(thing)
        elif isinstance(thing, Optimizer):
            for group in thing.param_groups:
                for parameter in group["params"]:
                    self._save_parameter(parameter)
            for value in (thing.state, thing.param_groups):
                self._undo.callback(self._kept(value))
        elif source is not None:
            self._undo.callback(source.set, copy.deepcopy(source.get()))
        else:
            self._undo.callback(thing.load_state_dict, copy.deepcopy(thing.state_dict()))

    def save_data(self, data: Any) -> None:
        """Save the position of data: their state dict, and the generators of a DataLoader and its samplers."""
        if can_be_saved(data):
            self.save(data)
        batch_sampler = getattr(data, "batch_sampler", None)
        for holder in (data, getattr(data, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)):
            generator = getattr(holder, "generator", None)
            if can_be_saved(generator):
                self.save(generator)

    def save_engine(self, engine: Engine) -> None:
        """Save an engine and the objects in its state, and let it start a new run.

        The user's own attributes of its state can be read meanwhile; those that are set or added are restored.

        Raises:
            RuntimeError: If the engine is running.
        """
        self.save_run(engine)
        step: Any = engine.process_function
        window = copy.deepcopy(step.step_state()) if hasattr(step, "step_state") else None
        if window:
            self._undo.callback(step.load_step_state, [window])
        own = dict(vars(engine.state))
        for value in own.values():
            if can_be_saved(value):  # a gradient scaler
                self.save(value)
        engine._run = Run()
        new = State()
        _set_attributes(engine.state, {name: getattr(new, name) for name in _COUNTERS if name != "_metrics"}, own)

    def save_run(self, engine: Engine) -> None:
        """Save the progress of an engine, a pause or a loaded position included, and the attributes of its state.

        The position is not copied: set another one before a run.

        Raises:
            RuntimeError: If the engine is running.
        """
        if engine.is_running:
            raise RuntimeError("Snapshot: the engine is running; save it before its run")
        state, metrics = engine.state, engine.state._metrics
        self._undo.callback(metrics.update, {name: metrics.unread(name) for name in metrics})
        self._undo.callback(metrics.clear)
        self._undo.callback(engine._dispatch.saved())
        for name in ("_run", "last_event_name"):
            self._undo.callback(setattr, engine, name, getattr(engine, name))
        engine._run = copy.copy(engine._run)
        self._undo.callback(setattr, engine, "state", state)
        self._undo.callback(
            _set_attributes, state, {name: getattr(state, name) for name in _COUNTERS}, dict(vars(state))
        )
        state.times = dict(state.times)

    def _save_module(self, module: Module) -> None:
        for part in module.modules():
            self._undo.callback(setattr, part, "training", part.training)
            for parameter in part._parameters.values():
                if parameter is not None:
                    self._save_parameter(parameter)
            for table in (part._parameters, part._buffers):
                self._undo.callback(self._kept(table))
            if type(part).get_extra_state is not Module.get_extra_state:
                self._undo.callback(part.set_extra_state, copy.deepcopy(part.get_extra_state()))

    def _save_parameter(self, parameter: Tensor) -> None:
        """Save the values and the gradient of a parameter, and whether it requires one."""
        if is_lazy(parameter):
            raise ValueError(
                "a lazy module cannot be restored to its state before the first batch; initialize it before, with "
                "model(batch)"
            )
        if id(parameter) not in self._seen:
            self._undo.callback(_set_gradient, parameter, self._kept(parameter.grad), parameter.requires_grad)
            self._undo.callback(self._kept(parameter))

    def _kept(self, value: Any) -> Callable[[], Any]:
        """Return a function that restores a value and returns it: the same object if it is mutable."""
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


def can_be_saved(thing: Any) -> bool:
    """Whether :meth:`Snapshot.save` supports an object; engines have :meth:`Snapshot.save_engine`."""
    if isinstance(thing, Engine | type):
        return False
    has_state = all(callable(getattr(type(thing), name, None)) for name in ("state_dict", "load_state_dict"))
    return has_state or source_of(thing) is not None


def _copy(tensor: Tensor, clone: Tensor) -> Tensor:
    with torch.no_grad():
        return tensor.copy_(clone)


def _refill(value: dict[Any, Any], items: Mapping[Any, Callable[[], Any]]) -> dict[Any, Any]:
    old = {key: restore() for key, restore in items.items()}
    value.clear()
    value.update(old)
    return value


def _replace(value: list[Any], ones: list[Callable[[], Any]]) -> list[Any]:
    value[:] = [restore() for restore in ones]
    return value


def _set_gradient(parameter: Tensor, gradient: Callable[[], Tensor | None], requires_grad: bool) -> None:
    parameter.requires_grad_(requires_grad)
    parameter.grad = gradient()


def _set_attributes(state: State, counters: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    for name in [name for name in vars(state) if name not in own]:
        delattr(state, name)
    for name, value in (*counters.items(), *own.items()):
        setattr(state, name, value)

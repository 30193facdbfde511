"""The moment just before an optimizer moves the weights, whoever makes it do so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ignite_core.handlers.checkpoint.sharded import dtensor_type

__all__ = ["before_each_step", "check_optimizer", "gradient_norm", "parameters_of"]


def check_optimizer(where: str, optimizer: Any) -> None:
    """Refuse what is no optimizer.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{where}: optimizer must be a torch.optim.Optimizer, got {optimizer!r}")


def parameters_of(optimizer: Optimizer) -> list[Parameter]:
    """The parameters that a step would move: those with a gradient."""
    return [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]


@torch.no_grad()
def gradient_norm(parameters: Iterable[Parameter], order: float) -> Tensor:
    """The p-norm of all gradients together; of sharded ones a DTensor, unless it is the largest absolute value.

    That torch does not take of a part without elements, which a rank has of a parameter with fewer rows than ranks.
    """
    gradients = [one.grad for one in parameters if one.grad is not None]
    kind = dtensor_type()
    if order != math.inf or kind is None or not any(isinstance(one, kind) for one in gradients):
        return torch.nn.utils.get_total_norm(gradients, order)
    parts = [(one.to_local(), one.device_mesh) if isinstance(one, kind) else (one, None) for one in gradients]
    largest = []
    for mesh in dict.fromkeys(mesh for _, mesh in parts):
        own = [part.abs().max() for part, of_mesh in parts if of_mesh == mesh and part.numel()]
        found = torch.stack(own).max() if own else parts[0][0].new_zeros(())
        if mesh is not None:
            from torch.distributed.tensor import Partial  # loaded already, as there are DTensors

            found = kind.from_local(found, mesh, [Partial("max")] * mesh.ndim, run_check=False).full_tensor()
        largest.append(found)
    return torch.stack(largest).max()


@contextmanager
def before_each_step(optimizer: Optimizer, look: Callable[[list[Parameter]], object]) -> Iterator[None]:
    """Inside, call ``look`` with the parameters at each ``optimizer.step()``, when their gradients are complete.

    Gradients are then without the factor of a GradScaler. A step that the scaler leaves out, as it met an infinity, is
    none (but for fused optimizers, which find out on the device). Several looks come in the order they were asked for.
    If the step has a closure, that makes the gradients: ``look`` is called after each call of it. It is not called
    where there is no gradient at all.

    Example:
        >>> weight = Parameter(torch.ones(2))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> with before_each_step(optimizer, lambda parameters: print(parameters[0].grad)):
        ...     (3 * weight).sum().backward()
        ...     optimizer.step()
        tensor([3., 3.])
    """
    handle = optimizer.register_step_pre_hook(partial(_at_step, look))
    try:
        yield
    finally:
        handle.remove()


def _at_step(
    look: Callable[[list[Parameter]], object], optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The hook: ``args`` begin with the optimizer, then comes the closure."""
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    if closure is None:
        _unscale(optimizer)
        _look(look, optimizer)
        return None

    def closure_then_look() -> Any:
        loss = closure()
        _look(look, optimizer)
        return loss

    if len(args) > 1:
        return (args[0], closure_then_look, *args[2:]), kwargs
    return args, {**kwargs, "closure": closure_then_look}


def _look(look: Callable[[list[Parameter]], object], optimizer: Optimizer) -> None:
    parameters = parameters_of(optimizer)
    if parameters:
        look(parameters)


@torch.no_grad()
def _unscale(optimizer: Any) -> None:
    """Do at once what a fused optimizer would do in its step, if a GradScaler has left that to it."""
    scale = getattr(optimizer, "grad_scale", None)
    if scale is None:
        return
    by_device: dict[torch.device, list[Tensor]] = {}
    for parameter in parameters_of(optimizer):
        assert parameter.grad is not None
        by_device.setdefault(parameter.grad.device, []).append(parameter.grad)
    factor = scale.reciprocal()
    for device, gradients in by_device.items():
        torch._foreach_mul_(gradients, factor.to(device))
    optimizer.grad_scale = None

"""A hook before each update of the weights by an optimizer, regardless of the caller."""

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


def check_optimizer(where: str, optimizer: object) -> None:
    """Raise a TypeError if it is not an optimizer of torch."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{where}: optimizer must be a torch.optim.Optimizer, got {optimizer!r}")


def parameters_of(optimizer: Optimizer) -> list[Parameter]:
    """The parameters that a step would update: those with a gradient."""
    return [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]


@torch.no_grad()
def gradient_norm(parameters: Iterable[Parameter], order: float) -> Tensor:
    """The p-norm of all gradients together; of sharded gradients a DTensor, except for the infinity norm.

    The infinity norm is computed here, as torch's fails on an empty shard, which a rank has of a parameter with fewer
    rows than ranks.
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
            from torch.distributed.tensor import Partial  # already imported, as there are DTensors

            found = kind.from_local(found, mesh, [Partial("max")] * mesh.ndim, run_check=False).full_tensor()
        largest.append(found)
    return torch.stack(largest).max()


@contextmanager
def before_each_step(optimizer: Optimizer, callback: Callable[[list[Parameter]], object]) -> Iterator[None]:
    """A context in which ``callback(parameters)`` is called at each ``optimizer.step()``, with complete gradients.

    The gradients are without the factor of a GradScaler. The callback is not called for a step that the scaler skips
    because of an infinite gradient (except with fused optimizers, which find this out on the device), nor if there is
    no gradient. Several callbacks are called in the order of registration. If the step has a closure, the callback is
    called after each call of the closure, which computes the gradients.

    Example:
        >>> weight = Parameter(torch.ones(2))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> with before_each_step(optimizer, lambda parameters: print(parameters[0].grad)):
        ...     (3 * weight).sum().backward()
        ...     optimizer.step()
        tensor([3., 3.])
    """
    handle = optimizer.register_step_pre_hook(partial(_at_step, callback))
    try:
        yield
    finally:
        handle.remove()


def _at_step(
    callback: Callable[[list[Parameter]], object], optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The hook; ``args`` are the optimizer and the closure."""
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    if closure is None:
        _unscale(optimizer)
        _call(callback, optimizer)
        return None

    def closure_and_callback() -> Any:
        loss = closure()
        _call(callback, optimizer)
        return loss

    if len(args) > 1:
        return (args[0], closure_and_callback, *args[2:]), kwargs
    return args, {**kwargs, "closure": closure_and_callback}


def _call(callback: Callable[[list[Parameter]], object], optimizer: Optimizer) -> None:
    parameters = parameters_of(optimizer)
    if parameters:
        callback(parameters)


@torch.no_grad()
def _unscale(optimizer: Any) -> None:
    """Remove the factor of a GradScaler, which leaves this to the step of a fused optimizer."""
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

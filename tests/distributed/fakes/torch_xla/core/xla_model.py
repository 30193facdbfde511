"""A stand-in for ``torch_xla.core.xla_model``, as strict as a TPU: few dtypes, and all ranks in each collective."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from tests.distributed.fakes.processes import Processes

from .. import runtime, sync  # noqa: TID252 - only on a path of its own is this `torch_xla`

REDUCE_SUM, REDUCE_MUL, REDUCE_AND, REDUCE_OR, REDUCE_MIN, REDUCE_MAX = "sum", "mul", "and", "or", "min", "max"

_FOLDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    REDUCE_SUM: torch.add,
    REDUCE_MIN: torch.minimum,
    REDUCE_MAX: torch.maximum,
}
_processes: Processes | None = None


def _all() -> Processes:
    global _processes
    if _processes is None:
        _processes = Processes("torch_xla", runtime.global_ordinal(), runtime.world_size())
    return _processes


def _check_groups(groups: list[list[int]] | None) -> list[int] | None:
    if not groups:
        return None
    if sorted(rank for group in groups for rank in group) != list(range(runtime.world_size())):
        raise RuntimeError(f"replica groups must hold each replica once, got {groups}")
    return next(group for group in groups if runtime.global_ordinal() in group)


def all_reduce(
    reduce_type: str,
    inputs: Tensor | list[Tensor],
    scale: float = 1.0,
    groups: list[list[int]] | None = None,
    pin_layout: bool = True,
) -> Tensor | list[Tensor]:
    tensors = [inputs] if isinstance(inputs, Tensor) else inputs
    if any(tensor.dtype not in (torch.float32, torch.bfloat16) for tensor in tensors) or reduce_type not in _FOLDS:
        raise RuntimeError(f"UNIMPLEMENTED: all-reduce {reduce_type} of {[tensor.dtype for tensor in tensors]}")
    ranks = _check_groups(groups)
    kind = f"all_reduce {reduce_type} {[tuple(tensor.shape) for tensor in tensors]}"
    rows = _all().exchange(kind, [tensor.detach() for tensor in tensors], ranks)
    reduced = [(reduce(_FOLDS[reduce_type], column) * scale).clone() for column in zip(*rows, strict=True)]
    if isinstance(inputs, Tensor):
        return reduced[0]
    for tensor, result in zip(inputs, reduced, strict=True):
        tensor.detach().copy_(result)
    return inputs


def all_gather(
    value: Tensor,
    dim: int = 0,
    groups: list[list[int]] | None = None,
    output: Tensor | None = None,
    pin_layout: bool = True,
) -> Tensor:
    if pin_layout and value.dtype not in (torch.float32, torch.bfloat16):
        raise RuntimeError(f"UNIMPLEMENTED: all-reduce of {value.dtype}, by which a pinned all-gather is made")
    if value.element_size() > 4:
        raise RuntimeError(f"UNIMPLEMENTED: all-gather of {value.dtype}")
    rows = _all().exchange(f"all_gather {tuple(value.shape)} {value.dtype}", value.detach(), _check_groups(groups))
    return torch.cat([row + 0.0 for row in rows] if pin_layout else rows, dim)


def rendezvous(tag: str, payload: bytes = b"", replicas: list[int] | None = None) -> list[bytes]:
    return _all().exchange(f"rendezvous {tag}", payload)


def broadcast_master_param(model: torch.nn.Module) -> None:
    tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
    of_master = _all().exchange("broadcast_master_param", tensors)[0]
    for tensor, theirs in zip(tensors, of_master, strict=True):
        tensor.copy_(theirs)
    sync()


def reduce_gradients(optimizer: Any, groups: Any = None, pin_layout: bool = True) -> None:
    if runtime.world_size() > 1:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        all_reduce(REDUCE_SUM, gradients, scale=1.0 / runtime.world_size(), groups=groups)


def optimizer_step(optimizer: Any, barrier: bool = False, optimizer_args: dict[str, Any] | None = None) -> Any:
    reduce_gradients(optimizer)
    loss = optimizer.step(**(optimizer_args or {}))
    if barrier:
        sync()
    return loss

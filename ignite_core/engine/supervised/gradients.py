"""Gradients between the backward pass and the optimizer step, independent of an engine."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch.nn import Module, Parameter
from torch.nn.parallel import DistributedDataParallel

__all__ = ["average_over_ranks", "find_ddp", "scale_gradients", "without_ddp"]


def find_ddp(model: Module) -> DistributedDataParallel | None:
    """The model, compiled or not, if it is a DistributedDataParallel; else None.

    Other wrappers with a ``no_sync`` are not supported: gradients that FSDP has not synchronised have another shape and
    cannot be averaged later.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile
    return model if isinstance(model, DistributedDataParallel) else None


def without_ddp(model: Module) -> Module:
    """The module inside a DistributedDataParallel; any other model itself.

    The forward pass of the wrapper may broadcast buffers, and then waits for ranks that have no batch.
    """
    ddp = find_ddp(model)
    return model if ddp is None else ddp.module


def scale_gradients(parameters: Iterable[Parameter], factor: float) -> None:
    """Multiply in place the gradients that exist."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


@torch.no_grad()
def average_over_ranks(model: DistributedDataParallel, weight: int) -> int:
    """Replace gradients that were accumulated without synchronisation by their weighted mean over all ranks.

    Every rank must call it. As in DistributedDataParallel, a parameter that no rank has used keeps no gradient.

    Args:
        model: The model, whose process group is used.
        weight: Batches of this rank; 0 if its gradients do not count.

    Returns:
        The sum of all weights. If it is 0, nothing was done.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    numbers = [weight, *(weight > 0 and parameter.grad is not None for parameter in parameters)]
    counts = torch.tensor(numbers, device=parameters[0].device)
    dist.all_reduce(counts, group=model.process_group)
    total, *holders = counts.tolist()
    for parameter, ranks in zip(parameters, holders, strict=True):
        if ranks:
            if parameter.grad is None or weight == 0:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.mul_(weight / total)
            dist.all_reduce(parameter.grad, group=model.process_group)
    return int(total)

"""A stand-in for ``horovod.torch``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from tests.distributed.fakes.processes import Processes

Average, Sum, Adasum, Min, Max, Product = range(6)

_FOLDS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
    Average: torch.add,
    Sum: torch.add,
    Min: torch.minimum,
    Max: torch.maximum,
    Product: torch.mul,
}
_REDUCED = {torch.int32, torch.int64, torch.float16, torch.float32, torch.float64}
_MOVED = _REDUCED | {torch.bool, torch.uint8, torch.int8, torch.int16}


class ProcessSet:
    process_set_id: int | None = None

    def __init__(self, ranks: Iterable[int]) -> None:
        self.ranks = sorted(ranks)

    def included(self) -> bool:
        return rank() in self.ranks

    def size(self) -> int:
        return len(self.ranks)


class HorovodInternalError(RuntimeError):
    pass


global_process_set = ProcessSet([])
_processes: Processes | None = None
_is_dynamic = False


def init(comm: Any = None, process_sets: Sequence[ProcessSet] | str | None = None) -> None:
    global _processes, _is_dynamic
    if _processes is None:
        rank, size = int(os.environ.get("HOROVOD_RANK", "0")), int(os.environ.get("HOROVOD_SIZE", "1"))
        _processes = Processes("horovod", rank, size)
        _is_dynamic = process_sets == "dynamic"
        global_process_set.ranks = list(range(size))


def shutdown() -> None:
    global _processes
    _processes = None


def is_initialized() -> bool:
    return _processes is not None


def _joined() -> Processes:
    if _processes is None:
        raise ValueError("Horovod has not been initialized; use hvd.init().")
    return _processes


def rank() -> int:
    return _joined().rank


def size() -> int:
    return _joined().size


def local_rank() -> int:
    return int(os.environ.get("HOROVOD_LOCAL_RANK", str(_joined().rank)))


def local_size() -> int:
    return int(os.environ.get("HOROVOD_LOCAL_SIZE", str(_joined().size)))


def cross_rank() -> int:
    return rank() // local_size()


def cross_size() -> int:
    return size() // local_size()


def add_process_set(process_set: ProcessSet | Sequence[int]) -> ProcessSet:
    made = process_set if isinstance(process_set, ProcessSet) else ProcessSet(process_set)
    if not _is_dynamic:
        raise ValueError("Can't add process sets: set HOROVOD_DYNAMIC_PROCESS_SETS=1 or process_sets='dynamic'")
    told = _joined().exchange("add_process_set", made.ranks)
    if any(ranks != made.ranks for ranks in told):
        raise HorovodInternalError(f"process sets differ between ranks: {told}")
    made.process_set_id = hash(tuple(made.ranks))
    return made


def _exchange(operation: str, tensor: Tensor, process_set: ProcessSet, dtypes: set[torch.dtype]) -> list[Tensor]:
    processes = _joined()
    if tensor.dtype not in dtypes:
        raise ValueError(f"Tensor type {tensor.type()} is not supported.")
    if not tensor.is_contiguous():
        raise ValueError("Tensor is required to be contiguous.")
    if processes.rank not in process_set.ranks:
        raise HorovodInternalError(f"{operation}: rank {processes.rank} is not in the process set {process_set.ranks}")
    return processes.exchange(operation, tensor.detach(), process_set.ranks)


def allreduce(
    tensor: Tensor,
    average: bool | None = None,
    name: str | None = None,
    compression: Any = None,
    op: int | None = None,
    prescale_factor: float = 1.0,
    postscale_factor: float = 1.0,
    process_set: ProcessSet = global_process_set,
) -> Tensor:
    op = Average if op is None else op
    tensors = _exchange(f"allreduce {op}", tensor, process_set, _REDUCED)
    if len({(other.dtype, other.shape) for other in tensors}) > 1:
        raise HorovodInternalError("Mismatched allreduce tensor shapes")
    total = reduce(_FOLDS[op], tensors).clone()
    return total if op != Average else total / len(tensors) if total.is_floating_point() else total // len(tensors)


def allgather(tensor: Tensor, name: str | None = None, process_set: ProcessSet = global_process_set) -> Tensor:
    tensors = _exchange("allgather", tensor, process_set, _MOVED)
    if tensor.ndim == 0:
        raise HorovodInternalError("allgather: a tensor must have at least one dimension")
    if len({(other.dtype, other.shape[1:]) for other in tensors}) > 1:
        raise HorovodInternalError("Mismatched allgather tensor shapes")
    return torch.cat(tensors)


def broadcast(
    tensor: Tensor, root_rank: int, name: str | None = None, process_set: ProcessSet = global_process_set
) -> Tensor:
    tensors = _exchange(f"broadcast from {root_rank}", tensor, process_set, _MOVED)
    if len({(other.dtype, other.shape) for other in tensors}) > 1:
        raise HorovodInternalError("Mismatched broadcast tensor shapes")
    return tensors[root_rank]


def barrier(process_set: ProcessSet = global_process_set) -> None:
    _joined().exchange("barrier", None, process_set.ranks)


def broadcast_parameters(params: Any, root_rank: int) -> None:
    pairs = sorted(params.items()) if isinstance(params, dict) else list(params)
    for _, tensor in pairs:
        if torch.is_tensor(tensor):
            with torch.no_grad():
                tensor.copy_(broadcast(tensor.detach().contiguous(), root_rank))


def broadcast_optimizer_state(optimizer: torch.optim.Optimizer, root_rank: int) -> None:
    if not optimizer.state:  # as the real one does it: a step with gradients of zero makes a state
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    states = _joined().exchange("broadcast_optimizer_state", optimizer.state_dict())
    optimizer.load_state_dict(states[root_rank])


def DistributedOptimizer(optimizer: torch.optim.Optimizer, op: int = Average, **kwargs: Any) -> torch.optim.Optimizer:  # noqa: N802
    """An optimizer of a new class that is named as, and derived from, that of the one it takes."""

    def step(self: Any, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad = allreduce(parameter.grad, op=op)
        return super(wrapped, self).step(closure)

    base = type(optimizer)
    wrapped: Any = type(base.__name__, (base,), {"step": step, "is_distributed": True, "options": kwargs})
    made: torch.optim.Optimizer = wrapped.__new__(wrapped)
    made.__dict__.update(optimizer.__dict__)
    return made

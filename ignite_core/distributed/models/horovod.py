"""Horovod: processes that ``horovodrun``, ``mpirun`` or :func:`horovod.run` has started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ignite_core.distributed.environment import Place
from ignite_core.distributed.models.base import ComputationModel
from ignite_core.distributed.models.packages import check_launcher, refuse, require
from ignite_core.distributed.wire import from_bytes, to_bytes

__all__ = ["HorovodModel"]

_INSTALL = "HOROVOD_WITH_PYTORCH=1 pip install 'horovod[pytorch]'"
_REDUCED = {torch.int32, torch.int64, torch.float32, torch.float64}
_OPS = {"SUM": "Sum", "PRODUCT": "Product", "MIN": "Min", "MAX": "Max"}  # older versions know the sum only


class HorovodModel(ComputationModel):
    """The processes of Horovod (>= 0.23).

    Args:
        hvd: The module ``horovod.torch``, initialised.
    """

    name = "horovod-dist"
    available_backends = ("horovod",)

    #: The process was started by :meth:`spawn`, which had to initialise Horovod to learn the local rank.
    _is_begun: ClassVar[bool] = False

    def __init__(self, hvd: Any) -> None:
        self._hvd = hvd
        self.rank, self.world_size = hvd.rank(), hvd.size()
        nodes = (hvd.local_rank(), hvd.local_size(), hvd.cross_size(), hvd.cross_rank())
        self._place = Place(self.rank, self.world_size, *nodes)
        self._uses_cuda = torch.cuda.is_available() and hvd.local_size() <= torch.cuda.device_count()

    @classmethod
    def create(cls, backend: str, **kwargs: Any) -> Self:
        hvd = require("horovod.torch", backend, _INSTALL)
        if not HorovodModel._is_begun:
            if hvd.is_initialized():
                raise RuntimeError(
                    f"idist.initialize: horovod is initialised already (rank {hvd.rank()} of {hvd.size()}); "
                    "call idist.finalize() first"
                )
            hvd.init(**{"process_sets": "dynamic", **kwargs})
        else:
            refuse("idist.spawn", backend, kwargs)
        HorovodModel._is_begun = False
        check_launcher(hvd.size(), backend, "use horovodrun, or idist.spawn")
        model = cls(hvd)
        if model._uses_cuda:
            torch.cuda.set_device(model.local_rank())
        return model

    @classmethod
    def from_context(cls) -> Self | None:
        hvd: Any = sys.modules.get("horovod.torch")
        return cls(hvd) if hvd is not None and hvd.is_initialized() else None

    @classmethod
    def spawn(
        cls, worker: Callable[[int], None], nproc_per_node: int, nnodes: int = 1, node_rank: int = 0, **kwargs: Any
    ) -> None:
        """Start the processes of all nodes from this one; ``hosts`` or ``hostfile`` names the nodes."""
        run = require("horovod", "horovod", _INSTALL).run
        if node_rank != 0 or (nnodes > 1 and not {"hosts", "hostfile"} & set(kwargs)):
            raise ValueError(
                "spawn: horovod starts the processes of all nodes from the first one, and needs hosts or hostfile if "
                f"there are several; got nnodes={nnodes}, node_rank={node_rank} and {sorted(kwargs)}"
            )
        run(partial(_enter, worker), np=nnodes * nproc_per_node, **kwargs)

    def backend(self) -> str:
        return "horovod"

    def locate(self) -> Place:
        return self._place

    def device(self) -> torch.device:
        return torch.device("cuda", torch.cuda.current_device()) if self._uses_cuda else torch.device("cpu")

    def reduces(self, tensor: Tensor, op: str) -> bool:
        return tensor.dtype in _REDUCED and hasattr(self._hvd, _OPS.get(op, "unknown"))

    def all_reduce(self, tensor: Tensor, op: str, group: Any) -> Tensor:
        if tensor.numel() == 0:
            return tensor
        reduced: Tensor = self._hvd.allreduce(tensor, op=getattr(self._hvd, _OPS[op]), **_among(group))
        return reduced

    def all_gather(self, tensor: Tensor, group: Any) -> list[Tensor]:
        count = self.world_size if group is None else len(group.ranks)
        if tensor.numel() == 0:
            return [tensor.clone() for _ in range(count)]
        rows = self._hvd.allgather(to_bytes(tensor), **_among(group)).chunk(count)
        return [from_bytes(row, tensor.dtype, tensor.shape) for row in rows]

    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        if tensor.numel() == 0:
            return tensor
        return from_bytes(self._hvd.broadcast(to_bytes(tensor), root_rank=src), tensor.dtype, tensor.shape)

    def barrier(self) -> None:
        self._hvd.barrier()

    def make_group(self, ranks: tuple[int, ...], **kwargs: Any) -> Any:
        refuse("new_group", "horovod", kwargs)
        return self._hvd.add_process_set(list(ranks))

    def members(self, group: Any) -> tuple[int, ...]:
        if not isinstance(group, self._hvd.ProcessSet):
            raise TypeError(f"group must be a list of ranks or a ProcessSet, got {type(group).__name__}")
        return tuple(group.ranks) if group.included() else ()

    def finalize(self) -> None:
        self._hvd.shutdown()

    def auto_model(self, model: nn.Module, sync_bn: bool, **kwargs: Any) -> nn.Module:
        refuse("auto_model", "horovod", kwargs)
        if sync_bn:
            raise ValueError("auto_model: sync_bn=True needs nccl, got the backend horovod; use hvd.SyncBatchNorm")
        self._hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        return model

    def auto_optim(self, optimizer: torch.optim.Optimizer, **kwargs: Any) -> torch.optim.Optimizer:
        has_state = self.all_reduce(torch.tensor([len(optimizer.state)]), "SUM", None)
        if has_state.any():  # without any, horovod would step once to make some, and so change the parameters
            self._hvd.broadcast_optimizer_state(optimizer, root_rank=0)
        wrapped: torch.optim.Optimizer = self._hvd.DistributedOptimizer(optimizer, **kwargs)
        return wrapped


def _among(group: Any) -> dict[str, Any]:
    return {} if group is None else {"process_set": group}


def _enter(worker: Callable[[int], None]) -> None:
    """The first lines of a spawned process."""
    hvd = require("horovod.torch", "horovod", _INSTALL)
    hvd.init(process_sets="dynamic")
    HorovodModel._is_begun = True
    worker(hvd.local_rank())

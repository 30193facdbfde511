"""PyTorch/XLA (experimental): one process for each device, started by ``torch_xla.launch``.

``docs/distributed.md`` says what was run. Its collectives support few dtypes: a TPU does not sum 64-bit numbers, and no
integers in older versions. So float32 is summed and everything else gathered, as bytes if needed.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from ignite_core.distributed.launch.environment import Place
from ignite_core.distributed.models.base import ComputationModel
from ignite_core.distributed.serialization import from_bytes, to_bytes

__all__ = ["XlaModel"]

_GATHERED = {torch.float32, torch.int32, torch.uint8}


def _require(module: str) -> Any:
    """Import a module of torch_xla, or say how to get it."""
    try:
        importlib.import_module("torch_xla")
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "torch_xla":
            raise  # torch_xla is installed, but one of its dependencies is not
        raise ModuleNotFoundError(
            "the backend 'xla-tpu' needs the package 'torch_xla', which is not installed: pip install 'torch_xla[tpu]'",
            name="torch_xla",
        ) from error


def _refuse(where: str, arguments: dict[str, Any]) -> None:
    if arguments:
        raise TypeError(f"{where}: the backend 'xla-tpu' takes no {', '.join(sorted(arguments))}")


class XlaModel(ComputationModel):
    """The processes of ``torch_xla`` (>= 2.5)."""

    name = "xla-dist"
    available_backends = ("xla-tpu",)

    def __init__(self) -> None:
        self._xla, self._runtime = _require("torch_xla"), _require("torch_xla.runtime")
        self._xm = _require("torch_xla.core.xla_model")
        self.rank, self.world_size = self._runtime.global_ordinal(), self._runtime.world_size()
        if self.world_size > 1 and self._runtime.addressable_device_count() > 1:
            raise RuntimeError(
                "idist.initialize (backend xla-tpu): there must be a process for each device, but this one drives "
                f"{self._runtime.addressable_device_count()} devices with threads, as on TPU v2 and v3"
            )

    @classmethod
    def create(cls, backend: str, **kwargs: Any) -> Self:
        model = cls()
        _refuse("idist.initialize", kwargs)
        launched = os.environ.get("WORLD_SIZE", "1")
        if model.world_size == 1 and launched != "1":
            raise RuntimeError(
                f"idist.initialize (backend xla-tpu): WORLD_SIZE={launched!r}, as of torchrun, but xla-tpu did not "
                "start this process and finds no other one; use idist.spawn, or torch_xla.launch"
            )
        return model

    @classmethod
    def from_context(cls) -> Self | None:
        runtime: Any = sys.modules.get("torch_xla.runtime")
        if runtime is None or runtime.local_process_count() == 1:
            return None  # without asking for the world size, which torch_xla would cache, for forked processes too
        return cls()

    @classmethod
    def spawn(
        cls, worker: Callable[[int], None], nproc_per_node: int, nnodes: int = 1, node_rank: int = 0, **kwargs: Any
    ) -> None:
        """Start a process for each device of this node; with ``nproc_per_node=1`` use this process and one device."""
        launch = _require("torch_xla").launch
        if nnodes != 1 or node_rank != 0:
            raise ValueError(
                "spawn: torch_xla finds the nodes itself, call it on each of them without nnodes and node_rank; "
                f"got nnodes={nnodes} and node_rank={node_rank}"
            )
        launch(_enter, args=(worker, nproc_per_node), debug_single_process=nproc_per_node == 1, **kwargs)

    def backend(self) -> str:
        return "xla-tpu"

    def locate(self) -> Place:
        if self.world_size == 1:
            return Place()
        nproc_per_node = self._runtime.local_device_count()
        nnodes = self.world_size // nproc_per_node
        local_rank, node_rank = self._runtime.local_ordinal(), self._runtime.host_index()
        return Place(self.rank, self.world_size, local_rank, nproc_per_node, nnodes, node_rank)

    def device(self) -> torch.device:
        device: torch.device = self._xla.device()
        return device

    def reduces(self, tensor: Tensor, op: str) -> bool:
        return tensor.dtype is torch.float32 and op == "SUM"

    def all_reduce(self, tensor: Tensor, op: str, group: Any) -> Tensor:
        if tensor.numel() == 0:
            return tensor
        reduced: Tensor = self._xm.all_reduce(self._xm.REDUCE_SUM, tensor.to(self.device()))
        return reduced.to(tensor.device)

    def all_gather(self, tensor: Tensor, group: Any) -> list[Tensor]:
        count = self.world_size if group is None else len(group)
        if count == 1 or tensor.numel() == 0:
            return [tensor.clone() for _ in range(count)]
        is_direct = tensor.dtype in _GATHERED
        flat = tensor.reshape(-1) if is_direct else to_bytes(tensor.cpu())
        # A flat tensor has one layout and need not be pinned; pinned, it would be summed, which turns -0.0 into 0.0.
        rows = self._xm.all_gather(flat.to(self.device()), dim=0, pin_layout=False).chunk(count)
        if is_direct:
            return [row.view(tensor.shape).to(tensor.device) for row in rows]
        return [from_bytes(row.cpu(), tensor.dtype, tensor.shape).to(tensor.device) for row in rows]

    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        return self.all_gather(tensor, None)[src]  # torch_xla multiplies by zero and sums, which lets a NaN through

    def barrier(self) -> None:
        self._xm.rendezvous("ignite_core.distributed.barrier")

    def make_group(self, ranks: tuple[int, ...], **kwargs: Any) -> list[int]:
        _refuse("new_group", kwargs)
        if len(ranks) not in (1, self.world_size):
            raise ValueError(
                "new_group: with xla-tpu all ranks must run the same collectives, so that a group must be of one rank "
                f"or of all {self.world_size}, got {list(ranks)}"
            )
        return list(ranks)

    def finalize(self) -> None:
        self._xla.sync()

    def auto_model(self, model: nn.Module, sync_bn: bool, **kwargs: Any) -> nn.Module:
        _refuse("auto_model", kwargs)
        if sync_bn:
            raise ValueError("auto_model: sync_bn=True needs nccl, got the backend xla-tpu")
        self._xm.broadcast_master_param(model)
        return model

    def auto_optim(self, optimizer: torch.optim.Optimizer, **kwargs: Any) -> torch.optim.Optimizer:
        """Average the gradients before each step, which makes it the step of ``xla_model.optimizer_step``."""
        _refuse("auto_optim", kwargs)
        reduce_gradients = self._xm.reduce_gradients
        optimizer.register_step_pre_hook(lambda stepping, args, kwargs: reduce_gradients(stepping))
        return optimizer

    def auto_loader(self, loader: Any) -> Any:
        moved = _require("torch_xla.distributed.parallel_loader").MpDeviceLoader(loader, self.device())
        for name in ("dataset", "sampler", "batch_sampler", "batch_size"):  # an engine calls sampler.set_epoch
            setattr(moved, name, getattr(loader, name))
        return moved


def _enter(index: int, worker: Callable[[int], None], nproc_per_node: int) -> None:
    """Run a worker in a spawned process."""
    runtime = _require("torch_xla.runtime")
    if nproc_per_node > 1 and runtime.local_device_count() != nproc_per_node:
        raise ValueError(
            f"spawn: torch_xla starts a process for each of the {runtime.local_device_count()} devices of this node; "
            f"got nproc_per_node={nproc_per_node}, which must be that number, or 1"
        )
    worker(runtime.local_ordinal())

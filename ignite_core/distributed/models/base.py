"""What the façade needs of a distributed framework, and what holds for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ignite_core.distributed.launch.environment import Place

__all__ = ["ComputationModel"]


class ComputationModel(ABC):
    """A framework that lets processes exchange tensors. Everything else is built on these few primitives.

    Attributes:
        rank: Number of this process, from 0.
        world_size: Number of processes.
    """

    #: What :func:`~ignite_core.distributed.model_name` tells.
    name: ClassVar[str]

    #: What :func:`~ignite_core.distributed.initialize` takes for this model.
    available_backends: ClassVar[tuple[str, ...]] = ()

    #: What :func:`~ignite_core.distributed.set_local_rank` told.
    told_local_rank: ClassVar[int | None] = None

    #: The function of the façade under way, for messages: it may be built on another primitive.
    asked: str = ""

    rank: int
    world_size: int

    @property
    def store(self) -> Any:
        """A key-value store that all ranks read and write; None if the framework has none."""
        return None

    @property
    def timeout(self) -> timedelta | None:
        """The time limit of collectives of all ranks; None if it is not known."""
        return None

    @property
    def collectives_done(self) -> int:
        """How many collectives this process has begun on the default group; 0 where that is not counted."""
        return 0

    @classmethod
    @abstractmethod
    def create(cls, backend: str, **kwargs: Any) -> Self:
        """Join the other processes.

        Raises:
            ModuleNotFoundError: If the package of the framework is missing.
            RuntimeError: If it is running already, or the others cannot be found.
            ValueError: If the environment contradicts itself.
        """

    @classmethod
    @abstractmethod
    def from_context(cls) -> Self | None:
        """The model of a framework that the user has started without us; None if it is not running."""

    @classmethod
    @abstractmethod
    def spawn(cls, worker: Callable[[int], None], nproc_per_node: int, **kwargs: Any) -> Any:
        """Start processes on this node that call ``worker(local_rank)``, and wait for them."""

    @abstractmethod
    def backend(self) -> str | None:
        """Name of what moves the tensors."""

    @abstractmethod
    def locate(self) -> Place:
        """Where this process stands on its node, and that among all."""

    def local_rank(self) -> int:
        """Number of this process on its node, from 0."""
        return self.locate().local_rank

    @abstractmethod
    def device(self) -> torch.device:
        """Where this process computes."""

    @abstractmethod
    def reduces(self, tensor: Tensor, op: str) -> bool:
        """Whether :meth:`all_reduce` takes a tensor of this dtype, on this device, with ``op``."""

    @abstractmethod
    def all_reduce(self, tensor: Tensor, op: str, group: Any) -> Tensor:
        """Reduce over all members; ``tensor`` is contiguous and may be overwritten."""

    @abstractmethod
    def all_gather(self, tensor: Tensor, group: Any) -> list[Tensor]:
        """The tensors of all members, which have one shape and dtype; ``tensor`` is contiguous."""

    @abstractmethod
    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        """The tensor of one rank; the others bring one of its shape and dtype, which may be overwritten."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all have come here."""

    @abstractmethod
    def make_group(self, ranks: tuple[int, ...], **kwargs: Any) -> Any:
        """A group of some ranks, in the form that the other methods take; all ranks call it."""

    @abstractmethod
    def members(self, group: Any) -> tuple[int, ...]:
        """The ranks of a group that :meth:`make_group` gave; empty on a rank that is none of them.

        Raises:
            TypeError: If it is no group of this framework.
        """

    @abstractmethod
    def finalize(self) -> None:
        """Leave the others."""

    def auto_model(self, model: torch.nn.Module, sync_bn: bool, **kwargs: Any) -> torch.nn.Module:
        """Let the copies of a model, one a process, be trained as one; it is on :meth:`device` already."""
        return model

    def shard_model(self, model: torch.nn.Module, **kwargs: Any) -> torch.nn.Module:
        """Let each process keep a part of a model; it is on :meth:`device` already."""
        raise ValueError(f"auto_model: shard=True needs gloo or nccl, got the backend {self.backend()}")

    def auto_optim(self, optimizer: torch.optim.Optimizer, **kwargs: Any) -> torch.optim.Optimizer:
        """Let the optimizers of these copies step as one."""
        return optimizer

    def auto_loader(self, loader: Any) -> Any:
        """Let a loader bring its batches to where this process computes."""
        return loader

    def control_device(self) -> torch.device:
        """Where small values of the program itself (flags, lengths, pickled objects) are exchanged."""
        return torch.device("cpu")

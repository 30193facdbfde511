"""What the façade needs of a distributed framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ignite_core.distributed.launch.environment import Place

__all__ = ["ComputationModel"]


class ComputationModel(ABC):
    """A framework that lets processes exchange tensors. All collectives are built on its few primitives.

    Attributes:
        rank: Rank of this process, from 0.
        world_size: Number of processes.
    """

    #: The result of :func:`~ignite_core.distributed.model_name`.
    name: ClassVar[str]

    #: The backends of :func:`~ignite_core.distributed.initialize` that select this model.
    available_backends: ClassVar[tuple[str, ...]] = ()

    #: The argument of :func:`~ignite_core.distributed.set_local_rank`.
    given_local_rank: ClassVar[int | None] = None

    #: The function of the façade in progress, for messages: it may be built on another primitive.
    operation: str = ""

    rank: int
    world_size: int

    @cached_property
    def groups(self) -> dict[tuple[int, ...], Any]:
        """The groups made from lists of ranks so far."""
        return {}

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
        """How many collectives this process has begun on the default group; 0 if the framework does not count them."""
        return 0

    @classmethod
    @abstractmethod
    def create(cls, backend: str, **kwargs: Any) -> Self:
        """Join the other processes.

        Raises:
            ModuleNotFoundError: If the package of the framework is missing.
            RuntimeError: If it is running already, or the other processes cannot be found.
            ValueError: If environment variables contradict each other.
        """

    @classmethod
    @abstractmethod
    def from_context(cls) -> Self | None:
        """The model of a framework that the user has started; None if it is not running."""

    @classmethod
    @abstractmethod
    def spawn(cls, worker: Callable[[int], None], nproc_per_node: int, **kwargs: Any) -> Any:
        """Start processes on this node that call ``worker(local_rank)``, and wait for them."""

    @abstractmethod
    def backend(self) -> str | None:
        """Name of the backend."""

    @abstractmethod
    def locate(self) -> Place:
        """The ranks of this process and of its node."""

    def local_rank(self) -> int:
        """Rank of this process on its node, from 0."""
        return self.locate().local_rank

    @abstractmethod
    def device(self) -> torch.device:
        """The device of this process."""

    @abstractmethod
    def reduces(self, tensor: Tensor, op: str) -> bool:
        """Whether :meth:`all_reduce` accepts a tensor of this dtype, on this device, with ``op``."""

    @abstractmethod
    def all_reduce(self, tensor: Tensor, op: str, group: Any) -> Tensor:
        """Reduce over all members; ``tensor`` is contiguous and may be overwritten."""

    @abstractmethod
    def all_gather(self, tensor: Tensor, group: Any) -> list[Tensor]:
        """The tensors of all members, which have one shape and dtype; ``tensor`` is contiguous."""

    @abstractmethod
    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        """The tensor of one rank; the others pass one of its shape and dtype, which may be overwritten."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all ranks have reached this call."""

    @abstractmethod
    def make_group(self, ranks: tuple[int, ...], **kwargs: Any) -> Any:
        """A group of ranks, in the form that the other methods take; all ranks call it."""

    def members(self, group: Any) -> tuple[int, ...]:
        """The ranks of a group that :meth:`make_group` returned; empty on a rank outside of it."""
        raise TypeError(f"group must be a list of ranks, got {type(group).__name__}")

    @abstractmethod
    def finalize(self) -> None:
        """Leave the other processes."""

    def auto_model(self, model: torch.nn.Module, sync_bn: bool, **kwargs: Any) -> torch.nn.Module:
        """Train the copies of a model, one on each rank, as one; it is on :meth:`device` already."""
        return model

    def shard_model(self, model: torch.nn.Module, **kwargs: Any) -> torch.nn.Module:
        """Keep a part of a model on each rank; it is on :meth:`device` already."""
        raise ValueError(f"auto_model: shard=True needs gloo or nccl, got the backend {self.backend()}")

    def auto_optim(self, optimizer: torch.optim.Optimizer, **kwargs: Any) -> torch.optim.Optimizer:
        """Let the optimizers of these copies step as one."""
        return optimizer

    def auto_loader(self, loader: Any) -> Any:
        """Let a loader move its batches to :meth:`device`."""
        return loader

    def control_device(self) -> torch.device:
        """The device for small values of the library itself: flags, lengths, pickled objects."""
        return torch.device("cpu")

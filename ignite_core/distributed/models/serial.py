"""A single process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from ignite_core.distributed.launch.environment import Place
from ignite_core.distributed.models.base import ComputationModel

__all__ = ["SerialModel"]


class SerialModel(ComputationModel):
    """A run of one process: every collective returns its argument."""

    name = "serial"

    def __init__(self) -> None:
        self.rank, self.world_size = 0, 1
        self._device: torch.device | None = None  # finding it takes microseconds

    @classmethod
    def create(cls, backend: str, **kwargs: Any) -> Self:
        return cls()

    @classmethod
    def from_context(cls) -> Self | None:
        return cls()

    @classmethod
    def spawn(cls, worker: Callable[[int], None], nproc_per_node: int, **kwargs: Any) -> None:
        raise ValueError("spawn: a serial run has one process; pass a backend to start several")

    def backend(self) -> str | None:
        return None

    def locate(self) -> Place:
        return Place()

    def device(self) -> torch.device:
        if self._device is None:
            accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            self._device = accelerator or torch.device("cpu")
        return self._device

    def reduces(self, tensor: Tensor, op: str) -> bool:
        return True

    def all_reduce(self, tensor: Tensor, op: str, group: Any) -> Tensor:
        return tensor

    def all_gather(self, tensor: Tensor, group: Any) -> list[Tensor]:
        return [tensor]

    def broadcast(self, tensor: Tensor, src: int) -> Tensor:
        return tensor

    def barrier(self) -> None:
        """There are no other ranks."""

    def make_group(self, ranks: tuple[int, ...], **kwargs: Any) -> list[int]:
        return list(ranks)

    def finalize(self) -> None:
        """There are no other ranks."""

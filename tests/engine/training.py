"""What the tests of supervised training share: a small model, its optimizer, batches, and the hand-written loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

Batch = tuple[Tensor, Tensor]


def make_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Always the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(dtype)


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """One with a memory, so that a step too many or too few shows."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def make_batches(number: int, dtype: torch.dtype = torch.float64) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    random = [torch.randn(4, 4, generator=generator, dtype=dtype) for _ in range(number)]
    return [(both[:, :3], both[:, 3:]) for both in random]


def merge(batches: Sequence[Batch]) -> Batch:
    """One batch of all examples."""
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def train_by_hand(batches: Iterable[Batch], dtype: torch.dtype = torch.float64) -> nn.Module:
    """A model trained with one optimizer step for each batch, in the plainest loop."""
    model = make_model(dtype)
    optimizer = make_optimizer(model)
    for x, y in batches:
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        optimizer.step()
    return model


def weights(model: nn.Module) -> Tensor:
    """All parameters, one after the other."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def gradients(model: nn.Module) -> Tensor:
    """All gradients, one after the other."""
    return torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters() if parameter.grad is not None])


class Unsized:
    """Iterates over the same batches each time, without telling how many they are."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)

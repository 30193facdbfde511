"""Samplers that divide the samples among the ranks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch.utils.data import Sampler
from torch.utils.data.distributed import DistributedSampler

from ignite_core.distributed import utils

__all__ = ["DistributedProxySampler", "ShardSampler"]


class _Shard(DistributedSampler[Any]):
    """Deals an order of samples, the same on all ranks, to the ranks in turn.

    So the batches that the ranks load at the same time are, together, the next samples of that order.
    """

    def __init__(
        self, data: Sized, num_replicas: int | None, rank: int | None, pad: bool, shuffle: bool, seed: int
    ) -> None:
        super().__init__(
            data,  # type: ignore[arg-type]
            utils.get_world_size() if num_replicas is None else num_replicas,
            utils.get_rank() if rank is None else rank,
            shuffle=shuffle,
            seed=seed,
        )
        self.pad = pad
        self._is_epoch_set = True  # set_epoch was called since the last pass, or this is the first pass

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass. An engine calls it; without a call each pass counts as an epoch."""
        self.epoch = epoch
        self._is_epoch_set = True

    def __len__(self) -> int:
        count = len(self._data) - (0 if self.pad else self.rank)
        return max(0, math.ceil(count / self.num_replicas))

    def __iter__(self) -> Iterator[Any]:
        if not self._is_epoch_set:
            self.epoch += 1
        self._is_epoch_set = False
        order = self._order()
        if self.pad and order:
            missing = len(self) * self.num_replicas - len(order)
            order += (order * math.ceil(missing / len(order)))[:missing]
        return iter(order[self.rank :: self.num_replicas])

    @property
    def _data(self) -> Sized:
        return self.dataset  # type: ignore[return-value]

    @abstractmethod
    def _order(self) -> list[Any]:
        """The samples of this epoch, the same list on all ranks."""


class ShardSampler(_Shard):
    """The samples of one rank: every ``num_replicas``-th of the dataset, in its order or shuffled.

    The order depends on the seed and the epoch only, not on the number of ranks.

    Args:
        dataset: Anything with a length.
        num_replicas: Number of ranks; by default the world size.
        rank: Number of the rank; by default this one.
        shuffle: Use another order in each epoch.
        seed: Seed of the orders, the same on all ranks.
        pad: Repeat the first samples until all ranks have the same number, as training needs. False: every sample on
            exactly one rank, as exact evaluation needs; some ranks then have one more, and some may have none.

    Example:
        >>> [list(ShardSampler(range(5), 2, rank, pad=False)) for rank in range(2)]
        [[0, 2, 4], [1, 3]]
        >>> [list(ShardSampler(range(5), 2, rank)) for rank in range(2)]
        [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        pad: bool = True,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, pad, shuffle, seed)

    def _order(self) -> list[Any]:
        if not self.shuffle:
            return list(range(len(self._data)))
        # not seed + epoch: the second epoch of seed 0 would have the order of the first one of seed 1
        generator = torch.Generator().manual_seed((self.seed * 2_654_435_761 + self.epoch) % 2**32)
        return torch.randperm(len(self._data), generator=generator).tolist()


class DistributedProxySampler(_Shard):
    """The samples of one rank, out of those that another sampler draws.

    All ranks draw the same samples: torch's generator is seeded from the epoch while the sampler is iterated, and
    restored afterwards.

    Args:
        sampler: A sampler with a length; if it uses a custom generator, that must be seeded equally on all ranks.
        num_replicas: As in :class:`ShardSampler`.
        rank: As in :class:`ShardSampler`.
        pad: As in :class:`ShardSampler`.

    Raises:
        TypeError: If ``sampler`` is not a torch Sampler with a length, or is distributed already.

    Example:
        >>> weights = torch.utils.data.WeightedRandomSampler([0.0, 1.0, 0.0], num_samples=4)
        >>> list(DistributedProxySampler(weights, num_replicas=2, rank=1))
        [1, 1]
    """

    def __init__(
        self, sampler: Sampler[Any], num_replicas: int | None = None, rank: int | None = None, pad: bool = True
    ) -> None:
        if not isinstance(sampler, Sampler):
            raise TypeError(f"DistributedProxySampler: sampler must be a torch Sampler, got {type(sampler).__name__}")
        if isinstance(sampler, DistributedSampler):
            raise TypeError(
                f"DistributedProxySampler: sampler must not be distributed already, got {type(sampler).__name__}"
            )
        if not isinstance(sampler, Sized):
            raise TypeError(f"DistributedProxySampler: sampler must have a length, got {type(sampler).__name__}")
        super().__init__(sampler, num_replicas, rank, pad, False, 0)
        self.sampler = sampler

    def _order(self) -> list[Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.epoch)
            return list(self.sampler)

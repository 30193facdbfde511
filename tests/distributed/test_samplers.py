"""Who gets which samples: nothing missing, nothing twice unless asked for, and one order for any number of ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import RandomSampler, Sampler, SequentialSampler, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

from ignite_core.distributed import DistributedProxySampler, ShardSampler

COUNTS = st.integers(0, 40)
RANKS = st.integers(1, 7)


def shards(count: int, ranks: int, **options: Any) -> list[list[int]]:
    samplers = [ShardSampler(range(count), ranks, rank, **options) for rank in range(ranks)]
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers]
    return parts


def dealt_back(parts: list[list[int]]) -> list[int]:
    """The order out of which the shards were dealt."""
    longest = max(len(part) for part in parts)
    return [part[turn] for turn in range(longest) for part in parts if turn < len(part)]


@given(COUNTS, RANKS, st.booleans())
def test_shards_without_padding(count: int, ranks: int, shuffle: bool) -> None:
    """Each sample is on exactly one rank."""
    parts = shards(count, ranks, shuffle=shuffle, pad=False)

    assert sorted(sample for part in parts for sample in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(COUNTS, RANKS, st.booleans())
def test_shards_with_padding(count: int, ranks: int, shuffle: bool) -> None:
    """All ranks have the same number of samples; only the first samples are repeated."""
    parts = shards(count, ranks, shuffle=shuffle)
    order = dealt_back(parts)

    assert len({len(part) for part in parts}) == 1
    assert sorted(order[:count]) == list(range(count))
    assert order[count:] == (order[:count] * ranks)[: len(order) - count]
    assert len(order) - count < ranks


@given(st.integers(1, 40), RANKS, st.integers(0, 5), st.integers(0, 3))
def test_order_does_not_depend_on_ranks(count: int, ranks: int, seed: int, epoch: int) -> None:
    def order(world_size: int) -> list[int]:
        parts = []
        for rank in range(world_size):
            sampler = ShardSampler(range(count), world_size, rank, shuffle=True, seed=seed, pad=False)
            sampler.set_epoch(epoch)
            parts.append(list(sampler))
        return dealt_back(parts)

    assert order(ranks) == order(1)


def test_order_depends_on_epoch_and_seed() -> None:
    orders = set()
    for seed in range(4):
        sampler = ShardSampler(range(50), 1, 0, shuffle=True, seed=seed)
        for epoch in range(4):
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler))

    assert len(orders) == 16


def test_passes_without_set_epoch() -> None:
    """Each pass is an epoch. A bare loop gets another order each time, as from torch's own shuffling."""
    told, untold = (ShardSampler(range(20), 1, 0, shuffle=True) for _ in range(2))
    orders = []
    for epoch in range(3):
        told.set_epoch(epoch)
        orders.append(list(told))

    assert [list(untold) for _ in range(3)] == orders
    assert len({tuple(order) for order in orders}) == 3


def test_is_a_distributed_sampler_of_torch() -> None:
    """Libraries look for that class, and for its attributes."""
    sampler = ShardSampler(range(5), 2, 1, shuffle=True, seed=3)

    assert isinstance(sampler, DistributedSampler)
    assert (sampler.num_replicas, sampler.rank, sampler.shuffle, sampler.seed) == (2, 1, True, 3)


def test_custom_sampler() -> None:
    """A custom sampler draws the same indices on all ranks, which are divided among them."""
    weights = [float(weight) for weight in range(10)]
    parts = []
    for rank in range(3):
        torch.manual_seed(rank)  # the ranks are seeded differently
        parts.append(list(DistributedProxySampler(WeightedRandomSampler(weights, 9), 3, rank)))
    torch.manual_seed(0)

    assert dealt_back(parts) == list(WeightedRandomSampler(weights, 9))
    assert [len(part) for part in parts] == [3, 3, 3]


def test_custom_sampler_keeps_random_state() -> None:
    """Drawing from a sampler does not change the random state of the run."""
    sampler = DistributedProxySampler(RandomSampler(range(10)), 2, 0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(sampler)

    assert torch.equal(torch.rand(3), expected)


def test_custom_sampler_without_padding() -> None:
    parts = [list(DistributedProxySampler(SequentialSampler(range(5)), 3, rank, pad=False)) for rank in range(3)]

    assert parts == [[0, 3], [1, 4], [2]]


class Endless(Sampler[int]):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ([1, 2], "must be a torch Sampler, got list"),
        (DistributedSampler(range(4), 1, 0), "must not be distributed already, got DistributedSampler"),  # type: ignore[arg-type]
        (Endless(), "must have a length, got Endless"),
    ],
)
def test_what_cannot_be_shared_is_refused(sampler: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        DistributedProxySampler(sampler, 2, 0)

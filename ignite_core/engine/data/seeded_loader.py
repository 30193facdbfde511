"""A DataLoader whose items depend on the seed, the pass and their place alone, whoever fetches them, and when.

The loader is copied, every argument and the class kept, and two things in the copy stand in for what was there. The
sampler hands out tickets, ``(seed of the batch, indices)``, and the dataset seeds the generators of the process it is
in before each item. So workers that fetch ahead, persistent ones and none at all give the same items, and a pass begins
anywhere by passing over indices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)
from torch.utils.data.distributed import DistributedSampler

from ignite_core.distributed.samplers import ShardSampler
from ignite_core.rng import Source, Stream, host_state, mix, restore_host, seed_host, source_of, spread

__all__ = ["SeededLoader", "SeededStream"]

#: How samplers are iterated that draw nothing from the generators of the process after their first sample. One with a
#: generator of its own may go on to draw from that.
_DRAWS_AT_ONCE = frozenset(
    kind.__iter__
    for kind in (
        BatchSampler,
        DistributedSampler,
        RandomSampler,
        SequentialSampler,
        ShardSampler,
        SubsetRandomSampler,
        WeightedRandomSampler,
        list,
        range,
    )
)


class SeededLoader:
    """A copy of a map-style DataLoader that makes the same batches again, from any place of any pass.

    Args:
        loader: It is not changed.
        rank: This process; it gets every ``world_size``-th sample of the order of all, beginning with this one.
        world_size: Processes of the run.
    """

    def __init__(self, loader: DataLoader[Any], rank: int, world_size: int) -> None:
        self.place = rank, world_size
        batched = loader.batch_sampler is not None
        sampler: Any = loader.batch_sampler if batched else loader.sampler
        self._tickets = _Tickets(sampler, remembers=not loader.num_workers)
        items = _Items(loader.dataset, rank, world_size)
        self.copied, self._core = _copied(loader, items, **{"batch_sampler" if batched else "sampler": self._tickets})
        if not loader.num_workers:  # then the items are made where the step draws
            self._core.collate_fn = _PuttingBack(self._tickets, loader.collate_fn)

    def begin(self, seed: int, done: int) -> Iterator[Any]:
        """Begin a pass, which has a seed of its own, at a place in it."""
        self._tickets.go_to(seed, done)
        self._core.generator.manual_seed(mix(seed, "workers"))
        return iter(self.copied)

    def check_in_use(self) -> None:
        """Refuse a loader that did not take its indices from the copy.

        Raises:
            TypeError: If the first batch has come and no ticket was asked for.
        """
        if not self._tickets.in_use:
            raise TypeError(
                f"Engine.run: a seeded run numbers the samples of a DataLoader, but {type(self.copied).__name__} takes "
                "them from an iterator that it made before; pass a loader that asks its sampler anew for each pass"
            )


class SeededStream:
    """A copy of a DataLoader over an IterableDataset: each worker draws the same numbers in the same pass again.

    Args:
        loader: It is not changed.
        rank: This process.
        world_size: Processes of the run.
    """

    def __init__(self, loader: DataLoader[Any], rank: int, world_size: int) -> None:
        self.place = rank, world_size
        self._items = _Streamed(loader.dataset)
        self.copied, self._core = _copied(loader, self._items)

    def begin(self, seed: int) -> Iterator[Any]:
        """Begin a pass, which has a seed of its own on each rank, at its start."""
        self._items.pass_seed.fill_(seed >> 1)  # it is signed
        self._core.generator.manual_seed(mix(seed, "workers"))
        return iter(self.copied)


def _copied(loader: DataLoader[Any], dataset: Any, **samplers: Any) -> tuple[Any, Any]:
    """The copy, and the loader that makes its batches: itself, or in an adapter of Accelerate the one that it wraps."""
    new: Any = object.__new__(type(loader))  # copy.copy would take the way of pickle, which classes may change
    inner = vars(loader).get("base_dataloader")
    if inner is not None:
        wrapped, core = _copied(inner, dataset, **samplers)
        vars(new).update(vars(loader), base_dataloader=wrapped)
        return new, core
    # A DataLoader refuses to have these set, so they are put where it keeps them.
    vars(new).update(vars(loader), dataset=dataset, generator=torch.Generator(), _iterator=None, **samplers)
    if loader.num_workers:
        new.worker_init_fn = _ShowDataset(loader.worker_init_fn)
    return new, new


class _StandIn:
    """Takes the place of an object inside a copied loader; what else it is asked for, it asks that object."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __len__(self) -> int:
        return len(self.original)

    def __getattr__(self, name: str) -> Any:
        if name == "original" or name.startswith("__"):  # while it is unpickled, in a worker
            raise AttributeError(name)
        return getattr(self.original, name)


class _Items(_StandIn):
    """Stands in for a dataset: takes a ticket and seeds the generators for each item of it."""

    def __init__(self, original: Any, rank: int, world_size: int) -> None:
        super().__init__(original)
        self.rank, self.world_size = rank, world_size
        self.fetches_batches = _fetches_batches(original)

    def __getitems__(self, ticket: tuple[int, Any]) -> Any:
        seed, indices = ticket
        if self.fetches_batches:
            seed_host(spread(seed, self.rank))
            return self.original.__getitems__(indices)
        original, items = self.original, []
        for number, index in enumerate(indices):
            seed_host(spread(seed, number * self.world_size + self.rank))
            items.append(original[index])
        return items

    def __getitem__(self, ticket: tuple[int, Any]) -> Any:
        seed, index = ticket
        seed_host(spread(seed, self.rank))
        return self.original[index]


def _fetches_batches(dataset: Any) -> bool:
    """Whether a dataset makes the items of a batch together; a Subset only hands on the question."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return bool(getattr(dataset, "__getitems__", None))


class _Streamed(_StandIn, IterableDataset[Any]):
    """Stands in for an IterableDataset: seeds the generators of the process where a pass begins."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.pass_seed = torch.zeros((), dtype=torch.int64)
        self.pass_seed.share_memory_()  # type: ignore[no-untyped-call]  # workers may live longer than a pass

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        seed_host(spread(int(self.pass_seed), 0 if worker is None else worker.id))
        return iter(self.original)


class _PuttingBack:
    """The ``collate_fn`` of a copied loader without workers: leaves the generators as they were before the batch."""

    def __init__(self, tickets: _Tickets, original: Callable[[Any], Any]) -> None:
        self.tickets = tickets
        self.original = original

    def __call__(self, items: Any) -> Any:
        try:
            return self.original(items)
        finally:
            restore_host(self.tickets.before)


class _ShowDataset:
    """The ``worker_init_fn`` of a copied loader: lets ``get_worker_info()`` show the user's dataset, then calls his."""

    def __init__(self, original: Callable[[int], None] | None) -> None:
        self.original = original

    def __call__(self, worker: int) -> None:
        info: Any = get_worker_info()
        object.__setattr__(info, "dataset", info.dataset.original)  # it is frozen
        if self.original is not None:
            self.original(worker)


class _Tickets(_StandIn):
    """Stands in for a sampler: hands out what that does, from a place on, with the seed of each batch.

    The sampler draws from a stream of its own, so it does not matter how far ahead of the step it is.
    """

    def __init__(self, original: Iterable[Any], remembers: bool) -> None:
        super().__init__(original)
        self.remembers = remembers
        self.in_use = False
        self.seed = self.done = 0
        self.before: list[tuple[Source, Any]] = []  # the generators, when a ticket was handed out last

    def go_to(self, seed: int, done: int) -> None:
        """Choose where the next iteration begins."""
        self.seed, self.done = seed, done

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        self.in_use = True
        seed, place = self.seed, self.done
        own, draws_at_once = _generators_of(self.original)
        process, private = Stream(mix(seed, "sampler")), Stream(mix(seed, "generator"), own)
        iterator: Iterator[Any] | None = None
        while True:
            with ExitStack() as streams:
                if iterator is None or not draws_at_once:
                    streams.enter_context(process)
                if own:
                    streams.enter_context(private)
                if iterator is None:
                    iterator = _from(self.original, place)
                try:
                    indices = next(iterator)
                except StopIteration:
                    return
            self.before = host_state() if self.remembers else []
            yield spread(seed, place), indices
            place += 1


def _from(batches: Iterable[Any], place: int) -> Iterator[Any]:
    """The batches after the first ``place`` ones, which nobody makes a list of if that can be helped."""
    if place and type(batches) is BatchSampler:
        samples = itertools.islice(iter(batches.sampler), place * batches.batch_size, None)
        return iter(BatchSampler(samples, batches.batch_size, batches.drop_last))
    return itertools.islice(iter(batches), place, None)


def _generators_of(sampler: Any) -> tuple[list[Source], bool]:
    """The generators that a sampler and those inside it keep, and whether it draws all else at once."""
    found: dict[int, Source] = {}
    samplers: dict[int, Any] = {}
    draws_at_once, waiting = True, [sampler]
    while waiting:
        one = waiting.pop()
        if id(one) not in samplers:
            samplers[id(one)] = one
            draws_at_once = draws_at_once and type(one).__iter__ in _DRAWS_AT_ONCE
            for name, value in getattr(one, "__dict__", {}).items():
                source = source_of(value)
                if source is not None:
                    found[id(value)] = source
                elif isinstance(value, Sampler) or name == "sampler":
                    waiting.append(value)
    return list(found.values()), draws_at_once

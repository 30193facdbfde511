"""A DataLoader whose items depend on the seed, the pass and their place only, not on which worker loads them and when.

The loader is copied, with its class and every argument, and two parts of the copy are replaced. The sampler gives pairs
``(seed of the batch, indices)``, and the dataset seeds the generators of its process before each item. So the items are
the same with workers that prefetch, persistent workers and none, and a pass begins anywhere by skipping indices.
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

#: ``__iter__`` of samplers that draw nothing from the generators of the process after their first sample. A sampler
#: may go on to draw from its own generator.
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
    """A copy of a map-style DataLoader that gives the same batches again, from any place of any pass.

    Args:
        loader: The loader; it is not changed.
        rank: The shard of the samples: each ``world_size``-th one, beginning with this.
        world_size: The number of shards.
    """

    def __init__(self, loader: DataLoader[Any], rank: int, world_size: int) -> None:
        self.place = rank, world_size
        batched = loader.batch_sampler is not None
        sampler: Any = loader.batch_sampler if batched else loader.sampler
        self._sampler = _SeededSampler(sampler, remembers=not loader.num_workers)
        items = _SeededDataset(loader.dataset, rank, world_size)
        self.copied, self._core = _copied(loader, items, **{"batch_sampler" if batched else "sampler": self._sampler})
        if not loader.num_workers:  # items are loaded in the process whose generators the step uses
            self._core.collate_fn = _RestoringCollate(self._sampler, loader.collate_fn)

    def begin(self, seed: int, done: int) -> Iterator[Any]:
        """Begin a pass with this seed, after ``done`` batches."""
        self._sampler.seed, self._sampler.done = seed, done
        self._core.generator.manual_seed(mix(seed, "workers"))
        return iter(self.copied)

    def check_in_use(self) -> None:
        """Check after the first batch that the loader takes its indices from the sampler of the copy.

        Raises:
            TypeError: If it does not.
        """
        if not self._sampler.in_use:
            raise TypeError(
                f"Engine.run: a seeded run numbers the samples of a DataLoader, but {type(self.copied).__name__} takes "
                "them from an iterator that it made before; pass a loader that iterates its sampler in each pass"
            )


class SeededStream:
    """A copy of a DataLoader over an IterableDataset: in each pass, each worker draws the same numbers again."""

    def __init__(self, loader: DataLoader[Any], rank: int, world_size: int) -> None:
        self.place = rank, world_size
        self._items = _SeededIterable(loader.dataset)
        self.copied, self._core = _copied(loader, self._items)

    def begin(self, seed: int) -> Iterator[Any]:
        """Begin a pass at its start, with a seed that differs by rank."""
        self._items.pass_seed.fill_(seed >> 1)  # it is signed
        self._core.generator.manual_seed(mix(seed, "workers"))
        return iter(self.copied)


def _copied(loader: DataLoader[Any], dataset: Any, **samplers: Any) -> tuple[Any, Any]:
    """The copy, and the loader that gives its batches: the copy itself, or the one inside an adapter of Accelerate."""
    new: Any = object.__new__(type(loader))  # copy.copy uses the pickle protocol, which classes may change
    inner = vars(loader).get("base_dataloader")
    if inner is not None:
        wrapped, core = _copied(inner, dataset, **samplers)
        vars(new).update(vars(loader), base_dataloader=wrapped)
        return new, core
    # DataLoader.__setattr__ refuses these names.
    vars(new).update(vars(loader), dataset=dataset, generator=torch.Generator(), _iterator=None, **samplers)
    if loader.num_workers:
        new.worker_init_fn = _WorkerInit(loader.worker_init_fn)
    return new, new


class _Proxy:
    """Replaces an object inside a copied loader; other attributes are those of the object."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def __len__(self) -> int:
        return len(self.original)

    def __getattr__(self, name: str) -> Any:
        if name == "original" or name.startswith("__"):  # during unpickling in a worker
            raise AttributeError(name)
        return getattr(self.original, name)


class _SeededDataset(_Proxy):
    """A dataset that gets pairs of a seed and indices, and seeds the generators before each item."""

    def __init__(self, original: Any, rank: int, world_size: int) -> None:
        super().__init__(original)
        self.rank, self.world_size = rank, world_size
        self.fetches_batches = _fetches_batches(original)

    def __getitems__(self, key: tuple[int, Any]) -> Any:
        seed, indices = key
        if self.fetches_batches:
            seed_host(spread(seed, self.rank))
            return self.original.__getitems__(indices)
        original, items = self.original, []
        for number, index in enumerate(indices):
            seed_host(spread(seed, number * self.world_size + self.rank))
            items.append(original[index])
        return items

    def __getitem__(self, key: tuple[int, Any]) -> Any:
        seed, index = key
        seed_host(spread(seed, self.rank))
        return self.original[index]


def _fetches_batches(dataset: Any) -> bool:
    """Whether a dataset loads the items of a batch together; for a Subset, whether the dataset inside does."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return bool(getattr(dataset, "__getitems__", None))


class _SeededIterable(_Proxy, IterableDataset[Any]):
    """An IterableDataset that seeds the generators of its process when a pass begins."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self.pass_seed = torch.zeros((), dtype=torch.int64)
        self.pass_seed.share_memory_()  # type: ignore[no-untyped-call]  # for persistent workers

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        seed_host(spread(int(self.pass_seed), 0 if worker is None else worker.id))
        return iter(self.original)


class _RestoringCollate:
    """The ``collate_fn`` of a copied loader without workers: restores the generators to before the batch."""

    def __init__(self, sampler: _SeededSampler, original: Callable[[Any], Any]) -> None:
        self.sampler = sampler
        self.original = original

    def __call__(self, items: Any) -> Any:
        try:
            return self.original(items)
        finally:
            restore_host(self.sampler.before)


class _WorkerInit:
    """The ``worker_init_fn`` of a copied loader: ``get_worker_info()`` shows the original dataset."""

    def __init__(self, original: Callable[[int], None] | None) -> None:
        self.original = original

    def __call__(self, worker: int) -> None:
        info: Any = get_worker_info()
        object.__setattr__(info, "dataset", info.dataset.original)  # it is frozen
        if self.original is not None:
            self.original(worker)


class _SeededSampler(_Proxy):
    """A sampler that gives the indices of another one, after ``done`` batches, with the seed of each batch.

    The other sampler draws from a separate stream, so prefetching changes nothing.
    """

    def __init__(self, original: Iterable[Any], remembers: bool) -> None:
        super().__init__(original)
        self.remembers = remembers
        self.in_use = False
        self.seed = self.done = 0
        self.before: list[tuple[Source, Any]] = []  # the generators at the last batch of indices

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
    """The batches after the first ``place`` ones, skipped as samples if possible."""
    if place and type(batches) is BatchSampler:
        samples = itertools.islice(iter(batches.sampler), place * batches.batch_size, None)
        return iter(BatchSampler(samples, batches.batch_size, batches.drop_last))
    return itertools.islice(iter(batches), place, None)


def _generators_of(sampler: Any) -> tuple[list[Source], bool]:
    """The generators of a sampler and of those inside it, and whether it draws all other numbers at once."""
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

"""R20: every kind of loader, sampler and dataset gives the same items whether the run is cut or not."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
    random_split,
)
from torch.utils.data.distributed import DistributedSampler

from ignite_core.distributed import DistributedProxySampler, ShardSampler
from ignite_core.engine import Engine, Events
from ignite_core.testing import assert_resumable
from tests.engine.scripts import Item, Samples, Stream, augmented, building, loader, one_thread
from tests.faults.sizes import FULL

one_thread = pytest.fixture(autouse=True)(one_thread)

Loader = DataLoader[Any]


class Fetching(Samples):
    """A dataset that makes the items of a batch together."""

    def __getitems__(self, indices: list[int]) -> list[Item]:
        common = torch.rand(1)
        return [(x + common, y) for x, y in map(augmented, indices)]


class Named(Dataset[Item]):
    """A dataset whose samples have names."""

    def __getitem__(self, name: str) -> Item:
        return augmented(int(name.removeprefix("sample ")))


class Lazy(Sampler[Any]):
    """A sampler that draws each sample when it is asked for, from the generators of the process or its own."""

    def __init__(self, draw: Any, as_name: bool = False) -> None:
        self.draw = draw
        self.as_name = as_name

    def __iter__(self) -> Iterator[Any]:
        for _ in range(20):
            number = self.draw()
            yield f"sample {number}" if self.as_name else number

    def __len__(self) -> int:
        return 20


class Keeping(Sampler[int]):
    """A sampler that keeps a generator, of whatever kind."""

    def __init__(self, generator: Any, draw: str) -> None:
        self.generator = generator
        self.draw = draw

    def __iter__(self) -> Iterator[int]:
        for _ in range(20):
            yield int(getattr(self.generator, self.draw)(20))

    def __len__(self) -> int:
        return 20


class OfLengths(Sampler[Sequence[int]]):
    """A batch sampler of the user's, with batches of different lengths, as tuples."""

    def __iter__(self) -> Iterator[Sequence[int]]:
        order = torch.randperm(20).tolist()
        for start, end in ((0, 2), (2, 9), (9, 12), (12, 20)):
            yield tuple(order[start:end])

    def __len__(self) -> int:
        return 4


class Doubling(DataLoader[Any]):
    """A loader of the user's, with an attribute, and noise that it adds to whole batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.factor = 2

    def __iter__(self) -> Any:
        length = self.dataset.length  # the dataset is still to be seen
        assert (length, len(self.batch_sampler), self.batch_sampler.batch_size) == (20, 4, 5)
        for x, y in super().__iter__():
            yield self.factor * x + torch.rand(1), y


def noisy_collate(items: list[Item]) -> Any:
    x, y = torch.utils.data.default_collate(items)
    return x + random.random() + torch.rand(1), y


def touch_worker(worker: int, numbers: Any = None) -> None:
    """See the dataset itself, and draw: neither matters."""
    info = get_worker_info()
    assert info is not None
    assert isinstance(info.dataset, Samples)
    info.dataset.shift = 1
    random.random()


class Shifted(Samples):
    """A dataset that its workers are to set up."""

    shift = 0

    def __getitem__(self, index: int) -> Item:
        x, y = super().__getitem__(index)
        return x + self.shift, y


def subset_of(dataset: Any) -> Any:
    return random_split(dataset, [20, len(dataset) - 20], generator=torch.Generator().manual_seed(0))[0]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def with_sampler(sampler: Any, num_workers: int, **options: Any) -> Loader:
    return loader(num_workers, shuffle=False, sampler=sampler, **options)


LOADERS: dict[str, Any] = {
    "shuffle": loader,
    "sequential": functools.partial(loader, shuffle=False),
    "drop_last": functools.partial(loader, batch_size=6, drop_last=True),
    "last batch is short": functools.partial(loader, batch_size=6),
    "generator of the user": lambda workers: loader(workers, generator=seeded()),
    "with replacement": lambda workers: with_sampler(RandomSampler(range(20), True, 40), workers),
    "more than all, own generator": lambda workers: with_sampler(
        RandomSampler(range(20), num_samples=40, generator=seeded()), workers
    ),
    "weighted": lambda workers: with_sampler(WeightedRandomSampler([1.0, *[0.5] * 19], 20), workers),
    "weighted, own generator": lambda workers: with_sampler(
        WeightedRandomSampler([1.0] * 20, 20, generator=seeded()), workers
    ),
    "subset at random": lambda workers: with_sampler(SubsetRandomSampler(range(20)), workers),
    "draws lazily": lambda workers: with_sampler(Lazy(lambda: random.randrange(20)), workers),
    "draws lazily from numpy": lambda workers: with_sampler(Lazy(lambda: int(np.random.randint(20))), workers),
    "keeps random.Random": lambda workers: with_sampler(Keeping(random.Random(3), "randrange"), workers),
    "keeps RandomState": lambda workers: with_sampler(Keeping(np.random.RandomState(3), "randint"), workers),
    "keeps default_rng": lambda workers: with_sampler(Keeping(np.random.default_rng(3), "integers"), workers),
    "names for indices": lambda workers: loader(
        workers, Named(), shuffle=False, sampler=Lazy(lambda: random.randrange(20), as_name=True)
    ),
    "own batch sampler": lambda workers: DataLoader(Samples(), batch_sampler=OfLengths(), num_workers=workers),
    "BatchSampler given": lambda workers: DataLoader(
        Samples(), batch_sampler=BatchSampler(RandomSampler(range(20)), 5, False), num_workers=workers
    ),
    "no batches": lambda workers: DataLoader(
        [(torch.rand(4, 3), torch.rand(4, 1)) for _ in range(5)], batch_size=None, shuffle=True, num_workers=workers
    ),
    "batches of indices": lambda workers: DataLoader(
        TensorDataset(torch.rand(20, 3), torch.rand(20, 1)),
        batch_size=None,
        sampler=BatchSampler(RandomSampler(range(20)), 5, False),
        num_workers=workers,
    ),
    "ShardSampler": lambda workers: with_sampler(ShardSampler(range(20), 2, 1, shuffle=True), workers, batch_size=3),
    "DistributedSampler": lambda workers: with_sampler(DistributedSampler(range(20), 2, 1), workers, batch_size=3),
    "DistributedProxySampler": lambda workers: with_sampler(
        DistributedProxySampler(RandomSampler(range(20), generator=seeded()), 2, 1), workers, batch_size=3
    ),
    "__getitems__": lambda workers: loader(workers, Fetching()),
    "Subset": lambda workers: loader(workers, subset_of(Samples(30))),
    "Subset of __getitems__": lambda workers: loader(workers, subset_of(Fetching(30))),
    "ConcatDataset": lambda workers: loader(workers, ConcatDataset([Samples(12), Subset(Samples(12), range(8))])),
    "StackDataset": lambda workers: loader(
        workers, StackDataset(torch.rand(20, 3), TensorDataset(torch.rand(20, 1))), collate_fn=stacked
    ),
    "TensorDataset": lambda workers: loader(workers, TensorDataset(torch.rand(20, 3), torch.rand(20, 1))),
    "a list for a dataset": lambda workers: loader(workers, [(torch.rand(3), torch.rand(1)) for _ in range(20)]),
    "collate_fn that draws": functools.partial(loader, collate_fn=noisy_collate),
    "subclass": lambda workers: Doubling(Samples(), batch_size=5, shuffle=True, num_workers=workers),
}


def stacked(items: list[Any]) -> Any:
    return torch.stack([x for x, _ in items]), torch.stack([y for _, (y,) in items])


def batches_of(data: Any, **run: Any) -> list[Any]:
    """All batches of two seeded epochs, while the step draws too."""
    batches: list[Any] = []

    def step(engine: Engine, batch: Any) -> None:
        batches.append(torch.cat([batch[0], batch[1]], 1))
        random.random(), torch.rand(1), np.random.rand()

    Engine(step).run(data, max_epochs=2, seed=7, **run)
    return batches


@pytest.mark.parametrize("name", LOADERS)
def test_a_cut_changes_no_batch(name: str) -> None:
    """Inside an epoch, in the second one and, in full, at the end."""
    torch.manual_seed(1)
    data = LOADERS[name](0)

    assert_resumable(building(), data, (1, len(data), len(data) + 2) if FULL else (1, len(data) + 2), max_epochs=2)


@pytest.mark.parametrize("name", LOADERS if FULL else list(LOADERS)[::3])
def test_two_workers_give_what_none_gives_and_epochs_differ(name: str) -> None:
    torch.manual_seed(1)
    none = batches_of(LOADERS[name](0))
    torch.manual_seed(1)
    two = batches_of(LOADERS[name](2))

    assert len(none) == len(two)
    assert all(map(torch.equal, none, two))
    assert len(none) % 2 == 0
    is_sequential = name == "sequential"
    assert is_sequential or not all(map(torch.equal, none[: len(none) // 2], none[len(none) // 2 :]))


@pytest.mark.parametrize("method", ["forkserver", *(["spawn"] if FULL else [])])
def test_workers_that_are_not_forked_give_the_same(method: str) -> None:
    """What stands in for sampler, dataset and worker_init_fn can be pickled."""
    spawned = loader(1, multiprocessing_context=method, worker_init_fn=touch_worker)

    assert all(map(torch.equal, batches_of(spawned), batches_of(loader())))


def test_a_stream_in_workers_that_are_spawned_and_stay_gives_the_same_again() -> None:
    def once() -> list[Any]:
        options = {"multiprocessing_context": "forkserver", "persistent_workers": True}
        return batches_of(loader(1, Stream(), **options))

    assert all(map(torch.equal, once(), once()))


def test_worker_init_fn_is_called_and_sees_the_dataset_itself() -> None:
    """What it sets there is there for the items."""
    touched = batches_of(loader(1, Shifted(), worker_init_fn=touch_worker))
    untouched = batches_of(loader(1, Shifted()))

    assert all(torch.allclose(one[:, :3], other[:, :3] + 1) for one, other in zip(touched, untouched, strict=True))


def test_the_generator_of_the_user_is_left_as_it_was() -> None:
    generator = seeded()
    before = generator.get_state()
    batches_of(loader(0, generator=generator))

    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    "data",
    [loader(), loader(dataset=Stream()), list(loader()), iter(range(8)), None],
    ids=["loader", "stream", "list", "iterator", "none"],
)
def test_data_does_not_disturb_the_random_numbers_of_the_step(data: Any) -> None:
    """They are those of a run over data that draws nothing."""

    def draws(data: Any) -> list[Any]:
        drawn: list[Any] = []
        engine = Engine(lambda engine, batch: drawn.append((random.random(), np.random.rand(), torch.rand(1).item())))
        engine.run(data, max_epochs=2, epoch_length=4, seed=1)
        return drawn

    assert draws(data) == draws([0] * 4)


def test_the_dataset_sees_its_numbers_again_after_the_seed_and_others_with_another() -> None:
    one, same = batches_of(loader()), batches_of(loader())
    other: list[Any] = []
    Engine(lambda engine, batch: other.append(torch.cat([batch[0], batch[1]], 1))).run(loader(), max_epochs=2, seed=8)

    assert all(map(torch.equal, one, same))
    assert not any(map(torch.equal, one, other))


def test_persistent_workers_stay_for_all_epochs_and_for_the_next_run() -> None:
    pids: set[int] = set()
    data = loader(1, Pids(), persistent_workers=True, collate_fn=lambda items: items)
    engine = Engine(lambda engine, batch: pids.update(batch))
    engine.run(data, max_epochs=3, seed=1)
    engine.run(data, max_epochs=3, seed=2)

    assert len(pids) == 1


class Pids(Samples):
    """Its items are the processes that make them."""

    def __getitem__(self, index: int) -> Any:
        import os

        return os.getpid()


class Remembering(DataLoader[Any]):
    """A loader that makes its iterator once, before anyone can number its samples."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made = super().__iter__()

    def __iter__(self) -> Any:
        return iter([next(self.made)])


def test_a_loader_that_bypasses_its_sampler_is_refused() -> None:
    """Rather than resumed at a wrong place."""
    with pytest.raises(TypeError, match="Remembering takes them from an iterator that it made before"):
        Engine(lambda engine, batch: None).run(Remembering(Samples(), batch_size=5), seed=1)


def test_batches_in_any_order_are_refused() -> None:
    with pytest.raises(ValueError, match="batches in their order, got a DataLoader with in_order=False"):
        Engine(lambda engine, batch: None).run(loader(1, in_order=False), seed=1)


def test_data_with_fewer_batches_than_were_done_is_refused() -> None:
    engine = Engine(lambda engine, batch: None)
    engine.load_state_dict({"iteration": 4, "epoch_length": 9, "max_epochs": 1, "data_pass": [1, 4]})

    with pytest.raises(ValueError, match=r"had taken 4 batches .* a DataLoader, has only 2"):
        engine.run(loader(batch_size=10), seed=1)


def test_set_epoch_is_told_the_pass_that_goes_on() -> None:
    heard: list[int] = []

    class Told(SequentialSampler):
        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[int]:
            heard.append(self.epoch)
            return super().__iter__()

    def engine() -> Engine:
        return Engine(lambda engine, batch: None)

    data = with_sampler(Told(range(20)), 0)
    first, second = engine(), engine()
    first.add_event_handler(Events.ITERATION_COMPLETED(once=6), first.terminate)
    first.run(data, max_epochs=3, seed=1)
    second.load_state_dict(first.state_dict())
    second.run(data)

    assert heard == [1, 2, 2, 3]

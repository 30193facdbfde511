"""The engine tells data and datasets which pass begins; what the program has told them itself counts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler, IterableDataset, Subset

from ignite_core.engine import Engine, Events
from tests.faults.sizes import FULL

SIZE = 6


def order(epoch: int) -> list[int]:
    return torch.randperm(SIZE, generator=torch.Generator().manual_seed(epoch)).tolist()


class Shuffled:
    """Data that shuffles by its epoch, as many streams do."""

    def __init__(self) -> None:
        self.epoch: Any = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(order(int(self.epoch)))


class Stream(Shuffled, IterableDataset[int]):
    """The same as a dataset, which workers get a copy of."""


class InSharedMemory(Stream):
    def __init__(self) -> None:
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)


class Items(Dataset[int]):
    """A dataset with places, each of which holds something else in each epoch."""

    def __init__(self) -> None:
        self.state = {"epoch": 0}

    def set_epoch(self, epoch: int) -> None:
        self.state["epoch"] = epoch

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> int:
        return order(self.state["epoch"])[index]


class Kept(Shuffled):
    """Data with a state that holds for its own epoch alone, as that of Hugging Face's streams."""

    loaded: dict[str, int] | None = None

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        assert self.epoch == state["epoch"]  # told before
        self.loaded = state

    def __iter__(self) -> Iterator[int]:
        self.done = self.loaded["done"] if self.loaded and self.loaded["epoch"] == self.epoch else 0
        for item in order(self.epoch)[self.done :]:
            self.done += 1
            yield item


def epochs_of(data: Any, cut: int = 0, **run: Any) -> list[list[int]]:
    """What three epochs are made of; with a cut, resumed there from a saved state."""
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.append(int(batch)))
    if cut:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=cut), engine.terminate)
    engine.run(data(), max_epochs=3, epoch_length=SIZE, **run)
    if cut:
        saved = engine.state_dict()
        engine = Engine(lambda engine, batch: seen.append(int(batch)))
        engine.load_state_dict(saved)
        engine.run(data())
    return [seen[start : start + SIZE] for start in range(0, len(seen), SIZE)]


WANTED = [order(1), order(2), order(3)]


class Slotted:
    """No weak reference to it is possible."""

    __slots__ = ("epoch",)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(order(self.epoch))

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        assert state == {}


@pytest.mark.parametrize("seed", [None, 1])
def test_data_that_cannot_be_remembered_is_told(seed: int | None) -> None:
    assert epochs_of(Slotted, seed=seed) == WANTED


@pytest.mark.parametrize("seed", [None, 1])
def test_data_itself_is_told(seed: int | None) -> None:
    assert epochs_of(Shuffled, seed=seed) == WANTED


@pytest.mark.parametrize("seed", [None, 1] if FULL else [1])
@pytest.mark.parametrize("workers", [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}], ids=str)
@pytest.mark.parametrize("kind", [Stream, InSharedMemory, Items])
def test_a_dataset_is_told_wherever_it_is_iterated(kind: type, workers: dict[str, Any], seed: int | None) -> None:
    assert epochs_of(lambda: DataLoader(kind(), batch_size=None, **workers), seed=seed) == WANTED


def test_workers_stay_where_they_see_the_epoch() -> None:
    """A dataset that keeps it in shared memory needs no new ones."""
    loader = DataLoader(InSharedMemory(), batch_size=None, num_workers=1, persistent_workers=True)
    workers = []
    engine = Engine(lambda engine, batch: workers.append(loader._iterator._workers[0].pid))  # type: ignore[union-attr,attr-defined]
    engine.run(loader, max_epochs=2, epoch_length=SIZE)

    assert len(set(workers)) == 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda items: Subset(items, range(SIZE)),
        lambda items: ConcatDataset([items]),
        lambda items: Subset(ConcatDataset([Subset(items, range(SIZE))]), range(SIZE)),
    ],
)
def test_what_is_wrapped_is_told(wrap: Any) -> None:
    assert epochs_of(lambda: DataLoader(wrap(Items()), batch_size=None)) == WANTED


def test_a_wrapper_that_hands_on_another_number_has_the_last_word() -> None:
    class Outer(Subset[int]):
        def set_epoch(self, epoch: int) -> None:
            self.dataset.set_epoch(10 * epoch)  # type: ignore[attr-defined]

    assert epochs_of(lambda: DataLoader(Outer(Items(), range(SIZE)), batch_size=None)) == [
        order(10),
        order(20),
        order(30),
    ]


@pytest.mark.parametrize("cut", [2, SIZE, SIZE + 2])
@pytest.mark.parametrize("seed", [None, 1])
def test_data_with_a_state_is_told_before_it_gets_that(cut: int, seed: int | None) -> None:
    assert epochs_of(Kept, cut, seed=seed) == WANTED


@pytest.mark.parametrize("cut", [2, SIZE, SIZE + 2])
@pytest.mark.parametrize("data", [Shuffled, lambda: DataLoader(Items(), batch_size=None)], ids=["stream", "loader"])
def test_a_resumed_pass_has_the_number_that_it_had(cut: int, data: Any) -> None:
    assert epochs_of(data, cut, seed=1) == WANTED


# ------------------------------------------------------------------------------------------- numbers of the program's


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Events.EPOCH_STARTED, [101, 102, 103]),
        (Events.STARTED, [100, 2, 3]),
        (Events.EPOCH_COMPLETED, [1, 101, 102]),
    ],
)
@pytest.mark.parametrize("seed", [None, 1])
def test_a_number_of_the_programs_counts_for_the_pass_that_follows(
    event: Any, told: list[int], seed: int | None
) -> None:
    data, seen = Shuffled(), []
    engine = Engine(lambda engine, batch: seen.append(batch))
    engine.add_event_handler(event, lambda: data.set_epoch(100 + engine.state.epoch))
    engine.run(data, max_epochs=3, epoch_length=SIZE, seed=seed)

    assert seen == [item for epoch in told for item in order(epoch)]


def test_numbers_that_begin_with_0_count_too() -> None:
    data, seen = Shuffled(), []
    engine = Engine(lambda engine, batch: seen.append(batch))
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: data.set_epoch(engine.state.epoch - 1))
    engine.run(data, max_epochs=3, epoch_length=SIZE)

    assert seen == order(0) + order(1) + order(2)


def test_a_number_set_before_the_run_counts_for_its_first_pass() -> None:
    sampler: Any = DistributedSampler(range(SIZE), 1, 0)  # type: ignore[arg-type]
    loader: Any = DataLoader(range(SIZE), batch_size=None, sampler=sampler)  # type: ignore[arg-type]
    sampler.set_epoch(100)

    first, second, _ = epochs_of(lambda: loader)

    assert (first, second) == (order(100), order(2))
    assert epochs_of(lambda: loader) == WANTED  # what the engine itself has told is no number of the program's


def test_a_sampler_that_a_loader_of_the_users_hands_numbers_on_to() -> None:
    class Loader(DataLoader[int]):
        def set_epoch(self, epoch: int) -> None:
            self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]

    sampler: Any = DistributedSampler(range(SIZE), 1, 0)  # type: ignore[arg-type]
    loader = Loader(range(SIZE), batch_size=None, sampler=sampler)  # type: ignore[arg-type]
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.append(int(batch)))
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: loader.set_epoch(100 + engine.state.epoch))
    engine.run(loader, max_epochs=2)

    assert seen == order(101) + order(102)


# ---------------------------------------------------------------------------------------------------- loaders of others


def streamed(**shuffle: Any) -> Any:
    datasets = pytest.importorskip("datasets")
    stream = datasets.Dataset.from_dict({"x": list(range(12))}).to_iterable_dataset(num_shards=4)
    return stream.shuffle(seed=1, **shuffle) if shuffle else stream


def of_hugging_face(data: Any, cut: int = 0, seed: int | None = None) -> list[list[int]]:
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.append(int(batch["x"])))
    if cut:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=cut), engine.terminate)
    engine.run(data(), max_epochs=3, seed=seed)
    if cut:
        saved, engine = engine.state_dict(), Engine(lambda engine, batch: seen.append(int(batch["x"])))
        engine.load_state_dict(saved)
        engine.run(data())
    return [seen[start : start + 12] for start in range(0, len(seen), 12)]


@pytest.mark.parametrize("data", [lambda d: d, lambda d: DataLoader(d, batch_size=None)], ids=["direct", "loader"])
@pytest.mark.parametrize("seed", [None, 1])
def test_a_stream_of_hugging_face_is_shuffled_anew_each_epoch(data: Any, seed: int | None) -> None:
    epochs = of_hugging_face(lambda: data(streamed(buffer_size=4)), seed=seed)

    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("shuffle", [{}, {"buffer_size": 4}], ids=str)
@pytest.mark.parametrize("cut", [5, 8, 12, 20])
def test_a_stream_of_hugging_face_loses_nothing_in_a_resume(cut: int, shuffle: dict[str, Any]) -> None:
    """Not even what lies in its shuffle buffer, which its state leaves out."""
    whole = of_hugging_face(lambda: streamed(**shuffle), seed=1)

    assert of_hugging_face(lambda: streamed(**shuffle), cut, seed=1) == whole


@pytest.mark.parametrize("cut", [8, 12])
def test_a_stream_of_hugging_face_goes_on_without_a_seed(cut: int) -> None:
    assert of_hugging_face(streamed, cut) == of_hugging_face(streamed)


def test_a_stream_of_hugging_face_that_was_resumed_begins_a_new_run_with_its_head() -> None:
    stream, seen = streamed(), []
    engine = Engine(lambda engine, batch: seen.append(batch["x"]))
    handle = engine.add_event_handler(Events.ITERATION_COMPLETED(once=5), engine.terminate)
    engine.run(stream, max_epochs=1)
    handle.remove()
    engine.load_state_dict(engine.state_dict())
    engine.run(stream)
    engine.state.max_epochs = None
    engine.run(stream, max_epochs=1)

    assert seen == list(range(12)) * 2


def prepared(shuffle: bool = True) -> Any:
    accelerate = pytest.importorskip("accelerate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accelerator = accelerate.Accelerator(cpu=True)
    return accelerator.prepare(DataLoader(range(24), batch_size=4, shuffle=shuffle))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [None, 1])
def test_a_loader_of_accelerate_has_no_state_to_save(seed: int | None) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.run(prepared(), max_epochs=2, seed=seed)

    assert engine.state_dict()["iteration"] == 12


@pytest.mark.parametrize("cut", [2, 6, 9])
def test_a_loader_of_accelerate_goes_on_exactly(cut: int) -> None:
    def batches(cut: int = 0) -> list[list[int]]:
        seen: list[list[int]] = []
        engine = Engine(lambda engine, batch: seen.append(batch.tolist()))
        if cut:
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=cut), engine.terminate)
        engine.run(prepared(), max_epochs=3, seed=1)
        if cut:
            saved, engine = engine.state_dict(), Engine(lambda engine, batch: seen.append(batch.tolist()))
            engine.load_state_dict(saved)
            engine.run(prepared())
        return seen

    whole = batches()

    assert batches(cut) == whole
    assert sorted(item for batch in whole[:6] for item in batch) == list(range(24))

"""The engine tells samplers which epoch it is: nobody has to remember it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import BatchSampler, DataLoader, Sampler
from torch.utils.data.distributed import DistributedSampler

from ignite_core.engine import DeterministicEngine, Engine, Events


class Noting(Sampler[int]):
    """Notes what it is told, and when it is iterated."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def set_epoch(self, epoch: int) -> None:
        self.heard.append(epoch)

    def __iter__(self) -> Iterator[int]:
        self.heard.append("pass")
        return iter(range(4))

    def __len__(self) -> int:
        return 4


def loader_with(sampler: Noting, as_batches: bool = False) -> DataLoader[int]:
    data: Any = range(4)
    if as_batches:
        return DataLoader(data, batch_sampler=BatchSampler(sampler, 2, False))
    return DataLoader(data, sampler=sampler, batch_size=2)


def told(sampler: Noting) -> list[Any]:
    """What counted: the number told last before each pass."""
    return [before for before, now in zip(sampler.heard, sampler.heard[1:], strict=False) if now == "pass"]


@pytest.mark.parametrize("make", [Engine, DeterministicEngine])
@pytest.mark.parametrize("as_batches", [False, True])
def test_each_epoch_is_told_before_its_pass(make: type[Engine], as_batches: bool) -> None:
    sampler = Noting()
    make(lambda engine, batch: None).run(loader_with(sampler, as_batches), max_epochs=3)

    assert told(sampler) == [1, 2, 3]


@pytest.mark.parametrize("make", [Engine, DeterministicEngine])
def test_a_second_pass_within_an_epoch_has_a_number_of_its_own(make: type[Engine]) -> None:
    """Else the epoch would have the same batches twice in the same order."""
    sampler = Noting()
    make(lambda engine, batch: None).run(loader_with(sampler), max_epochs=2, epoch_length=4)

    assert told(sampler) == [1, 2, 3, 4]


def test_a_pass_that_spans_epochs_is_told_once() -> None:
    sampler = Noting()
    Engine(lambda engine, batch: None).run(loader_with(sampler), max_epochs=4, epoch_length=1)

    assert told(sampler) == [1, 3]


def test_an_epoch_that_was_cut_does_not_shift_the_next() -> None:
    sampler = Noting()
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.terminate_epoch)
    engine.run(loader_with(sampler), max_epochs=3)

    assert told(sampler) == [1, 2, 3]


@pytest.mark.parametrize("make", [Engine, DeterministicEngine])
def test_a_run_that_goes_on_in_another_process_goes_on_counting(make: type[Engine]) -> None:
    first, sampler = make(lambda engine, batch: None), Noting()
    first.run(loader_with(Noting()), max_epochs=2)
    second = make(lambda engine, batch: None)
    second.load_state_dict(first.state_dict())
    second.run(loader_with(sampler), max_epochs=4)

    assert told(sampler) == [3, 4]


def test_a_new_run_begins_with_the_first_epoch_again() -> None:
    sampler = Noting()
    engine = Engine(lambda engine, batch: None)
    for _ in range(2):
        engine.run(loader_with(sampler), max_epochs=2)

    assert told(sampler) == [1, 2, 1, 2]


def test_torchs_own_sampler_shuffles_each_epoch_anew() -> None:
    data: Any = range(16)
    sampler: Any = DistributedSampler(data, num_replicas=2, rank=0)
    seen: list[Any] = []
    engine = Engine(lambda engine, batch: seen.append(tuple(batch.tolist())))
    engine.run(DataLoader(data, sampler=sampler, batch_size=8), max_epochs=3)

    assert len(set(seen)) == 3


def test_data_without_sampler_is_none_of_its_business() -> None:
    assert Engine(lambda engine, batch: batch).run([1, 2], max_epochs=2).iteration == 4

"""Any iterable is data: its length, its end, its restart, and its replacement."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed
from torch.utils.data import DataLoader, IterableDataset

from ignite_core.engine import Engine, Events
from tests.engine.tracing import NoLength, at, letters, nothing, watch


class Recorded(Engine):
    """An engine that notes its batches."""

    def __init__(self) -> None:
        super().__init__(lambda engine, batch: self.batches.append(batch))
        self.batches: list[Any] = []
        self.trace = watch(self)


class Numbers(IterableDataset[int]):
    """0 to 5, shared among the workers."""

    def __iter__(self) -> Iterator[int]:
        worker = torch.utils.data.get_worker_info()
        yield from range(6) if worker is None else range(worker.id, 6, worker.num_workers)


def tensors(batches: list[Any]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


# ----------------------------------------------------------------------------------------------------- kinds of data


@pytest.mark.parametrize(
    "data",
    [[1, 2, 3], (1, 2, 3), range(1, 4), torch.tensor([1, 2, 3]), {1: "a", 2: "b", 3: "c"}, NoLength([1, 2, 3])],
    ids=lambda data: type(data).__name__,
)
def test_whatever_can_be_iterated_again(data):
    engine = Recorded()

    engine.run(data, max_epochs=2)

    assert [int(batch) for batch in engine.batches] == [1, 2, 3, 1, 2, 3]
    assert engine.state.epoch_length == 3
    assert engine.state.dataloader is data


def test_a_generator_long_enough_for_all_epochs():
    """It is asked for no batch more than is needed."""
    engine, numbers = Recorded(), itertools.count()

    engine.run((number for number in numbers), max_epochs=3, epoch_length=2)

    assert engine.batches == [0, 1, 2, 3, 4, 5]
    assert next(numbers) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader(workers):
    engine = Recorded()

    engine.run(DataLoader(range(6), batch_size=2, num_workers=workers), max_epochs=2)

    assert tensors(engine.batches) == [[0, 1], [2, 3], [4, 5]] * 2
    assert engine.state.epoch_length == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_over_an_iterable_dataset_finds_its_length(workers):
    engine = Recorded()

    engine.run(DataLoader(Numbers(), batch_size=1, num_workers=workers), max_epochs=2)

    assert tensors(engine.batches) == [[0], [1], [2], [3], [4], [5]] * 2
    assert engine.state.epoch_length == 6
    assert letters(engine.trace).startswith("S ES ... ... ... ... ... ... GS EC ES +++")


def test_no_data_at_all():
    """Every batch is None, and nobody hears of batches being fetched."""
    engine = Recorded()

    engine.run(epoch_length=2, max_epochs=2)

    assert engine.batches == [None] * 4
    assert letters(engine.trace) == "S ES IS IC IS IC EC ES IS IC IS IC EC C"


def test_the_data_is_iterated_when_its_first_batch_is_needed():
    """And anew only when a batch is needed after its end."""
    data, passes = NoLength([1, 2]), []
    engine = Engine(nothing)
    for event in (Events.STARTED, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED, Events.EPOCH_COMPLETED):
        engine.add_event_handler(event, lambda: passes.append(data.passes))

    engine.run(data, max_epochs=2, epoch_length=2)

    assert passes == [0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2]


# ------------------------------------------------------------------------------------------------------ out of data

EXHAUSTED = "the data gave {} of the {} batches of epoch {} and has no more"


def test_an_iterator_that_ends_inside_an_epoch_warns_and_the_epoch_completes():
    engine = Recorded()

    with pytest.warns(UserWarning, match=re.escape(EXHAUSTED.format(2, 3, 1))) as caught:
        engine.run(iter([1, 2]), epoch_length=3)

    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert letters(engine.trace) == "S ES ... ... GS STOP EC C"
    assert engine.batches == [1, 2]
    assert engine.state.iteration == 2


def test_an_iterator_without_a_batch_for_the_second_epoch_warns():
    engine = Recorded()

    with pytest.warns(UserWarning, match=re.escape(EXHAUSTED.format(0, 2, 2))):
        engine.run(iter([1, 2]), max_epochs=2)

    assert letters(engine.trace) == "S ES ... ... GS EC ES GS STOP EC C"


def test_an_iterator_that_ends_at_the_end_of_the_run_does_not_warn():
    engine = Recorded()

    engine.run(iter([1, 2, 3, 4]), max_epochs=2, epoch_length=2)

    assert letters(engine.trace) == "S ES ... ... EC ES ... ... EC C"


def test_a_run_by_iterations_over_an_iterator_that_ended_ends_too():
    """There will never be a batch for the iterations that are missing; the run does not go through epochs for ever."""
    engine = Recorded()
    at(engine, Events.EPOCH_STARTED, 10, lambda: pytest.fail("the run does not end"))

    with pytest.warns(UserWarning, match="has no more"):
        engine.run(iter([1, 2]), max_iters=5)

    assert engine.batches == [1, 2]
    assert engine.trace[-1][0] == "C"


def test_new_data_may_be_set_where_the_old_one_ended():
    engine = Recorded()
    engine.add_event_handler(Events.DATALOADER_STOP_ITERATION, lambda: engine.set_data(iter([8, 9])))

    engine.run(iter([1, 2, 3]), max_epochs=2, epoch_length=3)

    assert engine.batches == [1, 2, 3, 8, 9, 8]
    assert letters(engine.trace) == "S ES ... ... ... EC ES +++ ... +++ EC C"


@pytest.mark.parametrize("data", [[], (), {}, DataLoader([])], ids=lambda data: type(data).__name__)
def test_data_of_length_0_is_an_error(data):
    with pytest.raises(ValueError, match="must hold at least one batch, got data of length 0"):
        Engine(nothing).run(data)


def test_data_that_turns_out_to_be_empty_is_an_error():
    engine = Recorded()

    with pytest.raises(ValueError, match="must hold at least one batch, got data of length 0"):
        engine.run(NoLength([]))

    assert letters(engine.trace) == "S ES GS X"


@pytest.mark.parametrize("data", [[], NoLength([])], ids=lambda data: type(data).__name__)
def test_on_one_of_several_ranks_empty_data_is_an_epoch_without_batches(data, monkeypatch):
    """Another rank may have some, and this one must reach its collectives."""
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    engine = Recorded()

    engine.run(data, max_epochs=2)

    expected = {"list": "S ES EC ES EC C", "NoLength": "S ES GS EC ES EC C"}
    assert letters(engine.trace) == expected[type(data).__name__]
    assert (engine.state.epoch, engine.state.iteration) == (2, 0)


def test_alone_in_a_distributed_run_empty_data_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)

    with pytest.raises(ValueError, match="got data of length 0"):
        Engine(nothing).run([])


# ---------------------------------------------------------------------------------------------------------- set_data


@pytest.mark.parametrize(
    ("event", "batches"),
    [
        (Events.GET_BATCH_STARTED, [1, 7, 8, 9, 7]),
        (Events.GET_BATCH_COMPLETED, [1, 2, 7, 8, 9]),
        (Events.ITERATION_STARTED, [1, 2, 7, 8, 9]),
        (Events.ITERATION_COMPLETED, [1, 2, 7, 8, 9]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_data_set_in_mid_run_gives_the_next_batch(event, batches):
    """The length of an epoch stays what it was."""
    engine = Recorded()
    at(engine, event, 2, lambda: engine.set_data([7, 8, 9]))

    engine.run([1, 2, 3, 4, 5])

    assert engine.batches == batches
    assert engine.state.epoch_length == 5
    assert engine.state.dataloader == [7, 8, 9]


def test_data_set_before_a_run_is_what_a_run_without_data_iterates():
    engine = Recorded()
    engine.set_data([4, 5])

    engine.run(max_epochs=2)

    assert engine.batches == [4, 5, 4, 5]


def test_data_passed_wins_over_data_set_before():
    engine = Recorded()
    engine.set_data([4, 5])

    engine.run([1])
    engine.run(epoch_length=1)

    assert engine.batches == [1, None]


def test_data_set_must_be_iterable():
    with pytest.raises(TypeError, match="set_data: data must be iterable, got int"):
        Engine(nothing).set_data(3)


# ------------------------------------------------------------------------------------------------- what the data raises


def test_what_iter_raises_is_not_the_end_of_the_data():
    """A StopIteration that escapes from ``__iter__`` is an error there, as in a ``for`` loop."""

    class Broken:
        def __iter__(self) -> Iterator[Any]:
            return iter([next(iter([]))])

    with pytest.raises((StopIteration, RuntimeError)) as raised:
        Engine(nothing).run(Broken(), epoch_length=2)

    assert isinstance(raised.value.__cause__ or raised.value, StopIteration)


def test_data_that_raises_ends_the_run():
    def data():
        yield 1
        raise OSError("disk")

    engine = Recorded()

    with pytest.raises(OSError, match="disk"):
        engine.run(data(), epoch_length=3)

    assert letters(engine.trace) == "S ES ... GS X"

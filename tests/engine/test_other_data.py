"""A run that goes on with other data than it had: rightly where a pass over the data is over, else with a word."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ignite_core.engine import Engine, Events
from ignite_core.engine.data import reproducibility as seeding
from tests.faults.sizes import FULL


def loader(samples: int, batch: int | None = None, **options: Any) -> DataLoader[Any]:
    return DataLoader(torch.arange(samples), batch_size=batch, **options)  # type: ignore[arg-type]


class Shards(IterableDataset[int]):
    """A stream that its workers share."""

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        yield from range(0 if info is None else info.id, 8, 1 if info is None else info.num_workers)


class Stated(list[int]):
    """Data with a state."""

    at = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]

    def __iter__(self) -> Iterator[int]:
        for item in self[self.at :]:
            self.at += 1
            yield item
        self.at = 0


def collecting(saved: Any = None) -> tuple[Engine, list[int]]:
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.extend(torch.as_tensor(batch).flatten().tolist()))
    if saved is not None:
        engine.load_state_dict(saved)
    return engine, seen


def cut(data: Any, event: Any, **run: Any) -> tuple[Any, list[int]]:
    """What is saved where a run was cut, and what it has seen until then."""
    engine, seen = collecting()
    engine.add_event_handler(event, engine.terminate)
    engine.run(data, **{"max_epochs": 3, **run})
    return engine.state_dict(), seen


def goes_on(saved: Any, data: Any, **run: Any) -> tuple[list[int], list[str], Engine]:
    """What the rest of the run sees, and what it warns of."""
    engine, seen = collecting(saved)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine.run(data, **run)
    return seen, [str(one.message) for one in caught], engine


FIRST_EPOCH = Events.EPOCH_COMPLETED(once=1)
KEEPS = "had data of 8 batches, and gets data of {}: its epochs keep 8 iterations"


# ---------------------------------------------------------------------------------------------------- another length


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("samples", [12, 6])
@pytest.mark.parametrize("event", [FIRST_EPOCH, Events.ITERATION_COMPLETED(once=8)], ids=str)
def test_another_length_is_said_once(samples: int, seed: int | None, event: Any) -> None:
    saved, _ = cut(loader(8, shuffle=True), event, seed=seed)
    seen, said, engine = goes_on(saved, loader(samples, shuffle=True))

    (message,) = said
    assert KEEPS.format(samples) in message
    assert engine.state.iteration == 24
    assert sorted(seen[:samples]) == list(range(samples))  # a pass begins


@pytest.mark.parametrize("seed", [None, 1])
def test_epochs_may_become_as_long_as_the_data(seed: int | None) -> None:
    saved, _ = cut(loader(8), FIRST_EPOCH, seed=seed)
    engine, seen = collecting(saved)
    engine.state.epoch_length = 12
    engine.run(loader(12))

    assert seen == list(range(12)) * 2


def test_inside_a_pass_samples_may_be_lost() -> None:
    saved, _ = cut(loader(8), Events.ITERATION_COMPLETED(once=5), seed=1)
    _, (message,), _ = goes_on(saved, loader(12))

    assert "samples of the pass that was cut after 5 batches may come twice or not at all" in message


def test_without_a_load_it_is_said_too() -> None:
    engine, _ = collecting()
    engine.run(loader(8), max_epochs=1)

    with pytest.warns(UserWarning, match=KEEPS.format(12)):
        engine.run(loader(12), max_epochs=2)


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("epoch_length", [4, 8, 16])
def test_the_same_data_is_nothing_to_speak_of(epoch_length: int, seed: int | None) -> None:
    """Also where epochs are of another length than the data."""
    saved, first = cut(loader(8), Events.EPOCH_COMPLETED(once=2), epoch_length=epoch_length, max_epochs=4, seed=seed)
    seen, said, _ = goes_on(saved, loader(8))

    assert not said
    assert first + seen == (list(range(8)) * 8)[: 4 * epoch_length]
    assert ("data_length" in saved) is (epoch_length != 8)


def test_a_new_run_takes_the_new_length() -> None:
    engine, seen = collecting()
    for samples in (8, 12):
        engine.run(loader(samples), max_epochs=1)

    assert len(seen) == 20


# ------------------------------------------------------------------------------------------- where a pass has ended


@pytest.mark.parametrize("event", [FIRST_EPOCH, Events.ITERATION_COMPLETED(once=2)], ids=str)
def test_where_a_pass_has_ended_batches_may_be_of_another_size(event: Any) -> None:
    saved, _ = cut(loader(8, 4, shuffle=True), event, seed=1)
    seen, said, _ = goes_on(saved, loader(16, 8, shuffle=True))

    assert not said
    assert sorted(seen[:16]) == sorted(seen[16:]) == list(range(16))


@pytest.mark.parametrize("data", [lambda: [1, 2], lambda: DataLoader(Shards(), batch_size=4), lambda: Stated([1, 2])])
@pytest.mark.parametrize(("before", "now"), [((0, 2), (0, 1)), ((0, 1), (1, 3))])
@pytest.mark.parametrize("seed", [None, 1])
def test_where_a_pass_has_ended_there_may_be_another_number_of_ranks(
    data: Any, before: Any, now: Any, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = before
    monkeypatch.setattr(seeding, "_place_of_process", lambda: place)
    saved, first = cut(data(), FIRST_EPOCH, seed=seed)
    if "by_rank" in saved:
        saved["by_rank"] = [{**saved["by_rank"][0], "rank": rank} for rank in range(before[1])]
    place = now

    assert goes_on(saved, data())[:2] == (first * 2, [])


# --------------------------------------------------------------------------------------------------- without a seed


@pytest.mark.parametrize(
    "data", [lambda: loader(12), lambda: DataLoader(Shards(), batch_size=None)], ids=["map", "stream"]
)
@pytest.mark.parametrize("event", [FIRST_EPOCH, Events.ITERATION_COMPLETED(once=5)], ids=str)
def test_without_a_seed_the_head_of_the_data_comes_again_with_a_word(data: Any, event: Any) -> None:
    saved, _ = cut(data(), event, epoch_length=5)
    seen, (message,), _ = goes_on(saved, data())

    assert seen[:5] == [0, 1, 2, 3, 4]
    assert "inside a pass over the data, after 5 of its" in message
    assert "another pass begins. Save at the end of a pass over the data, or give the run a seed" in message


def test_with_a_seed_it_does_not() -> None:
    whole, seen = collecting()
    whole.run(loader(12, shuffle=True), max_epochs=3, epoch_length=5, seed=1)
    saved, first = cut(loader(12, shuffle=True), FIRST_EPOCH, epoch_length=5, seed=1)

    assert goes_on(saved, loader(12, shuffle=True))[:2] == (seen[len(first) :], [])


# ------------------------------------------------------------------------------------------------- shared by workers


def test_a_stream_shared_by_other_workers_is_an_error_inside_a_pass() -> None:
    saved, _ = cut(DataLoader(Shards(), batch_size=2, num_workers=2), Events.ITERATION_COMPLETED(once=3), seed=1)

    with pytest.raises(ValueError, match=r"that 2 worker\(s\) shared, and goes on with 1: .* must have num_workers=2"):
        goes_on(saved, DataLoader(Shards(), batch_size=2))


@pytest.mark.parametrize(
    ("iteration", "before", "now"),
    [(3, 0, 1), (3, 1, 0), (4, 2, 1)],
    ids=["0 to 1", "1 to 0", "where a pass has ended"],
)
def test_otherwise_the_workers_may_be_others(iteration: int, before: int, now: int) -> None:
    saved, seen = cut(
        DataLoader(Shards(), batch_size=2, num_workers=before), Events.ITERATION_COMPLETED(once=iteration),
        epoch_length=4, seed=1,
    )  # fmt: skip
    if iteration == 4:
        saved.pop("data_length")  # as where the length was found, and not given
    rest, said, _ = goes_on(saved, DataLoader(Shards(), batch_size=2, num_workers=now))

    assert not said
    assert sorted(seen + rest) == sorted(list(range(8)) * 3)


# ---------------------------------------------------------------------------------------------------- only numbers


@pytest.mark.parametrize("epoch_length", [3, 5, 7, 10, 15, 20, 25] if FULL else [3, 15])
@pytest.mark.parametrize("key", ["epoch", "iteration"])
def test_numbers_written_by_hand_lead_to_the_very_next_batch(epoch_length: int, key: str) -> None:
    data = lambda: loader(40, 4, shuffle=True)  # noqa: E731
    whole, seen = collecting()
    whole.run(data(), max_epochs=6, epoch_length=epoch_length, seed=0)
    for number in range(1, 6) if key == "epoch" else range(1, 6 * epoch_length):
        saved = {key: number, "epoch_length": epoch_length, "max_epochs": 6}
        done = number * epoch_length if key == "epoch" else number

        assert goes_on(saved, data(), seed=0)[:2] == (seen[done * 4 :], [])

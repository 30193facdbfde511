"""R20: data without places is replayed, data with a state is put back, and runs without a seed say what they do."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from ignite_core.engine import Engine, Events
from ignite_core.engine.data import passes
from ignite_core.metrics import MeanSquaredError
from ignite_core.testing import assert_resumable
from tests.engine.scripts import Samples, Stream, building, loader, one_thread
from tests.engine.tracing import at

one_thread = pytest.fixture(autouse=True)(one_thread)


class Walk:
    """A stream whose every batch depends on the ones before, drawn from the generators of the process."""

    def __iter__(self) -> Iterator[Any]:
        place = torch.zeros(5, 3)
        for _ in range(4):
            place = place + torch.randn(5, 3) + random.random()
            yield place, place.sum(1, keepdim=True)


class Stateful:
    """A loader that tells its place, and remembers something from one pass to the next."""

    def __init__(self) -> None:
        self.place = 0
        self.passes = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        if self.place == 0:
            self.passes += 1
        while self.place < 4:
            self.place += 1
            x = torch.full((5, 3), float(10 * self.passes + self.place)) + torch.rand(5, 3)
            yield x, x.sum(1, keepdim=True)
        self.place = 0

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place, "passes": self.passes}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place, self.passes = state["place"], state["passes"]


def test_a_plain_iterable_is_exact_also_when_it_has_a_memory() -> None:
    assert_resumable(building(), Walk(), max_epochs=3, epoch_length=4)


def test_a_generator_is_exact_where_it_is_made_anew() -> None:
    assert_resumable(building(), lambda: iter(Walk()), max_epochs=1, epoch_length=4)


def test_data_with_a_state_of_its_own_is_exact() -> None:
    assert_resumable(building(accumulation=3), Stateful, max_epochs=3)


def test_replaying_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(lambda engine, batch: None)
    at(engine, Events.ITERATION_COMPLETED, 2, engine.terminate)
    engine.run(Walk(), max_epochs=3, epoch_length=4, seed=1)
    other = Engine(lambda engine, batch: None)
    other.load_state_dict(engine.state_dict())
    with caplog.at_level(logging.WARNING):
        other.run(Walk())

    (told,) = [record.getMessage() for record in caplog.records if "produced again" in record.getMessage()]
    assert "to continue inside a pass over a Walk, its first 2 batches are produced again" in told


def test_a_long_replay_reports_how_far_it_is(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_SECONDS_BETWEEN_REPORTS", 0)
    engine = Engine(lambda engine, batch: None)
    engine.load_state_dict({"iteration": 3, "epoch_length": 4, "max_epochs": 1})
    with caplog.at_level(logging.WARNING):
        engine.run(Walk(), seed=1)

    assert [record.getMessage().partition(" again")[0] for record in caplog.records[1:]] == [
        f"Engine.run: produced {number} of 3 batches" for number in (1, 2, 3)
    ]


def test_a_map_style_loader_is_not_replayed() -> None:
    """The samples before the cut are not made again."""
    made: list[int] = []

    class Noted(Samples):
        def __getitem__(self, index: int) -> Any:
            made.append(index)
            return super().__getitem__(index)

    data = loader(dataset=Noted())
    engine = Engine(lambda engine, batch: None)
    at(engine, Events.ITERATION_COMPLETED, 3, engine.terminate)
    engine.run(data, seed=1)
    first = list(made)
    other = Engine(lambda engine, batch: None)
    other.load_state_dict(engine.state_dict())
    other.run(data)

    assert len(first) == 15
    assert len(made) == 20
    assert sorted(made) == list(range(20))


def test_without_a_seed_data_with_a_state_goes_on_where_it_was() -> None:
    data, seen = Stateful(), []
    engine = Engine(lambda engine, batch: seen.append(int(batch[0].min())))
    file = io.BytesIO()
    at(engine, Events.ITERATION_COMPLETED, 6, lambda: torch.save(engine.state_dict(), file))
    engine.run(data, max_epochs=3)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert "rng" not in saved["by_rank"][0]
    rest: list[int] = []
    other = Engine(lambda engine, batch: rest.append(int(batch[0].min())))
    other.load_state_dict(saved)
    other.run(Stateful())

    assert seen == [11, 12, 13, 14, 21, 22, 23, 24, 31, 32, 33, 34]
    assert rest == seen[6:]


def test_a_state_of_data_that_was_saved_by_another_number_of_ranks_is_refused() -> None:
    engine = Engine(lambda engine, batch: None)
    at(engine, Events.ITERATION_COMPLETED, 2, engine.terminate)
    engine.run(Stateful(), seed=1)
    saved = engine.state_dict()
    parts = [{**saved["by_rank"][0], "rank": rank, "world_size": 2} for rank in (0, 1)]
    other = Engine(lambda engine, batch: None)
    other.load_state_dict({**saved, "by_rank": parts})

    with pytest.raises(ValueError, match=r"by 2 processes, and goes on with 1: .* no state of its own, got a Stateful"):
        other.run(Stateful())


def test_whole_batches_of_a_stream_are_exact() -> None:
    class Whole(Stream):
        def __iter__(self) -> Iterator[Any]:
            return ((x.expand(5, 3), y.expand(5, 1)) for x, y in super().__iter__())

    assert_resumable(building(), DataLoader(Whole(4), batch_size=None), max_epochs=2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_pass_over_a_stream_draws_anew_in_every_worker(num_workers: int) -> None:
    """Also where the workers stay, and would draw the same numbers as each other, or as before."""
    noise: list[float] = []
    data = loader(num_workers, Stream(), persistent_workers=num_workers > 0)
    engine = Engine(lambda engine, batch: noise.extend(batch[0][:, 0].tolist()))
    engine.run(data, max_epochs=2, seed=1)

    assert len(set(noise)) == len(noise) == 40


def test_a_metric_of_each_batch_is_reset_in_a_resumed_epoch_too() -> None:
    """Only what goes on over the epoch keeps what was loaded."""

    def build() -> tuple[Engine, dict[str, Any]]:
        engine = Engine(lambda engine, batch: (batch[0], batch[1].expand_as(batch[0])))
        metric = MeanSquaredError()
        metric.attach(engine, "of the batch", usage="batch_wise")
        return engine, {"trainer": engine, "metric": metric}

    assert_resumable(build, loader(), max_epochs=2)


def test_without_a_seed_the_epoch_is_run_again_from_its_start() -> None:
    """Every sample of it is seen, and the user is told once."""
    seen: list[int] = []
    engine = Engine(lambda engine, batch: None)
    at(engine, Events.ITERATION_COMPLETED, 6, engine.terminate)
    engine.run(loader(), max_epochs=2)
    other = Engine(lambda engine, batch: seen.extend(batch[1].flatten().long().tolist()))
    other.load_state_dict(engine.state_dict())

    with pytest.warns(UserWarning, match=r"after 2 of its 4 iterations, .* run again from its start") as caught:
        other.run(loader())

    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert sorted(seen) == list(range(20))
    assert (other.state.epoch, other.state.iteration) == (2, 10), "iterations are counted on, as the weights had them"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_of_unknown_length_is_exact(num_workers: int) -> None:
    """Also in the first epoch, when nobody knows yet how long it is."""

    class Unsized(Stream):
        pass

    assert_resumable(building(), DataLoader(Unsized(), batch_size=5, num_workers=num_workers), max_epochs=2)

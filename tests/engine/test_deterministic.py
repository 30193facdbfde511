"""A deterministic run repeats bit for bit, whole or cut after any iteration and resumed."""

from __future__ import annotations

import io
import random
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ignite_core.engine import DeterministicEngine, Events


class Noisy(Dataset[torch.Tensor]):
    """Ten samples, each with fresh noise from torch and python: augmentation."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((3,), float(index)) + torch.rand(3) + random.random()


class Stream(IterableDataset[torch.Tensor]):
    """Seven samples of unknown number."""

    def __iter__(self) -> Any:
        return (torch.full((3,), float(index)) + torch.rand(3) for index in range(7))


class Training:
    """A model with dropout whose every batch and weight is remembered."""

    def __init__(self, data: Any, epoch_length: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.batches: list[torch.Tensor] = []
        self.engine = DeterministicEngine(self.step)
        self.engine.state.seed = 12
        self.data = data
        self.epoch_length = epoch_length

    def step(self, engine: DeterministicEngine, batch: torch.Tensor) -> None:
        self.batches.append(batch.clone())
        self.optimizer.zero_grad()
        self.model(batch).square().mean().backward()
        self.optimizer.step()

    def objects(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "engine": self.engine}

    def run(self) -> Training:
        self.engine.run(self.data, max_epochs=3, epoch_length=self.epoch_length)
        return self

    def saved_at(self, iteration: int) -> io.BytesIO:
        """What a checkpoint after this iteration of a run holds."""
        file = io.BytesIO()

        @self.engine.on(Events.ITERATION_COMPLETED(once=iteration))
        def save() -> None:
            torch.save({name: one.state_dict() for name, one in self.objects().items()}, file)
            self.engine.terminate()

        self.run()
        file.seek(0)
        return file

    def resume(self, file: io.BytesIO) -> Training:
        for name, saved in torch.load(file, weights_only=True).items():
            self.objects()[name].load_state_dict(saved)
        random.seed(99)
        torch.manual_seed(99)  # whatever was drawn before does not matter
        return self.run()


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def loader(num_workers: int = 0) -> DataLoader[torch.Tensor]:
    return DataLoader(Noisy(), batch_size=3, shuffle=True, num_workers=num_workers)


@pytest.mark.parametrize("epoch_length", [None, 3, 6], ids=["whole passes", "short epochs", "long epochs"])
def test_cut_after_any_iteration_and_resumed_equals_the_run_that_was_not_cut(epoch_length: int | None) -> None:
    """Batches, augmentation, dropout and weights are the same bits."""
    whole = Training(loader(), epoch_length).run()
    total = 3 * (epoch_length or 4)

    for iteration in range(1, total):
        file = Training(loader(), epoch_length).saved_at(iteration)
        resumed = Training(loader(), epoch_length).resume(file)

        assert same(resumed.batches, whole.batches[iteration:]), f"cut after iteration {iteration}"
        assert same(list(resumed.model.parameters()), list(whole.model.parameters())), f"cut after {iteration}"


@pytest.mark.parametrize("iteration", [2, 4, 7])
def test_resume_is_exact_with_worker_processes(iteration: int) -> None:
    """Workers that prefetch and augment draw again what they drew."""
    whole = Training(loader(num_workers=2)).run()
    resumed = Training(loader(num_workers=2)).resume(Training(loader(num_workers=2)).saved_at(iteration))

    assert same(resumed.batches, whole.batches[iteration:])
    assert same(list(resumed.model.parameters()), list(whole.model.parameters()))


@pytest.mark.parametrize("iteration", [1, 2, 3, 5, 7, 8])
def test_resume_is_exact_for_a_stream_of_unknown_length(iteration: int) -> None:
    """Also in the first epoch, when nobody knows yet how long it is."""
    stream = DataLoader(Stream(), batch_size=3)
    whole = Training(stream).run()
    resumed = Training(stream).resume(Training(stream).saved_at(iteration))

    assert same(resumed.batches, whole.batches[iteration:])


def test_without_the_random_states_a_resumed_run_differs() -> None:
    """The negative control: the comparison above can fail."""
    whole = Training(loader()).run()
    file = Training(loader()).saved_at(2)
    saved = torch.load(file, weights_only=True)
    del saved["engine"]["by_rank"][0]["rng"]
    changed = io.BytesIO()
    torch.save(saved, changed)
    changed.seek(0)
    resumed = Training(loader()).resume(changed)

    assert not same(list(resumed.model.parameters()), list(whole.model.parameters()))


def test_resume_inside_an_epoch_does_not_warn() -> None:
    """A plain engine warns there; this one knows its place."""
    file = Training(loader()).saved_at(2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Training(loader()).resume(file)


def test_data_that_is_shorter_than_the_saved_run_saw_is_an_error() -> None:
    """Nothing is silently skipped or repeated."""
    engine = DeterministicEngine(lambda engine, batch: None)
    engine.load_state_dict({"iteration": 4, "epoch_length": 5, "max_epochs": 1})

    with pytest.raises(ValueError, match=r"had taken 4 batches .* has only 2"):
        engine.run(iter([1, 2]))


def test_a_run_without_data_is_seeded_too() -> None:
    """An RL loop draws the same numbers again."""

    def draws() -> list[float]:
        drawn: list[float] = []
        engine = DeterministicEngine(lambda engine, batch: drawn.append(torch.rand(1).item()))
        engine.state.seed = 3
        engine.run(max_epochs=2, epoch_length=3)
        return drawn

    assert draws() == draws()


def test_the_seed_is_drawn_once_and_saved() -> None:
    """Whoever sets no seed gets one from torch's generator."""
    torch.manual_seed(7)
    first = DeterministicEngine(lambda engine, batch: torch.rand(1).item())
    first.run([1, 2])
    torch.manual_seed(7)
    second = DeterministicEngine(lambda engine, batch: torch.rand(1).item())
    second.run([1, 2])

    assert first.state.seed is not None
    assert (first.state.seed, first.state.output) == (second.state.seed, second.state.output)
    assert first.state_dict()["seed"] == first.state.seed

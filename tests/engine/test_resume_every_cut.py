"""R20: a run that is cut after any iteration and resumed is, bit for bit, the run that was not cut.

Every fourth cut of 60 iterations for a shuffling loader with two workers, six cuts for the other combinations; all cuts
of all of them under ``make faults``. Each comparison is that of ``assert_resumable``: batches, outputs, metrics,
weights, optimizer, average, schedule, scaler and generators after every iteration.
"""

from __future__ import annotations

import functools
from itertools import chain
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from ignite_core.distributed import auto_dataloader
from ignite_core.engine import Engine, Events
from ignite_core.engine.data import reproducibility as seeding
from ignite_core.engine.data.position import Position
from ignite_core.engine.data.seeded_loader import SeededLoader
from ignite_core.engine.supervised.step import TrainingStep
from ignite_core.testing import assert_resumable, run_distributed
from tests.engine.scripts import Samples, Script, Stream, building, loader, one_thread
from tests.faults.sizes import FULL

one_thread = pytest.fixture(autouse=True)(one_thread)

#: First and last of an epoch, inside it, inside and at the end of windows of three.
SIX = (1, 6, 19, 20, 21, 47)
CUTS = "all" if FULL else SIX
THREE_EPOCHS = {"max_epochs": 3, "epoch_length": 20}


def of_twenty(num_workers: int = 0, **options: Any) -> DataLoader[Any]:
    """Twenty batches an epoch."""
    return loader(num_workers, **{"dataset": Samples(40), "batch_size": 2, **options})


def test_cuts_with_two_workers_and_shuffle() -> None:
    cuts = "all" if FULL else range(1, 60, 4)
    assert_resumable(building(), of_twenty(2, dataset=Samples(60)), cuts, max_epochs=2)


@pytest.mark.parametrize("accumulation", [1, 3] if FULL else [3])
@pytest.mark.parametrize(
    "make",
    [
        of_twenty,
        functools.partial(of_twenty, 2),
        functools.partial(of_twenty, 2, persistent_workers=True),
        functools.partial(of_twenty, dataset=Stream(40)),
        functools.partial(of_twenty, 2, dataset=Stream(40)),
        functools.partial(of_twenty, 2, dataset=Stream(40), persistent_workers=True),
        lambda: list(of_twenty()),
    ],
    ids=["0 workers", "2 workers", "persistent", "stream", "stream, 2", "stream, persistent", "a list"],
)
def test_cuts_with_other_loaders_and_accumulation(make: Any, accumulation: int) -> None:
    assert_resumable(building(accumulation=accumulation), make(), CUTS, **THREE_EPOCHS)


def test_cuts_without_accumulation() -> None:
    assert_resumable(building(deterministic=True), of_twenty(), CUTS, **THREE_EPOCHS)


def test_cuts_with_mixed_precision_and_a_scaler() -> None:
    assert_resumable(building(amp=True, accumulation=3), of_twenty(), CUTS, **THREE_EPOCHS)


@pytest.mark.parametrize("epoch_length", [3, 7])
def test_cuts_in_epochs_that_do_not_end_where_the_data_does(epoch_length: int) -> None:
    """A pass of four batches spans epochs, or an epoch passes."""
    assert_resumable(building(), loader(), max_epochs=14 // epoch_length, epoch_length=epoch_length)


def test_cuts_of_a_run_by_iterations() -> None:
    assert_resumable(building(accumulation=3), loader(), max_iters=10)


def test_cuts_without_data() -> None:
    """A loop that makes its own data, as in reinforcement learning."""

    def build() -> tuple[Engine, dict[str, Any]]:
        model = nn.Linear(2, 1)
        nn.init.constant_(model.weight, 0.5)
        nn.init.zeros_(model.bias)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(engine: Engine, batch: Any) -> float:
            optimizer.zero_grad()
            loss = model(torch.randn(4, 2)).square().mean()
            loss.backward()
            optimizer.step()
            return loss.item()

        trainer = Engine(step)
        return trainer, {"trainer": trainer, "model": model, "optimizer": optimizer}

    assert_resumable(build, None, max_epochs=2, epoch_length=4)


def test_workers_or_none_make_no_difference() -> None:
    """Nor does how far they fetch ahead, or whether they stay."""
    runs = [Script() for _ in range(4)]
    loaders = [loader(), loader(1, prefetch_factor=4), loader(2), loader(2, persistent_workers=True)]
    for script, data in zip(runs, loaders, strict=True):
        script.trainer.run(data, max_epochs=3, seed=1)

    assert all(script.losses == runs[0].losses for script in runs)
    assert all(script.ids == runs[0].ids for script in runs)


# ------------------------------------------------------------------------------------------------- no sample is lost


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_sample_is_missing_and_none_comes_twice_and_all_in_order(num_workers: int) -> None:
    """The three asserts of MosaicML Streaming, over a run that is cut four times."""
    uncut = Script()
    uncut.trainer.run(loader(num_workers), max_epochs=3, seed=3)
    seen: list[list[int]] = []
    saved: dict[str, Any] = {}
    for cut in (2, 5, 8, 11, None):
        script = Script()
        for name, state in saved.items():
            script.to_save[name].load_state_dict(state)
        if cut is not None:
            script.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=cut), script.trainer.terminate)
        script.trainer.run(loader(num_workers), max_epochs=3, seed=3)
        saved = {name: one.state_dict() for name, one in script.to_save.items()}
        seen += script.ids

    epochs = [sorted(chain(*seen[start : start + 4])) for start in (0, 4, 8)]
    assert epochs == [list(range(20))] * 3
    assert seen == uncut.ids
    assert len({str(seen[start : start + 4]) for start in (0, 4, 8)}) == 3, "each epoch has an order of its own"


# ---------------------------------------------------------------------------------------------------- several ranks


class Shared(Script):
    """The script on one of several ranks, whose gradients are averaged.

    ``find_unused_parameters=True`` keeps torch from ordering its buckets anew after the first backward pass of a
    process, which from three ranks on changes the order of sums, and with it the last bits.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if dist.is_initialized():
            wrapped = nn.parallel.DistributedDataParallel(self.model, find_unused_parameters=True)
            step = self.trainer._process_function
            object.__setattr__(step.options, "model", wrapped)
            step._ddp = wrapped


def resume_on_this_rank(accumulation: int, num_workers: int, cuts: Any) -> None:
    def build() -> tuple[Engine, dict[str, Any]]:
        script = Shared(accumulation=accumulation, metrics=False)
        return script.trainer, script.to_save

    data = auto_dataloader(Samples(80), batch_size=4, shuffle=True, num_workers=num_workers)
    assert_resumable(build, data, cuts, max_epochs=2)


@pytest.mark.parametrize(("ranks", "accumulation"), [(2, 3), *([(2, 1), (4, 1), (4, 3)] if FULL else [])])
def test_cuts_on_several_ranks(ranks: int, accumulation: int) -> None:
    cuts = "all" if FULL else (1, 5, 19, 20, 21, 33)
    run_distributed(resume_on_this_rank, accumulation, 0, cuts, ranks=ranks)


# ------------------------------------------------------------------------------------------------- negative controls


BEGIN, RESUME_PASS = SeededLoader.begin, Position.resume_pass


@pytest.mark.parametrize(
    ("where", "name", "bug", "first"),
    [
        (seeding.ResumeState, "go_on", lambda self: None, "output"),
        (seeding, "set_rng_state", lambda state: None, "output"),
        (SeededLoader, "begin", lambda self, seed, done: BEGIN(self, seed, 0), "batch"),
        (Position, "resume_pass", lambda self, number, done, is_over: RESUME_PASS(self, 1, done, is_over), "batch"),
        (TrainingStep, "load_step_state", lambda self, states: None, "model"),
    ],
    ids=["states not put back", "states not set", "place forgotten", "pass forgotten", "gradients forgotten"],
)
def test_without_any_part_of_it_the_comparison_fails(
    where: Any, name: str, bug: Any, first: str, monkeypatch: Any
) -> None:
    """The negative controls: what is compared above depends on each part, and what differs first is named."""
    monkeypatch.setattr(where, name, bug)

    with pytest.raises(AssertionError, match=rf"after iteration 2[34], {first}"):
        assert_resumable(building(accumulation=3), of_twenty(), (22,), **THREE_EPOCHS)

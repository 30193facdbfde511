"""R21: a run goes on with another number of ranks, and the samples come in the same order of all of them together.

Global batch 12, on 4, 2, 3 and again 4 ranks, which are threads of no process: the samples of a rank depend on its
number and the world size alone, so one process plays them one after the other. With processes, gradients and all, it is
tried for 1 and 2 ranks.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from ignite_core.distributed import DistributedProxySampler, ShardSampler, auto_dataloader
from ignite_core.engine import DeterministicEngine, Engine, Events, create_supervised_trainer
from ignite_core.engine.data import reproducibility as seeding
from ignite_core.testing import run_distributed
from tests.engine.scripts import Samples, Stream, loader, one_thread
from tests.faults.sizes import FULL

one_thread = pytest.fixture(autouse=True)(one_thread)

GLOBAL_BATCH, SAMPLES, EPOCHS = 12, 60, 3
SAMPLERS = {
    "ShardSampler": lambda data, world, rank: ShardSampler(data, world, rank, shuffle=True),
    "DistributedSampler": lambda data, world, rank: DistributedSampler(data, world, rank),
    "DistributedProxySampler": lambda data, world, rank: DistributedProxySampler(RandomSampler(data), world, rank),
}

Saved = dict[str, Any]


class Ranks:
    """Ranks of a run, played one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = 0, 1
        monkeypatch.setattr(seeding, "_place_of_process", lambda: self.place)

    def run(
        self, world_size: int, until: int | None, saved: Saved | None, sampler: str, num_workers: int = 0
    ) -> tuple[list[Tensor], Saved]:
        """The batches of all ranks together, and what a checkpoint holds after iteration ``until``."""
        of_ranks: list[list[Tensor]] = []
        states: list[Saved] = []
        for rank in range(world_size):
            self.place = rank, world_size
            batches: list[Tensor] = []
            engine = Engine(lambda engine, batch: batches.append(torch.cat(batch, 1)))  # noqa: B023
            if saved is not None:
                engine.load_state_dict(saved)
            if until is not None:
                engine.add_event_handler(Events.ITERATION_COMPLETED(once=until), engine.terminate)
            data = Samples(SAMPLES)
            of_rank = SAMPLERS[sampler](data, world_size, rank)
            size = GLOBAL_BATCH // world_size
            engine.run(DataLoader(data, size, sampler=of_rank, num_workers=num_workers), max_epochs=EPOCHS, seed=1)
            of_ranks.append(batches)
            states.append(dict(engine.state_dict()))
        together = [torch.stack(parts, 1).flatten(0, 1) for parts in zip(*of_ranks, strict=True)]
        return together, {**states[0], "by_rank": [state["by_rank"][0] for state in states]}


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    return Ranks(monkeypatch)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_four_then_two_then_three_then_four_ranks_see_what_one_sees(ranks: Ranks, sampler: str) -> None:
    """Samples, order and augmentation, cut inside epochs and where one ends."""
    expected, _ = ranks.run(1, None, None, sampler)
    seen: list[Tensor] = []
    saved: Saved | None = None
    for world_size, until in ((4, 2), (2, 5), (3, 9), (4, 13), (1, None)):
        batches, saved = ranks.run(world_size, until, saved, sampler)
        seen += batches

    assert all(map(torch.equal, seen, expected))
    ids = [batch[:, 3].long().tolist() for batch in seen]
    assert [sorted(chain(*ids[start : start + 5])) for start in (0, 5, 10)] == [list(range(SAMPLES))] * 3


def test_workers_make_no_difference(ranks: Ranks) -> None:
    expected, _ = ranks.run(1, None, None, "ShardSampler")
    first, saved = ranks.run(2, 7, None, "ShardSampler", num_workers=1)
    rest, _ = ranks.run(4, None, saved, "ShardSampler", num_workers=2)

    assert all(map(torch.equal, first + rest, expected))


def draws_of_two_ranks(seed: int | None, cut: int, saved: list[Any] | None) -> list[Any]:
    """What each rank draws until it is cut, and what it saves then."""
    torch.manual_seed(5 + dist.get_rank())
    seen: list[float] = []
    engine = DeterministicEngine(lambda engine, batch: seen.append(torch.rand(1).item()))
    if seed is not None:
        engine.state.seed = seed + dist.get_rank()
    if saved:
        engine.load_state_dict({**saved[0], "by_rank": [state["by_rank"][0] for state in saved]})
    if cut:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=cut), engine.terminate)
    engine.run(range(4), max_epochs=3)
    return [seen, engine.state_dict()]


def test_a_drawn_seed_is_that_of_rank_0_and_others_stay_with_their_rank() -> None:
    """``manual_seed(seed + rank)`` is usual; a run that goes on draws what the uncut one draws, on each rank."""
    for seed in (None, 7):
        whole = run_distributed(draws_of_two_ranks, seed, 0, None, ranks=2)
        first = run_distributed(draws_of_two_ranks, seed, 2, None, ranks=2)
        rest = run_distributed(draws_of_two_ranks, seed, 0, [saved for _, saved in first], ranks=2)

        assert [one + other for (one, _), (other, _) in zip(first, rest, strict=True)] == [seen for seen, _ in whole]
        assert (whole[0][0] == whole[1][0]) is (seed is None)


def test_seeds_that_differ_by_rank_become_that_of_rank_0_on_another_number_of_ranks(ranks: Ranks) -> None:
    saved = []
    for rank in range(2):
        ranks.place = rank, 2
        engine = Engine(lambda engine, batch: None)
        engine.run([0], seed=7 + rank)
        saved.append(engine.state_dict())
    for ranks.place, seed in (((1, 2), 8), ((0, 3), 7), ((2, 3), 7)):
        engine = Engine(lambda engine, batch: None)
        engine.load_state_dict({**saved[0], "by_rank": [state["by_rank"][0] for state in saved]})

        assert engine.state.seed == seed


@pytest.mark.parametrize("cut", [2, 5])
def test_another_global_batch_is_refused_inside_an_epoch_alone(ranks: Ranks, cut: int) -> None:
    _, saved = ranks.run(4, cut, None, "ShardSampler")
    ranks.place = 0, 2
    engine = Engine(lambda engine, batch: None)
    engine.load_state_dict(saved)
    data = Samples(SAMPLES)

    def run(size: int) -> None:
        engine.run(DataLoader(data, size, sampler=ShardSampler(data, 2, 0)), max_epochs=EPOCHS)

    if cut == 2:
        with pytest.raises(
            ValueError, match=r"batches of 12 samples of 4 processes .* 2 processes and batches of 8: .* batch_size=6"
        ):
            run(4)
        run(6)  # nothing was lost by the attempt
    else:
        run(6)
    assert engine.state.iteration == 15


@pytest.mark.parametrize(
    ("data", "kind"), [([0] * 4, "list"), (loader(dataset=Stream()), "DataLoader")], ids=["list", "stream"]
)
def test_data_that_cannot_be_shared_out_otherwise_is_refused(ranks: Ranks, data: Any, kind: str) -> None:
    ranks.place = 0, 2
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.terminate)
    engine.run(data, seed=1)
    saved = engine.state_dict()
    ranks.place = 0, 1
    other = Engine(lambda engine, batch: None)
    other.load_state_dict({**saved, "by_rank": [{**saved["by_rank"][0], "rank": rank} for rank in (0, 1)]})

    with pytest.raises(ValueError, match=rf"by 2 processes, and goes on with 1: .* got a {kind}$"):
        other.run(data)


# -------------------------------------------------------------------------------------------------- with processes


def train(saved: Saved | None, until: int | None, accumulation: int) -> Saved:
    """On one of several ranks: what a checkpoint holds in the end, and the loss of each iteration over all ranks."""
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    several = dist.is_initialized() and dist.get_world_size() > 1
    wrapped = nn.parallel.DistributedDataParallel(model) if several else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    trainer = create_supervised_trainer(
        wrapped,
        optimizer,
        nn.functional.mse_loss,
        prepare_batch=lambda batch, **_: (batch[0].double(), batch[1].double()),
        gradient_accumulation_steps=accumulation,
    )
    objects: dict[str, Any] = {"trainer": trainer, "model": model, "optimizer": optimizer}
    saved = copy.deepcopy(saved)  # what comes from another process is shared with all ranks
    for name, state in (saved or {}).get("objects", {}).items():
        objects[name].load_state_dict(state)
    losses: list[float] = []

    @trainer.on(Events.ITERATION_COMPLETED)
    def note() -> None:
        loss = trainer.state.output.clone()
        if several:
            dist.all_reduce(loss)
            loss /= dist.get_world_size()
        losses.append(loss.item())

    if until is not None:
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=until), trainer.terminate)
    data = auto_dataloader(Samples(SAMPLES), batch_size=GLOBAL_BATCH, shuffle=True)
    data.sampler.seed = 0  # on a rank alone and on several
    trainer.run(data, max_epochs=2, seed=1)
    states = {name: one.state_dict() for name, one in objects.items()}
    return {"objects": states, "losses": losses}


def together(of_ranks: list[Saved]) -> Saved:
    """What a Checkpoint makes of it."""
    objects = dict(of_ranks[0]["objects"])
    parts = [saved["objects"]["trainer"]["by_rank"][0] for saved in of_ranks]
    return {"objects": {**objects, "trainer": {**objects["trainer"], "by_rank": parts}}}


@pytest.mark.parametrize("accumulation", [1, 3] if FULL else [3])
def test_the_loss_goes_on_as_if_the_number_of_ranks_had_not_changed(accumulation: int) -> None:
    """Up to the order of sums; the cuts lie inside windows of accumulation."""
    expected = train(None, None, accumulation)["losses"]
    two = run_distributed(train, None, 2, accumulation, ranks=2)
    one = train(together(two), 7, accumulation)
    rest = run_distributed(train, together([one]), None, accumulation, ranks=2)

    losses = two[0]["losses"] + one["losses"] + rest[0]["losses"]
    assert losses == pytest.approx(expected, rel=1e-12)

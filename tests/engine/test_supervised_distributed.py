"""Accumulation with DistributedDataParallel: as on one process with all the data, and one synchronisation a step."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

import ignite_core.distributed as idist
from ignite_core.engine import Events, create_supervised_trainer
from ignite_core.engine.supervised.gradients import average_over_ranks
from ignite_core.testing import run_distributed
from tests.engine.training import (
    Batch,
    Unsized,
    make_batches,
    make_model,
    make_optimizer,
    merge,
    train_by_hand,
    weights,
)

# The batches of both ranks, one after the other: rank 0 gets those at even places, rank 1 the others.
BATCHES = make_batches(10)


class Ddp:
    """A trainer on a DistributedDataParallel model that counts its synchronisations."""

    def __init__(self, **arguments: Any) -> None:
        self.model = DistributedDataParallel(make_model())
        self.synchronisations = 0
        self.model.register_comm_hook(None, self._count)
        self.trainer = create_supervised_trainer(self.model, make_optimizer(self.model), mse_loss, **arguments)

    def _count(self, state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        self.synchronisations += 1
        return allreduce_hook(state, bucket)  # type: ignore[arg-type]

    def result(self) -> dict[str, Any]:
        return {"weights": weights(self.model), "synchronisations": self.synchronisations}


def on_each_rank() -> dict[str, Any]:
    """All scenarios in one start of the processes, which is what takes the time."""
    rank = idist.get_rank()
    shard = BATCHES[rank::2]
    return {
        "length known": train(shard),
        "length unknown": train(Unsized(shard)),
        "length unknown, scaler": train(Unsized(shard), amp_mode="amp", scaler=GradScaler("cpu", init_scale=1024.0)),
        "cut": train_cut(shard),
        "one rank ends earlier": train(Unsized(shard[: 5 - rank])),
        "average": average(rank),
    }


def train(data: Any, **arguments: Any) -> dict[str, Any]:
    ddp = Ddp(gradient_accumulation_steps=2, **arguments)
    ddp.trainer.run(data)
    return ddp.result()


def train_cut(shard: list[Batch]) -> dict[str, Any]:
    ddp = Ddp(gradient_accumulation_steps=4)
    ddp.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: ddp.trainer.terminate_epoch())
    ddp.trainer.run(shard)
    return ddp.result()


class Branches(nn.Module):
    """Parameters of which a rank may use some and not others."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.first, self.second, self.nobody = (nn.Parameter(torch.zeros(2)) for _ in range(4))


def average(rank: int) -> list[Any]:
    """Rank 0 has seen 3 batches, rank 1 has seen 1."""
    module = Branches()
    module.both.grad = torch.full((2,), [2.0, 6.0][rank])
    if rank == 0:
        module.first.grad = torch.full((2,), 4.0)
    else:
        module.second.grad = torch.full((2,), 8.0)
    model = DistributedDataParallel(module, find_unused_parameters=True)
    total = average_over_ranks(model, weight=[3, 1][rank])
    found = [parameter.grad for parameter in (module.both, module.first, module.second, module.nobody)]
    stale = [gradient if gradient is None else gradient.clone() for gradient in found]
    nothing = average_over_ranks(model, weight=0)
    unchanged = all(old is None or torch.equal(old, new) for old, new in zip(stale, found, strict=True))
    return [total, stale, nothing, unchanged]


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    if not dist.is_gloo_available():
        pytest.skip("needs the gloo backend, this build of torch has none")
    return run_distributed(on_each_rank)


def one_process(*windows: list[int]) -> Tensor:
    """The weights of one process whose batches are those of both ranks together."""
    return weights(train_by_hand(merge([BATCHES[place] for place in window]) for window in windows))


WINDOWS_OF_TWO = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

# windows on all the data, and synchronisations: one for each step whose last batch was known to be the last
EXPECTED: dict[str, tuple[list[list[int]], int]] = {
    "length known": (WINDOWS_OF_TWO, 3),
    "length unknown": (WINDOWS_OF_TWO, 2),
    "length unknown, scaler": (WINDOWS_OF_TWO, 2),
    "cut": ([[0, 1, 2, 3, 4, 5]], 0),
    "one rank ends earlier": ([[0, 1, 2, 3], [4, 5, 6, 7], [8]], 2),
}


@pytest.mark.parametrize("scenario", EXPECTED)
def test_weights_are_those_of_one_process_with_all_the_data(scenario: str, ranks: list[dict[str, Any]]) -> None:
    windows, _ = EXPECTED[scenario]

    assert torch.equal(ranks[0][scenario]["weights"], ranks[1][scenario]["weights"])
    torch.testing.assert_close(ranks[0][scenario]["weights"], one_process(*windows))


@pytest.mark.parametrize("scenario", EXPECTED)
def test_gradients_are_synchronised_once_a_step(scenario: str, ranks: list[dict[str, Any]]) -> None:
    _, synchronisations = EXPECTED[scenario]

    assert [rank[scenario]["synchronisations"] for rank in ranks] == [synchronisations, synchronisations]


def test_the_average_is_weighted_and_a_parameter_nobody_used_keeps_no_gradient(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        total, (both, first, second, nobody), _, _ = rank["average"]

        assert total == 4
        assert [both.tolist(), first.tolist(), second.tolist()] == [[3.0, 3.0], [3.0, 3.0], [2.0, 2.0]]
        assert nobody is None


def test_where_no_rank_has_a_weight_nothing_is_done(ranks: list[dict[str, Any]]) -> None:
    assert [rank["average"][2:] for rank in ranks] == [[0, True], [0, True]]

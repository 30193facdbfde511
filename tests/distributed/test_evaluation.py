"""Evaluation on several ranks: exact, also where a rank has less to do than the others, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.metrics import Accuracy, Loss, Metric, RunningAverage, gathered, maximum
from ignite_core.testing import run_distributed

SAMPLES = 7


def samples() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(4, generator=generator), torch.tensor(number % 3)) for number in range(SAMPLES)]


def model_with_batch_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def evaluate(first_rank_is_empty: bool) -> dict[str, Any]:
    """Train a step, then evaluate uneven shards; optionally rank 0 has no batch at all."""
    model = idist.auto_model(model_with_batch_norm())
    loss_fn = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn)
    metrics = {"accuracy": Accuracy(), "loss": Loss(loss_fn)}
    evaluator = create_supervised_evaluator(model, metrics=metrics)
    x, y = (torch.stack(column) for column in zip(*samples()[:4], strict=True))
    modes = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        data = samples()[4:] if first_rank_is_empty else samples()
        if first_rank_is_empty:
            shard = [] if idist.get_rank() == 0 else data[idist.get_rank() - 1 :: max(1, idist.get_world_size() - 1)]
            loader: Any = [(x.unsqueeze(0), y.unsqueeze(0)) for x, y in shard]
        else:
            loader = idist.auto_dataloader(data, batch_size=2 * idist.get_world_size(), pad=False)
        evaluator.run(loader)

    @trainer.on(Events.ITERATION_COMPLETED)
    def note_mode() -> None:
        modes.append([module.training for module in model.modules()])

    trainer.run([(x, y)], max_epochs=2)
    return {**evaluator.state.metrics, "modes": all(all(mode) for mode in modes), "batches": evaluator.state.iteration}


@pytest.mark.parametrize("ranks", [2, 4])
def test_metrics_of_uneven_shards(ranks: int) -> None:
    """They are those of one process."""
    alone = run_distributed(evaluate, False, ranks=1)[0]
    for found in run_distributed(evaluate, False, ranks=ranks):
        assert found["accuracy"] == alone["accuracy"]
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        assert found["modes"], "the evaluator left a part of the model in evaluation mode"


def test_batch_norm_without_batch_on_rank_0() -> None:
    """The evaluation of a DDP model does not hang.

    DistributedDataParallel broadcasts buffers in its forward pass; the evaluator calls the module inside.
    """
    found = run_distributed(evaluate, True, ranks=2, timeout_s=30)

    assert [one["batches"] for one in found] == [0, SAMPLES - 4]
    assert found[0]["accuracy"] == found[1]["accuracy"]
    assert found[0]["loss"] == found[1]["loss"]


class Spread(Metric):
    """One state of each kind."""

    largest = maximum()
    seen = gathered()

    def update(self, output: Any) -> None:
        self.largest = torch.maximum(self.largest, output.max())
        self.seen.append(output)

    def compute(self) -> Any:
        return [float(self.largest), *sorted(torch.cat(self.seen).tolist())]


def spread() -> dict[str, Any]:
    rank = idist.get_rank()
    engine = Engine(lambda engine, batch: batch)
    metric = Spread()
    metric.attach(engine, "spread")
    RunningAverage(output_transform=lambda batch: batch.sum()).attach(engine, "average")
    state = engine.run([torch.tensor([float(rank), -float(rank)])] * rank)
    return {
        "spread": state.metrics["spread"],
        "own": [] if rank == 0 else [value.tolist() for value in metric.seen],
        "averages": "average" in state.metrics,
    }


def test_states_of_every_kind() -> None:
    """States are combined; those of each rank do not change."""
    found = run_distributed(spread, ranks=3)

    assert [one["spread"] for one in found] == [[2.0, -2.0, -2.0, -1.0, 1.0, 2.0, 2.0]] * 3
    assert [one["own"] for one in found] == [[], [[1.0, -1.0]], [[2.0, -2.0], [2.0, -2.0]]]
    assert [one["averages"] for one in found] == [False, True, True], "a running average is that of the rank"

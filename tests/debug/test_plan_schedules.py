"""A plan tells what schedulers will write: at each iteration what the step then finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    BatchSizeScheduler,
    ConcatScheduler,
    CosineAnnealingScheduler,
    ExpStateScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    OneCycle,
    ParamGroupScheduler,
    PiecewiseLinear,
    ReduceLROnPlateauScheduler,
    create_lr_scheduler_with_warmup,
)

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "linear": lambda optimizer: LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.0, 6),
    "cosine": lambda optimizer: CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.1, 5, cycle_mult=2.0),
    "piecewise": lambda optimizer: PiecewiseLinear(optimizer, "lr", [(2, 1.0), (8, 0.1)]),
    "concatenated": lambda optimizer: ConcatScheduler(
        [
            LinearCyclicalScheduler(optimizer, "lr", 0.0, 1.0, 8),
            CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.0, 20),
        ],
        [4],
    ),
    "torch's": lambda optimizer: LRScheduler(torch.optim.lr_scheduler.StepLR(optimizer, 3)),
    "warm-up": lambda optimizer: create_lr_scheduler_with_warmup(
        torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), 0.0, 4
    ),
}
EVENTS = [
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_STARTED,
    Events.ITERATION_COMPLETED(every=3),
]


def optimizer_of(groups: int) -> torch.optim.Optimizer:
    parameters = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(groups)]
    return torch.optim.Adam(parameters, lr=0.5)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_rate_of_each_step(name: str, event: Any, groups: int) -> None:
    found: list[list[float]] = []
    optimizer = optimizer_of(groups)
    trainer = Engine(lambda engine, batch: found.append([group["lr"] for group in optimizer.param_groups]))
    trainer.add_event_handler(event, SCHEDULERS[name](optimizer))

    plan = trainer.plan(max_epochs=4, epoch_length=5)
    assert optimizer.param_groups[0]["lr"] == 0.5 or "torch" in name or "warm" in name
    trainer.run(range(5), max_epochs=4)

    names = ["lr"] if "lr" in plan.values else [f"lr[{number}]" for number in range(groups)]
    for iteration, rates in enumerate(found, 1):
        told = [plan.values[one].at(iteration) for one in names]
        if None not in told:
            assert told == pytest.approx(rates[: len(names)], abs=1e-12), iteration
    assert sum(len(plan.values[one]) for one in names) > 0


def test_parameters_of_one_cycle() -> None:
    """The plan shows all parameters by name."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5, momentum=0.9)
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.ITERATION_STARTED, OneCycle(optimizer, 1.0, 20, momentum=(0.85, 0.95)))
    plan = trainer.plan(max_epochs=2, epoch_length=10)

    assert len(plan.values) == 2
    assert all(series.at(20) is not None for series in plan.values.values())


def test_pairs_as_parameters() -> None:
    optimizer = optimizer_of(1)
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.ITERATION_STARTED, LinearCyclicalScheduler(optimizer, "betas", 0.8, 0.9, 10))
    plan = trainer.plan(max_epochs=1, epoch_length=5)

    assert plan.values["betas"].at(1) == 0.8


def test_filters_see_values_of_state_schedulers() -> None:
    trainer = Engine(lambda engine, batch: None)
    ExpStateScheduler(1.0, 0.5, "temperature", create_new=True).attach(trainer, Events.ITERATION_STARTED)
    seen: list[int] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(lambda engine, count: engine.state.temperature < 0.2),
        lambda engine: seen.append(engine.state.iteration),
    )
    plan = trainer.plan(max_epochs=1, epoch_length=6)
    trainer.run(range(6))

    (planned,) = [one for one in plan.handlers if "lambda" in one.name]
    assert [iteration for _, iteration in planned.firings] == seen
    assert seen


def test_unpredictable_schedules_are_noted() -> None:
    optimizer = optimizer_of(1)
    data = torch.utils.data.DataLoader(list(range(8)), batch_size=2)
    trainer = Engine(lambda engine, batch: None)
    ReduceLROnPlateauScheduler(optimizer, "loss", trainer=trainer).attach(trainer, Events.EPOCH_COMPLETED)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, BatchSizeScheduler(data, lambda epoch: 2 + epoch))
    plan = trainer.plan(max_epochs=2, epoch_length=4)

    assert not plan.values
    assert [len(one.firings) for one in plan.handlers] == [2, 2]


def test_group_of_schedulers() -> None:
    """The plan shows its schedulers by name."""
    optimizer = optimizer_of(2)
    schedulers = [
        LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.0, 10, param_group_index=0),
        LinearCyclicalScheduler(optimizer, "lr", 0.1, 0.0, 10, param_group_index=1),
    ]
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.ITERATION_STARTED, ParamGroupScheduler(schedulers, ["body", "head"]))
    plan = trainer.plan(max_epochs=1, epoch_length=3)

    assert (plan.values["body"].at(1), plan.values["head"].at(1)) == (1.0, 0.1)

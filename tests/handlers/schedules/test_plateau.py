"""The rate that is lowered when a metric does not improve: as torch does it, on all groups or one."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from ignite_core.engine import Engine, Events
from ignite_core.handlers import ConcatScheduler, ParamGroupScheduler, PiecewiseLinear, ReduceLROnPlateauScheduler
from tests.handlers.schedules.tables import optimizer_of

LOSSES = [5.0, 4.0, 4.0, 4.0, 3.0, 3.5, 3.5, 3.4, 3.3, 3.2, float("nan"), 3.1, 1.0]

ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"patience": 1, "factor": 0.5},
    {"patience": 1, "factor": 0.5, "cooldown": 2},
    {"patience": 0, "factor": 0.5, "min_lr": 0.15},
    {"patience": 0, "factor": 0.5, "min_lr": [0.3, 0.05]},
    {"patience": 1, "factor": 0.5, "mode": "max", "threshold": 0.5, "threshold_mode": "abs"},
]


def evaluated(engine: Engine, scheduler: Any, losses: list[float], optimizer: Any) -> list[list[float]]:
    table = []
    for loss in losses:
        engine.state.metrics["loss"] = loss
        scheduler(engine)
        table.append([group["lr"] for group in optimizer.param_groups])
    return table


@pytest.mark.parametrize("kwargs", ARGUMENTS, ids=str)
def test_the_rates_are_those_of_torch_after_each_metric(kwargs: dict[str, Any]) -> None:
    """pytorch-ignite drops min_lr unless one group was chosen."""
    own, other = optimizer_of(2), optimizer_of(2)
    torch_scheduler = lr_scheduler.ReduceLROnPlateau(other, **kwargs)
    table = []
    for loss in LOSSES:
        torch_scheduler.step(loss)
        table.append([group["lr"] for group in other.param_groups])

    scheduler = ReduceLROnPlateauScheduler(own, "loss", **kwargs)
    assert evaluated(Engine(lambda engine, batch: None), scheduler, LOSSES, own) == table


@pytest.mark.parametrize("index", [0, 1])
def test_one_group_alone_is_lowered_to_its_own_least_rate(index: int) -> None:
    """pytorch-ignite takes the least rate of the first group for any other."""
    optimizer = optimizer_of(2)
    scheduler = ReduceLROnPlateauScheduler(
        optimizer, "loss", param_group_index=index, patience=0, factor=0.5, min_lr=0.1
    )
    table = evaluated(Engine(lambda engine, batch: None), scheduler, [1.0] * 6, optimizer)

    assert [row[1 - index] for row in table] == [[0.4, 0.8][index]] * 6
    rate = [0.8, 0.4][index]
    assert [row[index] for row in table] == [rate] + [max(rate / 2**step, 0.1) for step in range(1, 6)]


@pytest.mark.parametrize("index", [None, 1])
def test_it_goes_on_from_its_state_at_every_cut(index: int | None) -> None:
    def make() -> tuple[Any, Any]:
        optimizer = optimizer_of(2)
        return ReduceLROnPlateauScheduler(
            optimizer, "loss", param_group_index=index, patience=1, factor=0.5, min_lr=0.05
        ), optimizer

    engine = Engine(lambda engine, batch: None)
    scheduler, optimizer = make()
    table, states = [], []
    for loss in LOSSES:
        states.append(copy.deepcopy((scheduler.state_dict(), optimizer.state_dict())))
        table += evaluated(engine, scheduler, [loss], optimizer)

    for cut, (state, groups) in enumerate(states):
        resumed, fresh = make()
        resumed.load_state_dict(pickle.loads(pickle.dumps(state)))
        fresh.load_state_dict(groups)
        assert evaluated(engine, resumed, LOSSES[cut:], fresh) == table[cut:]
        assert resumed.event_index == len(LOSSES)


def test_a_state_of_pytorch_ignite_is_gone_on_from() -> None:
    theirs, engines = pytest.importorskip("ignite.handlers"), pytest.importorskip("ignite.engine")
    optimizer = optimizer_of()
    scheduler = theirs.ReduceLROnPlateauScheduler(optimizer, "loss", patience=1, factor=0.5)
    table = evaluated(engines.Engine(lambda engine, batch: None), scheduler, LOSSES[:6], optimizer)
    state = scheduler.state_dict()
    assert "_reduce_lr" in state["scheduler"]  # a bound method, which would write into the optimizer it came from

    fresh = optimizer_of()
    resumed = ReduceLROnPlateauScheduler(fresh, "loss", patience=1, factor=0.5)
    resumed.load_state_dict(state)
    fresh.load_state_dict(optimizer.state_dict())

    rest = evaluated(Engine(lambda engine, batch: None), resumed, LOSSES[6:], fresh)
    whole = optimizer_of()
    expected = evaluated(
        Engine(lambda engine, batch: None),
        ReduceLROnPlateauScheduler(whole, "loss", patience=1, factor=0.5),
        LOSSES,
        whole,
    )
    assert table + rest == expected


def test_attached_to_an_evaluator_it_keeps_the_history_in_the_trainer() -> None:
    optimizer, losses = optimizer_of(2), iter([3.0, 3.0, 3.0])
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

    @evaluator.on(Events.COMPLETED)
    def measure(engine: Engine) -> None:
        engine.state.metrics["loss"] = next(losses)

    scheduler = ReduceLROnPlateauScheduler(
        optimizer, "loss", trainer, save_history=True, param_group_index=1, patience=0, factor=0.5
    )
    scheduler.attach(evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    trainer.run([0], max_epochs=3)

    assert trainer.state.param_history == {"lr": [[0.4], [0.2], [0.1]]}
    assert not hasattr(evaluator.state, "param_history")


def test_it_keeps_no_trainer_alive() -> None:
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    ReduceLROnPlateauScheduler(optimizer_of(), "loss", trainer).attach(evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, evaluator.run, [0])
    gone = weakref.ref(trainer)
    gc.disable()
    try:
        del trainer, evaluator
        assert gone() is None
    finally:
        gc.enable()


def test_simulated_values_follow_the_metrics() -> None:
    rows = ReduceLROnPlateauScheduler.simulate_values(4, [1.0, 1.0, 1.0, 0.5], 0.8, patience=1, factor=0.5)
    one = ReduceLROnPlateauScheduler.simulate_values(
        4, [1.0, 1.0, 1.0, 0.5], 0.8, patience=1, factor=0.5, param_group_index=1, min_lr=0.7
    )

    assert rows == [[0, 0.8], [1, 0.8], [2, 0.4], [3, 0.4]]
    assert one == [[0, 0.8], [1, 0.8], [2, 0.7], [3, 0.7]]


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: _make(metric_name=5), TypeError, "metric_name must be a string, got 5"),
    (lambda: _make(trainer="trainer"), TypeError, "trainer must be an Engine, got 'trainer'"),
    (lambda: _make(param_group_index=2), ValueError, "one of the 2 parameter groups, got 2"),
    (lambda: _make(min_lr=[0.1]), ValueError, r"one for each of 2 parameter groups, got \[0.1\]"),
    (lambda: _make()(Engine(lambda engine, batch: None)), ValueError, r"no metric 'loss', its metrics are \[\]"),
    (lambda: _make().next_values(3), RuntimeError, "depend on the metric, and cannot be predicted"),
    (
        lambda: ReduceLROnPlateauScheduler.simulate_values(3, [1.0], 0.8),
        ValueError,
        "there must be a metric for each of 3 events, got 1",
    ),
]


def _make(**kwargs: Any) -> Any:
    return ReduceLROnPlateauScheduler(**{"optimizer": optimizer_of(2), "metric_name": "loss", **kwargs})


@pytest.mark.parametrize(("make", "kind", "message"), WRONG, ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_wrong_is_told_at_once(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_what_it_writes_cannot_be_told_beforehand_nor_that_of_who_calls_it() -> None:
    optimizer = optimizer_of()
    scheduler = ReduceLROnPlateauScheduler(optimizer, "loss")
    known = PiecewiseLinear(optimizer, "lr", [(0, 0.1)])

    assert known.is_predictable
    assert not scheduler.is_predictable
    assert not ParamGroupScheduler([known, scheduler]).is_predictable
    assert not ConcatScheduler([known, scheduler], [3]).is_predictable


def test_a_tensor_as_metric_will_do() -> None:
    optimizer = optimizer_of()
    scheduler = ReduceLROnPlateauScheduler(optimizer, "loss", patience=0, factor=0.5)

    table = evaluated(Engine(lambda e, b: None), scheduler, [torch.tensor(1.0), torch.tensor(2.0)], optimizer)  # type: ignore[list-item]

    assert table == [[0.8], [0.4]]

"""Schedulers of torch as handlers: event n sees the rate after n of their steps, whatever their kind."""

import copy
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    ConcatScheduler,
    LRScheduler,
    PiecewiseLinear,
    create_lr_scheduler_with_warmup,
)
from tests.handlers.schedules.tables import optimizer_of

STEPS = 25


class Zigzag(lr_scheduler.LRScheduler):
    """One that a user wrote, with a step of its own."""

    def get_lr(self) -> list[float]:
        return [rate * (1 + self.last_epoch % 3) for rate in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        super().step()


MAKES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, 4, 0.5),
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [3, 7, 7], 0.5),
    "ExponentialLR": lambda opt: lr_scheduler.ExponentialLR(opt, 0.9),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt, 0.25, 1.0, 6),
    "ConstantLR": lambda opt: lr_scheduler.ConstantLR(opt, 0.5, 6),
    "PolynomialLR": lambda opt: lr_scheduler.PolynomialLR(opt, 20, 2.0),
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda epoch: 0.95**epoch),
    "MultiplicativeLR": lambda opt: lr_scheduler.MultiplicativeLR(opt, lambda epoch: 0.95),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 9, 0.1),
    "CosineAnnealingWarmRestarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 3, 2, 0.1),
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(opt, 0.1, 0.9, 4, mode="triangular2", cycle_momentum=True),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.9, STEPS + 10),
    "SequentialLR": lambda opt: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.LinearLR(opt, 0.1, 1.0, 5), lr_scheduler.ExponentialLR(opt, 0.9)], [5]
    ),
    "ChainedScheduler": lambda opt: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(opt, 0.1, 5), lr_scheduler.ExponentialLR(opt, 0.9)]
    ),
    "one of a user": Zigzag,
}

pytestmark = pytest.mark.filterwarnings("ignore:Please also save or load the state of the optimizer")


def rates(optimizer: Any) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def table_of_torch(kind: str, groups: int) -> list[list[float]]:
    """The rates that torch sets, step by step."""
    optimizer = optimizer_of(groups)
    scheduler = MAKES[kind](optimizer)
    table = []
    for _ in range(STEPS):
        table.append(rates(optimizer))
        optimizer.step()
        scheduler.step()
    return table


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", MAKES)
def test_in_a_run_each_iteration_sees_the_rate_of_torch(kind: str, groups: int) -> None:
    optimizer, seen = optimizer_of(groups), []
    scheduler = MAKES[kind](optimizer)
    momenta = []

    def step(engine: Engine, batch: Any) -> None:
        seen.append(rates(optimizer))
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()

    trainer = Engine(step)
    LRScheduler(scheduler).attach(trainer)
    trainer.run(range(STEPS))

    assert seen == table_of_torch(kind, groups)
    assert scheduler.get_last_lr() == rates(optimizer)
    assert (len(set(momenta)) > 1) == (kind in ("CyclicLR", "OneCycleLR"))


@pytest.mark.parametrize("kind", MAKES)
def test_what_was_said_beforehand_comes_and_looking_changes_nothing(kind: str) -> None:
    optimizer = optimizer_of(2)
    torch_scheduler = MAKES[kind](optimizer)
    scheduler = LRScheduler(torch_scheduler)
    before = copy.deepcopy((optimizer.state_dict(), _plain(torch_scheduler.state_dict())))

    ahead = scheduler.next_values(STEPS)
    single = [scheduler.value_at(index) for index in range(STEPS)]

    assert (optimizer.state_dict(), _plain(torch_scheduler.state_dict())) == before
    assert ahead == single == table_of_torch(kind, 2)
    rows = LRScheduler.simulate_values(STEPS, torch_scheduler)
    assert rows == [[index, *values] for index, values in enumerate(ahead)]
    assert (optimizer.state_dict(), _plain(torch_scheduler.state_dict())) == before
    for _ in range(7):
        optimizer.step()
        scheduler()
    assert scheduler.value_at(6) == rates(optimizer) == ahead[6]
    assert scheduler.next_values(5) == ahead[7:12]
    with pytest.raises(ValueError, match=r"event_index must be at least 6, .*only go forward; got 5"):
        scheduler.value_at(5)


def _plain(state: Any) -> Any:
    """What can be compared in the state of a scheduler of torch, those of the schedulers in it included."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_plain(value) for value in state]
    if isinstance(state, lr_scheduler.LRScheduler):
        return _plain(state.state_dict())
    return state if isinstance(state, int | float | str | None) else None


@pytest.mark.parametrize("kind", [kind for kind in MAKES if kind != "one of a user"])
def test_a_scheduler_goes_on_from_its_state_at_every_cut(kind: str) -> None:
    table = table_of_torch(kind, 2)
    optimizer = optimizer_of(2)
    scheduler = LRScheduler(MAKES[kind](optimizer))
    for cut in range(STEPS):
        fresh = optimizer_of(2)
        resumed = LRScheduler(MAKES[kind](fresh))
        resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        assert resumed.next_values(STEPS - cut) == table[cut:]
        for expected in table[cut:]:
            fresh.step()
            resumed()
            assert rates(fresh) == expected
        optimizer.step()
        scheduler()


#: Those that pytorch-ignite gets right with this torch: it multiplies the first rate of others once too often.
THERE_TOO = ["StepLR", "MultiStepLR", "LambdaLR"]


@pytest.mark.parametrize("kind", THERE_TOO)
def test_a_state_of_pytorch_ignite_is_gone_on_from_at_every_cut(kind: str) -> None:
    theirs = pytest.importorskip("ignite.handlers")
    table = table_of_torch(kind, 2)
    optimizer = optimizer_of(2)
    scheduler = theirs.LRScheduler(MAKES[kind](optimizer))
    for cut in range(STEPS):
        fresh = optimizer_of(2)
        resumed = LRScheduler(MAKES[kind](fresh))
        resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for expected in table[cut:]:
            fresh.step()
            resumed()
            assert rates(fresh) == pytest.approx(expected, rel=1e-12)
        optimizer.step()
        scheduler(None)


@pytest.mark.parametrize("end", [None, 0.5])
def test_a_warm_up_of_pytorch_ignite_is_gone_on_from_at_every_cut(end: float | None) -> None:
    theirs = pytest.importorskip("ignite.handlers")

    def make(library: Any) -> tuple[Any, Any]:
        optimizer = optimizer_of()
        torch_scheduler = lr_scheduler.StepLR(optimizer, 3, 0.5)
        return library(torch_scheduler, 0.2, 4, end), optimizer

    table = make(create_lr_scheduler_with_warmup)[0].next_values(15)
    scheduler, optimizer = make(theirs.create_lr_scheduler_with_warmup)
    for cut in range(15):
        resumed, fresh = make(create_lr_scheduler_with_warmup)
        resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for expected in table[cut:]:
            resumed()
            assert rates(fresh) == [pytest.approx(expected)]
        scheduler(None)
        assert rates(optimizer) == [pytest.approx(table[cut])]


def test_two_of_them_compose_as_in_torch() -> None:
    optimizer = optimizer_of()
    first = LRScheduler(lr_scheduler.ExponentialLR(optimizer, 0.9))
    second = LRScheduler(lr_scheduler.StepLR(optimizer, 3, 0.5))
    seen = []
    for _ in range(8):
        first()
        second()
        seen.append(rates(optimizer)[0])
        optimizer.step()

    assert seen == pytest.approx([0.8 * 0.9**t * 0.5 ** (t // 3) for t in range(8)], rel=1e-12)


def test_legacy_makes_a_step_at_the_first_call_too() -> None:
    optimizer, seen = optimizer_of(), []
    scheduler = LRScheduler(lr_scheduler.StepLR(optimizer, 2, 0.5), use_legacy=True)

    def step(engine: Engine, batch: Any) -> None:
        seen.append(rates(optimizer)[0])
        optimizer.step()

    trainer = Engine(step)
    scheduler.attach(trainer, Events.ITERATION_COMPLETED)
    ahead = scheduler.next_values(4)
    trainer.run(range(5))

    assert seen == [0.8, 0.8, 0.4, 0.4, 0.2]
    assert ahead == seen[1:]


def test_a_first_step_that_the_optimizer_leaves_out_is_not_warned_of() -> None:
    """A gradient scaler leaves it out when the gradients overflow."""
    optimizer = optimizer_of()
    scheduler = LRScheduler(lr_scheduler.ExponentialLR(optimizer, 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            scheduler()

    assert rates(optimizer) == [0.2]


def test_a_tensor_as_rate_is_filled_in_place() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=torch.tensor(0.8))
    kept = optimizer.param_groups[0]["lr"]
    scheduler = LRScheduler(lr_scheduler.ExponentialLR(optimizer, 0.5))

    assert scheduler.next_values(3) == pytest.approx([0.8, 0.4, 0.2])
    for expected in (0.8, 0.4, 0.2):
        scheduler()
        assert optimizer.param_groups[0]["lr"] is kept
        assert kept.item() == pytest.approx(expected)


def test_the_history_holds_the_rate_of_each_group() -> None:
    optimizer = optimizer_of(2)
    trainer = Engine(lambda engine, batch: optimizer.step())
    LRScheduler(lr_scheduler.StepLR(optimizer, 1, 0.5), save_history=True).attach(trainer)
    trainer.run(range(3))

    assert trainer.state.param_history == {"lr": [[0.8, 0.4], [0.4, 0.2], [0.2, 0.1]]}


def test_a_scheduler_of_torch_begins_at_its_own_rate_after_another_one() -> None:
    """Also with what multiplies the rate that it finds."""
    optimizer = optimizer_of()
    first = PiecewiseLinear(optimizer, "lr", [(0, 0.1), (3, 0.4)])
    second = LRScheduler(lr_scheduler.ExponentialLR(optimizer, 0.5))
    third = PiecewiseLinear(optimizer, "lr", [(0, 0.01)])
    scheduler = ConcatScheduler([first, second, third], [3, 4])
    expected = [0.1, 0.2, 0.3, 0.8, 0.4, 0.2, 0.1, 0.01, 0.01]

    assert scheduler.next_values(9) == pytest.approx(expected)
    seen = []
    for _ in range(9):
        scheduler()
        seen.append(rates(optimizer)[0])
    assert seen == pytest.approx(expected)


@pytest.mark.parametrize("end", [None, 0.5, 0.8])
@pytest.mark.parametrize("duration", [2, 3, 6])
@pytest.mark.parametrize("kind", ["StepLR", "ExponentialLR", "CosineAnnealingLR", "SequentialLR", "OneCycleLR"])
def test_a_warm_up_leads_to_the_first_rate_of_torch_without_repeating_it(
    kind: str, duration: int, end: float | None
) -> None:
    table = [row[0] for row in table_of_torch(kind, 1)]
    optimizer = optimizer_of()
    torch_scheduler = MAKES[kind](optimizer)
    last = table[0] if end is None else end
    line = [0.1 + (last - 0.1) * index / (duration - 1) for index in range(duration)]
    expected = (line[:-1] + table if last == table[0] else line + table)[:STEPS]
    filled: list[Any] = [None] * STEPS

    scheduler = create_lr_scheduler_with_warmup(torch_scheduler, 0.1, duration, end, output_simulated_values=filled)

    assert [row[0] for row in filled] == list(range(STEPS))
    assert [row[1] for row in filled] == pytest.approx(expected)
    for value in expected:
        optimizer.step()
        scheduler()
        assert rates(optimizer) == [pytest.approx(value)]


@pytest.mark.parametrize("end", [None, 0.5, 0.8])
def test_a_warm_up_of_two_groups_leads_each_to_its_rate(end: float | None) -> None:
    """There, the second group takes the first one's place in the calculation, and the warm-up ends too early."""
    table = table_of_torch("ExponentialLR", 2)
    optimizer = optimizer_of(2)
    ends = [0.8, 0.4] if end is None else [end, end]
    line = [[0.2 + (last - 0.2) * index / 3 for last in ends] for index in range(4)]
    expected = (line[:-1] if end is None else line) + table

    scheduler = create_lr_scheduler_with_warmup(lr_scheduler.ExponentialLR(optimizer, 0.9), 0.2, 4, end)

    assert scheduler.next_values(12) == [pytest.approx(row) for row in expected[:12]]
    for row in expected[:12]:
        scheduler()
        assert rates(optimizer) == pytest.approx(row)


def test_a_warm_up_goes_on_from_its_state_at_every_cut() -> None:
    def make() -> tuple[Any, Any]:
        optimizer = optimizer_of(2)
        return create_lr_scheduler_with_warmup(lr_scheduler.ExponentialLR(optimizer, 0.9), 0.2, 4, 0.5), optimizer

    scheduler, optimizer = make()
    table = scheduler.next_values(12)
    for cut in range(12):
        resumed, fresh = make()
        resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for expected in table[cut:]:
            resumed()
            assert rates(fresh) == pytest.approx(expected)
        scheduler()


def test_warm_up_and_decay_may_sit_on_different_events() -> None:
    optimizer, seen = optimizer_of(), []
    scheduler = create_lr_scheduler_with_warmup(lr_scheduler.ExponentialLR(optimizer, 0.5), 0.0, 5)
    trainer = Engine(lambda engine, batch: seen.append(rates(optimizer)[0]))
    trainer.add_event_handler(Events.ITERATION_STARTED(before=6) | Events.EPOCH_STARTED(after=1), scheduler)
    trainer.run(range(8), max_epochs=3)

    assert seen == pytest.approx([0.0, 0.2, 0.4, 0.6] + [0.8] * 4 + [0.4] * 8 + [0.2] * 8)


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: LRScheduler("StepLR"), TypeError, "lr_scheduler must be a torch.*got 'StepLR'"),
    (
        lambda: LRScheduler(lr_scheduler.ReduceLROnPlateau(optimizer_of())),
        TypeError,
        "needs a metric; use ReduceLROnPlateauScheduler",
    ),
    (lambda: create_lr_scheduler_with_warmup(0.1, 0.0, 5), TypeError, "must be a ParamScheduler, or one of torch"),
    (lambda: _warm(warmup_duration=1), ValueError, "warmup_duration must be at least 2, got 1"),
    (lambda: _warm(warmup_duration=2.5), TypeError, "warmup_duration must be an integer, got 2.5"),
    (lambda: _warm(warmup_start_value=None), TypeError, "warmup_start_value must be a number, got None"),
    (lambda: _warm(warmup_end_value="1"), TypeError, "warmup_end_value must be a number, got '1'"),
    (lambda: _warm(output_simulated_values=5), TypeError, "output_simulated_values must be a list, got 5"),
]


def _warm(**kwargs: Any) -> Any:
    arguments = {"warmup_start_value": 0.0, "warmup_duration": 5, **kwargs}
    return create_lr_scheduler_with_warmup(lr_scheduler.StepLR(optimizer_of(), 2), **arguments)


@pytest.mark.parametrize(("make", "kind", "message"), WRONG, ids=itertools.count())
def test_what_is_wrong_is_told_at_once(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()

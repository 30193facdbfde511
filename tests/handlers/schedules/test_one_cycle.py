"""One cycle up and down, and rates that differ from group to group."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from ignite_core.engine import Engine
from ignite_core.handlers import OneCycle, spread
from tests.handlers.schedules.tables import optimizer_of

STEPS = 40


def adam_of(groups: int) -> torch.optim.Optimizer:
    return torch.optim.AdamW([{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(groups)])


def momentum_of(group: dict[str, Any]) -> float:
    momentum: float = group["betas"][0] if "betas" in group else group["momentum"]
    return momentum


KWARGS: list[dict[str, Any]] = [
    {},
    {"pct_start": 0.55, "div_factor": 4.0, "final_div_factor": 10.0},
    {"anneal_strategy": "linear"},
]


@pytest.mark.parametrize("kwargs", KWARGS, ids=str)
@pytest.mark.parametrize("make", [optimizer_of, adam_of], ids=["momentum", "betas"])
@pytest.mark.parametrize("peaks", [0.9, [0.9, 0.3]], ids=str)
def test_rate_and_momentum_are_those_of_torch_at_each_step(
    kwargs: dict[str, Any], make: Callable[[int], Any], peaks: Any
) -> None:
    own, other = make(2), make(2)
    scheduler = OneCycle(own, peaks, STEPS, **kwargs)
    expected = lr_scheduler.OneCycleLR(other, peaks, STEPS, **kwargs)
    for _ in range(STEPS - 1):
        scheduler()
        for group, same in zip(own.param_groups, other.param_groups, strict=True):
            assert group["lr"] == pytest.approx(same["lr"], rel=1e-9)
            assert momentum_of(group) == pytest.approx(momentum_of(same), rel=1e-9)
        other.step()
        expected.step()
    own.step()


def test_after_the_last_step_it_stays_where_it_is() -> None:
    """There, one step more is an error."""
    optimizer = optimizer_of()
    scheduler = OneCycle(optimizer, 1.0, 10, final_div_factor=4.0)

    assert scheduler.next_values(15)[9:] == [pytest.approx([0.01, 0.95])] * 6


@pytest.mark.parametrize("cut", [0, 1, 5, 9, 12])
def test_it_goes_on_from_its_state(cut: int) -> None:
    optimizer = adam_of(1)
    scheduler = OneCycle(optimizer, 1.0, 10)
    expected = scheduler.next_values(15)
    for _ in range(cut):
        scheduler()

    resumed = OneCycle(adam_of(1), 1.0, 10)
    resumed.load_state_dict(copy.deepcopy(scheduler.state_dict()))

    assert resumed.event_index == cut
    assert resumed.next_values(15 - cut) == expected[cut:]


def test_without_momentum_only_the_rate_is_written() -> None:
    optimizer, engine = optimizer_of(), Engine(lambda engine, batch: None)
    OneCycle(optimizer, 1.0, 10, momentum=None, save_history=True)(engine)

    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert engine.state.param_history == {"lr": [[pytest.approx(0.04)]]}


def test_the_history_names_rate_and_momentum() -> None:
    optimizer, engine = optimizer_of(), Engine(lambda engine, batch: None)
    OneCycle(optimizer, 1.0, 10, save_history=True)(engine)

    assert engine.state.param_history == {"lr": [[pytest.approx(0.04)]], "momentum": [[pytest.approx(0.95)]]}


@pytest.mark.parametrize("groups", [1, 2, 3, 7])
def test_spread_rates_are_in_geometric_progression_and_end_exactly(groups: int) -> None:
    rates = spread(1e-5, 3e-3, groups)

    assert len(rates) == groups
    assert rates[-1] == 3e-3
    if groups > 1:
        assert rates[0] == 1e-5
        ratios = [later / earlier for earlier, later in itertools.pairwise(rates)]
        assert ratios == pytest.approx([math.exp(math.log(300) / (groups - 1))] * (groups - 1))


def test_spread_peaks_give_each_group_its_own_cycle() -> None:
    optimizer = optimizer_of(3)
    OneCycle(optimizer, spread(0.01, 1.0, 3), 10, momentum=None, div_factor=10)()

    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.001, 0.01, 0.1])


def test_simulated_values_need_no_optimizer() -> None:
    optimizer = adam_of(2)
    rows = OneCycle.simulate_values(12, max_lr=[0.5, 1.0], total_steps=10)

    assert rows == [
        [number, *values[0], values[1]]
        for number, values in enumerate(OneCycle(optimizer, [0.5, 1.0], 10).next_values(12))
    ]


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: OneCycle("optimizer", 1.0, 10), TypeError, "must be a torch.optim.Optimizer, or have a list param_groups"),
    (lambda: OneCycle(optimizer_of(), "1", 10), TypeError, "max_lr must be a number, got '1'"),
    (lambda: OneCycle(optimizer_of(2), [0.1], 10), ValueError, "one curve for each of the 2 parameter groups, got 1"),
    (lambda: OneCycle(optimizer_of(), 1.0, 1), ValueError, "steps must be at least 2, got 1"),
    (lambda: OneCycle(optimizer_of(), 1.0, 10, 0.9), TypeError, r"momentum must be a pair .*got 0.9"),
    (lambda: OneCycle(optimizer_of(), 1.0, 10, (0.9, 0.8)), ValueError, "the largest momentum must be at least 0.9"),
    (lambda: OneCycle(optimizer_of(), 1.0, 10, pct_start=0), ValueError, "up must be above 0, got 0"),
    (lambda: OneCycle(optimizer_of(), 1.0, 10, anneal_strategy="cosine"), ValueError, "must be 'cos' or 'linear'"),
    (
        lambda: OneCycle(torch.optim.Adagrad([torch.zeros(1)]), 1.0, 10),
        ValueError,
        "neither momentum nor betas; pass momentum=None",
    ),
    (lambda: spread(0.0, 1.0, 3), ValueError, "spread: low must be above 0, got 0.0"),
    (lambda: spread(0.1, 1.0, 0), ValueError, "spread: groups must be at least 1, got 0"),
]


@pytest.mark.parametrize(("make", "kind", "message"), WRONG, ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_wrong_is_told_at_once(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()

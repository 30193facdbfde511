"""Curves are pure functions of the step: their formulas, and the schedulers of torch step by step."""

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from ignite_core.handlers.schedules.curves import (
    chain,
    constant,
    cosine,
    cyclic,
    exponential,
    inverse_sqrt,
    linear,
    multi_step,
    one_cycle,
    piecewise_linear,
    polynomial,
    repeat,
    step,
    triangular,
    warmup,
)

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")

#: One of each kind, with its formula written out once more.
FORMULAS: list[tuple[Callable[[int], float], Callable[[int], float]]] = [
    (constant(0.3), lambda t: 0.3),
    (linear(0.1, 0.5, 7), lambda t: 0.1 + 0.4 * min(t / 7, 1)),
    (cosine(0.1, 0.5, 7), lambda t: 0.5 - 0.4 * (1 + math.cos(math.pi * min(t / 7, 1))) / 2),
    (polynomial(0.9, 0.1, 7, 3), lambda t: 0.1 + 0.8 * (1 - min(t / 7, 1)) ** 3),
    (exponential(0.7, 0.9), lambda t: 0.7 * 0.9**t),
    (step(0.7, 0.9, 4), lambda t: 0.7 * 0.9 ** (t // 4)),
    (multi_step(0.7, 0.9, (3, 5, 5)), lambda t: 0.7 * 0.9 ** ((t >= 3) + 2 * (t >= 5))),
    (piecewise_linear([(2, 1.0), (4, 0.0)]), lambda t: 1.0 - min(max(t - 2, 0), 2) / 2),
    (inverse_sqrt(0.7, 4), lambda t: 0.7 / math.sqrt(1 + t / 4)),
    (warmup(constant(0.8), 4, 0.25, 0.75), lambda t: 0.8 if t >= 4 else 0.8 * (0.25 + 0.5 * t / 4)),
    (chain(constant(1.0), (3, linear(0.5, 0.0, 2))), lambda t: 1.0 if t < 3 else 0.5 - min(t - 3, 2) / 4),
    (repeat(linear(1.0, 0.0, 5), 5), lambda t: 1 - (t % 5) / 5),
    (triangular(0.2, 1.0, 2, 4), lambda t: 0.2 + 0.8 * min(t % 6 / 2, (6 - t % 6) / 4)),
    (cyclic(0.2, 1.0, 5), lambda t: 0.2 + 0.8 * (t % 5) / 5),
    (cyclic(0.2, 1.0, 5, "triangle"), lambda t: 0.2 + 0.8 * (1 - abs(t % 5 / 5 - 0.5) * 2)),
    (cyclic(0.2, 1.0, 5, "cosine"), lambda t: 0.2 + 0.4 * (1 - math.cos(math.pi * (t % 5) / 5))),
    (cyclic(1.0, 0.0, 4, warmup=2), lambda t: 1 - t % 6 / 4 if t % 6 < 4 else (t % 6 - 4) / 2),
    (
        one_cycle(1.0, 10, 0.3, 4, 8, "linear"),
        lambda t: 0.25 + 0.75 * t / 2 if t <= 2 else max(1 - (1 - 1 / 32) * (t - 2) / 7, 1 / 32),
    ),
]


@pytest.mark.parametrize(("curve", "formula"), FORMULAS, ids=[str(curve) for curve, _ in FORMULAS])
def test_a_curve_is_its_formula_at_each_step(curve: Callable[[int], float], formula: Callable[[int], float]) -> None:
    assert [curve(t) for t in range(40)] == pytest.approx([formula(t) for t in range(40)], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("curve", [curve for curve, _ in FORMULAS], ids=lambda one: str(one)[:30])
def test_a_curve_gives_the_same_in_any_order_of_steps_and_through_pickle_and_copy(curve: Any) -> None:
    forwards = [curve(t) for t in range(40)]

    assert [curve(t) for t in reversed(range(40))] == forwards[::-1]
    for other in (pickle.loads(pickle.dumps(curve)), copy.deepcopy(curve)):
        assert other == curve
        assert repr(other) == repr(curve)
        assert [other(t) for t in range(40)] == forwards


@pytest.mark.parametrize("curve", [curve for curve, _ in FORMULAS], ids=lambda one: str(one)[:30])
def test_a_curve_is_small_and_cannot_be_changed(curve: Any) -> None:
    assert len(pickle.dumps(curve)) < 600
    with pytest.raises(AttributeError):
        setattr(curve, dataclasses.fields(curve)[0].name, 5.0)


def rates_of_torch(make: Callable[[Any], Any], steps: int, lr: float = 0.8, **kwargs: Any) -> list[Any]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr, **kwargs)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return rates


#: What makes a scheduler of torch for the rate 0.8, and the curve of the same values.
OF_TORCH: list[tuple[Callable[[Any], Any], Callable[[int], float]]] = [
    (lambda opt: lr_scheduler.StepLR(opt, 4, 0.5), step(0.8, 0.5, 4)),
    (lambda opt: lr_scheduler.MultiStepLR(opt, [3, 7, 7], 0.5), multi_step(0.8, 0.5, [3, 7, 7])),
    (lambda opt: lr_scheduler.ExponentialLR(opt, 0.9), exponential(0.8, 0.9)),
    (lambda opt: lr_scheduler.LinearLR(opt, 0.25, 0.75, 6), linear(0.2, 0.6, 6)),
    (lambda opt: lr_scheduler.ConstantLR(opt, 0.5, 6), chain(constant(0.4), (6, constant(0.8)))),
    (lambda opt: lr_scheduler.PolynomialLR(opt, 9, 2.0), polynomial(0.8, 0.0, 9, 2.0)),
    (lambda opt: lr_scheduler.CosineAnnealingLR(opt, 29, 0.1), cosine(0.8, 0.1, 29)),
    (lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 4, 1, 0.1), repeat(cosine(0.8, 0.1, 4), 4)),
    (lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 4, 2, 0.1), repeat(cosine(0.8, 0.1, 4), 4, growth=2)),
    (lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 2, 3, 0.1), repeat(cosine(0.8, 0.1, 2), 2, growth=3)),
    (lambda opt: lr_scheduler.CyclicLR(opt, 0.1, 0.8, 3, 5, cycle_momentum=False), triangular(0.1, 0.8, 3, 5)),
    (
        lambda opt: lr_scheduler.CyclicLR(opt, 0.1, 0.8, 3, mode="triangular2", cycle_momentum=False),
        triangular(0.1, 0.8, 3, shrink=0.5),
    ),
    (lambda opt: lr_scheduler.OneCycleLR(opt, 0.8, 31, cycle_momentum=False), one_cycle(0.8, 31)),
    (
        lambda opt: lr_scheduler.OneCycleLR(opt, 0.8, 31, None, None, 0.55, "linear", False, div_factor=4),
        one_cycle(0.8, 31, 0.55, 4, shape="linear"),
    ),
    (
        lambda opt: lr_scheduler.SequentialLR(
            opt, [lr_scheduler.LinearLR(opt, 0.1, 1.0, 5), lr_scheduler.ExponentialLR(opt, 0.9)], [5]
        ),
        warmup(exponential(0.8, 0.9), 5, start=0.1),
    ),
    (lambda opt: lr_scheduler.LambdaLR(opt, inverse_sqrt(1.0, 5)), inverse_sqrt(0.8, 5)),
]


@pytest.mark.parametrize(("make", "curve"), OF_TORCH, ids=[str(curve) for _, curve in OF_TORCH])
def test_a_curve_has_the_rates_of_torch_at_each_step(make: Callable[[Any], Any], curve: Callable[[int], float]) -> None:
    rates = rates_of_torch(make, 30)

    assert [curve(t) for t in range(30)] == pytest.approx(rates, rel=1e-9, abs=1e-12)


def test_warm_up_and_inverse_square_root_are_the_schedule_of_the_transformer() -> None:
    """Vaswani et al., 2017, equation 3: the rate is d^-0.5 min(t^-0.5, t w^-1.5) at step t."""
    width, steps = 512, 40
    peak = width**-0.5 * steps**-0.5
    curve = warmup(inverse_sqrt(peak, steps), steps)

    for t in range(1, 200):
        assert curve(t) == pytest.approx(width**-0.5 * min(t**-0.5, t * steps**-1.5), rel=1e-12)


def test_where_two_points_share_a_step_the_value_jumps() -> None:
    curve = piecewise_linear([(2, 1.0), (2, 0.5), (4, 0.0)])

    assert [curve(t) for t in range(6)] == [1.0, 1.0, 0.5, 0.25, 0.0, 0.0]


def test_cycles_grow_by_whole_steps_and_never_vanish() -> None:
    growing, shrinking = cyclic(0.0, 1.0, 100, steps_mult=1.15), cyclic(0.0, 1.0, 8, steps_mult=0.5)

    assert [growing.cycle_at(t).number for t in (99, 100, 214, 215)] == [0, 1, 1, 2]  # 100 * 1.15 is 114.99999999999999
    assert [shrinking.cycle_at(t).size for t in (0, 8, 12, 14, 15, 16)] == [8, 4, 2, 1, 1, 1]


def test_a_cycle_far_away_is_found_at_once() -> None:
    curve = cyclic(0.0, 1.0, 10)

    assert curve(10**12 + 5) == 0.5
    assert curve.cycle_at(10**12 + 5).number == 10**11


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    ends=st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
def test_a_chain_is_its_curves_laid_end_to_end(lengths: list[int], ends: list[float]) -> None:
    curves = [linear(1.0, end, length) for end, length in zip(ends, lengths, strict=False)]
    begins = [sum(lengths[:index]) for index in range(len(lengths))]
    expected = [curve(t) for curve, length in zip(curves, lengths, strict=True) for t in range(length)]

    chained = chain(curves[0], *zip(begins[1:], curves[1:], strict=True))

    assert [chained(t) for t in range(sum(lengths))] == expected


#: What is wrong, and what is said of it.
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: constant("0.1"), TypeError, "constant: value must be a number, got '0.1'"),
    (lambda: linear(0.1, True, 5), TypeError, "linear: end must be a number, got True"),
    (lambda: linear(0.1, 0.2, 0), ValueError, "linear: steps must be at least 1, got 0"),
    (lambda: cosine(0.1, 0.2, 1.5), TypeError, "cosine: steps must be an integer, got 1.5"),
    (lambda: polynomial(0.1, 0.2, 3, 0), ValueError, "polynomial: power must be above 0, got 0"),
    (lambda: exponential(0.1, math.nan), ValueError, "exponential: gamma must be above 0, got nan"),
    (lambda: step(0.1, 0.5, -1), ValueError, "step: steps must be at least 1, got -1"),
    (lambda: multi_step(0.1, 0.5, [3, 2]), ValueError, r"multi_step: milestones must increase, got \[3, 2\]"),
    (lambda: piecewise_linear([]), ValueError, "there must be at least one point"),
    (lambda: piecewise_linear([(0, 1.0), [1, 2.0]]), ValueError, r"a point must be a pair .*got \[1, 2.0\]"),
    (lambda: piecewise_linear([(0.5, 1.0)]), TypeError, "the step of a point must be an integer, got 0.5"),
    (lambda: piecewise_linear([(3, 1.0), (2, 1.0)]), ValueError, r"the steps must increase, got \[3, 2\]"),
    (lambda: piecewise_linear({0: 1.0}), TypeError, "points must be a sequence of pairs"),
    (lambda: inverse_sqrt(0.1, 0), ValueError, "inverse_sqrt: steps must be at least 1, got 0"),
    (lambda: one_cycle(0.1, 1), ValueError, "one_cycle: steps must be at least 2, got 1"),
    (lambda: one_cycle(0.1, 10, 1.0), ValueError, "one_cycle: up must be below 1, got 1.0"),
    (lambda: one_cycle(0.1, 10, shape="cos"), ValueError, "shape must be one of .*got 'cos'"),
    (lambda: cyclic(0.1, 0.2, 5, "wave"), ValueError, "shape must be one of .*got 'wave'"),
    (lambda: cyclic(0.1, 0.2, 5, steps_mult=0), ValueError, "steps_mult must be above 0, got 0"),
    (lambda: cyclic(0.1, 0.2, 5, warmup=-1), ValueError, "warmup must be at least 0, got -1"),
    (lambda: triangular(0.1, 0.2, 0), ValueError, "triangular: up must be at least 1, got 0"),
    (lambda: warmup(0.1, 5), TypeError, r"a curve must be callable, .*got 0.1; constant\(0.1\) is one"),
    (lambda: repeat(constant(0.1), 5, 1.5), TypeError, "growth must be an integer, got 1.5"),
    (lambda: chain(constant(0.1), constant(0.2)), TypeError, "come pairs"),
    (lambda: chain(constant(0.1), (5, constant(0.2)), (5, constant(0.3))), ValueError, "at least 6, got 5"),
]


@pytest.mark.parametrize(("make", "kind", "message"), WRONG, ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_wrong_is_told_at_once(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()

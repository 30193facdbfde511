"""Metrics of predicted numbers: what is not defined, what is refused, and how exact they are."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import CosineSimilarity, Metric
from ignite_core.metrics.regression import (
    CanberraMetric,
    FractionalAbsoluteError,
    FractionalBias,
    GeometricMeanAbsoluteError,
    GeometricMeanRelativeAbsoluteError,
    KendallRankCorrelation,
    ManhattanDistance,
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanAbsoluteRelativeError,
    MeanError,
    MeanNormalizedBias,
    MeanPairwiseDistance,
    MeanSquaredError,
    MedianAbsoluteError,
    MedianAbsolutePercentageError,
    MedianRelativeAbsoluteError,
    PearsonCorrelation,
    R2Score,
    RootMeanSquaredError,
    SpearmanRankCorrelation,
    WaveHedgesDistance,
    plot_regression,
)
from ignite_core.metrics.regression.moments import MANY
from ignite_core.metrics.regression.rank_correlation import dense_ranks, num_inversions
from tests.faults.sizes import sized

OF_FLOATS: list[type[Metric]] = [
    CanberraMetric,
    FractionalAbsoluteError,
    FractionalBias,
    GeometricMeanAbsoluteError,
    GeometricMeanRelativeAbsoluteError,
    KendallRankCorrelation,
    ManhattanDistance,
    MaximumAbsoluteError,
    MeanAbsoluteRelativeError,
    MeanError,
    MeanNormalizedBias,
    PearsonCorrelation,
    R2Score,
    SpearmanRankCorrelation,
    WaveHedgesDistance,
]
OF_MEDIANS: list[type[Metric]] = [MedianAbsoluteError, MedianAbsolutePercentageError, MedianRelativeAbsoluteError]
OF_NUMBERS: list[type[Metric]] = [MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError]


def value(metric: Metric, y_pred: Any, y: Any) -> Any:
    metric.update((torch.as_tensor(y_pred), torch.as_tensor(y)))
    return metric.compute()


# --------------------------------------------------------------------------------------------------------- what is fed


@pytest.mark.parametrize("kind", OF_FLOATS)
@pytest.mark.parametrize(("shape", "shape_y"), [((4,), (5,)), ((4, 1), (4,)), ((4, 2), (4, 2)), ((), ())])
def test_shapes_other_than_one_number_a_sample_are_refused(
    kind: type[Metric], shape: tuple[int, ...], shape_y: tuple[int, ...]
) -> None:
    message = f"{kind.__name__}.update: y_pred and y must both have the shape (N,) or both (N, 1), "
    with pytest.raises(ValueError, match=re.escape(f"{message}got {shape} and {shape_y}")):
        kind().update((torch.rand(shape), torch.rand(shape_y)))


@pytest.mark.parametrize("kind", OF_FLOATS)
def test_whole_numbers_are_refused_where_floats_are_needed(kind: type[Metric]) -> None:
    whole = torch.tensor([1, 2])

    with pytest.raises(TypeError, match=rf"^{kind.__name__}.update: y_pred must be of floats, got torch.int64$"):
        kind().update((whole, whole.float()))
    with pytest.raises(TypeError, match=rf"^{kind.__name__}.update: y must be of floats, got torch.int64$"):
        kind().update((whole.float(), whole))


@pytest.mark.parametrize("kind", OF_NUMBERS + OF_MEDIANS)
@pytest.mark.parametrize(("shape", "shape_y"), [((2, 3), (3, 2)), ((4, 2), (4,)), ((4,), (1, 4)), ((), ())])
def test_shapes_that_disagree_are_refused(kind: type[Metric], shape: tuple[int, ...], shape_y: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^{kind.__name__}.update: .* got {re.escape(f'{shape} and {shape_y}')}$"):
        kind().update((torch.rand(shape), torch.rand(shape_y)))


@pytest.mark.parametrize("kind", OF_MEDIANS)
def test_medians_refuse_more_than_two_dimensions(kind: type[Metric]) -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(N,\) or \(N, D\), got \(4, 2, 2\) and \(4, 2, 2\)"):
        kind().update((torch.rand(4, 2, 2), torch.rand(4, 2, 2)))


def test_a_distance_needs_vectors_of_one_shape() -> None:
    with pytest.raises(ValueError, match=r"MeanPairwiseDistance.update: .* \(N, \*, D\), got \(4,\) and \(4,\)"):
        MeanPairwiseDistance().update((torch.rand(4), torch.rand(4)))
    with pytest.raises(ValueError, match=r"got \(4, 1, 2\) and \(4, 2\)"):
        MeanPairwiseDistance().update((torch.rand(4, 1, 2), torch.rand(4, 2)))


@pytest.mark.parametrize("kind", OF_NUMBERS)
def test_complex_numbers_are_refused(kind: type[Metric]) -> None:
    with pytest.raises(TypeError, match=r"y_pred must be of real numbers, got torch.complex64"):
        kind().update((torch.zeros(2, dtype=torch.complex64), torch.zeros(2)))


@pytest.mark.parametrize("kind", [*OF_FLOATS, *OF_NUMBERS, *OF_MEDIANS])
def test_a_batch_without_samples_changes_nothing(kind: type[Metric]) -> None:
    data, nothing = (torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 5.0, 4.5])), (torch.zeros(0), torch.zeros(0))
    expected = value(kind(), *data)
    metric = kind()
    for batch in (nothing, data, nothing):
        metric.update(batch)

    assert metric.compute() == expected

    metric.reset()
    metric.update(nothing)
    with pytest.raises(
        NotComputableError, match=rf"^{kind.__name__}.compute: no sample was seen; call update\(\) first$"
    ):
        metric.compute()


@pytest.mark.parametrize("kind", [*OF_FLOATS, *OF_NUMBERS, *OF_MEDIANS])
def test_nan_is_not_hidden(kind: type[Metric]) -> None:
    metric = kind()
    metric.update((torch.tensor([1.0, torch.nan, 3.0]), torch.tensor([2.0, 4.0, 3.5])))
    metric.update((torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])))

    assert math.isnan(metric.compute())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [*OF_FLOATS, *OF_NUMBERS, *OF_MEDIANS])
def test_what_is_kept_belongs_to_the_metric(kind: type[Metric]) -> None:
    y_pred, y = torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([2.0, 5.0, 4.5]).double()
    metric = kind()
    metric.update((y_pred.clone().requires_grad_(), y))
    expected = metric.compute()
    y.zero_()

    assert metric.compute() == expected
    assert isinstance(expected, float)


# ------------------------------------------------------------------------------------------------ what divides by zero


@pytest.mark.parametrize("kind", [MeanAbsoluteRelativeError, MeanNormalizedBias])
def test_zeros_among_the_ground_truth_are_counted_and_told_by_compute(kind: type[Metric]) -> None:
    metric = kind()
    metric.update((torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])))
    metric.update((torch.tensor([0.0]), torch.tensor([-0.0])))
    message = rf"^{kind.__name__}.compute: the ground truth must not be 0, .* got 2 zeros among 3 samples$"
    with pytest.raises(NotComputableError, match=message):
        metric.compute()


@pytest.mark.parametrize("kind", [CanberraMetric, FractionalAbsoluteError, FractionalBias, WaveHedgesDistance])
def test_a_sample_that_is_predicted_as_zero_and_is_zero_has_no_error(kind: type[Metric]) -> None:
    assert value(kind(), [0.0, 0.0], [0.0, -0.0]) == 0.0


def test_the_smallest_numbers_have_errors_too() -> None:
    tiny = torch.tensor([1e-300], dtype=torch.float64)

    assert value(CanberraMetric(), tiny, 3 * tiny) == pytest.approx(0.5)
    assert value(FractionalBias(), tiny, 3 * tiny) == pytest.approx(1.0)
    assert value(WaveHedgesDistance(), tiny, 4 * tiny) == pytest.approx(0.75)


def test_what_is_divided_by_zero_is_infinite() -> None:
    assert value(FractionalBias(), [-1.0], [1.0]) == math.inf
    assert value(WaveHedgesDistance(), [-1.0], [0.0]) == math.inf


def test_geometric_means_are_zero_with_one_exact_prediction() -> None:
    assert value(GeometricMeanAbsoluteError(), [1.0, 2.0], [1.0, 9.0]) == 0.0
    assert value(GeometricMeanRelativeAbsoluteError(), [1.0, 2.0], [1.0, 9.0]) == 0.0


def test_a_median_stands_a_few_infinite_errors_but_not_undefined_ones() -> None:
    assert value(MedianAbsolutePercentageError(), [1.0, 3.0, 3.0], [0.0, 2.0, 4.0]) == 50.0
    assert math.isnan(value(MedianAbsolutePercentageError(), [0.0, 3.0, 3.0], [0.0, 2.0, 4.0]))
    assert value(MedianRelativeAbsoluteError(), [1.0, 3.0, 1.0], [1.0, 2.0, 3.0]) == 2.0
    assert math.isnan(value(MedianRelativeAbsoluteError(), [1.0, 2.0, 1.0], [1.0, 2.0, 3.0]))


# ---------------------------------------------------------------------------------------------------- means and medians


@pytest.mark.parametrize(("kind", "expected"), [(MeanAbsoluteError, 5.0), (MeanSquaredError, 13.0)])
def test_a_sample_of_several_numbers_has_the_sum_of_their_errors(kind: type[Metric], expected: float) -> None:
    y = torch.zeros(2, 1, 2)

    assert value(kind(), y + torch.tensor([2.0, 3.0]), y) == expected
    assert value(kind() / 2, y + torch.tensor([2.0, 3.0]), y) == expected / 2  # type: ignore[operator]


@pytest.mark.parametrize("kind", OF_NUMBERS)
def test_a_column_and_a_row_are_compared_sample_by_sample(kind: type[Metric]) -> None:
    assert value(kind(), [[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0]) == 0.0
    assert value(kind(), torch.ones(2, 1, 3), torch.ones(2, 3)) == 0.0


def test_bytes_do_not_wrap_around_and_halves_do_not_overflow() -> None:
    byte = torch.tensor([255, 0], dtype=torch.uint8)
    half = torch.tensor([60000.0, -60000.0], dtype=torch.float16)

    assert value(MeanAbsoluteError(), byte, byte.flip(0)) == 255.0
    assert value(MeanSquaredError(), half, half.flip(0)) == value(MeanSquaredError(), half.double(), -half.double())
    assert value(MaximumAbsoluteError(), half, half.flip(0)) == 2 * half[0].item()


def test_each_pair_of_a_sequence_counts_in_a_mean_distance() -> None:
    y = torch.zeros(2, 5, 2)

    assert value(MeanPairwiseDistance(eps=0.0), y + torch.tensor([3.0, 4.0]), y) == 5.0
    assert value(MeanPairwiseDistance(p=torch.inf, eps=0.0), y + torch.tensor([3.0, 4.0]), y) == 4.0


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle() -> None:
    assert value(MedianAbsoluteError(), [1.0, 2.0, 4.0, 100.0], [0.0, 0.0, 0.0, 0.0]) == 3.0


def test_a_million_small_errors_do_not_drift() -> None:
    """The last ones are added one by one where the sum is largest, and so its rounding coarsest."""
    y_pred, y = torch.zeros(1, dtype=torch.float64), torch.full((1,), 0.01, dtype=torch.float64)
    metric = MeanError()
    for _ in range(9):
        metric.update((y_pred.expand(100_000), y.expand(100_000)))
    single = sized(10_000, 100_000)
    for _ in range(single):
        metric.update((y_pred, y))

    assert metric.num_samples == 900_000 + single
    assert abs(metric.compute() - 0.01) < 1e-11


# -------------------------------------------------------------------------------------------- R2 and linear correlation


def far_apart(kind: type[Metric], size: int, offset: float) -> tuple[float, float]:
    """The value of data far from zero in batches of a size, and of the same data moved to zero, at once."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1000, generator=generator).double().mul(2**20).round() / 2**20  # stays exact when moved
    y_pred = y + torch.randn(1000, generator=generator).double().mul(2**20).round() / 2**20
    metric = kind()
    for begin in range(0, 1000, size):
        metric.update((y_pred[begin : begin + size] + offset, y[begin : begin + size] + offset))
    return metric.compute(), value(kind(), y_pred, y)  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [PearsonCorrelation, R2Score])
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("offset", [1e6, -(2.0**32)])
def test_an_offset_changes_nothing(kind: type[Metric], size: int, offset: float) -> None:
    moved, expected = far_apart(kind, size, offset)

    assert moved == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", [PearsonCorrelation, R2Score])
def test_pieces_with_different_means_are_joined_exactly(kind: type[Metric]) -> None:
    y = torch.cat([torch.linspace(0, 1, 500) + 1e6, torch.linspace(0, 1, 10)]).double()
    y_pred = y + torch.linspace(-1, 1, 510).double().sin()
    first, second = kind(), kind()
    first.update((y_pred[:500], y[:500]))
    second.update((y_pred[500:], y[500:]))

    assert first.merged(second).compute() == pytest.approx(value(kind(), y_pred, y), rel=1e-12)


def test_what_is_kept_for_a_correlation_does_not_grow() -> None:
    metric = PearsonCorrelation()
    for step in range(10 * MANY):
        metric.update((torch.tensor([float(step)]), torch.tensor([2.0 * step])))

    assert len(metric.moments) <= MANY
    assert metric.compute() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.1])
def test_r2_of_constant_ground_truth_is_one_if_all_is_right_and_else_zero(constant: float) -> None:
    y = torch.full((7,), constant, dtype=torch.float64)
    right, wrong = R2Score(), R2Score()
    for part, of_pred in zip(y.split(3), torch.linspace(0, 1, 7).split(3), strict=True):
        right.update((part, part))
        wrong.update((part + of_pred, part))

    assert (right.compute(), wrong.compute()) == (1.0, 0.0)


def test_the_correlation_with_something_constant_is_zero() -> None:
    constant, y = torch.full((7,), 1e6 + 0.1, dtype=torch.float64), torch.linspace(0, 1, 7).double()

    assert value(PearsonCorrelation(), constant, y) == 0.0
    assert value(PearsonCorrelation(), [1.0], [2.0]) == 0.0


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-12, 1e-30, 1e30])
@pytest.mark.parametrize(
    "kind", [PearsonCorrelation, R2Score, SpearmanRankCorrelation, KendallRankCorrelation, CosineSimilarity]
)
def test_what_has_no_unit_does_not_depend_on_the_scale(kind: Callable[[], Metric], scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(100, 1, generator=generator, dtype=torch.float64)
    y_pred = y + 0.1 * torch.randn(100, 1, generator=generator, dtype=torch.float64)

    assert value(kind(), y_pred * scale, y * scale) == pytest.approx(value(kind(), y_pred, y), rel=1e-9)


def test_r2_of_constant_ground_truth_does_not_hide_nan() -> None:
    assert math.isnan(value(R2Score(), [1.0, math.nan], [1.0, 1.0]))


def test_eps_is_the_smallest_denominator_of_a_correlation() -> None:
    """The deviations are both 1, so the covariance is 1 too."""
    y = torch.tensor([-1.0, 1.0])

    assert value(PearsonCorrelation(eps=4.0), y, y) == 0.25
    assert value(PearsonCorrelation(eps=1e-20), 1e-6 * y, y) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"PearsonCorrelation: eps must be at least 0, got -1"):
        PearsonCorrelation(eps=-1)


# --------------------------------------------------------------------------------------------------------------- ranks


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.integers(-5, 5) | st.integers(-1000, 1000), min_size=1, max_size=70))
def test_inversions_are_the_pairs_in_the_wrong_order(values: list[int]) -> None:
    assert num_inversions(*dense_ranks(torch.tensor(values))) == sum(a > b for a, b in combinations(values, 2))


@pytest.mark.parametrize("metric", [KendallRankCorrelation(), KendallRankCorrelation("c"), SpearmanRankCorrelation()])
def test_rank_correlations_of_something_constant_are_not_defined(metric: Metric) -> None:
    for y_pred, y in (([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [3.0, 3.0])):
        metric.reset()

        assert math.isnan(value(metric, y_pred, y))


@pytest.mark.parametrize("metric", [KendallRankCorrelation(), KendallRankCorrelation("c"), SpearmanRankCorrelation()])
def test_rank_correlations_of_the_same_and_of_the_opposite_order_are_one_and_minus_one(metric: Metric) -> None:
    y = torch.tensor([0.3, -torch.inf, 7.0, 2.0, 1e30])

    assert value(metric, y, y.atan()) == pytest.approx(1.0, abs=1e-15)
    metric.reset()
    assert value(metric, y, -y) == pytest.approx(-1.0, abs=1e-15)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^KendallRankCorrelation: variant must be 'b' or 'c', got 'a'$"):
        KendallRankCorrelation("a")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- picture


def test_a_picture_shows_all_samples_and_their_score() -> None:
    figure = pytest.importorskip("matplotlib.figure")
    ax = figure.Figure().subplots()
    y_pred, y = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]])

    assert plot_regression(y_pred, y, ax) is ax
    assert ax.collections[0].get_offsets().tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 4.0]]
    assert ax.get_title() == "R² = 0.5"


def test_a_picture_of_many_samples_shows_some_evenly_spaced() -> None:
    figure = pytest.importorskip("matplotlib.figure")
    ax = figure.Figure().subplots()
    y = torch.arange(10.0)
    plot_regression(y, y, ax, max_points=4)

    assert [x for x, _ in ax.collections[0].get_offsets().tolist()] == [0.0, 2.0, 5.0, 7.0]


def test_a_picture_refuses_what_a_metric_would() -> None:
    with pytest.raises(ValueError, match=r"^plot_regression: y_pred and y must .* got \(2,\) and \(3,\)$"):
        plot_regression(torch.rand(2), torch.rand(3))
    with pytest.raises(TypeError, match=r"^plot_regression: y must be of floats, got torch.int64$"):
        plot_regression(torch.rand(2), torch.arange(2))
    with pytest.raises(ValueError, match=r"^plot_regression: there must be at least one sample"):
        plot_regression(torch.rand(0), torch.rand(0))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"plot_regression needs .*pip install 'ignite-core\[plot\]'"):
        plot_regression(torch.rand(2), torch.rand(2))

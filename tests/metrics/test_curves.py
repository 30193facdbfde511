"""Ranking and agreement: undefined cases, fixed memory, plots, and what is refused."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import (
    ROC_AUC,
    AveragePrecision,
    CohenKappa,
    MatthewsCorrCoef,
    Metric,
    PrecisionRecallCurve,
    RocCurve,
)
from tests.metrics.table import same

RANKING: list[Any] = [ROC_AUC, RocCurve, AveragePrecision, PrecisionRecallCurve]
AREAS: list[Any] = [ROC_AUC, AveragePrecision]
AGREEMENT: list[Any] = [CohenKappa, MatthewsCorrCoef]
SCORES, LABELS = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])


def value_of(metric: Metric, *batches: tuple[torch.Tensor, torch.Tensor]) -> Any:
    for batch in batches:
        metric.update(batch)
    return metric.compute()


def state_sizes(metric: Metric) -> list[int]:
    return [state.numel() for state in metric.state_dict().values() if isinstance(state, torch.Tensor)]


# ---------------------------------------------------------------------------------------------------- only one class


@pytest.mark.parametrize("bins", [None, 10])
@pytest.mark.parametrize("label", [0, 1])
def test_the_area_under_the_roc_curve_of_one_class_is_nan(label: int, bins: int | None) -> None:
    assert math.isnan(value_of(ROC_AUC(bins=bins), (SCORES, torch.full((4,), label))))


@pytest.mark.parametrize("bins", [None, 10])
def test_one_label_of_one_class_makes_the_mean_area_nan(bins: int | None) -> None:
    y = torch.stack([LABELS, torch.ones(4)], dim=1)

    assert math.isnan(value_of(ROC_AUC(bins=bins), (SCORES.unsqueeze(1).expand(4, 2), y)))


def test_the_roc_curve_of_one_class_has_no_rate_of_the_other() -> None:
    fpr, tpr, _ = value_of(RocCurve(), (SCORES, torch.ones(4)))
    assert fpr.isnan().all()
    assert tpr[-1] == 1

    fpr, tpr, _ = value_of(RocCurve(), (SCORES, torch.zeros(4)))
    assert fpr[-1] == 1
    assert tpr.isnan().all()


@pytest.mark.parametrize("bins", [None, 10])
def test_average_precision_without_positives_is_zero_and_warns(bins: int | None) -> None:
    metric = AveragePrecision(bins=bins)
    metric.update((SCORES, torch.zeros(4)))
    with pytest.warns(UserWarning, match="AveragePrecision.compute: there are no positives, which counts as 0") as seen:
        value = metric.compute()

    assert value == 0.0
    assert seen[0].filename == __file__

    y = torch.stack([torch.zeros(4), LABELS], dim=1)
    metric = AveragePrecision(bins=bins)
    metric.update((SCORES.unsqueeze(1).expand(4, 2), y))
    with pytest.warns(UserWarning, match="1 of 2 labels have no positives"):
        assert metric.compute() == pytest.approx((0 + 5 / 6) / 2)


def test_average_precision_of_positives_alone_is_one() -> None:
    assert value_of(AveragePrecision(), (SCORES, torch.ones(4))) == 1.0


def test_recall_without_positives_is_one_and_warns() -> None:
    metric = PrecisionRecallCurve()
    metric.update((SCORES, torch.zeros(4)))
    with pytest.warns(UserWarning, match="PrecisionRecallCurve.compute: there are no positives") as seen:
        precision, recall, thresholds = metric.compute()

    assert seen[0].filename == __file__
    assert precision.tolist() == [0, 0, 0, 0, 1]
    assert recall.tolist() == [1, 1, 1, 1, 0]
    assert len(thresholds) == 4


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_kappa_of_one_label_is_nan(weights: Any, num_classes: int | None) -> None:
    one = torch.tensor([2, 2, 2])

    assert math.isnan(value_of(CohenKappa(weights=weights, num_classes=num_classes), (one, one)))


@pytest.mark.parametrize("num_classes", [None, 3])
def test_kappa_is_zero_if_one_always_says_the_same(num_classes: int | None) -> None:
    assert value_of(CohenKappa(num_classes=num_classes), (torch.tensor([1, 1, 1]), torch.tensor([1, 2, 0]))) == 0.0


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_correlation_with_what_does_not_vary_is_zero(num_classes: int | None) -> None:
    one, other = torch.tensor([1, 1, 1]), torch.tensor([1, 2, 0])

    assert value_of(MatthewsCorrCoef(num_classes=num_classes), (one, other)) == 0.0
    assert value_of(MatthewsCorrCoef(num_classes=num_classes), (other, one)) == 0.0
    assert value_of(MatthewsCorrCoef(num_classes=num_classes), (one, one)) == 0.0
    assert value_of(MatthewsCorrCoef(num_classes=num_classes), (other, other)) == 1.0


# ---------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("kind", AREAS)
def test_with_bins_memory_does_not_grow(kind: Any) -> None:
    """Ten million samples in a hundred batches: one state of two counts a bin."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(100_000, generator=generator)
    y = (torch.rand(100_000, generator=generator) < scores).long()
    metric = kind(bins=1000)
    sizes = set()
    for _ in range(100):
        metric.update((scores, y))
        sizes.add((metric.counts.numel(), len(metric.predictions), len(metric.targets)))

    assert sizes == {(2001, 0, 0)}
    assert metric.counts.dtype == torch.int64
    assert metric.counts.sum() == 10_000_000


@pytest.mark.parametrize("spread", [1, 3, 6])
@pytest.mark.parametrize(("kind", "exact"), [(ROC_AUC, roc_auc_score), (AveragePrecision, average_precision_score)])
def test_with_bins_the_value_is_within_a_thousandth(kind: Any, exact: Any, spread: float) -> None:
    """Also if most scores lie very close to 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(2, (50_000,), generator=generator)
    scores = (spread * (torch.randn(50_000, generator=generator) + 2 * y - 1)).double().sigmoid()
    value = value_of(kind(bins=1000), *((scores[part::7], y[part::7]) for part in range(7)))

    assert abs(value - exact(y, scores)) < 1e-3


@pytest.mark.parametrize("kind", AGREEMENT)
def test_with_the_number_of_classes_memory_does_not_grow(kind: Any) -> None:
    metric = kind(num_classes=10)
    sizes = []
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        metric.update(tuple(torch.randint(10, (1000,), generator=generator) for _ in range(2)))
        sizes.append((*state_sizes(metric), len(metric.predictions), len(metric.targets)))

    assert set(sizes) == {(22, 1, 0, 0)}


@pytest.mark.parametrize("metric", [kind(num_classes=3) for kind in AGREEMENT], ids=lambda m: type(m).__name__)
def test_a_loaded_state_can_be_computed_at_once(metric: Metric) -> None:
    metric.update((torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])))
    expected, state = metric.compute(), metric.state_dict()
    metric.reset()
    metric.load_state_dict(state)

    assert metric.compute() == expected


# ------------------------------------------------------------------------------------------------------ conventions


def test_a_score_on_the_edge_of_two_bins_lies_in_the_upper_one() -> None:
    assert value_of(ROC_AUC(bins=2), (torch.tensor([0.4999, 0.5]), torch.tensor([0, 1]))) == 1.0
    assert value_of(ROC_AUC(bins=2), (torch.tensor([0.0, 1.0]), torch.tensor([0, 1]))) == 1.0


def test_infinite_scores_rank_like_any_other() -> None:
    """Log-probabilities may be minus infinity."""
    scores = torch.tensor([-math.inf, -1.0, -math.inf, 0.0])

    assert value_of(ROC_AUC(), (scores, LABELS)) == (0.5 + 0 + 1 + 1) / 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
@pytest.mark.parametrize("label_dtype", [torch.bool, torch.uint8, torch.float32])
def test_scores_and_labels_may_be_of_any_dtype(dtype: torch.dtype, label_dtype: torch.dtype) -> None:
    scores = torch.tensor([1, 4, 3, 8]).to(dtype)

    assert value_of(ROC_AUC(), (scores, LABELS.to(label_dtype))) == 0.75


@pytest.mark.parametrize("kind", RANKING)
def test_columns_of_one_are_samples(kind: Any) -> None:
    expected = value_of(kind(), (SCORES, LABELS))

    for y_pred, y in [(SCORES.unsqueeze(1), LABELS), (SCORES, LABELS.unsqueeze(1))]:
        value = value_of(kind(), (y_pred, y))
        assert same(value, expected, 0.0)


@pytest.mark.parametrize("make", [*RANKING, *AGREEMENT, lambda: ROC_AUC(bins=9), lambda: CohenKappa(num_classes=3)])
def test_an_empty_batch_changes_nothing(make: Any) -> None:
    metric = make()
    metric.update((torch.zeros(0), torch.zeros(0, dtype=torch.long)))
    with pytest.raises(NotComputableError, match=r"compute: no sample was seen; call update\(\) first"):
        metric.compute()


@pytest.mark.parametrize("weights", ["linear", "quadratic"])
def test_weights_go_by_the_labels_though_some_do_not_occur(weights: Any) -> None:
    """A 4 for a 0 is worse than a 1 for a 0, also if nobody says 2 or 3."""
    y_pred, y = torch.tensor([0, 1, 4, 4, 0]), torch.tensor([0, 0, 4, 0, 1])
    by_values = value_of(CohenKappa(weights=weights), (y_pred, y))

    assert by_values == pytest.approx(value_of(CohenKappa(weights=weights, num_classes=5), (y_pred, y)), abs=1e-12)
    assert by_values == pytest.approx(value_of(CohenKappa(weights=weights), (y_pred - 7, y - 7)), abs=1e-12)
    assert by_values != pytest.approx(
        value_of(CohenKappa(weights=weights), (y_pred.clamp(max=2), y.clamp(max=2))), abs=1e-3
    )


def test_labels_may_be_floats_and_bools() -> None:
    y_pred, y = torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.tensor([False, True, False, False])

    assert value_of(CohenKappa(), (y_pred, y)) == 0.5
    assert value_of(MatthewsCorrCoef(), (y_pred.unsqueeze(1), y)) == pytest.approx(2 / 12**0.5)


@pytest.mark.parametrize("kind", [*RANKING, *AGREEMENT])
def test_arguments_stand_where_pytorch_ignite_has_them(kind: Any) -> None:
    before = (None,) if kind is CohenKappa else ()
    metric = kind(lambda output: output[:2], *before, True, "cpu", True)

    metric.update((torch.tensor([0.0, 1.0]), torch.tensor([0, 1])))
    metric.compute()


# ------------------------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize("kind", RANKING)
@pytest.mark.parametrize(
    "shapes", [((4,), (3,)), ((4, 2), (4,)), ((4,), (4, 2)), ((4, 2, 2), (4, 2, 2)), ((), ()), ((4, 3), (3,))]
)
def test_shapes_that_do_not_fit_are_refused(kind: Any, shapes: Any) -> None:
    message = f"{kind.__name__}.update: y_pred and y must have both the shape (N,)"
    with pytest.raises(ValueError, match=re.escape(message)) as seen:
        kind().update((torch.zeros(shapes[0]), torch.zeros(shapes[1])))

    assert f"got {shapes[0]} and {shapes[1]}" in str(seen.value)
    assert ("y_pred[:, 1]" in str(seen.value)) == (shapes == ((4, 2), (4,)))


@pytest.mark.parametrize("bins", [None, 10])
@pytest.mark.parametrize("kind", AREAS)
def test_a_changed_number_of_labels_is_refused(kind: Any, bins: int | None) -> None:
    metric = kind(bins=bins)
    metric.update((torch.rand(5, 3), torch.ones(5, 3)))
    for shape in [(5, 2), (5,)]:
        with pytest.raises(ValueError, match=r"the shapes must not change, \(N, 3\) of y_pred before, got y_pred"):
            metric.update((torch.rand(shape), torch.ones(shape)))


@pytest.mark.parametrize("kind", RANKING)
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, math.nan], [0, 1], "scores must not be NaN, got 1 of 2 that are not"),
        ([0.1, 0.2], [-1, 1], "labels must be 0 or 1, got 1 of 2 that are not"),
    ],
)
def test_wrong_values_are_told_at_once_of_the_first_batch_else_by_compute(
    kind: Any, scores: Any, labels: Any, message: str
) -> None:
    wrong = torch.tensor(scores), torch.tensor(labels)
    with pytest.raises(ValueError, match=f"{kind.__name__}.update: {message}"):
        kind().update(wrong)
    metric = kind()
    metric.update((SCORES, LABELS))
    metric.update(wrong)
    with pytest.raises(ValueError, match=f"{kind.__name__}.compute: {message.replace('of 2', 'of 6')}"):
        metric.compute()
    metric = kind(validate=True)
    metric.update((SCORES, LABELS))
    with pytest.raises(ValueError, match=f"{kind.__name__}.update: {message}"):
        metric.update(wrong)


@pytest.mark.parametrize("kind", AREAS)
@pytest.mark.parametrize(
    ("scores", "labels"), [([0.1, math.nan], [0, 1]), ([0.1, 1.5], [0, 1]), ([-0.1, 0.5], [0, 1]), ([0.1, 0.2], [0, 2])]
)
def test_wrong_values_are_in_no_bin(kind: Any, scores: Any, labels: Any) -> None:
    wrong = torch.tensor(scores), torch.tensor(labels)
    with pytest.raises(ValueError, match=rf"{kind.__name__}.update: .* must .*, got 1 of 2 that are not"):
        kind(bins=10).update(wrong)
    metric = kind(bins=10)
    metric.update((SCORES, LABELS))
    metric.update(wrong)
    with pytest.raises(ValueError, match=rf"{kind.__name__}.compute: with bins, scores must lie in \[0, 1\].* got 1 "):
        metric.compute()


@pytest.mark.parametrize("bins", [None, 10])
def test_a_class_without_scores_is_refused(bins: int | None) -> None:
    right, wrong = (torch.rand(3, 3), torch.arange(3)), (torch.rand(3, 3), torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match=r"AveragePrecision.update: labels must be classes in \[0, 3\), got 1 of 3"):
        AveragePrecision(bins=bins).update(wrong)
    metric = AveragePrecision(bins=bins)
    metric.update(right)
    metric.update(wrong)
    with pytest.raises(ValueError, match=r"AveragePrecision.compute: .*got [13] "):
        metric.compute()


@pytest.mark.parametrize("kind", AREAS)
@pytest.mark.parametrize("bins", [1, 0, -5, 2.5, True, "10"])
def test_bins_must_be_a_whole_number(kind: Any, bins: Any) -> None:
    with pytest.raises(ValueError, match=f"bins must be None or a whole number of at least 2, got {bins!r}"):
        kind(bins=bins)


@pytest.mark.parametrize("kind", AGREEMENT)
@pytest.mark.parametrize("num_classes", [1, -1, 2.0, True])
def test_the_number_of_classes_must_be_a_whole_number(kind: Any, num_classes: Any) -> None:
    with pytest.raises(
        ValueError, match=f"num_classes must be None or a whole number of at least 2, got {num_classes}"
    ):
        kind(num_classes=num_classes)


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="CohenKappa: weights must be None, 'linear' or 'quadratic', got 'cubic'"):
        CohenKappa(weights="cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        (CohenKappa, ((4, 2), (4,))),
        (CohenKappa, ((4, 2), (4, 2))),
        (CohenKappa, ((4,), (3,))),
        (MatthewsCorrCoef, ((4,), (4, 2))),
        (MatthewsCorrCoef, ((4, 3), (4, 2))),
        (MatthewsCorrCoef, ((4, 3, 3), (4, 3))),
        (MatthewsCorrCoef, ((), ())),
    ],
)
def test_labels_of_other_shapes_are_refused(kind: Any, shapes: Any) -> None:
    message = f"{kind.__name__}.update: y_pred and y must be labels of shape (N,) or (N, 1)"
    with pytest.raises(ValueError, match=re.escape(message)) as seen:
        kind().update(tuple(torch.zeros(shape, dtype=torch.long) for shape in shapes))

    assert f"got {shapes[0]} and {shapes[1]}" in str(seen.value)


@pytest.mark.parametrize("kind", AGREEMENT)
def test_labels_must_be_whole_and_in_range(kind: Any) -> None:
    with pytest.raises(ValueError, match="update: labels must be whole numbers, got 1 of 2 that are not"):
        kind().update((torch.tensor([0.5, 1.0]), torch.tensor([0, 1])))
    with pytest.raises(ValueError, match=r"update: labels must be in \[0, 2\), got 1 of 4 that are not"):
        kind(num_classes=2).update((torch.tensor([0, 2]), torch.tensor([0, 1])))
    metric = kind(num_classes=2)
    metric.update((torch.tensor([0, 1]), torch.tensor([0, 1])))
    metric.update((torch.tensor([0, 2]), torch.tensor([-1, 1])))
    with pytest.raises(ValueError, match=r"compute: labels must be in \[0, 2\), got 2 that are not"):
        metric.compute()


# --------------------------------------------------------------------------------------------------------------- plots


@pytest.mark.parametrize(
    ("kind", "x", "y", "labels"),
    [
        (RocCurve, [0, 0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1, 1], ("False positive rate", "True positive rate")),
        (PrecisionRecallCurve, [1, 1, 0.5, 0.5, 0], [0.5, 2 / 3, 0.5, 1, 1], ("Recall", "Precision")),
    ],
)
def test_a_curve_can_be_drawn(kind: Any, x: list[float], y: list[float], labels: tuple[str, str]) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    metric = kind()
    metric.update((SCORES, LABELS))
    _, given = pyplot.subplots()
    for ax in (metric.plot(), metric.plot(ax=given)):
        (line,) = ax.get_lines()
        assert list(line.get_xdata()) == x
        assert list(line.get_ydata()) == y
        assert (ax.get_xlabel(), ax.get_ylabel()) == labels
    assert ax is given
    pyplot.close("all")


@pytest.mark.parametrize("kind", [RocCurve, PrecisionRecallCurve])
def test_without_matplotlib_the_extra_is_named(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    metric = kind()
    metric.update((SCORES, LABELS))
    message = f"{kind.__name__}.plot needs the package 'matplotlib': pip install 'ignite-core[plot]'"
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        metric.plot()

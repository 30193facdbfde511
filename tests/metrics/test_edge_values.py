"""Values at the edges: batches without samples, overflow, buffers that are filled again, values that are no labels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score
from torch.nn.functional import cross_entropy

from ignite_core.engine import Engine
from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import (
    Accuracy,
    Average,
    CohenKappa,
    Loss,
    MatthewsCorrCoef,
    MeanAbsoluteError,
    MeanAbsoluteRelativeError,
    MeanSquaredError,
    Metric,
    MultiLabelConfusionMatrix,
    Precision,
    Recall,
    RunningAverage,
    VariableAccumulation,
)

FULL = (torch.eye(3), torch.arange(3))
EMPTY = (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))
MASKED = (torch.eye(3), torch.full((3,), -100))


def echo() -> Engine:
    return Engine(lambda engine, batch: batch)


# -------------------------------------------------------------------------------------------- batches without samples


@pytest.mark.parametrize("nothing", [EMPTY, MASKED])
@pytest.mark.parametrize("count", [int, lambda number: number])
def test_a_batch_that_weighs_nothing_is_left_out_of_a_loss(nothing: Any, count: Any) -> None:
    metric = Loss(cross_entropy, batch_size=lambda y: count((y != -100).sum()))
    for batch in (nothing, FULL, nothing):
        metric.update(batch)

    assert metric.compute() == pytest.approx(float(cross_entropy(*FULL)))


def test_a_loss_that_is_nan_stays_nan() -> None:
    metric = Loss(cross_entropy)
    for batch in (FULL, (FULL[0] * math.nan, FULL[1])):
        metric.update(batch)

    assert math.isnan(metric.compute())


@pytest.mark.parametrize("batches", [[EMPTY, FULL], [FULL, EMPTY], [FULL, EMPTY, FULL]])
@pytest.mark.parametrize("source", [Accuracy, lambda: 1 * Accuracy(), lambda: Loss(lambda y_pred, y: y_pred.sum() / 3)])
def test_a_running_average_leaves_a_batch_without_samples_out(source: Any, batches: list[Any]) -> None:
    engine = echo()
    RunningAverage(source()).attach(engine, "average")

    assert engine.run(batches).metrics == {"average": 1.0}


def test_a_running_average_of_batches_without_samples_has_no_value() -> None:
    engine, average = echo(), RunningAverage(Accuracy())
    average.attach(engine, "average")

    assert engine.run([EMPTY]).metrics == {}
    with pytest.raises(NotComputableError):
        average.compute()


def test_a_running_average_tells_of_a_source_that_cannot_compute_from_what_it_saw() -> None:
    engine = echo()
    RunningAverage(MeanAbsoluteRelativeError()).attach(engine, "average")
    with pytest.raises(NotComputableError, match="must not be 0"):
        engine.run([(torch.ones(2), torch.zeros(2))])


# ------------------------------------------------------------------------------------------------------------- buffers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (RunningAverage(output_transform=lambda output: output, alpha=0.5), 1.5),
        (Average(), 1.5),
        (VariableAccumulation(lambda before, new: new if isinstance(before, float) else before), 1.0),
    ],
)
def test_an_output_that_is_filled_again_changes_no_value(metric: Metric, expected: float, dtype: torch.dtype) -> None:
    buffer = torch.zeros(2, dtype=dtype)
    metric.reset()
    for number in (1.0, 2.0):
        metric.update(buffer.fill_(number))
    buffer.zero_()
    value = metric.compute()

    assert (value[0] if isinstance(value, tuple) else value).tolist() == [expected] * 2


def test_a_computed_accumulation_does_not_change_with_further_batches() -> None:
    metric = VariableAccumulation(lambda before, new: new if isinstance(before, float) else before.add_(new))
    metric.update(torch.ones(2))
    value, _ = metric.compute()
    metric.update(torch.ones(2))

    assert value.tolist() == [1.0, 1.0]


# -------------------------------------------------------------------------------------- values that are not labels


@pytest.mark.parametrize(
    "metric",
    [
        *(kind(average=average) for kind in (Precision, Recall) for average in (False, None, "micro", "macro")),
        Accuracy(),
    ],
)
@pytest.mark.parametrize("late", [([0.97, 0.0], [1, 0]), ([1.0, 0.0], [2, 0]), ([math.nan, 0.0], [1, 0])])
def test_unrounded_scores_of_a_later_batch_are_reported(metric: Metric, late: Any) -> None:
    metric.reset()
    metric.update((torch.tensor([1.0, 0.0]), torch.tensor([1, 0])))
    metric.update((torch.tensor(late[0]), torch.tensor(late[1])))
    with pytest.raises(ValueError, match=r"compute: .*must be 0 or 1, got 1 .*round scores in output_transform"):
        metric.compute()


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    "metric",
    [
        *(
            kind(average=average, is_multilabel=True)
            for kind in (Precision, Recall)
            for average in (False, "micro", "weighted", "samples")
        ),
        MultiLabelConfusionMatrix(2),
        Accuracy(is_multilabel=True),
    ],
)
def test_unrounded_labels_of_a_later_batch_are_reported(metric: Metric, place: int) -> None:
    metric.reset()
    batch = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    late = [batch.clone(), batch.clone()]
    late[place][0, 1] = 0.5
    for one in ((batch, batch), tuple(late)):
        metric.update(one)
    with pytest.raises(ValueError, match=r"compute: .*must be 0 or 1, got 1 "):
        metric.compute()


@pytest.mark.parametrize("wrong", [1.5, math.nan, math.inf])
@pytest.mark.parametrize("kind", [CohenKappa, MatthewsCorrCoef])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_labels_of_a_later_batch_that_are_no_whole_numbers_are_reported(
    kind: Any, num_classes: int | None, wrong: float
) -> None:
    metric = kind(num_classes=num_classes)
    labels = torch.tensor([0.0, 1.0, 2.0])
    metric.update((labels, labels))
    metric.update((torch.tensor([0.0, wrong, 2.0]), labels))
    with pytest.raises(ValueError, match=r"compute: labels must be .*, got 1 that are not"):
        metric.compute()


# ------------------------------------------------------------------------------------------------- overflow and 0 / 0


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
@pytest.mark.parametrize(("factor", "begin"), [(10**9, 0), (10**18, -4 * 10**18), (2**61, -(2**62)), (1, 2**62)])
def test_kappa_of_large_labels_is_that_of_small_ones(weights: Any, factor: int, begin: int) -> None:
    a, b = torch.tensor([0, 4, 4, 0, 1]), torch.tensor([0, 4, 0, 4, 2])
    metric = CohenKappa(weights=weights)
    metric.update((a * factor + begin, b * factor + begin))

    labels = range(5) if weights else None
    assert metric.compute() == pytest.approx(cohen_kappa_score(a, b, weights=weights, labels=labels))


def test_errors_of_large_floats_do_not_overflow() -> None:
    y = torch.tensor([3e38, 1.0])
    for metric, expected in ((MeanSquaredError(), 1.8e77), (MeanAbsoluteError(), 3e38)):
        metric.update((-y, y))

        assert metric.compute() == pytest.approx(expected)


@pytest.mark.parametrize("zero_division", [0, 1])
@pytest.mark.parametrize(("kind", "reference"), [(Precision, precision_score), (Recall, recall_score)])
def test_a_weighted_mean_without_true_labels_is_the_unweighted_one(
    kind: Any, reference: Any, zero_division: int
) -> None:
    y_pred, y = torch.tensor([[1, 0, 1], [1, 0, 0]]), torch.zeros(2, 3).long()
    metric = kind(average="weighted", is_multilabel=True, zero_division=zero_division)
    metric.update((y_pred, y))

    assert metric.compute() == pytest.approx(reference(y, y_pred, average="weighted", zero_division=zero_division))

"""Which direction of a metric is better."""

from __future__ import annotations

import inspect

import pytest

from ignite_core import metrics
from ignite_core.engine import Engine
from ignite_core.metrics import (
    Accuracy,
    ClassificationReport,
    ConfusionMatrix,
    Fbeta,
    IoU,
    Loss,
    Metric,
    MetricGroup,
    MetricsLambda,
    Precision,
    Recall,
    RunningAverage,
    find_metric,
    mIoU,
)

HIGHER = {
    "Accuracy", "AveragePrecision", "CohenKappa", "CosineSimilarity", "Frequency", "KendallRankCorrelation",
    "MatthewsCorrCoef", "PearsonCorrelation", "Precision", "R2Score", "ROC_AUC", "Recall", "SpearmanRankCorrelation",
    "TopKCategoricalAccuracy",
}  # fmt: skip
NEITHER = {
    "Average", "ConfusionMatrix", "Entropy", "EpochMetric", "FractionalBias", "GeometricAverage", "GpuInfo", "HSIC",
    "MeanError", "MeanNormalizedBias", "Metric", "MetricGroup", "MetricsLambda", "MultiLabelConfusionMatrix",
    "MutualInformation", "PrecisionRecallCurve", "RocCurve", "RunningAverage", "VariableAccumulation",
}  # fmt: skip


def test_each_metric_says_whether_higher_is_better() -> None:
    """The others are losses, errors, distances and divergences."""
    everything = {name: getattr(metrics, name) for name in metrics.__all__}
    kinds = {name: kind for name, kind in everything.items() if inspect.isclass(kind) and issubclass(kind, Metric)}
    found = {name: kind.higher_is_better for name, kind in kinds.items()}

    assert found == {name: True if name in HIGHER else None if name in NEITHER else False for name in kinds}


a, b, loss, matrix = Accuracy(), Recall(average=True), Loss(lambda y_pred, y: y), ConfusionMatrix(3)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (1 - a, False),
        (-loss, True),
        (100 * a, True),
        (a * -2, False),
        (0 * a, None),
        (a / 2, True),
        (2 / a, None),
        (a + b, True),
        (a - loss, True),
        (a + loss, None),
        (a - b, None),
        (a * b, None),
        (abs(a), None),
        (Precision()[0], True),
        (Precision().mean(), True),
        (matrix[0, 0], None),
        (matrix + a, None),
        (a.pow(2), None),
        (MetricsLambda(round, a), None),
        (Fbeta(1), True),
        (IoU(matrix), True),
        (1 - mIoU(matrix), False),
        (ClassificationReport(), None),
        (MetricGroup({"a": a}), None),
        (RunningAverage(a), True),
        (RunningAverage(1 - a), False),
        (RunningAverage(output_transform=lambda output: output), None),
    ],
)  # fmt: skip
def test_what_is_made_of_metrics_has_their_direction_where_it_follows(metric: Metric, expected: bool | None) -> None:
    assert metric.higher_is_better is expected
    assert metric._copy().higher_is_better is expected


def test_a_direction_can_be_set() -> None:
    metric = 2 * a * b / (a + b)
    metric.higher_is_better = True

    assert RunningAverage(metric).higher_is_better is True


def test_a_metric_is_found_by_the_name_of_its_value() -> None:
    engine = Engine(lambda engine, batch: batch)
    assert find_metric(engine, "accuracy") is None
    metric, average = Accuracy(), RunningAverage(Accuracy())
    metric.attach(engine, "accuracy")
    average.attach(engine, "average")
    MetricGroup({"nll": loss}).attach(engine, "group")

    assert find_metric(engine, "accuracy") is metric
    assert find_metric(engine, "average") is average
    assert find_metric(engine, "nll") is loss
    assert find_metric(engine, "loss") is None

"""Classification by counts: undefined cases, ties, what is shared, what is refused."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ignite_core.engine import Engine
from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import (
    Accuracy,
    ClassificationReport,
    ConfusionMatrix,
    DiceCoefficient,
    Fbeta,
    IoU,
    JaccardIndex,
    Metric,
    MultiLabelConfusionMatrix,
    Precision,
    Recall,
    TopKCategoricalAccuracy,
    cmAccuracy,
    cmPrecision,
    cmRecall,
    mIoU,
)
from ignite_core.metrics.classification import counts
from tests.metrics.table import Unwaited, same

SCORES = torch.eye(3)
LABELS = torch.tensor([0, 1, 1])
ZEROS = torch.zeros(2, dtype=torch.long)


def value_of(metric: Metric, y_pred: torch.Tensor, y: torch.Tensor) -> Any:
    metric.update((y_pred, y))
    return metric.compute()


# ------------------------------------------------------------------------------------------------------ undefined cases


@pytest.mark.parametrize(("zero_division", "expected"), [(0, 0.0), (1, 1.0), ("nan", math.nan), (math.nan, math.nan)])
@pytest.mark.parametrize("kind", [Precision, Recall])
def test_nothing_by_nothing_is_what_zero_division_says(kind: Any, zero_division: Any, expected: float) -> None:
    """Of binary data without positives, however it is asked."""
    assert same(value_of(kind(zero_division=zero_division), ZEROS, ZEROS), expected, 0)
    assert same(value_of(kind(average=None, zero_division=zero_division), ZEROS, ZEROS), [1.0, expected], 0)
    tags = torch.zeros(2, 3, dtype=torch.long)
    for average in ("micro", "macro", "weighted", "samples"):
        metric = kind(average=average, is_multilabel=True, zero_division=zero_division)
        assert same(value_of(metric, tags, tags), expected, 0), average


def test_a_restored_average_over_samples_of_which_none_is_defined_is_nan() -> None:
    metric = Precision(average="samples", is_multilabel=True, zero_division="nan")
    value_of(metric, torch.zeros(2, 3), torch.ones(2, 3))
    restored = Precision(average="samples", is_multilabel=True, zero_division="nan")
    restored.load_state_dict(metric.state_dict())

    assert math.isnan(restored.compute())


def test_the_f_score_is_zero_where_only_one_of_precision_and_recall_is_undefined() -> None:
    """The class 1 occurs but is never predicted: 2 TP / (2 TP + FP + FN) is 0, though its precision is NaN."""
    value = value_of(Fbeta(1, zero_division="nan"), ZEROS, torch.tensor([1, 0]))

    assert value == 0.0


def test_the_f_score_has_no_epsilon() -> None:
    y_pred, y = torch.tensor([1, 0, 1, 0, 1, 1]), torch.tensor([1, 0, 1, 1, 0, 1])

    assert value_of(Fbeta(1), y_pred, y) == 0.75


def test_a_class_that_is_nowhere_counts_as_zero_or_is_left_out_of_the_mean() -> None:
    y_pred, y = torch.eye(3)[:2], torch.tensor([0, 1])
    cm = ConfusionMatrix(3)
    scores = [kind(cm, zero_division="nan") for kind in (mIoU, cmPrecision, cmRecall)]
    cm.update((y_pred, y))

    assert [score.compute() for score in scores] == [1, 1, 1]
    assert [kind(cm).compute() for kind in (mIoU, cmPrecision, cmRecall)] == [2 / 3] * 3
    assert same(DiceCoefficient(cm, zero_division="nan").compute(), [1, 1, math.nan], 0)


def test_a_matrix_of_ignored_labels_alone_is_zero() -> None:
    cm = ConfusionMatrix(3, average="recall")

    assert value_of(cm, SCORES, torch.tensor([255, -100, 3])).tolist() == [[0.0] * 3] * 3


# ---------------------------------------------------------------------------------------------------------------- ties


@pytest.mark.parametrize("classes", [4, 1500])
def test_top_1_is_accuracy_also_where_scores_are_equal_or_no_numbers(classes: int) -> None:
    """The small one is sorted, the large one counted."""
    generator = torch.Generator().manual_seed(0)
    y_pred = torch.randint(2, (64, classes), generator=generator).float()
    y_pred[3] = torch.nan
    y_pred[4, 1] = torch.nan
    y_pred[5, 2] = torch.inf
    y = torch.randint(3, (64,), generator=generator)
    y[3:6] = torch.tensor([0, 1, 2])

    assert value_of(TopKCategoricalAccuracy(1), y_pred, y) == value_of(Accuracy(), y_pred, y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_sorting_and_counting_find_the_same_top_k(dtype: torch.dtype) -> None:
    """What is not on the CPU is counted."""
    generator = torch.Generator().manual_seed(1)
    y_pred = torch.randint(-3, 3, (20, 6, 4), generator=generator).to(dtype)
    y = torch.randint(6, (20, 4), generator=generator)
    for k in range(1, 7):
        sorted_, counted = TopKCategoricalAccuracy(k), TopKCategoricalAccuracy(k)
        counted._has_validated = True
        sorted_.update((y_pred, y))
        counted.update((y_pred.as_subclass(Unwaited), y.as_subclass(Unwaited)))

        assert sorted_.num_correct == counted.num_correct.as_subclass(torch.Tensor)


@pytest.mark.parametrize("shape", [(3, 5), (64, 100), (2, 5, 40, 40)])
def test_the_first_of_equal_scores_is_predicted(shape: tuple[int, ...]) -> None:
    """Few scores are searched in another way than many."""
    y_pred = torch.randint(3, shape, generator=torch.Generator().manual_seed(2)).float()

    assert torch.equal(counts.predicted_classes(y_pred), y_pred.argmax(1))


# ------------------------------------------------------------------------------------------------------ sharing


def large(seed: int = 0) -> torch.Tensor:
    return torch.randn(64, 100, generator=torch.Generator().manual_seed(seed))


def test_precision_and_recall_count_a_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[torch.Tensor] = []
    predicted = counts.predicted_classes
    monkeypatch.setattr(counts, "predicted_classes", lambda y_pred: found.append(y_pred) or predicted(y_pred))
    f1 = Fbeta(1)
    for seed in range(3):
        f1.update((large(seed), torch.zeros(64, dtype=torch.long)))

    assert len(found) == 3


@pytest.mark.parametrize(
    "kind", [Accuracy, lambda: Precision(average="micro"), lambda: cmAccuracy(ConfusionMatrix(100))]
)
def test_scores_that_were_changed_in_place_are_counted_anew(kind: Callable[[], Metric]) -> None:
    y_pred, y = large(), torch.zeros(64, dtype=torch.long)
    value_of(kind(), y_pred, y)
    y_pred[:, 0] = 99

    assert value_of(kind(), y_pred, y) == 1


@pytest.mark.parametrize(
    "kind", [Accuracy, lambda: Precision(average="micro"), lambda: cmAccuracy(ConfusionMatrix(100))]
)
def test_scores_of_inference_mode_are_counted_anew(kind: Callable[[], Metric]) -> None:
    with torch.inference_mode():
        y_pred, y = large(), torch.zeros(64, dtype=torch.long)
        value_of(kind(), y_pred, y)
        y_pred[:, 0] = 99

        assert value_of(kind(), y_pred, y) == 1


def test_what_is_shared_is_not_what_is_summed() -> None:
    precision, recall = Precision(average=None), Recall(average=None)
    both = precision + recall
    for _ in range(2):
        both.update((SCORES, LABELS))

    assert precision.counts.tolist() == recall.counts.tolist() == [[2, 2, 0], [2, 2, 2], [2, 4, 0]]


def test_a_computed_matrix_does_not_change_with_further_batches() -> None:
    cm = ConfusionMatrix(3)
    before = value_of(cm, SCORES, LABELS)
    copy = before.clone()
    cm.update((SCORES, LABELS))

    assert torch.equal(before, copy)


# ------------------------------------------------------------------------------------------------------ what is refused

SHAPES = [
    (Precision, (4, 3), (5,), ValueError),
    (Recall, (4, 3, 2), (4, 3), ValueError),
    (lambda: Precision(is_multilabel=True), (4, 1), (4, 1), ValueError),
    (lambda: Fbeta(1), (4,), (3,), ValueError),
    (lambda: ConfusionMatrix(3), (4, 2), (4,), ValueError),
    (lambda: ConfusionMatrix(3), (4, 3), (4, 3), ValueError),
    (lambda: ConfusionMatrix(3), (4,), (4,), ValueError),
    (lambda: MultiLabelConfusionMatrix(3), (4, 3), (4,), ValueError),
    (lambda: MultiLabelConfusionMatrix(3), (4, 2), (4, 2), ValueError),
    (lambda: TopKCategoricalAccuracy(4), (4, 3), (4,), ValueError),
    (lambda: TopKCategoricalAccuracy(2), (4, 3), (5,), ValueError),
]


@pytest.mark.parametrize(("make", "shape", "shape_y", "kind"), SHAPES)
def test_shapes_that_do_not_fit_are_refused(
    make: Callable[[], Metric], shape: tuple[int, ...], shape_y: tuple[int, ...], kind: type[Exception]
) -> None:
    metric = make()
    with pytest.raises(kind, match=r"^\w+\.update: .*" + re.escape(f"got {shape} and {shape_y}")):
        metric.update((torch.zeros(shape), torch.zeros(shape_y, dtype=torch.long)))
    with pytest.raises(NotComputableError):
        metric.compute()


@pytest.mark.parametrize("make", [Precision, Recall, lambda: ConfusionMatrix(3), lambda: TopKCategoricalAccuracy(1)])
def test_classes_are_whole_numbers(make: Callable[[], Metric]) -> None:
    with pytest.raises(TypeError, match=r"\.update: y must be of whole numbers, .* got torch.float32"):
        make().update((SCORES, LABELS.float()))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_classes_may_be_of_any_whole_numbers(dtype: torch.dtype) -> None:
    for make in (Precision, lambda: ConfusionMatrix(3), lambda: TopKCategoricalAccuracy(1)):
        assert same(value_of(make(), SCORES, LABELS.to(dtype)), value_of(make(), SCORES, LABELS), 0)


@pytest.mark.parametrize("make", [Precision, Recall, lambda: TopKCategoricalAccuracy(1)])
@pytest.mark.parametrize("label", [-1, 3, 255])
def test_labels_out_of_range_are_told_on_the_first_batch(make: Callable[[], Metric], label: int) -> None:
    with pytest.raises(ValueError, match=r"\.update: labels must be in \[0, 3\), got 1 of 3 that are not"):
        make().update((SCORES, torch.tensor([0, label, 1])))


@pytest.mark.parametrize("kind", [Precision, Recall])
@pytest.mark.parametrize("label", [-1, 3, 255])
def test_labels_out_of_range_in_a_later_batch_are_told_by_compute(kind: Any, label: int) -> None:
    metric = kind()
    metric.update((SCORES, LABELS))
    metric.update((SCORES, torch.tensor([0, label, 1])))

    with pytest.raises(ValueError, match=r"compute: labels must be in \[0, 3\), got 1 that are not"):
        metric.compute()


@pytest.mark.parametrize("classes", [3, 400])
def test_a_sample_with_a_label_out_of_range_is_not_among_the_top_k(classes: int) -> None:
    metric = TopKCategoricalAccuracy(3)
    metric.update((torch.eye(classes)[:3], torch.tensor([0, 1, 2])))
    metric.update((torch.eye(classes)[:3], torch.tensor([-1, classes, 1])))

    assert metric.compute() == 4 / 6


def test_values_of_each_batch_are_looked_at_if_asked() -> None:
    for make in (Precision, lambda **options: TopKCategoricalAccuracy(1, **options)):
        metric = make(validate=True)
        metric.update((SCORES, LABELS))
        with pytest.raises(ValueError, match="labels must be in"):
            metric.update((SCORES, torch.tensor([0, 3, 1])))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (Precision, (2,)),
        (Recall, (2,)),
        (lambda: Precision(is_multilabel=True), (2, 3)),
        (lambda: Recall(is_multilabel=True, average="samples"), (2, 3)),
        (lambda: MultiLabelConfusionMatrix(3), (2, 3)),
    ],
)
def test_zeros_and_ones_are_asked_for(make: Callable[[], Metric], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be 0 or 1.*got \d of \d"):
        make().update((torch.full(shape, 0.4), torch.ones(shape)))
    with pytest.raises(ValueError, match=r"must be 0 or 1.*got \d of \d"):
        make().update((torch.ones(shape), torch.full(shape, 2)))


def test_the_number_of_classes_may_not_change_before_a_reset() -> None:
    for kind in (Precision, Recall):
        metric = kind()
        metric.update((SCORES, LABELS))
        for y_pred, classes in ((torch.eye(4)[:3], 4), (LABELS, 1)):
            with pytest.raises(ValueError, match=f"the number of classes has changed from 3 to {classes}"):
                metric.update((y_pred, LABELS))
        metric.reset()
        assert value_of(metric, ZEROS + 1, ZEROS + 1) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        Precision,
        lambda: Recall(average="macro"),
        lambda: Fbeta(1),
        lambda: ConfusionMatrix(3),
        lambda: TopKCategoricalAccuracy(2),
        lambda: mIoU(ConfusionMatrix(3)),
    ],
)
def test_an_empty_batch_changes_nothing(make: Callable[[], Metric]) -> None:
    empty = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    metric = make()
    metric.update(empty)
    with pytest.raises(NotComputableError):
        metric.compute()
    metric.update((SCORES, LABELS))
    metric.update(empty)

    assert same(metric.compute(), value_of(make(), SCORES, LABELS), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Precision(average="mean"), r"Precision: average must be .*got 'mean'"),
        (lambda: Recall(average=1.0), r"Recall: average must be .*got 1\.0"),
        (lambda: Recall(average="samples"), r"Recall: average='samples' needs is_multilabel=True"),
        (lambda: Precision(zero_division=2), r"Precision: zero_division must be 0, 1 or 'nan', got 2"),
        (lambda: Precision(zero_division="warn"), r"zero_division must be 0, 1 or 'nan', got 'warn'"),
        (lambda: Fbeta(0), r"Fbeta: beta must be positive, got 0"),
        (lambda: Fbeta(1, precision=Precision(average="macro")), r"precision must have average=False or None, got"),
        (lambda: Fbeta(1, precision=Precision(), device="cpu"), r"belong to precision and recall"),
        (lambda: Fbeta(1, recall=Recall(), output_transform=lambda x: x), r"belong to precision and recall"),
        (lambda: Fbeta(1, precision=Precision(average=None), recall=Recall()), r"must be alike, got average=None"),
        (lambda: ConfusionMatrix(1), r"ConfusionMatrix: num_classes .* at least 2, got 1"),
        (lambda: ConfusionMatrix(3, average="all"), r"ConfusionMatrix: average .*got 'all'"),
        (lambda: ConfusionMatrix.normalize(SCORES, "samples"), r"'recall' or 'precision', got 'samples'"),
        (lambda: MultiLabelConfusionMatrix(1), r"num_classes .* at least 2, got 1"),
        (lambda: TopKCategoricalAccuracy(0), r"TopKCategoricalAccuracy: k .* at least 1, got 0"),
        (lambda: IoU(ConfusionMatrix(3), ignore_index=3), r"IoU: ignore_index must be None or in \[0, 3\), got 3"),
        (lambda: mIoU(ConfusionMatrix(3, average="recall")), r"mIoU: the average .*None, 'samples', got 'recall'"),
        (lambda: cmAccuracy(ConfusionMatrix(3, average="recall")), r"cmAccuracy: the average"),
        (lambda: cmRecall(ConfusionMatrix(3, average="precision")), r"None, 'samples', 'recall', got 'precision'"),
        (lambda: JaccardIndex(ConfusionMatrix(3), zero_division=3), r"JaccardIndex: zero_division"),
        (lambda: ClassificationReport(beta=-1), r"ClassificationReport: beta must be positive, got -1"),
        (lambda: ClassificationReport(metrics_result_mode="flat"), r"metrics_result_mode .*got 'flat'"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_expressions_are_of_the_right_kind() -> None:
    for kind in (IoU, DiceCoefficient, cmAccuracy):
        with pytest.raises(TypeError, match=f"{kind.__name__}: cm must be a ConfusionMatrix, got Accuracy"):
            kind(Accuracy())
    with pytest.raises(TypeError, match="Fbeta: recall must be a Recall, got Precision"):
        Fbeta(1, recall=Precision())


def test_loaded_counts_stay_on_their_device_also_in_a_metric_that_fbeta_makes() -> None:
    f1 = Fbeta(1, precision=Precision(average=False))
    f1.update((SCORES, LABELS))
    state = {
        number: {name: value.to("meta") if value.ndim else value for name, value in states.items()}
        for number, states in f1.state_dict().items()
    }
    f1.load_state_dict(state)

    assert [leaf.counts.device.type for leaf in f1._leaves()] == ["meta", "meta"]


# ------------------------------------------------------------------------------------------------ F-scores and reports


def test_the_metric_that_is_made_is_like_the_one_that_is_given() -> None:
    given = Recall(lambda output: output["tags"], is_multilabel=True, zero_division=1, average=None)
    f1 = Fbeta(1, recall=given)
    precision = f1.args[0]

    assert precision._output_transform is given._output_transform
    assert (precision.average, precision.is_multilabel, precision.zero_division) == (None, True, 1)
    assert f1.args[1] is given


def test_a_report_is_text_unless_asked() -> None:
    report = ClassificationReport(beta=2, labels=["no", "yes"])
    text = value_of(report, torch.tensor([1, 0, 1, 0, 1]), torch.tensor([1, 1, 1, 1, 0]))

    assert json.loads(text) == {
        "no": {"precision": 0.0, "recall": 0.0, "f2-score": 0.0},
        "yes": {"precision": 2 / 3, "recall": 0.5, "f2-score": pytest.approx(5 / 9.5)},
        "macro avg": {"precision": 1 / 3, "recall": 0.25, "f2-score": pytest.approx(2.5 / 9.5)},
    }


def test_a_report_asks_for_a_label_of_each_class() -> None:
    report = ClassificationReport(labels=["no", "yes"])
    report.update((SCORES, LABELS))

    with pytest.raises(ValueError, match="there are 3 classes, but labels for 2"):
        report.compute()


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("both", {"report", "0", "1", "2", "macro avg"}),
        ("named", {"report"}),
        ("flatten", {"0", "1", "2", "macro avg"}),
    ],
)
def test_an_engine_stores_a_report_as_told(mode: Any, names: set[str]) -> None:
    engine = Engine(lambda engine, batch: batch)
    ClassificationReport(output_dict=True, metrics_result_mode=mode).attach(engine, "report")

    assert set(engine.run([(SCORES, LABELS)]).metrics) == names


# -------------------------------------------------------------------------------------------------------------- drawing


def test_a_matrix_is_drawn_with_its_numbers() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    cm = ConfusionMatrix(3)
    cm.update((SCORES, LABELS))
    _, ax = pyplot.subplots()

    assert cm.plot(ax=ax, labels=["a", "b", "c"]) is ax
    assert [text.get_text() for text in ax.texts] == ["1", "0", "0", "0", "1", "1", "0", "0", "0"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
    shares = cm.plot(normalize=True)
    assert [text.get_text() for text in shares.texts][3:6] == ["0.00", "0.50", "0.50"]
    assert (shares.get_xlabel(), shares.get_ylabel()) == ("Predicted", "True")
    with pytest.raises(ValueError, match="there must be 3 labels, got 2"):
        cm.plot(labels=["a", "b"])
    pyplot.close("all")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Missing(), *sys.meta_path])
    cm = ConfusionMatrix(3)
    cm.update((SCORES, LABELS))

    with pytest.raises(ModuleNotFoundError, match=r"ConfusionMatrix.plot needs .*'ignite-core\[plot\]'"):
        cm.plot()


class _Missing:
    """Finds no matplotlib."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

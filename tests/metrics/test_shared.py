"""What several metrics need of one output is computed once in a round, and never in another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ignite_core.engine import Engine
from ignite_core.metrics import (
    Accuracy,
    ConfusionMatrix,
    Entropy,
    Fbeta,
    Metric,
    MetricGroup,
    MutualInformation,
    PearsonCorrelation,
    Precision,
    PrecisionRecallCurve,
    R2Score,
    Recall,
    RocCurve,
    RunningAverage,
    cmAccuracy,
)
from ignite_core.metrics.classification import counts
from ignite_core.metrics.core.memo import memo_scope, memoized

LABELS = torch.tensor([0, 1, 1])
KINDS = [Accuracy, lambda: Precision(average="micro"), lambda: cmAccuracy(ConfusionMatrix(3))]


def echo() -> Engine:
    return Engine(lambda engine, batch: batch)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The scores whose classes were looked for."""
    found: list[Any] = []
    argmax = torch.Tensor.argmax
    monkeypatch.setattr(
        torch.Tensor, "argmax", lambda self, *args, **kw: found.append(self) or argmax(self, *args, **kw)
    )
    return found


# ------------------------------------------------------------------------------------------------------------- shared


def test_metrics_of_one_event_share_their_work(calls: list[Any]) -> None:
    engine, batch = echo(), (torch.eye(3), LABELS)
    precision, recall = Precision(average=False), Recall(average=False)
    (2 * precision * recall / (precision + recall)).attach(engine, "f1")
    for number, kind in enumerate(KINDS):
        kind().attach(engine, str(number))
    RunningAverage(Accuracy()).attach(engine, "average")
    engine.run([batch, batch])

    assert len(calls) == 2


@pytest.mark.parametrize("make", [lambda: Fbeta(1), lambda: MetricGroup({"a": Accuracy(), "p": Precision()})])
def test_what_is_made_of_metrics_shares_their_work_in_a_loop(make: Callable[[], Metric], calls: list[Any]) -> None:
    metric = make()
    for _ in range(3):
        metric.update((torch.eye(3), LABELS))

    assert len(calls) == 3


def test_states_are_shared_where_they_are_equal() -> None:
    pair, scores = (torch.rand(9), torch.rand(9)), (torch.rand(9), torch.arange(9) % 2)
    group = MetricGroup({"r": PearsonCorrelation(), "r2": R2Score()})
    group.update(pair)
    curves = MetricGroup({"roc": RocCurve(), "pr": PrecisionRecallCurve()})
    curves.update(scores)
    (r, r2), (roc, pr) = group._leaves(), curves._leaves()

    assert r.moments[0] is r2.moments[0]
    assert roc.predictions[0] is pr.predictions[0]
    assert roc.predictions[0].data_ptr() != scores[0].data_ptr()


def test_entropy_and_mutual_information_share_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda *args, **kwargs: asked.append(1) or softmax(*args, **kwargs))
    MetricGroup({"entropy": Entropy(), "information": MutualInformation()}).update((torch.randn(4, 3), None))

    assert len(asked) == 1


def test_tensors_are_found_in_the_output_of_a_step(calls: list[Any]) -> None:
    engine = Engine(lambda engine, batch: {"loss": 0.0, "more": (torch.eye(3), LABELS)})
    Accuracy("more").attach(engine, "accuracy")
    Precision(lambda output: output["more"]).attach(engine, "precision")
    engine.run([0])

    assert len(calls) == 1


# --------------------------------------------------------------------------------------------------------- not shared


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_remembers_nothing(kind: Callable[[], Metric]) -> None:
    y_pred, metric = torch.eye(3), kind()
    for column in range(3):  # 1, 2 and 0 of 3 are right
        y_pred.data.zero_()
        y_pred.data[:, column] = 1
        metric.update((y_pred, LABELS))

    assert metric.compute() == pytest.approx(3 / 9)


def test_a_tensor_that_an_update_changes_is_another_one() -> None:
    class Flips(Metric):
        def update(self, output: Any) -> None:
            output[0].neg_()

        def compute(self) -> None:
            return None

        def reset(self) -> None:
            pass

    before, after = Accuracy(), Accuracy()
    MetricGroup({"before": before, "flips": Flips(), "after": after}).update((torch.eye(2)[[0, 1, 0]], LABELS))

    assert (before.compute(), after.compute()) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_inference_tensors_are_not_shared() -> None:
    """Their changes are not counted."""
    first, second = Precision(average="micro"), Precision(lambda output: (output[0].neg_(), output[1]), average="micro")
    engine = echo()
    first.attach(engine, "first")
    second.attach(engine, "second")
    with torch.inference_mode():
        metrics = engine.run([(torch.eye(2)[[0, 1, 0]], LABELS)]).metrics

    assert metrics == {"first": pytest.approx(2 / 3), "second": pytest.approx(1 / 3)}


def test_what_a_transform_writes_into_its_own_buffer_is_not_shared() -> None:
    buffer = torch.zeros(3, 3)

    def turned(by: int) -> Callable[[Any], Any]:
        def transform(output: Any) -> Any:
            buffer.data.copy_(output[0].roll(by, dims=1))
            return buffer, output[1]

        return transform

    engine = echo()
    for by in range(3):
        Accuracy(turned(by)).attach(engine, str(by))

    assert engine.run([(torch.eye(3), torch.arange(3))]).metrics == {"0": 1.0, "1": 0.0, "2": 0.0}


def test_a_round_ends_with_an_exception() -> None:
    class Fails(Metric):
        def update(self, output: Any) -> None:
            raise RuntimeError("broken")

        def compute(self) -> None:
            return None

        def reset(self) -> None:
            pass

    y_pred, accuracy = torch.eye(3), Accuracy()
    with pytest.raises(RuntimeError, match="broken"):
        MetricGroup({"accuracy": Accuracy(), "fails": Fails()}).update((y_pred, LABELS))
    y_pred.data.zero_()
    accuracy.update((y_pred, LABELS))

    assert accuracy.compute() == pytest.approx(1 / 3)


@memoized
def total(values: torch.Tensor) -> torch.Tensor:
    return values.sum()


def test_a_round_within_a_round_is_another_one() -> None:
    values = torch.ones(2)
    with memo_scope((values, values)):
        outer = total(values)
        with memo_scope((values, values)):
            values.data.zero_()
            assert total(values) == 0
        assert total(values) is outer


def test_a_round_is_that_of_its_thread() -> None:
    values, found = torch.ones(2), []
    with memo_scope((values, values)):
        assert total(values) == 2
        values.data.zero_()
        thread = threading.Thread(target=lambda: found.append(total(values)))
        thread.start()
        thread.join()

    assert found == [0]


def test_classes_are_those_of_argmax_in_a_round_and_outside() -> None:
    scores = torch.eye(3)
    with memo_scope((scores, LABELS)):
        assert counts.predicted_classes(scores) is counts.predicted_classes(scores)
    assert counts.predicted_classes(scores) is not counts.predicted_classes(scores)

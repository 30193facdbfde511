"""Scores of scikit-learn as metrics: what scikit-learn itself says of all samples at once, on any number of ranks."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor, nn

import ignite_core.distributed as idist
from ignite_contrib.sklearn import SklearnScore
from ignite_core.engine import Engine, create_supervised_evaluator
from ignite_core.exceptions import NotComputableError
from ignite_core.testing import run_distributed

SAMPLES = 41


def drawn(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def labels(classes: int) -> Tensor:
    return torch.randint(classes, (SAMPLES,), generator=torch.Generator().manual_seed(1))


CLASSES = drawn(SAMPLES, 3).softmax(1)
TWO = drawn(SAMPLES, 2) * 4 - 2
RANKED = drawn(SAMPLES) * 4 - 2
MANY = drawn(SAMPLES, 4).round().long()
ALSO_MANY = labels(2).unsqueeze(1) ^ MANY

Row = tuple[Any, Tensor, Tensor, Callable[[Any, Any], float]]

ROWS: list[Row] = [
    ("f1_macro", CLASSES, labels(3), lambda p, y: metrics.f1_score(y, p.argmax(1), average="macro")),
    ("accuracy", CLASSES, labels(3), lambda p, y: metrics.accuracy_score(y, p.argmax(1))),
    ("balanced_accuracy", labels(3), labels(3).roll(3), lambda p, y: metrics.balanced_accuracy_score(y, p)),
    ("matthews_corrcoef", TWO, labels(2), lambda p, y: metrics.matthews_corrcoef(y, p.argmax(1))),
    ("f1", TWO, labels(2), lambda p, y: metrics.f1_score(y, p.argmax(1))),
    ("f1", labels(2), labels(2).roll(1), lambda p, y: metrics.f1_score(y, p)),
    ("neg_log_loss", CLASSES, labels(3), lambda p, y: -metrics.log_loss(y, p)),
    ("neg_log_loss", drawn(SAMPLES), labels(2), lambda p, y: -metrics.log_loss(y, p)),
    ("roc_auc", RANKED, labels(2), lambda p, y: metrics.roc_auc_score(y, p)),
    ("roc_auc", TWO, labels(2), lambda p, y: metrics.roc_auc_score(y, p[:, 1] - p[:, 0])),
    ("roc_auc_ovr", CLASSES, labels(3), lambda p, y: metrics.roc_auc_score(y, p, multi_class="ovr")),
    ("average_precision", RANKED, labels(2), lambda p, y: metrics.average_precision_score(y, p)),
    ("f1_micro", MANY, ALSO_MANY, lambda p, y: metrics.f1_score(y, p, average="micro")),
    ("jaccard_macro", MANY, ALSO_MANY, lambda p, y: metrics.jaccard_score(y, p, average="macro")),
    ("r2", RANKED, drawn(SAMPLES), lambda p, y: metrics.r2_score(y, p)),
    ("neg_mean_squared_error", TWO, drawn(SAMPLES, 2), lambda p, y: -metrics.mean_squared_error(y, p)),
    ("neg_median_absolute_error", RANKED, drawn(SAMPLES), lambda p, y: -metrics.median_absolute_error(y, p)),
    (
        metrics.make_scorer(metrics.fbeta_score, beta=2, average="macro"),
        CLASSES,
        labels(3),
        lambda p, y: metrics.fbeta_score(y, p.argmax(1), beta=2, average="macro"),
    ),
]
IDS = [f"{number}-{row[0] if isinstance(row[0], str) else 'made'}" for number, row in enumerate(ROWS)]


def expected(row: Row) -> float:
    _, y_pred, y, reference = row
    return float(reference(y_pred.numpy(), y.numpy()))


@pytest.mark.parametrize("row", ROWS, ids=IDS)
@pytest.mark.parametrize("size", [1, 7, SAMPLES])
def test_the_value_is_that_of_scikit_learn_for_all_samples_whatever_the_batches(row: Row, size: int) -> None:
    scoring, y_pred, y, _ = row
    metric = SklearnScore(scoring)
    for batch in zip(y_pred.split(size), y.split(size), strict=True):
        metric.update(batch)

    assert metric.compute() == pytest.approx(expected(row), rel=1e-6)


def on_ranks(uneven: list[int]) -> list[float]:
    """Each rank has its part of the samples, of another size."""
    rank = idist.get_rank()
    values = []
    for scoring, y_pred, y, _ in ROWS:
        metric = SklearnScore(scoring)
        part = slice(sum(uneven[:rank]), sum(uneven[: rank + 1]))
        if uneven[rank]:
            metric.update((y_pred[part], y[part]))
        values.append(metric.compute())
    return values


@pytest.mark.parametrize("parts", [[10, 0, 31]], ids=str)
def test_on_any_number_of_ranks_it_is_that_of_all_samples(parts: list[int]) -> None:
    for values in run_distributed(on_ranks, parts, ranks=len(parts)):
        assert values == pytest.approx([expected(row) for row in ROWS], rel=1e-6)


def fail_on_ranks() -> tuple[str, int]:
    metric = SklearnScore("roc_auc")
    metric.update((torch.tensor([0.1, 0.2]), torch.tensor([idist.get_rank(), 2])))
    with pytest.raises(ValueError, match="multi_class") as caught:
        metric.compute()
    return str(caught.value), idist.all_reduce(1)


def test_what_a_score_raises_it_raises_on_all_ranks() -> None:
    first, second = run_distributed(fail_on_ranks)

    assert first == second
    assert first[1] == 2


def test_it_is_attached_like_any_metric() -> None:
    model = nn.Identity()
    scores = {"f1": SklearnScore("f1_macro"), "auc": SklearnScore("roc_auc_ovr")}
    evaluator = create_supervised_evaluator(model, metrics=scores)
    data = list(zip(CLASSES.split(8), labels(3).split(8), strict=True))

    found = dict(evaluator.run(data).metrics)
    assert found["f1"] == pytest.approx(expected(ROWS[0]))
    assert found["auc"] == pytest.approx(expected(ROWS[10]))
    assert evaluator.run(data[:2]).metrics["f1"] != found["f1"], "a new run begins anew"


def test_a_label_that_did_not_occur_is_known_all_the_same() -> None:
    """Among the labels of all values for each class, and of zero and one."""
    metric = SklearnScore("neg_log_loss")
    metric.update((torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]), torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="labels"):  # scikit-learn itself wants to be told which
        metric.compute()

    metric = SklearnScore("f1")
    metric.update((torch.tensor([0, 1]), torch.tensor([0, 0])))
    assert metric.compute() == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_values_of_any_precision_are_taken(dtype: torch.dtype) -> None:
    metric = SklearnScore("f1_macro")
    metric.update((CLASSES.to(dtype), labels(3)))

    y_pred = CLASSES.to(dtype).float().argmax(1).numpy()
    assert metric.compute() == metrics.f1_score(labels(3).numpy(), y_pred, average="macro")


def test_it_is_saved_copied_and_reset_like_any_metric() -> None:
    metric = SklearnScore("accuracy")
    metric.update((torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])))
    other = SklearnScore("accuracy")
    other.load_state_dict(metric.state_dict())
    copy = pickle.loads(pickle.dumps(metric))

    assert metric.compute() == other.compute() == copy.compute() == pytest.approx(2 / 3)
    metric.reset()
    with pytest.raises(NotComputableError):
        metric.compute()


def test_a_transform_makes_probabilities_of_what_a_model_gives() -> None:
    logits = CLASSES.log() + 3
    metric = SklearnScore("roc_auc_ovr", output_transform=lambda output: (output[0].softmax(1), output[1]))
    evaluator = Engine(lambda engine, batch: batch)
    metric.attach(evaluator, "auc")

    assert evaluator.run([(logits, labels(3))]).metrics["auc"] == pytest.approx(expected(ROWS[10]))


def test_a_score_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="'f1_makro' is not a valid scoring value"):
        SklearnScore("f1_makro")
    with pytest.raises(TypeError, match=r"^SklearnScore: scoring must be the name of a score, or a scorer, got None$"):
        SklearnScore(None)


def test_it_warns_of_nothing_while_batches_lack_a_class() -> None:
    """The function is called once, with everything."""
    calls: list[int] = []

    def count(y: Any, y_pred: Any) -> float:
        calls.append(len(y))
        return float(np.mean(y == y_pred))

    metric = SklearnScore(metrics.make_scorer(count))
    for _ in range(3):
        metric.update((torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long)))
    assert metric.compute() == 1.0
    assert calls == [6]


def test_a_score_is_better_the_higher_it_is() -> None:
    assert SklearnScore("neg_mean_squared_error").higher_is_better is True

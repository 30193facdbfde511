"""Classification by counts: Precision, Recall, F-scores, confusion matrices and what follows from them, top k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    classification_report,
    confusion_matrix,
    f1_score,
    fbeta_score,
    jaccard_score,
    multilabel_confusion_matrix,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from ignite_core.metrics import (
    ClassificationReport,
    ConfusionMatrix,
    DiceCoefficient,
    Fbeta,
    IoU,
    JaccardIndex,
    MetricGroup,
    MultiLabelConfusionMatrix,
    Precision,
    Recall,
    TopKCategoricalAccuracy,
    cmAccuracy,
    cmPrecision,
    cmRecall,
    mIoU,
)
from tests.metrics.table import Row

Data = tuple[torch.Tensor, ...]


def scores(generator: torch.Generator, count: int) -> Data:
    """Of three classes, which all occur and are predicted."""
    y = torch.randint(3, (count,), generator=generator)
    y_pred = torch.randn(count, 3, generator=generator)
    y[:3] = torch.tensor([2, 0, 1])
    y_pred[:3] = torch.eye(3) * 9
    return y_pred, y


def scores_of_four(generator: torch.Generator, count: int) -> Data:
    """The last class is nowhere."""
    y_pred, y = scores(generator, count)
    return torch.nn.functional.pad(y_pred, (0, 1), value=-99.0), y


def images(generator: torch.Generator, count: int) -> Data:
    """Scores of three classes for each of 4 pixels, some of which are not labelled."""
    y_pred, y = torch.randn(count, 3, 2, 2, generator=generator), torch.randint(3, (count, 2, 2), generator=generator)
    ignored = torch.rand(count, 2, 2, generator=generator) < 0.2
    ignored[:2] = False
    y[0], y[1] = torch.tensor([[0, 1], [2, 0]]), torch.tensor([[0, 1], [2, 0]])
    y_pred[0] = torch.nn.functional.one_hot(y[0], 3).permute(2, 0, 1) * 9
    return y_pred, y.masked_fill(ignored, 255)


def labelled_images(generator: torch.Generator, count: int) -> Data:
    y_pred, y = images(generator, count)
    return y_pred, y % 3


def binary(generator: torch.Generator, count: int) -> Data:
    y_pred, y = (torch.randint(2, (count,), generator=generator) for _ in range(2))
    y_pred[:4], y[:4] = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    return y_pred, y


def binary_floats(generator: torch.Generator, count: int) -> Data:
    y_pred, y = binary(generator, count)
    return y_pred.float().unsqueeze(1), y.float()


def tags(generator: torch.Generator, count: int) -> Data:
    """Three labels; each sample has and is given one at least, each label is had and given."""
    y_pred, y = (torch.randint(2, (count, 3), generator=generator) for _ in range(2))
    y_pred[:, 1], y[:, 2] = 1, 1
    y_pred[:3], y[:3] = torch.eye(3).long(), torch.eye(3).long().flip(0)
    return y_pred, y


def few_tags(generator: torch.Generator, count: int) -> Data:
    """Some samples have no label, or are given none; the label 1 is never given, the label 2 never had."""
    y_pred, y = (torch.randint(2, (count, 4), generator=generator) for _ in range(2))
    y_pred[:, 1], y[:, 2] = 0, 0
    y_pred[::3], y[::4] = 0, 0
    return y_pred, y


def tagged_pixels(generator: torch.Generator, count: int) -> Data:
    y_pred, y = tags(generator, count * 2)
    return y_pred.view(count, 2, 3).transpose(1, 2), y.view(count, 2, 3).transpose(1, 2)


def many_scores(generator: torch.Generator, count: int) -> Data:
    return torch.randn(count, 12, generator=generator), torch.randint(12, (count,), generator=generator)


def tied(classes: int) -> Callable[[torch.Generator, int], Data]:
    """Scores of which many are equal."""

    def drawn(generator: torch.Generator, count: int) -> Data:
        y_pred = torch.randint(4, (count, classes), generator=generator).float()
        return y_pred, torch.randint(classes, (count,), generator=generator)

    return drawn


def of_classes(score: Callable[..., Any], num_classes: int = 3, **options: Any) -> Callable[..., Any]:
    """A function of scikit-learn on the largest scores."""
    return lambda y_pred, y: score(
        y.flatten(), y_pred.argmax(1).flatten(), labels=list(range(num_classes)), zero_division=0.0, **options
    )


def of_labels(score: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A function of scikit-learn on zeros and ones; further dimensions are samples."""

    def reference(y_pred: torch.Tensor, y: torch.Tensor) -> Any:
        if y.ndim == 3:
            y_pred, y = (one.transpose(1, 2).reshape(-1, one.shape[1]) for one in (y_pred, y))
        return score(y, y_pred, **{"zero_division": 0.0, **options})

    return reference


def matrix_of(y_pred: torch.Tensor, y: torch.Tensor) -> np.ndarray[Any, Any]:
    """Counted by scikit-learn, without labels that are out of range."""
    true, predicted = y.flatten().numpy(), y_pred.argmax(1).flatten().numpy()
    return confusion_matrix(true[true < 3], predicted[true < 3], labels=[0, 1, 2])


def of_labelled(score: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A function of scikit-learn, of the pixels that are labelled."""

    def reference(y_pred: torch.Tensor, y: torch.Tensor) -> Any:
        true, predicted = y.flatten().numpy(), y_pred.argmax(1).flatten().numpy()
        return score(true[true < 3], predicted[true < 3], **options)

    return reference


def top_k(y_pred: torch.Tensor, y: torch.Tensor, k: int) -> float:
    """By sorting; of equal scores the first class is first."""
    order = np.argsort(-y_pred.numpy(), axis=1, kind="stable")[:, :k]
    return float(np.mean([label in row for label, row in zip(y.tolist(), order.tolist(), strict=True)]))


def report_of(y_pred: torch.Tensor, y: torch.Tensor, **options: Any) -> dict[str, dict[str, float]]:
    found = classification_report(y, y_pred, output_dict=True, zero_division=0.0, **options)
    wanted = [name for name in found if name.isdigit()] + ["macro avg"]
    return {name: {key: found[name][key] for key in ("precision", "recall", "f1-score")} for name in wanted}


def precision_recall_f1() -> MetricGroup:
    precision, recall = Precision(), Recall()
    return MetricGroup({"precision": precision, "recall": recall, "f1": Fbeta(1, precision=precision, recall=recall)})


# predicted 0 1 1 2 0 1, right 1 2 1 of predicted 2 3 1 of true 1 3 2
CLASSES = (torch.eye(3)[[0, 1, 1, 2, 0, 1]], torch.tensor([0, 1, 2, 2, 1, 1]))
# right 2 of predicted 3 of true 4; of the class 0, right 0 of predicted 2 of true 1
BINARY = (torch.tensor([1, 0, 1, 0, 1]), torch.tensor([1, 1, 1, 1, 0]))
# right 1 0 1 of predicted 2 0 1 of true 1 1 2; by sample right 2 0 of predicted 2 1 of true 3 1
TAGS = (torch.tensor([[1, 0, 1], [1, 0, 0]]), torch.tensor([[1, 1, 1], [0, 0, 1]]))
IGNORED = (CLASSES[0], torch.tensor([0, 1, 2, 2, 1, 255]))

PRECISION_RECALL = [
    row
    for average, sklearn_average, precision, recall in [
        (False, None, [1 / 2, 2 / 3, 1], [1, 2 / 3, 1 / 2]),
        ("macro", "macro", 13 / 18, 13 / 18),
        ("weighted", "weighted", 3 / 4, 2 / 3),
        ("micro", "micro", 2 / 3, 2 / 3),
    ]
    for row in [
        Row(
            f"Precision multiclass {average}",
            lambda average=average: Precision(average=average),
            scores,
            of_classes(precision_score, average=sklearn_average),
            (CLASSES, precision),
        ),
        Row(
            f"Recall multiclass {average}",
            lambda average=average: Recall(average=average),
            scores,
            of_classes(recall_score, average=sklearn_average),
            (CLASSES, recall),
        ),
    ]
]
OF_BINARY = [
    row
    for average, options, precision, recall in [
        (False, {}, 2 / 3, 1 / 2),
        (None, {"average": None}, [0, 2 / 3], [0, 1 / 2]),
        (True, {"average": "macro"}, 1 / 3, 1 / 4),
        ("weighted", {"average": "weighted"}, 8 / 15, 2 / 5),
        ("micro", {"average": "micro"}, 2 / 5, 2 / 5),
    ]
    for row in [
        Row(
            f"Precision binary {average}",
            lambda average=average: Precision(average=average),
            binary,
            of_labels(precision_score, **options),
            (BINARY, precision),
        ),
        Row(
            f"Recall binary {average}",
            lambda average=average: Recall(average=average),
            binary,
            of_labels(recall_score, **options),
            (BINARY, recall),
        ),
    ]
]
MULTILABEL = [
    row
    for average, sklearn_average, precision, recall in [
        (False, None, [1 / 2, 0, 1], [1, 0, 1 / 2]),
        ("macro", "macro", 1 / 2, 1 / 2),
        ("weighted", "weighted", 5 / 8, 1 / 2),
        ("micro", "micro", 2 / 3, 1 / 2),
        ("samples", "samples", 1 / 2, 1 / 3),
    ]
    for row in [
        Row(
            f"Precision multilabel {average}",
            lambda average=average: Precision(average=average, is_multilabel=True),
            tags,
            of_labels(precision_score, average=sklearn_average),
            (TAGS, precision),
        ),
        Row(
            f"Recall multilabel {average}",
            lambda average=average: Recall(average=average, is_multilabel=True),
            tags,
            of_labels(recall_score, average=sklearn_average),
            (TAGS, recall),
        ),
        Row(
            f"Precision multilabel pixels {average}",
            lambda average=average: Precision(average=average, is_multilabel=True),
            tagged_pixels,
            of_labels(precision_score, average=sklearn_average),
            (tuple(one.T.unsqueeze(0) for one in TAGS), precision),
        ),
    ]
]
# the label 1 is never given: what takes the place of its precision
ZERO_DIVISION = [
    Row(
        f"{kind.__name__} zero_division={zero_division} {average}",
        lambda kind=kind, zero_division=zero_division, average=average: kind(
            average=average, is_multilabel=True, zero_division=zero_division
        ),
        few_tags,
        of_labels(score, average=average, zero_division=1.0 if zero_division == 1 else np.nan),
        (TAGS if kind is Precision else (TAGS[1], TAGS[0]), expected),
    )
    for kind, score in ((Precision, precision_score), (Recall, recall_score))
    for zero_division, average, expected in [
        (1, None, [1 / 2, 1, 1]),
        (1, "macro", 5 / 6),
        ("nan", None, [1 / 2, torch.nan, 1]),
        ("nan", "macro", 3 / 4),
        ("nan", "micro", 2 / 3),
        ("nan", "samples", 1 / 2),
        (1, "samples", 1 / 2),
    ]
] + [
    Row(
        "Precision zero_division=nan weighted",
        lambda: Precision(average="weighted", is_multilabel=True, zero_division="nan"),
        few_tags,
        of_labels(precision_score, average="weighted", zero_division=np.nan),
        (TAGS, 5 / 6),
    )
]
FBETA = [
    Row("Fbeta 1", lambda: Fbeta(1), scores, of_classes(f1_score, average="macro"), (CLASSES, 2 / 3)),
    Row(
        "Fbeta 2 of each class",
        lambda: Fbeta(2, average=False),
        scores,
        of_classes(fbeta_score, beta=2, average=None),
        (CLASSES, [5 / 6, 2 / 3, 5 / 9]),
    ),
    Row("Fbeta 1 binary", lambda: Fbeta(1.0), binary, of_labels(f1_score), (BINARY, 4 / 7)),
    Row(
        "Fbeta 0.5 of both classes",
        lambda: Fbeta(0.5, average=False, precision=Precision(average=None), recall=Recall(average=None)),
        binary,
        of_labels(fbeta_score, beta=0.5, average=None),
        (BINARY, [0, 5 / 8]),
    ),
    Row(
        "Fbeta 1 multilabel",
        lambda: Fbeta(1, is_multilabel=True),
        few_tags,
        of_labels(f1_score, average="macro"),
        (TAGS, 4 / 9),
    ),
    Row(
        "Fbeta 1 zero_division=nan",
        lambda: Fbeta(1, average=False, is_multilabel=True, zero_division="nan"),
        few_tags,
        of_labels(f1_score, average=None, zero_division=np.nan),
        (TAGS, [2 / 3, 0, 2 / 3]),
    ),
]
MATRICES = [
    Row(
        "ConfusionMatrix",
        lambda: ConfusionMatrix(3),
        scores,
        lambda y_pred, y: confusion_matrix(y, y_pred.argmax(1), labels=[0, 1, 2]),
        (CLASSES, [[1, 0, 0], [1, 2, 0], [0, 1, 1]]),
    ),
    Row(
        "ConfusionMatrix ignores labels out of range",
        lambda: ConfusionMatrix(3),
        images,
        matrix_of,
        (IGNORED, [[1, 0, 0], [1, 1, 0], [0, 1, 1]]),
    ),
    Row(
        "ConfusionMatrix samples",
        lambda: ConfusionMatrix(3, average="samples"),
        images,
        lambda y_pred, y: matrix_of(y_pred, y) / len(y),
        (IGNORED, [[1 / 6, 0, 0], [1 / 6, 1 / 6, 0], [0, 1 / 6, 1 / 6]]),
    ),
    Row(
        "ConfusionMatrix recall",
        lambda: ConfusionMatrix(3, average="recall"),
        images,
        of_labelled(confusion_matrix, labels=[0, 1, 2], normalize="true"),
        (CLASSES, [[1, 0, 0], [1 / 3, 2 / 3, 0], [0, 1 / 2, 1 / 2]]),
    ),
    Row(
        "ConfusionMatrix precision",
        lambda: ConfusionMatrix(3, average="precision"),
        images,
        of_labelled(confusion_matrix, labels=[0, 1, 2], normalize="pred"),
        (CLASSES, [[1 / 2, 0, 0], [1 / 2, 2 / 3, 0], [0, 1 / 3, 1]]),
    ),
    Row(
        "IoU",
        lambda: IoU(ConfusionMatrix(3)),
        images,
        of_labelled(jaccard_score, labels=[0, 1, 2], average=None),
        (CLASSES, [1 / 2, 1 / 2, 1 / 2]),
    ),
    Row(
        "IoU of a class that is nowhere",
        lambda: IoU(ConfusionMatrix(4), zero_division="nan"),
        scores_of_four,
        lambda y_pred, y: [*jaccard_score(y, y_pred.argmax(1), labels=[0, 1, 2], average=None), np.nan],
        ((torch.eye(4)[:3], torch.tensor([0, 1, 1])), [1, 1 / 2, 0, torch.nan]),
    ),
    Row(
        "mIoU",
        lambda: mIoU(ConfusionMatrix(3, average="samples"), ignore_index=0),
        images,
        of_labelled(jaccard_score, labels=[1, 2], average="macro"),
        (IGNORED, 5 / 12),
    ),
    Row(
        "JaccardIndex",
        lambda: JaccardIndex(ConfusionMatrix(3), ignore_index=1),
        images,
        of_labelled(jaccard_score, labels=[0, 2], average=None),
        (IGNORED, [1 / 2, 1 / 2]),
    ),
    Row(
        "DiceCoefficient",
        lambda: DiceCoefficient(ConfusionMatrix(3)),
        images,
        of_labelled(f1_score, labels=[0, 1, 2], average=None),
        (IGNORED, [2 / 3, 1 / 2, 2 / 3]),
    ),
    Row(
        "DiceCoefficient without a class",
        lambda: DiceCoefficient(ConfusionMatrix(3), ignore_index=2),
        images,
        of_labelled(f1_score, labels=[0, 1], average=None),
        (IGNORED, [2 / 3, 1 / 2]),
    ),
    Row(
        "cmAccuracy",
        lambda: cmAccuracy(ConfusionMatrix(3)),
        images,
        of_labelled(accuracy_score),
        (IGNORED, 3 / 5),
    ),
    Row(
        "cmPrecision",
        lambda: cmPrecision(ConfusionMatrix(3)),
        images,
        of_labelled(precision_score, average="macro"),
        (CLASSES, 13 / 18),
    ),
    Row(
        "cmPrecision of each class",
        lambda: cmPrecision(ConfusionMatrix(3, average="precision"), average=False),
        images,
        of_labelled(precision_score, average=None),
        (CLASSES, [1 / 2, 2 / 3, 1]),
    ),
    Row(
        "cmRecall",
        lambda: cmRecall(ConfusionMatrix(3)),
        images,
        of_labelled(balanced_accuracy_score),
        (IGNORED, 2 / 3),
    ),
    Row(
        "cmRecall of each class",
        lambda: cmRecall(ConfusionMatrix(3, average="recall"), average=False),
        images,
        of_labelled(recall_score, average=None),
        (CLASSES, [1, 2 / 3, 1 / 2]),
    ),
    Row(
        "MultiLabelConfusionMatrix",
        lambda: MultiLabelConfusionMatrix(3),
        tags,
        lambda y_pred, y: multilabel_confusion_matrix(y, y_pred),
        (TAGS, [[[0, 1], [0, 1]], [[1, 0], [1, 0]], [[0, 0], [1, 1]]]),
    ),
    Row(
        "MultiLabelConfusionMatrix normalized",
        lambda: MultiLabelConfusionMatrix(3, normalized=True),
        tagged_pixels,
        lambda y_pred, y: (
            multilabel_confusion_matrix(*(one.transpose(1, 2).reshape(-1, 3) for one in (y, y_pred))) / (2 * len(y))
        ),
        (TAGS, [[[0, 1 / 2], [0, 1 / 2]], [[1 / 2, 0], [1 / 2, 0]], [[0, 0], [1 / 2, 1 / 2]]]),
    ),
]
TOP_K = [
    Row(
        "TopKCategoricalAccuracy",
        TopKCategoricalAccuracy,
        many_scores,
        lambda y_pred, y: top_k_accuracy_score(y, y_pred, k=5, labels=range(12)),
        ((torch.arange(12.0).expand(3, 12), torch.tensor([6, 7, 11])), 2 / 3),
    ),
    Row(
        "TopKCategoricalAccuracy of many classes",
        lambda: TopKCategoricalAccuracy(3),
        lambda generator, count: (
            torch.randn(count, 40, generator=generator),
            torch.randint(40, (count,), generator=generator),
        ),
        lambda y_pred, y: top_k_accuracy_score(y, y_pred, k=3, labels=range(40)),
        ((torch.arange(40.0).expand(3, 40), torch.tensor([36, 37, 39])), 2 / 3),
    ),
    Row(
        "TopKCategoricalAccuracy tied",
        lambda: TopKCategoricalAccuracy(2),
        tied(6),
        lambda y_pred, y: top_k(y_pred, y, 2),
        ((torch.tensor([[1.0, 1.0, 1.0]] * 3), torch.tensor([0, 1, 2])), 2 / 3),
    ),
    Row(
        "TopKCategoricalAccuracy of many classes tied",
        lambda: TopKCategoricalAccuracy(9),
        tied(40),
        lambda y_pred, y: top_k(y_pred, y, 9),
        ((torch.ones(4, 40), torch.tensor([0, 8, 9, 39])), 1 / 2),
    ),
    Row(
        "TopKCategoricalAccuracy of pixels",
        lambda: TopKCategoricalAccuracy(2),
        labelled_images,
        lambda y_pred, y: top_k(y_pred.permute(0, 2, 3, 1).reshape(-1, 3), y.flatten(), 2),
        ((torch.tensor([[[1.0, 1.0], [2.0, 2.0], [3.0, 0.0]]]), torch.tensor([[0, 0]])), 1 / 2),
    ),
]
REPORTS = [
    Row(
        "ClassificationReport",
        lambda: ClassificationReport(output_dict=True),
        scores,
        lambda y_pred, y: report_of(y_pred.argmax(1), y, labels=[0, 1, 2]),
        (
            CLASSES,
            {
                "0": {"precision": 1 / 2, "recall": 1, "f1-score": 2 / 3},
                "1": {"precision": 2 / 3, "recall": 2 / 3, "f1-score": 2 / 3},
                "2": {"precision": 1, "recall": 1 / 2, "f1-score": 2 / 3},
                "macro avg": {"precision": 13 / 18, "recall": 13 / 18, "f1-score": 2 / 3},
            },
        ),
    ),
    Row(
        "ClassificationReport binary",
        lambda: ClassificationReport(output_dict=True),
        binary,
        report_of,
        (
            BINARY,
            {
                "0": {"precision": 0, "recall": 0, "f1-score": 0},
                "1": {"precision": 2 / 3, "recall": 1 / 2, "f1-score": 4 / 7},
                "macro avg": {"precision": 1 / 3, "recall": 1 / 4, "f1-score": 2 / 7},
            },
        ),
    ),
    Row(
        "ClassificationReport multilabel",
        lambda: ClassificationReport(output_dict=True, is_multilabel=True),
        few_tags,
        report_of,
        (
            TAGS,
            {
                "0": {"precision": 1 / 2, "recall": 1, "f1-score": 2 / 3},
                "1": {"precision": 0, "recall": 0, "f1-score": 0},
                "2": {"precision": 1, "recall": 1 / 2, "f1-score": 2 / 3},
                "macro avg": {"precision": 1 / 2, "recall": 1 / 2, "f1-score": 4 / 9},
            },
        ),
    ),
]
ROWS = [
    *PRECISION_RECALL,
    *OF_BINARY,
    *MULTILABEL,
    *ZERO_DIVISION,
    *FBETA,
    *MATRICES,
    *TOP_K,
    *REPORTS,
    Row(
        "Precision of pixels",
        lambda: Precision(average="weighted"),
        labelled_images,
        of_classes(precision_score, average="weighted"),
        (CLASSES, 3 / 4),
    ),
    Row("Precision of floats", Precision, binary_floats, of_labels(precision_score), (BINARY, 2 / 3)),
    Row(
        "Precision, Recall and F1 together",
        precision_recall_f1,
        scores,
        lambda y_pred, y: {
            "precision": of_classes(precision_score, average=None)(y_pred, y),
            "recall": of_classes(recall_score, average=None)(y_pred, y),
            "f1": of_classes(f1_score, average="macro")(y_pred, y),
        },
        (CLASSES, {"precision": [1 / 2, 2 / 3, 1], "recall": [1, 2 / 3, 1 / 2], "f1": 2 / 3}),
    ),
]

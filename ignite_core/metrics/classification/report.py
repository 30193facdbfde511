"""Precision, recall and F-score of each class and their means, in one mapping."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import mean_of_defined
from ignite_core.metrics.classification.fbeta import fbeta_score
from ignite_core.metrics.classification.precision_recall import Precision, Recall
from ignite_core.metrics.core.composite import MetricsLambda
from ignite_core.metrics.core.metric import OutputTransform, ResultMode, unchanged

__all__ = ["ClassificationReport"]


def ClassificationReport(  # noqa: N802
    beta: float = 1,
    output_dict: bool = False,
    output_transform: OutputTransform = unchanged,
    device: str | torch.device | None = None,
    is_multilabel: bool = False,
    labels: Sequence[str] | None = None,
    metrics_result_mode: ResultMode = "both",
    *,
    zero_division: Literal[0, 1, "nan"] = 0,
) -> MetricsLambda:
    """Precision, recall and F-score of each class, and their unweighted means, ``"macro avg"``.

    The input is that of :class:`Precision`; for binary data the values are those of both classes. Each batch is counted
    once. The value is a dict ``{label: {"precision": ..., "recall": ..., "f1-score": ...}}`` of numbers, or the same as
    JSON.

    Args:
        beta: How many times as important recall is as precision; ``"f1-score"`` is named after it.
        output_dict: Whether to return a dict; otherwise JSON text.
        output_transform: Maps ``engine.state.output`` to the input.
        device: As for :class:`~ignite_core.metrics.Metric`.
        is_multilabel: Whether a sample may have several labels.
        labels: Names of the classes. Default: their numbers.
        metrics_result_mode: As for :class:`~ignite_core.metrics.Metric`: "named", "flatten" or "both".
        zero_division: As for :class:`Precision`.

    Raises:
        ValueError: If ``beta`` is not positive or ``metrics_result_mode`` is invalid; by ``compute`` if the number of
            labels is not the number of classes.

    Example:
        >>> report = ClassificationReport(output_dict=True, labels=["cat", "dog"])
        >>> report.update((torch.tensor([1, 0, 1, 0]), torch.tensor([1, 1, 1, 0])))
        >>> {name: round(value["f1-score"], 3) for name, value in report.compute().items()}
        {'cat': 0.667, 'dog': 0.8, 'macro avg': 0.733}
    """
    if not beta > 0:
        raise ValueError(f"ClassificationReport: beta must be positive, got {beta}")
    options: dict[str, Any] = {"average": None, "is_multilabel": is_multilabel, "zero_division": zero_division}
    options |= {"output_transform": output_transform, "device": device}
    names = None if labels is None else tuple(labels)
    return MetricsLambda(
        _report,
        Precision(**options),
        Recall(**options),
        metrics_result_mode=metrics_result_mode,
        beta=beta,
        labels=names,
        as_text=not output_dict,
    )


def _report(precision: Tensor, recall: Tensor, beta: float, labels: tuple[str, ...] | None, as_text: bool) -> Any:
    score = torch.as_tensor(fbeta_score(precision, recall, beta, average=False))
    columns = {"precision": precision, "recall": recall, f"f{beta}-score": score}
    names = [str(number) for number in range(len(precision))] if labels is None else labels
    if len(names) != len(precision):
        raise ValueError(
            f"ClassificationReport.compute: there are {len(precision)} classes, but labels for {len(names)}"
        )
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    found = {name: dict(zip(columns, row, strict=True)) for name, row in zip(names, rows, strict=True)}
    found["macro avg"] = {name: mean_of_defined(column).item() for name, column in columns.items()}
    return json.dumps(found) if as_text else found

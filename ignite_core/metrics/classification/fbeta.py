"""The weighted harmonic mean of precision and recall."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import mean_of_defined, plain
from ignite_core.metrics.classification.precision_recall import Precision, PrecisionRecall, Recall
from ignite_core.metrics.core.composite import MetricsLambda
from ignite_core.metrics.core.metric import OutputTransform, unchanged

__all__ = ["Fbeta", "fbeta_score"]


def Fbeta(  # noqa: N802
    beta: float,
    average: bool = True,
    precision: Precision | None = None,
    recall: Recall | None = None,
    output_transform: OutputTransform | None = None,
    device: str | torch.device | None = None,
    *,
    is_multilabel: bool = False,
    zero_division: Literal[0, 1, "nan"] = 0,
) -> MetricsLambda:
    r"""F-score, :math:`F_\beta = \frac{(1 + \beta^2) P R}{\beta^2 P + R}` of precision and recall.

    It is an expression of :class:`Precision` and :class:`Recall`, takes the same input, and counts each batch once. A
    class that is neither true nor predicted has the value ``zero_division``; any other class without a correct
    prediction has the value 0.

    Args:
        beta: How many times as important recall is as precision; positive.
        average: Whether to return the unweighted mean over classes, or the value of each class. For binary data the
            value is that of class 1.
        precision: Has ``average=False``, or None for both classes of binary data. Default: created with the options of
            ``recall``, if given.
        recall: Like ``precision``.
        output_transform: Maps ``engine.state.output`` to the input, if neither metric is given.
        device: As for :class:`~ignite_core.metrics.Metric`, if neither metric is given.
        is_multilabel: As for :class:`Precision`, if neither metric is given.
        zero_division: As for :class:`Precision`, if neither metric is given.

    Raises:
        ValueError: If ``beta`` is not positive, a given metric averages, the two have different options, or options are
            passed together with a metric.
        TypeError: If ``precision`` or ``recall`` has the wrong type.

    References:
        Van Rijsbergen, 1979, *Information Retrieval*, 2nd ed., chapter 7.

    Example:
        >>> f1 = Fbeta(1)
        >>> f1.update((torch.tensor([1, 0, 1, 0]), torch.tensor([1, 1, 1, 0])))
        >>> f1.compute()
        0.8
    """
    if not beta > 0:
        raise ValueError(f"Fbeta: beta must be positive, got {beta}")
    given = [metric for metric in (precision, recall) if metric is not None]
    for name, metric, kind in (("precision", precision, Precision), ("recall", recall, Recall)):
        if metric is not None and not isinstance(metric, kind):
            raise TypeError(f"Fbeta: {name} must be a {kind.__name__}, got {type(metric).__name__}")
        if metric is not None and metric.average not in (False, None):
            raise ValueError(f"Fbeta: {name} must have average=False or None, got average={metric.average!r}")
    if given and (output_transform is not None or device is not None or is_multilabel or zero_division != 0):
        raise ValueError(
            "Fbeta: output_transform, device, is_multilabel and zero_division belong to precision and recall where "
            "these are given"
        )
    if len(given) == 2 and _options(given[0]) != _options(given[1]):
        raise ValueError(
            f"Fbeta: precision and recall must be alike, got {_options(given[0])} and {_options(given[1])}"
        )
    options: dict[str, Any]
    if given:
        options = {name: getattr(given[0], name) for name in ("average", "is_multilabel", "zero_division", "validate")}
        options |= {"output_transform": given[0]._output_transform, "device": given[0]._requested_device}
        options["skip_unrolling"] = given[0]._skip_unrolling
    else:
        options = {"is_multilabel": is_multilabel, "zero_division": zero_division, "device": device}
        options["output_transform"] = unchanged if output_transform is None else output_transform
    precision = Precision(**options) if precision is None else precision
    recall = Recall(**options) if recall is None else recall
    score = MetricsLambda(fbeta_score, precision, recall, beta=beta, average=average)
    score.higher_is_better = True
    return score


def fbeta_score(precision: float | Tensor, recall: float | Tensor, beta: float, average: bool) -> float | Tensor:
    """The F-score of each class, or the mean of those that are not NaN."""
    p, r = (one if isinstance(one, Tensor) else torch.tensor(one, dtype=torch.float64) for one in (precision, recall))
    value = (1 + beta**2) * p * r / (beta**2 * p + r)
    value = torch.where((p == 0) | (r == 0), 0, value)  # no correct prediction; the other one may be NaN
    return plain(mean_of_defined(value) if average else value)


def _options(metric: PrecisionRecall) -> str:
    """The options that must be equal for precision and recall."""
    return f"average={metric.average!r}, is_multilabel={metric.is_multilabel}, zero_division={metric.zero_division:g}"

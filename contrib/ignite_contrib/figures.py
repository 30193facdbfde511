"""Figures of metrics, for :class:`~ignite_core.handlers.FigureHandler`; they need matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ignite_contrib._require import require
from ignite_core.engine import Engine
from ignite_core.exceptions import few

__all__ = ["confusion_matrix_figure", "roc_figure"]


def confusion_matrix_figure(metric_name: str, labels: Sequence[str] | None = None) -> Callable[[Engine], Any]:
    """A function that draws a confusion matrix, for :class:`~ignite_core.handlers.FigureHandler`.

    Args:
        metric_name: Name of a :class:`~ignite_core.metrics.ConfusionMatrix` in ``engine.state.metrics``.
        labels: Names of the classes; by default their indices.

    Returns:
        A function of the engine. It raises KeyError if there is no such metric, and ValueError if the number of
        ``labels`` differs from the number of classes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> evaluator = Engine(lambda engine, batch: None)
        >>> evaluator.state.metrics["cm"] = torch.tensor([[3, 1], [0, 2]])
        >>> figure = confusion_matrix_figure("cm", labels=["cat", "dog"])(evaluator)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['3', '1', '0', '2']
    """
    figures = require("matplotlib.figure", extra="plot", feature="confusion_matrix_figure")

    def make(engine: Engine) -> Any:
        rows = _metric(engine, metric_name, "confusion_matrix_figure").tolist()
        names = [str(number) for number in range(len(rows))] if labels is None else list(labels)
        if len(names) != len(rows):
            raise ValueError(f"confusion_matrix_figure: {len(rows)} classes need as many labels, got {len(names)}")
        figure = figures.Figure(layout="constrained")  # unknown to pyplot, which would keep it
        axes = figure.subplots()
        axes.imshow(rows, cmap="Blues")
        highest = max(max(row) for row in rows)
        for true, row in enumerate(rows):
            for predicted, value in enumerate(row):
                color = "white" if value > highest / 2 else "black"
                axes.text(predicted, true, f"{value:.4g}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true")
        return figure

    return make


def roc_figure(metric_name: str) -> Callable[[Engine], Any]:
    """A function that draws a ROC curve, for :class:`~ignite_core.handlers.FigureHandler`.

    Args:
        metric_name: Name of a :class:`~ignite_core.metrics.RocCurve` in ``engine.state.metrics``.

    Returns:
        A function of the engine. It raises KeyError if there is no such metric.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> import torch
        >>> evaluator = Engine(lambda engine, batch: None)
        >>> evaluator.state.metrics["roc"] = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 0.5, 1.0]), None
        >>> figure = roc_figure("roc")(evaluator)
        >>> figure.axes[0].get_title()
        'area 0.5000'
    """
    figures = require("matplotlib.figure", extra="plot", feature="roc_figure")

    def make(engine: Engine) -> Any:
        rates = _metric(engine, metric_name, "roc_figure")
        fpr, tpr = (rate.tolist() for rate in rates[:2])
        area = sum(
            (right - left) * (low + high) / 2
            for left, right, low, high in zip(fpr[:-1], fpr[1:], tpr[:-1], tpr[1:], strict=True)
        )
        figure = figures.Figure(layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], linestyle=":", color="gray")
        axes.plot(fpr, tpr)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", title=f"area {area:.4f}")
        return figure

    return make


def _metric(engine: Engine, name: str, where: str) -> Any:
    metrics = engine.state.metrics
    if name not in metrics:
        raise KeyError(f"{where}: there is no metric {name!r} among those of the engine, {few(sorted(metrics))}")
    return metrics[name]

"""Figures of metrics: what stands in them."""

from __future__ import annotations

import pytest
import torch

from ignite_contrib.figures import confusion_matrix_figure, roc_figure
from ignite_core.engine import Engine
from ignite_core.metrics import ConfusionMatrix, RocCurve


def test_a_confusion_matrix_is_drawn_with_its_counts_and_labels() -> None:
    evaluator = Engine(lambda engine, batch: batch)
    ConfusionMatrix(2).attach(evaluator, "cm")
    evaluator.run([(torch.eye(2)[[0, 0, 1]], torch.tensor([0, 1, 1]))])

    axes = confusion_matrix_figure("cm", ["cat", "dog"])(evaluator).axes[0]
    assert [(text.get_position(), text.get_text()) for text in axes.texts] == [
        ((0, 0), "1"),
        ((1, 0), "0"),
        ((0, 1), "1"),
        ((1, 1), "1"),
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_classes_have_their_numbers_by_default() -> None:
    evaluator = Engine(lambda engine, batch: batch)
    evaluator.state.metrics["cm"] = torch.eye(3)

    axes = confusion_matrix_figure("cm")(evaluator).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]


def test_a_roc_curve_is_drawn_with_its_area() -> None:
    evaluator = Engine(lambda engine, batch: batch)
    RocCurve().attach(evaluator, "roc")
    evaluator.run([(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]))])

    axes = roc_figure("roc")(evaluator).axes[0]
    chance, curve = axes.lines
    assert list(curve.get_xdata()) == [0.0, 0.0, 0.5, 0.5, 1.0]
    assert list(curve.get_ydata()) == [0.0, 0.5, 0.5, 1.0, 1.0]
    assert list(chance.get_xdata()) == [0, 1]
    assert axes.get_title() == "area 0.7500"


def test_labels_and_names_that_do_not_fit_are_told() -> None:
    evaluator = Engine(lambda engine, batch: batch)
    evaluator.state.metrics["cm"] = torch.eye(2)

    with pytest.raises(ValueError, match="confusion_matrix_figure: 2 classes need as many labels, got 3"):
        confusion_matrix_figure("cm", ["a", "b", "c"])(evaluator)
    with pytest.raises(KeyError, match=r"roc_figure: there is no metric 'roc' among those of the engine, \['cm'\]"):
        roc_figure("roc")(evaluator)

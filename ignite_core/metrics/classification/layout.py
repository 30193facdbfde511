"""Which task a batch belongs to, as its shapes say.

Shapes: ``N`` samples, ``C`` classes or labels, ``*`` further dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch

__all__ = ["Layout", "Task", "layout_of"]


class Task(Enum):
    """What is predicted: one of two classes, one of several, or any of several labels."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"


@dataclass(frozen=True, slots=True)
class Layout:
    """What follows from the shapes of a batch.

    Attributes:
        task: Which it is.
        num_classes: ``C``; 1 if binary.
        num_samples: ``N`` times the further dimensions: each pixel counts as a sample.
    """

    task: Task
    num_classes: int
    num_samples: int


def layout_of(who: str, shape: torch.Size, shape_y: torch.Size, is_multilabel: bool) -> Layout:
    """Tell the task by the shapes of predictions and labels.

    Raises:
        ValueError: If they do not fit.
    """
    has_scores = len(shape) == len(shape_y) + 1 and (shape[0], *shape[2:]) == tuple(shape_y)
    num_labels = shape[1] if is_multilabel and len(shape) > 1 else 1
    fits = shape == shape_y and num_labels > 1 if is_multilabel else shape == shape_y or has_scores
    if not fits:
        raise ValueError(
            f"{who}.update: y_pred and y must have the shapes "
            + ("(N, C, *) both, C > 1," if is_multilabel else "(N, *) both, or (N, C, *) and (N, *),")
            + f" got {tuple(shape)} and {tuple(shape_y)}"
        )
    num_classes = shape[1] if has_scores else num_labels
    of_one_label = Task.MULTICLASS if has_scores and num_classes > 1 else Task.BINARY
    return Layout(Task.MULTILABEL if is_multilabel else of_one_label, num_classes, shape_y.numel() // num_labels)

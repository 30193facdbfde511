"""Scores of scikit-learn as metrics."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ignite_contrib.sklearn.echoes import EchoClassifier, EchoRegressor
from ignite_contrib.sklearn.library import get_scorer
from ignite_core.metrics import EpochMetric

__all__ = ["SklearnScore"]


def _unchanged(output: Any) -> Any:
    return output


class SklearnScore(EpochMetric):
    """A score of scikit-learn over all predictions and targets of an epoch, which are kept until then.

    On several ranks it is that of all of them together, exact for any number of ranks and any split.

    ``update`` takes ``(y_pred, y)``. Targets that are whole numbers are labels, others are numbers to be predicted:

    - labels of shape ``(N,)`` with ``y_pred`` of shape ``(N, C)``: a value for each class. The predicted label is that
      of the highest one. Scores that need probabilities, such as ``"neg_log_loss"`` and ``"roc_auc_ovr"``, take the
      values as these: apply a softmax in ``output_transform``;
    - labels of shape ``(N,)`` with ``y_pred`` of shape ``(N,)``: predicted labels; or, for scores that rank, such as
      ``"roc_auc"``, values of any range, the higher the more positive;
    - labels of shape ``(N, C)``, zeros and ones, with as many predicted ones: multilabel;
    - numbers of shape ``(N,)`` or ``(N, k)``, with as many predicted ones.

    Args:
        scoring: A name that :func:`sklearn.metrics.get_scorer` knows, or what :func:`sklearn.metrics.make_scorer` made.
            The greater the better; errors are negative: ``"neg_mean_squared_error"``.
        output_transform: As for :class:`~ignite_core.metrics.Metric`.
        device: As for :class:`~ignite_core.metrics.Metric`.
        skip_unrolling: As for :class:`~ignite_core.metrics.Metric`.

    Raises:
        TypeError: If ``scoring`` is None.
        ValueError: If there is no score of this name; by ``update`` if shapes disagree; by ``compute`` what the score
            raises, on all ranks.

    Example:
        >>> y_pred = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3], [0.0, 0.1, 0.9]])
        >>> metric = SklearnScore("f1_macro")
        >>> metric.update((y_pred, torch.tensor([0, 1, 2, 2])))
        >>> round(metric.compute(), 4)
        0.7778
    """

    higher_is_better = True

    def __init__(
        self,
        scoring: Any,
        output_transform: Any = _unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        if scoring is None:
            raise TypeError("SklearnScore: scoring must be the name of a score, or a scorer, got None")
        super().__init__(
            partial(_score, get_scorer(scoring)),
            output_transform,
            check_compute_fn=False,  # a batch may lack a class
            device=device,
            skip_unrolling=skip_unrolling,
        )


def _score(scorer: Any, y_pred: Tensor, y: Tensor) -> float:
    if y.is_floating_point():
        estimator: Any = EchoRegressor()
    else:
        estimator = EchoClassifier(_classes(y_pred, y).cpu().numpy(), is_multilabel=y.ndim == 2)
    return float(scorer(estimator, _as_array(y_pred), _as_array(y)))


def _classes(y_pred: Tensor, y: Tensor) -> Tensor:
    """All labels there may be, also those that did not occur."""
    if y_pred.ndim == 2:
        return torch.arange(y_pred.shape[1])
    found = torch.unique(y)
    return torch.arange(2) if found.min() >= 0 and found.max() <= 1 else found


def _as_array(tensor: Tensor) -> Any:
    """On the CPU; in its own precision, which says how exact probabilities are, if numpy has it."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return (tensor.float() if half else tensor).cpu().numpy()

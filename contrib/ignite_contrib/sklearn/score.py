"""Scores of scikit-learn as metrics: estimators that predict what they are given are scored."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer
from torch import Tensor

from ignite_core.metrics import EpochMetric

__all__ = ["SklearnScore"]


def _unchanged(output: Any) -> Any:
    return output


class SklearnScore(EpochMetric):
    """A score of scikit-learn over the predictions and targets of an epoch, which are stored until then.

    It is computed over all ranks, and does not depend on their number or on the split of the data.

    ``update`` takes ``(y_pred, y)``. Integer targets are labels, floating-point targets are regression targets:

    - labels of shape ``(N,)`` with ``y_pred`` of shape ``(N, C)``: a value for each class. The predicted label is that
      of the highest one. Scores that need probabilities, such as ``"neg_log_loss"`` and ``"roc_auc_ovr"``, take the
      values as probabilities: apply a softmax in ``output_transform``;
    - labels of shape ``(N,)`` with ``y_pred`` of shape ``(N,)``: predicted labels; or, for ranking scores such as
      ``"roc_auc"``, values of any range, higher for the positive class;
    - labels of shape ``(N, C)``, zeros and ones, with ``y_pred`` of the same shape: multilabel;
    - numbers of shape ``(N,)`` or ``(N, k)``, with ``y_pred`` of the same shape.

    Args:
        scoring: A name for :func:`sklearn.metrics.get_scorer`, or a scorer of :func:`sklearn.metrics.make_scorer`.
            Greater is better; errors are negative: ``"neg_mean_squared_error"``.
        output_transform: See :class:`~ignite_core.metrics.Metric`, as for ``device`` and ``skip_unrolling``.
        device: Device of the stored predictions and targets.
        skip_unrolling: Pass outputs that are sequences to ``update`` as they are.

    Raises:
        TypeError: If ``scoring`` is None.
        ValueError: If there is no score of this name; in ``update`` if shapes disagree; in ``compute``, on all ranks,
            if the score raises it.

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
        estimator: Any = _IdentityRegressor()
    else:
        estimator = _IdentityClassifier(_classes(y_pred, y).cpu().numpy(), is_multilabel=y.ndim == 2)
    return float(scorer(estimator, _as_array(y_pred), _as_array(y)))


def _classes(y_pred: Tensor, y: Tensor) -> Tensor:
    """All possible labels, including those that did not occur."""
    if y_pred.ndim == 2:
        return torch.arange(y_pred.shape[1])
    found = torch.unique(y)
    return torch.arange(2) if found.min() >= 0 and found.max() <= 1 else found


def _as_array(tensor: Tensor) -> Any:
    """Convert to numpy, in the precision of the tensor if numpy has it: it tells how exact probabilities are."""
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return (tensor.float() if half else tensor).cpu().numpy()


class _IdentityRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    def predict(self, X: Any) -> Any:
        return X


class _IdentityClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts ``X``: a value for each class, labels, or scores that rank the samples of two classes.

    Args:
        classes: All labels.
        is_multilabel: ``X`` has zeros and ones for each label.
    """

    def __init__(self, classes: Any, is_multilabel: bool) -> None:
        self.classes_ = classes
        self.is_multilabel = is_multilabel

    def predict(self, X: Any) -> Any:
        return X if self.is_multilabel or X.ndim == 1 else X.argmax(1)

    def decision_function(self, X: Any) -> Any:
        """The values; for two classes, the difference of the second and the first."""
        return X[:, 1] - X[:, 0] if X.ndim == 2 and X.shape[1] == 2 and not self.is_multilabel else X

    def predict_proba(self, X: Any) -> Any:
        """The values as probabilities; a single value is that of the second class."""
        return np.stack([1 - X, X], axis=1) if X.ndim == 1 else X

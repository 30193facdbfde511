"""Estimators that predict what they are given: with them a scorer of scikit-learn scores predictions."""

from __future__ import annotations

from typing import Any

from ignite_contrib.sklearn.library import BaseEstimator, ClassifierMixin, RegressorMixin, np

__all__ = ["EchoClassifier", "EchoRegressor"]


class EchoRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts ``X``."""

    def predict(self, X: Any) -> Any:
        """What is given."""
        return X


class EchoClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts ``X``: a value for each class, labels, or what ranks the samples of two classes.

    Args:
        classes: All labels.
        is_multilabel: ``X`` has zeros and ones for each label.
    """

    def __init__(self, classes: Any, is_multilabel: bool) -> None:
        self.classes_ = classes
        self.is_multilabel = is_multilabel

    def predict(self, X: Any) -> Any:
        """The label of the highest value; labels as they are."""
        return X if self.is_multilabel or X.ndim == 1 else X.argmax(1)

    def decision_function(self, X: Any) -> Any:
        """The values; of two classes, how much that of the second is above that of the first."""
        return X[:, 1] - X[:, 0] if X.ndim == 2 and X.shape[1] == 2 and not self.is_multilabel else X

    def predict_proba(self, X: Any) -> Any:
        """The values as probabilities; one for each sample is that of the second class."""
        return np.stack([1 - X, X], axis=1) if X.ndim == 1 else X

"""Engines in scikit-learn, and scores of scikit-learn in engines."""

from typing import TYPE_CHECKING

from ignite_core._lazy import lazily

if TYPE_CHECKING:
    from ignite_contrib.sklearn.classifier import EngineClassifier
    from ignite_contrib.sklearn.regressor import EngineRegressor
    from ignite_contrib.sklearn.score import SklearnScore

__all__ = ["EngineClassifier", "EngineRegressor", "SklearnScore"]

_HOMES = {
    "EngineClassifier": "classifier",
    "EngineRegressor": "regressor",
    "SklearnScore": "score",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)

"""What is needed of scikit-learn, and numpy, which comes with it; or how to get them."""

from ignite_contrib._require import require

require("sklearn", extra="sklearn", feature="ignite_contrib.sklearn")

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer
from sklearn.model_selection import train_test_split
from sklearn.utils import assert_all_finite, check_array, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = [
    "BaseEstimator",
    "ClassifierMixin",
    "RegressorMixin",
    "assert_all_finite",
    "check_array",
    "check_classification_targets",
    "check_is_fitted",
    "check_random_state",
    "column_or_1d",
    "get_scorer",
    "np",
    "train_test_split",
    "validate_data",
]

"""A classifier for scikit-learn whose module is trained by an engine."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor, nn

from ignite_contrib.sklearn.base import EngineEstimator
from ignite_contrib.sklearn.samples import as_array
from ignite_core.metrics import Accuracy, Metric

__all__ = ["EngineClassifier"]


class EngineClassifier(ClassifierMixin, EngineEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier whose module is trained by an engine: for pipelines, grid searches, cross-validation.

    The module returns a logit for each class, shape ``(N, n_classes)``. Each ``fit`` creates it from a class and the
    parameters ``module__NAME``, where ``NAME`` is an argument of the class; likewise the criterion
    (``criterion__NAME``), the optimizer (``optimizer__NAME``) and the handlers. If the class has arguments
    ``n_features`` and ``n_outputs``, they are set to the size of the second dimension of the data and the number of
    classes.

    A handler is attached to the trainer, or to trainer and evaluator if its ``attach`` takes an ``evaluator``. Then, or
    with ``validation_fraction``, the evaluator runs after each epoch, and has the metrics ``loss`` and ``accuracy``.

    Args:
        module: Class of the module, or a function that returns one.
        criterion: Class of the loss; cross entropy by default.
        optimizer: Class of the optimizer.
        max_epochs: Number of epochs of ``fit``, at least 1.
        batch_size: Batch size of training and prediction. The last batch of an epoch may be smaller.
        device: The device of the module and the batches.
        random_state: Seed of initial weights, order of samples, dropout and split. With an integer ``fit`` is
            reproducible bit for bit; a ``RandomState`` is advanced; None draws from numpy's global one. The state of
            the global generators is preserved.
        handlers: Classes or objects with a method ``attach``, by name. A class is called with the parameters
            ``handlers__NAME__ARGUMENT``; an object is copied, and they are set as its attributes.
        validation_fraction: Fraction of the samples that ``fit`` holds out for the evaluator, stratified by class. If
            it is 0, an evaluator that a handler needs sees the training samples.
        warm_start: ``fit`` continues from the weights and the optimizer state of the last one.
        arguments: Parameters of the parts, as above.

    Attributes:
        classes_: Sorted labels.
        module_: The trained module.
        optimizer_: Its optimizer.
        history_: For each epoch a dict of ``epoch``, ``train_loss`` (the mean over batches) and the metrics of the
            evaluator.
        n_features_in_: Size of the second dimension of the data, unless that is a mapping.
        feature_names_in_: Names of the columns, if the data was a table with names.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.
        TypeError: If a further argument belongs to no part.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> class Net(nn.Sequential):
        ...     def __init__(self, n_features, n_outputs, units=16):
        ...         super().__init__(nn.Linear(n_features, units), nn.ReLU(), nn.Linear(units, n_outputs))
        >>> X, y = load_iris(return_X_y=True)
        >>> net = EngineClassifier(Net, module__units=32, optimizer__lr=0.05, max_epochs=25, random_state=0)
        >>> net.fit(X, y).score(X, y) > 0.95
        True
        >>> net.predict_proba(X[:2]).shape
        (2, 3)
    """

    _default_criterion = nn.CrossEntropyLoss

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more epoch.

        Args:
            X: Samples, see :meth:`fit`.
            y: Labels.
            classes: All labels of all calls; by default those of the first call. Later calls may omit it.
            sample_weight: Weight of each sample, at least 0.

        Returns:
            The estimator.

        Raises:
            ValueError: As :meth:`fit`; also if a label is not among the classes, or the classes change.
        """
        return self._learn(X, y, classes, sample_weight, 1, 0.0, reset=not hasattr(self, "module_"))

    def predict_proba(self, X: Any) -> Any:
        """Softmax of the logits, an array of shape ``(N, n_classes)`` in the order of ``classes_``."""
        return self._predicted(X).softmax(1).numpy()

    def predict(self, X: Any) -> Any:
        """Label of the highest logit of each sample, an array of shape ``(N,)``."""
        highest = self._predicted(X).argmax(1).numpy()
        return self.classes_[highest]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy: the (weighted) fraction of samples whose label is predicted."""
        return float(super().score(X, as_array(y), sample_weight))

    def _targets(self, y: Any, classes: Any, *, reset: bool) -> Tensor:
        labels = column_or_1d(as_array(y), warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        if reset:
            self.classes_ = np.unique(labels if classes is None else np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"EngineClassifier.partial_fit: classes must be those of the first call, {self.classes_}, "
                f"got {np.unique(classes)}"
            )
        known = np.isin(labels, self.classes_)
        if not known.all():
            raise ValueError(
                f"EngineClassifier: the labels must be among the classes {self.classes_}, got also "
                f"{np.unique(labels[~known])}; give all of them to the first partial_fit(classes=...)"
            )
        return torch.tensor(np.searchsorted(self.classes_, labels))

    def _outputs(self) -> int:
        return len(self.classes_)

    def _shaped(self, y_pred: Tensor) -> Tensor:
        if y_pred.ndim != 2 or y_pred.shape[1] != len(self.classes_):
            raise ValueError(
                f"EngineClassifier: the module must return a score for each of {len(self.classes_)} classes, shape "
                f"(N, {len(self.classes_)}), got {tuple(y_pred.shape)}"
            )
        return y_pred

    def _strata(self, y: Tensor) -> Any:
        return y.numpy()

    def _metrics(self) -> dict[str, Metric]:
        return {"accuracy": Accuracy()}

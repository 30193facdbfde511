"""A regressor of scikit-learn whose module an engine trains."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from ignite_contrib.sklearn.base import EngineEstimator
from ignite_contrib.sklearn.library import RegressorMixin, check_array
from ignite_contrib.sklearn.samples import as_array
from ignite_core.metrics import MeanAbsoluteError, Metric

__all__ = ["EngineRegressor"]


class EngineRegressor(RegressorMixin, EngineEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor whose module is trained by an engine: for pipelines, grid searches, cross-validation.

    Parameters, parts and handlers are those of :class:`EngineClassifier`, with these differences: the criterion is the
    mean squared error by default; the evaluator has the metrics ``loss`` and ``mae``, the mean absolute error; and
    ``n_outputs`` is the number of targets, 1 for targets of shape ``(N,)``, for which the module may give ``(N,)`` or
    ``(N, 1)``. Targets of shape ``(N, k)`` need ``(N, k)``.

    Targets are not scaled: :class:`sklearn.compose.TransformedTargetRegressor` does that.

    Args:
        module: As for :class:`EngineClassifier`, as are all others.
        criterion: Class of the loss; the mean squared error by default.
        optimizer: Class of the optimizer.
        max_epochs: So many epochs ``fit`` trains, at least 1.
        batch_size: Samples in a batch.
        device: Where the module is.
        random_state: Decides about everything that is random.
        handlers: By name, classes or objects with a method ``attach``.
        validation_fraction: The share of the samples that ``fit`` holds out for the evaluator.
        warm_start: ``fit`` goes on with the weights, and the optimizer, of the last one.
        arguments: Parameters ``module__NAME``, ``criterion__NAME``, ``optimizer__NAME``, ``handlers__NAME__ARGUMENT``.

    Attributes:
        module_: The trained module.
        optimizer_: Its optimizer.
        history_: For each epoch a dict of ``epoch``, ``train_loss`` (the mean over batches) and what the evaluator had.
        n_features_in_: The size of the second dimension of the data, unless that is a mapping.
        feature_names_in_: The columns, if the data was a table with names.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed.
        TypeError: If a further argument is for none of the parts.

    Example:
        >>> x = torch.linspace(-1, 1, 64).reshape(64, 1)
        >>> line = EngineRegressor(
        ...     nn.Linear,
        ...     module__in_features=1,
        ...     module__out_features=1,
        ...     optimizer__lr=0.1,
        ...     batch_size=16,
        ...     max_epochs=40,
        ...     random_state=0,
        ... )
        >>> line.fit(x, 3 * x.squeeze() + 1).predict([[0.0], [1.0]]).round(2)
        array([1., 4.], dtype=float32)
    """

    _default_criterion = nn.MSELoss

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch with these samples, going on from what was learnt.

        Args:
            X: As for :meth:`fit`.
            y: Their targets.
            sample_weight: As for :meth:`fit`.

        Returns:
            The estimator.

        Raises:
            ValueError: As :meth:`fit`; if there are more targets, or fewer, than before.
        """
        return self._learn(X, y, None, sample_weight, 1, 0.0, reset=not hasattr(self, "module_"))

    def predict(self, X: Any) -> Any:
        """What the module gives: an array of the shape of the targets."""
        return self._predicted(X).numpy()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination, :math:`R^2`; of several targets the mean."""
        return float(super().score(X, as_array(y), sample_weight))

    def _targets(self, y: Any, classes: Any, *, reset: bool) -> Tensor:
        numbers = check_array(as_array(y), ensure_2d=False, input_name="y", estimator=self)
        shape = tuple(numbers.shape[1:])
        if reset:
            self._target_shape = shape
        elif shape != self._target_shape:
            raise ValueError(
                f"EngineRegressor: the targets of a sample must have the shape {self._target_shape}, as before, "
                f"got {shape}"
            )
        return torch.tensor(numbers, dtype=torch.get_default_dtype())

    def _outputs(self) -> int:
        return self._target_shape[0] if self._target_shape else 1

    def _shaped(self, y_pred: Tensor) -> Tensor:
        if self._target_shape == () and y_pred.ndim == 2 and y_pred.shape[1] == 1:
            y_pred = y_pred.squeeze(1)
        if tuple(y_pred.shape[1:]) != self._target_shape:
            raise ValueError(
                f"EngineRegressor: the module must give targets of the shape {('N', *self._target_shape)}, "
                f"got {tuple(y_pred.shape)}"
            )
        return y_pred

    def _metrics(self) -> dict[str, Metric]:
        return {"mae": MeanAbsoluteError()}

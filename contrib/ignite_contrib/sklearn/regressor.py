"""A regressor for scikit-learn whose module is trained by an engine."""

from __future__ import annotations

from typing import Any, Self

import torch
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from torch import Tensor, nn

from ignite_contrib.sklearn.base import EngineEstimator
from ignite_contrib.sklearn.samples import as_array
from ignite_core.metrics import MeanAbsoluteError, Metric

__all__ = ["EngineRegressor"]


class EngineRegressor(RegressorMixin, EngineEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor whose module is trained by an engine: for pipelines, grid searches, cross-validation.

    Arguments, attributes and errors are those of :class:`EngineClassifier`, with these differences: the default
    criterion is the mean squared error; the evaluator has the metrics ``loss`` and ``mae``, the mean absolute error;
    held-out samples are not stratified; there is no ``classes_``; and ``n_outputs`` is the number of targets. For
    targets of shape ``(N,)`` that is 1, and the module may return ``(N,)`` or ``(N, 1)``; targets of shape ``(N, k)``
    need ``(N, k)``.

    Targets are not scaled: :class:`sklearn.compose.TransformedTargetRegressor` does that.

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
        """Train for one more epoch; arguments and errors are those of :meth:`fit`. Returns the estimator.

        Raises:
            ValueError: If the number of targets changes.
        """
        return self._learn(X, y, None, sample_weight, 1, 0.0, reset=not hasattr(self, "module_"))

    def predict(self, X: Any) -> Any:
        """Outputs of the module, an array of the shape of the targets."""
        return self._predicted(X).numpy()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The coefficient of determination :math:`R^2`, averaged over targets."""
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
                f"EngineRegressor: the module must return targets of the shape {('N', *self._target_shape)}, "
                f"got {tuple(y_pred.shape)}"
            )
        return y_pred

    def _metrics(self) -> dict[str, Metric]:
        return {"mae": MeanAbsoluteError()}

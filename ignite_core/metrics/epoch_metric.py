"""A metric computed from all predictions and targets of an epoch at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import gathered

__all__ = ["EpochMetric", "EpochMetricWarning"]


class EpochMetricWarning(UserWarning):
    """The function of an :class:`EpochMetric` failed with the first batch."""


class EpochMetric(Metric):
    """A function of all predictions and targets of an epoch, which are kept until ``compute``.

    ``update`` takes ``(y_pred, y)``, each of shape ``(N,)`` or ``(N, C)``. With several ranks the function is called on
    every rank with the data of all ranks, in rank order; so an error is raised on all ranks.

    Args:
        compute_fn: Called with all predictions and all targets, concatenated along the first dimension.
        check_compute_fn: Whether to call ``compute_fn`` with the first batch too, and warn if that fails: most errors
            are better found before the end of an epoch. Pass False if the function cannot handle a single batch.

    Raises:
        TypeError: If ``compute_fn`` is not callable.
        ValueError: By ``update`` if the shapes do not fit, or the dtype has changed since the first batch.

    Example:
        >>> metric = EpochMetric(lambda y_pred, y: (y_pred - y).abs().median())
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])))
        >>> metric.update((torch.tensor([3.0]), torch.tensor([8.0])))
        >>> metric.compute()
        2.0
    """

    predictions = gathered()
    targets = gathered()

    def __init__(
        self,
        compute_fn: Callable[[Tensor, Tensor], Any],
        output_transform: OutputTransform = unchanged,
        check_compute_fn: bool = True,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        if not callable(compute_fn):
            raise TypeError(f"{type(self).__name__}: compute_fn must be callable, got {type(compute_fn).__name__}")
        self.compute_fn = compute_fn
        self._check_compute_fn = check_compute_fn
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        y_pred, y = self._checked_pair(output)
        if not y.shape[0]:
            return
        self.predictions.append(y_pred.detach().clone())
        self.targets.append(y.detach().clone())
        if self._check_compute_fn and len(self.predictions) == 1:
            try:
                self.compute_fn(self.predictions[0], self.targets[0])
            except Exception as error:
                warnings.warn(
                    f"{type(self).__name__}: compute_fn fails with the first batch alone: {error!r}. If it is right "
                    "for an epoch, pass check_compute_fn=False",
                    EpochMetricWarning,
                    stacklevel=2,
                )

    def compute(self) -> Any:
        check_computable(self, self.predictions)
        value = self.compute_fn(torch.cat(self.predictions), torch.cat(self.targets))
        return value.item() if isinstance(value, Tensor) and value.ndim == 0 and value.is_cpu else value

    def _checked_pair(self, output: Any) -> tuple[Tensor, Tensor]:
        """Predictions and targets, with shape ``(N, 1)`` as ``(N,)``."""
        y_pred, y = (side.squeeze(1) if side.ndim == 2 and side.shape[1] == 1 else side for side in output)
        if y_pred.ndim not in (1, 2) or y.ndim not in (1, 2) or y_pred.shape[0] != y.shape[0]:
            raise ValueError(
                f"{type(self).__name__}.update: y_pred and y must have the shapes (N,) or (N, C), with the same N, "
                f"got {tuple(output[0].shape)} and {tuple(output[1].shape)}"
            )
        for name, known, new in (("y_pred", self.predictions, y_pred), ("y", self.targets, y)):
            if known and known[0].dtype != new.dtype:
                raise ValueError(
                    f"{type(self).__name__}.update: the dtype of {name} has changed, "
                    f"from {known[0].dtype} to {new.dtype}"
                )
        return y_pred, y

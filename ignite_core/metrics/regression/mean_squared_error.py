"""The mean squared error and its root.

Shapes: ``N`` samples, ``*`` further dimensions.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ignite_core.metrics.regression.base import ErrorMetric, real_pair, squared_error

__all__ = ["MeanSquaredError", "RootMeanSquaredError"]


class MeanSquaredError(ErrorMetric):
    r"""Mean over samples of the squared error, :math:`\frac1n \sum_i \lVert \hat y_i - y_i \rVert_2^2`.

    The squared errors of the elements of a sample are **summed**; with ``D`` elements per sample,
    ``MeanSquaredError() / D`` is the mean over all elements.

    ``update`` takes ``(y_pred, y)``, real numbers of one shape ``(N, *)``; dimensions of size 1 may be missing in one.

    Raises:
        ValueError: By ``update`` if the shapes differ.

    Example:
        >>> import torch
        >>> metric = MeanSquaredError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])))
        >>> metric.compute()
        2.5
    """

    def update(self, output: Any) -> None:
        y_pred, y = real_pair(self, output)
        error = squared_error(y_pred, y)
        self.sum_of_errors += error.item() if error.is_cpu else error
        self.num_samples += y.shape[0]


class RootMeanSquaredError(MeanSquaredError):
    r"""Root of the mean squared error, :math:`\sqrt{\frac1n \sum_i \lVert \hat y_i - y_i \rVert_2^2}`.

    The squared errors of the elements of a sample are **summed**, and ``update`` takes the same, as in
    :class:`MeanSquaredError`.

    Raises:
        ValueError: By ``update`` if the shapes differ.

    Example:
        >>> import torch
        >>> metric = RootMeanSquaredError()
        >>> metric.update((torch.tensor([1.0, 7.0]), torch.tensor([2.0, 0.0])))
        >>> metric.compute()
        5.0
    """

    def compute(self) -> float | Tensor:
        mean = super().compute()
        return mean.sqrt() if isinstance(mean, Tensor) else math.sqrt(mean)

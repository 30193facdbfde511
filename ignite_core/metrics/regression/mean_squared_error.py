"""The mean squared error and its root.

Shapes: ``N`` samples, ``*`` further dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import ratio, total
from ignite_core.metrics.regression.pairs import check_seen, number_pair, squared_error

__all__ = ["MeanSquaredError", "RootMeanSquaredError"]


class MeanSquaredError(Metric):
    r"""Mean over samples of the squared error, :math:`\frac1n \sum_i \lVert \hat y_i - y_i \rVert_2^2`.

    A sample of several numbers has the **sum** of their squares; ``MeanSquaredError() / D`` is the mean over all
    elements where there are ``D`` of them in a sample.

    ``update`` takes ``(y_pred, y)``, real numbers of one shape ``(N, *)``; dimensions of size 1 may be missing in one.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes disagree.

    Example:
        >>> metric = MeanSquaredError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])))
        >>> metric.compute()
        2.5
    """

    higher_is_better = False
    _where = "MeanSquaredError.update"  # begins what is said about wrong input

    sum_of_errors = total()
    num_samples = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        y_pred, y = number_pair(self._where, output)
        error = squared_error(y_pred, y)
        self.sum_of_errors += error.item() if error.is_cpu else error
        self.num_samples += y.shape[0]

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_samples)
        value: float | Tensor = ratio(self.sum_of_errors, self.num_samples)
        return value


class RootMeanSquaredError(MeanSquaredError):
    r"""Root of the mean squared error, :math:`\sqrt{\frac1n \sum_i \lVert \hat y_i - y_i \rVert_2^2}`.

    A sample of several numbers has the **sum** of their squares, as in :class:`MeanSquaredError`; ``update`` takes the
    same.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes disagree.

    Example:
        >>> metric = RootMeanSquaredError()
        >>> metric.update((torch.tensor([1.0, 7.0]), torch.tensor([2.0, 0.0])))
        >>> metric.compute()
        5.0
    """

    _where = "RootMeanSquaredError.update"

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_samples)
        mean = ratio(self.sum_of_errors, self.num_samples)
        return mean.sqrt() if isinstance(mean, Tensor) else math.sqrt(mean)

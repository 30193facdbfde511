"""The mean absolute error.

Shapes: ``N`` samples, ``*`` further dimensions.
"""

from __future__ import annotations

from typing import Any

from ignite_core.metrics.regression.base import ErrorMetric, difference, real_pair

__all__ = ["MeanAbsoluteError"]


class MeanAbsoluteError(ErrorMetric):
    r"""Mean over samples of the absolute error, :math:`\frac1n \sum_i \lVert \hat y_i - y_i \rVert_1`.

    The errors of the elements of a sample are **summed**; with ``D`` elements per sample, ``MeanAbsoluteError() / D``
    is the mean over all elements.

    ``update`` takes ``(y_pred, y)``, real numbers of one shape ``(N, *)``; dimensions of size 1 may be missing in one.

    Raises:
        ValueError: By ``update`` if the shapes differ.

    Example:
        >>> import torch
        >>> metric = MeanAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0])))
        >>> metric.compute()
        1.25
    """

    def update(self, output: Any) -> None:
        y_pred, y = real_pair(self, output)
        self.sum_of_errors += difference(y_pred, y).abs().sum()
        self.num_samples += y.shape[0]

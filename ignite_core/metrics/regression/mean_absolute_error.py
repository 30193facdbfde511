"""The mean absolute error.

Shapes: ``N`` samples, ``*`` further dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import ratio, total
from ignite_core.metrics.regression.pairs import absolute_error, check_seen, number_pair

__all__ = ["MeanAbsoluteError"]


class MeanAbsoluteError(Metric):
    r"""Mean over samples of the absolute error, :math:`\frac1n \sum_i \lVert \hat y_i - y_i \rVert_1`.

    A sample of several numbers has the **sum** of their errors; ``MeanAbsoluteError() / D`` is the mean over all
    elements where there are ``D`` of them in a sample.

    ``update`` takes ``(y_pred, y)``, real numbers of one shape ``(N, *)``; dimensions of size 1 may be missing in one.

    Args:
        output_transform: As for :class:`Metric`.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Raises:
        ValueError: By ``update`` if the shapes disagree.

    Example:
        >>> metric = MeanAbsoluteError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.0])))
        >>> metric.compute()
        1.25
    """

    higher_is_better = False

    sum_of_errors = total()
    num_samples = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        y_pred, y = number_pair("MeanAbsoluteError.update", output)
        self.sum_of_errors += absolute_error(y_pred, y)
        self.num_samples += y.shape[0]

    def compute(self) -> float | Tensor:
        check_seen(self, self.num_samples)
        value: float | Tensor = ratio(self.sum_of_errors, self.num_samples)
        return value

"""The uncertainty of predictions.

Shapes: ``N`` samples, ``C`` classes, ``*`` further dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable, check_floating
from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total

__all__ = ["Entropy"]


class Entropy(Metric):
    r"""Mean entropy of predictions, :math:`-\frac1n \sum_i \sum_c p_{ic} \ln p_{ic}`.

    ``update`` takes ``(y_pred, y)``: logits of shape ``(N, C, *)``, whose softmax along ``C`` is :math:`p`, with each
    position of ``*`` a separate prediction; and targets, which are ignored. The logarithm is natural, and
    :math:`0 \ln 0 = 0`, so a class may be excluded by a logit of -inf.

    Raises:
        ValueError: By ``update`` if ``y_pred`` has no dimension of classes.
        TypeError: By ``update`` if ``y_pred`` is not of floats.

    References:
        Cover and Thomas, 2006, *Elements of Information Theory*, 2nd edition, equation 2.1.

    Example:
        >>> metric = Entropy()
        >>> metric.update((torch.zeros(5, 4), None))
        >>> round(metric.compute(), 4)  # ln 4
        1.3863
    """

    entropy_sum = total()
    num_samples = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        y_pred = output[0]
        self._check(y_pred)
        self._add(*sums_of_probabilities(y_pred))
        self.num_samples += y_pred.shape[0] * y_pred.shape[2:].numel()

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        return ratio(self.entropy_sum, self.num_samples)

    def _add(self, entropy_sum: Tensor, probability_sum: Tensor) -> None:
        self.entropy_sum += entropy_sum

    def _check(self, y_pred: Tensor) -> None:
        if y_pred.ndim < 2:
            raise ValueError(
                f"{type(self).__name__}.update: y_pred must have shape (N, C, *), got {tuple(y_pred.shape)}"
            )
        check_floating(self, y_pred=y_pred)


@memoized
def sums_of_probabilities(y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the entropies of all predictions, and the sum of their probabilities, of shape ``(C,)``."""
    logits = y_pred.detach().to(accumulation_dtype(y_pred.device))
    probabilities = logits.softmax(dim=1)
    others = [dim for dim in range(y_pred.ndim) if dim != 1]
    return torch.special.entr(probabilities).sum(), probabilities.sum(dim=others)

"""The uncertainty of predictions, and the information that they have about their input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable, check_floating
from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total

__all__ = ["Entropy", "MutualInformation"]


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


class MutualInformation(Entropy):
    r"""Mutual information between inputs and predictions, :math:`H(\frac1n \sum_i p_i) - \frac1n \sum_i H(p_i)`.

    :math:`H(p) = -\sum_c p_c \ln p_c` is the entropy; the value is large if predictions are confident and spread over
    all classes. ``update`` takes ``(y_pred, y)``: logits of shape ``(N, C, *)``, whose softmax along ``C`` is
    :math:`p`, with each position of ``*`` a separate prediction; and targets, which are ignored. The logarithm is
    natural, :math:`0 \ln 0 = 0`, and the value is not negative.

    Raises:
        ValueError: By ``update`` if ``y_pred`` has no dimension of classes or their number has changed.
        TypeError: By ``update`` if ``y_pred`` is not of floats.

    References:
        Hu, Miyato, Tokui, Matsumoto and Sugiyama, 2017, *Learning Discrete Representations via Information Maximizing
        Self-Augmented Training*, equations 7 and 8.

    Example:
        >>> metric = MutualInformation()
        >>> metric.update((torch.tensor([[50.0, 0.0], [0.0, 50.0]]), None))
        >>> round(metric.compute(), 4)  # ln 2: each input has a different class
        0.6931
    """

    probability_sum = total()

    def _add(self, entropy_sum: Tensor, probability_sum: Tensor) -> None:
        super()._add(entropy_sum, probability_sum)
        self.probability_sum += probability_sum

    def compute(self) -> float | Tensor:
        conditional = super().compute()
        entropy = torch.special.entr(self.probability_sum / self.num_samples).sum()
        return ratio((entropy - conditional).clamp(min=0.0), 1)

    def _check(self, y_pred: Tensor) -> None:
        super()._check(y_pred)
        known = self.probability_sum
        if isinstance(known, Tensor) and known.shape[0] != y_pred.shape[1]:
            raise ValueError(
                "MutualInformation.update: the number of classes has changed "
                f"from {known.shape[0]} to {y_pred.shape[1]}, y_pred is of shape {tuple(y_pred.shape)}"
            )


@memoized
def sums_of_probabilities(y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the entropies of all predictions, and the sum of their probabilities, of shape ``(C,)``."""
    logits = y_pred.detach().to(accumulation_dtype(y_pred.device))
    probabilities = logits.softmax(dim=1)
    others = [dim for dim in range(y_pred.ndim) if dim != 1]
    return torch.special.entr(probabilities).sum(), probabilities.sum(dim=others)

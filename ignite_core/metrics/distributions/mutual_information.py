"""The information that predictions have about their input.

Shapes: ``N`` samples, ``C`` classes, ``*`` further dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ignite_core.metrics.core.states import ratio, total
from ignite_core.metrics.distributions.entropy import Entropy

__all__ = ["MutualInformation"]


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

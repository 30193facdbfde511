"""A symmetric divergence between predicted and true distributions.

Shapes: ``N`` samples, ``C`` classes, ``*`` further dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ignite_core.metrics.distributions.kl_divergence import KLDivergence, relative_entropy

__all__ = ["JSDivergence"]


class JSDivergence(KLDivergence):
    r"""Mean Jensen-Shannon divergence, :math:`\frac1n \sum_i \frac12 D(p_i \| m_i) + \frac12 D(q_i \| m_i)`.

    ``update`` takes ``(y_pred, y)``, both logits of shape ``(N, C, *)``; each position of ``*`` is a separate
    prediction. Their softmax along ``C`` is :math:`q` and :math:`p`, their mean is :math:`m = \frac12 (p + q)`, and
    :math:`D(p \| m) = \sum_c p_c \ln \frac{p_c}{m_c}`. The value is symmetric in ``y_pred`` and ``y``, and between 0
    and :math:`\ln 2`; the logarithm is natural. A logit of -inf excludes a class.

    Raises:
        ValueError: By ``update`` if the shapes differ or there is no dimension of classes.
        TypeError: By ``update`` if ``y_pred`` or ``y`` is not of floats.

    References:
        Lin, 1991, *Divergence Measures Based on the Shannon Entropy*, section IV, equal weights.

    Example:
        >>> metric = JSDivergence()
        >>> never = -torch.inf
        >>> metric.update((torch.tensor([[0.0, never]]), torch.tensor([[never, 0.0]])))
        >>> round(metric.compute(), 4)  # ln 2
        0.6931
    """

    def _divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        return (relative_entropy(log_p, log_m) + relative_entropy(log_q, log_m)) / 2

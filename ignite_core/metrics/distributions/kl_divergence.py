"""Divergences between predicted and true distributions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.metrics.core.checks import check_computable, check_floating, check_same_shape
from ignite_core.metrics.core.metric import Metric
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total

__all__ = ["JSDivergence", "KLDivergence"]


class KLDivergence(Metric):
    r"""Mean Kullback-Leibler divergence, :math:`\frac1n \sum_i \sum_c p_{ic} \ln \frac{p_{ic}}{q_{ic}}`.

    ``update`` takes ``(y_pred, y)``, both logits of shape ``(N, C, *)``; each position of ``*`` is a separate
    prediction. The softmax along ``C`` is :math:`p` for ``y`` and :math:`q` for ``y_pred``. The logarithm is natural. A
    class excluded by a logit of -inf adds nothing if it is excluded in ``y``, and makes the value infinite if it is
    excluded only in ``y_pred``.

    Raises:
        ValueError: By ``update`` if the shapes differ or there is no dimension of classes.
        TypeError: By ``update`` if ``y_pred`` or ``y`` is not of floats.

    References:
        Kullback and Leibler, 1951, *On Information and Sufficiency*, equation 2.4; Cover and Thomas, 2006, *Elements of
        Information Theory*, 2nd edition, equation 2.26.

    Example:
        >>> metric = KLDivergence()
        >>> y_pred, y = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> metric.update((y_pred, y))
        >>> round(metric.compute(), 4)  # (ln 2/3 + ln 2) / 2
        0.1438
    """

    higher_is_better = False

    divergence_sum = total()
    num_samples = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        y_pred, y = output
        check_same_shape(self, y_pred, y)
        if y.ndim < 2:
            raise ValueError(
                f"{type(self).__name__}.update: y_pred and y must have shape (N, C, *), got {tuple(y.shape)}"
            )
        check_floating(self, y_pred=y_pred, y=y)
        dtype = accumulation_dtype(y.device)
        log_p, log_q = (logits.detach().to(dtype).log_softmax(dim=1) for logits in (y, y_pred))
        self.divergence_sum += self._divergence(log_p, log_q).sum()
        self.num_samples += y.shape[0] * y.shape[2:].numel()

    def compute(self) -> float | Tensor:
        check_computable(self, self.num_samples)
        return ratio(self.divergence_sum, self.num_samples)

    def _divergence(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The term of each class of each sample."""
        return relative_entropy(log_p, log_q)


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


def relative_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The terms ``p ln(p / q)``, zero where ``p`` is zero."""
    p = log_p.exp()
    return torch.where(p == 0, 0.0, p * (log_p - log_q))

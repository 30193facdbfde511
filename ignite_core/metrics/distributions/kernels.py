"""Comparison of two sets of features by Gaussian kernels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.checks import check_floating
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total

__all__ = ["HSIC", "MaximumMeanDiscrepancy"]


class HSIC(Metric):
    r"""Hilbert-Schmidt independence criterion of two sets of features, zero if they are independent; mean over batches.

    For each batch of :math:`n` samples it is estimated as

    .. math:: \frac1{n(n-3)} \left[\mathrm{tr}(KL) + \frac{1^\top K 1\; 1^\top L 1}{(n-1)(n-2)}
        - \frac2{n-2} 1^\top K L 1\right],

    where :math:`K` and :math:`L` are the matrices of the kernel :math:`\exp(-\|x_i - x_j\|^2 / 2\sigma^2)` of the
    features :math:`x` and :math:`y`, with zeros on their diagonals. The estimate is unbiased; as a negative estimate
    counts as 0, the mean over batches of independent features is slightly above zero.

    ``update`` takes ``(y_pred, y)``, of shapes ``(N, *)``, each with at least one dimension ``*``, which are flattened
    and may differ. An empty batch changes nothing.

    Args:
        sigma_x: The width :math:`\sigma` of the kernel of ``y_pred``; if negative, :math:`\sigma^2` is the median of
            all :math:`n^2` squared distances in the batch, including the zeros of the diagonal.
        sigma_y: The same for ``y``.
        ignore_invalid_batch: Whether batches of 1 to 3 samples, which are too small for an estimate, are ignored;
            otherwise they are an error.

    Raises:
        ValueError: By ``update`` if the shapes do not fit, or a batch is too small and not ignored.
        TypeError: By ``update`` if ``y_pred`` or ``y`` is not of floats.

    References:
        Gretton, Fukumizu, Teo, Song, Schölkopf and Smola, 2007, *A Kernel Statistical Test of Independence*; Song,
        Smola, Gretton, Bedo and Borgwardt, 2012, *Feature Selection via Dependence Maximization*, equation 5.

    Example:
        >>> metric = HSIC(sigma_x=1.0, sigma_y=1.0)
        >>> x = torch.tensor([[0.0], [0.0], [100.0], [100.0]])
        >>> metric.update((x, -x))
        >>> round(metric.compute(), 6)  # K = L pairs two and two: (4 + 16 / 6 - 4) / 4
        0.666667
    """

    estimate_sum = total()
    num_batches = total(dtype=torch.int64)

    def __init__(
        self,
        sigma_x: float = -1,
        sigma_y: float = -1,
        ignore_invalid_batch: bool = True,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        self.sigma_x = sigma_x
        self.sigma_y = sigma_y
        self.ignore_invalid_batch = ignore_invalid_batch
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        x, y = output
        if x.ndim < 2 or y.ndim < 2 or x.shape[0] != y.shape[0]:
            raise ValueError(
                "HSIC.update: y_pred and y must have the shapes (N, *), with the same N and one vector per sample, "
                f"got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        check_floating(self, y_pred=x, y=y)
        size = x.shape[0]
        if size < 4:
            if size and not self.ignore_invalid_batch:
                raise ValueError(f"HSIC.update: a batch must have at least 4 samples, got {size}")
            return
        self.estimate_sum += _estimate(_kernel(x, self.sigma_x), _kernel(y, self.sigma_y)).clamp(min=0.0)
        self.num_batches += 1

    def compute(self) -> float | Tensor:
        if self.num_batches == 0:
            raise NotComputableError("HSIC.compute: no batch of at least 4 samples was seen; call update() first")
        return ratio(self.estimate_sum, self.num_batches)


def _kernel(features: Tensor, sigma: float) -> Tensor:
    """The kernel matrix, with zeros on the diagonal."""
    vectors = features.detach().flatten(start_dim=1)
    squared = squared_distances(vectors, vectors)
    return gaussian(squared, median(squared) if sigma < 0 else sigma**2).fill_diagonal_(0.0)


def _estimate(k: Tensor, m: Tensor) -> Tensor:
    """The unbiased estimate for two symmetric matrices."""
    n = k.shape[0]
    trace, paths = (k * m).sum(), (k.sum(0) * m.sum(0)).sum()
    return (trace + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * paths / (n - 2)) / (n * (n - 3))


class MaximumMeanDiscrepancy(Metric):
    r"""Maximum mean discrepancy between two distributions: the root of the mean of its square over batches.

    For each batch of :math:`n` samples the square is estimated as

    .. math:: \frac1{n(n-1)} \sum_{i \ne j} \left[k(x_i, x_j) + k(y_i, y_j)\right] - \frac2{n^2} \sum_{i,j} k(x_i, y_j),

    with the kernel :math:`k(x, y) = \exp(-\|x - y\|^2 / 2\sigma^2)`. The estimate is unbiased, so its mean may be
    negative for similar distributions; the value is then 0.

    ``update`` takes ``(x, y)``, both of shape ``(N, *)`` with ``N > 1`` and at least one dimension ``*``, which are
    flattened. An empty batch changes nothing.

    Args:
        var: :math:`\sigma^2` of the kernel.

    Raises:
        ValueError: By ``update`` if the shapes differ or are ``(N,)``, or the batch has only one sample, which is too
            few for an estimate.
        TypeError: By ``update`` if ``x`` or ``y`` is not of floats.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf and Smola, 2012, *A Kernel Two-Sample Test*, equation 3.

    Example:
        >>> metric = MaximumMeanDiscrepancy()
        >>> metric.update((torch.zeros(4, 2), torch.full((4, 2), 100.0)))
        >>> round(metric.compute(), 6)  # the root of 1 + 1 - 0
        1.414214
    """

    higher_is_better = False

    square_sum = total()
    num_batches = total(dtype=torch.int64)

    def __init__(
        self,
        var: float = 1.0,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        self.var = var
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        x, y = output
        size = x.shape[0] if x.ndim else 0
        if x.shape != y.shape or x.ndim < 2 or size == 1:
            raise ValueError(
                "MaximumMeanDiscrepancy.update: x and y must have the same shape (N, *), one vector per sample, with "
                f"N > 1, got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        check_floating(self, x=x, y=y)
        if not size:
            return
        a, b = (features.detach().flatten(start_dim=1) for features in (x, y))
        within = sum(self._kernel(one, one).fill_diagonal_(0.0).sum() for one in (a, b)) / (size * (size - 1))
        self.square_sum += within - 2 * self._kernel(a, b).mean()
        self.num_batches += 1

    def compute(self) -> float | Tensor:
        if self.num_batches == 0:
            raise NotComputableError("MaximumMeanDiscrepancy.compute: no batch was seen; call update() first")
        square = ratio(self.square_sum, self.num_batches)
        return square.clamp(min=0.0).sqrt() if isinstance(square, Tensor) else math.sqrt(max(square, 0.0))

    def _kernel(self, x: Tensor, y: Tensor) -> Tensor:
        return gaussian(squared_distances(x, y), self.var)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances, shape ``(N, N)``, between rows of shape ``(N, D)``; exactly 0 for equal rows.

    They are computed from differences, as scalar products would lose precision for close rows.
    """
    dtype = accumulation_dtype(x.device)
    return torch.cdist(x.to(dtype), y.to(dtype), compute_mode="donot_use_mm_for_euclid_dist").square()


def gaussian(squared: Tensor, variance: Tensor | float) -> Tensor:
    """The kernel ``exp(-d² / (2 variance))`` of squared distances; with variance 0, 1 for equal samples, else 0."""
    return torch.where(squared == 0, 1.0, torch.exp(-squared / (2 * variance)))


def median(values: Tensor) -> Tensor:
    """The median of all values; of an even number of values, the mean of the middle two."""
    ordered, count = values.flatten().sort().values, values.numel()
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2

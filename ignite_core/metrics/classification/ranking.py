"""Base classes of ranking metrics: scores and labels are collected, and counted above each threshold."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import plain
from ignite_core.metrics.core.checks import check_computable, check_values
from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, gathered, total


class RankingMetric(Metric):
    """A metric of how scores rank positives, computed from all samples at once."""

    predictions = gathered()
    targets = gathered()

    _takes: ClassVar[str] = "both the shape (N,) or (N, 1)"
    _takes_labels: ClassVar[bool] = False  # scores and labels of (N, C)
    _takes_classes: ClassVar[bool] = False  # scores of (N, C) and classes of (N,)

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        check_compute_fn: bool = False,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        validate: bool = False,
    ) -> None:
        super().__init__(output_transform, device, skip_unrolling, validate=validate)

    def update(self, output: Any) -> None:
        y_pred, y = output
        scores, labels = flat(y_pred), flat(y)
        self._check_shapes(y_pred, y, scores, labels)
        if not labels.shape[0]:
            return
        if self._should_validate():
            for wrong, must in self._wrong(scores, labels):
                check_values(self, wrong, must)
        self._add(y_pred, y)

    def _add(self, y_pred: Tensor, y: Tensor) -> None:
        scores, labels = copied(y_pred, y)
        self.predictions.append(scores)
        self.targets.append(labels)

    def _all_samples(self) -> tuple[Tensor, Tensor]:
        """All scores and labels, with their values checked: ``update`` checks only those of the first batch."""
        check_computable(self, self.predictions)
        scores, labels = torch.cat(self.predictions), torch.cat(self.targets)
        for wrong, must in self._wrong(scores, labels):
            count = int(wrong.sum())
            if count:
                raise ValueError(f"{type(self).__name__}.compute: {must}, got {count} of {wrong.numel()} that are not")
        return scores, labels

    def _wrong(self, scores: Tensor, labels: Tensor) -> list[tuple[Tensor, str]]:
        """Where values are invalid, and what must hold."""
        if scores.ndim > labels.ndim:
            is_wrong = ~one_hot(labels, scores.shape[1]).any(1)
            must = f"labels must be classes in [0, {scores.shape[1]})"
        else:
            is_wrong, must = (labels != 0) & (labels != 1), "labels must be 0 or 1"
        return [(scores.isnan(), "scores must not be NaN"), (is_wrong, must)]

    def _check_shapes(self, y_pred: Tensor, y: Tensor, scores: Tensor, labels: Tensor) -> None:
        if (scores.ndim, labels.ndim) == (2, 1):
            fits = self._takes_classes and scores.shape[0] == labels.shape[0] and scores.shape[1] > 2
        else:
            fits = scores.shape == labels.shape and (scores.ndim == 1 or (scores.ndim == 2 and self._takes_labels))
        if not fits:
            is_pair = labels.ndim == 1 and scores.shape == (labels.shape[0], 2)
            raise ValueError(
                f"{type(self).__name__}.update: y_pred and y must have {self._takes}, "
                f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
                + ("; for two classes pass the scores of the positive one, y_pred[:, 1]" if is_pair else "")
            )
        if self.predictions:
            known, known_y = self.predictions[0].shape[1:], self.targets[0].shape[1:]
            if (known, known_y) != (scores.shape[1:], labels.shape[1:]):
                raise self._changed(known, y_pred, y)

    def _changed(self, known: torch.Size, y_pred: Tensor, y: Tensor) -> ValueError:
        previous = str(("N", *known)).replace("'", "")
        return ValueError(
            f"{type(self).__name__}.update: the shapes must not change, {previous} of y_pred before, "
            f"got y_pred and y of the shapes {tuple(y_pred.shape)} and {tuple(y.shape)}"
        )


class AreaMetric(RankingMetric):
    """A number computed from the counts of negatives and positives above each threshold, exact or with ``bins``."""

    higher_is_better = True

    #: Number of negatives in each bin, of positives in each bin, and of samples in no bin; a row per label if several.
    counts = total(dtype=torch.int64)

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        check_compute_fn: bool = False,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        bins: int | None = None,
        validate: bool = False,
    ) -> None:
        if bins is not None and (not isinstance(bins, int) or isinstance(bins, bool) or bins < 2):
            raise ValueError(f"{type(self).__name__}: bins must be None or a whole number of at least 2, got {bins!r}")
        self.bins = bins
        super().__init__(output_transform, check_compute_fn, device, skip_unrolling, validate=validate)

    def compute(self) -> float | Tensor:
        return plain(self._mean(self._areas_of_bins() if self.bins else self._areas_of_samples()))

    @abstractmethod
    def _area(self, fps: Tensor, tps: Tensor) -> Tensor:
        """The value for counts along the last dimension; NaN where it is undefined."""

    def _mean(self, values: Tensor) -> Tensor:
        """The mean over labels or classes, if there are several."""
        return values.mean()

    def _areas_of_samples(self) -> Tensor:
        scores, labels = self._all_samples()
        if scores.ndim == 1:
            return self._area(*cumulated(scores, labels == 1)[:2])
        positive = one_hot(labels, scores.shape[1]) if labels.ndim == 1 else labels == 1
        columns = zip(scores.unbind(1), positive.unbind(1), strict=True)
        return torch.stack([self._area(*cumulated(*column)[:2]) for column in columns])

    def _areas_of_bins(self) -> Tensor:
        bins = self.bins
        assert bins is not None
        check_computable(self, isinstance(self.counts, Tensor))
        invalid = int(self.counts[..., -1].sum())
        if invalid:
            raise ValueError(
                f"{type(self).__name__}.compute: with bins, scores must lie in [0, 1] and labels must be 0 or 1 or a "
                f"class; got {invalid} that do not"
            )
        counts = self.counts.to(accumulation_dtype(self.counts.device))
        falling = [side.flip(-1).cumsum(-1) for side in (counts[..., :bins], counts[..., bins : 2 * bins])]
        return self._area(*falling)

    def _add(self, y_pred: Tensor, y: Tensor) -> None:
        if self.bins is None:
            super()._add(y_pred, y)
        else:
            self.counts += histograms(y_pred, y, self.bins)

    def _wrong(self, scores: Tensor, labels: Tensor) -> list[tuple[Tensor, str]]:
        found = super()._wrong(scores, labels)
        if self.bins is not None:
            found[0] = (~((scores >= 0) & (scores <= 1)), "with bins, scores must lie in [0, 1]")
        return found

    def _check_shapes(self, y_pred: Tensor, y: Tensor, scores: Tensor, labels: Tensor) -> None:
        super()._check_shapes(y_pred, y, scores, labels)
        if isinstance(self.counts, Tensor) and self.counts.shape[:-1] != scores.shape[1:]:
            raise self._changed(self.counts.shape[:-1], y_pred, y)


def cumulated(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number of negatives and of positives with at least each of the distinct scores.

    Args:
        scores: Shape ``(N,)``; equal ones are one threshold.
        positive: Which samples are positive, bool of shape ``(N,)``.

    Returns:
        False positives, true positives, and the distinct scores in decreasing order, each float64 of shape ``(K,)``.

    Example:
        >>> cumulated(torch.tensor([0.5, 0.25, 0.5]), torch.tensor([True, False, False]))[:2]
        (tensor([1., 2.], dtype=torch.float64), tensor([1., 1.], dtype=torch.float64))
    """
    dtype = accumulation_dtype(scores.device)
    ordered, order = scores.sort(descending=True)
    is_last = torch.ones_like(positive)
    is_last[:-1] = ordered[1:] != ordered[:-1]
    ends = is_last.nonzero().squeeze(1)
    tps = positive[order].cumsum(0)[ends]
    return (ends + 1 - tps).to(dtype), tps.to(dtype), ordered[ends].to(dtype)


def flat(values: Tensor) -> Tensor:
    """Shape ``(N, 1)`` as ``(N,)``."""
    return values.squeeze(1) if values.ndim == 2 and values.shape[1] == 1 else values


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Labels as bool of shape ``(N, C)``."""
    return labels.unsqueeze(1) == torch.arange(num_classes, device=labels.device)


@memoized
def copied(y_pred: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Copies, shared by the metrics of a memo scope."""
    return flat(y_pred.detach()).clone(), flat(y.detach()).clone()


@memoized
def histograms(y_pred: Tensor, y: Tensor, bins: int) -> Tensor:
    """The counts of a batch, as in :attr:`AreaMetric.counts`: int64 of shape ``(2B + 1,)`` or ``(C, 2B + 1)``."""
    scores, labels = flat(y_pred.detach()), flat(y.detach())
    if scores.ndim > labels.ndim:
        positive = one_hot(labels, scores.shape[1])
        is_label = positive.any(1, keepdim=True)
    else:
        positive = labels == 1
        is_label = positive | (labels == 0)
    fits = is_label & (scores >= 0) & (scores <= 1)
    dtype = accumulation_dtype(scores.device)
    place = torch.bucketize(scores.to(dtype).contiguous(), edges(bins, scores.device, dtype), right=True)
    place = torch.where(fits, place + bins * positive, 2 * bins)
    if place.ndim == 2:
        place = place.T
    counts = torch.zeros(*place.shape[:-1], 2 * bins + 1, dtype=torch.int64, device=scores.device)
    return counts.scatter_add_(-1, place, torch.ones_like(place))


@lru_cache(maxsize=16)
def edges(bins: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    r"""The inner edges of bins that are narrow near 0 and 1, where the scores of a confident model are.

    They are :math:`t^3 / (t^3 + (1 - t)^3)` for :math:`t = 1/B, \dots, (B - 1)/B`, so the log-odds of an edge are three
    times those of :math:`t`: the middle bins are three times as wide as bins of equal width, the outer ones have the
    width :math:`1/B^3`.
    """
    t = torch.arange(1, bins, dtype=dtype, device=device) / bins
    return t**3 / (t**3 + (1 - t) ** 3)

"""Agreement metrics: computed from how often each label is predicted and true, and the sum of the disagreements."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ignite_core.metrics.classification.counts import plain
from ignite_core.metrics.core.checks import check_computable, check_values
from ignite_core.metrics.core.memo import memoized
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, gathered, total

__all__ = ["CohenKappa", "MatthewsCorrCoef"]

#: Power of the difference that weighs a disagreement.
_POWERS = {None: 0, "linear": 1, "quadratic": 2}

#: Replaces a label that is not an integer.
_NO_LABEL = torch.iinfo(torch.int64).min


class AgreementMetric(Metric):
    """A number computed from the counts of predicted and true labels and their disagreement.

    Args:
        power: A disagreement counts as the difference of the labels to this power; with 0 each counts as 1.
        num_classes: For labels in ``[0, C)``, of which only counts are kept; None keeps the labels, which may be any
            integers.
    """

    higher_is_better = True

    predictions = gathered()
    targets = gathered()
    counts = total(dtype=torch.int64)  #: of predicted and of true labels, (2, C + 1); the last are outside [0, C)
    disagreement = total(dtype=torch.int64)

    _takes: ClassVar[str] = "labels of shape (N,) or (N, 1)"
    _takes_scores: ClassVar[bool] = False  # of shape (N, C), whose largest is the label

    def __init__(
        self,
        power: int,
        num_classes: int | None,
        output_transform: OutputTransform,
        device: str | torch.device | None,
        skip_unrolling: bool,
        *,
        validate: bool,
    ) -> None:
        if num_classes is not None and (not isinstance(num_classes, int) or num_classes < 2):
            raise ValueError(
                f"{type(self).__name__}: num_classes must be None or a whole number of at least 2, got {num_classes!r}"
            )
        self.num_classes = num_classes
        self._power = power
        super().__init__(output_transform, device, skip_unrolling, validate=validate)

    def update(self, output: Any) -> None:
        y_pred, y = output
        self._check_shapes(y_pred, y)
        if not y.shape[0]:
            return
        if self._should_validate():
            for labels in (y_pred, y):
                if labels.is_floating_point() and _are_labels(labels):
                    check_values(self, labels != labels.trunc(), "labels must be whole numbers")
            if self.num_classes is not None:
                check_values(self, _outside(labels_of(y_pred, y), self.num_classes), self._range)
        if self.num_classes is None:
            predicted, true = labels_of(y_pred, y)
            self.predictions.append(predicted)
            self.targets.append(true)
        else:
            counts, disagreement = agreement_counts(y_pred, y, self.num_classes, self._power)
            self.counts += counts
            self.disagreement += disagreement

    def compute(self) -> float | Tensor:
        return plain(self._value(*self._totals()))

    @abstractmethod
    def _value(self, predicted: Tensor, true: Tensor, disagreement: Tensor, labels: Tensor) -> Tensor:
        """The value for float64 counts of shape ``(K,)`` of each of the labels."""

    def _totals(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        name = type(self).__name__
        check_computable(self, self.predictions if self.num_classes is None else isinstance(self.counts, Tensor))
        if self.num_classes is None:
            pairs = torch.stack([torch.cat(self.predictions), torch.cat(self.targets)])
            if invalid := int((pairs == _NO_LABEL).sum()):
                raise ValueError(f"{name}.compute: labels must be whole numbers, got {invalid} that are not")
            labels, places = torch.unique(pairs, return_inverse=True)
            counts = _histogram(places, len(labels))
            labels = _difference(labels, labels[0])  # agreement does not depend on the origin
            disagreement = _disagreement(_difference(*pairs), self._power)
        else:
            counts, disagreement = self.counts, self.disagreement
            if invalid := int(counts[:, -1].sum()):
                raise ValueError(f"{name}.compute: {self._range}, got {invalid} that are not")
            counts = counts[:, :-1]
            labels = torch.arange(self.num_classes, device=counts.device)
        dtype = accumulation_dtype(counts.device)
        predicted, true = counts.to(dtype)
        disagreement = torch.as_tensor(disagreement, dtype=dtype, device=counts.device)  # a loaded one is a number
        return predicted, true, disagreement, labels.to(dtype)

    @property
    def _range(self) -> str:
        return f"labels must be in [0, {self.num_classes})"

    def _check_shapes(self, y_pred: Tensor, y: Tensor) -> None:
        has_scores = not _are_labels(y_pred)
        fits = (
            y_pred.ndim in (1, 2)
            and y.ndim in (1, 2)
            and y_pred.shape[0] == y.shape[0]
            and (self._takes_scores or not has_scores)
            and (_are_labels(y) or (has_scores and y_pred.shape == y.shape))
        )
        if not fits:
            raise ValueError(
                f"{type(self).__name__}.update: y_pred and y must be {self._takes}, "
                f"got {tuple(y_pred.shape)} and {tuple(y.shape)}"
            )


class CohenKappa(AgreementMetric):
    r"""Cohen's kappa, :math:`\kappa = 1 - \frac{\sum_{ij} w_{ij} O_{ij}}{\sum_{ij} w_{ij} E_{ij}}`.

    :math:`O_{ij}` is the number of samples of true label :math:`j` predicted as :math:`i`, and :math:`E_{ij}` the
    number expected by chance, the product of how often both occur divided by :math:`N`. The weight :math:`w_{ij}` of a
    disagreement is 1, :math:`|i - j|` if linear, or :math:`(i - j)^2` if quadratic, where :math:`i` and :math:`j` are
    the labels themselves.

    ``update`` takes ``(y_pred, y)``, both integer labels of shape ``(N,)`` or ``(N, 1)``. Take the argmax of scores in
    ``output_transform``. If all predicted and true labels are equal, kappa is undefined and the value is NaN. The value
    is a number; for data on an accelerator it is a tensor there.

    Args:
        weights: Weight of a disagreement: None, ``"linear"`` or ``"quadratic"``.
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.
        num_classes: ``C`` of labels in [0, C), of which only ``2C + 3`` numbers are kept. Default: all labels are kept,
            and may be any integers.
        validate: Check the values of each batch in ``update``, not only of the first.

    Raises:
        ValueError: If ``weights`` or ``num_classes`` is invalid; by ``update`` if the shapes do not fit, or labels of
            the first batch are not integers or outside [0, C); by ``compute`` if those of another batch are.

    References:
        Cohen, 1960, *Educational and Psychological Measurement* 20, 37-46. Cohen, 1968, *Psychological Bulletin* 70,
        213-220, for the weights.

    Example:
        >>> metric = CohenKappa()
        >>> metric.update((torch.tensor([0, 0, 2, 2, 0, 2]), torch.tensor([2, 0, 2, 2, 0, 1])))
        >>> round(metric.compute(), 6)
        0.428571
    """

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        weights: Literal["linear", "quadratic"] | None = None,
        check_compute_fn: bool = False,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        num_classes: int | None = None,
        *,
        validate: bool = False,
    ) -> None:
        if weights not in _POWERS:
            raise ValueError(f"CohenKappa: weights must be None, 'linear' or 'quadratic', got {weights!r}")
        self.weights = weights
        super().__init__(_POWERS[weights], num_classes, output_transform, device, skip_unrolling, validate=validate)

    def _value(self, predicted: Tensor, true: Tensor, disagreement: Tensor, labels: Tensor) -> Tensor:
        count = true.sum()
        if self.weights is None:
            by_chance = count * count - (predicted * true).sum()
        elif self.weights == "linear":  # |i - j| is the sum of the gaps in between: count how often each is crossed
            a, b = predicted.cumsum(0)[:-1], true.cumsum(0)[:-1]
            by_chance = (labels.diff() * (a * (count - b) + b * (count - a))).sum()
        else:
            x = labels - labels.median()
            by_chance = count * ((predicted + true) * x * x).sum() - 2 * (predicted * x).sum() * (true * x).sum()
        return 1 - disagreement * count / by_chance


class MatthewsCorrCoef(AgreementMetric):
    r"""Matthews correlation, :math:`\frac{cN - \sum_k p_k t_k}{\sqrt{(N^2 - \sum_k p_k^2)(N^2 - \sum_k t_k^2)}}`.

    :math:`c` samples are correct; class :math:`k` is predicted :math:`p_k` times and true :math:`t_k` times. For two
    classes it is :math:`\frac{TP \cdot TN - FP \cdot FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}}`.

    ``update`` takes ``(y_pred, y)``:

    - integer labels, both of shape ``(N,)`` or ``(N, 1)``;
    - scores of shape ``(N, C)``, of which the largest along ``C`` is the prediction, and labels of ``(N,)`` or
      ``(N, 1)``, or one-hot of ``(N, C)``.

    If all predicted or all true labels are equal, the value is 0. It is a number; for data on an accelerator it is a
    tensor there.

    Args:
        check_compute_fn: Accepted, as in pytorch-ignite, without effect.
        num_classes: ``C`` of labels in [0, C), of which only ``2C + 3`` numbers are kept. Default: all labels are kept,
            and may be any integers.
        validate: Check the values of each batch in ``update``, not only of the first.

    Raises:
        ValueError: If ``num_classes`` is invalid; by ``update`` if the shapes do not fit, or labels of the first batch
            are not integers or outside [0, C); by ``compute`` if those of another batch are.

    References:
        Matthews, 1975, *Biochimica et Biophysica Acta* 405, 442-451. Gorodkin, 2004, *Computational Biology and
        Chemistry* 28, 367-374, for more than two classes.

    Example:
        >>> metric = MatthewsCorrCoef()
        >>> metric.update((torch.tensor([1, 1, 1, -1]), torch.tensor([1, -1, 1, 1])))
        >>> round(metric.compute(), 6)
        -0.333333
    """

    _takes: ClassVar[str] = "labels of shape (N,) or (N, 1), or scores (N, C) and labels (N,), (N, 1) or one-hot (N, C)"
    _takes_scores: ClassVar[bool] = True

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        check_compute_fn: bool = False,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        *,
        num_classes: int | None = None,
        validate: bool = False,
    ) -> None:
        super().__init__(0, num_classes, output_transform, device, skip_unrolling, validate=validate)

    def _value(self, predicted: Tensor, true: Tensor, disagreement: Tensor, labels: Tensor) -> Tensor:
        count = true.sum()
        square = count * count
        covariance = (count - disagreement) * count - (predicted * true).sum()
        variances = (square - predicted.square().sum()) * (square - true.square().sum())
        return torch.where(variances > 0, covariance / variances.clamp(min=1).sqrt(), 0.0)


@memoized
def labels_of(y_pred: Tensor, y: Tensor) -> Tensor:
    """Predicted and true labels, int64 of shape ``(2, N)``."""
    return torch.stack([_labels(y_pred.detach()), _labels(y.detach())])


@memoized
def agreement_counts(y_pred: Tensor, y: Tensor, num_classes: int, power: int) -> tuple[Tensor, Tensor]:
    """The counts of a batch, as in :attr:`AgreementMetric.counts`, and the sum of its disagreements."""
    labels = labels_of(y_pred, y)
    places = torch.where(_outside(labels, num_classes), num_classes, labels)
    return _histogram(places, num_classes + 1), _disagreement(places[0] - places[1], power)


def _are_labels(values: Tensor) -> bool:
    """Whether the shape is that of labels, ``(N,)`` or ``(N, 1)``, not that of scores, ``(N, C)``."""
    return values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)


def _labels(values: Tensor) -> Tensor:
    if not _are_labels(values):
        return values.argmax(1)
    values = values.flatten()
    labels = values.long()
    return torch.where(values == labels, labels, _NO_LABEL) if values.is_floating_point() else labels


def _outside(labels: Tensor, num_classes: int) -> Tensor:
    return (labels < 0) | (labels >= num_classes)


def _histogram(places: Tensor, size: int) -> Tensor:
    """Number of occurrences in each of the two rows of each of ``size`` places."""
    counts = torch.zeros(2, size, dtype=torch.int64, device=places.device)
    return counts.scatter_add_(1, places, torch.ones_like(places))


def _difference(labels: Tensor, others: Tensor) -> Tensor:
    """The difference in double precision: exact for close labels, without overflow for distant ones."""
    dtype = accumulation_dtype(labels.device)
    rough = labels.to(dtype) - others.to(dtype)
    return torch.where(rough.abs() < 2**62, (labels - others).to(dtype), rough)


def _disagreement(difference: Tensor, power: int) -> Tensor:
    return (difference != 0).sum() if power == 0 else difference.abs().pow(power).sum()

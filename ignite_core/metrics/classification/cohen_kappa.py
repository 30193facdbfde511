"""Agreement beyond chance."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ignite_core.metrics.classification.agreement import AgreementMetric
from ignite_core.metrics.core.metric import OutputTransform, unchanged

__all__ = ["CohenKappa"]

_POWERS = {None: 0, "linear": 1, "quadratic": 2}


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

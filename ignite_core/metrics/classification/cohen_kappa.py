"""Agreement beyond chance.

Shapes: ``N`` samples, ``C`` classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ignite_core.metrics.classification.agreement import AgreementMetric
from ignite_core.metrics.core.metric import unchanged

__all__ = ["CohenKappa"]

_POWERS = {None: 0, "linear": 1, "quadratic": 2}


class CohenKappa(AgreementMetric):
    r"""Cohen's kappa, :math:`\kappa = 1 - \frac{\sum_{ij} w_{ij} O_{ij}}{\sum_{ij} w_{ij} E_{ij}}`.

    :math:`O_{ij}` counts the samples of true label :math:`j` that were predicted as :math:`i`, :math:`E_{ij}` is how
    many there would be by chance, the product of how often either occurs over :math:`N`. The weight :math:`w_{ij}` of a
    disagreement is 1, or :math:`|i - j|` if linear, or :math:`(i - j)^2` if quadratic, where :math:`i` and :math:`j`
    are the labels themselves, whichever of them occur.

    ``update`` takes ``(y_pred, y)``, both labels of shape ``(N,)`` or ``(N, 1)``, whole numbers. Take the argmax of
    scores in ``output_transform``. If all predicted and true labels are one and the same, kappa is undefined and the
    value NaN. The value is a number; of data on an accelerator it is a tensor there.

    Args:
        output_transform: Makes what ``update`` takes of ``engine.state.output``.
        weights: How much a disagreement weighs: None, ``"linear"`` or ``"quadratic"``.
        check_compute_fn: Has no effect: what is wrong with a batch is said in any case.
        device: As for :class:`~ignite_core.metrics.Metric`.
        skip_unrolling: As for :class:`~ignite_core.metrics.Metric`.
        num_classes: ``C`` of labels in [0, C), of which only ``2C + 3`` numbers are kept; by default all labels are
            kept, which may then be any whole numbers.
        validate: Look at the values of each batch, not only of the first, in ``update``.

    Raises:
        ValueError: If ``weights`` or ``num_classes`` is none of the above; by ``update`` if shapes do not fit, or
            labels of the first batch are not whole numbers or outside [0, C); by ``compute`` if those of another batch
            are outside.

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
        output_transform: Callable[[Any], Any] = unchanged,
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

    def _of(self, predicted: Tensor, true: Tensor, disagreement: Tensor, labels: Tensor) -> Tensor:
        count = true.sum()
        if self.weights is None:
            by_chance = count * count - (predicted * true).sum()
        elif self.weights == "linear":  # |i - j| is the sum of the gaps between them: how often is each one crossed?
            a, b = predicted.cumsum(0)[:-1], true.cumsum(0)[:-1]
            by_chance = (labels.diff() * (a * (count - b) + b * (count - a))).sum()
        else:
            x = labels - labels.median()
            by_chance = count * ((predicted + true) * x * x).sum() - 2 * (predicted * x).sum() * (true * x).sum()
        return 1 - disagreement * count / by_chance

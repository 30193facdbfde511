"""The average of a loss function over everything seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.metric import Metric, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total

__all__ = ["Loss"]


class Loss(Metric):
    r"""Average of a loss over all samples, :math:`\frac{\sum_b n_b\, \ell_b}{\sum_b n_b}` over batches :math:`b`.

    ``update`` takes ``(y_pred, y)`` or ``(y_pred, y, keyword arguments of loss_fn)``. The value is a number; of data on
    an accelerator it is a tensor there, so that nobody waits.

    Args:
        loss_fn: ``loss_fn(y_pred, y) -> scalar tensor``, the mean over the samples of a batch.
        output_transform: Makes what ``update`` takes of ``engine.state.output``.
        batch_size: Makes the number of samples :math:`n_b` of ``y``; by default its length. A batch of which it makes 0
            is left out. Where ``loss_fn`` ignores labels, count the others:
            ``batch_size=lambda y: int((y != -100).sum())``.
        device: As for :class:`Metric`.
        skip_unrolling: As for :class:`Metric`.

    Example:
        >>> metric = Loss(torch.nn.functional.l1_loss)
        >>> metric.update((torch.tensor([1.0]), torch.tensor([4.0])))
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])))
        >>> metric.compute()
        1.0
    """

    higher_is_better = False
    required_output_keys = ("y_pred", "y", "criterion_kwargs")

    loss_sum = total()
    num_samples = total(dtype=torch.int64)

    def __init__(
        self,
        loss_fn: Callable[..., torch.Tensor],
        output_transform: Callable[[Any], Any] = unchanged,
        batch_size: Callable[[Any], int] = len,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        for name, function in (("loss_fn", loss_fn), ("batch_size", batch_size)):
            if not callable(function):
                raise TypeError(f"Loss: {name} must be callable, got {type(function).__name__}")
        self._loss_fn = loss_fn
        self._batch_size = batch_size
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        y_pred, y, *more = output
        loss = self._loss_fn(y_pred, y, **(more[0] if more else {})).detach()
        if loss.ndim != 0:
            raise ValueError(
                f"Loss.update: loss_fn must return a scalar, the mean of a batch, got shape {tuple(loss.shape)}"
            )
        size: Any = self._batch_size(y)
        if isinstance(size, torch.Tensor) and not size.is_cpu:
            loss = torch.where(size == 0, 0.0, loss)  # the mean of nothing is NaN, and weighs nothing
        elif not size:
            return
        if loss.is_cpu:  # where it is no wait, and the quickest way
            self.loss_sum += loss.item() * size
        else:
            self.loss_sum += loss.to(accumulation_dtype(loss.device)) * size
        self.num_samples += size

    def compute(self) -> float | torch.Tensor:
        if self.num_samples == 0:
            raise NotComputableError("Loss.compute: no sample was seen; call update() first")
        value: float | torch.Tensor = ratio(self.loss_sum, self.num_samples)
        return value

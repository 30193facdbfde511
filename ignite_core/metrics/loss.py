"""The average of a loss function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ignite_core.metrics.core.checks import check_computable
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total

__all__ = ["Loss"]


class Loss(Metric):
    r"""Average of a loss over all samples, :math:`\frac{\sum_b n_b\, \ell_b}{\sum_b n_b}` over batches :math:`b`.

    ``update`` takes ``(y_pred, y)`` or ``(y_pred, y, keyword arguments of loss_fn)``. The value is a number; for data
    on an accelerator it is a tensor there, so that the host does not wait.

    Args:
        loss_fn: ``loss_fn(y_pred, y) -> scalar tensor``, the mean over the samples of a batch.
        batch_size: Returns the number of samples :math:`n_b` of ``y``. Default: its length. A batch of size 0 is
            ignored. If ``loss_fn`` ignores some labels, count the others: ``batch_size=lambda y: int((y !=
            -100).sum())``.

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
        output_transform: OutputTransform = unchanged,
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
            loss = torch.where(size == 0, 0.0, loss)  # the mean of an empty batch is NaN
        elif not size:
            return
        if loss.is_cpu:  # item() does not wait and is fastest
            self.loss_sum += loss.item() * size
        else:
            self.loss_sum += loss.to(accumulation_dtype(loss.device)) * size
        self.num_samples += size

    def compute(self) -> float | torch.Tensor:
        check_computable(self, self.num_samples)
        return ratio(self.loss_sum, self.num_samples)

"""Averages of numbers and tensors, single ones or batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ignite_core.exceptions import NotComputableError
from ignite_core.metrics.core.metric import Metric, OutputTransform, unchanged
from ignite_core.metrics.core.states import accumulation_dtype, ratio, total

__all__ = ["Average", "GeometricAverage", "VariableAccumulation"]


class VariableAccumulation(Metric):
    """An accumulator with a custom operation, and the number of values.

    ``update`` takes a number or a tensor. A tensor with a batch dimension, ``(N, *)`` with ``ndim > 1``, counts as
    ``N`` values, accumulated along it; a number, or a tensor of ``ndim`` 0 or 1, counts as one.

    Args:
        op: Called with the accumulator and the new values (for a batch, ``N`` of them along the first dimension);
            returns the new accumulator. With several ranks the accumulators are summed.

    Example:
        >>> metric = VariableAccumulation(
        ...     lambda a, x: a + (x.sum(0) if isinstance(x, torch.Tensor) and x.ndim > 1 else x)
        ... )
        >>> for value in (1.0, 2.5):
        ...     metric.update(value)
        >>> metric.compute()
        (3.5, 2)
    """

    required_output_keys = None
    accumulator = total()
    num_examples = total(dtype=torch.int64)

    def __init__(
        self,
        op: Callable[[Any, Any], Any],
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        if not callable(op):
            raise TypeError(f"{type(self).__name__}: op must be callable, got {type(op).__name__}")
        self._op = op
        super().__init__(output_transform, device, skip_unrolling)

    def update(self, output: Any) -> None:
        if isinstance(output, Tensor):
            output = output.detach().to(accumulation_dtype(output.device), copy=True)  # op may keep it
        elif not isinstance(output, int | float):
            raise TypeError(
                f"{type(self).__name__}.update: takes a number or a tensor, got {type(output).__name__}; choose one in "
                "output_transform"
            )
        self.accumulator = self._op(self.accumulator, output)
        self.num_examples += output.shape[0] if isinstance(output, Tensor) and output.ndim > 1 else 1

    def compute(self) -> Any:
        self._check_computable()
        value = self.accumulator
        return value.clone() if isinstance(value, Tensor) else float(value), int(self.num_examples)

    def _check_computable(self) -> None:
        if self.num_examples == 0:
            raise NotComputableError(f"{type(self).__name__}.compute: nothing was seen; call update() first")


class Average(VariableAccumulation):
    r"""Arithmetic mean, :math:`\frac1n \sum_i x_i`, elementwise.

    ``update`` takes a number, a tensor of ``ndim`` 0 or 1, or a batch of shape ``(N, *)`` with ``ndim > 1``.

    Example:
        >>> metric = Average()
        >>> metric.update(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> metric.compute()
        tensor([2., 3.], dtype=torch.float64)
    """

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        super().__init__(_add, output_transform, device, skip_unrolling)

    def compute(self) -> Any:
        self._check_computable()
        return ratio(self.accumulator, int(self.num_examples))


class GeometricAverage(VariableAccumulation):
    r"""Geometric mean, :math:`\left(\prod_i x_i\right)^{1/n} = \exp\left(\frac1n \sum_i \ln x_i\right)`, elementwise.

    ``update`` takes positive numbers, in the same forms as :class:`Average`.

    Example:
        >>> metric = GeometricAverage()
        >>> for value in (1.0, 10.0, 100.0):
        ...     metric.update(value)
        >>> round(metric.compute(), 9)
        10.0
    """

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
    ) -> None:
        super().__init__(_add_logarithm, output_transform, device, skip_unrolling)

    def compute(self) -> Any:
        self._check_computable()
        mean = ratio(self.accumulator, int(self.num_examples))
        return mean.exp() if isinstance(mean, Tensor) else math.exp(mean)


def _add(accumulated: Any, values: Any) -> Any:
    return accumulated + (values.sum(0) if isinstance(values, Tensor) and values.ndim > 1 else values)


def _add_logarithm(accumulated: Any, values: Any) -> Any:
    return _add(accumulated, torch.as_tensor(values, dtype=torch.float64).log())

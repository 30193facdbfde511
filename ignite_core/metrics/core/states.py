"""What a metric remembers: a state is declared once, and what can be done with it follows from its kind.

A state lives where the data is. A total starts as a number, and becomes a tensor with the first tensor that is added:
on the device of that tensor, in the declared dtype, and a tensor of its own, so that adding in place is safe.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["Reduce", "StateSpec", "gathered", "maximum", "minimum", "total"]


@dataclass(frozen=True, slots=True)
class Reduce:
    """How the states of two metrics become that of one which has seen what both have seen.

    Attributes:
        op: What the backend calls it, if it can do it.
        combine: The same for two states.
    """

    op: str | None
    combine: Callable[[Any, Any], Any]


def _extreme(of_tensors: Callable[[Any, Any], Any], of_numbers: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def combine(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor) and not isinstance(b, Tensor):
            return of_numbers(a, b)
        return of_tensors(_tensor(a), _tensor(b))

    return combine


def _tensor(value: Any) -> Tensor:
    """A number as a tensor, in which a float keeps its digits."""
    return torch.as_tensor(value, dtype=torch.float64 if type(value) is float else None)


SUM = Reduce("SUM", operator.add)
PRODUCT = Reduce("PRODUCT", operator.mul)
MAX = Reduce("MAX", _extreme(torch.maximum, max))
MIN = Reduce("MIN", _extreme(torch.minimum, min))
CONCATENATE = Reduce(None, operator.add)

#: By the names of pytorch-ignite's ``sync_all_reduce``.
REDUCTIONS = {"SUM": SUM, "PRODUCT": PRODUCT, "MAX": MAX, "MIN": MIN}


@dataclass(frozen=True, slots=True)
class StateSpec:
    """A declared state.

    Attributes:
        reduce: How two of them are joined.
        dtype: What it is accumulated in; None for what is gathered, which stays as it came.
    """

    reduce: Reduce
    dtype: torch.dtype | None

    @property
    def op(self) -> str | None:
        """What the backend calls the reduction; None for what is gathered."""
        return self.reduce.op

    @property
    def may_be_large(self) -> bool:
        """Whether the backend may reduce it, with a fresh state where a rank has none."""
        return self.op is not None

    def fresh(self) -> Any:
        """The state of a metric that has seen nothing."""
        if self.dtype is None:
            return []
        if self.reduce is SUM:
            return self._number(0)
        if self.dtype.is_floating_point:
            return torch.tensor(-torch.inf if self.reduce is MAX else torch.inf, dtype=self.dtype)
        limits = torch.iinfo(self.dtype)
        return torch.tensor(limits.min if self.reduce is MAX else limits.max, dtype=self.dtype)

    def saved(self, value: Any) -> Any:
        """The state as tensors, for a state_dict."""
        if self.dtype is None:
            return [tensor.detach().clone() for tensor in value]
        return value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=self.dtype)

    def loaded(self, value: Any) -> Any:
        """A saved state as it goes on: a total without dimensions as a number, so that it joins data on any device.

        Raises:
            TypeError: If it is not what :meth:`saved` gives.
        """
        wanted: type[Any] = list if self.dtype is None else Tensor
        if not isinstance(value, wanted):
            raise TypeError(f"a saved state must be a {wanted.__name__}, got {type(value).__name__}")
        if self.reduce is SUM and value.ndim == 0:
            return self._number(value.item())
        return self.saved(value)

    def _number(self, value: Any) -> Any:
        assert self.dtype is not None
        return _Float(value, self.dtype) if self.dtype.is_floating_point else _Int(value, self.dtype)

    def moved(self, value: Any, device: torch.device | str) -> Any:
        """The state on another device; a number stays a number."""
        if self.dtype is None:
            return [tensor.to(device) for tensor in value]
        return (
            value.to(device, accumulated_in(self.dtype, torch.device(device))) if isinstance(value, Tensor) else value
        )


@dataclass(frozen=True, slots=True)
class PlainSpec(StateSpec):
    """A number or tensor that the metric keeps in an attribute of its own making; see :func:`sync_all_reduce`."""

    @property
    def may_be_large(self) -> bool:
        return False  # as there is no fresh state

    def fresh(self) -> Any:
        raise NotImplementedError("what it starts with is known to the metric's own reset() alone")

    def saved(self, value: Any) -> Any:
        return value.detach().clone() if isinstance(value, Tensor) else value

    def loaded(self, value: Any) -> Any:
        if not isinstance(value, Tensor | int | float):
            raise TypeError(f"a saved state must be a number or a tensor, got {type(value).__name__}")
        return self.saved(value)

    def moved(self, value: Any, device: torch.device | str) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value


def total(dtype: torch.dtype = torch.float64) -> Any:
    """A sum over everything seen; ``self.name += tensor`` in ``update``.

    Args:
        dtype: What it is summed in, whatever the dtype of what is added. Devices that lack float64 use float32.
    """
    return StateSpec(SUM, dtype)


def maximum(dtype: torch.dtype = torch.float64) -> Any:
    """The largest value seen, elementwise: ``self.name = torch.maximum(self.name, tensor)``. It starts at -inf."""
    return StateSpec(MAX, dtype)


def minimum(dtype: torch.dtype = torch.float64) -> Any:
    """The smallest value seen, elementwise: ``self.name = torch.minimum(self.name, tensor)``. It starts at inf."""
    return StateSpec(MIN, dtype)


def gathered() -> Any:
    """All tensors seen, in order: ``self.name.append(tensor)``; ``torch.cat(self.name)`` in ``compute``.

    Append a copy of a tensor that came from outside: the next batch may be written into its memory.
    """
    return StateSpec(CONCATENATE, None)


def accumulated_in(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype in which a device can accumulate: Apple's has no float64."""
    return torch.float32 if dtype is torch.float64 and device.type == "mps" else dtype


class _Float(float):
    """A sum of numbers that turns into a tensor of the declared dtype when a tensor is added to it."""

    dtype: torch.dtype

    def __new__(cls, value: float, dtype: torch.dtype) -> Self:
        number = super().__new__(cls, value)
        number.dtype = dtype
        return number

    def __add__(self, other: Any) -> Any:
        if type(other) is not float and isinstance(other, Tensor):
            return _own(other, self.dtype).add_(float(self))
        return _Float(float(self) + other, self.dtype)

    __radd__ = __add__

    def __reduce__(self) -> Any:
        return type(self), (float(self), self.dtype)


class _Int(int):
    """As :class:`_Float`, of whole numbers. Their sum is exact, so it need not remember the dtype."""

    dtype: torch.dtype

    def __new__(cls, value: int, dtype: torch.dtype) -> Self:
        number = super().__new__(cls, value)
        number.dtype = dtype
        return number

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Tensor):
            return _own(other, self.dtype).add_(int(self))
        return int(self) + operator.index(other)

    __radd__ = __add__

    def __reduce__(self) -> Any:
        return type(self), (int(self), self.dtype)


def _own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy without history that may be added to in place.

    Raises:
        TypeError: If the values would lose their fraction.
    """
    if not torch.can_cast(tensor.dtype, dtype):
        raise TypeError(f"a total of {dtype} takes whole numbers, got a tensor of {tensor.dtype}")
    with torch.inference_mode(False):  # or it could only be added to under inference mode, for ever
        return tensor.detach().to(accumulated_in(dtype, tensor.device), copy=True)


def ratio(numerator: Any, denominator: Any) -> Any:
    """The quotient of two totals in double precision: a number, or on an accelerator a tensor, so that nobody waits."""
    if isinstance(numerator, Tensor) and numerator.is_cpu and numerator.ndim == 0:
        numerator = numerator.item()
    elif isinstance(numerator, Tensor):
        numerator = numerator.to(accumulated_in(torch.float64, numerator.device))
    value = numerator / denominator
    return value.item() if isinstance(value, Tensor) and value.is_cpu and value.ndim == 0 else value

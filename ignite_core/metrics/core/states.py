"""States of a metric: each is declared once; how it is reset, merged, saved and moved follows from the declaration.

A state is on the device of the data. A total starts as a number and becomes a tensor when the first tensor is added: on
the device of that tensor, in the declared dtype, and as a copy, so that adding in place is safe.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from ignite_core.exceptions import few


@dataclass(frozen=True, slots=True)
class Reduce:
    """How the states of two metrics are combined."""

    op: str | None  # name of the reduction in the backend
    combine: Callable[[Any, Any], Any]


def _extreme(of_tensors: Callable[[Any, Any], Any], of_numbers: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def combine(a: Any, b: Any) -> Any:
        if not isinstance(a, Tensor) and not isinstance(b, Tensor):
            return of_numbers(a, b)
        return of_tensors(_tensor(a), _tensor(b))

    return combine


def _tensor(value: Any) -> Tensor:
    """A number as a tensor; a float becomes float64."""
    return torch.as_tensor(value, dtype=torch.float64 if type(value) is float else None)


SUM = Reduce("SUM", operator.add)
PRODUCT = Reduce("PRODUCT", operator.mul)
MAX = Reduce("MAX", _extreme(torch.maximum, max))
MIN = Reduce("MIN", _extreme(torch.minimum, min))
CONCATENATE = Reduce(None, operator.add)

#: By their names in ``sync_all_reduce``.
REDUCTIONS = {"SUM": SUM, "PRODUCT": PRODUCT, "MAX": MAX, "MIN": MIN}


@dataclass(frozen=True, slots=True)
class StateSpec:
    """A declared state."""

    reduce: Reduce
    dtype: torch.dtype | None  # of the accumulator; None for gathered states, which keep that of the data

    @property
    def op(self) -> str | None:
        """Name of the reduction in the backend; None for gathered states."""
        return self.reduce.op

    @property
    def may_be_large(self) -> bool:
        """Whether the backend may reduce it, with a fresh state on a rank without data."""
        return self.op is not None

    def fresh(self) -> Any:
        """The state after a reset."""
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
        """The state from a state_dict. A scalar total becomes a number, which combines with data on any device.

        Raises:
            TypeError: If the value does not come from :meth:`saved`.
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
        if not isinstance(value, Tensor):
            return value
        return value.to(device, accumulation_dtype(torch.device(device), self.dtype))


@dataclass(frozen=True, slots=True)
class PlainSpec(StateSpec):
    """A number or tensor in an attribute that the metric's ``reset`` sets; see :func:`sync_all_reduce`."""

    @property
    def may_be_large(self) -> bool:
        return False  # there is no fresh state

    def fresh(self) -> Any:
        raise NotImplementedError("only reset() of the metric knows the initial value")

    def saved(self, value: Any) -> Any:
        return value.detach().clone() if isinstance(value, Tensor) else value

    def loaded(self, value: Any) -> Any:
        if not isinstance(value, Tensor | int | float):
            raise TypeError(f"a saved state must be a number or a tensor, got {type(value).__name__}")
        return self.saved(value)

    def moved(self, value: Any, device: torch.device | str) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value


def total(dtype: torch.dtype = torch.float64) -> Any:
    """A sum over all updates: ``self.name += tensor`` in ``update``.

    Args:
        dtype: The dtype of the sum, independent of that of the summands. Devices without float64 use float32.
    """
    return StateSpec(SUM, dtype)


def maximum(dtype: torch.dtype = torch.float64) -> Any:
    """The elementwise maximum over all updates: ``self.name = torch.maximum(self.name, tensor)``. Starts at -inf."""
    return StateSpec(MAX, dtype)


def minimum(dtype: torch.dtype = torch.float64) -> Any:
    """The elementwise minimum over all updates: ``self.name = torch.minimum(self.name, tensor)``. Starts at inf."""
    return StateSpec(MIN, dtype)


def gathered() -> Any:
    """The tensors of all updates, in order: ``self.name.append(tensor)``; ``torch.cat(self.name)`` in ``compute``.

    Append copies of input tensors: the next batch may be written into the same memory.
    """
    return StateSpec(CONCATENATE, None)


def loaded_states(who: str, specs: Mapping[str, StateSpec], state_dict: Any) -> dict[str, Any]:
    """The states of a state_dict, checked."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{who}: state_dict must be a mapping, got {type(state_dict).__name__}")
    if set(state_dict) != set(specs):
        raise ValueError(f"{who}: the states must be {few(sorted(specs))}, got {few(sorted(state_dict))}")
    return {name: spec.loaded(state_dict[name]) for name, spec in specs.items()}


def accumulation_dtype(device: torch.device, dtype: torch.dtype = torch.float64) -> torch.dtype:
    """The dtype in which a device accumulates: float32 in place of float64 on MPS, which lacks it."""
    return torch.float32 if dtype is torch.float64 and device.type == "mps" else dtype


class _Float(float):
    """A sum of numbers; adding a tensor makes it a tensor of the declared dtype."""

    dtype: torch.dtype

    def __new__(cls, value: float, dtype: torch.dtype) -> Self:
        number = super().__new__(cls, value)
        number.dtype = dtype
        return number

    def __add__(self, other: Any) -> Any:
        if type(other) is not float and isinstance(other, Tensor):
            return _accumulator(other, self.dtype).add_(float(self))
        return _Float(float(self) + other, self.dtype)

    __radd__ = __add__

    def __reduce__(self) -> Any:
        return type(self), (float(self), self.dtype)


class _Int(int):
    """Like :class:`_Float`, for integers. Their sum is exact, so it does not keep the dtype."""

    dtype: torch.dtype

    def __new__(cls, value: int, dtype: torch.dtype) -> Self:
        number = super().__new__(cls, value)
        number.dtype = dtype
        return number

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Tensor):
            return _accumulator(other, self.dtype).add_(int(self))
        return int(self) + operator.index(other)

    __radd__ = __add__

    def __reduce__(self) -> Any:
        return type(self), (int(self), self.dtype)


def _accumulator(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A detached copy that may be added to in place. A float tensor is not cast to an integer dtype."""
    if not torch.can_cast(tensor.dtype, dtype):
        raise TypeError(f"a total of {dtype} takes integers, got a tensor of {tensor.dtype}")
    with torch.inference_mode(False):  # an inference tensor could only be changed in inference mode
        return tensor.detach().to(accumulation_dtype(tensor.device, dtype), copy=True)


def ratio(numerator: Any, denominator: Any) -> float | Tensor:
    """The quotient of two totals in float64: a number, or on an accelerator a tensor, so that the host never waits."""
    if isinstance(numerator, Tensor) and numerator.is_cpu and numerator.ndim == 0:
        numerator = numerator.item()
    elif isinstance(numerator, Tensor):
        numerator = numerator.to(accumulation_dtype(numerator.device))
    value: float | Tensor = numerator / denominator
    return value.item() if isinstance(value, Tensor) and value.is_cpu and value.ndim == 0 else value

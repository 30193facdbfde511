"""Operators on metrics. Each returns an expression, which is a metric itself.

The class of expressions, MetricsLambda, derives from Metric, which derives from Arithmetic. It is therefore assigned to
``Arithmetic._expression`` where it is defined.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch

__all__ = ["INCREASING", "Arithmetic", "divide"]

#: Tensor methods whose result increases with the elements.
INCREASING = frozenset(
    {"mean", "nanmean", "sum", "nansum", "median", "max", "min", "amax", "amin", "item", "sqrt", "exp"}
)


class Arithmetic:
    """Operators, indexing, and the public methods of :class:`torch.Tensor`, applied to the result of ``compute``."""

    _expression: ClassVar[Callable[..., Any]]

    def __add__(self, other: Any) -> Any:
        return self._expression(operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return self._expression(operator.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return self._expression(operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._expression(operator.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return self._expression(operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._expression(operator.mul, other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._expression(divide, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._expression(divide, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self._expression(floor_divide, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._expression(floor_divide, other, self)

    def __mod__(self, other: Any) -> Any:
        return self._expression(remainder, self, other)

    def __rmod__(self, other: Any) -> Any:
        return self._expression(remainder, other, self)

    def __pow__(self, other: Any) -> Any:
        return self._expression(operator.pow, self, other)

    def __rpow__(self, other: Any) -> Any:
        return self._expression(operator.pow, other, self)

    def __matmul__(self, other: Any) -> Any:
        return self._expression(operator.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return self._expression(operator.matmul, other, self)

    def __neg__(self) -> Any:
        return self._expression(operator.neg, self)

    def __abs__(self) -> Any:
        return self._expression(operator.abs, self)

    def __getitem__(self, index: Any) -> Any:
        return self._expression(operator.getitem, self, index)

    __iter__ = None  # __getitem__ never raises IndexError, so iteration would not end

    if not TYPE_CHECKING:  # a type checker should report unknown attributes

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or not callable(getattr(torch.Tensor, name, None)):
                raise AttributeError(
                    f"{type(self).__name__!r} object has no attribute {name!r}; neither has torch.Tensor a method of it"
                )
            return lambda *args, **kwargs: self._expression(_Method(name), self, *args, **kwargs)


def divide(numerator: Any, denominator: Any) -> Any:
    """The quotient. Division by the number zero gives inf or NaN, as in torch, instead of an error."""
    return operator.truediv(*_divisible(numerator, denominator))


def floor_divide(numerator: Any, denominator: Any) -> Any:
    """Like :func:`divide`, rounded down."""
    return operator.floordiv(*_divisible(numerator, denominator))


def remainder(numerator: Any, denominator: Any) -> Any:
    """The remainder of :func:`floor_divide`, with the sign of the denominator."""
    return operator.mod(*_divisible(numerator, denominator))


def _divisible(numerator: Any, denominator: Any) -> tuple[Any, Any]:
    """The operands, converted to tensors if they are numbers and the denominator is zero."""
    if isinstance(denominator, int | float) and isinstance(numerator, int | float) and denominator == 0:
        return torch.tensor(numerator, dtype=torch.float64), torch.tensor(denominator, dtype=torch.float64)
    return numerator, denominator


class _Method:
    """Calls a tensor method on the value of a metric, a tensor or a number."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        tensor = torch.as_tensor(value)
        if tensor.is_floating_point() and not isinstance(value, torch.Tensor):
            tensor = torch.as_tensor(value, dtype=torch.float64)
        return getattr(tensor, self.__name__)(*args, **kwargs)

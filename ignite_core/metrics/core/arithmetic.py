"""Operators on metrics. Each returns an expression, which is a metric itself.

The class of expressions, MetricsLambda, derives from Metric, which derives from Arithmetic. It is therefore assigned to
``Arithmetic._expression`` where it is defined.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch

#: Tensor methods whose result increases with the elements.
INCREASING = frozenset(
    {"mean", "nanmean", "sum", "nansum", "median", "max", "min", "amax", "amin", "item", "sqrt", "exp"}
)


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


def _unary(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda self: self._expression(function, self)


def _binary(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: self._expression(function, self, other)


def _reflected(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: self._expression(function, other, self)


class Arithmetic:
    """Operators, indexing, and the public methods of :class:`torch.Tensor`, applied to the result of ``compute``."""

    _expression: ClassVar[Callable[..., Any]]

    __add__, __radd__ = _binary(operator.add), _reflected(operator.add)
    __sub__, __rsub__ = _binary(operator.sub), _reflected(operator.sub)
    __mul__, __rmul__ = _binary(operator.mul), _reflected(operator.mul)
    __truediv__, __rtruediv__ = _binary(divide), _reflected(divide)
    __floordiv__, __rfloordiv__ = _binary(floor_divide), _reflected(floor_divide)
    __mod__, __rmod__ = _binary(remainder), _reflected(remainder)
    __pow__, __rpow__ = _binary(operator.pow), _reflected(operator.pow)
    __matmul__, __rmatmul__ = _binary(operator.matmul), _reflected(operator.matmul)
    __getitem__ = _binary(operator.getitem)
    __neg__, __abs__ = _unary(operator.neg), _unary(operator.abs)

    __iter__ = None  # __getitem__ never raises IndexError, so iteration would not end

    if not TYPE_CHECKING:  # a type checker should report unknown attributes

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or not callable(getattr(torch.Tensor, name, None)):
                raise AttributeError(
                    f"{type(self).__name__!r} object has no attribute {name!r}; neither has torch.Tensor a method of it"
                )
            return lambda *args, **kwargs: self._expression(_Method(name), self, *args, **kwargs)


class _Method:
    """Calls a tensor method on the value of a metric, a tensor or a number."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        tensor = torch.as_tensor(value)
        if tensor.is_floating_point() and not isinstance(value, torch.Tensor):
            tensor = torch.as_tensor(value, dtype=torch.float64)
        return getattr(tensor, self.__name__)(*args, **kwargs)

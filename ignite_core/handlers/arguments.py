"""Checks of arguments, in words."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

__all__ = ["choice", "integer", "number"]


def integer(where: str, name: str, value: Any, least: int) -> int:
    """The argument as an int.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is below ``least``.

    Example:
        >>> integer("EarlyStopping", "patience", 0, least=1)
        Traceback (most recent call last):
        ValueError: EarlyStopping: patience must be at least 1, got 0
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{where}: {name} must be an integer, got {value!r}")
    if int(value) < least:
        raise ValueError(f"{where}: {name} must be at least {least}, got {value}")
    return int(value)


def number(where: str, name: str, value: Any, *, above: float | None = None, least: float | None = None) -> float:
    """The argument as it is.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not above ``above``, or below ``least``; a NaN is neither.

    Example:
        >>> number("TimeLimit", "limit_sec", 60, above=0)
        60
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{where}: {name} must be a number, got {value!r}")
    plain: float = value  # type: ignore[assignment]
    if above is not None and not plain > above:
        raise ValueError(f"{where}: {name} must be above {above}, got {value}")
    if least is not None and not plain >= least:
        raise ValueError(f"{where}: {name} must be at least {least}, got {value}")
    return plain


def choice(where: str, name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """The argument as it is.

    Raises:
        ValueError: If it is none of the choices.

    Example:
        >>> choice("EarlyStopping", "mode", "max", ("max", "min"))
        'max'
    """
    if value not in choices:
        raise ValueError(f"{where}: {name} must be one of {list(choices)}, got {value!r}")
    return value

"""Checks of arguments; ``where`` and ``name`` name the argument in the message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.exceptions import few

__all__ = ["check_engine", "check_keys", "choice", "integer", "number"]


def integer(where: str, name: str, value: object, least: int) -> int:
    """The argument as int; a TypeError if it is not an integer, a ValueError if it is below ``least``.

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


def number(where: str, name: str, value: object, *, above: float | None = None, least: float | None = None) -> float:
    """The argument unchanged; a TypeError if it is not a number, a ValueError if it is too small or NaN."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{where}: {name} must be a number, got {value!r}")
    plain: float = value  # type: ignore[assignment]
    if above is not None and not plain > above:
        raise ValueError(f"{where}: {name} must be above {above}, got {value}")
    if least is not None and not plain >= least:
        raise ValueError(f"{where}: {name} must be at least {least}, got {value}")
    return plain


def choice(where: str, name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """The argument unchanged; a ValueError if it is not one of the choices."""
    if value not in choices:
        raise ValueError(f"{where}: {name} must be one of {list(choices)}, got {value!r}")
    return value


def check_engine(where: str, engine: object, name: str = "engine") -> None:
    """A TypeError if an argument is not an Engine."""
    if not isinstance(engine, Engine):
        raise TypeError(f"{where}: {name} must be an Engine, got {engine!r}")


def check_keys(where: str, state_dict: object, keys: Iterable[str]) -> None:
    """A TypeError if a state to be loaded is not a mapping, a ValueError if one of the keys is missing."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{where}: state_dict must be a mapping, got {type(state_dict).__name__}")
    for key in keys:
        if key not in state_dict:
            raise ValueError(f"{where}: the key {key!r} is missing, got {few(state_dict)}")

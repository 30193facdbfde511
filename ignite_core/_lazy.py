"""Public names that are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazily"]


def lazily(
    package: str, homes: Mapping[str, str], subpackages: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Its ``__name__``.
        homes: The module, within the package, that each public name comes from.
        subpackages: Modules that are public names themselves.
    """

    def getattribute(name: str) -> Any:
        if name in subpackages:
            return import_module(f"{package}.{name}")  # the import itself binds the name
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)  # found directly from now on, without this function
        return value

    def directory() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *subpackages})

    return getattribute, directory

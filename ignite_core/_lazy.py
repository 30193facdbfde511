"""Import public names at their first use (PEP 562); they are listed once, in a stub file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["lazily"]


def lazily(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Args:
        package: The package's ``__name__``.
        file: The package's ``__file__``. The stub beside it, ``__init__.pyi``, re-exports each name from its module, as
            in ``from .module import Name as Name``, and each public subpackage, as in ``from . import name as name``.
    """
    homes: dict[str, str | None] = {
        alias.name: node.module
        for node in ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }

    def getattribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        value = (
            import_module(f"{package}.{name}") if home is None else getattr(import_module(f"{package}.{home}"), name)
        )
        setattr(sys.modules[package], name, value)  # later lookups do not call this function
        return value

    def directory() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return getattribute, directory, sorted(homes)

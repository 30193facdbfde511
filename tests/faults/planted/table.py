"""The table of planted bugs, and the ways to plant one: the fault tests can fail.

A bug is a function that replaces names of the product: functions, methods, constants of a module.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

__all__ = ["Planted", "all_planted", "altered", "nothing", "plant", "planted", "replace", "wrap"]

Plant = Callable[[pytest.MonkeyPatch], None]

#: The modules of this package that hold bugs; each row is added when its module is imported.
_ROOMS = ("checkpoint", "savers", "storage", "handlers", "engine", "distributed", "loggers")


@dataclass(frozen=True)
class Planted:
    """A bug that could be in the library, and the test that must fail if it is."""

    name: str
    plant: Plant
    caught_by: str  #: as pytest takes it; a ``-k`` expression may follow after a blank


_planted: list[Planted] = []


def planted(name: str, caught_by: str) -> Callable[[Plant], Plant]:
    """Add a function that plants a bug to the table."""

    def add(plant: Plant) -> Plant:
        _planted.append(Planted(name, plant, caught_by))
        return plant

    return add


def all_planted() -> list[Planted]:
    """The whole table."""
    for room in _ROOMS:
        importlib.import_module(f"tests.faults.planted.{room}")
    return list(_planted)


def plant(name: str) -> None:
    """Plant a bug in this process until it ends."""
    (bug,) = (bug for bug in all_planted() if bug.name == name)
    bug.plant(pytest.MonkeyPatch())


def replace(patch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Any) -> None:
    """Replace an attribute of a class or module.

    A function is replaced in all modules of the product that have imported it, if ``owner`` is the module that defines
    it, and else in ``owner`` alone.
    """
    original = getattr(owner, name)
    patch.setattr(owner, name, wrong)
    if not isinstance(owner, ModuleType) or getattr(original, "__module__", None) != owner.__name__:
        return
    for path, module in list(sys.modules.items()):
        if path.partition(".")[0] in ("ignite_core", "ignite_contrib"):
            for key in [key for key, value in vars(module).items() if value is original]:
                patch.setattr(module, key, wrong)


def wrap(patch: pytest.MonkeyPatch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function or method as :func:`replace` does; ``around`` gets the original one before the arguments."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrong(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    replace(patch, owner, name, wrong)


def nothing(*args: Any, **kwargs: Any) -> None:
    """Stands in for what is not done."""


class altered:  # noqa: N801 - used as a function is
    """A module with some attributes replaced, for one of the modules that have imported it."""

    def __init__(self, module: ModuleType, **wrong: Any) -> None:
        for name in wrong:
            getattr(module, name)  # raises AttributeError if the name is gone
        self.__dict__.update(wrong)
        self.__module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__module, name)

"""Where metrics draw; the only place that needs matplotlib."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["axes_for"]


def axes_for(who: str, ax: Any = None, **options: Any) -> Any:
    """The axes to draw on: those given, or new ones, made with these options of ``pyplot.subplots``.

    Raises:
        ModuleNotFoundError: If new ones are wanted and matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise  # it is there, but something that it needs is not
        raise ModuleNotFoundError(
            f"{who} needs the package 'matplotlib': pip install 'ignite-core[plot]'", name=error.name
        ) from error
    return importlib.import_module("matplotlib.pyplot").subplots(**options)[1]

"""Where metrics and handlers draw; the only place that needs matplotlib."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["axes_for", "pyplot_for"]


def pyplot_for(who: str) -> Any:
    """``matplotlib.pyplot``.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed; the message names ``who`` needs it.
    """
    try:
        importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise  # it is there, but something that it needs is not
        raise ModuleNotFoundError(
            f"{who} needs the package 'matplotlib': pip install 'ignite-core[plot]'", name=error.name
        ) from error
    return importlib.import_module("matplotlib.pyplot")


def axes_for(who: str, ax: Any = None, **options: Any) -> Any:
    """The axes to draw on: those given, or new ones, made with these options of ``pyplot.subplots``.

    Raises:
        ModuleNotFoundError: If new ones are wanted and matplotlib is not installed.
    """
    return pyplot_for(who).subplots(**options)[1] if ax is None else ax

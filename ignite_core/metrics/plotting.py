"""Access to matplotlib for metrics and handlers."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["axes_for", "pyplot_for"]


def pyplot_for(who: str) -> Any:
    """``matplotlib.pyplot``.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed; the message says that ``who`` needs it.
    """
    try:
        importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise  # matplotlib is installed, but one of its imports is not
        raise ModuleNotFoundError(
            f"{who} needs the package 'matplotlib': pip install 'ignite-core[plot]'", name=error.name
        ) from error
    return importlib.import_module("matplotlib.pyplot")


def axes_for(who: str, ax: Any = None, **options: Any) -> Any:
    """The given axes, or new ones from ``pyplot.subplots(**options)``; raises like :func:`pyplot_for`."""
    return pyplot_for(who).subplots(**options)[1] if ax is None else ax

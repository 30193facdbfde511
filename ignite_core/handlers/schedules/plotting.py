"""Where schedules are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite_core.metrics.plotting import pyplot_for

__all__ = ["plot"]


def plot(who: str, rows: Sequence[Sequence[Any]], label: str) -> list[Any]:
    """Draw rows of an x and one or more y into the present axes of matplotlib.

    Args:
        who: Named in the message if matplotlib is not installed.
        rows: ``[[x, y, ...], ...]``.
        label: Of the lines.

    Returns:
        The lines.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    axes = pyplot_for(who).gca()
    columns = list(zip(*rows, strict=True))
    lines = [line for column in columns[1:] for line in axes.plot(columns[0], column)]
    for number, line in enumerate(lines):
        line.set_label(label if len(lines) == 1 else f"{label} {number}")
    axes.legend()
    axes.grid(which="both")
    return lines

"""Draw the curves of a CSV file of a run."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path

from ignite_contrib._require import require

__all__ = ["draw_curves", "read_curves"]

Curves = dict[str, dict[int, float]]


def read_curves(path: str | os.PathLike[str]) -> Curves:
    r"""Read the file of a :class:`~ignite_contrib.loggers.CSVLogger`: values by name and step.

    If a step was logged twice, as by an interrupted and resumed run, the later line counts. Text is skipped.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w+") as file:
        ...     _ = file.write("step,name,value\n1,training/loss,0.5\n2,training/loss,0.25\n2,training/loss,0.125\n")
        ...     file.flush()
        ...     read_curves(file.name)
        {'training/loss': {1: 0.5, 2: 0.125}}
    """
    curves: Curves = defaultdict(dict)
    with Path(path).open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            try:
                curves[line["name"]][int(line["step"])] = float(line["value"])
            except ValueError:
                continue  # text
    return dict(curves)


def draw_curves(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Draw the values of a :class:`~ignite_contrib.loggers.CSVLogger` over their steps.

    Names with the same last part, such as ``training/loss`` and ``validation/loss``, share axes.

    Args:
        source: The CSV file.
        target: The image file, in the format of its suffix. It is replaced atomically.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    figures = require("matplotlib.figure", extra="plot", feature="draw_curves")
    curves = read_curves(source)
    panels = sorted({name.rpartition("/")[2] for name in curves})
    if not panels:
        return
    rows, columns = -(-len(panels) // 3), min(len(panels), 3)
    figure = figures.Figure(figsize=(4.5 * columns, 3.5 * rows), layout="constrained")
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, number)
        for name in sorted(name for name in curves if name.rpartition("/")[2] == panel):
            steps = sorted(curves[name])
            axes.plot(steps, [curves[name][step] for step in steps], label=name, marker="." if len(steps) < 30 else "")
        axes.set(xlabel="epoch", title=panel)
        axes.legend()
    path = Path(target)
    new = path.with_name(f"new-{path.name}")
    figure.savefig(new)
    os.replace(new, path)

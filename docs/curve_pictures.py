"""The Sphinx directive ``curve``, which plots curves when the documentation is built.

Each line of its content is an expression of :mod:`ignite_core.handlers.schedules.curves`; its first steps are plotted::

    ```{curve}
    linear(0.0, 1.0, steps=80)
    ```
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import matplotlib
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from ignite_core.handlers.schedules import curves

STEPS = 100


class CurvePicture(SphinxDirective):
    """Plots the curves of its lines."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        expressions = [line for line in self.content if line.strip()]
        digest = hashlib.sha256("\n".join(expressions).encode()).hexdigest()[:16]
        path = Path(self.env.app.doctreedir, "curves", f"{digest}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(expressions, path)
        place = os.path.relpath(path, Path(self.env.doc2path(self.env.docname)).parent)
        return [nodes.image(uri=Path(place).as_posix(), alt="; ".join(expressions))]


def draw(expressions: list[str], path: Path) -> None:
    """Plot curves and write the picture."""
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.4), layout="constrained")
    axes = figure.subplots()
    for expression in expressions:
        curve = eval(expression, {name: getattr(curves, name) for name in curves.__all__})
        axes.plot(range(STEPS), [curve(step) for step in range(STEPS)], label=expression)
    axes.set(xlabel="step", ylim=(-0.05, 1.05))
    axes.grid(alpha=0.3)
    figure.legend(fontsize="x-small", loc="outside upper left", frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("curve", CurvePicture)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The page of Visdom in a real browser: the curves are to be seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from ignite_contrib.loggers import VisdomLogger
from ignite_core.engine import Engine, Events
from tests.contrib.loggers.page import browse, chromium, static_folder
from tests.contrib.loggers.servers import visdom_server

pytest.importorskip("visdom")
imread = pytest.importorskip("matplotlib.image").imread

MISSING = [name for name, path in {"chromium": chromium(), "npm": shutil.which("npm")}.items() if path is None]

CURVE = torch.tensor([31, 119, 180])  # the first colour of Plotly


@pytest.mark.skipif(bool(MISSING), reason=f"needs {' and '.join(MISSING)}")
def test_the_page_shows_the_curves(tmp_path: Path) -> None:
    server = visdom_server(tmp_path, static_folder(tmp_path))
    server.start()
    engine = Engine(lambda engine, batch: {"loss": 1 / batch, "gain": batch})
    with VisdomLogger(port=server.port, env="page") as logger:
        logger.attach_output_handler(
            engine, Events.ITERATION_COMPLETED, tag="t", output_transform=lambda output: output
        )
        engine.run(range(1, 51))

    url = f"{server.url}/env/page"
    page = browse(url, tmp_path, "--dump-dom")
    browse(url, tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    server.stop()

    assert page.count('class="trace scatter') == 2
    assert page.count("t/loss") >= 1
    pixels = torch.as_tensor(imread(tmp_path / "page.png"))[..., :3].mul(255).round()
    is_curve = (pixels - CURVE).abs().amax(-1) < 3
    left, right = is_curve[:, :400], is_curve[:, 400:]
    falling, rising = sorted([left, right], key=lambda half: slope(half) < 0)
    assert slope(falling) > 0.1, "from above to below: rows are counted from the top"
    assert slope(rising) < -0.1


def slope(is_curve: torch.Tensor) -> float:
    """Rows per column of a drawn curve, from its first to its last quarter."""
    rows, columns = is_curve.nonzero().double().unbind(1)
    assert len(rows) > 100, "there is a curve"
    first, last = columns.quantile(0.1), columns.quantile(0.9)
    ends = rows[columns >= last].mean() - rows[columns <= first].mean()
    return float(ends / (columns.max() - columns.min()))

"""The GAN, run as a person runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ignite_contrib.curves import read_curves

SCRIPT = Path(__file__).parents[2] / "examples" / "gan.py"


def run(folder: Path, *options: str) -> str:
    command = [sys.executable, str(SCRIPT), "--out", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_short_run_trains_both_and_shows_samples(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    printed = run(tmp_path / "gan", "--smoke")
    metrics = read_curves(tmp_path / "gan" / "metrics.csv")
    shown = accumulator.EventAccumulator(str(tmp_path / "gan" / "tensorboard")).Reload()

    assert set(metrics) == {"training/critic", "training/generator", "validation/mmd"}
    assert all(list(values) == [1, 2] for values in metrics.values())
    assert re.search(rf"{metrics['validation/mmd'][2]:.4f} after epoch 2", printed)
    (image,) = shown.Images("samples")
    assert (image.step, image.width, image.height) == (2, 320, 320)
    assert (tmp_path / "gan" / "samples.png").read_bytes().startswith(b"\x89PNG")

"""Ray Train runs the demo, of whose lines none knows of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(folder: Path, *command: str) -> str:
    """The metrics of each epoch, as the run has written them."""
    done = subprocess.run(
        [sys.executable, *command, "--epochs", "2", "--out", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder.parent,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "metrics.csv").read_text()


@pytest.mark.nightly
def test_the_digits_in_ray_train_on_two_workers_are_those_of_torchrun(tmp_path: Path) -> None:
    """The same numbers to the last digit: idist has found two ranks, and each image was seen once."""
    of_ray = run(tmp_path / "ray", str(ROOT / "examples" / "ray_digits.py"))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    of_torchrun = run(tmp_path / "torchrun", *torchrun, str(ROOT / "examples" / "digits.py"))

    assert of_ray == of_torchrun
    assert sorted(path.name for path in (tmp_path / "ray").iterdir()) == [
        "best_model.pt",
        "best_model.pt.json",
        "checkpoint_44.pt",
        "checkpoint_44.pt.json",
        "curves.png",
        "metrics.csv",
        "ray",
        "tensorboard",
    ]

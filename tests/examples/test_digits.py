"""The demo, run as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def run(folder: Path, *options: str) -> tuple[str, list[dict[str, float]]]:
    """What it prints, and its metrics by epoch."""
    command = [sys.executable, str(ROOT / "examples" / "digits.py"), "--out", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_the_digits_and_leaves_what_it_promises(tmp_path: Path) -> None:
    """At least 97 % of the images that it has not seen; the model that is kept is the best one."""
    printed, history = run(tmp_path / "digits", "--seed", "0", "--epochs", "8")
    best = max(history, key=lambda line: line["accuracy"])

    assert best["accuracy"] >= 0.97
    assert f"best validation accuracy {best['accuracy']:.4f} in epoch {best['epoch']}" in printed
    assert sorted(path.name for path in (tmp_path / "digits").iterdir()) == [
        "best_model.pt",
        "curves.png",
        "metrics.jsonl",
    ]
    assert (tmp_path / "digits" / "curves.png").read_bytes().startswith(b"\x89PNG")
    weights = torch.load(tmp_path / "digits" / "best_model.pt", weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_it_repeats_itself_and_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    first = run(tmp_path / "digits", "--smoke")
    second = run(tmp_path / "digits", "--smoke")

    assert first == second
    assert [line["epoch"] for line in second[1]] == [1, 2]
    assert set(second[1][0]) == {"epoch", "train_loss", "accuracy", "loss"}


def test_it_stops_when_it_gets_no_better(tmp_path: Path) -> None:
    """A learning rate of almost nothing: soon no epoch is better than the best one, and it is over."""
    _, history = run(tmp_path / "digits", "--lr", "1e-9", "--patience", "2")
    accuracies = [line["accuracy"] for line in history]

    assert len(history) < 30
    assert accuracies.index(max(accuracies)) == len(history) - 3

"""The game, played as a person plays it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "reinforce.py"


def run(*options: str) -> str:
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_short_game_plays_episodes_of_different_lengths() -> None:
    pytest.importorskip("gymnasium")
    printed = run("--smoke")

    assert "20/20" in printed
    assert "solved" not in printed

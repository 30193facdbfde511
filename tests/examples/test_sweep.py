"""The sweep, run as a person runs it."""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _settings_left_alone() -> Iterator[None]:
    threads, verbosity = torch.get_num_threads(), optuna.logging.get_verbosity()
    yield
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(verbosity)


def run(folder: Path, trials: int) -> None:
    """Six trials of two epochs at most, in this process: most of the time a new one would only import."""
    main = runpy.run_path(str(ROOT / "examples" / "sweep.py"))["main"]
    main(argparse.Namespace(trials=trials, epochs=2, seed=0, out=folder))


def run_as_a_person_does(folder: Path) -> str:
    """What it prints."""
    command = [sys.executable, str(ROOT / "examples" / "sweep.py"), "--out", str(folder), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="digits", storage=f"sqlite:///{folder / 'sweep.db'}")


def finished(folder: Path) -> list[Any]:
    trials = [trial for trial in study(folder).trials if trial.state.name in ("COMPLETE", "PRUNED")]
    return [(trial.state.name, trial.params, trial.values, trial.intermediate_values) for trial in trials]


def test_a_sweep_that_was_killed_and_resumed_finds_what_one_in_one_go_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of six trials at least one is pruned; what ran when it was killed counts as failed, and is made up for."""
    run(tmp_path / "whole", 6)
    printed = capsys.readouterr().out
    run(tmp_path / "cut", 3)
    study(tmp_path / "cut").ask()  # a trial that is running, and nobody runs it
    resumed = run_as_a_person_does(tmp_path / "cut")

    whole = finished(tmp_path / "whole")
    assert finished(tmp_path / "cut") == whole
    assert [trial.state.name for trial in study(tmp_path / "cut").trials][3] == "FAIL"
    assert {state for state, *_ in whole} == {"COMPLETE", "PRUNED"}
    best = max(values[0] for state, _, values, _ in whole if state == "COMPLETE")
    assert printed.splitlines()[-1].startswith(f"best validation accuracy {best:.4f} with {{'units'")
    assert resumed.splitlines() == printed.splitlines()[3:]

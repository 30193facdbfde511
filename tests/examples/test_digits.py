"""The demo, run as a person runs it: alone and under torchrun, whole and interrupted."""

from __future__ import annotations

import argparse
import re
import runpy
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ignite_contrib.curves import Curves, read_curves
from tests.faults.sizes import FULL

SCRIPT = str(Path(__file__).parents[2] / "examples" / "digits.py")
ALONE = [sys.executable, SCRIPT]
TWO_RANKS = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", SCRIPT]

EPOCHS = 4


@dataclass(frozen=True)
class Left:
    """What a run leaves."""

    folder: Path
    printed: str

    @property
    def metrics(self) -> Curves:
        return read_curves(self.folder / "metrics.csv")

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def load(self, pattern: str) -> Any:
        (path,) = self.folder.glob(pattern)
        return torch.load(path, weights_only=True)


def run(command: list[str], folder: Path, *options: str) -> Left:
    whole = [*command, "--out", str(folder), *options]
    done = subprocess.run(whole, capture_output=True, text=True, cwd=folder.parent, check=False)
    assert done.returncode == 0, done.stderr
    return Left(folder, done.stdout)


def interrupt(command: list[str], folder: Path, *options: str) -> None:
    """Press Ctrl-C, so to say, when the bar shows the second epoch."""
    whole = [*command, "--out", str(folder), *options]
    with subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder.parent) as process:
        assert process.stderr is not None
        shown = b""
        while b"Epoch [2/" not in shown:
            more = process.stderr.read(1)
            assert more, shown.decode()
            shown += more
        process.send_signal(signal.SIGINT)
        shown += process.stderr.read()
    assert process.returncode != 0
    assert b"SIGINT: saved" in shown, shown.decode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Left]:
    """Runs that nobody has interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    commands = {"alone": ALONE, "two ranks": TWO_RANKS}
    return {name: run(command, folder / name, "--epochs", str(EPOCHS)) for name, command in commands.items()}


@pytest.mark.parametrize("name", ["alone", "two ranks"])
def test_it_learns_the_digits_and_leaves_what_it_promises(whole: dict[str, Left], name: str) -> None:
    """At least 98 % of the images that it has not seen; the model that is kept is the best one."""
    left = whole[name]
    accuracy = left.metrics["validation/accuracy"]
    best = max(accuracy, key=lambda epoch: accuracy[epoch])

    assert accuracy[best] >= 0.98
    assert f"best validation accuracy {accuracy[best]:.4f} in epoch {best}" in left.printed
    (checkpoint,) = [file for file in left.files if re.fullmatch(r"checkpoint_\d+\.pt", file)]
    assert set(left.files) == {
        *("best_model.pt", "best_model.pt.json", checkpoint, f"{checkpoint}.json"),
        *("curves.png", "metrics.csv", "tensorboard"),
    }
    assert (left.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert all(torch.isfinite(tensor).all() for tensor in left.load("best_model.pt").values())


def test_two_ranks_learn_what_one_process_learns(whole: dict[str, Left]) -> None:
    """The batches are the same, each spread over both ranks; the sums of floats differ in their order."""
    alone, ranks = whole["alone"].metrics, whole["two ranks"].metrics

    assert set(alone) == set(ranks) == {"training/loss", "validation/accuracy", "validation/loss"}
    assert ranks["validation/accuracy"][1] == alone["validation/accuracy"][1]
    assert ranks["training/loss"][1] == pytest.approx(alone["training/loss"][1], rel=1e-4)


@pytest.mark.parametrize(("name", "command"), [("alone", ALONE), *([("two ranks", TWO_RANKS)] if FULL else [])])
def test_it_goes_on_after_an_interrupt_as_if_there_had_been_none(
    whole: dict[str, Left], tmp_path: Path, name: str, command: list[str]
) -> None:
    interrupt(command, tmp_path / name, "--epochs", str(EPOCHS))
    resumed = run(command, tmp_path / name, "--epochs", str(EPOCHS))

    uncut = whole[name]
    found = re.search(r"resumed from .*: (\d+) epochs, (\d+) iterations; loaded model", resumed.printed)
    assert found is not None, resumed.printed
    assert 1 <= int(found[1]) < EPOCHS
    assert resumed.metrics == uncut.metrics
    assert resumed.printed.splitlines()[-1].startswith(uncut.printed.splitlines()[-1].partition(";")[0])
    assert resumed.files == uncut.files
    for pattern in ("best_model.pt", "checkpoint_*.pt"):
        torch.testing.assert_close(weights(resumed, pattern), weights(uncut, pattern), rtol=0, atol=0)


def weights(left: Left, pattern: str) -> Any:
    loaded = left.load(pattern)
    return {key: loaded[key] for key in ("model", "optimizer")} if "model" in loaded else loaded


def test_a_short_run_sees_that_it_works(tmp_path: Path) -> None:
    left = run(ALONE, tmp_path / "digits", "--smoke")

    assert list(left.metrics["validation/accuracy"]) == [1, 2]
    assert left.files.count("checkpoint_6.pt") == 1


def test_it_runs_in_a_thread_where_nobody_can_catch_signals(tmp_path: Path) -> None:
    """As Ray Train has it."""
    options = argparse.Namespace(epochs=1, patience=5, lr=2e-3, seed=0, smoke=True, out=tmp_path / "digits")
    threads = torch.get_num_threads()
    worker = threading.Thread(target=runpy.run_path(SCRIPT)["main"], args=(None, options))
    worker.start()
    worker.join()
    torch.set_num_threads(threads)

    assert list(read_curves(tmp_path / "digits" / "metrics.csv")["validation/accuracy"]) == [1]


def test_it_stops_when_it_gets_no_better(tmp_path: Path) -> None:
    """A learning rate of almost nothing: soon no epoch is better than the best one, and it is over."""
    left = run(ALONE, tmp_path / "digits", "--lr", "1e-9", "--patience", "2")
    accuracies = list(left.metrics["validation/accuracy"].values())

    assert len(accuracies) < 30
    assert accuracies.index(max(accuracies)) == len(accuracies) - 3

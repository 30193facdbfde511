"""Progress bars where people see them: in a terminal, in a notebook, and on one rank of several."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from ignite_contrib.loggers import ProgressBar
from ignite_core.engine import Engine
from ignite_core.testing import run_distributed

ROOT = Path(__file__).parents[2]


def seen_in_a_terminal(code: str) -> list[str]:
    """The lines that are on the screen when a program has ended that writes to a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", "from ignite_contrib.loggers import ProgressBar\n" + code]
    process = subprocess.Popen(command, stdout=slave, stderr=slave, cwd=ROOT)
    os.close(slave)
    written = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        written += part
    os.close(master)
    assert process.wait(60) == 0, written.decode()
    return screen(written.decode())


def screen(written: str) -> list[str]:
    """What a terminal makes of text with carriage returns, line feeds and moves upwards."""
    lines, row, column = [""], 0, 0
    written = written.replace("\x1b[A", "\x00")
    for sign in written:
        if sign == "\r":
            column = 0
        elif sign == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif sign == "\x00":
            row -= 1
        else:
            lines[row] = lines[row][:column].ljust(column) + sign + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


PREAMBLE = """
from ignite_core.engine import Engine, Events
trainer, evaluator = Engine(lambda engine, batch: 0.5), Engine(lambda engine, batch: None)
plain = {"bar_format": "{desc}{n_fmt}/{total_fmt}{postfix}", "ncols": 60}
"""


def test_a_terminal_shows_a_bar_for_each_epoch_that_stays() -> None:
    lines = seen_in_a_terminal(
        PREAMBLE
        + """
ProgressBar(persist=True, **plain).attach(trainer, output_transform=lambda loss: {"loss": loss})
trainer.run(range(30), max_epochs=2)
"""
    )

    assert lines == ["Epoch [1/2]: 30/30, loss=0.5", "Epoch [2/2]: 30/30, loss=0.5", ""]


def test_a_bar_that_does_not_stay_leaves_nothing() -> None:
    lines = seen_in_a_terminal(PREAMBLE + "ProgressBar(**plain).attach(trainer)\ntrainer.run(range(30))")

    assert "".join(lines) == ""


def test_the_bar_of_an_evaluator_stands_below_that_of_its_trainer() -> None:
    """It is run in the middle of an epoch, twice, and its bar does not stay; a message stands above both."""
    lines = seen_in_a_terminal(
        PREAMBLE
        + """
bar = ProgressBar(persist=True, desc="Train", **plain)
bar.attach(trainer)
ProgressBar(desc="Valid", **plain).attach(evaluator)
trainer.add_event_handler(Events.ITERATION_COMPLETED(every=10), lambda: evaluator.run(range(5)))
evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: bar.log_message("validating"))
trainer.run(range(20))
"""
    )

    assert lines[:3] == ["validating", "validating", "Train: 20/20"]
    assert "".join(lines[3:]) == ""


def test_what_follows_an_error_stands_on_a_line_of_its_own() -> None:
    lines = seen_in_a_terminal(
        PREAMBLE
        + """
import sys
ProgressBar(persist=True, **plain).attach(trainer)
trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: 1 / 0)
try:
    trainer.run(range(30))
except ZeroDivisionError:
    print("failed", file=sys.stderr)
"""
    )

    assert lines == ["Iteration: 1/30", "failed", ""]


def test_a_notebook_shows_widgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is run by nbclient: a widget for each bar, whose texts say how far it is, known length or not."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipywidgets")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "contrib")!r}]
from ignite_contrib.loggers import ProgressBar
{PREAMBLE}
bar = ProgressBar(persist=True, desc="Known")
bar.attach(trainer, output_transform=lambda loss: {{"loss": loss}})
trainer.run(range(30))
ProgressBar(persist=True, desc="Unknown").attach(evaluator)
evaluator.run(iter(range(7)))
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.execute()

    models = [model for model in client.widget_state.values() if model.get("_model_name") == "HTMLModel"]
    shown = "".join(model.get("value", "") for model in models).replace("\u2007", " ")
    assert "Known: " in shown
    assert "[30/30]" in shown
    assert "loss=0.5" in shown
    assert "[7/7]" in shown
    bars = [model for model in client.widget_state.values() if model.get("_model_name") == "FloatProgressModel"]
    assert [model["value"] / model["max"] for model in bars] == [1.0, 1.0], "both are full"
    assert {model["bar_style"] for model in bars} == {"success"}


def draw_on_a_rank() -> str:
    file = io.StringIO()
    engine: Any = Engine(lambda engine, batch: batch)
    ProgressBar(persist=True, bar_format="{desc}{n_fmt}/{total_fmt}", file=file).attach(engine)
    engine.run([1, 2])
    return file.getvalue().split("\r")[-1].strip()


def test_rank_0_alone_draws() -> None:
    assert run_distributed(draw_on_a_rank, ranks=2) == ["Iteration: 2/2", ""]

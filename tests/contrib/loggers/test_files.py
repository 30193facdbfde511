"""CSV and JSON lines: read back by the standard library, after a kill, on a full disk, and by a resumed run."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ignite_contrib.loggers import CSVLogger, JSONLinesLogger
from ignite_core.engine import Engine, Events
from ignite_core.handlers import TextHandler
from ignite_core.testing import run_distributed


def csv_rows(path: Path) -> list[tuple[int, str, str]]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["step", "name", "value"]
    return [(int(step), name, value) for step, name, value in rows]


def json_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def train(logger: Any) -> None:
    trainer = Engine(lambda engine, batch: {"loss": torch.tensor(1 / batch), "note": 'of "two", words'})
    logger.attach_output_handler(
        trainer, Events.ITERATION_COMPLETED(every=2), tag="training", output_transform=lambda output: output
    )
    logger.attach(trainer, TextHandler("end", lambda engine: "done"), Events.COMPLETED)
    trainer.run([1, 2, 4, 8])


def test_csv_is_read_back(tmp_path: Path) -> None:
    with CSVLogger(tmp_path / "runs" / "one.csv") as logger:
        train(logger)

    assert csv_rows(logger.path) == [
        (2, "training/loss", "0.5"),
        (2, "training/note", 'of "two", words'),
        (4, "training/loss", "0.125"),
        (4, "training/note", 'of "two", words'),
        (1, "end", "done"),
    ]


def test_json_lines_are_read_back(tmp_path: Path) -> None:
    times = iter([1.0, 2.0, 3.0])
    with JSONLinesLogger(tmp_path / "one.jsonl", clock=lambda: next(times)) as logger:
        train(logger)

    assert json_rows(logger.path) == [
        {"step": 2, "time": 1.0, "training/loss": 0.5, "training/note": 'of "two", words'},
        {"step": 4, "time": 2.0, "training/loss": 0.125, "training/note": 'of "two", words'},
        {"step": 1, "time": 3.0, "end": "done"},
    ]


def test_nan_and_infinity_become_numbers_again(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, 0.1]
    for kind in (CSVLogger, JSONLinesLogger):
        with kind(tmp_path / kind.__name__) as logger:
            logger.scalars(1, {(str(number),): torch.tensor(value).double() for number, value in enumerate(values)})

    of_csv = [float(value) for _, _, value in csv_rows(tmp_path / "CSVLogger")]
    (line,) = (tmp_path / "JSONLinesLogger").read_text().splitlines()
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    of_json = [float(json.loads(line)[str(number)]) for number in range(4)]
    for found in (of_csv, of_json):
        assert [str(value) for value in found[:3]] == ["nan", "inf", "-inf"]
        assert found[3] == torch.tensor(0.1).item()


def test_values_named_as_the_lines_own_are_not_mixed_up_with_them(tmp_path: Path) -> None:
    with JSONLinesLogger(tmp_path / "one.jsonl", clock=lambda: 1.5) as logger:
        logger.scalars(3, {("step",): 7, ("time",): 8, ("a", "time"): 9})

    assert json_rows(logger.path) == [{"step": 3, "time": 1.5, "step_": 7, "time_": 8, "a/time": 9}]


@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger])
def test_a_resumed_run_goes_on_in_the_same_file(kind: Any, tmp_path: Path) -> None:
    for step in (1, 2):
        with kind(tmp_path / "one") as logger:
            logger.scalars(step, {("value",): step / 2})

    rows = csv_rows(logger.path) if kind is CSVLogger else json_rows(logger.path)
    assert len(rows) == 2
    assert logger.path.read_text().count("name") == (kind is CSVLogger), "one header"


@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger])
def test_half_a_line_that_somebody_left_spoils_none_of_ours(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("half of a li")
    with kind(path) as logger:
        logger.scalars(1, {("value",): 0.5})

    lines = path.read_text().splitlines()
    assert lines[0] == "half of a li"
    assert len(lines) == 2
    assert "0.5" in lines[1]


def test_what_was_logged_outlives_a_kill(tmp_path: Path) -> None:
    code = f"""
import os, signal
from ignite_contrib.loggers import CSVLogger, JSONLinesLogger
loggers = [CSVLogger({str(tmp_path / "a")!r}), JSONLinesLogger({str(tmp_path / "b")!r})]
for step in range(1000):
    for logger in loggers:
        logger.scalars(step, {{("value",): 0.5}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60)

    assert done.returncode == -signal.SIGKILL
    assert [row[0] for row in csv_rows(tmp_path / "a")] == list(range(1000))
    assert [row["step"] for row in json_rows(tmp_path / "b")] == list(range(1000))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger])
def test_a_full_disk_is_told_of_once_and_everything_is_written_in_the_end(
    kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Engine(lambda engine, batch: batch)
    with kind(tmp_path / "one") as logger:
        logger.attach_output_handler(
            trainer, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda output: output
        )
        trainer.run([1.0])
        before = logger.path.read_bytes()
        with files_of_at_most(len(before) + 20), caplog.at_level(logging.WARNING):
            assert trainer.run(range(2, 52)).iteration == 50
            assert logger.path.read_bytes().startswith(before)
            assert logger.path.read_bytes().endswith(b"\n"), "no half lines"
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "the run continues, and values are kept in memory" in caplog.text

    rows = csv_rows(logger.path) if kind is CSVLogger else json_rows(logger.path)
    steps = [row[0] for row in rows] if kind is CSVLogger else [row["step"] for row in rows]
    assert steps == [1, *range(1, 51)]


def test_what_never_could_be_written_is_told_of_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = CSVLogger(tmp_path / "one.csv")
    with files_of_at_most(logger.path.stat().st_size):
        logger.scalars(1, {("value",): 0.5})
        logger.scalars(2, {("value",): 0.5})
        logger.close()

    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert f"CSVLogger: the values of the last 2 calls could not be written to {logger.path}" in caplog.text


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        CSVLogger(tmp_path)


def log_on_a_rank(folder: str) -> bool:
    engine = Engine(lambda engine, batch: batch)
    with CSVLogger(Path(folder, f"{os.getpid()}.csv")) as logger:
        logger.attach_output_handler(
            engine, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda output: output
        )
        engine.run([5])
    return logger.path.exists()


def test_rank_0_alone_writes(tmp_path: Path) -> None:
    assert run_distributed(log_on_a_rank, str(tmp_path), ranks=2) == [True, False]
    assert [csv_rows(path) for path in tmp_path.iterdir()] == [[(1, "training/output", "5")]]


@pytest.mark.parametrize("kind", [CSVLogger, JSONLinesLogger])
def test_half_a_surrogate_pair_and_values_that_nothing_knows_end_no_run(
    kind: type[CSVLogger | JSONLinesLogger], tmp_path: Path
) -> None:
    """As in a file name that is not UTF-8, or in what a tokenizer has made."""
    values = {"x \udcff": "bad \udcff byte", "set": {1}, "complex": 1j, "large": 10**5000, "b": b"\xff"}
    with kind(tmp_path / "log") as logger:
        logger.scalars(1, {("loss",): 0.5})
        logger.texts(2, {("t", name): value for name, value in values.items()})
        logger.scalars(3, {("loss",): 0.25})

    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert "bad \\udcff byte" in text
    assert "0.5" in text
    assert "0.25" in text

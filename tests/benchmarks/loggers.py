"""What logging costs at each iteration, beside pytorch-ignite, in turn; and a run on a full disk.

python tests/benchmarks/loggers.py [--rounds 7] [--iterations 5000] [--only NAME]

A row is a function of a folder and a period, which returns a run of so many iterations. To add a back-end, add a line
to ROWS.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import ignite_contrib.loggers as loggers
from ignite_contrib.loggers.tensorboard import EventFile
from ignite_core.engine import Engine, Events

Run = Callable[[], object]
Cell = Callable[[Path, int], tuple[Run, Callable[[], object]]]


def ours(make: Callable[[Path], Any]) -> Cell:
    """A run that logs a number with a logger of ours, and what is done when all are measured."""

    def cell(folder: Path, every: int) -> tuple[Run, Callable[[], object]]:
        engine, logger = Engine(lambda engine, batch: 0.5), make(folder)
        logger.attach_output_handler(
            engine,
            Events.ITERATION_COMPLETED(every=every),
            tag="training",
            output_transform=lambda loss: {"loss": loss},
        )
        return lambda: engine.run(range(ITERATIONS)), logger.close

    return cell


def theirs(module: str, name: str, make: Callable[[Any, Path], Any]) -> Cell:
    """The same with pytorch-ignite."""

    def cell(folder: Path, every: int) -> tuple[Run, Callable[[], object]]:
        ignite = importlib.import_module("ignite.engine")
        kind = getattr(importlib.import_module(f"ignite.handlers.{module}"), name)
        engine, logger = ignite.Engine(lambda engine, batch: 0.5), make(kind, folder)
        logger.attach_output_handler(
            engine,
            ignite.Events.ITERATION_COMPLETED(every=every),
            tag="training",
            output_transform=lambda loss: {"loss": loss},
        )
        return lambda: engine.run(range(ITERATIONS)), logger.close

    return cell


def bare(library: str) -> Cell:
    def cell(folder: Path, every: int) -> tuple[Run, Callable[[], object]]:
        engine = importlib.import_module(library).Engine(lambda engine, batch: 0.5)
        return lambda: engine.run(range(ITERATIONS)), lambda: None

    return cell


def bar(kind: Callable[[], Any], library: str) -> Cell:
    """A progress bar, which knows no period."""

    def cell(folder: Path, every: int) -> tuple[Run, Callable[[], object]]:
        engine = importlib.import_module(library).Engine(lambda engine, batch: 0.5)
        kind().attach(engine, output_transform=lambda loss: {"loss": loss})
        return lambda: engine.run(range(ITERATIONS)), lambda: None

    return cell


def their_bar() -> Any:
    return importlib.import_module("ignite.handlers").ProgressBar(file=io.StringIO())


def offline(folder: Path) -> dict[str, Any]:
    wandb = importlib.import_module("wandb")
    return {"mode": "offline", "dir": str(folder), "settings": wandb.Settings(console="off", silent=True)}


#: name: ours, theirs
ROWS: dict[str, tuple[Cell, Cell | None]] = {
    "nothing": (bare("ignite_core.engine"), bare("ignite.engine")),
    "ProgressBar": (
        bar(lambda: loggers.ProgressBar(file=io.StringIO()), "ignite_core.engine"),
        bar(their_bar, "ignite.engine"),
    ),
    "TensorboardLogger": (
        ours(lambda folder: loggers.TensorboardLogger(log_dir=str(folder))),
        theirs("tensorboard_logger", "TensorboardLogger", lambda kind, folder: kind(log_dir=str(folder))),
    ),
    "WandBLogger, offline": (
        ours(lambda folder: loggers.WandBLogger(**offline(folder))),
        theirs("wandb_logger", "WandBLogger", lambda kind, folder: kind(**offline(folder))),
    ),
    "CSVLogger": (ours(lambda folder: loggers.CSVLogger(folder / "run.csv")), None),
    "JSONLinesLogger": (ours(lambda folder: loggers.JSONLinesLogger(folder / "run.jsonl")), None),
}


def measured(cells: tuple[Cell | None, ...], every: int, rounds: int) -> list[str]:
    """Microseconds an iteration of each: minimum (median), taken in turn."""
    with tempfile.TemporaryDirectory() as name:
        runs = []
        for number, cell in enumerate(cells):
            folder = Path(name, str(number))
            folder.mkdir()
            runs.append(None if cell is None else cell(folder, every))
        times: list[list[float]] = [[] for _ in cells]
        for _ in range(rounds + 1):
            for taken, run in zip(times, runs, strict=True):
                if run is not None:
                    start = time.perf_counter()
                    run[0]()
                    taken.append((time.perf_counter() - start) / ITERATIONS * 1e6)
        for run in runs:
            if run is not None:
                run[1]()
    return [f"{min(taken[1:]):,.1f} ({statistics.median(taken[1:]):,.1f})" if taken else "-" for taken in times]


def full_disk(rounds: int) -> str:
    """A step of a millisecond that is logged each time, on a disk that takes everything and on one that takes nothing.

    It is the time of the processor, of all threads: that of the clock differs by more from round to round.
    """
    torch.set_num_threads(1)
    weight = torch.rand(400, 400)
    times: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        engines = {}
        for is_full in (False, True):
            engine = engines[is_full] = Engine(lambda engine, batch: (weight @ weight).sum())
            unsent = Path(name, f"unsent-{is_full}.jsonl")
            logger = loggers.TensorboardLogger(log_dir=str(Path(name, str(is_full))), unsent=unsent)
            if is_full:
                logger.writer.file_writer.event_writer = EventFile(Path("/dev/full"))
            logger.attach_output_handler(
                engine, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda loss: {"loss": loss}
            )
        for _ in range(rounds):
            for is_full, engine in engines.items():
                limit = resource.getrlimit(resource.RLIMIT_FSIZE)
                if is_full:  # not even the file for what is not sent can be written
                    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
                start = time.process_time()
                engine.run(range(1000))
                times[is_full].append((time.process_time() - start) / 1000 * 1e6)
                resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    cells = [f"{min(taken):,.0f} ({statistics.median(taken):,.0f}) µs" for taken in times.values()]
    share = min(times[True]) / min(times[False]) - 1
    return f"A step with TensorboardLogger, every=1: {cells[0]}; on a full disk {cells[1]}, {share:+.1%}"


def main() -> None:
    global ITERATIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=5000)
    parser.add_argument("--only", help="rows whose name has this in it")
    arguments = parser.parse_args()
    ITERATIONS = arguments.iterations
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    os.environ.setdefault("WANDB_SILENT", "true")
    print("| an iteration, with what is written until its end, µs | every | ours | pytorch-ignite |\n|---|---|---|---|")
    for name, cells in ROWS.items():
        if arguments.only is None or arguments.only in name:
            for every in (1, 100):
                print(f"| {name} | {every} | {' | '.join(measured(cells, every, arguments.rounds))} |", flush=True)
    print(f"\n{full_disk(arguments.rounds)}")


ITERATIONS = 5000

if __name__ == "__main__":
    main()

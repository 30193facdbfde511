"""Programs that end in the middle of something, again and again: each must leave with its own status.

A process that has imported everything forks a child for each start. The child goes on to the end of this script, so its
interpreter ends as any other. It prints the starts that did not end as they should, as one line of JSON::

    OMP_NUM_THREADS=1 python -m tests.faults.exits --starts 500

So many children at a time share the processors that they disturb each other.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from ignite_contrib.loggers import ProgressBar, TensorboardLogger
from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import AsyncDiskSaver, Checkpoint, StopOnSignal
from ignite_core.metrics import RunningAverage

#: How many run at a time, and how many seconds one may take.
AT_A_TIME, LIMIT_S = 6, 120

#: How a program ends, and its status then.
WAYS = {"end": 0, "exit": 3, "error": 1}


def logger(trainer: Engine, folder: Path) -> list[Any]:
    """It is not closed, and has images to make of tensors."""
    made = TensorboardLogger(log_dir=folder)
    made.attach_output_handler(trainer, Events.ITERATION_COMPLETED, tag="training", output_transform=float)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: made.images(engine.state.iteration, {("noise",): torch.rand(3, 64, 64)}),
    )
    return [made]


def save(trainer: Engine, folder: Path) -> list[Any]:
    """It is in progress."""
    model = torch.nn.Linear(1000, 1000)
    checkpoint = Checkpoint({"model": model, "trainer": trainer}, AsyncDiskSaver(folder))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
    return [model]


def bar(trainer: Engine, folder: Path) -> list[Any]:
    """It is drawn."""
    RunningAverage(output_transform=lambda output: output).attach(trainer, "loss")
    ProgressBar(file=open(os.devnull, "w")).attach(trainer, ["loss"])  # noqa: SIM115 - it is left open
    return []


def vote(trainer: Engine, folder: Path) -> list[Any]:
    """It has begun; by two ranks that do not leave each other."""
    idist.initialize("gloo")
    StopOnSignal().attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: idist.all_reduce(torch.ones(100)))
    return []


STATES: dict[str, Callable[[Engine, Path], list[Any]]] = {"logger": logger, "save": save, "bar": bar, "vote": vote}


def live(state: str, way: str, folder: Path) -> None:
    """Train a little, and leave in the middle of it, or after it."""
    folder.mkdir(parents=True)
    trainer = Engine(lambda engine, batch: torch.rand(10).sum())
    kept = STATES[state](trainer, folder)

    @trainer.on(Events.ITERATION_COMPLETED(once=7))
    def leave() -> None:
        if way == "exit":
            sys.exit(WAYS["exit"])
        if way == "error":
            raise ValueError("on purpose")

    trainer.run(range(7))
    sys.modules["kept"] = kept  # type: ignore[assignment]  # until the interpreter ends


def start(state: str, way: str, folder: Path) -> list[int]:
    """Fork one process, or two that have joined; in them this does not return before the end of the program."""
    ranks = 2 if state == "vote" else 1
    pids = []
    for rank in range(ranks):
        if rank == 0 and ranks > 1:
            os.environ.update(WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(meeting_point()))
        if (pid := os.fork()) == 0:
            if ranks > 1:
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), TORCHELASTIC_USE_AGENT_STORE="True")
            signal.alarm(LIMIT_S)
            raise _Child(state, way, folder / str(rank))
        pids.append(pid)
    return pids


_stores: list[int] = []


def meeting_point() -> int:
    """The port of a store in a process of its own, which lives for some time: what forks must not have a store."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(writer, str(store.port).encode())
        signal.alarm(LIMIT_S)
        signal.pause()
    _stores.append(pid)
    port = int(os.read(reader, 100))
    os.close(reader)
    os.close(writer)
    return port


class _Child(BaseException):
    """Carries what a child is to do out of the loop of its parent."""


def main(starts: int) -> None:
    """Start programs, and print which did not end as they should."""
    torch.set_num_threads(1)
    wrong: list[Any] = []
    running: dict[int, tuple[str, str]] = {}

    def reap() -> None:
        pid, status = os.wait()
        if pid in running:  # else the process of a store
            state, way = running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code != WAYS[way]:
                wrong.append((state, way, code))

    folder = tempfile.mkdtemp()
    cases = itertools.islice(itertools.cycle(itertools.product(STATES, WAYS)), starts)
    for number, (state, way) in enumerate(cases):
        for pid in start(state, way, Path(folder) / str(number)):
            running[pid] = state, way
        while len(running) >= AT_A_TIME:
            reap()
    while running:
        reap()
    for pid in _stores:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)
    print(json.dumps({"starts": starts, "wrong": wrong}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=500)
    try:
        main(parser.parse_args().starts)
    except _Child as child:
        todo = child.args
    else:
        todo = None
    if todo:
        live(*todo)

"""Start ranks, and learn how each process ended: its exit code and what it said."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

import ignite_core.distributed as idist
from ignite_core.distributed.models.native import TorchModel
from tests.distributed.launching import by_hand, free_port, own_environment

#: A variable by which what the ranks have started can be found.
MARK = "IGNITE_CORE_TEST"


@dataclass(frozen=True)
class Ended:
    """How a process ended, what it wrote to its standard error, and when (as of ``time.monotonic``)."""

    code: int
    errors: str
    at: float


def run_to_the_end(
    folder: Path,
    fn: Callable[..., Any],
    *args: Any,
    ranks: int = 2,
    hosted: bool = True,
    timeout_s: float = 30.0,
    abort_grace: float = 5.0,
    limit_s: float = 60.0,
) -> list[Ended]:
    """Call ``fn(*args)`` on ranks that have joined; with a store of this process, or of rank 0.

    Raises:
        TimeoutError: If one does not end in time, or has left a process behind.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "ignite_core.testing"])
    mark = uuid.uuid4().hex
    options = {"timeout": timedelta(seconds=timeout_s), "abort_grace": abort_grace}
    deadline = time.monotonic() + limit_s
    with _environments(ranks, hosted) as environments:
        processes = []
        try:
            for rank, environment in enumerate(environments):
                told = own_environment() | environment | {MARK: mark}
                process = context.Process(target=_run, args=(folder / f"errors_{rank}", told, options, fn, args))
                process.start()
                processes.append(process)
            ended: dict[int, Ended] = {}
            while len(ended) < ranks:
                for rank, process in enumerate(processes):
                    if rank not in ended and process.exitcode is not None:
                        errors = (folder / f"errors_{rank}").read_text(errors="replace")
                        ended[rank] = Ended(process.exitcode, errors, time.monotonic())
                if time.monotonic() > deadline:
                    raise TimeoutError(f"of {ranks} ranks only these have ended in {limit_s} s: {ended}")
                time.sleep(0.01)
        finally:
            for process in processes:
                process.kill()
                process.join()
                process.close()
    while time.monotonic() < deadline:
        if not _marked(mark):
            return [ended[rank] for rank in range(ranks)]
        time.sleep(0.1)
    raise TimeoutError(f"processes are left behind: {_marked(mark)}")


@contextmanager
def _environments(ranks: int, hosted: bool) -> Iterator[list[dict[str, str]]]:
    if not hosted:
        yield by_hand(ranks, free_port())
        return
    with TorchModel.meeting_point() as told:
        yield [environment | told for environment in by_hand(ranks, 1)]


def _run(
    errors: Path, environment: dict[str, str], options: Any, fn: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    with errors.open("wb") as file:
        os.dup2(file.fileno(), 2)
    idist.initialize("gloo", **options)
    fn(*args)
    idist.finalize()
    sys.stderr.flush()


def _marked(mark: str) -> list[str]:
    """The command lines of the processes that were started with the mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile, or is not ours
            continue
    return found

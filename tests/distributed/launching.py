"""Start processes as a launcher does, and learn what became of each of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

LAUNCHERS = ("SLURM", "TORCH", "RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_")


@dataclass(frozen=True)
class Outcome:
    """What a process returned, or the error that it raised, as ``"ValueError: …"``; and after how long."""

    value: Any
    error: str
    seconds: float


def own_environment() -> dict[str, str]:
    """The variables of this process without those of a launcher."""
    return {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def by_hand(world_size: int, port: int) -> list[dict[str, str]]:
    """The variables of each rank of a run on this machine whose rank 0 runs the store."""
    return [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_RANK": str(rank),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        for rank in range(world_size)
    ]


def launch(
    fn: Callable[..., Any], environments: Sequence[dict[str, str]], *args: Any, limit_s: float = 60.0
) -> list[Outcome]:
    """Call ``fn(*args)`` in one process for each environment, at the same time, and wait for all of them.

    Raises:
        TimeoutError: If one does not end in time.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "ignite_core.testing"])
    started = []
    deadline = time.monotonic() + limit_s
    try:
        for environment in environments:
            receiver, sender = context.Pipe(duplex=False)
            arguments = (sender, own_environment() | environment, fn, args)
            process = context.Process(target=_run, args=arguments)
            process.start()
            sender.close()
            started.append((process, receiver))
        outcomes = []
        for number, (_, receiver) in enumerate(started):
            if not receiver.poll(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"process {number} of {len(started)} has not ended in {limit_s} s")
            outcomes.append(receiver.recv())
        return outcomes
    finally:
        for process, receiver in started:
            process.kill()
            process.join()
            process.close()
            receiver.close()


def _run(sender: Connection, environment: dict[str, str], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    began = time.monotonic()
    try:
        outcome = Outcome(fn(*args), "", time.monotonic() - began)
    except Exception as error:
        outcome = Outcome(None, f"{type(error).__name__}: {error}", time.monotonic() - began)
    sender.send(outcome)


def torchrun(*options: str) -> list[str]:
    """The command, without the script: of this interpreter, whatever is on the path."""
    return [sys.executable, "-m", "torch.distributed.run", *options]


def node(number: int, endpoint: str, *options: str) -> list[str]:
    """The command of torchrun on one of two nodes, the first of which holds the rendezvous at its ``host:port``."""
    return torchrun(
        *("--nnodes", "2", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-id", "test"),
        *("--rdzv-endpoint", endpoint, "--rdzv-conf", f"is_host={int(number == 0)}"),
        *options,
    )


def run_commands(*commands: Sequence[str], limit_s: float = 120.0, **environment: str) -> list[str]:
    """Run commands at the same time, and wait for all of them.

    Returns:
        What each has printed.

    Raises:
        AssertionError: If one fails; it shows what that has said of it.
        TimeoutError: If one does not end in time. All of them, and what they have started, are killed.
    """
    variables = own_environment() | {"OMP_NUM_THREADS": "1"} | environment
    deadline = time.monotonic() + limit_s
    with ExitStack() as stack:
        started = []
        for command in commands:
            files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)]
            process = subprocess.Popen(command, stdout=files[0], stderr=files[1], env=variables, start_new_session=True)
            stack.callback(_end, process)
            started.append((process, *files))
        printed = []
        for process, *files in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            for file in files:
                file.seek(0)
            output, errors = (file.read() for file in files)
            if process.returncode is None:
                raise TimeoutError(f"{process.args} has not ended in {limit_s} s:\n{output}\n{errors}")
            assert process.returncode == 0, f"{process.args} ended with {process.returncode}:\n{output}\n{errors}"
            printed.append(output)
        return printed


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.terminate()  # torchrun then ends its ranks, which have sessions of their own
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

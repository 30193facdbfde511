"""For tests: run a function on several ranks of one machine."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from ignite_core.distributed.failures.watcher import EXIT_CODE
from ignite_core.distributed.models.native import TorchModel
from ignite_core.distributed.utils import finalize, initialize
from ignite_core.exceptions import RankFailed

__all__ = ["run_distributed"]

#: How long the parent waits for ranks that end by themselves, after the time limit or the failure of another rank.
_GRACE_S = 10.0


class RemoteTraceback(Exception):  # noqa: N818 - only the cause of another error
    """The traceback of an error in another process; the cause of the error that the parent raises."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def run_distributed(fn: Callable[..., Any], *args: Any, ranks: int = 2, timeout_s: float = 120.0) -> list[Any]:
    """Call ``fn(*args)`` on several ranks with the gloo backend.

    The processes are forked from a server that has imported torch and stays for the next call (on platforms without
    fork they are spawned). So ``fn`` must be importable: defined at the top level of a module.

    Args:
        fn: Called in one process on each rank, on one thread, with :mod:`ignite_core.distributed` initialised.
        args: Its arguments. They and the result must be picklable.
        ranks: Number of processes.
        timeout_s: Time limit of the call and of each collective, in seconds.

    Returns:
        The results of ``fn`` in rank order.

    Raises:
        Exception: The first one that any rank raised, of the same type if it can be pickled, else a RuntimeError; its
            cause shows the traceback of that rank. The other ranks are ended.
        TimeoutError: If the ranks do not end in time; the message shows where each of them was.

    Example:
        >>> from ignite_core import distributed as idist
        >>> run_distributed(idist.all_reduce, 1.5, ranks=2)
        [3.0, 3.0]
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["torch", __name__])
    with tempfile.TemporaryDirectory(prefix="run_distributed_") as folder, TorchModel.meeting_point() as environment:
        environment = {**os.environ, **environment, "WORLD_SIZE": str(ranks), "GROUP_RANK": "0"}
        processes, pending = [], {}
        try:
            for rank in range(ranks):
                receiver, sender = context.Pipe(duplex=False)
                arguments = (sender, rank, environment, timeout_s, Path(folder) / str(rank), fn, args)
                process = context.Process(target=_run_rank, args=arguments, name=f"rank {rank}")
                process.start()
                sender.close()
                processes.append(process)
                pending[receiver] = rank
            return _collect(pending, processes, Path(folder), timeout_s)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.join()
                process.close()
            for receiver in pending:
                receiver.close()


def _run_rank(
    sender: Connection,
    rank: int,
    environment: Mapping[str, str],
    timeout_s: float,
    stack: Path,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """Call the function in a process, and send its result or failure."""
    os.environ.clear()
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    with stack.open("w") as file:
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=file)
        try:
            initialize("gloo", timeout=timedelta(seconds=timeout_s))
            message = pickle.dumps((None, fn(*args)))
        except BaseException as error:
            message = pickle.dumps(((time.monotonic(), _picklable(error), traceback.format_exc()), None))
            sender.send_bytes(message)  # before the connections to the other ranks close, which makes them fail
            raise SystemExit(1) from error
        sender.send_bytes(message)
        finalize()
        faulthandler.cancel_dump_traceback_later()


def _picklable(error: BaseException) -> BaseException:
    """The error, if it can be pickled and unpickled; else a RuntimeError that quotes it."""
    try:
        if isinstance(error, Exception) and type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


def _collect(pending: Mapping[Connection, int], processes: list[Any], folder: Path, timeout_s: float) -> list[Any]:
    results: dict[int, Any] = {}
    failures: list[tuple[bool, float, int, BaseException, str]] = []  # those that follow from another one last
    waiting = dict(pending)
    deadline = time.monotonic() + timeout_s + _GRACE_S
    while waiting:
        ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
        if not ready and not failures:
            raise _timeout(waiting, processes, folder, timeout_s)
        for receiver in ready:
            assert isinstance(receiver, Connection)
            rank = waiting[receiver]
            try:
                failure, results[rank] = pickle.loads(receiver.recv_bytes())
            except EOFError:
                processes[rank].join()
                if _stack(folder, rank):
                    raise _timeout(waiting, processes, folder, timeout_s) from None
                failure = time.monotonic(), _death(rank, processes[rank].exitcode), "it left no traceback"
            del waiting[receiver]
            if failure is not None:
                since, error, trace = failure
                failures.append((isinstance(error, RankFailed), since, rank, error, trace))
        if not failures:
            continue
        is_consequence, _, rank, error, trace = min(failures)
        if is_consequence and waiting and ready:  # the rank that failed first may not have ended yet
            deadline = min(deadline, time.monotonic() + _GRACE_S)
            continue
        raise error from RemoteTraceback(f"on rank {rank} of {len(processes)}:\n{trace}")
    return [results[rank] for rank in range(len(processes))]


def _death(rank: int, exitcode: int) -> RuntimeError:
    if exitcode == EXIT_CODE:
        return RankFailed(f"run_distributed: rank {rank} was blocked when another one failed, and was ended")
    how = f"was killed by signal {-exitcode}" if exitcode < 0 else f"ended with exit code {exitcode}"
    return RuntimeError(f"run_distributed: rank {rank} {how} and returned nothing")


def _timeout(waiting: Mapping[Connection, int], processes: list[Any], folder: Path, timeout_s: float) -> TimeoutError:
    for rank in waiting.values():
        processes[rank].join(_GRACE_S)  # each writes its stack and ends
    places = {rank: _stack(folder, rank) or _last_traceback(receiver) for receiver, rank in waiting.items()}
    stacks = "\n".join(f"rank {rank}:\n{places[rank]}" for rank in sorted(places))
    return TimeoutError(
        f"run_distributed: ranks {sorted(places)} have not ended in {timeout_s:g} s; they were at\n{stacks}"
    )


def _last_traceback(receiver: Connection) -> str:
    """The traceback of a rank that failed because another one was ended."""
    try:
        failure = pickle.loads(receiver.recv_bytes())[0] if receiver.poll() else None
    except EOFError:
        failure = None
    return failure[2] if failure else ""


def _stack(folder: Path, rank: int) -> str:
    path = folder / str(rank)
    return path.read_text() if path.exists() else ""

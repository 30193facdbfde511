"""For tests: run a function on several ranks of one machine, and get back what each of them returned."""

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

#: How long the parent waits for ranks that should have ended by themselves at the time limit.
_GRACE_S = 10.0


class RemoteTraceback(Exception):  # noqa: N818 - it is no error of its own
    """The traceback of an error in another process; the cause of the error that the parent raises."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def run_distributed(fn: Callable[..., Any], *args: Any, ranks: int = 2, timeout_s: float = 120.0) -> list[Any]:
    """Call ``fn(*args)`` on each of several ranks that have joined with gloo.

    The processes are forked from one that has imported torch and nothing else that runs, and that stays for the next
    call (on platforms without fork they are spawned). So ``fn`` must be importable: defined at the top of a module.

    Args:
        fn: Called in a process of its own on each rank, on one thread; :mod:`ignite_core.distributed` is initialised.
        args: Handed to it; they are pickled, as is what it returns.
        ranks: How many processes.
        timeout_s: After so many seconds they are ended; it is the time limit of each collective too.

    Returns:
        What ``fn`` returned, in the order of the ranks.

    Raises:
        Exception: The first one that any rank raised, of its own type if it can be pickled, else a RuntimeError; its
            cause shows the traceback of that rank. The other ranks are ended.
        TimeoutError: If they have not ended in time; it shows where each of them was.

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
    """What a process does: it sends its result, or when it failed, with what and how."""
    os.environ.clear()
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    with stack.open("w") as file:
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=file)
        try:
            initialize("gloo", timeout=timedelta(seconds=timeout_s))
            message = pickle.dumps((None, fn(*args)))
        except BaseException as error:
            message = pickle.dumps(((time.monotonic(), _portable(error), traceback.format_exc()), None))
            sender.send_bytes(message)  # before its connections close, which makes the others fail
            raise SystemExit(1) from error
        sender.send_bytes(message)
        finalize()
        faulthandler.cancel_dump_traceback_later()


def _portable(error: BaseException) -> BaseException:
    """The error, if another process can get it as it is."""
    try:
        copy = pickle.loads(pickle.dumps(error))
        return error if type(copy) is type(error) and isinstance(error, Exception) else RuntimeError(_summary(error))
    except Exception:
        return RuntimeError(_summary(error))


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _collect(pending: Mapping[Connection, int], processes: list[Any], folder: Path, timeout_s: float) -> list[Any]:
    results: dict[int, Any] = {}
    failures: list[tuple[float, BaseException, str, int]] = []  # of ranks that say that another one has failed
    waiting = dict(pending)
    deadline = time.monotonic() + timeout_s + _GRACE_S
    while waiting:
        ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
        if not ready and not failures:
            raise _late(waiting, processes, folder, timeout_s)
        for receiver in ready:
            assert isinstance(receiver, Connection)
            rank = waiting[receiver]
            try:
                failure, results[rank] = pickle.loads(receiver.recv_bytes())
            except EOFError:
                processes[rank].join()
                if _stack(folder, rank):
                    raise _late(waiting, processes, folder, timeout_s) from None
                failure = (time.monotonic(), _death(rank, processes[rank].exitcode), "it left no traceback")
            del waiting[receiver]
            if failure is not None:
                failures.append((*failure, rank))
        first = min(failures, key=lambda failure: (_is_of_another(failure[1]), failure[0]), default=None)
        if first is None:
            continue
        if _is_of_another(first[1]) and waiting and ready:  # the one that it tells of may still be at it
            deadline = min(deadline, time.monotonic() + _GRACE_S)
            continue
        _, error, trace, rank = first
        raise error from RemoteTraceback(f"on rank {rank} of {len(processes)}:\n{trace}")
    return [results[rank] for rank in range(len(processes))]


def _is_of_another(error: BaseException) -> bool:
    """Whether a rank failed because another one did."""
    return isinstance(error, RankFailed)


def _death(rank: int, exitcode: int) -> RuntimeError:
    if exitcode == EXIT_CODE:
        return RankFailed(f"run_distributed: rank {rank} was blocked when another one failed, and was ended", ())
    how = f"was killed by signal {-exitcode}" if exitcode < 0 else f"ended with exit code {exitcode}"
    return RuntimeError(f"run_distributed: rank {rank} {how} and returned nothing")


def _late(waiting: Mapping[Connection, int], processes: list[Any], folder: Path, timeout_s: float) -> TimeoutError:
    for rank in waiting.values():
        processes[rank].join(_GRACE_S)  # each writes down where it is, and ends
    places = {rank: _stack(folder, rank) or _last_words(receiver) for receiver, rank in waiting.items()}
    stacks = "\n".join(f"rank {rank}:\n{places[rank]}" for rank in sorted(places))
    return TimeoutError(
        f"run_distributed: ranks {sorted(places)} have not ended in {timeout_s:g} s; they were at\n{stacks}"
    )


def _last_words(receiver: Connection) -> str:
    """The traceback of a rank that failed because another one was ended."""
    try:
        failure = pickle.loads(receiver.recv_bytes())[0] if receiver.poll() else None
    except EOFError:
        failure = None
    return failure[2] if failure else ""


def _stack(folder: Path, rank: int) -> str:
    path = folder / str(rank)
    return path.read_text() if path.exists() else ""

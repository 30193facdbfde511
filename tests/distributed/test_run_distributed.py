"""What run_distributed promises, as other tests lean on it."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import ignite_core.distributed as idist
from ignite_core.testing import run_distributed

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    """The process that the ranks are forked from: it stays, with a socket in the temporary folder."""
    run_distributed(idist.get_rank, ranks=1)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens in a test: no file, open or not, no process, and no process group in this process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = open_files()

    yield

    assert list(tmp_path.iterdir()) == []
    assert multiprocessing.active_children() == []
    assert idist.model_name() == "serial"
    assert open_files() == opened


def open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return sorted(os.listdir(folder)) if folder.exists() else []


def where_am_i(scale: int, text: str) -> dict[str, Any]:
    return {
        "rank": idist.get_rank(),
        "world": idist.get_world_size(),
        "local rank": idist.get_local_rank(),
        "on node": idist.get_nproc_per_node(),
        "nodes": idist.get_nnodes(),
        "model": (idist.model_name(), idist.backend()),
        "sum": idist.all_reduce(idist.get_rank() * scale),
        "text": text,
        "variables": [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")],
        "threads": torch.get_num_threads(),
    }


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_results_in_order_of_ranks(ranks: int) -> None:
    """Each rank is initialized."""
    assert run_distributed(where_am_i, 10, "abc", ranks=ranks) == [
        {
            "rank": rank,
            "world": ranks,
            "local rank": rank,
            "on node": ranks,
            "nodes": 1,
            "model": ("native-dist", "gloo"),
            "sum": 10 * sum(range(ranks)),
            "text": "abc",
            "variables": [str(rank), str(rank), str(ranks)],
            "threads": 1,
        }
        for rank in range(ranks)
    ]


def variables() -> tuple[str | None, str | None]:
    return os.environ.get("RANKS_SEE_THIS"), os.environ.get("RANKS_DO_NOT_SEE_THIS")


def test_ranks_have_the_variables_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the first call, though the process that they are forked from is as old as that."""
    monkeypatch.setenv("RANKS_DO_NOT_SEE_THIS", "old")
    run_distributed(variables, ranks=1)
    monkeypatch.delenv("RANKS_DO_NOT_SEE_THIS")
    monkeypatch.setenv("RANKS_SEE_THIS", "new")

    assert run_distributed(variables, ranks=1) == [("new", None)]


def test_in_a_launched_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks take the variables of their own run for true, whatever torchrun or SLURM has told the caller."""
    for name, value in {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "GROUP_RANK": "3",
        "MASTER_ADDR": "no.such.host.invalid",
        "MASTER_PORT": "1",
        "TORCHELASTIC_RUN_ID": "none",
        "SLURM_JOB_ID": "1",
        "SLURM_PROCID": "5",
        "SLURM_NTASKS": "8",
    }.items():
        monkeypatch.setenv(name, value)

    assert run_distributed(idist.get_rank) == [0, 1]


class OwnError(Exception):
    """Has an argument that is no text."""


def fail_on(guilty: int, error: BaseException) -> None:
    """The others wait for the guilty one, and so fail after it."""
    if idist.get_rank() == guilty:
        raise error
    idist.barrier()


@pytest.mark.parametrize("guilty", [0, 1])
def test_first_error_is_raised(guilty: int) -> None:
    """With its type, message and traceback."""
    with pytest.raises(OwnError) as caught:
        run_distributed(fail_on, guilty, OwnError("one rank gives up", 7))

    assert caught.value.args == ("one rank gives up", 7)
    cause = str(caught.value.__cause__)
    assert f"on rank {guilty} of 2:\nTraceback (most recent call last):" in cause
    assert "in fail_on\n    raise error" in cause


class TwoArgumentsError(Exception):
    """Can be pickled, but not read again: that calls it with its message alone."""

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"{what} number {number}")


def fail_beyond_pickling(kind: str) -> None:
    if idist.get_rank() == 1:
        if kind == "two arguments":
            raise TwoArgumentsError("part", 3)
        if kind == "an exit":
            raise SystemExit("enough")
        error = ValueError("holds a lock")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error
    idist.barrier()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("two arguments", "TwoArgumentsError: part number 3"),
        ("a lock", "ValueError: holds a lock"),
        ("an exit", "SystemExit: enough"),
    ],
)
def test_unpicklable_errors_are_quoted(kind: str, message: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        run_distributed(fail_beyond_pickling, kind)

    assert str(caught.value) == message
    assert "in fail_beyond_pickling" in str(caught.value.__cause__)


def return_a_lock() -> Any:
    return threading.Lock()


def test_unpicklable_result() -> None:
    """It is an error of the rank."""
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        run_distributed(return_a_lock)


def die(how: str) -> None:
    if idist.get_rank() == 1:
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # for ever: what the parent tells is not that the others have failed after it


@pytest.mark.parametrize(("how", "words"), [("exit", "ended with exit code 3"), ("kill", "was killed by signal 9")])
def test_dead_rank_is_named(how: str, words: str) -> None:
    """At once."""
    with pytest.raises(RuntimeError, match=rf"^run_distributed: rank 1 {words} and returned nothing$"):
        run_distributed(die, how)


def hang_on(guilty: int) -> None:
    if idist.get_rank() == guilty:
        threading.Event().wait()


def test_hanging_ranks() -> None:
    """They are ended; the error shows where they were."""
    with pytest.raises(TimeoutError) as caught:
        run_distributed(hang_on, 1, timeout_s=2.0)

    message = str(caught.value)
    assert message.startswith("run_distributed: ranks [1] have not ended in 2 s; they were at\nrank 1:\n")
    assert "in hang_on" in message


def wait_for_the_other() -> None:
    if idist.get_rank() == 0:
        idist.barrier()
    threading.Event().wait()


def test_deadlock() -> None:
    """One in a collective, the other elsewhere. Whichever notices the limit first, both places are shown."""
    with pytest.raises(TimeoutError) as caught:
        run_distributed(wait_for_the_other, timeout_s=2.0)

    _, first, second = re.split(r"rank [01]:\n", str(caught.value))
    assert "barrier" in first
    assert "in wait_for_the_other" in second


def test_calls_after_errors() -> None:
    with pytest.raises(OwnError):
        run_distributed(fail_on, 0, OwnError())

    assert run_distributed(idist.get_rank, ranks=3) == [0, 1, 2]

"""Parallel and spawn: one way to start, whoever launches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ignite_core.distributed as idist

SCRIPT = """
import ignite_core.distributed as idist

def training(local_rank, config, *, factor):
    total = idist.all_reduce(idist.get_rank() + 1) * factor
    line = f"{local_rank} {idist.get_rank()}/{idist.get_world_size()} {idist.backend()} {config} {total}"
    print(line + "\\n", end="", flush=True)  # in one piece

if __name__ == "__main__":
    with idist.Parallel(**OPTIONS) as parallel:
        parallel.run(training, {"a": 1}, factor=10)
    assert idist.model_name() == "serial"
"""


def printed(folder: Path, options: dict[str, Any]) -> list[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("OPTIONS", repr(options)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


def test_without_backend(tmp_path: Path) -> None:
    """The function runs in this process."""
    assert printed(tmp_path, {}) == ["0 0/1 None {'a': 1} 10"]


def test_backend_without_launcher(tmp_path: Path) -> None:
    """A run of one process."""
    assert printed(tmp_path, {"backend": "gloo"}) == ["0 0/1 gloo {'a': 1} 10"]


def test_starts_processes(tmp_path: Path) -> None:
    assert printed(tmp_path, {"backend": "gloo", "nproc_per_node": 2}) == [
        "0 0/2 gloo {'a': 1} 30",
        "1 1/2 gloo {'a': 1} 30",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "smoke"}, r"the backend must be one of \[.*'gloo'.*\], got 'smoke'"),
        ({"nproc_per_node": 2}, r"\['nproc_per_node'\] need a backend"),
        ({"init_method": "env://"}, r"\['init_method'\] need a backend"),
        ({"backend": "gloo", "nnodes": 2}, r"\['nnodes'\] are for processes that it starts; pass nproc_per_node too"),
        ({"backend": "gloo", "nproc_per_node": 0}, "nproc_per_node must be an integer of at least 1, got 0"),
        ({"backend": "gloo", "nproc_per_node": 1, "nnodes": -1}, "nnodes must be an integer of at least 1, got -1"),
        ({"backend": "gloo", "nproc_per_node": 1, "nnodes": 2}, "nnodes=2 needs node_rank"),
        (
            {"backend": "gloo", "nproc_per_node": 1, "nnodes": 2, "node_rank": 2},
            r"node_rank must be in \[0, 2\), got 2",
        ),
        (
            {"backend": "gloo", "nproc_per_node": 1, "init_method": "env://"},
            "with nproc_per_node there is no init_method, got 'env://'",
        ),
    ],
)
def test_contradictory_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^Parallel: {message}"):
        idist.Parallel(**options)


def test_several_nodes_need_an_address() -> None:
    parallel = idist.Parallel("gloo", nproc_per_node=1, nnodes=2, node_rank=0)

    with pytest.raises(ValueError, match="nnodes=2 needs master_addr and master_port"):
        parallel.run(print)


def test_launched_process_starts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun and nproc_per_node together would start a run within each of its ranks."""
    launched = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ValueError, match="nproc_per_node=2, but RANK='1' and WORLD_SIZE='2' say that this process"):
        idist.Parallel("gloo", nproc_per_node=2).run(print)


def test_finalizes_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), idist.Parallel("gloo") as parallel:
        parallel.run(lambda local_rank: local_rank / 0)

    assert idist.model_name() == "serial"


SESSION = """
import os
import ignite_core.distributed as idist

def work(local_rank):
    os.write(1, f"{idist.all_gather(2 * idist.get_rank())}\\n".encode())  # in one piece

try:
    idist.spawn("gloo", work, nproc_per_node=2, start_method="spawn")
except ValueError as error:
    print(error, flush=True)
idist.spawn("gloo", work, nproc_per_node=2)
"""


def test_function_of_an_interactive_session() -> None:
    """It is run in forked processes. As in a notebook: its main module is not a file."""
    done = subprocess.run([sys.executable, "-"], input=SESSION, capture_output=True, text=True, timeout=120)
    refused, *outputs = done.stdout.split("\n")

    assert refused == (
        "idist.spawn: work is defined in an interactive session, where only a forked process finds it, got "
        f"start_method='spawn' on {sys.platform}; or define it in a module and import it"
    )
    assert outputs == ["[0, 2]", "[0, 2]", ""], done.stderr

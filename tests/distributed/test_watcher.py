"""The parts of the watcher: the error store, the neighbours, and the life of the thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore, PrefixStore  # type: ignore[attr-defined]
from torch.utils.data import DataLoader

import ignite_core.distributed as idist
from ignite_core.distributed.failures import api as failures
from ignite_core.distributed.failures import watcher
from ignite_core.distributed.failures.error_store import ErrorStore
from ignite_core.distributed.failures.watcher import Watcher
from ignite_core.exceptions import RankFailed
from ignite_core.testing import run_distributed
from tests.distributed.launching import by_hand, free_port, launch, run_commands, torchrun

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")


def stores(number: int) -> list[ErrorStore]:
    store = HashStore()
    return [ErrorStore(PrefixStore("a", store), PrefixStore("a", store), rank, number) for rank in range(number)]


# --------------------------------------------------------------------------------------------------- the error store


def test_order_of_entries() -> None:
    """All ranks read the entries in the same order."""
    first, second = stores(2)
    first.post({"kind": "a"})
    second.post({"kind": "b"})

    for store in (first, second):
        assert store.read() == (1, {"kind": "a"})
        assert store.read() == (2, {"kind": "b"})
        assert store.read() is None


def test_missing_and_late_entries() -> None:
    """A missing entry is skipped; a late one is read.

    A rank may be killed between taking a number and writing the entry.
    """
    first, second = stores(2)
    first._writer.add("entries", 1)
    second.post({"kind": "b"})

    assert first.read() is None
    first.skip_gap()
    assert first.read() == (2, {"kind": "b"})
    first.skip_gap()
    second.post({"kind": "c"})
    assert first.read() == (3, {"kind": "c"})


def test_first_of_two_failures_counts() -> None:
    """On all ranks."""
    first, second = stores(2)
    number = first.post({"kind": "failed"})

    assert second.resolve(number, "acted on")
    assert not first.resolve(number, "withdrawn")
    assert second.resolve(number, "acted on")


# ----------------------------------------------------------------------------------------------------- the neighbours


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(watcher, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_silence_of_a_neighbour(clock: list[float]) -> None:
    """It is counted from the last heartbeat."""
    mine, other = stores(2)
    neighbour = watcher._Neighbour(0, 2)
    other.beat()

    silences = []
    for second in range(6):
        if second == 3:
            other.beat()
        clock[0] += 1
        silences.append(neighbour.silence(mine, set()))
    assert silences == [0, 1, 2, 0, 1, 2]


def test_ranks_that_are_not_watched(clock: list[float]) -> None:
    """Ranks that have left, are lost, or never sent a heartbeat are not reported."""
    mine, never, left, lost, there = stores(5)
    for store in (left, lost, there):
        store.beat()
    left.deregister()
    neighbour = watcher._Neighbour(0, 5)

    assert neighbour.silence(mine, {3}) == 0
    assert neighbour.rank == 4
    there.deregister()
    assert neighbour.silence(mine, {3}) is None
    never.beat()
    assert neighbour.silence(mine, {3}) == 0
    assert neighbour.rank == 1


def test_stopped_process_does_not_report_its_neighbour(clock: list[float]) -> None:
    mine, other = stores(2)
    other.beat()
    neighbour = watcher._Neighbour(0, 2)
    for gap in (1, 100, 1):
        clock[0] += gap
        silent_s = neighbour.silence(mine, set())

    assert silent_s == 1


# -------------------------------------------------------------------------------------------- what is in the store


def watch(store: ErrorStore, grace_s: float = 60.0) -> tuple[Watcher, list[RankFailed]]:
    heard: list[RankFailed] = []
    found = Watcher(0, store.world_size, lambda ending: store, 300.0, grace_s, heard.append)
    found.wait_until_open()
    return found, heard


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_life_of_a_failure() -> None:
    """It is reported until it was raised, and ends when it is withdrawn."""
    mine, other = stores(2)
    found, heard = watch(mine)
    assert found.is_healthy

    number = other.post({"kind": "failed", "ranks": [1], "message": "ValueError: x"})
    wait_for(lambda: len(heard) > 2)
    assert found.deliver() is not None
    told = len(heard)
    other.post({"kind": "withdrawn", "entry": number})
    wait_for(lambda: found._active is None)
    found.resume()

    assert str(heard[0]) == "rank 1 of 2 has failed:\n\nValueError: x"
    assert len(heard) <= told + 1  # it may have been at it
    assert found.is_healthy
    assert found.has_failed
    found.stop()


def test_failed_rank_ignores_other_failures() -> None:
    """Until it continues."""
    mine, other = stores(2)
    found, heard = watch(mine, grace_s=0.3)
    found.report(ValueError("mine"))
    other.post({"kind": "failed", "ranks": [1], "message": "ValueError: other"})
    wait_for(lambda: found._active is not None)
    found.resume()

    assert heard == []
    assert found._active is None
    wait_for(lambda: heard)
    assert found.deliver() is not None
    found.stop()


def test_unreachable_store(caplog: pytest.LogCaptureFixture) -> None:
    """One warning is logged, and watching ends."""

    class Gone:
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("connection lost")

    mine, _ = stores(2)
    found, _ = watch(mine)
    mine._reader = Gone()  # type: ignore[assignment]
    found._thread.join(20)

    assert not found._thread.is_alive()
    assert [record.message for record in caplog.records] == ["rank 0 of 2 is no longer watched: connection lost"]
    found.report(ValueError("nobody hears it"))
    found.stop()


# ------------------------------------------------------------------------------------------- the life of the thread


def names_of_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ignite_core watcher"]


def begin_and_end() -> list[list[str]]:
    found = [names_of_threads()]
    for _ in range(3):
        idist.finalize()
        found.append(names_of_threads())
        idist.initialize("gloo")
        found.append(names_of_threads())
    return found


def test_life_of_the_thread() -> None:
    """It ends with ``finalize``; a run of one process has none."""
    assert run_distributed(begin_and_end, ranks=1) == [[[]] * 7]
    one = ["ignite_core watcher"]
    assert run_distributed(begin_and_end) == [[one, [], one, [], one, [], one]] * 2


class WhoAmI(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        failures.report(ValueError("of a worker"))
        return os.getpid(), len(names_of_threads()), failures._watcher is None


def load() -> tuple[bool, Any, bool, int]:
    rows = list(DataLoader(WhoAmI(), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    apart = all(pid != os.getpid() for pid, *_ in rows)
    idist.barrier()
    return apart, {tuple(rest) for _, *rest in rows}, failures.has_failed(), idist.all_reduce(1)


def test_workers_of_a_loader_are_no_ranks() -> None:
    assert run_distributed(load) == [(True, {(0, True)}, False, 2)] * 2


SCRIPT = """
import threading
import ignite_core.distributed as idist
idist.initialize("gloo")
assert idist.all_reduce(1) == 2
assert any(thread.name == "ignite_core watcher" for thread in threading.enumerate())
if idist.get_rank() == 0:
    idist.finalize()
print("done\\n", end="", flush=True)
"""


def test_exit_with_and_without_finalize(tmp_path: Path) -> None:
    """The interpreter ends with the right status."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    [printed] = run_commands([*torchrun("--standalone", "--nproc-per-node", "2"), str(script)])

    assert printed.splitlines() == ["done", "done"]


# ------------------------------------------------------------------------------------- where nobody runs a store


def open_the_store() -> tuple[bool, int, float]:
    from ignite_core.distributed.failures import store_server

    began = time.monotonic()
    idist.initialize("gloo", timeout=timedelta(seconds=60))
    joined_s = time.monotonic() - began
    own = failures._watcher
    assert own is not None
    assert own._opened.wait(60)  # a loaded machine takes long to import torch
    idist.barrier()
    found = own._store is not None, len(store_server._helpers), joined_s
    idist.finalize()
    for helper in store_server._helpers:
        helper.wait(30)
    return found


def test_life_of_the_store_server() -> None:
    """Rank 0 starts it; it ends with the last rank."""
    first, second = launch(open_the_store, by_hand(2, free_port()))

    assert first.error == second.error == ""
    assert first.value[:2] == (True, 1)
    assert second.value[:2] == (True, 0)


def test_store_server_ignores_ctrl_c(tmp_path: Path) -> None:
    """It ends when no heartbeats arrive."""
    program = (
        "import os, signal, sys, time\n"
        "from ignite_core.distributed.failures import store_server\n"
        "store_server._SILENCE_S = 1.5\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "    os.kill(os.getpid(), number)\n"
        "store_server.main('part', 2)\n"
    )
    began = time.monotonic()

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert time.monotonic() - began > 1.5


def do_without_a_store() -> tuple[int, bool]:
    sys.executable = "/no/such/interpreter"
    idist.initialize("gloo")
    total = idist.all_reduce(1)
    own = failures._watcher
    assert own is not None
    assert own._opened.wait(60)  # a loaded machine takes long to import torch
    missing = own._store is None
    failures.report(ValueError("nobody hears it"))
    idist.finalize()
    return total, missing


def test_ranks_without_an_error_store() -> None:
    """They can exchange values."""
    assert [outcome.value for outcome in launch(do_without_a_store, by_hand(2, free_port()))] == [(2, True)] * 2

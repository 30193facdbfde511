"""Saves that are written while training goes on: R1, R4 and R24 to R26."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_core.distributed.failures.api import is_agreed
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import AsyncDiskSaver, Checkpoint, DiskSaver
from ignite_core.handlers.checkpoint import async_saver
from ignite_core.handlers.checkpoint.savers import WriteFailed
from ignite_core.handlers.checkpoint.storage.load import load
from ignite_core.testing import run_distributed
from tests.faults import io_shim
from tests.faults.sizes import FULL, sized
from tests.handlers.checkpoint.comparing import manifests, read_manifest
from tests.handlers.checkpoint.newest import load_newest
from tests.handlers.checkpoint.scenarios import leftovers

#: For what must happen soon, on a machine that may be busy with other things.
LONG_S = 60.0


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread."""
    yield
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if thread.name == "checkpoint-writer"] == []


def state_at(step: int) -> dict[str, Any]:
    """Different in every value, for each step."""
    model = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(4, 20)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": [step]}
    overwrite(state, step)
    return state


def overwrite(state: Any, number: int) -> None:
    """Another value everywhere, in place."""
    if isinstance(state, torch.Tensor):
        with torch.no_grad():
            state.fill_(number)
    elif isinstance(state, dict):
        for value in state.values():
            overwrite(value, number)
    elif isinstance(state, list):
        state[:] = [number] * len(state) if all(type(item) is int for item in state) else state
        for item in state:
            overwrite(item, number)


def values(state: Any) -> set[float]:
    """All numbers in tensors, and in lists of integers."""
    if isinstance(state, torch.Tensor):
        return set(state.double().flatten().tolist())
    if isinstance(state, dict):
        return set().union(*(values(item) for item in state.values()))
    if isinstance(state, list):
        own = {float(item) for item in state if type(item) is int}
        return own.union(*(values(item) for item in state))
    return set()


def steps_in(folder: Path) -> list[int | None]:
    return [manifest.step for manifest in manifests(folder)]


def told_by(call: Callable[[], object]) -> str | None:
    """What an error of a write says; None if there is none."""
    try:
        call()
    except WriteFailed as error:
        return str(error)
    return None


@contextmanager
def blocked(kind: str = "fsync") -> Iterator[tuple[threading.Event, threading.Event]]:
    """A disk that stands still at such an operation until it is let go; in the thread. Says that it was reached."""
    reached, go = threading.Event(), threading.Event()

    def wait(number: int, op: io_shim.Op) -> None:
        if op.kind == kind:
            reached.set()
            assert go.wait(LONG_S)

    with io_shim.calling(wait):
        try:
            yield reached, go
        finally:
            go.set()


# ------------------------------------------------------------------------------------------------------ what it writes


def test_a_file_is_that_of_disk_saver(tmp_path: Path) -> None:
    metadata = {"step": 3, "score": float("nan"), "objects": ["model"]}
    state = state_at(3)
    with AsyncDiskSaver(tmp_path / "async") as saver:
        saver(state, "run.pt", metadata)
    DiskSaver(tmp_path / "sync")(state, "run.pt", metadata)
    ours, theirs = (read_manifest(tmp_path / folder / "run.pt") for folder in ("async", "sync"))

    assert values(load(tmp_path / "async" / "run.pt")) == {3.0}
    assert str(load(tmp_path / "async" / "run.pt")) == str(load(tmp_path / "sync" / "run.pt"))
    assert dict(ours.about) == dict(theirs.about)
    assert leftovers(tmp_path / "async") == set()


def test_what_is_saved_is_what_was_there_at_the_call(tmp_path: Path) -> None:
    """R26: everything is overwritten as soon as the save has returned."""
    state, rounds = state_at(0), sized(25, 500)
    with AsyncDiskSaver(tmp_path) as saver:
        for number in range(1, rounds + 1):
            overwrite(state, number)
            saver(state, f"run_{number % 3}.pt", {"step": number})
            overwrite(state, -number)
            if number > 1:
                assert values(load(tmp_path / f"run_{(number - 1) % 3}.pt")) == {float(number - 1)}
    assert values(load(tmp_path / f"run_{rounds % 3}.pt")) == {float(rounds)}


def test_a_save_returns_while_the_disk_still_works(tmp_path: Path) -> None:
    with blocked() as (reached, go), AsyncDiskSaver(tmp_path) as saver:
        saver(state_at(1), "run.pt", {"step": 1})
        assert reached.wait(LONG_S)
        assert steps_in(tmp_path) == []
        go.set()
    assert steps_in(tmp_path) == [1]


def test_no_save_is_left_out(tmp_path: Path) -> None:
    """One that comes while another is being written waits for it."""
    with AsyncDiskSaver(tmp_path) as saver:
        for step in range(10):
            saver(state_at(step), f"run_{step}.pt", {"step": step})

    assert steps_in(tmp_path) == list(range(9, -1, -1))


def test_states_of_all_sizes_follow_each_other(tmp_path: Path) -> None:
    sizes = [10, 100_000, 5, 0, 200_000]
    with AsyncDiskSaver(tmp_path) as saver:
        for size in sizes:
            saver({"a": torch.full((size,), float(size)), "note": "x" * size}, f"{size}.pt")

    for size in sizes:
        loaded = load(tmp_path / f"{size}.pt")
        assert torch.equal(loaded["a"], torch.full((size,), float(size)))
        assert loaded["note"] == "x" * size


def test_runs_in_threads_share_a_saver(tmp_path: Path) -> None:
    """Each run closes it when it ends, while the others go on."""
    saver, failures = AsyncDiskSaver(tmp_path, timeout_s=LONG_S), []

    def run_one(name: str) -> None:
        model = nn.Linear(3, 3)
        trainer = trainer_of(model)
        checkpoint = Checkpoint({"model": model}, saver, name, n_saved=2)
        checkpoint.attach(trainer, every=1)
        try:
            for epochs in range(1, 9):
                trainer.run(range(2), max_epochs=epochs)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run_one, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)

    assert failures == []
    assert sorted(os.listdir(tmp_path)) == sorted(
        f"{name}_model_{step}.pt{suffix}" for name in "abc" for step in (15, 16) for suffix in ("", ".json")
    )
    for manifest in manifests(tmp_path):
        assert values(load(tmp_path / manifest.name)) == {float(manifest.step or 0)}


# --------------------------------------------------------------------------------------------------------- removing


def test_nothing_is_removed_before_its_successor_is_on_the_disk(tmp_path: Path) -> None:
    complete_at_removal = []

    def look(number: int, op: io_shim.Op) -> None:
        if op.kind == "unlink" and op.path.name == "run_1.pt":
            complete_at_removal.append(steps_in(tmp_path))

    with io_shim.calling(look), AsyncDiskSaver(tmp_path) as saver:
        saver(state_at(1), "run_1.pt", {"step": 1})
        saver(state_at(2), "run_2.pt", {"step": 2})
        saver.remove("run_1.pt")

    assert complete_at_removal == [[2, 1]]
    assert steps_in(tmp_path) == [2]


def test_after_a_write_that_failed_nothing_is_removed_until_one_succeeds(tmp_path: Path) -> None:
    with AsyncDiskSaver(tmp_path) as saver:
        saver(state_at(1), "run_1.pt", {"step": 1})
        saver.flush()
        with io_shim.failing(at=1, kinds={"fsync"}):
            saver(state_at(2), "run_2.pt", {"step": 2})
            saver.remove("run_1.pt")
            with pytest.raises(WriteFailed):
                saver.flush()
        assert steps_in(tmp_path) == [1]
        saver(state_at(3), "run_3.pt", {"step": 3})
        saver.remove("run_2.pt")
        saver.flush()

    assert steps_in(tmp_path) == [3]


def test_what_was_to_be_removed_and_is_saved_anew_stays(tmp_path: Path) -> None:
    with AsyncDiskSaver(tmp_path) as saver:
        saver(state_at(1), "run_1.pt", {"step": 1})
        saver.flush()
        with io_shim.failing(at=1, kinds={"fsync"}):
            saver(state_at(2), "run_2.pt", {"step": 2})
            saver.remove("run_1.pt")
            with pytest.raises(WriteFailed):
                saver.flush()
        saver(state_at(3), "run_1.pt", {"step": 3})

    assert steps_in(tmp_path) == [3]


def test_a_removal_that_fails_is_told(tmp_path: Path) -> None:
    with AsyncDiskSaver(tmp_path) as saver:
        saver(state_at(1), "run_1.pt")
        saver.flush()
        with io_shim.failing(at=1, kinds={"unlink"}):
            saver.remove("run_1.pt")
            with pytest.raises(CheckpointError, match=r"run_1\.pt"):
                saver.flush()
        saver.remove("run_1.pt")
        saver.remove("there is none")

    assert os.listdir(tmp_path) == []


# ----------------------------------------------------------------------------------------------------------- errors


def test_an_error_is_told_once_by_the_next_save(tmp_path: Path) -> None:
    """R25: it names file and step; the save that tells is not begun, the one after it is as ever."""
    saver = AsyncDiskSaver(tmp_path)
    saver(state_at(1), "run_1.pt", {"step": 1})
    saver.close()
    with io_shim.failing(at=3, error=errno.ENOSPC):
        saver(state_at(2), "run_2.pt", {"step": 2})
        with pytest.raises(WriteFailed, match=r"'run_2\.pt' \(step 2\).*No space left") as told:
            saver(state_at(3), "run_3.pt", {"step": 3})
    assert told.value.filename == "run_2.pt"
    assert "run_3.pt was therefore not started" in told.value.__notes__[0]
    assert steps_in(tmp_path) == [1]
    assert leftovers(tmp_path) == set()
    saver(state_at(3), "run_3.pt", {"step": 3})
    saver.close()

    assert steps_in(tmp_path) == [3, 1]
    saver.close()


@pytest.mark.parametrize("ending", ["flush", "close"])
def test_an_error_is_told_at_the_end(tmp_path: Path, ending: str) -> None:
    saver = AsyncDiskSaver(tmp_path)
    with io_shim.failing(at=3, error=errno.EIO):
        saver(state_at(2), "run_2.pt", {"step": 2})
        with pytest.raises(WriteFailed, match="Input/output error"):
            getattr(saver, ending)()
    saver.close()


def test_an_error_in_the_block_is_not_replaced_by_one_of_the_write(tmp_path: Path) -> None:
    def train() -> None:
        with AsyncDiskSaver(tmp_path) as saver:
            saver(state_at(2), "run_2.pt", {"step": 2})
            raise ZeroDivisionError

    with io_shim.failing(at=3, error=errno.EIO), pytest.raises(ZeroDivisionError) as told:
        train()

    assert "'run_2.pt' (step 2) failed" in told.value.__notes__[0]


def test_what_could_never_be_loaded_is_refused(tmp_path: Path) -> None:
    """At the call where its type says so, else when it is looked at as it was written."""
    saver = AsyncDiskSaver(tmp_path)
    with pytest.raises(CheckpointError, match=r"as loss is a .*MSELoss"):
        saver({"loss": nn.MSELoss()}, "run.pt", {"step": 1})
    saver.close()
    saver({"a": torch.ones(1).expand(10**9)}, "run.pt", {"step": 1})
    with pytest.raises(WriteFailed, match="expanded"):
        saver.close()

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_s": 0}, "timeout_s must be a positive number of seconds, got 0"),
        ({"mode": "process"}, r"must get its own arguments and those of torch\.save, got \['mode'\]"),
    ],
)
def test_arguments_are_checked_at_once(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"AsyncDiskSaver: .*{message}"):
        AsyncDiskSaver(tmp_path, **options)


# ------------------------------------------------------------------------------------- a disk or process that hangs


def test_a_thread_that_hangs_is_waited_for_only_so_long(tmp_path: Path) -> None:
    """And only once; what is under way is not given up, and training can go on."""
    saver = AsyncDiskSaver(tmp_path, timeout_s=0.2)
    with blocked() as (reached, _):
        saver(state_at(1), "run_1.pt", {"step": 1})
        assert reached.wait(LONG_S)
        for _ in range(3):
            with pytest.raises(CheckpointError, match=r"'run_1\.pt' \(step 1\) did not finish within timeout_s=0\.2 s"):
                saver(state_at(2), "run_2.pt", {"step": 2})
        with pytest.raises(CheckpointError, match="timeout_s"):
            saver.close()
    assert saver._writes._background.wait(LONG_S)
    saver(state_at(3), "run_3.pt", {"step": 3})
    assert saver._writes._background.wait(LONG_S)
    saver.close()

    assert steps_in(tmp_path) == [3, 1]


KILLS = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from ignite_core.handlers import AsyncDiskSaver
from tests.faults import io_shim
from tests.handlers.checkpoint.test_async_saver import state_at

os.fsync = lambda fd: None  # a killed process loses nothing of what it has written
torn, root = sys.argv[1] == "torn", Path(sys.argv[2])
states = [state_at(step) for step in (1, 2)]
code, number = io_shim.KILLED, 0
while code == io_shim.KILLED:
    number += 1
    folder = root / str(number)
    folder.mkdir()
    child = os.fork()
    if child == 0:
        saver = AsyncDiskSaver(folder)
        saver(states[0], "run_1.pt", {"step": 1})
        saver.flush()
        with io_shim.killing(at=number, torn=torn):
            saver(states[1], "run_2.pt", {"step": 2})
            saver.remove("run_1.pt")
            saver.flush()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(code)
"""


def run(script: str, *arguments: object, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.mark.parametrize("torn", ["clean", "torn"] if FULL else ["torn"])
def test_a_kill_at_any_operation_of_the_thread_loses_nothing(tmp_path: Path, torn: str) -> None:
    """R1: the whole process is ended at operation k of a save with retention, for every k."""
    done = run(KILLS, torn, tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))

    assert len(folders) > 10
    assert steps_in(folders[-1]) == [2], "the last one was not killed"
    for folder in folders:
        newest, manifest = load_newest(folder)
        assert values(newest) == {float(manifest.step or 0)}
        with AsyncDiskSaver(folder, require_empty=False) as saver:
            saver(state_at(3), "run_3.pt", {"step": 3})
        assert leftovers(folder) == set()


def test_an_error_of_the_disk_at_any_operation_is_told(tmp_path: Path) -> None:
    """R4, R5: of the thread; the checkpoint before is there, and the next save succeeds."""
    for number in range(1, 100):
        folder = tmp_path / str(number)
        with AsyncDiskSaver(folder, require_empty=False) as saver:
            saver(state_at(1), "run_1.pt", {"step": 1})
            saver.flush()
            with io_shim.failing(at=number) as failed:
                saver(state_at(2), "run_2.pt", {"step": 2})
                message = told_by(saver.flush)
            newest, manifest = load_newest(folder)
            assert values(newest) == {float(manifest.step or 0)}
            if failed:
                assert message is not None
                assert "(step 2)" in message
                assert "No space left" in message
            else:
                assert (message, manifest.step) == (None, 2)
            saver(state_at(3), "run_3.pt", {"step": 3})
        assert leftovers(folder) == set()
        if not failed:
            break
    assert number > 8


# ------------------------------------------------------------------------------------------ the end of a process

ENDINGS = """
import atexit, json, os, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from ignite_core.handlers import AsyncDiskSaver, DiskSaver
from tests.faults import io_shim
from tests.handlers.checkpoint.test_async_saver import ENDING_CASES, state_at

root, state, kept = Path(sys.argv[1]), state_at(1), []


def train(folder, disk, then):
    DiskSaver(folder)({"a": torch.zeros(2)}, "run_0.pt", {"step": 0})
    timeout_s = 1.0 if disk.startswith("slow:600") else 120.0
    saver = AsyncDiskSaver(folder, timeout_s=timeout_s, require_empty=False)
    kept.append(saver)
    os.environ["IGNITE_IO_SHIM"] = disk
    io_shim.install_from_environment()
    saver(state, "run_1.pt", {"step": 1})
    if then == "has a fork":
        child = os.fork()
        if child == 0:  # with a copy of the saver
            atexit._run_exitfuncs()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


found = {}
for name, case in ENDING_CASES.items():
    (root / name).mkdir()
    begin, child = time.monotonic(), os.fork()
    if child == 0:
        os.dup2(os.open(root / name / "stderr", os.O_CREAT | os.O_WRONLY), 2)
        train(root / name, *case)
        if name.endswith("slow"):
            sys.exit(0)
        atexit._run_exitfuncs()  # the rest of an end takes torch a second
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found[name] = code, time.monotonic() - begin, (root / name / "stderr").read_text()
print(json.dumps(found))
"""  # no `if __name__ == "__main__"`: nothing is started that would import this again

#: How the disk is, and what the process does after a save instead of ending at once.
ENDING_CASES = {
    "slow": ("slow:0.1:fsync", ""),
    "failing": ("fail:3:ENOSPC", ""),
    "hanging": ("slow:600:replace", ""),
    "forked": ("slow:0.5:fsync", "has a fork"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, float, str]]]:
    """How processes have ended that had just saved: exit code, seconds, and what they printed."""
    folder = tmp_path_factory.mktemp("ended")
    done = run(ENDINGS, folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


Ended = tuple[Path, dict[str, tuple[int, float, str]]]


def test_the_end_of_the_interpreter_waits_for_what_is_under_way(ended: Ended) -> None:
    folder, found = ended
    code, _, printed = found["slow"]

    assert (code, printed) == (0, "")
    assert steps_in(folder / "slow") == [1, 0]


def test_an_error_that_nobody_was_told_is_logged_at_the_end(ended: Ended) -> None:
    folder, found = ended
    code, _, printed = found["failing"]

    assert code == 0
    assert "'run_1.pt' (step 1) failed after it had returned" in printed
    assert "No space left" in printed
    assert steps_in(folder / "failing") == [0]


def test_the_end_of_the_interpreter_does_not_hang(ended: Ended) -> None:
    """R25: it takes at most `timeout_s`, and says what was not finished."""
    folder, found = ended
    code, seconds, printed = found["hanging"]

    assert code == 0
    assert 1.0 <= seconds < LONG_S
    assert "'run_1.pt' (step 1)" in printed
    assert "timeout_s=1 s" in printed
    assert steps_in(folder / "hanging") == [0]


AT_EXIT = """
import atexit, multiprocessing, sys, threading, time

def save_late():
    saver(state, "late.pt", {"step": 2})
    print(sorted(thread.name for thread in threading.enumerate()))

def save_early():
    saver(state, "early.pt", {"step": 1})

def fail_late():
    from tests.faults import io_shim
    with io_shim.failing(at=3):
        try:
            saver(state, "failed.pt", {"step": 3})
        except Exception as error:
            print(type(error).__name__, error)

atexit.register(fail_late)
atexit.register(save_late)  # runs after the functions of the library
import torch
from ignite_core.handlers import AsyncDiskSaver
from ignite_core.handlers.checkpoint.storage import fs as files
atexit.register(save_early)
saver, state = AsyncDiskSaver(sys.argv[1]), {"a": torch.ones(10)}
sync = files.fsync
files.fsync = lambda fd: (time.sleep(0.2), sync(fd))

def train():
    saver = AsyncDiskSaver(sys.argv[1], require_empty=False)
    saver(state, "worker.pt", {"step": 0})

worker = multiprocessing.get_context("fork").Process(target=train)  # it does not call what is registered with atexit
worker.start()
worker.join()
"""


def test_saves_by_functions_registered_at_exit_are_finished(tmp_path: Path) -> None:
    """No thread is alive after the last of these functions, whether it ran before or after those of the library."""
    done = run(AT_EXIT, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    threads, failure = done.stdout.splitlines()
    assert threads == "['MainThread']"
    assert failure.startswith("WriteFailed AsyncDiskSaver: the save of 'failed.pt' (step 3) failed")
    assert steps_in(tmp_path) == [2, 1, 0]


DAEMON = """
import sys, threading
from multiprocessing.util import Finalize
import torch
from ignite_core.handlers import AsyncDiskSaver
saver, state = AsyncDiskSaver(sys.argv[1]), {"a": torch.ones(1_000_000)}

def save_on():
    for number in range(10**6):
        saver(state, f"run_{number % 2}.pt", {"step": number})
        has_saved.set()

has_saved = threading.Event()
thread = threading.Thread(target=save_on, daemon=True)
thread.start()
has_saved.wait(60)
if JOINS:  # after the savers have ended
    Finalize(None, thread.join, (60,), exitpriority=0)
"""


@pytest.mark.parametrize("joins", [False, True])
def test_the_end_does_not_abort_a_daemon_thread_that_saves(joins: bool, tmp_path: Path) -> None:
    """It would be inside torch when the interpreter ends; it gets an error, which it can tell if it is waited for."""
    done = run(DAEMON.replace("JOINS", str(joins)), tmp_path)

    assert done.returncode == 0, done.stderr
    assert not joins or "is not saved, as the program is ending" in done.stderr
    assert leftovers(tmp_path) == set()
    assert load_newest(tmp_path)[1].step is not None


def test_a_forked_copy_of_a_saver_ends_at_once(ended: Ended) -> None:
    """It has no thread, and must not wait for one."""
    folder, found = ended

    assert (found["forked"][0], found["forked"][2]) == (0, "")
    assert steps_in(folder / "forked") == [1, 0]


@pytest.mark.parametrize("has_started", [False, True])
def test_an_interrupt_while_the_thread_starts_mixes_no_states(
    tmp_path: Path, has_started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a save, and the last save that answers it: each file holds the state of its own step."""
    start = async_saver.start

    def interrupted(work: Callable[[], object], name: str) -> None:
        monkeypatch.undo()
        if has_started:
            start(work, name)
        raise KeyboardInterrupt

    monkeypatch.setattr(async_saver, "start", interrupted)
    saver = AsyncDiskSaver(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        saver(state_at(1), "run_1.pt", {"step": 1})
    saver(state_at(2), "run_2.pt", {"step": 2})
    saver.close()

    assert steps_in(tmp_path) == [2, 1]
    for step in (1, 2):
        assert values(load(tmp_path / f"run_{step}.pt")) == {float(step)}


def test_a_saver_that_is_forgotten_finishes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with blocked() as (reached, go):
        saver = AsyncDiskSaver(tmp_path)
        saver(state_at(1), "run_1.pt", {"step": 1})
        assert reached.wait(LONG_S)
        go.set()
        del saver
    assert steps_in(tmp_path) == [1]
    with io_shim.failing(at=3), caplog.at_level(logging.ERROR):
        AsyncDiskSaver(tmp_path, require_empty=False)(state_at(2), "run_2.pt", {"step": 2})
        gc.collect()

    assert "'run_2.pt' (step 2) failed" in caplog.text


def test_a_saver_that_is_collected_in_its_own_thread_does_not_wait_for_itself(tmp_path: Path) -> None:
    """The garbage collector runs in whatever thread it is due."""
    ring: list[Any] = [AsyncDiskSaver(tmp_path)]
    ring.append(ring)
    ring[0](state_at(1), "run_1.pt", {"step": 1})
    collected = threading.Event()
    weakref.finalize(ring[0], collected.set)
    background = ring[0]._writes._background
    gc.disable()
    try:
        del ring
        background.give(gc.collect)
        assert collected.wait(LONG_S)
    finally:
        gc.enable()
    assert background.wait(LONG_S)

    assert steps_in(tmp_path) == [1]


# ------------------------------------------------------------------------------------------------- forks and processes


def squares(number: int) -> int:
    return number * number


class Squares(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return squares(index)


@pytest.mark.parametrize(
    ("method", "starts"), [("fork", sized(3, 200)), ("forkserver", sized(1, 200)), ("spawn", sized(1, 200))]
)
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")  # of the DataLoader, which the test asks for
def test_workers_of_a_data_loader_start_while_a_save_is_under_way(tmp_path: Path, method: str, starts: int) -> None:
    """R24"""
    state = state_at(1)
    with AsyncDiskSaver(tmp_path) as saver:
        for number in range(starts):
            saver(state, f"run_{number % 2}.pt", {"step": number})
            loader = torch.utils.data.DataLoader(
                Squares(), num_workers=2, multiprocessing_context=method, timeout=LONG_S
            )
            assert [int(batch) for batch in loader] == [0, 1, 4, 9]

    assert steps_in(tmp_path)[0] == starts - 1


# ----------------------------------------------------------------------------------------------------------- in a run


def trainer_of(model: nn.Module) -> Engine:
    def step(engine: Engine, batch: Any) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(engine.state.iteration)

    return Engine(step)


def test_checkpoint_closes_it_when_the_run_ends(tmp_path: Path) -> None:
    model = nn.Linear(3, 3)
    trainer, saver = trainer_of(model), AsyncDiskSaver(tmp_path)
    checkpoint = Checkpoint({"model": model}, saver, n_saved=2)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
    for epochs in (1, 2):
        trainer.run(range(5), max_epochs=epochs)
        assert saver._writes.is_idle
        assert steps_in(tmp_path) == [5 * epochs, 5 * epochs - 1]

    for manifest in manifests(tmp_path):
        assert values(load(tmp_path / manifest.name)) == {float(manifest.step or 0)}
    assert leftovers(tmp_path) == set()


def test_a_failed_write_ends_the_run_at_the_next_save_and_the_kept_files_stay(tmp_path: Path) -> None:
    model = nn.Linear(3, 3)
    trainer, saver = trainer_of(model), AsyncDiskSaver(tmp_path)
    checkpoint = Checkpoint({"model": model}, saver, n_saved=1)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
    trainer.run(range(2))
    assert steps_in(tmp_path) == [2]
    with io_shim.failing(at=3), pytest.raises(CheckpointError, match=r"model_3\.pt' \(step 3\)") as told:
        trainer.run(range(2), max_epochs=3)
    assert trainer.state.iteration == 4
    assert "model_4.pt was therefore not started" in str(told.value.__notes__)
    assert steps_in(tmp_path) == [2]
    trainer.run(range(2), max_epochs=5)

    assert len(steps_in(tmp_path)) == 1, "those that could not be removed in time are gone"
    assert leftovers(tmp_path) == set()


def test_after_an_error_of_the_run_what_is_under_way_is_finished(tmp_path: Path) -> None:
    model = nn.Linear(3, 3)
    trainer, saver = trainer_of(model), AsyncDiskSaver(tmp_path)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), Checkpoint({"model": model}, saver))

    @trainer.on(Events.ITERATION_STARTED(once=3))
    def fail() -> None:
        raise ZeroDivisionError

    with io_shim.delaying(0.05, kinds={"fsync"}), pytest.raises(ZeroDivisionError):
        trainer.run(range(5))

    assert steps_in(tmp_path) == [2]
    assert saver._writes.is_idle


def fail_on_one_rank(folder: Path) -> tuple[str, bool, int, bool]:
    model = nn.Linear(3, 3)
    trainer = trainer_of(model)
    checkpoint = Checkpoint({"model": model}, AsyncDiskSaver(folder), n_saved=2)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
    with io_shim.failing(at=3):  # only one rank writes
        try:
            trainer.run(range(5))
            told, agreed = "", False
        except CheckpointError as error:
            told, agreed = str(error), is_agreed(error)
    total = idist.all_reduce(1)
    trainer.run(range(5), max_epochs=2)
    return told, agreed, total, any(thread.name == "checkpoint-writer" for thread in threading.enumerate())


def test_all_ranks_raise_what_failed_in_the_background_of_one(tmp_path: Path) -> None:
    """R9"""
    first, second = run_distributed(fail_on_one_rank, tmp_path)

    assert first == second
    assert "rank 0 failed with WriteFailed" in first[0]
    assert "'model_1.pt' (step 1) failed" in first[0]
    assert first[1:] == (True, 2, False)
    assert len(steps_in(tmp_path)) == 2
    assert leftovers(tmp_path) == set()

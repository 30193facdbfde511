"""Kills and errors of the disk at each operation of a save (R1, R4, R5, R8)."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage.scan import Manifest
from tests.faults import io_shim
from tests.faults.sizes import FULL
from tests.handlers.checkpoint.comparing import manifests
from tests.handlers.checkpoint.newest import load_newest
from tests.handlers.checkpoint.scenarios import SCENARIOS, Scenario, content, leftovers, save_file, save_folder


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is synced when is the matter of test_crash_states.py."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def read(path: Path, manifest: Manifest) -> list[bytes]:
    """All bytes of a checkpoint."""
    return [(path if manifest.kind == "file" else path / name).read_bytes() for name in sorted(manifest.files)]


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint that is whole, its bytes compared with what was saved; 0 if there is none."""
    if not manifests(folder):
        return 0
    loaded, manifest = load_newest(folder, read=read)
    assert manifest.step is not None
    assert set(loaded) == {content(manifest.step)}
    return manifest.step


def check_recovery(folder: Path, scenario: Scenario, returned: int) -> None:
    """What was saved is there, and the next save leaves nothing else."""
    found = newest_step(folder)
    assert found >= returned
    scenario.then(folder)  # as a run does that goes on and saves the same step again
    for save, name in ((save_file, "later_{}.pt"), (save_folder, "later_{}")):
        save(folder, 9, name)
    assert newest_step(folder) == 9
    assert leftovers(folder) == set()


KILLS = """
import os, sys
from pathlib import Path
from tests.faults import io_shim
from tests.handlers.checkpoint.scenarios import SCENARIOS

os.fsync = lambda fd: None  # a killed process loses nothing of what it has written
scenario, torn, root = SCENARIOS[sys.argv[1]], sys.argv[2] == "torn", Path(sys.argv[3])
code, number = io_shim.KILLED, 0
while code == io_shim.KILLED:
    number += 1
    folder = root / str(number)
    folder.mkdir()
    child = os.fork()
    if child == 0:
        scenario.before(folder)
        with io_shim.killing(at=number, torn=torn):
            scenario.then(folder)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(code)
"""


@pytest.mark.parametrize("torn", ["torn", "clean"] if FULL else ["torn"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_any_operation_loses_nothing_that_was_saved(name: str, torn: str, tmp_path: Path) -> None:
    """R1, R8: a process is ended at operation k, for every k, and once after the last."""
    command = [sys.executable, "-c", KILLS, name, torn, str(tmp_path / "kills")]
    (tmp_path / "kills").mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "another").mkdir()
    scenario, folders = SCENARIOS[name], sorted((tmp_path / "kills").iterdir(), key=lambda folder: int(folder.name))

    assert len(folders) > 10
    assert newest_step(folders[-1]) == scenario.then(folders[-1])  # the last one was not killed
    saved_before = scenario.before(tmp_path / "another")
    for folder in folders:
        check_recovery(folder, scenario, returned=saved_before)


ERRORS = [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT]


@pytest.mark.parametrize(
    ("error", "lasting"),
    itertools.product(ERRORS, [False, True]) if FULL else [(errno.ENOSPC, True), (errno.EIO, False)],
    ids=lambda one: one if isinstance(one, bool) else errno.errorcode[one],
)
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_error_at_any_operation_is_told_and_changes_nothing(
    name: str, error: int, lasting: bool, tmp_path: Path
) -> None:
    """R4, R5: the operation k, for every k, and perhaps all that follow, are refused by the disk."""
    scenario = SCENARIOS[name]
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        before = scenario.before(folder)
        told = None
        with io_shim.failing(at=number, error=error, times=None if lasting else 1, torn=True) as failed:
            try:
                scenario.then(folder)
            except CheckpointError as caught:
                told = caught
        if not failed:
            break
        check_what_was_told(told, failed[0], error, folder)
        if not lasting and told is not None and newest_step(folder) == before:
            assert leftovers(folder) == set(), (number, str(failed[0]))  # it tidied up as soon as it could
        check_recovery(folder, scenario, returned=before if told else before + 1)
    assert number > 10


def check_what_was_told(told: CheckpointError | None, failed: io_shim.Op, error: int, folder: Path) -> None:
    """Only to delete what was displaced may fail in silence: the checkpoint is there, and the next save deletes it."""
    if told is None:
        assert failed.kind in ("rmtree", "unlink"), str(failed)
        return
    assert isinstance(told.__cause__, OSError)
    assert told.__cause__.errno == error
    assert os.strerror(error) in str(told)
    assert str(folder) in str(told)

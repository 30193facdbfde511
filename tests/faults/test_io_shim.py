"""The disk that fails on demand does what is asked of it, and nothing once it is over."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.commit import publish
from tests.faults import io_shim

#: What a first save does, in order; a change of it is a change of the commit order.
FIRST_SAVE = [
    "create .data",
    "write .data",
    "fsync .data",
    "close .data",
    "create .json",
    "write .json",
    "fsync .json",
    "close .json",
    "replace .json -> run.pt.json",
    "fsync_path folder",
    "replace .data -> run.pt",
    "fsync_path folder",
]


def save(folder: Path, name: str = "run.pt", content: bytes = b"weights") -> None:
    publish(folder / name, lambda file: file.write(content), {"step": 1})


def described(op: io_shim.Op, folder: Path) -> str:
    def name(path: Path) -> str:
        return "folder" if path == folder else path.suffix if path.name.startswith(".ignite-") else path.name

    return f"{op.kind} {name(op.path)}" + (f" -> {name(op.target)}" if op.target else "")


def test_a_recording_holds_every_operation_in_order(tmp_path: Path) -> None:
    with io_shim.recording() as ops:
        save(tmp_path)

    assert [described(op, tmp_path) for op in ops] == FIRST_SAVE
    assert ops[1].data == b"weights"


def test_nothing_is_recorded_once_it_is_over(tmp_path: Path) -> None:
    originals = {kind: getattr(files, kind) for kind in io_shim.KINDS}
    with io_shim.recording() as ops, io_shim.shortening(3):
        pass
    save(tmp_path)

    assert ops == []
    assert {kind: getattr(files, kind) for kind in io_shim.KINDS} == originals


def test_the_operation_asked_for_fails_and_no_other(tmp_path: Path) -> None:
    with io_shim.failing(at=2, error=errno.EDQUOT) as failed:
        files.mkdir(tmp_path / "a")
        with pytest.raises(OSError, match=r"[qQ]uota") as caught:
            files.mkdir(tmp_path / "b")
        files.mkdir(tmp_path / "c")

    assert caught.value.errno == errno.EDQUOT
    assert sorted(os.listdir(tmp_path)) == ["a", "c"]
    assert [op.path.name for op in failed] == ["b"]


def test_all_operations_fail_from_one_on(tmp_path: Path) -> None:
    with io_shim.failing(at=1, times=None, kinds={"mkdir"}) as failed:
        for name in "ab":
            with pytest.raises(OSError, match="space"):
                files.mkdir(tmp_path / name)
        os.close(files.create(tmp_path / "file"))

    assert len(failed) == 2


def test_a_torn_write_leaves_its_first_half(tmp_path: Path) -> None:
    fd = files.create(tmp_path / "file")
    with io_shim.failing(at=1, torn=True), pytest.raises(OSError, match="space"):
        files.write(fd, memoryview(b"weights!"))
    os.close(fd)

    assert (tmp_path / "file").read_bytes() == b"weig"


def test_short_writes_write_it_all_in_the_end(tmp_path: Path) -> None:
    with io_shim.shortening(3), io_shim.recording() as ops:
        save(tmp_path)

    assert [len(op.data or b"") for op in ops if op.kind == "write"][:3] == [7, 4, 1]
    assert (tmp_path / "run.pt").read_bytes() == b"weights"


CHILD = """
import sys
from pathlib import Path
from tests.faults import io_shim, test_io_shim
io_shim.install_from_environment()
test_io_shim.save(Path(sys.argv[1]))
"""


def run_child(folder: Path, told: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "IGNITE_IO_SHIM": told}
    command = [sys.executable, "-c", CHILD, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_child_is_counted_and_killed_by_what_its_environment_says(tmp_path: Path) -> None:
    log, folders = tmp_path / "log", [tmp_path / name for name in ("counted", "killed", "failed")]
    for folder in folders:
        folder.mkdir()
    told = [f"count:{log}", "kill-torn:2", "fail:1:EROFS"]
    counted, killed, failed = (run_child(folder, word) for folder, word in zip(folders, told, strict=True))

    assert counted.returncode == 0, counted.stderr
    assert len(log.read_text().splitlines()) == len(FIRST_SAVE)
    assert killed.returncode == io_shim.KILLED
    assert [path.read_bytes() for path in folders[1].iterdir()] == [b"wei"]
    assert "CheckpointError" in failed.stderr
    assert "Read-only file system" in failed.stderr


def test_a_word_that_means_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IGNITE_IO_SHIM", "explode:3")

    with pytest.raises(ValueError, match="'explode:3': must be kill"):
        io_shim.install_from_environment()

"""A checkpoint is published whole or not at all, under its name, with the permissions and the order it should have."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import os
import re
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import AsyncDiskSaver, DCPSaver, DiskSaver
from ignite_core.handlers.checkpoint.storage import commit as storage
from ignite_core.handlers.checkpoint.storage import temp_files as temporaries
from ignite_core.handlers.checkpoint.storage.commit import publish, publish_folder, recover, remove
from ignite_core.handlers.checkpoint.storage.hashing import CHUNK, original_errors
from ignite_core.handlers.checkpoint.storage.load import load, verify_checkpoint
from ignite_core.handlers.checkpoint.storage.manifest import manifest_path, temp_path
from ignite_core.handlers.checkpoint.storage.scan import check_data
from tests.faults import io_shim
from tests.handlers.checkpoint.comparing import manifests, read_manifest
from tests.handlers.checkpoint.scenarios import content, save_file, save_folder


def listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def save(path: Path, data: bytes = b"weights", **about: object) -> None:
    publish(path, lambda file: file.write(data), about)


def test_what_stands_beside_a_checkpoint_tells_what_the_saver_knew(tmp_path: Path) -> None:
    about = {"step": 7, "score": 0.5, "world_size": 4, "names": ["model"]}
    made = publish(tmp_path / "run.pt", lambda file: file.write(b"weights"), about)

    assert listed(tmp_path) == ["run.pt", "run.pt.json"]
    assert made == read_manifest(tmp_path / "run.pt") == manifests(tmp_path)[0]
    assert (made.name, made.kind, made.serial) == ("run.pt", "file", 1)
    assert (made.step, made.score, made.about["world_size"], made.about["names"]) == (7, 0.5, 4, ["model"])
    assert made.versions["torch"] == torch.__version__
    assert made.files["run.pt"].size == len(b"weights")


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_the_digest_is_the_sha256_of_the_digests_of_pieces(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    made = publish(tmp_path / "run.bin", lambda file: file.write(data))
    pieces = [hashlib.sha256(data[begin : begin + CHUNK]).digest() for begin in range(0, size, CHUNK)]

    assert made.files["run.bin"].digest == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert (tmp_path / "run.bin").read_bytes() == data


def test_a_torch_file_is_the_same_as_without_us(tmp_path: Path) -> None:
    state = {"weight": torch.randn(300, 300), "step": 3}
    publish(tmp_path / "run.pt", lambda file: torch.save(state, file))

    assert torch.equal(torch.load(tmp_path / "run.pt")["weight"], state["weight"])


def test_short_writes_are_continued(tmp_path: Path) -> None:
    """R5"""
    with io_shim.shortening(1000):
        publish(tmp_path / "run.pt", lambda file: torch.save({"weight": torch.arange(5000)}, file))

    assert torch.equal(load(tmp_path / "run.pt")["weight"], torch.arange(5000))


def test_the_error_of_the_disk_is_told_though_torch_says_something_else(tmp_path: Path) -> None:
    """R4: torch.save reports an error of its own where a write fails."""
    with io_shim.failing(at=1, kinds={"write"}), pytest.raises(CheckpointError) as caught:
        publish(tmp_path / "run.pt", lambda file: torch.save({"weight": torch.ones(10**6)}, file), {"step": 12})

    assert str(caught.value).startswith(f"{tmp_path / 'run.pt'} (step 12): the checkpoint could not be saved: writing")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert listed(tmp_path) == []


def test_an_error_that_the_writer_swallows_is_raised(tmp_path: Path) -> None:
    def write(file: io.BufferedWriter) -> None:
        with contextlib.suppress(OSError):
            file.write(bytes(10**6))

    with io_shim.failing(at=2, kinds={"write"}), pytest.raises(CheckpointError, match="No space left"):  # noqa: SIM117
        with io_shim.shortening(1000):
            publish(tmp_path / "run.bin", write)
    assert listed(tmp_path) == []


def interrupting(monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int) -> None:
    """Raise an error in a write, as the handler of a signal does."""
    write, numbers = storage.files.write, itertools.count(1)

    def interrupted(fd: int, data: memoryview) -> int:
        if next(numbers) == at:
            raise error
        return write(fd, data)

    monkeypatch.setattr(storage.files, "write", interrupted)


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, TimeoutError, ZeroDivisionError])
def test_an_interrupt_while_torch_writes_is_raised_as_it_is(
    kind: type[BaseException], at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save makes a RuntimeError of it, which `except RuntimeError` would take for an error to try again after."""
    error = kind("a signal")
    interrupting(monkeypatch, error, at)
    expected = CheckpointError if isinstance(error, OSError) else kind  # Python's TimeoutError is one
    with pytest.raises(expected) as caught:
        publish(tmp_path / "run.pt", lambda file: torch.save({"a": torch.ones(10**7)}, file))

    assert error in (caught.value, caught.value.__cause__)
    assert listed(tmp_path) == []


def replace_error() -> None:
    """As torch.save does."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise RuntimeError("unexpected pos")  # noqa: B904


def test_an_interrupt_is_found_behind_the_error_of_torch() -> None:
    """Also one that no function of ours has seen."""
    with pytest.raises(KeyboardInterrupt), original_errors():
        replace_error()


def test_an_interrupt_before_the_save_is_not_one_of_the_save() -> None:
    """The last save after Ctrl-C fails for reasons of its own."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(RuntimeError, match="unexpected pos"), original_errors():
            raise RuntimeError("unexpected pos")  # noqa: B904


@pytest.mark.parametrize("suffix", [".data", ".json"])
def test_an_error_of_close_is_one_of_the_save(suffix: str, tmp_path: Path) -> None:
    """R5: NFS reports there what it could not write."""
    save(tmp_path / "run.pt", step=1)

    def fail(number: int, op: io_shim.Op) -> None:
        if op.kind == "close" and op.path.suffix == suffix:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with io_shim.calling(fail), pytest.raises(CheckpointError, match=r"run\.pt \(step 2\): .* Input/output error"):
        save(tmp_path / "run.pt", step=2)
    with io_shim.calling(fail), pytest.raises(CheckpointError, match=r"new\.pt \(step 2\): .* Input/output error"):
        save(tmp_path / "new.pt", step=2)

    assert read_manifest(tmp_path / "run.pt").step == 1
    check_data(tmp_path / "run.pt", read_manifest(tmp_path / "run.pt"))
    save(tmp_path / "run.pt", step=3)
    assert listed(tmp_path) == ["run.pt", "run.pt.json"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EIO], ids=errno.errorcode.get)
def test_only_a_folder_that_cannot_be_synced_need_not_be(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuse(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        sync(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    if code == errno.EIO:
        with pytest.raises(CheckpointError, match="Input/output error"):
            save(tmp_path / "run.bin")
        assert listed(tmp_path) == []
    else:
        save(tmp_path / "run.bin")
        publish_folder(tmp_path / "run", lambda place: None)
        assert [manifest.name for manifest in manifests(tmp_path)] == ["run", "run.bin"]


def test_the_names_of_new_folders_are_on_the_disk(tmp_path: Path) -> None:
    with io_shim.recording() as ops:
        DiskSaver(tmp_path / "runs" / "first")
        DiskSaver(tmp_path / "runs" / "first")

    assert [(op.kind, op.path.relative_to(tmp_path).as_posix()) for op in ops] == [
        ("mkdir", "runs"),
        ("fsync_path", "."),
        ("mkdir", "runs/first"),
        ("fsync_path", "runs"),
    ]


def save_in_background(path: Path) -> None:
    with AsyncDiskSaver(path.parent, require_empty=False) as saver:
        saver({"a": torch.ones(2)}, path.name)


def save_sharded(path: Path) -> None:
    DCPSaver(path.parent, require_empty=False)({"a": torch.ones(2)}, path.name)


@pytest.mark.parametrize("time_of", [os.path.getmtime, os.path.getctime], ids=["mtime", "ctime"])
@pytest.mark.parametrize("save_one", [save, save_in_background, save_sharded], ids=["file", "background", "folder"])
def test_the_newest_file_of_a_folder_is_no_manifest(
    save_one: Callable[[Path], None], time_of: Callable[[str], float], tmp_path: Path
) -> None:
    """There are programs that load it; after a new name, and one that was there."""
    for name in ("first", "second", "second", "first"):
        save_one(tmp_path / name)
        times = {name: time_of(str(tmp_path / name)) for name in listed(tmp_path)}
        assert [name for name in times if times[name] == max(times.values())] == [name]


def test_a_file_system_without_times_is_no_reason_not_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    save(tmp_path / "run.pt")
    assert [manifest.name for manifest in manifests(tmp_path)] == ["run.pt"]


def test_a_failed_sync_is_not_tried_again_on_the_same_file(tmp_path: Path) -> None:
    """R5: after an error the system forgets what it could not write, and says that all is well."""
    save(tmp_path / "run.pt", step=1)
    with io_shim.recording() as ops, io_shim.failing(at=1, error=errno.EIO, kinds={"fsync"}) as failed:  # noqa: SIM117
        with pytest.raises(CheckpointError, match="Input/output error"):
            save(tmp_path / "run.pt", step=2)

    assert failed[0].path.suffix == ".data"
    assert failed[0].path not in [op.path for op in ops if op.kind == "fsync"]
    assert read_manifest(tmp_path / "run.pt").step == 1


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt(), MemoryError()], ids=lambda e: type(e).__name__
)
def test_what_the_writer_raises_leaves_as_it_is_and_nothing_behind(error: BaseException, tmp_path: Path) -> None:
    save(tmp_path / "run.pt", b"old", step=1)

    def write(file: object) -> None:
        assert isinstance(file, io.BufferedWriter)
        file.write(bytes(3 * 2**20))
        raise error

    for path in (tmp_path / "run.pt", tmp_path / "new.pt"):
        with pytest.raises(type(error)) as caught:
            publish(path, write)
        assert caught.value is error
    assert listed(tmp_path) == ["run.pt", "run.pt.json"]
    assert (tmp_path / "run.pt").read_bytes() == b"old"
    assert read_manifest(tmp_path / "run.pt").step == 1


def test_what_a_check_refuses_is_not_saved(tmp_path: Path) -> None:
    def check(fd: int) -> None:
        assert os.pread(fd, 100, 0) == b"weights"
        raise CheckpointError("holds what nobody could load")

    with pytest.raises(CheckpointError, match=re.escape("run.pt (step 3): is not saved, as it holds what nobody")):
        publish(tmp_path / "run.pt", lambda file: file.write(b"weights"), {"step": 3}, check=check)
    assert listed(tmp_path) == []


def test_a_failed_sync_is_told_though_a_check_found_nothing(tmp_path: Path) -> None:
    with io_shim.failing(at=1, error=errno.EIO, kinds={"fsync"}), pytest.raises(CheckpointError, match=r"Input/output"):
        publish(tmp_path / "run.pt", lambda file: file.write(b"weights"), check=lambda fd: None)

    assert listed(tmp_path) == []


@pytest.mark.parametrize("check", [None, lambda fd: None], ids=["unchecked", "checked"])
def test_a_save_at_the_end_of_the_interpreter_is_whole(check: object, tmp_path: Path) -> None:
    """As of an asynchronous saver that is closed there: no thread can be started any more."""
    code = f"""
import atexit, os, sys
from pathlib import Path
from ignite_core.handlers.checkpoint.storage.commit import publish
check = {"None" if check is None else "lambda fd: None"}
save = lambda: publish(Path(sys.argv[1], "run.bin"), lambda file: file.write(bytes(20 * 2**20)), check=check)
atexit.register(save)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.stderr == ""
    check_data(tmp_path / "run.bin", read_manifest(tmp_path / "run.bin"))


@pytest.mark.parametrize(
    "about", [{"score": float("nan")}, {"loss": float("inf")}, {"model": torch.ones(1)}, {"a": {1}}]
)
def test_what_is_no_json_is_refused_before_anything_is_written(about: dict[str, object], tmp_path: Path) -> None:
    with io_shim.recording() as ops, pytest.raises(ValueError, match="must be JSON with finite numbers"):
        publish(tmp_path / "run.pt", lambda file: file.write(b"weights"), about)

    assert ops == []


def test_the_file_can_be_written_from_the_beginning_to_the_end_only(tmp_path: Path) -> None:
    def write(file: io.BufferedWriter) -> None:
        file.write(b"wei")
        assert file.tell() == 3
        assert not file.seekable()
        with pytest.raises(OSError, match="seek"):
            file.seek(0)
        file.write(b"ghts")

    publish(tmp_path / "run.bin", write)  # type: ignore[arg-type]

    assert (tmp_path / "run.bin").read_bytes() == b"weights"


# names and places (R29)


@pytest.mark.parametrize(
    "name", ["a" * 255, "a" * 251, "ü" * 127, "run: 3%.pt", "läuft.pt", os.fsdecode(b"\xff\xfe.pt"), "\n"]
)
def test_any_name_that_a_file_may_have_is_a_name_for_a_checkpoint(name: str, tmp_path: Path) -> None:
    for step in (1, 2):
        publish(tmp_path / name, lambda file: torch.save({"step": 3}, file), {"step": step})

    assert manifests(tmp_path)[0].name == name
    assert verify_checkpoint(tmp_path / name) == read_manifest(tmp_path / name)
    assert load(tmp_path / name) == {"step": 3}
    remove(tmp_path / name)
    assert listed(tmp_path) == []


@pytest.mark.parametrize("name", ["a" * 256, "ü" * 128, "run.json", ".ignite-mine", "..", "nul\0"])
def test_a_name_that_is_ours_or_too_long_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="name"):
        save(tmp_path / name)

    assert listed(tmp_path) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask_behind_a_link_too(mask: int, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    before = os.umask(mask)
    try:
        save(tmp_path / "runs" / "run.pt")
        publish_folder(tmp_path / "runs" / "run", lambda place: (place / "part").write_bytes(b"weights"))
    finally:
        os.umask(before)
    modes = {name: (tmp_path / "disk" / name).stat().st_mode & 0o777 for name in listed(tmp_path / "disk")}

    assert modes.pop("run") == 0o777 & ~mask
    assert modes == dict.fromkeys(["run.pt", "run.pt.json", "run.json"], 0o666 & ~mask)


def test_a_link_under_the_name_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "run.pt").symlink_to(tmp_path / "precious")
    save(tmp_path / "run.pt")

    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert not (tmp_path / "run.pt").is_symlink()


@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_folder_that_is_none_is_named_in_the_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(
        CheckpointError, match=rf"{place}/run.pt \(step 4\): the checkpoint could not be saved: opening"
    ):
        save(tmp_path / place / "run.pt", step=4)


def test_the_order_of_saves_does_not_depend_on_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([3000.0, 2000.0, 1000.0])
    monkeypatch.setattr(storage.time, "time", lambda: next(clock))
    for step in (1, 2, 3):
        publish(tmp_path / f"run_{step}.pt", lambda file: file.write(b"weights"), {"step": step})
        monkeypatch.setattr(temporaries.time, "time", lambda: next(clock, 0.0))
    found = manifests(tmp_path)

    assert [manifest.step for manifest in found] == [3, 2, 1]
    assert [manifest.serial for manifest in found] == [3, 2, 1]


# what stands under the name already


@pytest.mark.parametrize("save_one", [save_file, save_folder])
def test_while_one_is_replaced_the_old_or_the_new_one_is_there(save_one: object, tmp_path: Path) -> None:
    """R11: looked at before each operation, by another who reads."""
    seen = []

    def look(number: int, op: io_shim.Op) -> None:
        manifest = verify_checkpoint(tmp_path / "last.pt")
        assert manifest is not None
        assert [found.uuid for found in manifests(tmp_path)] == [manifest.uuid]
        seen.append(manifest.step)

    save_one(tmp_path, 1, "last.pt")  # type: ignore[operator]
    with io_shim.calling(look):
        save_one(tmp_path, 2, "last.pt")  # type: ignore[operator]

    assert seen == sorted(seen)
    assert set(seen) == {1, 2}
    assert read_manifest(tmp_path / "last.pt").serial == 2


def test_a_foreign_file_is_replaced_and_never_told_of_by_our_manifest(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(content(5))

    def look(number: int, op: io_shim.Op) -> None:
        assert path.read_bytes() in (content(5), content(6))
        assert verify_checkpoint(path) is None or path.read_bytes() == content(6)

    with io_shim.calling(look):
        save(path, content(6), step=6)

    assert read_manifest(path).step == 6


def test_a_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("…")

    for publishing in (lambda: save(tmp_path / "run"), lambda: save_folder(tmp_path, 1, "run")):
        with pytest.raises(CheckpointError, match="exists and is no checkpoint of this library; move it away"):
            publishing()
    assert listed(tmp_path) == ["run"]
    assert listed(tmp_path / "run") == ["thesis.tex"]


def test_a_file_of_others_with_the_name_of_a_manifest_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"lr": 0.1}')
    with pytest.raises(CheckpointError, match=r"config.json: is no manifest .*; move it away"):
        save(tmp_path / "config")
    (tmp_path / "config").write_bytes(b"foreign")
    with pytest.warns(UserWarning, match=r"config: is not removed: .*; remove it yourself"):
        remove(tmp_path / "config")

    assert listed(tmp_path) == ["config", "config.json"]


def test_a_folder_and_a_file_replace_each_other(tmp_path: Path) -> None:
    save_file(tmp_path, 1, "run")
    save_folder(tmp_path, 2, "run")
    save_file(tmp_path, 3, "run")

    assert listed(tmp_path) == ["run", "run.json"]
    assert verify_checkpoint(tmp_path / "run") == manifests(tmp_path)[0]
    assert manifests(tmp_path)[0].step == 3


def test_a_folder_must_hold_files_and_folders_only(tmp_path: Path) -> None:
    for fill in (lambda place: (place / "a").symlink_to("/etc/passwd"), lambda place: os.mkfifo(place / "a")):
        with pytest.raises(CheckpointError, match="a: "):
            publish_folder(tmp_path / "run", fill)

    assert listed(tmp_path) == []


def test_to_remove_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove(tmp_path / "run.pt")
    save(tmp_path / "run.pt")
    (tmp_path / "run.pt").unlink()
    remove(tmp_path / "run.pt")

    assert listed(tmp_path) == []


def test_saves_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    def run(thread: int) -> None:
        for step in range(5):
            save_file(tmp_path, step, f"run_{thread}_{{}}.pt")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = manifests(tmp_path)

    assert len(found) == 20
    assert all(verify_checkpoint(tmp_path / manifest.name) for manifest in found)
    assert len(listed(tmp_path)) == 40


# what dead saves have left (R8), and live ones


SLOW_SAVE = """
import sys
from pathlib import Path
from ignite_core.handlers.checkpoint.storage.commit import publish, publish_folder

def tell_and_wait(file):
    if isinstance(file, Path):
        (file / "part").write_bytes(b"half of ")
    else:
        file.write(b"half of " * 2**18)
    print("ready", flush=True)
    sys.stdin.readline()

path = Path(sys.argv[1])
(publish_folder if path.suffix == "" else publish)(path, tell_and_wait, {"step": 7})
"""


def slow_save(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_SAVE, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["slow.pt", "slow"])
def test_a_save_of_another_process_is_left_alone_while_it_lives(name: str, tmp_path: Path) -> None:
    process = slow_save(tmp_path / name)
    save(tmp_path / "mine.pt", step=1)
    process.communicate("go on\n", timeout=60)

    assert process.returncode == 0
    assert [manifest.name for manifest in manifests(tmp_path)] == [name, "mine.pt"]


@pytest.mark.parametrize("name", ["slow.pt", "slow"])
def test_what_a_killed_save_has_left_is_deleted_by_the_next_one(name: str, tmp_path: Path) -> None:
    process = slow_save(tmp_path / name)
    process.kill()
    process.communicate(timeout=60)
    assert len(listed(tmp_path)) == 1
    save(tmp_path / "mine.pt", step=1)

    assert listed(tmp_path) == ["mine.pt", "mine.pt.json"]


def test_of_another_machine_only_what_is_long_silent_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks may not be seen here."""
    with monkeypatch.context() as there:
        there.setattr(temporaries.socket, "gethostname", lambda: "another")
        left = temp_path(tmp_path, temporaries.new_uuid(), "data")
    left.write_bytes(b"half of ")
    recover(tmp_path)
    assert left.exists()
    hours_ago = time.time() - 7200
    os.utime(left, (hours_ago, hours_ago))
    recover(tmp_path)

    assert not left.exists()


def test_files_of_others_are_never_deleted(tmp_path: Path) -> None:
    names = [
        ".ignite-notes",
        ".ignite-12345678-0123456789abcdef.txt",
        "run.pt.data",
        ".hidden",
        "config.json",
        "a.json",
    ]
    for name in names:
        (tmp_path / name).write_text("{}")
    (tmp_path / "a").write_text("data of a")
    save(tmp_path / "run.pt")

    assert set(names) < set(listed(tmp_path))


def test_leftovers_that_cannot_be_deleted_are_told_and_no_reason_not_to_save(tmp_path: Path) -> None:
    left = temp_path(tmp_path, temporaries.new_uuid(), "data")
    left.write_bytes(b"half of ")
    with io_shim.failing(at=1, error=errno.EACCES), pytest.warns(UserWarning, match="leftovers of dead saves"):
        save(tmp_path / "run.pt")

    assert {"run.pt", "run.pt.json", left.name} == set(listed(tmp_path))


def test_a_manifest_without_data_is_a_leftover(tmp_path: Path) -> None:
    save(tmp_path / "run.pt")
    (tmp_path / "run.pt").unlink()
    recover(tmp_path)

    assert not manifest_path(tmp_path / "run.pt").exists()


def test_storage_does_not_need_torch() -> None:
    """The process that writes for an asynchronous saver starts without it."""
    code = "import sys, ignite_core.handlers.checkpoint.storage.commit; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False).returncode == 0


def test_who_interrupts_a_check_does_not_wait_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C in the last save ends the process at once, also while another thread syncs the file."""
    is_syncing, goes_on = threading.Event(), threading.Event()
    threads = []

    def slow(fd: int) -> None:
        threads.append(threading.current_thread())
        is_syncing.set()
        assert goes_on.wait(30), "nobody went on while the disk was slow"

    def interrupted(fd: int) -> None:
        assert is_syncing.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.files, "fsync", slow)
    with pytest.raises(KeyboardInterrupt):
        publish(tmp_path / "run.bin", lambda file: file.write(b"weights"), check=interrupted)

    assert threads[0].is_alive()
    goes_on.set()
    threads[0].join()
    assert listed(tmp_path) == []

"""Power is lost in the middle of a save: whatever part of what was not synced is on the disk, nothing is lost (R3)."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage.scan import Manifest
from tests.faults import io_shim
from tests.faults.sizes import sized
from tests.handlers.checkpoint.crashes import Disk, crash_states, read_disk
from tests.handlers.checkpoint.newest import load_newest
from tests.handlers.checkpoint.scenarios import SCENARIOS, content, leftovers, save_file

#: States tried of each scenario after each operation, and of each scenario at least.
MOST, LEAST = sized(12, 150), sized(30, 200)

#: A write takes so many bytes, so that a file is written by several, any of which may be lost.
PIECE = 400


def write_disk(disk: Disk, folder: Path) -> None:
    folder.mkdir()
    for path, text in sorted(disk.items()):
        if text is None:
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text)


def read(path: Path, manifest: Manifest) -> list[bytes]:
    return [(path if manifest.kind == "file" else path / name).read_bytes() for name in manifest.files]


def newest_step(folder: Path) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a manifest may have reached the disk before its data
        try:
            loaded, manifest = load_newest(folder, read=read)
        except CheckpointError:
            return 0
    assert manifest.step is not None
    assert set(loaded) == {content(manifest.step)}
    return manifest.step


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_a_save_returned_for_survives_the_loss_of_power(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario, folder = SCENARIOS[name], tmp_path / "recorded"
    folder.mkdir()
    saved_before = scenario.before(folder)
    before = read_disk(folder)
    with io_shim.recording() as ops, io_shim.shortening(PIECE):
        saved_after = scenario.then(folder)
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # from here on nothing is lost
    number = 0
    for number, (length, disk) in enumerate(crash_states(before, ops, folder, MOST, seed=0), 1):
        place = tmp_path / str(number)
        write_disk(disk, place)
        where = f"state {number}, after {length} operations, the last one {ops[length - 1] if length else None}"
        assert newest_step(place) >= (saved_after if length == len(ops) else saved_before), where
        scenario.then(place)  # as the run does that goes on from there
        save_file(place, 9, "later.pt")
        assert newest_step(place) == 9, where
        assert leftovers(place) == set(), where
    assert number >= LEAST

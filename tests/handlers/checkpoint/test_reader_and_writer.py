"""Somebody reads the newest checkpoint, again and again, while a run writes and deletes them (R11)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ignite_core.handlers.checkpoint.storage.scan import Manifest, scan
from tests.faults.sizes import sized
from tests.handlers.checkpoint.newest import load_newest
from tests.handlers.checkpoint.scenarios import content

WRITER = """
import sys
from pathlib import Path
from ignite_core.handlers.checkpoint.storage.scan import scan
from ignite_core.handlers.checkpoint.storage.commit import remove
from tests.handlers.checkpoint.scenarios import save_file, save_folder

folder, kind, keep, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
save = save_file if kind == "file" else save_folder
for step in range(1, rounds + 1):
    save(folder, step, "last" if keep == 0 else "run_{}")
    for manifest in scan(folder).manifests[max(keep, 1):]:
        remove(folder / manifest.name)
    if step == 1:
        print("ready", flush=True)
"""


def read(path: Path, manifest: Manifest) -> tuple[int | None, set[bytes]]:
    names = [path] if manifest.kind == "file" else [path / name for name in manifest.files]
    return manifest.step, {name.read_bytes() for name in names}


@pytest.mark.parametrize("keep", [0, 1, 3], ids=["overwrite", "keep 1", "keep 3"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_reader_always_finds_a_whole_checkpoint(kind: str, keep: int, tmp_path: Path) -> None:
    rounds = sized(30, 500)
    command = [sys.executable, "-c", WRITER, str(tmp_path), kind, str(keep), str(rounds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        seen: list[int] = []
        deadline = time.monotonic() + 300
        while writer.poll() is None and time.monotonic() < deadline:
            (step, found), manifest = load_newest(tmp_path, read=read)  # a warning would be an error
            assert step is not None
            assert found == {content(step)}
            assert step == manifest.step
            seen.append(step)
            assert scan(tmp_path).manifests
        assert writer.wait() == 0
    (step, _), _ = load_newest(tmp_path, read=read)

    assert step == rounds
    assert seen == sorted(seen)

"""Saves to be cut short: what was there before, and what is then done to it. No torch, so that a child starts fast."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.commit import publish, publish_folder, remove
from tests.handlers.checkpoint.comparing import manifests

__all__ = ["SCENARIOS", "Scenario", "content", "leftovers", "save_file", "save_folder"]


@lru_cache
def content(step: int) -> bytes:
    """A file as torch.save writes it, different for each step."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            zipfile.ZipInfo("run/data.pkl"), pickle.dumps({"step": step, "numbers": [step] * 500}, protocol=2)
        )
        archive.writestr(zipfile.ZipInfo("run/version"), "3\n")
    return file.getvalue()


def save_file(folder: Path, step: int, name: str = "run_{}.pt") -> None:
    publish(folder / name.format(step), lambda file: file.write(content(step)), {"step": step})


def save_folder(folder: Path, step: int, name: str = "run_{}") -> None:
    """Its files are written as a save writes, so that a recording has their bytes."""

    def fill(place: Path) -> None:
        files.mkdir(place / "parts")
        for path in (place / "whole", place / "parts" / "first", place / "parts" / "second"):
            with open(files.create(path), "rb+", buffering=0) as file:
                rest = memoryview(content(step))
                while rest:
                    rest = rest[files.write(file.fileno(), rest) :]

    publish_folder(folder / name.format(step), fill, {"step": step})


def keep_newest(folder: Path, name: str = "run_{}") -> None:
    for manifest in manifests(folder)[1:]:
        remove(folder / manifest.name)


@dataclass(frozen=True)
class Scenario:
    """``before`` has returned when ``then`` begins; each is given the folder and tells when a save has returned."""

    before: Callable[[Path], int]  #: the step of the last save
    then: Callable[[Path], int]


def _nothing(folder: Path) -> int:
    return 0


def _returning(step: int, *calls: Callable[[Path], None]) -> Callable[[Path], int]:
    def run(folder: Path) -> int:
        for call in calls:
            call(folder)
        return step

    return run


SCENARIOS = {
    "first": Scenario(_nothing, _returning(1, lambda folder: save_file(folder, 1))),
    "retention": Scenario(
        _returning(1, lambda folder: save_file(folder, 1)),
        _returning(2, lambda folder: save_file(folder, 2), keep_newest),
    ),
    "overwrite": Scenario(
        _returning(1, lambda folder: save_file(folder, 1, "last.pt")),
        _returning(2, lambda folder: save_file(folder, 2, "last.pt")),
    ),
    "first folder": Scenario(_nothing, _returning(1, lambda folder: save_folder(folder, 1))),
    "folder retention": Scenario(
        _returning(1, lambda folder: save_folder(folder, 1)),
        _returning(2, lambda folder: save_folder(folder, 2), keep_newest),
    ),
    "overwrite folder": Scenario(
        _returning(1, lambda folder: save_folder(folder, 1, "last")),
        _returning(2, lambda folder: save_folder(folder, 2, "last")),
    ),
}


def leftovers(folder: Path) -> set[str]:
    """What stands in a folder beside complete checkpoints."""
    whole = {manifest.name for manifest in manifests(folder)}
    return {path.name for path in folder.iterdir()} - whole - {f"{name}.json" for name in whole}

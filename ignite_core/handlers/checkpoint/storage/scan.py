"""Find the checkpoints in a folder, and compare their data with their manifests."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ignite_core.exceptions import CheckpointError, shown
from ignite_core.handlers.checkpoint.storage import manifest as manifests
from ignite_core.handlers.checkpoint.storage.hashing import digest
from ignite_core.handlers.checkpoint.storage.manifest import (
    SUFFIX,
    TEMPORARY,
    FileDigest,
    Manifest,
    ManifestFile,
    manifest_path,
    open_file,
    temp_path,
)

__all__ = [
    "Damage",
    "FileDigest",
    "Manifest",
    "Scan",
    "Verify",
    "check_data",
    "check_digest",
    "check_file",
    "current",
    "data_path",
    "file_names",
    "find_manifest",
    "manifest_path",
    "scan",
]

#: How often a scan is repeated while checkpoints are saved and deleted.
_ATTEMPTS = 100

#: How data is compared with its manifest: every byte, or sizes only.
Verify: TypeAlias = Literal["full", "size"]


@dataclass(frozen=True)
class Damage:
    """Why a checkpoint cannot be used, and its serial if that is known."""

    reason: str
    serial: int | None = None


@dataclass(frozen=True)
class Scan:
    """Content of a folder.

    Attributes:
        manifests: Manifests of the complete checkpoints, newest first. Their bytes were not compared.
        damaged: What is wrong with others, by name; also with those whose data is gone.
        unfinished: Manifest files without data, or that name two checkpoints, either of which may be there.
    """

    manifests: list[Manifest]
    damaged: dict[str, Damage]
    unfinished: dict[Path, ManifestFile]


def scan(folder: Path, prefix: str | None = None) -> Scan:
    """Read all manifests in a folder.

    Args:
        folder: Where the checkpoints are.
        prefix: Only checkpoints whose names begin with it.

    Raises:
        CheckpointError: If the folder cannot be read.
    """
    before = _listing(folder)
    for _ in range(_ATTEMPTS):
        found = Scan([], {}, {})
        for name in before:
            if name.endswith(SUFFIX) and not name.startswith(TEMPORARY):
                _scan_one(folder / name, prefix or "", found)
        after = _listing(folder)
        if after == before:  # else one may have been added after the names were listed, and another deleted since
            break
        before = after
    found.manifests.sort(key=lambda manifest: (manifest.serial, manifest.saved_at, manifest.uuid), reverse=True)
    return found


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Changes when a checkpoint is saved or deleted; not when temporary files or logs grow."""
    listing = {}
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry for entry in entries}
        for name, entry in found.items():
            if name.startswith(TEMPORARY):
                listing[name] = (0, 0)
            elif name.endswith(SUFFIX) or name + SUFFIX in found:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    listing[name] = (status.st_ino, status.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{folder}: the folder cannot be read: {error}") from error
    return listing


def _scan_one(place: Path, prefix: str, found: Scan) -> None:
    try:
        file = manifests.read(place)
        if file is None or not file.checkpoint.name.startswith(prefix):
            return
        if file.previous is not None:
            found.unfinished[place] = file
        folder, manifest = place.parent, file.checkpoint
        is_announced = not _is_there(folder, manifest)
        if is_announced:
            found.unfinished[place] = file
            if os.path.lexists(temp_path(folder, manifest.uuid, "data")):
                return
        if not is_announced or _is_there(folder, manifest):  # it may have got its name in between
            found.manifests.append(current(folder, file))
        elif os.path.lexists(place):  # else it is being removed
            reason = f"{folder / manifest.name}: is missing, though {place.name} is there"
            found.damaged[manifest.name] = Damage(shown(reason), manifest.serial)
    except CheckpointError as error:
        name = place.name.removesuffix(SUFFIX)
        if name.startswith(prefix) and not isinstance(error.__cause__, FileNotFoundError):
            found.damaged[name] = Damage(str(error))


def find_manifest(path: Path) -> Manifest | None:
    """The manifest of the checkpoint at ``path``; None if there is none, or only a file of another program.

    Raises:
        CheckpointError: If it is damaged.
    """
    place = manifest_path(path)
    file = manifests.read(place) if os.path.lexists(place) else None
    return None if file is None else current(path.parent, file)


def _is_there(folder: Path, manifest: Manifest) -> bool:
    return os.path.lexists(data_path(folder, manifest))


def data_path(folder: Path, manifest: Manifest) -> Path:
    """Path of the data of a checkpoint.

    A folder cannot be replaced in one step. While that is done, or if the process ended then, the previous one has been
    moved away, and the new one, which is complete, still has its temporary name.
    """
    path = folder / manifest.name
    if manifest.kind == "folder" and not os.path.lexists(path):
        temporary = temp_path(folder, manifest.uuid, "data")
        file = manifests.read(manifest_path(path)) if os.path.lexists(temporary) else None
        if file is not None and file.previous is not None and file.checkpoint == manifest:
            return temporary
    return path


def current(folder: Path, file: ManifestFile) -> Manifest:
    """The checkpoint that is there: of two in a manifest file, the one whose digests are those of the data.

    Raises:
        CheckpointError: If it is neither of them.
    """
    if file.previous is None:
        return file.checkpoint
    for manifest in (file.checkpoint, file.previous):
        try:
            check_data(data_path(folder, manifest), manifest)
        except CheckpointError:
            continue
        return manifest
    raise CheckpointError(f"{folder / file.checkpoint.name}: is damaged: it has neither of the digests in its manifest")


def check_data(path: Path, manifest: Manifest, verify: Verify = "full") -> None:
    """Compare the data at ``path`` with a manifest.

    Raises:
        CheckpointError: Naming the file that differs.
    """
    if manifest.kind == "folder":
        found, expected_names = file_names(path), set(manifest.files)
        if found != expected_names:
            missing, more = sorted(expected_names - found), sorted(found - expected_names)
            raise CheckpointError(f"{path}: is damaged: the files {missing} are missing, {more} do not belong there")
    for name, expected in manifest.files.items():
        place = path / name if manifest.kind == "folder" else path
        fd = open_file(place)
        try:
            check_file(fd, place, expected, verify)
        finally:
            os.close(fd)


def check_file(fd: int, path: Path, expected: FileDigest, verify: Verify) -> None:
    """Compare an open file with its size and digest. Raises CheckpointError if it differs."""
    size = os.fstat(fd).st_size
    if size != expected.size:
        raise CheckpointError(f"{path}: is damaged: it must have {expected.size} bytes, has {size}")
    if verify == "full":
        try:
            check_digest(digest(fd), path, expected)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error


def check_digest(found: str, path: Path, expected: FileDigest) -> None:
    """Raise a CheckpointError if a digest is not the expected one."""
    if found != expected.digest:
        raise CheckpointError(f"{path}: is damaged: its SHA-256 must be {expected.digest[:12]}…, is {found[:12]}…")


def file_names(folder: Path) -> set[str]:
    """Paths of all files within a folder, links included, which are not followed.

    Raises:
        CheckpointError: If a folder cannot be read.
    """
    found = set()
    for place, folders, names in os.walk(folder, onerror=_refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found |= {os.path.relpath(os.path.join(place, name), folder) for name in [*names, *links]}
    return found


def _refuse(error: OSError) -> None:
    raise CheckpointError(f"{error.filename}: cannot be read: {error}") from error

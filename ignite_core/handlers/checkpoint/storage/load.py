"""Load checkpoints: they are compared with their manifests and checked for harm before torch reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage.hashing import Hasher
from ignite_core.handlers.checkpoint.storage.manifest import open_file
from ignite_core.handlers.checkpoint.storage.safety import check
from ignite_core.handlers.checkpoint.storage.scan import (
    Manifest,
    Verify,
    check_data,
    check_digest,
    check_file,
    data_path,
    find_manifest,
    manifest_path,
)

__all__ = ["load", "load_open", "load_with_manifest", "stamps", "verify_checkpoint"]

#: Where open files have names.
_FDS = Path("/dev/fd")

#: How often loading is repeated while checkpoints are saved and deleted.
_ATTEMPTS = 100


def verify_checkpoint(path: str | os.PathLike[str], verify: Verify = "full") -> Manifest | None:
    """Check that a checkpoint is what was saved, and that a file contains nothing but data.

    Args:
        path: The file or folder.
        verify: ``"full"`` compares the SHA-256 of every file, ``"size"`` only the sizes.

    Returns:
        Its manifest; None for a file without one, which cannot be compared.

    Raises:
        CheckpointError: If it is damaged or not safe to load.
    """
    place = Path(os.path.realpath(path))
    manifest = find_manifest(place)
    if manifest is not None and manifest.kind == "folder":
        check_data(data_path(place.parent, manifest), manifest, verify)
    else:
        fd = open_file(place)
        try:
            _check_open(fd, place, manifest, verify)
        finally:
            os.close(fd)
    return manifest


def load(path: str | os.PathLike[str], *, verify: Verify = "full", map_location: Any = "cpu") -> Any:
    """Load a checkpoint that is one file, or any file written by ``torch.save``. It cannot run code.

    Tensors are mapped from the file until they are copied, as ``load_state_dict`` does. Replacing or deleting the file
    does not change them; programs that write *into* the file would.

    Args:
        path: The file. If it has a manifest, the two must agree.
        verify: ``"full"`` compares its SHA-256 with what was saved, ``"size"`` only the size.
        map_location: Device of the tensors, as for ``torch.load``; None for the device they were saved from.

    Raises:
        CheckpointError: If it is damaged, or contains anything but tensors, numbers, strings, and containers of them.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"epoch": 3}, f"{folder}/foreign.pt")
        ...     load(f"{folder}/foreign.pt")
        {'epoch': 3}
    """
    return load_with_manifest(path, verify, map_location)[0]


def load_with_manifest(path: str | os.PathLike[str], verify: Verify, map_location: Any) -> tuple[Any, Manifest | None]:
    """The content of a file and its manifest, both of the same save, even if it is replaced meanwhile."""
    place = Path(os.path.realpath(path))  # the manifest is beside the target of a symbolic link
    for _ in range(_ATTEMPTS):
        before = stamps(place)
        try:
            manifest = find_manifest(place)
            if manifest is not None and manifest.kind == "folder":
                raise CheckpointError(f"{place}: is a folder, which DCPSaver.load() reads")
            return _load_one(place, manifest, verify, map_location), manifest
        except CheckpointError:
            if stamps(place) == before:  # else another one is taking its place
                raise
    raise CheckpointError(f"{place}: is replaced faster than it can be read")


def _load_one(path: Path, manifest: Manifest | None, verify: Verify, map_location: Any) -> Any:
    """Load from the descriptor that was checked, so that replacing the file in between has no effect."""
    fd = open_file(path)
    try:
        before = os.fstat(fd)
        _check_open(fd, path, manifest, verify)
        loaded = load_open(fd, path, map_location)
        after = os.fstat(fd)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise CheckpointError(f"{path}: was written to while it was read")
        return loaded
    finally:
        os.close(fd)


def _check_open(fd: int, path: Path, manifest: Manifest | None, verify: Verify) -> None:
    """Check that an open file is what was saved and contains nothing but data."""
    hasher = Hasher(fd)
    try:
        expected = None if manifest is None else manifest.files[manifest.name]
        if expected is not None:
            check_file(fd, path, expected, "size")
            if verify == "full":
                hasher.complete(expected.size)  # in threads, while the file is checked
        harm = _harm(fd, crc=expected is None)
        if expected is not None and verify == "full":
            check_digest(hasher.finish(), path, expected)  # first, since a damaged file may also seem harmful
        if harm is not None:
            raise CheckpointError(f"{path}: {harm}") from harm
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    finally:
        hasher.abandon()


def _harm(fd: int, *, crc: bool) -> CheckpointError | None:
    try:
        check(fd, crc=crc)
    except CheckpointError as error:
        return error
    return None


def load_open(fd: int, path: Path, map_location: Any = "cpu") -> Any:
    """Load an open file that was checked. Raises CheckpointError if torch cannot load it."""
    mapped = _FDS / str(fd)  # torch maps a file only by a name
    try:
        if mapped.exists():
            return torch.load(mapped, map_location=map_location, weights_only=True, mmap=True)
        with open(fd, "rb", closefd=False) as file:
            return torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be loaded: {error}") from error


def stamps(path: Path) -> list[tuple[int, ...] | None]:
    """Inodes and times, which change if a checkpoint or its manifest is replaced."""
    stamps: list[tuple[int, ...] | None] = []
    for place in (path, manifest_path(path)):
        try:
            status = os.stat(place)
        except OSError:
            stamps.append(None)
        else:
            stamps.append((status.st_dev, status.st_ino, status.st_mtime_ns))
    return stamps

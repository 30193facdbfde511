"""Load checkpoints: they are compared with their manifests and checked for harm before torch reads them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ignite_core.exceptions import CheckpointError, shown
from ignite_core.handlers.checkpoint.storage.hashing import Hasher
from ignite_core.handlers.checkpoint.storage.manifest import open_file
from ignite_core.handlers.checkpoint.storage.safety import check
from ignite_core.handlers.checkpoint.storage.scan import (
    Manifest,
    Scan,
    Verify,
    check_data,
    check_digest,
    check_file,
    data_path,
    find_manifest,
    manifest_path,
    scan,
)

__all__ = ["load", "load_newest", "load_open", "verify_checkpoint"]

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

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"epoch": 3}, f"{folder}/foreign.pt")
        ...     print(verify_checkpoint(f"{folder}/foreign.pt"))
        None
    """
    place = _resolved(path)
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
    return _load_whole(_resolved(path), verify, map_location)[0]


def _load_whole(place: Path, verify: Verify, map_location: Any) -> tuple[Any, Manifest | None]:
    """The content of a file and its manifest, both of the same save, even if it is replaced meanwhile."""
    for _ in range(_ATTEMPTS):
        before = _stamps(place)
        try:
            manifest = find_manifest(place)
            if manifest is not None and manifest.kind == "folder":
                raise CheckpointError(f"{place}: is a folder, which DCPSaver.load() reads")
            return _load_one(place, manifest, verify, map_location), manifest
        except CheckpointError:
            if _stamps(place) == before:  # else another one is taking its place
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


def load_newest(
    folder: str | os.PathLike[str],
    prefix: str | None = None,
    *,
    verify: Verify = "full",
    map_location: Any = "cpu",
    read: Callable[[Path, Manifest], Any] | None = None,
) -> tuple[Any, Manifest]:
    """Load the newest valid checkpoint in a folder; if there are newer damaged ones, a warning names them.

    Args:
        folder: Where the checkpoints are.
        prefix: Only checkpoints whose names begin with it.
        verify: As in :func:`load`.
        map_location: As in :func:`load`.
        read: Called instead of :func:`load`, with the path of a verified checkpoint and its manifest.

    Returns:
        The content of the checkpoint, and its manifest.

    Raises:
        CheckpointError: If there is none.

    Example:
        >>> import tempfile
        >>> from ignite_core.handlers.checkpoint.storage.commit import publish
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for step in (1, 2):
        ...         manifest = publish(Path(folder, f"run_{step}.pt"), lambda file: torch.save({"at": step}, file))
        ...     loaded, manifest = load_newest(folder)
        ...     print(loaded, manifest.name)
        {'at': 2} run_2.pt
    """
    place = Path(folder)

    def read_one(manifest: Manifest) -> tuple[Any, Manifest | None]:
        if read is None:
            return _load_whole(place / manifest.name, verify, map_location)
        return _read_whole(place / manifest.name, verify, read)

    found = scan(place, prefix)
    for _ in range(_ATTEMPTS):
        loaded, manifest, failures = _first_whole(found, read_one)
        if manifest is not None and not failures:
            return loaded, manifest
        again = scan(place, prefix)
        if again == found:  # nothing was saved or deleted meanwhile
            break
        found = again
    reasons = "; ".join(failures)
    if manifest is None:
        which = f" whose name begins with {prefix!r}" if prefix else ""
        raise CheckpointError(
            f"{place}: there is no checkpoint{which} that can be loaded" + f": {reasons}" * bool(reasons)
        )
    newest = shown(place / manifest.name)
    warnings.warn(f"{newest} is loaded, as a newer checkpoint cannot be: {reasons}", stacklevel=2)
    return loaded, manifest


def _first_whole(
    found: Scan, read: Callable[[Manifest], tuple[Any, Manifest | None]]
) -> tuple[Any, Manifest | None, list[str]]:
    """The newest that can be read, and what is wrong with those that are newer, or may be."""
    failures: list[str] = []
    loaded, whole = None, None
    for manifest in found.manifests:
        try:
            loaded, whole = read(manifest)
        except (CheckpointError, OSError) as error:
            failures.append(str(error))
        if whole is not None:
            break
    return loaded, whole, failures + found.damage_since(0 if whole is None else whole.serial)


def _read_whole(path: Path, verify: Verify, read: Callable[[Path, Manifest], Any]) -> tuple[Any, Manifest | None]:
    """What ``read`` returns for the checkpoint at ``path``, if it was not replaced meanwhile."""
    before = _stamps(path)
    try:
        manifest = verify_checkpoint(path, verify)
        loaded = None if manifest is None else read(data_path(path.parent, manifest), manifest)
    except Exception as error:
        if _stamps(path) != before:
            raise CheckpointError(f"{path}: was replaced while it was read") from error
        raise
    if _stamps(path) != before:
        raise CheckpointError(f"{path}: was replaced while it was read")
    return loaded, manifest


def _resolved(path: str | os.PathLike[str]) -> Path:
    """The target of a symbolic link: the manifest is beside that."""
    return Path(os.path.realpath(path))


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
    """Load an open file that was checked.

    Raises:
        CheckpointError: If torch cannot load it.
    """
    mapped = _FDS / str(fd)  # torch maps a file only by a name
    try:
        if mapped.exists():
            return torch.load(mapped, map_location=map_location, weights_only=True, mmap=True)
        with open(fd, "rb", closefd=False) as file:
            return torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be loaded: {error}") from error


def _stamps(path: Path) -> list[tuple[int, ...] | None]:
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

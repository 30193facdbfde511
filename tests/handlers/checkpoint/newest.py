"""The newest valid checkpoint of a folder, as a reader of any kind finds it while others save."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ignite_core.exceptions import CheckpointError, shown
from ignite_core.handlers.checkpoint.storage.load import load_with_manifest, stamps, verify_checkpoint
from ignite_core.handlers.checkpoint.storage.scan import Manifest, Scan, Verify, data_path, scan

__all__ = ["load_newest"]

#: How often loading is repeated while checkpoints are saved and deleted.
_ATTEMPTS = 100


def load_newest(
    folder: str | os.PathLike[str],
    prefix: str | None = None,
    *,
    verify: Verify = "full",
    read: Callable[[Path, Manifest], Any] | None = None,
) -> tuple[Any, Manifest]:
    """Load the newest valid checkpoint in a folder; if there are newer damaged ones, a warning names them.

    Args:
        folder: Where the checkpoints are.
        prefix: Only checkpoints whose names begin with it.
        verify: As in :func:`load`.
        read: Called instead of :func:`load`, with the path of a verified checkpoint and its manifest.

    Returns:
        The content of the checkpoint, and its manifest.

    Raises:
        CheckpointError: If there is none.
    """
    place = Path(folder)

    def read_one(manifest: Manifest) -> tuple[Any, Manifest | None]:
        if read is None:
            return load_with_manifest(place / manifest.name, verify, "cpu")
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
    return loaded, whole, failures + _damage_since(found, 0 if whole is None else whole.serial)


def _read_whole(path: Path, verify: Verify, read: Callable[[Path, Manifest], Any]) -> tuple[Any, Manifest | None]:
    """What ``read`` returns for the checkpoint at ``path``, if it was not replaced meanwhile."""
    before = stamps(path)
    try:
        manifest = verify_checkpoint(path, verify)
        loaded = None if manifest is None else read(data_path(path.parent, manifest), manifest)
    except Exception as error:
        if stamps(path) != before:
            raise CheckpointError(f"{path}: was replaced while it was read") from error
        raise
    if stamps(path) != before:
        raise CheckpointError(f"{path}: was replaced while it was read")
    return loaded, manifest


def _damage_since(found: Scan, serial: int) -> list[str]:
    """What is wrong with those that are newer, or may be; older ones may just be being deleted."""
    return [damage.reason for damage in found.damaged.values() if damage.serial is None or damage.serial > serial]

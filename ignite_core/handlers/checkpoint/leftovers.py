"""What saves that died have left in a folder: completed where it is all there, else deleted."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.manifest import Sidecar, temporary_path
from ignite_core.handlers.checkpoint.storage.scan import scan, standing
from ignite_core.handlers.checkpoint.storage.temp_files import discard, new_uuid, put_sidecar, taken, temporaries

__all__ = ["sweep"]


def sweep(folder: Path) -> None:
    """Delete what saves and removals that died have left in a folder; every save begins with it.

    What belongs to a save that is under way, in this process or another, is left alone, and so is every file that was
    not made by this library. What cannot be deleted stays, with a warning.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     left = temporary_path(Path(folder), new_uuid(), "data")
        ...     size = left.write_bytes(b"half of the weig")
        ...     sweep(Path(folder))
        ...     os.listdir(folder)
        []
    """
    if not folder.is_dir():
        return  # whoever wants to save there will hear of it
    problems: list[OSError] = []
    with contextlib.suppress(CheckpointError):
        for place, sidecar in scan(folder).unfinished.items():
            try:
                _finish(folder, place, sidecar)
            except OSError as error:
                problems.append(error)
    for place, uuid in temporaries(folder).items():
        try:
            with taken(place, uuid) as is_dead:
                if is_dead or place.suffix == ".removed":
                    discard(place)
        except OSError as error:
            problems.append(error)
    if problems:
        warnings.warn(f"{folder}: what dead saves have left there could not be deleted: {problems[0]}", stacklevel=2)


def _finish(folder: Path, place: Path, sidecar: Sidecar) -> None:
    """Of a save that died between announcing its data and telling of it alone: tell of what is there."""
    uuid = sidecar.checkpoint.uuid
    path, temporary = folder / sidecar.checkpoint.name, temporary_path(folder, uuid, "data")
    with taken(place, uuid) as is_dead:
        if not is_dead:
            return
        if not os.path.lexists(path):
            if sidecar.previous is None or not temporary.is_dir():
                files.unlink(place)
                return
            files.replace(temporary, path)  # a folder that was to replace another, which has been moved away
            files.fsync_path(folder)
        if sidecar.previous is not None:
            with contextlib.suppress(CheckpointError):  # neither of the two: damaged, which who loads it will be told
                os.close(put_sidecar(folder, Sidecar(standing(folder, sidecar)), new_uuid()))

"""Commit a checkpoint to the disk: complete and with a manifest, or not at all, even if the process is killed.

The order of a save; each step is on the disk before the next begins:

1. The data is written to a temporary file in the same folder, and hashed meanwhile.
2. The manifest is written. It announces the data, and also describes the checkpoint that has this name now, if any.
3. The data is renamed. From now on the checkpoint exists: its manifest and its data agree.
4. If a checkpoint was replaced, the manifest is written again, for the new data alone.

A manifest without data is not a checkpoint. What a dead save has left is deleted by the next save in the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal

from ignite_core.exceptions import CheckpointError, shown
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage import manifest as manifests
from ignite_core.handlers.checkpoint.storage.hashing import sync, write_through
from ignite_core.handlers.checkpoint.storage.manifest import (
    LARGEST_SERIAL,
    FileDigest,
    Manifest,
    ManifestFile,
    check_about,
    check_name,
    is_of_others,
    manifest_path,
    open_file,
    temp_path,
)
from ignite_core.handlers.checkpoint.storage.scan import file_names, scan
from ignite_core.handlers.checkpoint.storage.temp_files import (
    create_file,
    create_folder,
    discard,
    new_uuid,
    put_manifest,
    recover,
    written_and_closed,
)

__all__ = ["publish", "publish_folder", "remove", "versions"]

#: File systems may count time in steps of some milliseconds: how long to wait for the next one, and how often.
_TICK_S, _MOST_TICKS = 0.002, 8

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def publish(
    path: Path,
    write: Callable[[BinaryIO], object],
    about: Mapping[str, Any] = _NOTHING,
    *,
    check: Callable[[int], object] | None = None,
) -> Manifest:
    """Save a checkpoint that is one file.

    Args:
        path: Where to save it. A checkpoint there stays until the new one is complete. Permissions follow the umask.
        write: Writes the data into the file it is given, from the beginning to the end; it cannot seek.
        about: Entries for the manifest, as JSON with finite numbers; ``step`` and ``score`` are numbers.
        check: Called with the descriptor of the written file; if it raises, nothing is saved.

    Raises:
        CheckpointError: If the disk fails, with the file, the step and what was being done. A checkpoint that was there
            is unchanged, unless the last steps of replacing it have failed: then it may be the new one.
    """
    with _saving(path, about) as save:
        lock = save.hold(create_file(save.data))
        save.phase = "writing the data"
        with written_and_closed(lock) as fd:
            digest = write_through(fd, write, None if check is None else lambda fd: save.check(check, fd))
        return save.commit("file", {path.name: digest})


def publish_folder(path: Path, fill: Callable[[Path], object], about: Mapping[str, Any] = _NOTHING) -> Manifest:
    """Save a checkpoint that is a folder of files.

    Args:
        path: Where to save it. A checkpoint there stays until the new one is complete.
        fill: Writes the files into the folder it is given, which is new and empty.
        about: As in :func:`publish`.

    Raises:
        CheckpointError: As in :func:`publish`; also if the folder contains anything but files and folders, or if
            ``path`` exists and is not a checkpoint of this library.
    """
    with _saving(path, about) as save:
        save.hold(create_folder(save.data))
        save.phase = "filling the folder"
        fill(save.data)
        save.phase = "syncing what is in the folder"
        return save.commit("folder", dict(_sync_files(save.data)))


def remove(path: Path) -> None:
    """Delete a checkpoint: first its data, in one step, then its manifest. A missing checkpoint is no error.

    What was not saved by this library, according to its manifest, is left alone, with a warning.

    Raises:
        CheckpointError: If the disk fails.
    """
    reason = _foreign(path)
    if reason is not None:
        text = shown(f"{path}: is not removed: {reason}; remove it yourself if it is not needed")
        warnings.warn(text, stacklevel=2)
        return
    try:
        removed = None
        if _is_folder(path):
            removed = temp_path(path.parent, new_uuid(), "removed")
            files.replace(path, removed)  # in one step, so that no half of it is ever found
        else:
            files.unlink(path)
        files.fsync_path(path.parent)
        files.unlink(manifest_path(path))
        if removed is not None:
            discard(removed)
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint could not be deleted: {error}") from error


def _foreign(path: Path) -> str | None:
    """Why what is at a path is not a checkpoint of this library; None if it is, or if there is nothing."""
    check_name(path.name)
    place = manifest_path(path)
    if not os.path.lexists(place):
        return "no manifest tells that it was saved here" if os.path.lexists(path) else None
    try:
        file = manifests.read(place)
    except CheckpointError as error:
        return str(error)
    if file is None or path.is_symlink() or (path.exists() and path.is_dir() != (file.checkpoint.kind == "folder")):
        return f"{place.name} describes something else"
    more = sorted(file_names(path) - set(file.checkpoint.files)) if path.is_dir() else []
    return f"there are files in it that were not saved, such as {more[0]!r}" if more else None


@contextlib.contextmanager
def _saving(path: Path, about: Mapping[str, Any]) -> Iterator[_Save]:
    check_name(path.name)
    try:
        json.dumps(dict(about), allow_nan=False)
        check_about(dict(about))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: its manifest must be JSON with finite numbers: {error}") from error
    save = _Save(path, about)
    try:
        recover(path.parent)
        if is_of_others(path):
            raise CheckpointError(f"{manifest_path(path)}: is no manifest of this library; move it away")
        yield save
    except OSError as error:
        save.undo()
        raise CheckpointError(
            f"{path} (step {about.get('step')}): the checkpoint could not be saved: {save.phase}: {error}"
        ) from error
    except BaseException:
        save.undo()
        raise
    finally:
        save.release()


class _Save:
    """The state of one save, so that it can be completed or undone.

    Attributes:
        data: Temporary path of the data.
        phase: What is being done, for messages.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.phase = "opening a temporary file"
        self._uuid = new_uuid()
        self._path, self._about = path, {"versions": versions(), **about}
        self.data = temp_path(path.parent, self._uuid, "data")
        self._json, self._removed = self.data.with_suffix(".json"), self.data.with_suffix(".removed")
        self._previous: Manifest | None = None
        self._is_announced = self._is_in_place = self._is_complete = False
        self._fds: list[int] = []

    def hold(self, fd: int) -> int:
        """Keep an open file, and so its lock, until the save is over."""
        self._fds.append(fd)
        return fd

    def check(self, check: Callable[[int], object], fd: int) -> None:
        """Call ``check``, whose errors get the name of the checkpoint."""
        try:
            check(fd)
        except CheckpointError as error:
            step = self._about.get("step")
            raise CheckpointError(f"{self._path} (step {step}): is not saved, as it {error}") from error

    def release(self) -> None:
        """Release all locks."""
        for fd in self._fds:
            with contextlib.suppress(OSError):  # nothing was written by this descriptor
                os.close(fd)

    def commit(self, kind: Literal["file", "folder"], digests: Mapping[str, FileDigest]) -> Manifest:
        """Make the data, which is written and synced, the checkpoint."""
        self.phase = "checking the existing files"
        found = scan(self._path.parent).manifests
        serial = 1 + max((manifest.serial for manifest in found), default=0)
        if serial >= LARGEST_SERIAL:
            last = max(found, key=lambda manifest: manifest.serial).name
            raise CheckpointError(
                f"{self._path}: nothing can follow the serial of {last!r}; move it away, it is forged"
            )
        self._previous = next((manifest for manifest in found if manifest.name == self._path.name), None)
        manifest = Manifest(self._path.name, kind, digests, serial, time.time(), self._uuid, self._about)
        is_foreign = os.path.lexists(self._path) and not os.path.lexists(manifest_path(self._path))
        is_displaced = os.path.lexists(self._path) and (_is_folder(self._path) or kind == "folder")
        if is_foreign and is_displaced:
            raise CheckpointError(f"{self._path}: exists and is no checkpoint of this library; move it away")
        if is_foreign:  # it has no digest, so no manifest could describe both: the data first
            self._move(False)
            self._put(ManifestFile(manifest))
        else:
            self._is_announced = True
            self._put(ManifestFile(manifest, self._previous))
            self._move(is_displaced)
            if self._previous is not None:
                self._put(ManifestFile(manifest))
        self._is_complete = True
        self._date_last()
        if is_displaced:
            with contextlib.suppress(OSError):  # the next save deletes the rest
                discard(self._removed)
        return manifest

    def _date_last(self) -> None:
        """Change the data after the manifest: some programs load the file of a folder that was changed last."""
        data, manifest = self._fds[0], self._fds[-1]
        with contextlib.suppress(OSError):
            status = os.stat(data)
            for _ in range(_MOST_TICKS):
                os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
                if os.stat(data).st_ctime_ns > os.stat(manifest).st_ctime_ns:
                    return
                time.sleep(_TICK_S)

    def _put(self, file: ManifestFile) -> None:
        self.phase = "writing the manifest beside it"
        self.hold(put_manifest(file, self._path.parent, self._json))

    def _move(self, is_displaced: bool) -> None:
        self.phase = "giving it its name"
        if is_displaced:  # a folder is not replaced in one step; `scan.data_path` knows the state in between
            files.replace(self._path, self._removed)
        files.replace(self.data, self._path)
        self._is_in_place = True
        files.fsync_path(self._path.parent)

    def undo(self) -> None:
        """Restore what was there, as far as the disk allows it; the rest is left to the next save."""
        if self._is_complete:
            return
        with contextlib.suppress(OSError):
            discard(self._json)
        if self._removed.exists() and not self._is_in_place:
            try:
                files.replace(self._removed, self._path)
            except OSError:
                return  # only the new one is left; it is complete, and the next save renames it
        if self._is_announced and self._previous is None:
            with contextlib.suppress(OSError, CheckpointError):
                self._withdraw()
        with contextlib.suppress(OSError):
            discard(self.data)
        if self._previous is not None and not self._is_in_place:  # the manifest may describe both
            with contextlib.suppress(OSError):
                self._put(ManifestFile(self._previous))

    def _withdraw(self) -> None:
        if self._is_in_place:
            remove(self._path)
        elif not os.path.lexists(self._path):  # else it is damaged, and must not be taken for a foreign file
            files.unlink(manifest_path(self._path))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _sync_files(folder: Path) -> Iterator[tuple[str, FileDigest]]:
    """Wait until a folder is on the disk; yields the path of each file within it, and its digest."""
    for place, folders, names in os.walk(folder, topdown=False, onerror=_refuse):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*names, *links]):
            path = Path(place, name)
            fd = open_file(path)
            try:
                yield path.relative_to(folder).as_posix(), sync(fd)
            finally:
                os.close(fd)
        files.fsync_path(Path(place))


def _refuse(error: OSError) -> None:
    raise error


def versions() -> dict[str, str]:
    """Versions of what is loaded; torch need not be."""
    loaded = {name: sys.modules.get(name) for name in ("ignite_core", "torch")}
    versions = {name: str(module.__version__) for name, module in loaded.items() if module is not None}
    return {"python": platform.python_version(), **versions}

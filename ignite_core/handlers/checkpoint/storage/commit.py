"""How a checkpoint reaches the disk: complete and told of by a sidecar, or not at all, wherever the process ends.

The order of a save, each step on the disk before the next begins:

1. the data, to a temporary file in the same folder, hashed while it is written;
2. the sidecar: it announces the data, and beside it what stands under that name now, if something does;
3. the data gets its name. From now on the checkpoint is there: its sidecar and its data agree;
4. where something was replaced, the sidecar again, telling of the new data alone.

A sidecar without data is no checkpoint; what a save that died has left is deleted by the next one in that folder.
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
from ignite_core.handlers.checkpoint.leftovers import sweep
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.manifest import (
    LARGEST_SERIAL,
    Sidecar,
    check_about,
    check_name,
    open_file,
    parse,
    read_text,
    sidecar_path,
    temporary_path,
)
from ignite_core.handlers.checkpoint.storage.scan import FileDigest, Manifest, is_of_others, names_in, scan
from ignite_core.handlers.checkpoint.storage.temp_files import (
    closing,
    create_file,
    create_folder,
    discard,
    new_uuid,
    put_sidecar,
)
from ignite_core.handlers.checkpoint.written import sync, write_through

__all__ = ["publish", "publish_folder", "remove", "sweep", "versions"]

#: The clock of a file system may move in steps of some milliseconds: how long to wait for the next one.
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
        path: Where it is to be; what is there stands until the new one is complete. Permissions follow the umask.
        write: Writes the data into the file it is given, from the beginning to the end; it cannot seek.
        about: What is to stand beside it, as JSON with finite numbers; ``step`` and ``score`` are numbers.
        check: Looks at the file through its descriptor when it is written; if it raises, nothing is saved.

    Raises:
        CheckpointError: If the disk refuses something. The message names the file, the step and what was being done.
            What was there stands; only where it was being replaced, and the last steps failed, may it be the new one.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = publish(Path(folder, "run.bin"), lambda file: file.write(b"weights"), {"step": 3})
        ...     print(sorted(os.listdir(folder)), manifest.files["run.bin"].size)
        ['run.bin', 'run.bin.json'] 7
    """
    with _saving(path, about) as save:
        lock = save.hold(create_file(path.parent, save.uuid, "data"))
        save.phase = "writing the data"
        with closing(lock) as fd:
            digest = write_through(fd, write, save.naming(check))
        return save.commit("file", {path.name: digest})


def publish_folder(path: Path, fill: Callable[[Path], object], about: Mapping[str, Any] = _NOTHING) -> Manifest:
    """Save a checkpoint that is a folder of files.

    Args:
        path: Where it is to be; what is there stands until the new one is complete.
        fill: Writes the files into the folder it is given, which is fresh and empty.
        about: As for :func:`publish`.

    Raises:
        CheckpointError: As for :func:`publish`; also if there is anything but files and folders in it, or if something
            that is no checkpoint of this library has that name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = publish_folder(Path(folder, "run"), lambda place: Path(place, "a").write_bytes(b"weights"))
        ...     print(sorted(os.listdir(folder)), list(manifest.files))
        ['run', 'run.json'] ['a']
    """
    with _saving(path, about) as save:
        save.hold(create_folder(path.parent, save.uuid))
        save.phase = "filling the folder"
        fill(save.place("data"))
        save.phase = "syncing what is in the folder"
        return save.commit("folder", dict(_settle(save.place("data"))))


def remove(path: Path) -> None:
    """Delete a checkpoint: first its data, in one step, then what stands beside it. One that is not there is fine.

    What was not saved by this library, as its manifest tells, is left alone, with a warning.

    Raises:
        CheckpointError: If the disk refuses.
    """
    reason = _foreign(path)
    if reason is not None:
        text = shown(f"{path}: is not removed: {reason}; remove it yourself if it is not needed")
        warnings.warn(text, stacklevel=2)
        return
    try:
        removed = temporary_path(path.parent, new_uuid(), "removed")
        if _is_folder(path):
            files.replace(path, removed)  # in one step: nobody finds half of it
        else:
            files.unlink(path)
        files.fsync_path(path.parent)
        files.unlink(sidecar_path(path))
        discard(removed)
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint could not be deleted: {error}") from error


def _foreign(path: Path) -> str | None:
    """Why what has the name of a checkpoint is none of this library; None if it is, or there is nothing."""
    check_name(path.name)
    place = sidecar_path(path)
    if not os.path.lexists(place):
        return "no manifest tells that it was saved here" if os.path.lexists(path) else None
    try:
        manifest = parse(read_text(place), place).checkpoint
    except CheckpointError as error:
        return str(error)
    is_other = path.is_symlink() or (path.exists() and path.is_dir() != (manifest.kind == "folder"))
    if manifest.name != path.name or is_other:
        return f"{place.name} tells of something else"
    more = sorted(names_in(path) - set(manifest.files)) if path.is_dir() else []
    return f"there are files in it that were not saved, such as {more[0]!r}" if more else None


@contextlib.contextmanager
def _saving(path: Path, about: Mapping[str, Any]) -> Iterator[_Save]:
    check_name(path.name)
    try:
        json.dumps(dict(about), allow_nan=False)
        check_about(dict(about))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: what is to stand beside it must be JSON with finite numbers: {error}") from error
    save = _Save(path, about)
    try:
        sweep(path.parent)
        if is_of_others(path):
            raise CheckpointError(
                f"{sidecar_path(path)}: what stands there is no manifest of this library; move it away"
            )
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
    """One save: what it has done so far, so that it can be completed or undone."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.uuid, self.phase = new_uuid(), "opening a temporary file"
        self._path, self._about = path, {"versions": versions(), **about}
        self._previous: Manifest | None = None
        self._is_announced = self._is_in_place = self._is_complete = False
        self._fds: list[int] = []

    def place(self, part: Literal["data", "json", "removed"]) -> Path:
        """Where a part of it is until it gets its name."""
        return temporary_path(self._path.parent, self.uuid, part)

    def hold(self, fd: int) -> int:
        """Keep the lock of an open file until the save is over."""
        self._fds.append(fd)
        return fd

    def naming(self, check: Callable[[int], object] | None) -> Callable[[int], object] | None:
        """A check whose errors name the checkpoint."""
        if check is None:
            return None

        def named(fd: int) -> None:
            try:
                check(fd)
            except CheckpointError as error:
                step = self._about.get("step")
                raise CheckpointError(f"{self._path} (step {step}): is not saved, as it {error}") from error

        return named

    def release(self) -> None:
        """Let all locks go."""
        for fd in self._fds:
            with contextlib.suppress(OSError):  # by this descriptor nothing was written
                os.close(fd)

    def commit(self, kind: Literal["file", "folder"], digests: Mapping[str, FileDigest]) -> Manifest:
        """Everything is written and synced: let it be the checkpoint."""
        self.phase = "looking at what is there"
        found = scan(self._path.parent).manifests
        serial = 1 + max((manifest.serial for manifest in found), default=0)
        if serial >= LARGEST_SERIAL:
            last = max(found, key=lambda manifest: manifest.serial).name
            raise CheckpointError(
                f"{self._path}: nothing can follow the serial of {last!r}; move it away, it is forged"
            )
        self._previous = next((manifest for manifest in found if manifest.name == self._path.name), None)
        manifest = Manifest(self._path.name, kind, digests, serial, time.time(), self.uuid, self._about)
        is_foreign = os.path.lexists(self._path) and not os.path.lexists(sidecar_path(self._path))
        is_displaced = os.path.lexists(self._path) and (_is_folder(self._path) or kind == "folder")
        if is_foreign and is_displaced:
            raise CheckpointError(f"{self._path}: what stands there is no checkpoint of this library; move it away")
        if is_foreign:  # nothing tells of it, so nothing could tell of both: the data first
            self._move(False)
            self._put(Sidecar(manifest))
        else:
            self._is_announced = True
            self._put(Sidecar(manifest, self._previous))
            self._move(is_displaced)
            if self._previous is not None:
                self._put(Sidecar(manifest))
        self._is_complete = True
        self._date_last()
        if is_displaced:
            with contextlib.suppress(OSError):  # the next save deletes what is left of it
                discard(self.place("removed"))
        return manifest

    def _date_last(self) -> None:
        """Change the data after the sidecar: there are programs that load what was changed last in a folder."""
        data, sidecar = self._fds[0], self._fds[-1]
        with contextlib.suppress(OSError):
            status = os.stat(data)
            for _ in range(_MOST_TICKS):
                os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
                if os.stat(data).st_ctime_ns > os.stat(sidecar).st_ctime_ns:
                    return
                time.sleep(_TICK_S)

    def _put(self, sidecar: Sidecar) -> None:
        self.phase = "writing the manifest beside it"
        self.hold(put_sidecar(self._path.parent, sidecar, self.uuid))

    def _move(self, is_displaced: bool) -> None:
        self.phase = "giving it its name"
        if is_displaced:  # a folder is not replaced in one step; `manifest.data_path` knows what is in between
            files.replace(self._path, self.place("removed"))
        files.replace(self.place("data"), self._path)
        self._is_in_place = True
        files.fsync_path(self._path.parent)

    def undo(self) -> None:
        """Let what was there be there, as far as the disk allows it; the rest is left to the next save."""
        if self._is_complete:
            return
        with contextlib.suppress(OSError):
            discard(self.place("json"))
        if self.place("removed").exists() and not self._is_in_place:
            try:
                files.replace(self.place("removed"), self._path)
            except OSError:
                return  # the new one is all there is; it is complete, and the next save gives it its name
        if self._is_announced and self._previous is None:
            with contextlib.suppress(OSError, CheckpointError):
                self._withdraw()
        with contextlib.suppress(OSError):
            discard(self.place("data"))
        if self._previous is not None and not self._is_in_place:  # it may have been announced beside the new one
            with contextlib.suppress(OSError):
                self._put(Sidecar(self._previous))

    def _withdraw(self) -> None:
        if self._is_in_place:
            remove(self._path)
        elif not os.path.lexists(self._path):  # else what is there is damaged, and not to be taken for a foreign file
            files.unlink(sidecar_path(self._path))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _settle(folder: Path) -> Iterator[tuple[str, FileDigest]]:
    """Wait until all that is in a folder is on the disk; the path of each file within it, and its digest."""
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
    """Of what is loaded; torch need not be."""
    loaded = {name: sys.modules.get(name) for name in ("ignite_core", "torch")}
    versions = {name: str(module.__version__) for name, module in loaded.items() if module is not None}
    return {"python": platform.python_version(), **versions}

"""Temporary files and folders of saves, and recovery from saves that were cut short.

A save holds a lock (flock) on each of its temporary files. The system releases it when the process ends, however it
ends. (A process number would not do: it may be reused, and means nothing in another container.) Where a file system has
no locks, or other machines do not see them, files of another machine are abandoned after an hour without a change.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.manifest import (
    TEMPORARY,
    ManifestFile,
    manifest_path,
    manifest_text,
    temp_path,
)
from ignite_core.handlers.checkpoint.storage.scan import current, scan

__all__ = ["create_file", "create_folder", "discard", "new_uuid", "put_manifest", "recover", "written_and_closed"]

#: A manifest is older than its data by this much; the difference survives rounding to 64-bit floats.
_EARLIER_NS = 1_000

#: Seconds without a change after which a file of another machine is abandoned.
_SILENCE_S = 3600.0

_NAME = re.compile(re.escape(TEMPORARY) + r"([0-9a-f]{8}-[0-9a-f]{16})\.(?:data|json|removed)")


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def new_uuid() -> str:
    """A unique name for a save; it begins with a hash of the host name."""
    return f"{_host()}-{secrets.token_hex(8)}"


def create_file(path: Path) -> int:
    """Create a temporary file of a save, open and locked until it is closed."""
    while True:
        fd = files.create(path)
        _lock(fd)
        if os.fstat(fd).st_nlink:  # else another process has deleted it before it was locked
            return fd
        os.close(fd)


def create_folder(path: Path) -> int:
    """Create the temporary folder of a save; it is locked until the returned descriptor is closed."""
    while True:
        files.mkdir(path)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            _lock(fd)
            if path.exists():
                return fd
            os.close(fd)


def _lock(fd: int) -> None:
    with contextlib.suppress(OSError):  # some file systems have no locks
        fcntl.flock(fd, fcntl.LOCK_EX)


@contextlib.contextmanager
def _locked_if_abandoned(path: Path, uuid: str) -> Iterator[bool]:
    """Hold the lock of a temporary file; yields whether its save is dead, so that the file may be changed."""
    try:
        kind = os.O_RDONLY if path.is_dir() else os.O_RDWR  # NFS locks only files that are open for writing
        fd = os.open(path, kind | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # it is gone, or belongs to another user
        yield False
        return
    try:
        is_silent = time.time() - os.fstat(fd).st_mtime > _SILENCE_S
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_dead = False
        except OSError:  # no locks on this file system
            is_dead = is_silent
        else:
            is_dead = is_silent or uuid.startswith(_host())
        yield is_dead
    finally:
        os.close(fd)


def discard(path: Path) -> None:
    """Delete a temporary file or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        files.rmtree(path)
    elif os.path.lexists(path):
        files.unlink(path)


def put_manifest(file: ManifestFile, folder: Path, temporary: Path) -> int:
    """Write a manifest file, replacing the one that is there, and wait until that is on the disk.

    Its time is set before that of the data: some programs load the newest file of a folder.

    Args:
        file: Its content.
        folder: The folder of the checkpoint.
        temporary: Where it is written before it is renamed.

    Returns:
        An open file, which holds the lock until it is closed.
    """
    path, text = folder / file.checkpoint.name, memoryview(manifest_text(file))
    data = temp_path(folder, file.checkpoint.uuid, "data")
    lock = create_file(temporary)
    try:
        with written_and_closed(lock) as fd:
            while text:
                text = text[files.write(fd, text) :]
            with contextlib.suppress(OSError):  # some file systems do not allow it
                times = [place.stat().st_mtime_ns for place in (path, data) if place.exists()]
                os.utime(fd, ns=(min(times) - _EARLIER_NS,) * 2)
            files.fsync(fd)
        files.replace(temporary, manifest_path(path))
        files.fsync_path(folder)
    except BaseException:
        os.close(lock)
        raise
    return lock


@contextlib.contextmanager
def written_and_closed(lock: int) -> Iterator[int]:
    """A second descriptor to write by, closed at the end, which may report an error of a write.

    The lock of the file is held until the first one is closed.
    """
    fd = os.dup(lock)
    try:
        yield fd
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    files.close(fd)


def recover(folder: Path) -> None:
    """Complete or delete what saves and removals that died have left in a folder. Every save begins with this.

    Files of saves in progress, in this process or another, are left alone, and so are all files that were not made by
    this library. What cannot be deleted stays, with a warning.
    """
    if not folder.is_dir():
        return  # creating a file in it will fail with a better message
    problems: list[OSError] = []
    with contextlib.suppress(CheckpointError):
        for place, file in scan(folder).unfinished.items():
            try:
                _finish(folder, place, file)
            except OSError as error:
                problems.append(error)
    for name in os.listdir(folder):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        place = folder / name
        try:
            with _locked_if_abandoned(place, match[1]) as is_dead:
                if is_dead or place.suffix == ".removed":
                    discard(place)
        except OSError as error:
            problems.append(error)
    if problems:
        warnings.warn(f"{folder}: leftovers of dead saves could not be deleted: {problems[0]}", stacklevel=2)


def _finish(folder: Path, place: Path, file: ManifestFile) -> None:
    """Complete a save that died after its manifest was announced: the manifest then names the data that is there."""
    uuid = file.checkpoint.uuid
    path, temporary = folder / file.checkpoint.name, temp_path(folder, uuid, "data")
    with _locked_if_abandoned(place, uuid) as is_dead:
        if not is_dead:
            return
        if not os.path.lexists(path):
            if file.previous is None or not temporary.is_dir():
                files.unlink(place)
                return
            files.replace(temporary, path)  # a folder that was to replace another, which has been moved away
            files.fsync_path(folder)
        if file.previous is not None:
            with contextlib.suppress(CheckpointError):  # neither of the two: damaged, which loading it will report
                os.close(
                    put_manifest(ManifestFile(current(folder, file)), folder, temp_path(folder, new_uuid(), "json"))
                )

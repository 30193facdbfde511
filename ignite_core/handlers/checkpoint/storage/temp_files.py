"""Files and folders that exist while something is saved, and how to tell whether whoever made them is still alive.

A save holds a lock (flock) on each of them. The system lets it go when the process ends, however it ends, which no
number of a process tells: it may be used again, and means nothing in another container. Where a file system has no
locks, or only such that other machines do not see, what another machine has made is dead after an hour of silence.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.manifest import (
    TEMPORARY,
    Sidecar,
    sidecar_path,
    sidecar_text,
    temporary_path,
)

__all__ = ["closing", "create_file", "create_folder", "discard", "new_uuid", "put_sidecar", "taken", "temporaries"]

#: By so much a sidecar is older than its data; a difference that is left when times are numbers of 64 bits.
_EARLIER_NS = 1_000

#: After so many seconds without a change nobody is at work on a file.
_SILENCE_S = 3600.0

_NAME = re.compile(re.escape(TEMPORARY) + r"([0-9a-f]{8}-[0-9a-f]{16})\.(?:data|json|removed)")


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def new_uuid() -> str:
    """A name for one save; it tells the machine too."""
    return f"{_host()}-{secrets.token_hex(8)}"


def temporaries(folder: Path) -> dict[Path, str]:
    """What saves and removals, alive or dead, have in a folder now, with the name of each."""
    found = ((folder / name, _NAME.fullmatch(name)) for name in os.listdir(folder))
    return {path: match[1] for path, match in found if match is not None}


def create_file(folder: Path, uuid: str, part: Literal["data", "json"]) -> int:
    """Make a temporary file of a save, open and locked until it is closed."""
    while True:
        fd = files.create(temporary_path(folder, uuid, part))
        _lock(fd)
        if os.fstat(fd).st_nlink:  # else someone took it, before the lock, for what a dead save has left
            return fd
        os.close(fd)


def create_folder(folder: Path, uuid: str) -> int:
    """Make the temporary folder of a save, locked until what is returned is closed."""
    place = temporary_path(folder, uuid, "data")
    while True:
        files.mkdir(place)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            _lock(fd)
            if place.exists():
                return fd
            os.close(fd)


def _lock(fd: int) -> None:
    with contextlib.suppress(OSError):  # there are file systems without
        fcntl.flock(fd, fcntl.LOCK_EX)


@contextlib.contextmanager
def taken(path: Path, uuid: str) -> Iterator[bool]:
    """Hold the lock of what a save has made; whether that save is dead, and this one may do with it what it likes."""
    try:
        kind = os.O_RDONLY if path.is_dir() else os.O_RDWR  # NFS locks only what may be written
        fd = os.open(path, kind | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # it is gone, or belongs to someone else
        yield False
        return
    try:
        is_silent = time.time() - os.fstat(fd).st_mtime > _SILENCE_S
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_dead = False
        except OSError:  # no locks here
            is_dead = is_silent
        else:
            is_dead = is_silent or uuid.startswith(_host())
        yield is_dead
    finally:
        os.close(fd)


def discard(path: Path) -> None:
    """Delete a temporary file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        files.rmtree(path)
    elif os.path.lexists(path):
        files.unlink(path)


def put_sidecar(folder: Path, sidecar: Sidecar, uuid: str) -> int:
    """Let a sidecar stand beside a checkpoint, in place of the one that does, and wait until that is on the disk.

    Its time is before that of the data, as there are programs that load the newest file of a folder.

    Returns:
        An open file, which holds the lock until it is closed.
    """
    text = memoryview(sidecar_text(sidecar))
    lock = create_file(folder, uuid, "json")
    try:
        with closing(lock) as fd:
            while text:
                text = text[files.write(fd, text) :]
            _date_before(fd, folder / sidecar.checkpoint.name, temporary_path(folder, sidecar.checkpoint.uuid, "data"))
            files.fsync(fd)
        files.replace(temporary_path(folder, uuid, "json"), sidecar_path(folder / sidecar.checkpoint.name))
        files.fsync_path(folder)
    except BaseException:
        os.close(lock)
        raise
    return lock


@contextlib.contextmanager
def closing(lock: int) -> Iterator[int]:
    """A second descriptor of an open file to write by, closed at the end: that may report an error of a write.

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


def _date_before(fd: int, *places: Path) -> None:
    """Set the time of an open file before those of others, where the file system allows it."""
    with contextlib.suppress(OSError):
        times = [place.stat().st_mtime_ns for place in places if place.exists()]
        os.utime(fd, ns=(min(times) - _EARLIER_NS,) * 2)

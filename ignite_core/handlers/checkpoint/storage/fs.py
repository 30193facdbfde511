"""The operations that change a disk, each by one function: what a save does to it goes through here and nowhere else.

Always called as ``files.replace(...)``, so that the fault tests can count them, and fail or end the process at each.
Nothing here tries a second time: after an error of ``fsync`` the system may have dropped what was not written, and
another ``fsync`` would then report success.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

__all__ = ["close", "create", "fsync", "fsync_path", "mkdir", "replace", "rmtree", "unlink", "write"]

#: Answers of file systems that cannot sync a folder; the names in it are as safe as they get. EIO is not among them.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


def create(path: Path) -> int:
    """Open a file that was not there before, with the permissions that the umask leaves."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def write(fd: int, data: memoryview) -> int:
    """Write a part of ``data`` at least, and say how many bytes."""
    return os.write(fd, data)


def fsync(fd: int) -> None:
    """Wait until an open file is on the disk."""
    os.fsync(fd)


def close(fd: int) -> None:
    """Close a file that was written. An error of an earlier write may be reported only now."""
    os.close(fd)


def fsync_path(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC or not path.is_dir():
            raise
    finally:
        os.close(fd)


def replace(source: Path, target: Path) -> None:
    """Give a file or a folder another name, in one step; a file that has that name already is gone."""
    os.replace(source, target)


def unlink(path: Path) -> None:
    """Delete a file, if it is there."""
    path.unlink(missing_ok=True)


def mkdir(path: Path) -> None:
    """Make a folder, if it is not there."""
    path.mkdir(exist_ok=True)


def rmtree(path: Path) -> None:
    """Delete a folder with all that is in it, if it is there."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if path.exists():  # something in it was deleted at the same time by someone else
            raise

"""All operations that change a disk, one function each.

Always called as ``files.replace(...)``, so that the fault tests can count them, and fail or end the process at each.
Nothing is tried twice: after an error of ``fsync`` the system may have dropped what was not written, and another
``fsync`` would then report success.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

__all__ = ["close", "create", "fsync", "fsync_path", "mkdir", "replace", "rmtree", "unlink", "write"]

#: Errors of file systems that cannot sync a folder. EIO is not among them.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


def create(path: Path) -> int:
    """Create and open a new file, with the permissions that the umask leaves."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def write(fd: int, data: memoryview) -> int:
    """Write at least a part of ``data``; returns the number of bytes."""
    return os.write(fd, data)


def fsync(fd: int) -> None:
    """Wait until an open file is on the disk."""
    os.fsync(fd)


def close(fd: int) -> None:
    """Close a file that was written, which may report an error of an earlier write."""
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
    """Rename a file or a folder in one step; an existing file of the new name is replaced."""
    os.replace(source, target)


def unlink(path: Path) -> None:
    """Delete a file, if it exists."""
    path.unlink(missing_ok=True)


def mkdir(path: Path) -> None:
    """Create a folder, if it does not exist."""
    path.mkdir(exist_ok=True)


def rmtree(path: Path) -> None:
    """Delete a folder with its content, if it exists."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if path.exists():  # a part of it was deleted at the same time by another process
            raise

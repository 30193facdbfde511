"""Append to files atomically with respect to errors."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["append"]


def append(path: Path, data: bytes) -> None:
    """Append ``data`` to a file, which is created if needed: all of it or nothing.

    When this returns the data is with the operating system, so it survives the end of the process.

    Raises:
        OSError: If the file cannot be written; it is unchanged then.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    written = 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        if written:  # a partial line would corrupt the next one
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise
    finally:
        os.close(descriptor)

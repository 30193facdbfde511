"""Files that are written at their end: what is added is there whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["append"]


def append(path: Path, data: bytes) -> None:
    r"""Write at the end of a file, which is made if it is not there: all of ``data`` or nothing.

    What this has returned from is with the system: it outlives the process, however that ends.

    Raises:
        OSError: If the disk refuses; the file is as it was.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     append(Path(folder, "lines"), b"one\n")
        ...     append(Path(folder, "lines"), b"two\n")
        ...     print(Path(folder, "lines").read_text().split())
        ['one', 'two']
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    written = 0
    try:
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        if written:  # half of a line would spoil the next one
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise
    finally:
        os.close(descriptor)

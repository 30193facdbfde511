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
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            os.truncate(path, before)  # half of a line would spoil the next one
            raise

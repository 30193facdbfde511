"""A file of records that could not be sent yet: written at its end, read from its beginning, gone when all was sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from ignite_contrib.loggers.appending import append
from ignite_contrib.loggers.records import Record, as_line, of_line

__all__ = ["Unsent"]


class Unsent:
    """Records in a file; several threads may add to it, one takes from it.

    Args:
        path: The file; it is made when it is needed. What is there already is sent too.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unsent = Unsent(Path(folder, "unsent.jsonl"))
        ...     unsent.add([Record("scalars", step, 0.0, {}) for step in range(3)])
        ...     for batch in unsent.batches(2):
        ...         print([record.step for record in batch])
        ...     print(unsent.path.exists())
        [0, 1]
        [2]
        False
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sent_to = 0  # bytes
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self.path.exists()

    def add(self, records: Sequence[Record]) -> None:
        """Write records at the end: all of them or none.

        Raises:
            OSError: If the disk refuses.
        """
        data = "".join(as_line(record) + "\n" for record in records).encode()
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append(self.path, data)

    def batches(self, size: int) -> Iterator[list[Record]]:
        """Records from the beginning; a batch is done with when the next one is asked for."""
        while True:
            lines, end = self._lines(size)
            if lines:
                yield [of_line(line) for line in lines]
            with self._lock:
                self._sent_to = end
                if not self.path.exists() or end >= self.path.stat().st_size:
                    self.path.unlink(missing_ok=True)
                    self._sent_to = 0
                    return

    def _lines(self, most: int) -> tuple[list[str], int]:
        with self._lock, self.path.open("rb") as file:
            file.seek(self._sent_to)
            lines: list[str] = []
            while len(lines) < most and (line := file.readline()):
                if line.endswith(b"\n"):  # else the process that wrote it was killed
                    lines.append(line.decode())
            return lines, file.tell()

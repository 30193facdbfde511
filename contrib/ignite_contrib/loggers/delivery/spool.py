"""A file of records that could not be sent yet: written at its end, read from its beginning, gone when all was sent."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from ignite_contrib.loggers._append import append
from ignite_contrib.loggers.delivery.record import Kind, Record, as_line, of_line

__all__ = ["Unsent"]

_logger = logging.getLogger(__name__)

#: Records that are handed over at once.
_BATCH = 500


class Unsent:
    """Records in a file; several threads may add to it, one takes from it.

    Args:
        path: The file; it is made when it is needed. What is there already is sent too.

    Attributes:
        pending: Kinds of records that wait in the file to be sent. Refused ones do not.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unsent = Unsent(Path(folder, "unsent.jsonl"))
        ...     unsent.add([Record("scalars", step, 0.0, {}) for step in range(3)])
        ...     unsent.sweep(lambda records: records[:1])  # all but the first one are sent
        ...     unsent.sweep(lambda records: print([record.step for record in records]) or [])
        ...     print(unsent.path.exists())
        [0]
        False
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: set[str] = set(get_args(Kind)) if path.exists() else set()
        self._sent_to = 0  # bytes at the beginning that could not be cut off, as on a full disk
        self._lock = threading.Lock()

    def add(self, records: Sequence[Record]) -> None:
        """Write records at the end: all of them or none.

        Raises:
            OSError: If the disk refuses.
        """
        data = "".join(as_line(record) + "\n" for record in records).encode()
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                append(self.path, data)
            except OSError:
                if not self.path.stat().st_size:
                    self.path.unlink()
                raise
            self.pending |= {record.kind for record in records if not record.is_refused}

    def sweep(self, deliver: Callable[[list[Record]], Sequence[Record]], *, with_refused: bool = False) -> None:
        """Hand over what is in the file, in its order; what ``deliver`` returns was not sent, and stays.

        Args:
            deliver: Takes some records and returns those that are left.
            with_refused: Hand over refused records, too; otherwise they stay.

        Raises:
            OSError: If the file cannot be read, or what is left cannot be written.
        """
        with self._lock:
            end = self.path.stat().st_size if self.path.exists() else 0
            before, self.pending = self.pending, set()
        at = min(self._sent_to, end)
        try:
            while at < end:
                lines, after = self._lines(at, end)
                kept, records = _read(lines, with_refused)
                left = deliver(records) if records else ()
                with self._lock:
                    append(self.path, b"".join(kept))
                self.add(left)
                at = after
        except BaseException:
            self.pending |= before
            raise
        finally:
            self._cut(at)

    def _lines(self, at: int, end: int) -> tuple[list[bytes], int]:
        with self.path.open("rb") as file:
            file.seek(at)
            lines: list[bytes] = []
            while len(lines) < _BATCH and file.tell() < end and (line := file.readline()):
                if line.endswith(b"\n"):  # otherwise the process that wrote it was killed
                    lines.append(line)
            return lines, file.tell()

    def _cut(self, at: int) -> None:
        """Drop what stands before ``at``."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    file.seek(at)
                    rest = file.read()
                if not rest:
                    self.path.unlink()
                elif at:
                    new = self.path.with_name(f"{self.path.name}.new")
                    new.write_bytes(rest)
                    os.replace(new, self.path)
                self._sent_to = 0
            except OSError:
                self._sent_to = at


def _read(lines: Sequence[bytes], with_refused: bool) -> tuple[list[bytes], list[Record]]:
    """Lines that stay as they are, and records to be sent."""
    kept, records = [], []
    for line in lines:
        try:
            record = of_line(line.decode())
        except ValueError as error:
            _logger.error("a line of the file of what was not sent stays there: %s", error)
            kept.append(line)
            continue
        if record.is_refused and not with_refused:
            kept.append(line)
        else:
            records.append(record)
    return kept, records

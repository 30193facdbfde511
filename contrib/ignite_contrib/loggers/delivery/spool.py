"""A file of records that could not be sent yet: appended to, read from the start, deleted when it is empty."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from ignite_contrib.loggers._append import append
from ignite_contrib.loggers.delivery.record import Kind, Record, as_line, of_line

__all__ = ["Spool"]

_logger = logging.getLogger(__name__)

#: Records that are passed to ``deliver`` at once.
_BATCH = 500


class Spool:
    """Records in a file. Several threads may add to it, one takes from it.

    Args:
        path: The file, created when it is needed. Records that are in it already are sent too.

    Attributes:
        pending: Kinds of records in the file that wait to be sent, not counting refused ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: set[str] = set(get_args(Kind)) if path.exists() else set()
        self._sent_to = 0  # bytes at the start that were sent but could not be cut off, as on a full disk
        self._lock = threading.Lock()

    def add(self, records: Sequence[Record]) -> None:
        """Append all records, or none and raise OSError if the file cannot be written."""
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
        """Pass the records in the file to ``deliver``, in order, and keep only those that it returns.

        Args:
            deliver: Called with some records at a time; returns those that were not sent.
            with_refused: Also pass records that were refused before; by default they stay in the file.

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
                kept, records = _parse(lines, with_refused)
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
        """Drop the first ``at`` bytes."""
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


def _parse(lines: Sequence[bytes], with_refused: bool) -> tuple[list[bytes], list[Record]]:
    """Split lines into those that stay as they are and records to send."""
    kept, records = [], []
    for line in lines:
        try:
            record = of_line(line.decode())
        except ValueError as error:
            _logger.error("a line of the file of unsent records stays there: %s", error)
            kept.append(line)
            continue
        if record.is_refused and not with_refused:
            kept.append(line)
        else:
            records.append(record)
    return kept, records

"""CSV and JSON lines files.

They are written at once, not in the background: a line takes some microseconds, and is kept even if the process is
killed in the next moment. Values on a device are waited for.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import reprlib
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ignite_contrib.loggers._append import append
from ignite_core.handlers import BaseLogger, kept, numbers_of

__all__ = ["CSVLogger", "JSONLinesLogger"]

_logger = logging.getLogger(__name__)

Values = Mapping[tuple[str, ...], Any]


class _FileLogger(BaseLogger):
    """Appends lines to a file; if that fails they are kept in memory, and written before the next ones."""

    takes_text = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(path).expanduser().absolute()
        self._unwritten: list[bytes] = []
        self._is_failing = False
        if self.writes:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append(self.path, self._opening())

    def scalars(self, step: int, values: Values) -> None:
        """Write numbers and text by name."""
        shown = {key: _shown(value) for key, value in numbers_of(values).items()}
        self._unwritten.append(self._lines(step, shown).encode("utf-8", "backslashreplace"))
        self.flush()

    def texts(self, step: int, values: Values) -> None:
        """Write text by name."""
        self.scalars(step, values)

    def flush(self) -> None:
        """Try again to write the lines in memory, if there are any."""
        if not self._unwritten:
            return
        try:
            append(self.path, b"".join(self._unwritten))
        except OSError as error:
            if not self._is_failing:
                self._is_failing = True
                _logger.warning(
                    "%s: %s cannot be written (%s); the run continues, and values are kept in memory until it can",
                    type(self).__name__,
                    self.path,
                    error,
                )
        else:
            self._unwritten.clear()
            self._is_failing = False

    def close(self) -> None:
        """Try a last time to write the lines in memory. The file is not kept open."""
        self.flush()
        if self._unwritten:
            name, lost = type(self).__name__, len(self._unwritten)
            _logger.error("%s: the values of the last %d calls could not be written to %s", name, lost, self.path)

    def _opening(self) -> bytes:
        """The header of a new file; a line break if the last line of an existing one is incomplete."""
        with self.path.open("ab+") as file:
            if not file.tell():
                return self._header().encode()
            file.seek(-1, os.SEEK_END)
            return b"" if file.read() == b"\n" else b"\n"

    def _header(self) -> str:
        return ""

    @abstractmethod
    def _lines(self, step: int, values: Values) -> str:
        """Format numbers and text as complete lines."""


class CSVLogger(_FileLogger):
    """Logs to a CSV file with the columns ``step``, ``name`` and ``value``, a line for each value.

    New names need no new columns, and a resumed run continues in the same file. A line is in the file when the call
    that logs it returns. If the disk is full, lines are kept in memory until there is space.

    Args:
        path: The file; its folder is created if needed.

    Raises:
        OSError: If it cannot be written at the start.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with CSVLogger(f"{folder}/run.csv") as logger:
        ...         logger.scalars(1, {("training", "loss"): 0.5, ("training", "lr"): float("nan")})
        ...     print(logger.path.read_text())
        step,name,value
        1,training/loss,0.5
        1,training/lr,nan
        <BLANKLINE>
    """

    def _header(self) -> str:
        return "step,name,value\n"

    def _lines(self, step: int, values: Values) -> str:
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows((step, "/".join(key), value) for key, value in values.items())
        return lines.getvalue()


class JSONLinesLogger(_FileLogger):
    """Logs to a file of JSON lines: an object for each call, with ``step``, ``time`` and the values by name.

    Files are written as by :class:`CSVLogger`. JSON has no NaN: NaN and infinity are the strings ``"NaN"``,
    ``"Infinity"`` and ``"-Infinity"``, which ``float`` converts back. A value whose name is ``step`` or ``time`` gets
    ``_`` appended to its name.

    Args:
        path: The file; its folder is created if needed.
        clock: Returns the time in seconds since 1970.

    Raises:
        OSError: If it cannot be written at the start.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with JSONLinesLogger(f"{folder}/run.jsonl", clock=lambda: 1.5) as logger:
        ...         logger.scalars(1, {("training", "loss"): 0.5, ("training", "lr"): float("nan")})
        ...     print(logger.path.read_text())
        {"step": 1, "time": 1.5, "training/loss": 0.5, "training/lr": "NaN"}
        <BLANKLINE>
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        super().__init__(path)

    def _lines(self, step: int, values: Values) -> str:
        line: dict[str, Any] = {"step": step, "time": self._clock()}
        for key, value in values.items():
            name = "/".join(key)
            line[f"{name}_" if name in ("step", "time") else name] = _as_json(value)
        return json.dumps(line, allow_nan=False) + "\n"


def _shown(value: object) -> Any:
    number = kept(value)
    return reprlib.repr(value) if number is None else number


def _as_json(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

"""Send records to a back-end that may be unavailable; what cannot be sent is kept in a file until it can."""

from __future__ import annotations

import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ignite_contrib.loggers._redact import reason_of, redact
from ignite_contrib.loggers.delivery.deliver import Send, by_kind, deliver
from ignite_contrib.loggers.delivery.record import Record
from ignite_contrib.loggers.delivery.spool import Spool

__all__ = ["Outbox"]

_logger = logging.getLogger(__name__)

#: Seconds until an unavailable back-end is tried again: the first pause, doubled each time up to the longest one.
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


@dataclass
class _Pause:
    """A kind of records that the back-end does not accept at present."""

    until: float
    length_s: float
    reason: str


class Outbox:
    """Sends records at once, for clients that queue and work offline by themselves.

    If the back-end accepts no record of a kind, one message says so and such records go to a file. It is tried again
    after a pause, and the file is sent first then. A record that is refused, while others are accepted, goes to the
    file with the reason; one error reports the first one. A record may arrive twice if a connection breaks after it was
    received; none is left out.

    Args:
        send: Sends records of one kind, or raises.
        name: Name of the logger, for messages.
        path: The file, deleted when all records in it are sent. By default a new one in the working folder.
        clock: Returns the time in seconds.

    Attributes:
        spool: The file.
        reason: Why the last attempt failed; empty if none did.
    """

    def __init__(
        self,
        send: Send,
        name: str,
        path: str | os.PathLike[str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        default = f"{name}-unsent-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}.jsonl"
        self.spool = Spool(Path(default if path is None else path).absolute())
        self._send = send
        self._name = name
        self._clock = clock
        self._pauses: dict[str, _Pause] = {}  # by kind
        self._reported: set[str] = set()  # kinds of which a refused record was reported
        self.reason = ""
        self._lock = threading.RLock()  # a signal handler may log too

    def put(self, record: Record) -> None:
        """Send a record."""
        with self._lock:
            self._add(self.deliver([record.read()]))

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Return True: no record waits."""
        return True

    def close(self, timeout_s: float = 10.0) -> None:
        """Try once more to send the records in the file."""
        with self._lock:
            if self.spool.pending:
                self.end_pauses()
                self._add(self.deliver([]))
                self.report_rest()

    def keep(self, record: Record, error: BaseException) -> None:
        """Write a record that was not sent to the file, and warn."""
        reason = reason_of(error)
        if self._add([replace(record, reason=reason)]):
            _logger.warning("%s: %s was not sent (%s); it is in %s", self._name, record.kind, reason, self.spool.path)

    def resend(self, path: str | os.PathLike[str]) -> None:
        """Send the records in the file of an earlier run, and delete it.

        Records that are refused stay in the file, and one error reports them.

        Raises:
            FileNotFoundError: If there is no such file.
            Exception: Raised by the back-end, if it is unavailable; the records that were not sent stay in the file.
        """
        refused: list[Record] = []
        errors: list[BaseException] = []
        spool = Spool(Path(path))
        spool.path.stat()

        def send_again(records: list[Record]) -> list[Record]:
            left = []
            for some in by_kind(records):
                rest, error = (some, None) if errors else deliver(self._send, some)
                left += rest
                refused.extend(record for record in rest if record.is_refused)
                errors.extend([error] if error else [])
            return left

        spool.sweep(send_again, with_refused=True)
        if errors:
            redact(errors[0])
            raise errors[0]
        if refused:
            _logger.error(
                "%s: %d records are refused (the first one: %s); they stay in %s",
                self._name,
                len(refused),
                refused[0].reason,
                path,
            )

    def deliver(self, records: Sequence[Record], send: Send | None = None) -> Sequence[Record]:
        """Send the records in the file, then ``records``; returns those of ``records`` that were not sent."""
        try:
            if any(not self._is_paused(kind) for kind in self.spool.pending):
                self.spool.sweep(lambda records: self._deliver(records, send or self._send))
            return self._deliver(records, send or self._send)
        except Exception as error:  # from the file; some of the records may have been sent, all are kept
            self.reason = reason_of(error)
            return records

    def end_pauses(self) -> None:
        """Try everything again in the next :meth:`deliver`."""
        for pause in self._pauses.values():
            pause.until = -math.inf

    def report_rest(self) -> None:
        """Warn if records are left in the file."""
        if self.spool.pending:
            _logger.warning(
                "%s: some values were not sent (%s); they are in %s, and resend(path) of a logger of this class sends "
                "them",
                self._name,
                self.reason,
                self.spool.path,
            )

    def _add(self, records: Sequence[Record]) -> bool:
        """Write records to the file; returns whether it could be written."""
        try:
            if records:
                self.spool.add(records)
        except OSError as error:
            _logger.error(
                "%s: %d records are lost: %s cannot be written: %s", self._name, len(records), self.spool.path, error
            )
            return False
        return True

    def _deliver(self, records: Sequence[Record], send: Send) -> list[Record]:
        """Send records kind by kind, except for paused kinds; returns those that were not sent."""
        left: list[Record] = []
        errors: dict[str, BaseException | None] = {}
        for some in by_kind(records):
            kind = some[0].kind
            if self._is_paused(kind):
                left += [replace(record, reason=self._pauses[kind].reason) for record in some]
                continue
            rest, errors[kind] = deliver(send, some)
            left += rest
            self._report_refused(rest)
        self._update_pauses(errors)
        return left

    def _is_paused(self, kind: str) -> bool:
        return kind in self._pauses and self._clock() < self._pauses[kind].until

    def _update_pauses(self, errors: dict[str, BaseException | None]) -> None:
        was_paused = bool(self._pauses)
        for kind, error in errors.items():
            before = self._pauses.pop(kind, None)
            if error is not None:
                self.reason = reason_of(error)
                length_s = _PAUSE_S if before is None else min(2 * before.length_s, _LONGEST_PAUSE_S)
                self._pauses[kind] = _Pause(self._clock() + length_s, length_s, self.reason)
        if self._pauses and not was_paused:
            accepts_others = None in errors.values()
            _logger.log(
                logging.ERROR if accepts_others else logging.WARNING,
                "%s: the back-end accepts %s at present (%s); the run continues, and values are kept in %s until they "
                "can be sent",
                self._name,
                f"no {', '.join(self._pauses)}" if accepts_others else "nothing",
                self.reason,
                self.spool.path,
            )

    def _report_refused(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.is_refused and record.kind not in self._reported:
                self._reported.add(record.kind)
                _logger.error(
                    "%s: %s %r of step %d is refused (%s); it is kept in %s, as are further refused %s, and everything "
                    "else is sent",
                    self._name,
                    record.kind,
                    "/".join(next(iter(record.values), ())),
                    record.step,
                    record.reason,
                    self.spool.path,
                    record.kind,
                )

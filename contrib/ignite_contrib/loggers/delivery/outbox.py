"""What is logged to a back-end that is slow, or away: a thread sends it, and what cannot be sent is kept in a file."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ignite_contrib.loggers.delivery.delivery import Send, by_kind, deliver
from ignite_contrib.loggers.delivery.record import Record
from ignite_contrib.loggers.delivery.spool import Unsent
from ignite_contrib.loggers.redact import reason_of
from ignite_core.threads import start_thread

__all__ = ["Outbox"]

_logger = logging.getLogger(__name__)

#: Records that are sent at once.
_BATCH = 500

#: Seconds that a record waits for more of them, so that few calls carry many.
_GATHER_S = 0.5

#: What the thread computes, the training cannot meanwhile: after each call it rests so many times as long.
_RESTS = 50

#: Seconds until the back-end is tried again: this long at first, twice as long each time, at most so long.
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


@dataclass
class _Pause:
    """A kind of records that the back-end does not take at present."""

    until: float
    length_s: float
    reason: str


class Outbox:
    """Sends records in their order, in a thread. To put one in takes no time, whatever the back-end does.

    While the back-end takes no record of a kind, which is said once, these go to a file, until it takes them again:
    then those in the file are sent first. A record that it refuses, while it takes others, goes to the file with the
    reason; one error tells of the first one. What :meth:`close` finds unsent goes there too. A record may arrive twice,
    if a connection broke after it had come; none is left out.

    Args:
        send: Sends records, or raises. Only the thread calls it.
        path: Of the file; it is gone again when all that was in it is sent.
        name: Of the back-end, for messages.
        capacity: So many records wait in memory; those that have waited longest go to the file when there are more.
        clock: Gives the time in seconds.

    Example:
        >>> sent = []
        >>> outbox = Outbox(sent.extend, Path("unsent.jsonl"), "a list")
        >>> outbox.put(Record("scalars", 1, 0.0, {("loss",): 0.5}))
        >>> outbox.close()
        >>> [record.step for record in sent]
        [1]
    """

    def __init__(
        self,
        send: Send,
        path: Path,
        name: str,
        *,
        capacity: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unsent = Unsent(path)
        self._send = send
        self._name = name
        self._capacity = capacity
        self._clock = clock
        self._waiting: deque[Record] = deque()
        self._sending: list[Record] = []
        self._tries_again = False  # whether there are new records or not
        self._is_stuck = False  # neither the back-end nor the disk takes anything
        self._flushes = 0  # that wait now
        self._gather_s = _GATHER_S
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._pauses: dict[str, _Pause] = {}  # by kind
        self._told_of: set[str] = set()  # kinds of which one was refused
        self._reason = ""  # why the back-end took nothing last time
        self._pid = os.getpid()

    def put(self, record: Record) -> None:
        """Have a record sent after those before it."""
        with self._changed:
            self._waiting.append(record)
            if len(self._waiting) > self._capacity:
                self._make_room()
            if self._thread is None:
                self._start()
            if len(self._waiting) == 1 or len(self._waiting) >= _BATCH:  # else nobody waits for this one
                self._changed.notify_all()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all was sent, or is in the file, or nothing can be done, at most so many seconds.

        Returns:
            Whether all was sent or is in the file.
        """
        with self._changed:
            self._flushes += 1
            self._is_stuck = False  # so that it is tried at once
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._is_stuck or self._is_done(), timeout_s)
            finally:
                self._flushes -= 1
            return self._is_done()

    def close(self, timeout_s: float = 10.0) -> None:
        """Try once more to send what is left, for so many seconds; the rest goes to the file, and the thread ends.

        What is put in later starts another one.
        """
        if os.getpid() != self._pid:
            return  # a forked process has no thread, and what is to be sent is not its business
        with self._changed:
            thread = self._thread
            if thread is None and not self._waiting:
                return
            self._tries_again = thread is not None and bool(self.unsent.pending)
            for pause in self._pauses.values():
                pause.until = -math.inf
            self._changed.notify_all()
        self.flush(timeout_s)
        with self._changed:
            rest = [*self._sending, *self._waiting]
            self._sending, self._waiting, self._tries_again = [], deque(), False
            self._thread = None  # which it notices, sooner or later
            self._changed.notify_all()
            if rest:
                self._reason = self._reason or f"it took longer than {timeout_s:g} s"
                self._keep([replace(record, reason=self._reason) for record in rest])
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.1, timeout_s / 10))  # one that hangs in a call of the back-end goes on without records
        lost, self._waiting = len(self._waiting), deque()
        if lost:
            _logger.error("%s: %d records are lost: %s takes nothing more", self._name, lost, self.unsent.path)
        if self.unsent.pending:
            _logger.warning(
                "%s: not all that was logged has arrived (%s); the rest stands in %s, and resend(path) of such a "
                "logger sends it",
                self._name,
                self._reason,
                self.unsent.path,
            )

    def _start(self) -> None:
        try:
            self._thread = start_thread(self._work, f"{self._name} outbox", self.close, join_s=1.0)
        except RuntimeError:  # the interpreter ends
            rest, self._waiting = self._waiting, deque()
            self._keep(list(rest))

    def _work(self) -> None:
        me = threading.current_thread()
        while (taken := self._take(me)) is not None:
            began = time.thread_time()
            records = [record.read() for record in taken]
            del taken  # which may hold tensors
            with self._changed:
                if self._thread is me:
                    self._sending = records
            left = self._deliver_all(records)
            with self._changed:
                self._gather_s = max(_GATHER_S, _RESTS * (time.thread_time() - began))
                if self._thread is not me:
                    return  # it was closed meanwhile, which has seen to them
                is_kept = self._keep(left)
                self._sending, self._tries_again = [], False
                self._is_stuck = not is_kept
                self._changed.notify_all()
                if self._is_stuck:  # new records are no reason to try again sooner
                    self._changed.wait_for(lambda: not self._is_stuck or self._thread is not me, _PAUSE_S)

    def _is_done(self) -> bool:
        return not (self._waiting or self._sending or self._tries_again)

    def _make_room(self) -> None:
        """Write the older half to the file, or wait until there are twice as many. The lock is held."""
        if not self._keep([self._waiting.popleft() for _ in range(len(self._waiting) // 2)]):
            self._capacity *= 2

    def _take(self, me: threading.Thread) -> list[Record] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._tries_again or self._thread is not me)
            self._changed.wait_for(
                lambda: self._flushes or len(self._waiting) >= _BATCH or self._thread is not me, self._gather_s
            )
            if self._thread is not me:
                return None
            self._sending = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            return self._sending

    def _deliver_all(self, records: Sequence[Record]) -> Sequence[Record]:
        """Send what is in the file and then records; those that are left."""
        try:
            if any(not self._is_paused(kind) for kind in self.unsent.pending):
                self.unsent.sweep(self._deliver)
            return self._deliver(records)
        except Exception as error:  # of the file: all of this may have been sent, and is kept nevertheless
            self._reason = reason_of(error)
            return records

    def _deliver(self, records: Sequence[Record]) -> list[Record]:
        """Send records kind by kind, except for those that the back-end is given a rest from; what is left."""
        left: list[Record] = []
        errors: dict[str, BaseException | None] = {}
        for some in by_kind(records):
            kind = some[0].kind
            if self._is_paused(kind):
                left += [replace(record, reason=self._pauses[kind].reason) for record in some]
                continue
            rest, errors[kind] = deliver(self._send_if_open, some)
            left += rest
            self._tell_of_refused(rest)
        self._note(errors)
        return left

    def _is_paused(self, kind: str) -> bool:
        return kind in self._pauses and self._clock() < self._pauses[kind].until

    def _send_if_open(self, records: Sequence[Record]) -> None:
        if threading.current_thread() is not self._thread:
            raise InterruptedError("the outbox was closed, and the records are in the file")
        self._send(records)

    def _note(self, errors: Mapping[str, BaseException | None]) -> None:
        """Which kinds of records the back-end has taken, and why not the others."""
        if threading.current_thread() is not self._thread:
            return
        was_away = bool(self._pauses)
        for kind, error in errors.items():
            before = self._pauses.pop(kind, None)
            if error is not None:
                self._reason = reason_of(error)
                length_s = _PAUSE_S if before is None else min(2 * before.length_s, _LONGEST_PAUSE_S)
                self._pauses[kind] = _Pause(self._clock() + length_s, length_s, self._reason)
        if self._pauses and not was_away:
            is_there = None in errors.values()  # for other kinds
            _logger.log(
                logging.ERROR if is_there else logging.WARNING,
                "%s: takes %s at present (%s); the run goes on, and what is logged is kept in %s until it can be sent",
                self._name,
                f"no {', '.join(self._pauses)}" if is_there else "nothing",
                self._reason,
                self.unsent.path,
            )

    def _tell_of_refused(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.is_refused and record.kind not in self._told_of:
                self._told_of.add(record.kind)
                _logger.error(
                    "%s: %s %r of step %d is refused (%s); it is kept in %s, as are others of %s that are refused, and "
                    "everything else is sent",
                    self._name,
                    record.kind,
                    "/".join(next(iter(record.values), ())),
                    record.step,
                    record.reason,
                    self.unsent.path,
                    record.kind,
                )

    def _keep(self, records: Sequence[Record]) -> bool:
        """Write records to the file; if even that fails, they wait in memory. The lock is held."""
        try:
            if records:
                self.unsent.add([record.read() for record in records])
        except OSError:
            self._waiting.extendleft(reversed(records))
            return False
        return True

"""Send records from a background thread, so that logging takes no time, even if the back-end is slow or down."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from ignite_contrib.loggers.delivery.deliver import Send
from ignite_contrib.loggers.delivery.outbox import Outbox
from ignite_contrib.loggers.delivery.record import Record
from ignite_core.threads import start_thread

__all__ = ["BackgroundOutbox"]

_logger = logging.getLogger(__name__)

#: Records that are sent at once.
_BATCH = 500

#: Seconds that a record waits for others, so that few calls carry many.
_GATHER_S = 0.5

#: While the thread computes, training cannot (in Python): after each call it rests this many times as long.
_RESTS = 50

#: Seconds until the thread tries again if neither the back-end nor the disk accepts anything.
_STUCK_S = 1.0


class _ClosedError(BaseException):
    """Ends an attempt whose records were taken over by :meth:`BackgroundOutbox.close`."""


class BackgroundOutbox:
    """An :class:`~ignite_contrib.loggers.delivery.outbox.Outbox` with a queue and a thread that sends what is in it.

    The thread starts with the first record. :meth:`close` ends it; what it could not send is in the file then.

    Args:
        send: Sends records of one kind, or raises. Only the thread calls it.
        name: Name of the logger, for messages.
        path: The file for records that cannot be sent. By default a new one in the working folder.
        capacity: Largest number of records in memory; the older half goes to the file when there are more.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        send: Send,
        name: str,
        path: str | os.PathLike[str] | None = None,
        *,
        capacity: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = Outbox(send, name, path, clock=clock)
        self.spool, self.keep, self.resend = self._outbox.spool, self._outbox.keep, self._outbox.resend
        self._send = send
        self._name = name
        self._capacity = capacity
        self._waiting: deque[Record] = deque()
        self._sending: list[Record] = []
        self._retries = False  # whether to try again even without new records
        self._is_stuck = False  # neither the back-end nor the disk accepts anything
        self._flushes = 0  # calls of flush that wait now
        self._gather_s = _GATHER_S
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, record: Record) -> None:
        """Append a record to the queue."""
        with self._changed:
            self._waiting.append(record)
            if len(self._waiting) > self._capacity:
                self._make_room()
            if self._thread is None:
                self._start()
            if len(self._waiting) == 1 or len(self._waiting) >= _BATCH:  # otherwise the thread need not wake up
                self._changed.notify_all()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all records are sent or in the file, or nothing more can be done, at most ``timeout_s`` seconds.

        Returns:
            Whether all records are sent or in the file.
        """
        with self._changed:
            self._flushes += 1
            self._is_stuck = False  # try at once
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._is_stuck or self._is_done(), timeout_s)
            finally:
                self._flushes -= 1
            return self._is_done()

    def close(self, timeout_s: float = 10.0) -> None:
        """Try once more to send what is left, for at most ``timeout_s`` seconds; write the rest to the file.

        A later :meth:`put` starts a new thread.
        """
        with self._changed:
            thread = self._thread
            if thread is None and not self._waiting:
                return
            self._retries = thread is not None and bool(self.spool.pending)
            self._outbox.end_pauses()
            self._changed.notify_all()
        self.flush(timeout_s)
        with self._changed:
            rest = [*self._sending, *self._waiting]
            self._sending, self._waiting, self._retries = [], deque(), False
            self._thread = None  # the old thread notices it and ends
            self._changed.notify_all()
            if rest:
                self._outbox.reason = reason = self._outbox.reason or f"it took longer than {timeout_s:g} s"
                self._store([replace(record, reason=reason) for record in rest])
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.1, timeout_s / 10))  # a thread that hangs in the back-end continues without records
        lost, self._waiting = len(self._waiting), deque()
        if lost:
            _logger.error("%s: %d records are lost: %s cannot be written", self._name, lost, self.spool.path)
        self._outbox.report_rest()

    def _is_done(self) -> bool:
        return not (self._waiting or self._sending or self._retries)

    def _start(self) -> None:
        try:
            self._thread = start_thread(self._work, f"{self._name} outbox", self.close, join_s=1.0)
        except RuntimeError:  # the interpreter is ending
            rest, self._waiting = self._waiting, deque()
            self._store(list(rest))

    def _work(self) -> None:
        me = threading.current_thread()

        def send(records: Sequence[Record]) -> None:
            if self._thread is not me:
                raise _ClosedError
            try:
                self._send(records)
            except SystemExit as error:  # would end the thread
                raise RuntimeError(f"{type(error).__name__}: {error}") from error

        while (taken := self._take(me)) is not None:
            began = time.thread_time()
            records = [record.read() for record in taken]
            del taken  # it may hold tensors on a device
            with self._changed:
                if self._thread is me:
                    self._sending = records
            try:
                left = self._outbox.deliver(records, send)
            except _ClosedError:
                return
            with self._changed:
                self._gather_s = max(_GATHER_S, _RESTS * (time.thread_time() - began))
                if self._thread is not me:
                    return
                self._is_stuck = not self._store(left)
                self._sending, self._retries = [], False
                self._changed.notify_all()
                if self._is_stuck:  # new records are no reason to try again sooner
                    self._changed.wait_for(lambda: not self._is_stuck or self._thread is not me, _STUCK_S)

    def _take(self, me: threading.Thread) -> list[Record] | None:
        """Wait for records; None if the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._retries or self._thread is not me)
            self._changed.wait_for(
                lambda: self._flushes or len(self._waiting) >= _BATCH or self._thread is not me, self._gather_s
            )
            if self._thread is not me:
                return None
            self._sending = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            return self._sending

    def _make_room(self) -> None:
        """Write the older half of the queue to the file, or double the capacity. The lock is held."""
        if not self._store([self._waiting.popleft() for _ in range(len(self._waiting) // 2)]):
            self._capacity *= 2

    def _store(self, records: Sequence[Record]) -> bool:
        """Write records to the file; if it cannot be written, put them back in the queue. The lock is held."""
        try:
            if records:
                self.spool.add([record.read() for record in records])
        except OSError:
            self._waiting.extendleft(reversed(records))
            return False
        return True

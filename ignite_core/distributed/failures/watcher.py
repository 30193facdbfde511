"""Detect that another rank has failed or is lost, while this one waits or computes.

A collective cannot carry an error: the other ranks wait in one that the failing rank never joins, and torch cannot
interrupt them. So each rank has a thread that reads an error store outside of all ranks (see ``error_store.py``) and
sends heartbeats to it. A failure reaches the program in one of three ways: an engine raises it after the current step,
a collective of the library raises it while it waits, and where neither happens in time the process is ended.

A failure stays active until its rank withdraws it by going on with another run or collective. Withdrawal is possible
until another rank has abandoned a collective because of the failure: from then on the ranks are out of step.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import re
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.distributed import DistError

from ignite_core.distributed.failures.error_store import ErrorStore
from ignite_core.distributed.failures.whereabouts import Whereabouts
from ignite_core.exceptions import RankFailed

__all__ = ["EXIT_CODE", "Watcher"]

logger = logging.getLogger(__name__)

#: Exit code of a process that was blocked when another rank failed ("temporary failure" in the sysexits of BSD).
EXIT_CODE = 75

#: How often a rank sends a heartbeat, and reads the error store; with many ranks less often, to reduce its load.
_BEAT_S, _CHECK_S, _CHECK_S_PER_RANK = 1.0, 0.1, 0.001

#: A rank that does not answer for so long after a connection broke is lost.
_ANSWER_S = 3.0

#: A rank without heartbeats is lost after the time limit of the collectives, clamped to these bounds.
_SILENCE_S = (10.0, 300.0)

#: How long a rank that fails at the start waits for the error store to open.
_OPEN_S = 10.0

#: How long to wait for the thread at the end, if the store does not answer.
_STOP_S = 30.0

#: How many characters of a traceback are reported, from its end.
_TRACE = 20_000

#: How torch's errors say that another process does not answer any more.
_NETWORK = re.compile(r"gloo|nccl|connection (closed|reset) by peer|broken pipe", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class _Failure:
    """A failure in the error store."""

    number: int
    ranks: tuple[int, ...]
    message: str
    may_be_withdrawn: bool


class Watcher:
    """Watches the other ranks, and reports failures of this one.

    Args:
        rank: Rank of this process.
        world_size: Number of processes.
        open_store: Called in the watcher's thread; returns None if the event is set first.
        timeout_s: The time limit of collectives.
        abort_grace_s: How long this process may stay blocked after another rank has failed.
        notify: Called by the thread with the active failure, repeatedly until it was raised.

    Attributes:
        is_healthy: Nothing has failed on any rank; collectives need no further check.
        has_failed: Something has failed since the start, so pending collectives may never end.
        handling: How many engines run their handlers of EXCEPTION_RAISED.
        whereabouts: Where this process waits, and where the other ranks are.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        open_store: Callable[[threading.Event], ErrorStore | None],
        timeout_s: float,
        abort_grace_s: float,
        notify: Callable[[RankFailed], None],
    ) -> None:
        self.rank, self.world_size = rank, world_size
        self.is_healthy, self.has_failed = True, False
        self.handling = 0
        self._open_store = open_store
        self._silence_s = min(max(timeout_s, _SILENCE_S[0]), _SILENCE_S[1])
        self._grace_s = abort_grace_s
        self._notify = notify
        self._lock = threading.RLock()
        self.whereabouts = Whereabouts(
            rank,
            lambda number: self._call(ErrorStore.post_once, f"where_{number}", {"kind": "where"}),
            lambda answer: self._call(ErrorStore.post, answer),
        )
        self._store: ErrorStore | None = None
        self._opened = threading.Event()  # also set when it cannot be opened
        self._ending = threading.Event()
        self._failures: dict[int, _Failure] = {}  # of other ranks, by number of their entry
        self._lost: set[int] = set()
        self._active: _Failure | None = None  # the first failure of another rank that is not in its grace period
        self._active_since = 0.0
        self._is_delivered = False
        self._own: tuple[int, str] | None = None  # this rank's failure until it is withdrawn: its entry and text
        self._grace_deadline = 0.0
        self._in_grace: set[int] = set()  # failures that may be withdrawn until then
        self._out_of_step: str | None = None  # why the ranks are out of step
        self._last_read = 0
        self._searched_at = -_ANSWER_S
        self._thread = threading.Thread(target=self._watch, name="ignite_core watcher", daemon=True)
        self._thread.start()

    def wait_until_open(self) -> None:
        """Wait until the error store is open, or cannot be opened, or that takes too long."""
        self._opened.wait(_OPEN_S)

    def stop(self) -> None:
        """Deregister this rank, and end the thread."""
        self._ending.set()
        self._call(ErrorStore.deregister)
        self._thread.join(_STOP_S)

    def report(self, error: BaseException) -> None:
        """Report an error to the other ranks, once."""
        if self._own is not None and error.__dict__.get("_ignite_core_entry") == self._own[0]:
            return
        self.wait_until_open()
        trace = "".join(traceback.format_exception(error))[-_TRACE:]
        number = self._call(ErrorStore.post, {"kind": "failed", "ranks": [self.rank], "message": trace})
        if number is not None:
            error.__dict__["_ignite_core_entry"] = number
            with self._lock:
                self._own = number, f"{type(error).__name__}: {error}"
                self._update()

    def explain(self, error: BaseException) -> RankFailed | None:
        """If the error says that a connection to another rank broke: the failure or loss of that rank."""
        is_of_network = isinstance(error, DistError) or _NETWORK.search(str(error))
        if not isinstance(error, RuntimeError) or not is_of_network:
            return None
        with self._lock:
            self._grace_deadline = 0.0  # a rank that broke a connection does not go on
            self._update()
        if self._active is None and time.monotonic() - self._searched_at > _ANSWER_S:
            self._search(str(error).splitlines()[0])
        return self.deliver()

    def departed(self) -> list[int]:
        """The other ranks that have deregistered."""
        heartbeats: list[int] = self._call(ErrorStore.heartbeats) or []
        return [rank for rank, count in enumerate(heartbeats) if ErrorStore.has_left(count) and rank != self.rank]

    def locate_others(self) -> str:
        """Where the other ranks are, as text for a message."""
        self.wait_until_open()
        departed = self.departed()
        others = [rank for rank in range(self.world_size) if rank != self.rank and rank not in departed]
        return self.whereabouts.find(others, _ANSWER_S) if self._store is not None and others else ""

    def _search(self, why: str) -> None:
        """Ask all ranks for a heartbeat, and declare those lost that do not answer."""
        self.wait_until_open()
        before, began = self._call(ErrorStore.heartbeats), time.monotonic()
        question = self._call(ErrorStore.post, {"kind": "question"})
        if before is None or question is None:
            return
        silent = [rank for rank in range(self.world_size) if rank != self.rank]
        while (silent or self._last_read < question) and self._active is None:  # earlier entries are read first
            is_over = time.monotonic() - began >= _ANSWER_S  # before the last read, as this process may be slow
            counts = self._call(ErrorStore.heartbeats)
            if counts is None:
                return
            silent = [rank for rank in silent if counts[rank] == before[rank] and not ErrorStore.has_left(counts[rank])]
            if is_over:
                break
            time.sleep(_CHECK_S)
        self._searched_at = time.monotonic()
        if silent and self._active is None:
            self._declare_lost(silent, f"no answer in {_ANSWER_S:g} s when rank {self.rank} met: {why}")

    def _declare_lost(self, ranks: list[int], why: str) -> None:
        entry = {"kind": "lost", "ranks": ranks, "message": why}
        number = self._call(ErrorStore.post, entry)
        if number is not None:
            self._process(number, entry)  # without waiting for the thread to read it

    def deliver(self) -> RankFailed | None:
        """The active failure of another rank, to be raised; the thread does not end this process after that."""
        active = self._active
        if active is None:
            return None
        self._is_delivered = True
        return RankFailed(active.message, active.ranks)

    def begin(self, operation: str) -> None:
        """Call before a collective, unless all ranks are healthy: raise if it cannot succeed."""
        if not self.handling:
            self.resume()
        elif self._own is not None:
            raise RankFailed(
                f"idist.{operation}: rank {self.rank} of {self.world_size}, this one, has failed and the others raise "
                f"RankFailed, so its handlers of EXCEPTION_RAISED cannot use collectives. The failure: {self._own[1]}",
                (self.rank,),
            )
        found = None if self._out_of_step and not self.handling else self.deliver()
        if found is not None:
            raise found
        if self._out_of_step is not None:
            raise RuntimeError(f"idist.{operation}: {self._out_of_step}")

    def abandon(self, operation: str) -> None:
        """Call during a collective: raise the active failure, unless its rank withdraws it."""
        active = self._active
        if active is None:
            return
        if active.may_be_withdrawn and not self._call(ErrorStore.resolve, active.number, "acted on"):
            return  # its rank went on first, and comes to the collective
        with self._lock:
            self._out_of_step = (
                f"rank {self.rank} left a collective (idist.{operation}) because of another rank's failure, so the "
                "ranks are out of step; call idist.finalize() and then idist.initialize() on all of them"
            )
            self._is_delivered = True
            self._update()
        raise RankFailed(active.message, active.ranks)

    def resume(self) -> None:
        """Call when a new run or collective begins: withdraw this rank's failure, and give the others time to do so."""
        with self._lock:
            if self._own is None and not self._is_delivered:
                return
            own, self._own, self._is_delivered = self._own, None, False
            self._grace_deadline, self._in_grace = time.monotonic() + self._grace_s, set(self._failures)
            if own is not None and not self._call(ErrorStore.resolve, own[0], "withdrawn"):
                self._out_of_step = (
                    f"rank {self.rank} went on after its failure ({own[1]}), but another rank had left a collective "
                    "because of it, so the ranks are out of step; call idist.finalize() and then idist.initialize() on "
                    "all of them"
                )
            self._update()
        if own is not None:
            self._call(ErrorStore.post, {"kind": "withdrawn", "entry": own[0]})

    def _watch(self) -> None:
        try:
            self._store = self._open_store(self._ending)
        except (RuntimeError, OSError) as error:
            logger.warning("rank %d of %d is not watched by the others: %s", self.rank, self.world_size, error)
        self._call(ErrorStore.beat)  # a rank without any heartbeat is not missed
        self._opened.set()
        neighbour = _Neighbour(self.rank, self.world_size)
        check_s = max(_CHECK_S, _CHECK_S_PER_RANK * self.world_size)
        while self._store is not None and not self._ending.wait(check_s):
            self._check(neighbour)

    def _check(self, neighbour: _Neighbour) -> None:
        while (found := self._call(ErrorStore.read)) is not None:
            self._process(*found)
            self._last_read = found[0]
            self._call(ErrorStore.beat)
        if neighbour.is_due():
            self._call(ErrorStore.beat)
            self._call(ErrorStore.skip_gap)
            silent_s = self._call(neighbour.silence, self._lost)
            if silent_s is not None and silent_s > self._silence_s:
                self._declare_lost([neighbour.rank], f"no heartbeat for {silent_s:.0f} s")
        with self._lock:
            self._update()
            active = None if self._is_delivered or self._own is not None else self._active
        if active is not None:
            if time.monotonic() - self._active_since >= self._grace_s:
                self._end_process(active)
            self._notify(RankFailed(active.message, active.ranks))

    def _process(self, number: int, entry: dict[str, Any]) -> None:
        """Process an entry of the error store; idempotent."""
        self.whereabouts.take(entry)
        with self._lock:
            ranks, kind = tuple(entry.get("ranks", ())), entry["kind"]
            who = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {list(ranks)}"
            if kind == "failed" and ranks != (self.rank,):
                message = f"{who} of {self.world_size} has failed:\n\n{entry['message']}"
                self._failures[number] = _Failure(number, ranks, message, True)
            elif kind == "lost":
                self._lost.update(ranks)
                message = f"lost: {who} of {self.world_size}, {entry['message']}"
                self._failures[number] = _Failure(number, ranks, message, False)
            elif kind == "withdrawn":
                self._failures.pop(entry["entry"], None)
            self._update()

    def _update(self) -> None:
        """Find the active failure. The lock is held."""
        now = time.monotonic()
        effective = (
            failure
            for number, failure in sorted(self._failures.items())
            if now >= self._grace_deadline or number not in self._in_grace or not failure.may_be_withdrawn
        )
        first = next(effective, None)
        if first is not self._active:
            self._active, self._active_since = first, now
        self.is_healthy = not (self._failures or self._own or self._is_delivered or self._out_of_step)
        self.has_failed |= not self.is_healthy

    def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a method of the error store; None if it cannot be reached, from then on permanently."""
        store = self._store
        if store is None:
            return None
        try:
            return method(store, *args)
        except RuntimeError as error:  # torch's errors of the network
            self._store = None
            if not self._ending.is_set():
                logger.warning("rank %d of %d is no longer watched: %s", self.rank, self.world_size, error)
            return None

    def _end_process(self, failure: _Failure) -> None:
        """End a process that is blocked, without any call that could block too."""
        _write(
            f"rank {self.rank} of {self.world_size} is blocked, {self._grace_s:g} s after another one has failed. It "
            f"is ended with exit code {EXIT_CODE}; where it was:\n"
        )
        faulthandler.dump_traceback(2, all_threads=True)
        _write(f"RankFailed: {failure.message}\n")
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()
        os._exit(EXIT_CODE)


class _Neighbour:
    """The next rank in a ring that has not left: each rank has one, so each one is watched."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = self._own = rank
        self._world_size = world_size
        self._heartbeats = -1
        self._changed_at = self._checked_at = -_BEAT_S

    def is_due(self) -> bool:
        """Whether it is time to check it."""
        return time.monotonic() - self._checked_at >= _BEAT_S

    def silence(self, store: ErrorStore, lost: set[int]) -> float | None:
        """For how long, in seconds, it has sent no heartbeat; None if there is no other rank any more."""
        now = time.monotonic()
        was_stopped = now - self._checked_at > 3 * _BEAT_S  # this process was stopped itself, and may have missed some
        self._checked_at = now
        if was_stopped:
            self._changed_at = now
        for step in range(1, self._world_size):
            rank = (self._own + step) % self._world_size
            count = store.heartbeats_of(rank)
            # 0: it may have left before it opened the store
            if count == 0 or rank in lost or ErrorStore.has_left(count):
                continue
            if (rank, count) != (self.rank, self._heartbeats):
                self.rank, self._heartbeats, self._changed_at = rank, count, now
            return now - self._changed_at
        return None


def _write(text: str) -> None:
    """Write to the standard error, past Python's buffers and their locks."""
    os.write(2, f"\nignite_core: {text}".encode(errors="replace"))

"""What a rank does to learn at once that another one has failed or is lost, wherever it waits.

A reduction cannot carry an error: the others sit in one that the failing rank never joins, and torch has no way to free
them. So each rank has a thread that reads a board outside of all ranks (see ``board.py``) and gives signs of life
there. What it reads reaches the program in one of three ways: an engine raises it after the current step, a collective
of the library raises it while it waits, and where neither comes to it in time the process is ended.

A failure on the board stands until its rank withdraws it, because it went on after all. The first of two things decides
whether that is still possible: that it went on, or that another rank gave up a collective, after which nothing fits.
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

from ignite_core.distributed.failures.error_store import Board
from ignite_core.distributed.failures.whereabouts import Whereabouts
from ignite_core.exceptions import RankFailed

__all__ = ["EXIT_CODE", "Watcher"]

logger = logging.getLogger(__name__)

#: With it a process ends that was blocked when another rank failed ("temporary failure" in the sysexits of BSD).
EXIT_CODE = 75

#: How often a rank gives a sign of life, and reads the board; with many ranks less often, to spare the store.
_BEAT_S, _LOOK_S, _LOOK_S_PER_RANK = 1.0, 0.1, 0.001

#: Who has not answered for so long when a connection broke is lost.
_ANSWER_S = 3.0

#: A rank without signs of life is lost after the time limit of the collectives, if that lies within these bounds.
_SILENCE_S = (10.0, 300.0)

#: How long to wait for the board at most, where it is being opened while this rank fails already.
_OPEN_S = 10.0

#: How long to wait for the thread at the end; that of a store which does not answer.
_STOP_S = 30.0

#: How much of a traceback is told, in characters: the end, where the error stands.
_TRACE = 20_000

#: What torch's errors say when another process does not answer any more.
_NETWORK = re.compile(r"gloo|nccl|connection (closed|reset) by peer|broken pipe", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class _Failure:
    """What stands on the board."""

    number: int
    ranks: tuple[int, ...]
    message: str
    may_end: bool  # its rank may go on


class Watcher:
    """Watches the other ranks, and lets them know of this one.

    Args:
        rank: Of this process.
        world_size: Number of processes.
        open_board: Called in the thread; it may take some time, and gives None if the event is set before.
        timeout_s: The time limit of collectives.
        abort_grace_s: How long this process may go on, blocked, when another rank has failed.
        tell: Called by the thread with what is known, again and again until that was raised.

    Attributes:
        is_calm: Nothing has failed anywhere; collectives may begin without a further look.
        has_failed: Something has failed since the start, so what the ranks have begun together may never end.
        handling: How many engines run their handlers of EXCEPTION_RAISED.
        whereabouts: What this process waits for, and what others do.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        open_board: Callable[[threading.Event], Board | None],
        timeout_s: float,
        abort_grace_s: float,
        tell: Callable[[RankFailed], None],
    ) -> None:
        self.rank, self.world_size = rank, world_size
        self.is_calm, self.has_failed = True, False
        self.handling = 0
        self._open_board = open_board
        self._silence_s = min(max(timeout_s, _SILENCE_S[0]), _SILENCE_S[1])
        self._grace_s = abort_grace_s
        self._tell = tell
        self._lock = threading.RLock()
        self.whereabouts = Whereabouts(
            rank,
            lambda number: self._ask(Board.post_once, f"where_{number}", {"kind": "where"}),
            lambda answer: self._ask(Board.post, answer),
        )
        self._board: Board | None = None
        self._opened = threading.Event()  # or it is clear that it never will be
        self._ending = threading.Event()
        self._failures: dict[int, _Failure] = {}
        self._lost: set[int] = set()
        self._known: _Failure | None = None  # what is believed of another rank
        self._known_since = 0.0
        self._is_delivered = False
        self._own: tuple[int, str] | None = None  # this rank's failure, while it stands: the entry, and what it was
        self._patience: tuple[float, set[int]] = (0.0, set())  # until when to wait for what to be withdrawn
        self._broken: str | None = None  # why the ranks are out of step
        self._read_to = 0  # the last entry that was read
        self._searched = -_ANSWER_S
        self._thread = threading.Thread(target=self._watch, name="ignite_core watcher", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> RankFailed | None:
        """What is known, and believed, of the failure of another rank."""
        known = self._known
        return None if known is None else RankFailed(known.message, known.ranks)

    def wait_until_open(self) -> None:
        """Wait until the board is open, or never will be, or that takes too long."""
        self._opened.wait(_OPEN_S)

    def stop(self) -> None:
        """Take leave of the others, and end the thread."""
        self._ending.set()
        self._ask(Board.leave)
        self._thread.join(_STOP_S)

    # ------------------------------------------------------------------------------------------ what this rank tells

    def report(self, error: BaseException) -> None:
        """Tell the others of an error, once."""
        if self._own is not None and error.__dict__.get("_ignite_core_entry") == self._own[0]:
            return
        self.wait_until_open()
        trace = "".join(traceback.format_exception(error))[-_TRACE:]
        number = self._ask(Board.post, {"kind": "failed", "ranks": [self.rank], "message": trace})
        if number is not None:
            error.__dict__["_ignite_core_entry"] = number
            with self._lock:
                self._own = number, f"{type(error).__name__}: {error}"
                self._judge()

    def explain(self, error: BaseException) -> RankFailed | None:
        """If a connection to another rank broke: who has failed or is lost."""
        is_of_network = isinstance(error, DistError) or _NETWORK.search(str(error))
        if not isinstance(error, RuntimeError) or not is_of_network:
            return None
        with self._lock:
            self._patience = 0.0, set()  # who has broken a connection does not go on
            self._judge()
        if self._known is None and time.monotonic() - self._searched > _ANSWER_S:
            self._search(str(error).splitlines()[0])
        return self.deliver()

    def gone(self) -> list[int]:
        """The other ranks that have left."""
        signs: list[int] = self._ask(Board.signs) or []
        return [rank for rank, sign in enumerate(signs) if Board.has_left(sign) and rank != self.rank]

    def find_others(self) -> str:
        """Where the other ranks are that have not left, in words."""
        self.wait_until_open()
        gone = self.gone()
        others = [rank for rank in range(self.world_size) if rank != self.rank and rank not in gone]
        return self.whereabouts.find(others, _ANSWER_S) if self._board is not None and others else ""

    def _search(self, why: str) -> None:
        """Ask all ranks for a sign of life; those that do not answer are lost. All ranks hear of it."""
        self.wait_until_open()
        before, began = self._ask(Board.signs), time.monotonic()
        question = self._ask(Board.post, {"kind": "question"})
        if before is None or question is None:
            return
        silent = [rank for rank in range(self.world_size) if rank != self.rank]
        while (silent or self._read_to < question) and self._known is None:  # what was told before is read first
            is_over = time.monotonic() - began >= _ANSWER_S  # asked before the last look, as this process may be slow
            signs = self._ask(Board.signs)
            if signs is None:
                return
            silent = [rank for rank in silent if signs[rank] == before[rank] and not Board.has_left(signs[rank])]
            if is_over:
                break
            time.sleep(_LOOK_S)
        self._searched = time.monotonic()
        if silent and self._known is None:
            self._declare_lost(silent, f"no answer in {_ANSWER_S:g} s when rank {self.rank} met: {why}")

    def _declare_lost(self, ranks: list[int], why: str) -> None:
        entry = {"kind": "lost", "ranks": ranks, "message": why}
        number = self._ask(Board.post, entry)
        if number is not None:
            self._take(number, entry)  # not only when it is read

    # ------------------------------------------------------------------------------------- what reaches the program

    def deliver(self) -> RankFailed | None:
        """What is known, to be raised: from now on the process is left alone."""
        found = self.failure
        self._is_delivered |= found is not None
        return found

    def begin(self, operation: str) -> None:
        """Before a collective, if not all is calm.

        Raises:
            RankFailed: If another rank has failed; or this one, in handlers of that.
            RuntimeError: If the ranks are out of step.
        """
        if not self.handling:
            self.go_on()
        elif self._own is not None:
            raise RankFailed(
                f"idist.{operation}: rank {self.rank} of {self.world_size}, this one, has failed and told the others "
                f"so; they do not come to a collective in a handler of that. It was {self._own[1]}",
                (self.rank,),
            )
        is_given_up = self._broken is not None and not self.handling  # a handler is told of the failure, not of that
        found = None if is_given_up else self.deliver()
        if found is not None:
            raise found
        if self._broken is not None:
            raise RuntimeError(f"idist.{operation}: {self._broken}")

    def give_up(self, operation: str) -> None:
        """During a collective: raise what is known, unless it is withdrawn.

        Raises:
            RankFailed: If another rank has failed.
        """
        known = self._known
        if known is None:
            return
        if known.may_end and not self._ask(Board.settle, known.number, "acted on"):
            return  # its rank went on first, and comes
        with self._lock:
            self._broken = (
                f"rank {self.rank} gave up a collective (idist.{operation}) when it heard of another one's failure, so "
                "the ranks are out of step; call idist.finalize() and then idist.initialize() on all of them"
            )
            self._is_delivered = True
            self._judge()
        raise RankFailed(known.message, known.ranks)

    def go_on(self) -> None:
        """A new run or collective begins: what failed before is over, if the others go on too.

        This rank withdraws its report. Those of others that still stand get some time to be withdrawn.
        """
        with self._lock:
            if self._own is None and not self._is_delivered:
                return
            own, self._own, self._is_delivered = self._own, None, False
            self._patience = time.monotonic() + self._grace_s, set(self._failures)
            if own is not None and not self._ask(Board.settle, own[0], "withdrawn"):
                self._broken = (
                    f"rank {self.rank} went on after its failure ({own[1]}), but another one had given up a collective "
                    "by then, so the ranks are out of step; call idist.finalize() and then idist.initialize() on all"
                )
            self._judge()
        if own is not None:
            self._ask(Board.post, {"kind": "withdrawn", "entry": own[0]})

    # ---------------------------------------------------------------------------------------------------- the thread

    def _watch(self) -> None:
        try:
            self._board = self._open_board(self._ending)
        except (RuntimeError, OSError) as error:
            logger.warning("rank %d of %d is not watched by the others: %s", self.rank, self.world_size, error)
        self._ask(Board.beat)  # whoever is known once is missed
        self._opened.set()
        neighbour = _Neighbour(self.rank, self.world_size, self._silence_s)
        look_s = max(_LOOK_S, _LOOK_S_PER_RANK * self.world_size)
        while self._board is not None and not self._ending.wait(look_s):
            self._look(neighbour)

    def _look(self, neighbour: _Neighbour) -> None:
        while (found := self._ask(Board.read)) is not None:
            self._take(*found)
            self._read_to = found[0]
            self._ask(Board.beat)
        if neighbour.is_due():
            self._ask(Board.beat)
            self._ask(Board.skip_hole)
            silent_s = self._ask(neighbour.silence, self._lost)
            if silent_s is not None and silent_s > self._silence_s:
                self._declare_lost([neighbour.rank], f"no sign of life for {silent_s:.0f} s")
        with self._lock:
            self._judge()
            known = None if self._is_delivered or self._own is not None else self._known
        if known is not None:
            if time.monotonic() - self._known_since >= self._grace_s:
                self._end_process(known)
            self._tell(RankFailed(known.message, known.ranks))

    def _take(self, number: int, entry: dict[str, Any]) -> None:
        """Take an entry of the board for true; to do so again is no harm."""
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
            self._judge()

    def _judge(self) -> None:
        """Decide what to believe of what stands on the board. The lock is held."""
        now = time.monotonic()
        until, patient_with = self._patience
        believed = (
            self._failures[number]
            for number in sorted(self._failures)
            if now >= until or number not in patient_with or not self._failures[number].may_end
        )
        first = next(believed, None)
        if first is not self._known:
            self._known, self._known_since = first, now
        self.is_calm = not (self._failures or self._own or self._is_delivered or self._broken)
        self.has_failed |= not self.is_calm

    def _ask(self, act: Callable[..., Any], *args: Any) -> Any:
        """Do something with the board; None if it is out of reach, from then on for good."""
        board = self._board
        if board is None:
            return None
        try:
            return act(board, *args)
        except RuntimeError as error:  # torch's errors of the network
            self._board = None
            if not self._ending.is_set():
                logger.warning("rank %d of %d watches no longer: %s", self.rank, self.world_size, error)
            return None

    def _end_process(self, known: _Failure) -> None:
        """End a process that is blocked. Nothing is used that could wait for it."""
        _say(
            f"rank {self.rank} of {self.world_size} is blocked, {self._grace_s:g} s after another one has failed. It "
            f"is ended with exit code {EXIT_CODE}; where it was:\n"
        )
        faulthandler.dump_traceback(2, all_threads=True)
        _say(f"RankFailed: {known.message}\n")
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()
        os._exit(EXIT_CODE)


class _Neighbour:
    """The next rank that is still there, in a ring: each rank has one, and so each one is looked at."""

    def __init__(self, rank: int, world_size: int, limit_s: float) -> None:
        self.rank = self._own = rank
        self._world_size = world_size
        self._limit_s = limit_s
        self._sign = -1
        self._heard = self._looked = -_BEAT_S

    def is_due(self) -> bool:
        """Whether it is time to look."""
        return time.monotonic() - self._looked >= _BEAT_S

    def silence(self, board: Board, lost: set[int]) -> float | None:
        """For how long, in seconds, it has given no sign of life; None if there is no other rank any more."""
        now = time.monotonic()
        was_away = now - self._looked > 3 * _BEAT_S  # this process was stopped itself: who knows what it has missed
        self._looked = now
        if was_away:
            self._heard = now
        for step in range(1, self._world_size):
            rank = (self._own + step) % self._world_size
            sign = board.watch(rank)
            if sign == 0 or rank in lost or Board.has_left(sign):  # 0: it may have left before it had the board
                continue
            if (rank, sign) != (self.rank, self._sign):
                self.rank, self._sign, self._heard = rank, sign, now
            return now - self._heard
        return None


def _say(text: str) -> None:
    """Write to the standard error, past Python's buffers and their locks."""
    os.write(2, f"\nignite_core: {text}".encode(errors="replace"))

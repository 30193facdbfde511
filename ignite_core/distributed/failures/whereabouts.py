"""Where the ranks are when one of them does not come to a collective: they ask each other over the board.

The thread of the watcher answers, also for a program that hangs. A rank that waits in a collective of the library
answers with its name; any other with the stack of its main thread.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["Whereabouts"]

#: How many of the innermost calls are told.
_CALLS: Final = 12

#: How many ranks are named.
_RANKS: Final = 4

#: How often to look for answers, in seconds.
_LOOK_S: Final = 0.05


class Whereabouts:
    """Asks the other ranks where they are, and answers them.

    Args:
        rank: Of this process.
        ask: Posts a question that all ranks answer, unless another one has posted the one of this number.
        answer: Posts an answer.

    Attributes:
        waits: The collective of the library that this process is in; None: it is elsewhere.
    """

    def __init__(self, rank: int, ask: Callable[[int], object], answer: Callable[[dict[str, Any]], object]) -> None:
        self.waits: str | None = None
        self._rank = rank
        self._ask = ask
        self._answer = answer
        self._questions = 0
        self._asked_at = -float("inf")
        self._answers: dict[int, Mapping[str, Any]] = {}

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take in an entry of the board; called by the thread of the watcher."""
        if entry["kind"] == "where":
            self._questions += 1
            self._answers = {}
            self._asked_at = time.monotonic()
            calls = [] if self.waits else _calls_of_main_thread()
            self._answer({"kind": "here", "rank": self._rank, "waits": self.waits, "calls": calls})
        elif entry["kind"] == "here":
            self._answers[entry["rank"]] = entry

    def find(self, others: Sequence[int], timeout_s: float) -> str:
        """Ask other ranks where they are, and wait for the answers for some seconds; words for a message."""
        began = time.monotonic()
        if began - self._asked_at > timeout_s:  # else another rank has just asked
            self._ask(self._questions)
        while time.monotonic() - began < timeout_s and not (
            self._asked_at > began - timeout_s and self._answers.keys() >= set(others)
        ):
            time.sleep(_LOOK_S)
        return _words({rank: self._answers.get(rank) for rank in others})


def _calls_of_main_thread() -> list[str]:
    """The innermost calls, the last one first; without their source, which may be on the disk that hangs."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    places = [] if frame is None else [(one.f_code, line) for one, line in traceback.walk_stack(frame)]
    return [f"{code.co_filename}, line {line}, in {code.co_qualname}" for code, line in places[:_CALLS]]


def _words(answers: Mapping[int, Mapping[str, Any] | None]) -> str:
    waiting = [f"rank {rank} in {found['waits']}" for rank, found in answers.items() if found and found["waits"]]
    silent = [rank for rank, found in answers.items() if found is None]
    elsewhere = {rank: found["calls"] for rank, found in answers.items() if found and not found["waits"]}
    said = []
    if silent:
        said.append(f"ranks {silent[:_RANKS]} have not come and do not answer")
    said += [
        f"rank {rank} has not come; it is at:\n  " + "\n  ".join(calls)
        for rank, calls in list(elsewhere.items())[:_RANKS]
    ]
    if not said:
        said.append(f"the other ranks wait elsewhere: {', '.join(waiting[:_RANKS])}")
    return "\n".join(said)

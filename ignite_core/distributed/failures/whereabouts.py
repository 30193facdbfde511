"""Find out where the other ranks are when one of them does not reach a collective: they ask through the error store.

The watcher's thread answers, so a program that hangs answers too. A rank that waits in a collective of the library
answers with its name, any other with the stack of its main thread.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["Whereabouts"]

#: How many of the innermost calls are reported.
_CALLS: Final = 12

#: How many ranks are named.
_RANKS: Final = 4

#: How often to check for answers, in seconds.
_CHECK_S: Final = 0.05


class Whereabouts:
    """Asks the other ranks where they are, and answers them.

    ``ask`` posts a question that all ranks answer, unless another rank has posted the one with this number; ``answer``
    posts an answer. ``waits`` is the collective of the library in which this process is, or None.
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
        """Process an entry of the error store; called by the watcher's thread."""
        if entry["kind"] == "where":
            self._questions += 1
            self._answers = {}
            self._asked_at = time.monotonic()
            calls = [] if self.waits else _calls_of_main_thread()
            self._answer({"kind": "here", "rank": self._rank, "waits": self.waits, "calls": calls})
        elif entry["kind"] == "here":
            self._answers[entry["rank"]] = entry

    def find(self, others: Sequence[int], timeout_s: float) -> str:
        """Ask other ranks where they are, wait for the answers, and return them as text for a message."""
        began = time.monotonic()
        if began - self._asked_at > timeout_s:  # else another rank has just asked
            self._ask(self._questions)
        while time.monotonic() - began < timeout_s and not (
            self._asked_at > began - timeout_s and self._answers.keys() >= set(others)
        ):
            time.sleep(_CHECK_S)
        return _describe({rank: self._answers.get(rank) for rank in others})


def _calls_of_main_thread() -> list[str]:
    """The innermost calls, the last one first; without source lines, which may be on a disk that hangs."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    places = [] if frame is None else [(one.f_code, line) for one, line in traceback.walk_stack(frame)]
    return [f"{code.co_filename}, line {line}, in {code.co_qualname}" for code, line in places[:_CALLS]]


def _describe(answers: Mapping[int, Mapping[str, Any] | None]) -> str:
    silent = [rank for rank, answer in answers.items() if answer is None][:_RANKS]
    elsewhere = {rank: answer["calls"] for rank, answer in answers.items() if answer and not answer["waits"]}
    lines = [f"ranks {silent} have not arrived and do not answer"] if silent else []
    for rank, calls in list(elsewhere.items())[:_RANKS]:
        lines.append("\n  ".join([f"rank {rank} has not arrived; it is at:", *calls]))
    if not lines:
        waiting = [f"rank {rank} in {answer['waits']}" for rank, answer in answers.items() if answer]
        lines.append(f"the other ranks wait in other collectives: {', '.join(waiting[:_RANKS])}")
    return "\n".join(lines)

"""Signals that are looked at, and go on to whom they went before."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, Final

__all__ = ["SignalWatch"]

#: Nothing but messages between people and programs: without a handler they would end the process.
_MESSAGES: Final = frozenset({signal.SIGUSR1, signal.SIGUSR2})


class SignalWatch:
    """Calls somebody whenever a signal comes, then whoever handled it before.

    Args:
        numbers: The signals.
        look: ``look(name, frame)``, called in the main thread between two instructions.
    """

    def __init__(self, numbers: Iterable[int], look: Callable[[str, FrameType | None], object]) -> None:
        self._numbers = tuple(numbers)
        self._look = look
        self._before: dict[int, Any] = {}
        self._depth = 0
        self._pid = 0

    def put_on(self) -> None:
        """Begin to watch; as often as it is begun it must be ended.

        Raises:
            RuntimeError: Outside the main thread, where Python lets nobody catch signals.
        """
        if self._numbers and self._depth == 0:
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError(
                    "FlightRecorder: signals can be caught in the main thread only, but the run is in the thread "
                    f"{threading.current_thread().name!r}; run it in the main thread, or leave signals out"
                )
            self._pid = os.getpid()
            self._before = {number: signal.signal(number, self._catch) for number in self._numbers}
        self._depth += 1

    def put_back(self) -> None:
        """End what :meth:`put_on` began; a handler that somebody else has put there since stays."""
        self._depth -= 1
        if self._depth == 0:
            for number, before in self._before.items():
                if signal.getsignal(number) == self._catch:
                    signal.signal(number, signal.SIG_DFL if before is None else before)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:  # not in a forked process, such as a worker of a DataLoader
            self._look(signal.Signals(number).name, frame)
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        elif before is signal.SIG_DFL and number not in _MESSAGES:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

"""Catch signals for a while, and put back what was there before."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, Final

__all__ = ["Catcher", "signal_number"]

#: How often :meth:`Catcher.wait` checks whether a signal has come, in seconds.
_LOOK_S: Final = 0.01


class Catcher:
    """Takes note of the first signal that comes, at which everything is put back: a second one acts as it always did.

    A signal that is ignored (as the shell makes it for jobs in the background) stays ignored.

    Args:
        numbers: The signals.
        notes: Each is called with the number of the one that came; by the interpreter, between any two instructions of
            the main thread, so they may do nothing but remember.

    Attributes:
        came: The number of the signal that came; None so far.
        numbers: The signals.

    Example:
        >>> catcher = Catcher([signal.SIGTERM], [lambda number: print("noted", number)])
        >>> catcher.put_on("here")
        >>> signal.raise_signal(signal.SIGTERM)
        noted 15
        >>> signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        True
    """

    def __init__(self, numbers: Iterable[int], notes: Sequence[Callable[[int], object]]) -> None:
        self.came: int | None = None
        self.numbers = tuple(numbers)
        self._notes = notes
        self._before: dict[int, Any] = {}
        self._is_on = False
        self._pid = 0

    def put_on(self, where: str) -> None:
        """Begin to catch.

        Raises:
            RuntimeError: Outside the main thread, where Python lets nobody catch signals.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"{where}: signals can be caught in the main thread only, but the run is in the thread "
                f"{threading.current_thread().name!r}; run it in the main thread, or leave this out"
            )
        self.came, self._pid = None, os.getpid()
        self._before = {number: signal.getsignal(number) for number in self.numbers}
        self._is_on = True
        for number, before in self._before.items():
            if before is not signal.SIG_IGN:
                signal.signal(number, self._catch)

    def put_back(self) -> None:
        """Stop catching; twice does no harm."""
        if self._is_on:
            self._is_on = False
            for number, before in self._before.items():
                signal.signal(number, signal.SIG_DFL if before is None else before)

    def wait(self, timeout_s: float) -> int | None:
        """The signal that came, or comes within a time in seconds; None if there is none."""
        deadline = time.monotonic() + timeout_s
        while self.came is None and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return self.came

    def call_previous(self, number: int) -> None:
        """Let the function of somebody else that would have handled the signal do so, if there is one."""
        before = self._before[number]
        if callable(before) and before is not signal.default_int_handler:
            before(number, None)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._catch_in_child(number)
            return
        self.put_back()
        self.came = number
        for note in self._notes:
            note(number)

    def _catch_in_child(self, number: int) -> None:
        """In a forked process, such as a worker of a DataLoader: it may be ended, but the rest is not for it."""
        if number == signal.SIGTERM:
            self.put_back()
            signal.raise_signal(number)


def signal_number(where: str, asked: Any) -> int:
    """The number of a signal that is given by name or number.

    Raises:
        ValueError: If there is none such, or it cannot be caught.

    Example:
        >>> signal_number("here", "SIGTERM")
        15
    """
    try:
        number = signal.Signals[asked] if isinstance(asked, str) else signal.Signals(asked)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{where}: a signal must be one such as 'SIGTERM' or signal.SIGTERM, got {asked!r}") from error
    if number.name in ("SIGKILL", "SIGSTOP"):
        raise ValueError(f"{where}: {number.name} cannot be caught by any process")
    return int(number)

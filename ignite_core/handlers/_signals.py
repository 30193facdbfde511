"""Catch signals during a run, and restore the previous signal handlers afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, Final

__all__ = ["SignalCatcher"]

#: How often :meth:`SignalCatcher.wait` checks whether a signal has come, in seconds.
_POLL_S: Final = 0.01

#: Without a handler these would end the process, although they only carry messages.
_MESSAGES: Final = frozenset(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))


class SignalCatcher:
    """Calls a function when a signal comes, in the main thread.

    It either takes a signal over or observes it:

    - One that takes over catches the first signal only and then restores the previous handlers, so that a second signal
      acts as it would without this. A signal that is ignored (as a shell does for background jobs) stays ignored.
    - One that observes passes each signal on to the previous handler. SIGUSR1 and SIGUSR2 then do not end the process.

    Args:
        owner: The handler that catches the signals, for messages.
        signals: Names or numbers.
        callback: ``callback(number, frame)``. It runs between any two instructions of the main thread; one that takes
            over must only set flags.
        observes: Observe the signals; by default, take them over.

    Attributes:
        numbers: The signals.
        came: The signal that was taken over since :meth:`install`, or None.

    Raises:
        ValueError: If there is no such signal, or it cannot be caught.

    Example:
        >>> catcher = SignalCatcher("example", ["SIGTERM"], lambda number, frame: print("caught", number))
        >>> catcher.install()
        >>> signal.raise_signal(signal.SIGTERM)
        caught 15
        >>> signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        True
    """

    def __init__(
        self,
        owner: str,
        signals: Iterable[str | int],
        callback: Callable[[int, FrameType | None], object],
        *,
        observes: bool = False,
    ) -> None:
        self.numbers = tuple(_number(owner, asked) for asked in signals)
        self.came: int | None = None
        self._owner = owner
        self._callback = callback
        self._observes = observes
        self._previous: dict[int, Any] = {}
        self._is_installed = False
        self._depth = 0
        self._pid = 0

    def install(self) -> None:
        """Begin to catch. For nested runs, each call needs one of :meth:`uninstall`.

        Raises:
            RuntimeError: Outside the main thread, where Python does not allow it.
        """
        if self._depth == 0 and self.numbers:
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError(
                    f"{self._owner}: signals can be caught in the main thread only, but the run is in the thread "
                    f"{threading.current_thread().name!r}; run it in the main thread, or catch no signals"
                )
            self.came, self._pid = None, os.getpid()
            self._previous = {number: signal.getsignal(number) for number in self.numbers}
            self._is_installed = True
            for number, previous in self._previous.items():
                if self._observes or previous is not signal.SIG_IGN:
                    signal.signal(number, self._catch)
        self._depth += 1

    def uninstall(self) -> None:
        """Undo :meth:`install`; a handler that was installed since by other code stays."""
        self._depth -= 1
        if self._depth == 0:
            self._restore(number for number in self._previous if signal.getsignal(number) == self._catch)

    def wait(self, timeout_s: float) -> int | None:
        """The signal that came, or that comes within a time in seconds; otherwise None."""
        deadline = time.monotonic() + timeout_s
        while self.came is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return self.came

    def call_previous(self, number: int) -> None:
        """Call the previous handler of a signal that was taken over, if it is a function other than Python's own."""
        last = [self, *self._observers(number)][-1]
        previous = last._previous[number]
        if callable(previous) and previous is not signal.default_int_handler:
            previous(number, None)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # A forked process, such as a worker of a DataLoader: only the parent answers, but it may be terminated.
            if self._observes or number == signal.SIGTERM:
                self._pass_on(number, frame)
        elif self._observes:
            self._callback(number, frame)
            self._pass_on(number, frame)
        else:
            self._restore(self._previous)
            self.came = number
            for catcher in (self, *self._observers(number)):
                catcher._callback(number, frame)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous[number]
        if callable(previous):
            previous(number, frame)
        elif previous is signal.SIG_DFL and number not in _MESSAGES:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _observers(self, number: int) -> Iterator[SignalCatcher]:
        """The observers that were installed directly before this, which its installation has replaced."""
        catcher: Any = getattr(self._previous[number], "__self__", None)
        while isinstance(catcher, SignalCatcher) and catcher._observes:
            yield catcher
            catcher = getattr(catcher._previous[number], "__self__", None)

    def _restore(self, numbers: Iterable[int]) -> None:
        if self._is_installed:
            self._is_installed = False
            for number in numbers:
                previous = self._previous[number]
                signal.signal(number, signal.SIG_DFL if previous is None else previous)


def _number(owner: str, asked: Any) -> int:
    try:
        number = signal.Signals[asked] if isinstance(asked, str) else signal.Signals(asked)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{owner}: a signal must be a name or number such as 'SIGTERM' or signal.SIGTERM, got {asked!r}"
        ) from error
    if number.name in ("SIGKILL", "SIGSTOP"):
        raise ValueError(f"{owner}: {number.name} cannot be caught")
    return int(number)

"""Jobs that are done one after the other in a thread, while the caller goes on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from ignite_core.exceptions import CheckpointError
from ignite_core.threads import start_thread

__all__ = ["Background", "WriteFailed", "start"]

#: How long the end of the interpreter waits for a thread, in seconds. Savers have waited for theirs before.
_JOIN_S = 1.0


class WriteFailed(CheckpointError):  # noqa: N818 - says what happened
    """A checkpoint could not be written in the background.

    Attributes:
        filename: Of the checkpoint.
    """

    def __init__(self, message: str, filename: str) -> None:
        super().__init__(message)
        self.filename = filename


class Background:
    """Runs jobs in the order in which they were given, in a thread that lives as long as there are any.

    Example:
        >>> done = []
        >>> background = Background()
        >>> background.give(lambda: done.append(1)), background.give(lambda: done.append(2))
        (True, True)
        >>> background.wait(10.0), done
        (True, [1, 2])
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._is_begun = self._is_working = False  # the second one is set by the thread itself
        self._thread: threading.Thread | None = None

    def give(self, job: Callable[[], object]) -> bool:
        """Run a job, which must not raise, after those given before.

        Returns:
            True if it is left to the thread; False if no thread may start any more, and it is done.
        """
        with self._lock:
            self._jobs.append(job)
        return self._begin()

    def wait(self, timeout_s: float) -> bool:
        """Wait until all jobs given so far are done and the thread has ended, at most so many seconds.

        Returns:
            Whether they are.
        """
        self._begin()  # an interrupt may have come between a job and the start of its thread
        deadline = time.monotonic() + timeout_s
        while (thread := self._thread) is not None:
            thread.join(max(deadline - time.monotonic(), 0.0))
            if thread.is_alive():
                return False
            if thread is self._thread:
                break
        return True

    @property
    def is_current(self) -> bool:
        """Whether the code that asks runs in the thread."""
        return self._thread is threading.current_thread()

    def _begin(self) -> bool:
        with self._lock:
            if self._is_begun or self._is_working or not self._jobs:
                return True
            self._is_begun = True
            try:
                self._thread = start(self._work_here, "checkpoint-writer")
            except BaseException:  # an interrupt; the thread may have started, or not
                self._is_begun = False
                raise
        if self._thread is None:
            self._work()
        return self._thread is not None

    def _work_here(self) -> None:
        with self._lock:
            if self._is_working:  # another thread has started
                return
            self._is_working, self._thread = True, threading.current_thread()
        self._work()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._is_begun = self._is_working = False
                    return
                job = self._jobs.popleft()
            job()
            del job  # it holds the state that was written


def start(work: Callable[[], object], name: str) -> threading.Thread | None:
    """Start a thread that the end of the interpreter waits for; None if that is ending and starts no thread."""
    try:
        return start_thread(work, name, lambda: None, _JOIN_S)
    except RuntimeError:
        return None

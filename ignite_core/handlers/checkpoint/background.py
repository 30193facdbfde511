"""Jobs that are done one after the other in a thread, while the one that asked goes on."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable

from ignite_core.exceptions import CheckpointError

__all__ = ["Background", "WriteFailed"]

#: What a terminal, a launcher or a cluster sends to all processes of a run.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


class WriteFailed(CheckpointError):  # noqa: N818 - says what happened
    """What was to be written in the background is not on the disk.

    Attributes:
        filename: Of the checkpoint.
    """

    def __init__(self, message: str, filename: str) -> None:
        super().__init__(message)
        self.filename = filename


class Background:
    """A thread that does jobs in the order in which they were given; it is started by the first one.

    It does not hold up the end of the interpreter: who gives jobs waits for them before that.

    Example:
        >>> done = []
        >>> background = Background()
        >>> background.give(lambda: done.append(1))
        >>> background.give(lambda: done.append(2))
        >>> background.wait(10.0), done
        (True, [1, 2])
        >>> background.stop(10.0)
        True
    """

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object] | None] = deque()  # None: end
        self._undone = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def give(self, job: Callable[[], object]) -> None:
        """Have a job done after those given before. It must not raise."""
        self._put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoint-writer", daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until everything is done, at most so many seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._undone == 0, timeout_s)

    @property
    def is_current(self) -> bool:
        """Whether the code that asks runs in the thread."""
        return self._thread is threading.current_thread()

    def stop(self, timeout_s: float) -> bool:
        """End the thread when everything is done, if that takes at most so many seconds; whether it did."""
        if not self.wait(timeout_s):
            return False
        if self._thread is not None:
            self._put(None)
            self._thread.join()
            self._thread = None
        return True

    def _put(self, job: Callable[[], object] | None) -> None:
        with self._changed:
            self._jobs.append(job)
            self._undone += 1
            self._changed.notify_all()

    def _work(self) -> None:
        # Signals are for the main thread. A process that is started from here does not get them either: Ctrl-C, which
        # the main thread answers with a last save, must not end the process that writes it.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in _SIGNALS])
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs)
            job = self._jobs.popleft()
        if job is not None:
            job()
        with self._changed:
            self._undone -= 1
            self._changed.notify_all()
        return job is not None

"""A saver that writes while training continues: the loop waits for a copy in memory, not for the disk."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.util import Finalize, is_exiting
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.savers import DiskSaver, WriteFailed
from ignite_core.handlers.checkpoint.snapshot import Snapshot
from ignite_core.handlers.checkpoint.storage import commit as storage
from ignite_core.handlers.checkpoint.storage.hashing import start
from ignite_core.handlers.checkpoint.storage.plain_values import check_loadable

__all__ = ["AsyncDiskSaver"]

#: Priority at the end of the interpreter: before :mod:`ignite_core.threads` joins the threads, which waits less long.
_PRIORITY = 60

_logger = logging.getLogger(__name__)


class AsyncDiskSaver(DiskSaver):
    """Saves checkpoints as :class:`~ignite_core.handlers.DiskSaver` does, while training continues.

    A save copies the state into a buffer and returns; a thread then writes the file. The buffer is as large as the
    state. It is allocated by the first save, which takes longer for that, and kept. With a GPU it is pinned.

    - One checkpoint is written at a time: a save that comes while another one is being written waits for it. No save is
      skipped. Several handlers, also in several threads, may share a saver.
    - An error in the background is raised once: by the next save, which is then not started, or by :meth:`flush` or
      :meth:`close`. Older checkpoints stay: :meth:`remove` waits for the write before it, and after a failed write
      nothing is removed until another one has succeeded.
    - A :class:`~ignite_core.handlers.Checkpoint` closes it at the end of the run. Otherwise call :meth:`close`, or use
      a ``with`` block. At the end of the interpreter a save in progress is finished, and errors are logged; a save by a
      function registered with :mod:`atexit` may write before it returns, and one by a daemon thread raises.

    Args:
        dirname: The folder.
        timeout_s: Seconds that a save, flush, close, or the end of the interpreter waits for a write in progress. Then
            it raises (at the end of the interpreter: logs).
        options: Further arguments of :class:`~ignite_core.handlers.DiskSaver`.

    Raises:
        ValueError: If timeout_s is not positive, or for the reasons of DiskSaver.

    Example:
        >>> import tempfile
        >>> weights = torch.ones(2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with AsyncDiskSaver(folder) as saver:
        ...         saver({"weights": weights}, "run.pt")
        ...         weights += 1  # while it is written
        ...     torch.load(f"{folder}/run.pt")
        {'weights': tensor([1., 1.])}
    """

    def __init__(self, dirname: str | os.PathLike[str], *, timeout_s: float = 300.0, **options: Any) -> None:
        if not timeout_s > 0:
            raise ValueError(f"AsyncDiskSaver: timeout_s must be a positive number of seconds, got {timeout_s!r}")
        super().__init__(dirname, **options)
        self._snapshot = Snapshot()
        self._writes = _Writes(timeout_s)
        self._lock = self._writes.lock
        # At the end of this object, of the interpreter, or of a process of multiprocessing.
        Finalize(self, _finish, (self._writes,), exitpriority=_PRIORITY)

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Copy a checkpoint, and start to write it.

        Raises:
            CheckpointError: If an earlier one could not be written, or takes too long: this one is then not saved. Also
                if it contains something that could not be loaded again, as in DiskSaver.
        """
        about = self._about(metadata)
        path = self._target(filename)
        checkpoint = self._plain(checkpoint, path, about)
        with self._lock:
            try:
                self.flush()  # the buffer is read until the last one is written
            except CheckpointError as error:
                error.add_note(f"{path} was therefore not started")
                raise
            if is_exiting() and threading.current_thread() is not threading.main_thread():
                raise CheckpointError(f"AsyncDiskSaver: {path} is not saved, as the program is ending")
            # The job must have no reference to this object, whose finalizer waits for the job.
            publish = partial(_publish, self._snapshot.take(checkpoint), path, about, self.kwargs)
            if not self._writes.write(publish, filename, about.get("step")):
                self.flush()

    def remove(self, filename: str) -> None:
        """Remove a checkpoint after the saves and removals before it, and only if that is safe."""
        if filename != self._spared:
            self._writes.remove(self._path(filename))

    def flush(self) -> None:
        """Wait until all saves and removals are done.

        Raises:
            CheckpointError: If one of them failed, which is raised once, or takes longer than ``timeout_s``.
        """
        with self._lock:
            self._writes.flush()

    def close(self) -> None:
        """Like :meth:`flush`, and free the buffer. A later save allocates it again.

        Raises:
            CheckpointError: As in :meth:`flush`.
        """
        with self._lock:
            try:
                self.flush()
            finally:
                if self._writes.is_idle:
                    self._snapshot.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; if the block raised, an error of closing is only noted on that."""
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            error.add_note(str(failure))


def _publish(copied: Any, path: Path, about: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    storage.publish(path, lambda file: torch.save(copied, file, **options), about, check=check_loadable)


class _Writes:
    """The jobs of the background, and their results. A job accesses the attributes only while nothing else does."""

    def __init__(self, timeout_s: float) -> None:
        self.lock = threading.RLock()  # one save at a time uses the buffer
        self._background = Background()
        self._error: CheckpointError | None = None
        self._is_behind = False  # the last write failed
        self._kept: list[Path] = []  # to be removed once a write has succeeded
        self._timeout_s = timeout_s
        self._is_late = False
        self._current = ""  # what is being done, for messages

    def write(self, publish: Callable[[], object], filename: str, step: Any) -> bool:
        return self._background.give(partial(self._write, publish, filename, step))

    def remove(self, path: Path) -> None:
        self._background.give(partial(self._remove, path))

    def flush(self) -> None:
        # After one timeout the next calls do not wait again for the same file.
        in_time = self._background.wait(0.0 if self._is_late else self._timeout_s)
        self._is_late = not in_time
        if not in_time:
            raise CheckpointError(
                f"AsyncDiskSaver: {self._current} did not finish within timeout_s={self._timeout_s:g} s; "
                "older checkpoints stay"
            )
        error, self._error = self._error, None
        if error is not None:
            raise error

    @property
    def is_idle(self) -> bool:
        return self._background.wait(0.0)

    @property
    def is_current(self) -> bool:
        """Whether this is called in the thread that writes."""
        return self._background.is_current

    def _write(self, publish: Callable[[], object], filename: str, step: Any) -> None:
        what = f"the save of {filename!r}" + ("" if step is None else f" (step {step})")
        self._current = what
        try:
            publish()
        except Exception as error:
            self._is_behind = True
            self._error = WriteFailed(
                f"AsyncDiskSaver: {what} failed after it had returned: {error}; older checkpoints stay", filename
            )
            self._error.__cause__ = error
            return
        self._is_behind = False
        removed, self._kept = self._kept, []
        for path in removed:
            if path.name != filename:
                self._remove(path)

    def _remove(self, path: Path) -> None:
        self._current = f"removing {path}"
        if self._is_behind:
            self._kept.append(path)
            return
        try:
            storage.remove(path)
        except Exception as error:
            if self._error is None:
                self._error = CheckpointError(f"AsyncDiskSaver: removing {path} failed: {error}")
                self._error.__cause__ = error


class Background:
    """Runs jobs in the order in which they were given, in a thread that ends when there are none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], object]] = deque()
        self._is_begun = self._is_working = False  # the second one is set by the thread itself
        self._thread: threading.Thread | None = None

    def give(self, job: Callable[[], object]) -> bool:
        """Run a job, which must not raise, after those given before.

        Returns:
            True if the thread will run it; False if no thread can start any more, and the job is done.
        """
        with self._lock:
            self._jobs.append(job)
        return self._begin()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most ``timeout_s`` until all jobs are done and the thread has ended; returns whether they are."""
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
        """Whether this is called in the thread."""
        return self._thread is threading.current_thread()

    def _begin(self) -> bool:
        with self._lock:
            if self._is_begun or self._is_working or not self._jobs:
                return True
            self._is_begun = True
            try:
                self._thread = start(self._work_in_thread, "checkpoint-writer")
            except BaseException:  # an interrupt; the thread may have started, or not
                self._is_begun = False
                raise
        if self._thread is None:
            self._work()
        return self._thread is not None

    def _work_in_thread(self) -> None:
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


def _finish(writes: _Writes) -> None:
    """Called at the end of a saver, or of the interpreter: there is no caller left to raise to."""
    if writes.is_current:  # garbage collection may run in the thread that would be waited for
        start(partial(_finish, writes), "checkpoint-end")
        return
    try:
        with writes.lock:  # also of a save that a daemon thread of the program has started
            writes.flush()
    except CheckpointError as error:
        _logger.error("%s", error)

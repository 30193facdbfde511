"""A saver that writes while training goes on: the loop waits for a copy in memory, not for the disk."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.util import Finalize, is_exiting
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.background import Background, WriteFailed, start
from ignite_core.handlers.checkpoint.savers import DiskSaver
from ignite_core.handlers.checkpoint.snapshot import Snapshot
from ignite_core.handlers.checkpoint.storage import commit as storage
from ignite_core.handlers.checkpoint.storage.plain_values import check_loadable

__all__ = ["AsyncDiskSaver"]

#: At the end of the interpreter: before :mod:`ignite_core.threads` waits for the threads, which is not for so long.
_PRIORITY = 60

_logger = logging.getLogger(__name__)


class AsyncDiskSaver(DiskSaver):
    """Saves checkpoints as :class:`~ignite_core.handlers.DiskSaver` does, while training goes on.

    A save copies the state into memory of its own, which takes as long as the copy, and returns; a thread then writes
    the file. The memory is as large as the state; it is allocated by the first save (which takes longer for that) and
    kept. On a GPU it is pinned.

    - One checkpoint is written at a time: a save that comes while another one is being written waits for it. None
      is left out. Several handlers, also in several threads, may share a saver.
    - An error in the background is raised by the next save, which is then not begun, or by :meth:`flush` or
      :meth:`close`, once. Older checkpoints stay: :meth:`remove` waits for the write before it, and after one that
      failed nothing is removed until another one has succeeded.
    - A :class:`~ignite_core.handlers.Checkpoint` closes it at the end of the run. Else :meth:`close` does, or the end
      of a ``with`` block. At the end of the interpreter what is in progress is finished, and errors are logged; a save
      made by a function registered with :mod:`atexit` may write before it returns, and one by a daemon thread raises.

    Args:
        dirname: The folder.
        timeout_s: How many seconds a save, flush, close, or the end of the interpreter, waits for what is being
            written. After that it raises (at the end: logs).
        options: The other arguments of :class:`~ignite_core.handlers.DiskSaver`.

    Raises:
        ValueError: If timeout_s is not positive, or the folder does not meet the conditions of DiskSaver.

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
        """Copy a checkpoint, and have it written.

        Raises:
            CheckpointError: If an earlier one could not be written, or takes too long. This one is then not saved. Also
                if this one holds something that could never be loaded, as of DiskSaver.
        """
        about = self._about(metadata)
        checkpoint = self._plain(checkpoint, filename, about)
        path = self._target(filename)
        with self._lock:
            try:
                self.flush()  # the memory is still read while the last one is being written
            except CheckpointError as error:
                error.add_note(f"{path} was therefore not begun")
                raise
            if is_exiting() and threading.current_thread() is not threading.main_thread():
                raise CheckpointError(f"AsyncDiskSaver: {path} is not saved, as the program is ending")
            # The job must not know this object: its end waits for the job.
            publish = partial(_publish, self._snapshot.take(checkpoint), path, about, self.kwargs)
            if not self._writes.write(publish, filename, about.get("step")):
                self.flush()

    def remove(self, filename: str) -> None:
        """Remove a checkpoint after what was asked for before, and only if that is safe on the disk."""
        if filename != self._spared:
            self._writes.remove(self._path(filename))

    def flush(self) -> None:
        """Wait until everything that was asked for is done.

        Raises:
            CheckpointError: If some of it failed, which is raised once, or takes longer than ``timeout_s``.
        """
        with self._lock:
            self._writes.flush()

    def close(self) -> None:
        """Like :meth:`flush`; the memory is given back then. A later save allocates it again.

        Raises:
            CheckpointError: As of :meth:`flush`.
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
        """Close; an error of the block goes on, with what failed here noted on it."""
        try:
            self.close()
        except CheckpointError as failure:
            if error is None:
                raise
            error.add_note(str(failure))


def _publish(copied: Any, path: Path, about: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    storage.publish(path, lambda file: torch.save(copied, file, **options), about, check=check_loadable)


class _Writes:
    """What the background does, and its results. Its jobs touch the attributes only while nothing else does."""

    def __init__(self, timeout_s: float) -> None:
        self.lock = threading.RLock()  # one save at a time uses the memory
        self._background = Background()
        self._error: CheckpointError | None = None
        self._is_behind = False  # the last write failed
        self._kept: list[Path] = []  # to be removed once one has succeeded
        self._timeout_s = timeout_s
        self._is_late = False
        self._at_work = ""  # what is being done, for messages

    def write(self, publish: Callable[[], object], filename: str, step: Any) -> bool:
        return self._background.give(partial(self._write, publish, filename, step))

    def remove(self, path: Path) -> None:
        self._background.give(partial(self._remove, path))

    def flush(self) -> None:
        # After one wait in vain the next ones do not wait again for the same file.
        in_time = self._background.wait(0.0 if self._is_late else self._timeout_s)
        self._is_late = not in_time
        if not in_time:
            raise CheckpointError(
                f"AsyncDiskSaver: {self._at_work} did not finish within timeout_s={self._timeout_s:g} s; "
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
        """Whether the code that asks runs in the thread that writes."""
        return self._background.is_current

    def _write(self, publish: Callable[[], object], filename: str, step: Any) -> None:
        what = f"the save of {filename!r}" + ("" if step is None else f" (step {step})")
        self._at_work = what
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
        self._at_work = f"removing {path}"
        if self._is_behind:
            self._kept.append(path)
            return
        try:
            storage.remove(path)
        except Exception as error:
            if self._error is None:
                self._error = CheckpointError(f"AsyncDiskSaver: removing {path} failed: {error}")
                self._error.__cause__ = error


def _finish(writes: _Writes) -> None:
    """The end of a saver, or of the interpreter: there is no caller left to raise to."""
    if writes.is_current:  # the garbage collector runs in the very thread that is to be waited for
        start(partial(_finish, writes), "checkpoint-end")
        return
    try:
        with writes.lock:  # also of a save that a daemon thread of the program has begun
            writes.flush()
    except CheckpointError as error:
        _logger.error("%s", error)

"""A saver that writes while training goes on: the loop waits for a copy in memory, not for the disk."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import torch

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint import safety, storage
from ignite_core.handlers.checkpoint.background import Background, WriteFailed
from ignite_core.handlers.checkpoint.opcodes import check_pickle
from ignite_core.handlers.checkpoint.rebuilding import Budget
from ignite_core.handlers.checkpoint.savers import DiskSaver
from ignite_core.handlers.checkpoint.snapshot import Snapshot
from ignite_core.handlers.checkpoint.writer import WriterProcess

__all__ = ["AsyncDiskSaver"]

Mode = Literal["thread", "process"]

#: How long a process that was told to end may take, in seconds.
_GRACE_S = 5.0

_logger = logging.getLogger(__name__)


class AsyncDiskSaver(DiskSaver):
    """Saves checkpoints as :class:`~ignite_core.handlers.DiskSaver` does, while training goes on.

    A save copies the state into memory of its own, which takes as long as the copy, and returns; a thread, or another
    process, then writes the file. The memory is as large as the state; it is allocated by the first save (which takes
    longer for that) and kept. On a GPU it is pinned.

    - One checkpoint is written at a time: a save that comes while the one before is being written waits for it. None
      is ever left out.
    - What went wrong in the background is raised by the next save, which is then not begun, or by :meth:`flush` or
      :meth:`close`, once. Older checkpoints stand: :meth:`remove` waits for the write before it, and after one that
      failed nothing is removed until another one has succeeded.
    - A :class:`~ignite_core.handlers.Checkpoint` closes it at the end of the run. Else :meth:`close` does, or the end
      of a ``with`` block. At the end of the interpreter what is under way is finished, and what failed is logged.

    Args:
        dirname: The folder.
        mode: ``"thread"``, or ``"process"`` (Linux): another process of a few MB writes, checks and syncs. It takes
            no time of the interpreter that trains; it is started anew if it dies, and it dies with its parent.
        timeout_s: How many seconds a save, flush, close, or the end of the interpreter, waits for what is being
            written. After that it raises (at the end: logs), and ends the process that writes, where there is one.
        options: The other arguments of :class:`~ignite_core.handlers.DiskSaver`; those that it hands to
            :func:`torch.save` only in a thread.

    Raises:
        ValueError: If the mode is none of these or not for this system, or the folder is not what DiskSaver asks for.

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

    def __init__(
        self, dirname: str | os.PathLike[str], *, mode: Mode = "thread", timeout_s: float = 300.0, **options: Any
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"AsyncDiskSaver: mode must be one of {list(get_args(Mode))}, got {mode!r}")
        if mode == "process" and not hasattr(os, "memfd_create"):
            raise ValueError("AsyncDiskSaver: mode='process' needs Linux; use mode='thread'")
        if not timeout_s > 0:
            raise ValueError(f"AsyncDiskSaver: timeout_s must be a positive number of seconds, got {timeout_s!r}")
        super().__init__(dirname, **options)
        if mode == "process" and self.kwargs:
            raise ValueError(
                f"AsyncDiskSaver: mode='process' does not use torch.save, got {sorted(self.kwargs)} for it; leave them "
                "out, or use mode='thread'"
            )
        self.mode = mode
        self._snapshot = Snapshot(named=mode == "process")
        self._writes = _Writes(timeout_s)
        weakref.finalize(self, _finish, self._writes, os.getpid())  # also at the end of the interpreter

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Copy a checkpoint, and have it written.

        Raises:
            CheckpointError: If an earlier one could not be written, or takes too long. This one is then not saved.
        """
        try:
            self.flush()  # the memory is still read as long as the last one is being written
        except CheckpointError as error:
            error.add_note(f"{self._path(filename)} was therefore not begun")
            raise
        copied = self._snapshot.take(checkpoint)
        path, about = self._path(filename), {"versions": storage.versions(), **self._about(metadata)}
        # The jobs must not know this object: its end waits for them.
        if self.mode == "process":
            publish = partial(self._writes.publish_elsewhere, self._snapshot, copied, path, about)
        else:
            publish = partial(_publish, copied, path, about, self.kwargs)
        self._writes.write(publish, filename, about.get("step"))

    def remove(self, filename: str) -> None:
        """Remove a checkpoint after what was asked for before, and only if that is safe on the disk."""
        self._writes.remove(self._path(filename))

    def flush(self) -> None:
        """Wait until everything that was asked for is done.

        Raises:
            CheckpointError: If something of it failed, which is told once, or takes longer than ``timeout_s``.
        """
        self._writes.flush()

    def close(self) -> None:
        """Like :meth:`flush`; the thread or process and the memory are given back then. A later save takes them anew.

        Raises:
            CheckpointError: As of :meth:`flush`.
        """
        try:
            self.flush()
        finally:
            if self._writes.stop():
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
    storage.publish(path, lambda file: torch.save(copied, file, **options), about, check=safety.check)


class _Writes:
    """What the background does, and what came of it. Its jobs touch the attributes only while nobody else does."""

    def __init__(self, timeout_s: float) -> None:
        self._background = Background()
        self._writer: WriterProcess | None = None
        self._shared: tuple[int, int] | None = None  # the memory that the other process sees
        self._error: CheckpointError | None = None
        self._is_behind = False  # the last write failed
        self._kept: list[Path] = []  # to be removed once one has succeeded
        self._timeout_s = timeout_s
        self._is_late = False
        self._at_work = ""  # what is being done, for messages

    def write(self, publish: Callable[[], object], filename: str, step: Any) -> None:
        self._background.give(partial(self._write, publish, filename, step))

    def remove(self, path: Path) -> None:
        self._background.give(partial(self._remove, path))

    def flush(self) -> None:
        # Who has waited in vain once does not do so again and again for the same file.
        in_time = self._background.wait(0.0 if self._is_late else self._timeout_s)
        writer = self._writer
        if not in_time and writer is not None:
            writer.kill(f"it took more than timeout_s={self._timeout_s:g} s")  # its job then fails, and says so
            in_time = self._background.wait(_GRACE_S)
        self._is_late = not in_time
        if not in_time:
            raise CheckpointError(
                f"AsyncDiskSaver: {self._at_work} must take at most timeout_s={self._timeout_s:g} s, and is not done; "
                "older checkpoints stand"
            )
        error, self._error = self._error, None
        if error is not None:
            raise error

    def stop(self) -> bool:
        """End thread and process, if nothing is under way; whether they have ended."""
        if not self._background.wait(0.0):
            return False
        if self._writer is not None:
            self._background.give(self._end_writer)  # in the thread that started it
        return self._background.stop(2 * _GRACE_S)

    def runs_here(self) -> bool:
        """Whether the thread that asks is the one that writes."""
        return self._background.is_current

    def publish_elsewhere(self, snapshot: Snapshot, copied: Any, path: Path, about: Mapping[str, Any]) -> None:
        entries, sent = snapshot.pickled(copied)
        sizes = {entry.name.removeprefix("data/"): entry.size for entry in entries}
        check_pickle(sent[: entries[0].size], sizes, Budget(sum(sizes.values())))  # as safety.check does with a file
        if self._writer is not None and (self._shared != snapshot.descriptor or not self._writer.is_alive):
            self._end_writer()
        if self._writer is None:
            self._shared = snapshot.descriptor
            self._writer = WriterProcess(self._shared)
        self._writer.publish(path, about, entries, sent)

    def _end_writer(self) -> None:
        assert self._writer is not None
        writer, self._writer = self._writer, None
        writer.close()

    def _write(self, publish: Callable[[], object], filename: str, step: Any) -> None:
        what = f"the save of {filename!r}" + ("" if step is None else f" (step {step})")
        self._at_work = what
        try:
            publish()
        except Exception as error:
            self._is_behind = True
            self._error = WriteFailed(
                f"AsyncDiskSaver: {what} failed after it had returned: {error}; older checkpoints stand", filename
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


def _finish(writes: _Writes, pid: int) -> None:
    """The end of a saver, or of the interpreter: nobody is left to raise to."""
    if os.getpid() != pid:
        return  # a forked process has a copy of the saver, but not its thread
    if writes.runs_here():  # the garbage collector came by in the very thread that is to be waited for
        threading.Thread(target=_finish, args=(writes, pid), daemon=True).start()
        return
    try:
        writes.flush()
    except CheckpointError as error:
        _logger.error("%s", error)
    writes.stop()

"""TensorBoard: numbers, histograms, images, figures and text in event files."""

from __future__ import annotations

import itertools
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ignite_contrib._require import require
from ignite_contrib.loggers._append import append
from ignite_contrib.loggers._media import HistogramLogger, as_bytes, finite
from ignite_contrib.loggers.delivery.deliver import each, singles
from ignite_contrib.loggers.delivery.record import Record
from ignite_core.handlers import (
    GradsHistHandler,
    GradsScalarHandler,
    OptimizerParamsHandler,
    OutputHandler,
    WeightsHistHandler,
    WeightsScalarHandler,
    global_step_from_engine,
)

__all__ = [
    "GradsHistHandler",
    "GradsScalarHandler",
    "OptimizerParamsHandler",
    "OutputHandler",
    "TensorboardLogger",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "global_step_from_engine",
]

_file_number = itertools.count()


class TensorboardLogger(HistogramLogger):
    """Logs numbers, histograms, images, figures and text to event files of TensorBoard.

    They are written in the background. If the disk is full, training continues; what could not be written is kept in
    the file ``unsent``, or in memory if that cannot be written either, and is written when there is space again.

    Methods of the writer, such as ``add_hparams`` and ``add_graph``, are found through the logger. They write at once,
    in the calling thread.

    Args:
        args: Arguments of the ``SummaryWriter`` of tensorboardX, or of :mod:`torch.utils.tensorboard` if only
            tensorboard is installed. ``log_dir=`` is the folder with both.
        unsent: The file for what cannot be written; by default a new one in the working folder.
        kwargs: Keyword arguments of the ``SummaryWriter``.

    Raises:
        ModuleNotFoundError: If neither package is installed.

    Example:
        >>> import tempfile
        >>> from ignite_core.engine import Engine, Events
        >>> folder = tempfile.TemporaryDirectory()
        >>> trainer = Engine(lambda engine, batch: {"loss": 1 / batch})
        >>> with TensorboardLogger(log_dir=folder.name) as logger:
        ...     handle = logger.attach_output_handler(
        ...         trainer, Events.ITERATION_COMPLETED(every=2), tag="training", output_transform=lambda output: output
        ...     )
        ...     state = trainer.run([1, 2, 4, 8])
        >>> from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        >>> read = EventAccumulator(folder.name).Reload()
        >>> [(event.step, event.value) for event in read.Scalars("training/loss")]
        [(2, 0.5), (4, 0.125)]
        >>> folder.cleanup()
    """

    def __init__(self, *args: Any, unsent: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        if len(args) < 6:  # otherwise it is among them; without it, two runs in one second share a file
            kwargs.setdefault("filename_suffix", f".{os.getpid()}.{next(_file_number)}")
        if find_spec("tensorboardX") is None and find_spec("tensorboard") is not None:
            library: Any = import_module("torch.utils.tensorboard")
        else:
            library = require("tensorboardX", extra="tensorboard", feature="TensorboardLogger")

        def open_writer() -> Any:
            writer = library.SummaryWriter(*args, **kwargs)
            _event_file(writer)
            return writer

        super().__init__(open_writer, unsent)

    @property
    def writer(self) -> Any:
        """The ``SummaryWriter``."""
        return self.client

    def send(self, records: Sequence[Record]) -> None:
        events = _event_file(self.writer)
        if events is None:
            each(self._write, singles(records))
            return
        with events.all_or_none():
            for record in singles(records):
                self._write(record)

    def _write(self, record: Record) -> None:
        ((key, value),) = record.values.items()
        name, at = "/".join(key), {"global_step": record.step, "walltime": record.time}
        if record.kind == "scalars":
            self.writer.add_scalar(name, value, **at)
        elif record.kind == "texts":
            self.writer.add_text(name, value, **at)
        elif record.kind == "images":
            self.writer.add_image(name, as_bytes(value), dataformats="HWC", **at)
        elif (shown := finite(value)).size:
            self.writer.add_histogram(name, shown, **at)

    def flush(self) -> None:
        super().flush()
        self.writer.flush()

    def close(self) -> None:
        super().close()
        self.writer.flush()  # not close(): a closed writer would begin another file


def _event_file(writer: Any) -> EventFile | None:
    """Replace the file of a SummaryWriter by an :class:`EventFile`; None if it is not local, as ``s3://bucket/runs``."""
    file_writer = writer._get_file_writer()
    events = getattr(file_writer, "event_writer", None)
    if events is None or isinstance(events, EventFile):
        return events
    path = Path(getattr(events, "_ev_writer", events)._file_name)
    if not path.exists():
        return None
    events.close()
    file_writer.event_writer = replaced = EventFile(path)
    return replaced


class EventFile:
    """Replaces the event writer of a SummaryWriter, of tensorboardX or of torch.

    Those pass events through a short queue to a thread, which dies when the disk is full: ten events later the training
    waits forever. Here events are written by the calling thread, whole or not at all. Events that the disk refuses are
    kept, and written before the next one.

    Args:
        path: A file that starts with a version event already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._crc = _masked_crc32c()
        self._unwritten: list[bytes] = []
        self._lock = threading.RLock()
        self._is_batch = False

    def get_logdir(self) -> str:
        """The folder of the file."""
        return str(self._path.parent)

    def add_event(self, event: Any) -> None:
        """Write an event, now or when the disk accepts it."""
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        with self._lock:
            self._unwritten.append(
                b"".join((length, struct.pack("<I", self._crc(length)), data, struct.pack("<I", self._crc(data))))
            )
            if not self._is_batch:
                self.flush()

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Write all events that are added within the block at its end, or raise OSError and drop them."""
        with self._lock:
            before, self._is_batch = len(self._unwritten), True
            try:
                yield
                self._write()
            except BaseException:
                del self._unwritten[before:]
                raise
            finally:
                self._is_batch = False

    def flush(self) -> None:
        """Try again to write the events that were refused."""
        try:
            self._write()
        except OSError:
            return  # kept for the next time

    close = flush  # the file is not kept open

    def reopen(self) -> None:
        """Do nothing: the file is not kept open."""

    def _write(self) -> None:
        with self._lock:
            if self._unwritten:
                append(self._path, b"".join(self._unwritten))
                self._unwritten.clear()


def _masked_crc32c() -> Callable[[bytes], int]:
    """The checksum of records, from the library that is installed."""
    module = (
        "tensorboard.compat.tensorflow_stub.pywrap_tensorflow"
        if find_spec("tensorboardX") is None
        else "tensorboardX.record_writer"
    )
    crc: Callable[[bytes], int] = import_module(module).masked_crc32c
    return crc

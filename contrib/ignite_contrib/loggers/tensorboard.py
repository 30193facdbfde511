"""Logs to TensorBoard."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ignite_contrib._require import require
from ignite_contrib.loggers._media import TakesFigures, TakesHistograms, TakesImages, TakesTexts, as_bytes, finite
from ignite_contrib.loggers.delivery.delivery import each, singles
from ignite_contrib.loggers.delivery.record import Record
from ignite_contrib.loggers.tfevents import EventFile
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


class TensorboardLogger(TakesImages, TakesFigures, TakesHistograms, TakesTexts):
    """Logs to event files, which TensorBoard shows: numbers, histograms, images, figures and text.

    They are written in the background. If the disk is full, training goes on; what could not be written stands in the
    file ``unsent``, or in memory where that is full too, and is written when there is space again.

    Methods of the writer, such as ``add_hparams`` and ``add_graph``, are found through the logger. They work at once,
    in the thread that calls them.

    Args:
        args: Of the ``SummaryWriter`` of tensorboardX, or of :mod:`torch.utils.tensorboard` if that is installed and
            tensorboardX is not. ``log_dir=`` is the folder with both.
        unsent: The file for what cannot be written.
        kwargs: Of the ``SummaryWriter``.

    Raises:
        ModuleNotFoundError: If neither is installed.

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
        if len(args) < 6:  # else it is among them; without it two runs in one second write to one file
            kwargs.setdefault("filename_suffix", f".{os.getpid()}.{next(_file_number)}")
        summary_writer = _summary_writer()

        def open_writer() -> Any:
            writer = summary_writer(*args, **kwargs)
            event_file(writer)
            return writer

        super().__init__(open_writer, unsent=unsent)

    @property
    def writer(self) -> Any:
        """The ``SummaryWriter``."""
        return self.client

    def send(self, records: Sequence[Record]) -> None:
        events = event_file(self.writer)
        if events is None:
            each(self._write, singles(records))
            return
        with events.all_or_none():
            for record in singles(records):
                self._write(record)

    def _write(self, record: Record) -> None:
        ((key, value),) = record.values.items()
        self._writes_of[record.kind](self.writer, "/".join(key), value, record.step, record.time)

    def flush(self) -> None:
        super().flush()
        self.writer.flush()

    def close(self) -> None:
        super().close()
        self.writer.flush()  # nothing is held open, and a writer that is closed would begin another file

    _writes_of: Mapping[str, Callable[[Any, str, Any, int, float], None]] = {
        "scalars": lambda writer, name, value, step, time: writer.add_scalar(name, value, step, walltime=time),
        "texts": lambda writer, name, value, step, time: writer.add_text(name, value, step, walltime=time),
        "images": lambda writer, name, value, step, time: writer.add_image(
            name, as_bytes(value), step, walltime=time, dataformats="HWC"
        ),
        "histograms": lambda writer, name, value, step, time: _add_histogram(writer, name, value, step, time),
    }


def _add_histogram(writer: Any, name: str, values: Any, step: int, time: float) -> None:
    shown = finite(values)
    if shown.size:
        writer.add_histogram(name, shown, step, walltime=time)


def _summary_writer() -> Callable[..., Any]:
    """The class that writes: that of tensorboardX, or of torch, which needs tensorboard."""
    if find_spec("tensorboardX") is None and find_spec("tensorboard") is not None:
        module = import_module("torch.utils.tensorboard")
    else:
        module = require("tensorboardX", extra="tensorboard", feature="TensorboardLogger")
    made: Callable[..., Any] = module.SummaryWriter
    return made


def event_file(writer: Any) -> EventFile | None:
    """What writes the file of a SummaryWriter: ours, which takes the place of its own; None if there is no such file.

    A file elsewhere, such as ``s3://bucket/runs``, stays with its own writer.
    """
    file_writer = writer._get_file_writer()
    own = getattr(file_writer, "event_writer", None)
    if own is None or isinstance(own, EventFile):
        return own
    path = Path(getattr(own, "_ev_writer", own)._file_name)
    if not path.exists():
        return None
    own.close()
    file_writer.event_writer = ours = EventFile(path)
    return ours

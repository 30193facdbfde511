"""ClearML: numbers, histograms, images, figures and text of a task."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import ignite_core.distributed as idist
from ignite_contrib._require import require
from ignite_contrib.loggers._media import HistogramLogger, as_bytes, histogram_of
from ignite_contrib.loggers.delivery.deliver import each, singles
from ignite_contrib.loggers.delivery.outbox import Outbox
from ignite_contrib.loggers.delivery.record import Record
from ignite_core.handlers import (
    DiskSaver,
    GradsHistHandler,
    GradsScalarHandler,
    OptimizerParamsHandler,
    OutputHandler,
    WeightsHistHandler,
    WeightsScalarHandler,
    global_step_from_engine,
)

__all__ = [
    "ClearMLLogger",
    "ClearMLSaver",
    "GradsHistHandler",
    "GradsScalarHandler",
    "OptimizerParamsHandler",
    "OutputHandler",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "global_step_from_engine",
]

_logger = logging.getLogger(__name__)


class ClearMLLogger(HistogramLogger):
    """Logs to a task of ClearML, whose client queues and sends; text goes to the console of the task.

    The first part of a name, or the first two of three, is the title of a plot, the rest the title of a line in it.
    ClearML has no NaN and no infinity, and would show 0: such values are skipped, with one warning.

    Methods of ClearML's logger, such as ``report_table``, are found through this one.

    Args:
        kwargs: Arguments of ``Task.init``: ``project_name``, ``task_name``, … The current task is used if there is one.
        unsent: The file for what the client does not accept; by default a new one in the working folder.

    Raises:
        ModuleNotFoundError: If clearml is not installed.
    """

    _bypass: ClassVar[bool] = False

    def __init__(self, *, unsent: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        clearml = require("clearml", extra="clearml", feature="ClearMLLogger")
        self._task: Any = None
        self._skipped: set[str] = set()

        def start() -> Any:
            self._task = clearml.Task.current_task() or clearml.Task.init(**kwargs)
            return self._task.get_logger()

        super().__init__(start, unsent, Outbox)

    @classmethod
    def set_bypass_mode(cls, bypass: bool) -> None:
        """Make tasks that are created from now on write to a local folder instead of a server."""
        require("clearml", extra="clearml", feature="ClearMLLogger").Task.set_offline(offline_mode=bypass)
        cls._bypass = bypass

    @classmethod
    def bypass_mode(cls) -> bool:
        """The last value passed to :meth:`set_bypass_mode`."""
        return cls._bypass

    @property
    def clearml_logger(self) -> Any:
        """ClearML's logger."""
        return self.client

    def get_task(self) -> Any:
        """The task; None on ranks that log nothing."""
        return self._task

    def send(self, records: Sequence[Record]) -> None:
        each(self._report, singles(records))

    def close(self) -> None:
        """Send the rest, and close the task."""
        super().close()
        self.client.flush()
        if self._task is not None:
            self._task.close()

    def _report(self, record: Record) -> None:
        ((key, value),) = record.values.items()
        getattr(self, f"_report_{record.kind}")(*_title_and_series(key), record.step, value)

    def _report_scalars(self, title: str, series: str, step: int, value: float) -> None:
        if math.isfinite(value):
            self.client.report_scalar(title=title, series=series, iteration=step, value=value)
        elif (name := f"{title}/{series}") not in self._skipped:
            self._skipped.add(name)
            _logger.warning("ClearMLLogger: ClearML does not take %s: such values of %s are skipped", value, name)

    def _report_texts(self, title: str, series: str, step: int, value: str) -> None:
        self.client.report_text(f"{title}/{series} [{step}]: {value}")

    def _report_images(self, title: str, series: str, step: int, value: Any) -> None:
        image = as_bytes(value)
        shown = image.squeeze(2) if image.shape[2] == 1 else image
        self.client.report_image(title=title, series=series, iteration=step, image=shown)

    def _report_histograms(self, title: str, series: str, step: int, value: Any) -> None:
        if (histogram := histogram_of(value)) is not None:
            counts, edges = histogram
            labels = [f"{edge:.4g}" for edge in edges[:-1]]
            self.client.report_histogram(title=title, series=series, iteration=step, values=counts, xlabels=labels)


def _title_and_series(key: tuple[str, ...]) -> tuple[str, str]:
    at = 1 if len(key) < 3 else 2
    return "/".join(key[:at]), "/".join(key[at:]) or key[0]


class ClearMLSaver(DiskSaver):
    """Saves checkpoints in a folder, and as models of a ClearML task: the ``save_handler`` of a Checkpoint.

    ClearML uploads them in the background, if the task has an ``output_uri``. The model of a removed checkpoint is
    reused for the next upload, so there is at most one model more than checkpoints. Checkpoints of an offline task are
    in the folder only.

    Args:
        logger: The logger of the task; by default the current task is used.
        output_uri: Where ClearML uploads to.
        dirname: The folder; by default a temporary one.
        args: Arguments of :class:`~ignite_core.handlers.DiskSaver`, after ``dirname``.
        kwargs: Keyword arguments of the same.

    Raises:
        ModuleNotFoundError: If clearml is not installed.
        TypeError: If ``logger`` is not a ClearMLLogger.
        RuntimeError: If there is no task.
    """

    def __init__(
        self,
        logger: ClearMLLogger | None = None,
        output_uri: str | None = None,
        dirname: str | os.PathLike[str] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        self._clearml = require("clearml", extra="clearml", feature="ClearMLSaver")
        if logger is not None and not isinstance(logger, ClearMLLogger):
            raise TypeError(f"ClearMLSaver: logger must be a ClearMLLogger, got {type(logger).__name__}")
        self._task: Any = None
        if idist.get_rank() == 0:
            self._task = self._clearml.Task.current_task() if logger is None else logger.get_task()
            if self._task is None:
                raise RuntimeError("ClearMLSaver: there must be a task; pass a ClearMLLogger, or call Task.init first")
            if output_uri:
                self._task.output_uri = output_uri
        super().__init__(_temporary_folder() if dirname is None else dirname, *args, **kwargs)
        self._slots: defaultdict[str, list[str | None]] = defaultdict(list)
        self._models: dict[tuple[str, int], Any] = {}

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        with self._hidden_from_clearml():
            super().__call__(checkpoint, filename, metadata)
        if self._task.is_offline():
            return  # the client has no models then
        about = dict(metadata or {})
        basename = about.get("basename") or Path(filename).stem
        slot = self._take_slot(basename, filename)
        if (basename, slot) not in self._models:
            self._models[basename, slot] = self._clearml.OutputModel(task=self._task, framework="PyTorch")
        model = self._models[basename, slot]
        model.name = f"{self._task.name}: {filename}"
        model.comment = "Checkpoint: " + ", ".join(f"{name}={value}" for name, value in about.items())
        model.update_weights(
            weights_filename=str(self._path(filename)),
            target_filename=f"{basename}_{slot}{Path(filename).suffix}",
            auto_delete_file=False,
            iteration=about.get("step"),
        )

    def remove(self, filename: str) -> None:
        super().remove(filename)
        for slots in self._slots.values():
            if filename in slots:
                slots[slots.index(filename)] = None

    def get_local_copy(self, filename: str) -> str | None:
        """Path to a local copy of an artifact of the task; None if there is no such artifact, or no task."""
        if self._task is None or (artifact := self._task.artifacts.get(filename)) is None:
            return None
        path: str = artifact.get_local_copy()
        return path

    def _take_slot(self, basename: str, filename: str) -> int:
        """Index of the slot of a file, of a free slot, or of a new one."""
        slots = self._slots[basename]
        slot = next((slots.index(one) for one in (filename, None) if one in slots), len(slots))
        slots[slot : slot + 1] = [filename]
        return slot

    @contextmanager
    def _hidden_from_clearml(self) -> Iterator[None]:
        """Hide a ``torch.save`` from ClearML, which would register the temporary file as a model."""
        handler = require("clearml.binding.frameworks", extra="clearml", feature="ClearMLSaver").WeightsFileHandler
        number = handler.add_pre_callback(lambda action, model: None)
        try:
            yield
        finally:
            handler.remove_pre_callback(number)


def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="ignite_core_checkpoints_") if idist.get_rank() == 0 else ""
    if idist.get_world_size() > 1:
        folder = str(idist.broadcast(folder, src=0, safe_mode=True))
    warnings.warn(
        f"ClearMLSaver: checkpoints are in the temporary folder {folder}; pass dirname= to choose one", stacklevel=3
    )
    return folder

"""Neptune: series of numbers, text, images and figures of a run."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ignite_contrib._require import require
from ignite_contrib.loggers._media import MediaLogger, as_bytes
from ignite_contrib.loggers.delivery.deliver import each, singles
from ignite_contrib.loggers.delivery.outbox import Outbox
from ignite_contrib.loggers.delivery.record import Record
from ignite_core.handlers import (
    BaseSaveHandler,
    GradsScalarHandler,
    OptimizerParamsHandler,
    OutputHandler,
    WeightsScalarHandler,
    global_step_from_engine,
)

__all__ = [
    "GradsScalarHandler",
    "NeptuneLogger",
    "NeptuneSaver",
    "OptimizerParamsHandler",
    "OutputHandler",
    "WeightsScalarHandler",
    "global_step_from_engine",
]


class NeptuneLogger(MediaLogger):
    """Logs to a run of Neptune, whose client queues and sends.

    Neptune has no NaN and no infinity: its client skips them with a warning. ``logger["parameters"] = {...}`` and
    methods of the run work through the logger.

    Args:
        api_token: Passed to ``neptune.init_run``.
        project: Passed to ``neptune.init_run``.
        unsent: The file for what the client does not accept; by default a new one in the working folder.
        kwargs: Further arguments of ``neptune.init_run``, such as ``mode="offline"``.

    Raises:
        ModuleNotFoundError: If neptune is not installed.
    """

    takes_text = True

    def __init__(
        self,
        api_token: str | None = None,
        project: str | None = None,
        *,
        unsent: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        neptune = require("neptune", extra="neptune", feature="NeptuneLogger")
        super().__init__(lambda: neptune.init_run(api_token=api_token, project=project, **kwargs), unsent, Outbox)
        self._file = require("neptune.types", extra="neptune", feature="NeptuneLogger").File

    @property
    def experiment(self) -> Any:
        """The run."""
        return self.client

    def __getitem__(self, key: str) -> Any:
        return self.client[key] if self.writes else self.client

    def __setitem__(self, key: str, value: Any) -> None:
        if self.writes:
            self.client[key] = value

    def send(self, records: Sequence[Record]) -> None:
        each(self._append, singles(records))

    def close(self) -> None:
        """Send the rest, and stop the run."""
        super().close()
        self.client.stop()

    def _append(self, record: Record) -> None:
        ((key, value),) = record.values.items()
        if record.kind == "images":
            value = self._file.as_image(as_bytes(value).astype("float32") / 255)
        self.client["/".join(key)].append(value, step=record.step, timestamp=record.time)


class NeptuneSaver(BaseSaveHandler):
    """Saves checkpoints as files of a run of Neptune: the ``save_handler`` of a Checkpoint.

    Args:
        neptune_logger: The logger of the run.
    """

    def __init__(self, neptune_logger: NeptuneLogger) -> None:
        self._logger = neptune_logger
        self._file = require("neptune.types", extra="neptune", feature="NeptuneSaver").File

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Pass a file to the client, which uploads it in the background."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        content.seek(0)
        self._logger[filename].upload(self._file.from_stream(content))

    def remove(self, filename: str) -> None:
        if self._logger.client.exists(filename):
            del self._logger.client[filename]

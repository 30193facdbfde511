"""Logs to Neptune."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ignite_contrib._require import require
from ignite_contrib.loggers._media import TakesFigures, TakesImages, TakesTexts, as_bytes
from ignite_contrib.loggers.delivery.delivery import each, singles
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


class NeptuneLogger(TakesImages, TakesFigures, TakesTexts):
    """Logs to a run of Neptune: series of numbers, text, images and figures.

    Neptune has no NaN and no infinity: its client leaves them out, and says so.

    ``logger["parameters"] = {...}`` and methods of the run work through the logger.

    Args:
        api_token: As of ``neptune.init_run``.
        project: As of the same.
        unsent: The file for what cannot be sent.
        kwargs: Of ``neptune.init_run``, such as ``mode="offline"``.

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
        super().__init__(lambda: neptune.init_run(api_token=api_token, project=project, **kwargs), unsent=unsent)
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
        shown = self._as_file(value) if record.kind == "images" else value
        self.client["/".join(key)].append(shown, step=record.step, timestamp=record.time)

    def _as_file(self, image: Any) -> Any:
        return self._file.as_image(as_bytes(image).astype("float32") / 255)


class NeptuneSaver(BaseSaveHandler):
    """Saves checkpoints as files of a run of Neptune: give it to a Checkpoint as ``save_handler``.

    Args:
        neptune_logger: Whose run it is.
    """

    def __init__(self, neptune_logger: NeptuneLogger) -> None:
        self._logger = neptune_logger
        self._file = require("neptune.types", extra="neptune", feature="NeptuneSaver").File

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Hand a file to Neptune, which uploads it in the background."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        content.seek(0)
        self._logger[filename].upload(self._file.from_stream(content))

    def remove(self, filename: str) -> None:
        if self._logger.client.exists(filename):
            del self._logger.client[filename]

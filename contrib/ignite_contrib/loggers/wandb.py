"""Weights & Biases: numbers, text, histograms, images and figures of a run."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ignite_contrib._require import require
from ignite_contrib.loggers._media import HistogramLogger, as_bytes, histogram_of
from ignite_contrib.loggers.delivery.deliver import each
from ignite_contrib.loggers.delivery.outbox import Outbox
from ignite_contrib.loggers.delivery.record import Record
from ignite_core.handlers import BaseSaveHandler, OptimizerParamsHandler, OutputHandler, global_step_from_engine

__all__ = ["OptimizerParamsHandler", "OutputHandler", "WandBLogger", "WandBSaver", "global_step_from_engine"]

_logger = logging.getLogger(__name__)

#: Name of the value that holds the step; it is the x-axis of the charts of the others.
_STEP = "global_step"


class WandBLogger(HistogramLogger):
    """Logs to a run of Weights & Biases, whose client queues and sends.

    The step is a value beside the others, ``global_step``, and the x-axis of their charts. So an evaluator may log
    epochs while the trainer logs iterations; with ``step=`` W&B drops values of a smaller step than before.

    The attributes of the module ``wandb`` are found through the logger: ``logger.config``, ``logger.watch(model)``. Do
    not pass ``step=`` to ``logger.log(...)``: each call of this logger uses a step of W&B.

    Args:
        args: Arguments of ``wandb.init``.
        init: Call ``wandb.init``; if False, call it before the first value is logged.
        unsent: The file for what the client does not accept; by default a new one in the working folder.
        kwargs: Keyword arguments of ``wandb.init``, such as ``project=`` or ``mode="offline"``.

    Raises:
        ModuleNotFoundError: If wandb is not installed.
    """

    takes_text = True

    def __init__(
        self, *args: Any, init: bool = True, unsent: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> None:
        wandb = require("wandb", extra="wandb", feature="WandBLogger")

        def start() -> Any:
            if init:
                wandb.init(*args, **kwargs)
            return wandb

        super().__init__(start, unsent, Outbox)
        self._defined: Any = None  # the run in which the step is defined

    def send(self, records: Sequence[Record]) -> None:
        run = self.client.run
        if run is None:
            raise RuntimeError("WandBLogger: there must be a run; call wandb.init, or pass init=True")
        if self._defined is not run:
            run.define_metric("*", step_metric=_STEP)
            self._defined = run
        each(self._log, records)

    def close(self) -> None:
        """Send the rest, and finish the run."""
        super().close()
        self.client.finish()

    def _log(self, record: Record) -> None:
        converted = {"/".join(key): self._converted(record.kind, value) for key, value in record.values.items()}
        values = {name: value for name, value in converted.items() if value is not None}
        if values:
            self.client.run.log({**values, _STEP: record.step, "_timestamp": record.time})

    def _converted(self, kind: str, value: Any) -> Any:
        if kind == "images":
            return self.client.Image(as_bytes(value))
        if kind == "histograms":
            histogram = histogram_of(value)
            return None if histogram is None else self.client.Histogram(np_histogram=histogram)
        return value


class WandBSaver(BaseSaveHandler):
    """Saves checkpoints as artifacts of a run of Weights & Biases: the ``save_handler`` of a Checkpoint.

    Checkpoints with one ``basename`` are versions of one artifact, each with the name of its file as an alias. When the
    Checkpoint removes one, its version is deleted from the server. An offline run keeps all of them.

    Args:
        logger: The logger of the run.
        type: The type of the artifact in W&B.
        kwargs: Passed to :func:`torch.save`.
    """

    def __init__(self, logger: WandBLogger, type: str = "model", **kwargs: Any) -> None:
        self._logger = logger
        self._type = type
        self._kwargs = kwargs
        self._logged: dict[str, Any] = {}

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Log a version of the artifact; W&B uploads it in the background."""
        about = dict(metadata or {})
        run = self._logger.client.run
        name = re.sub(r"[^\w.-]", "_", f"{about.get('basename') or Path(filename).stem}-{run.id}")
        artifact = self._logger.client.Artifact(name, type=self._type, metadata=about)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, filename)
            torch.save(checkpoint, path, **self._kwargs)
            artifact.add_file(str(path), name=filename)  # copies it
        self._logged[filename] = run.log_artifact(artifact, aliases=["latest", re.sub("[/:]", "_", filename)])

    def remove(self, filename: str) -> None:
        """Delete a version; if the server refuses, a warning is logged."""
        artifact = self._logged.pop(filename, None)
        if artifact is None or self._logger.client.run.offline:
            return
        try:
            artifact.wait().delete(delete_aliases=True)
        except Exception as error:
            _logger.warning("WandBSaver: %s stays on the server (%s: %s)", filename, type(error).__name__, error)

"""Logs to Weights & Biases."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ignite_contrib._require import require
from ignite_contrib.loggers._media import (
    TakesFigures,
    TakesHistograms,
    TakesImages,
    TakesTexts,
    as_bytes,
    histogram_of,
)
from ignite_contrib.loggers.delivery.delivery import each
from ignite_contrib.loggers.delivery.record import Record
from ignite_core.handlers import BaseSaveHandler, OptimizerParamsHandler, OutputHandler, global_step_from_engine

__all__ = ["OptimizerParamsHandler", "OutputHandler", "WandBLogger", "WandBSaver", "global_step_from_engine"]

_logger = logging.getLogger(__name__)

#: The name of the step, beside the values; it is the x axis of their charts.
_STEP = "global_step"


class WandBLogger(TakesImages, TakesFigures, TakesHistograms, TakesTexts):
    """Logs to a run of Weights & Biases: numbers, text, histograms, images and figures.

    The step is a value beside the others, ``global_step``, and the x axis of their charts. So an evaluator may log
    epochs while the trainer logs iterations; with ``step=`` W&B drops what comes with a smaller step than before.

    What the module ``wandb`` has is found through the logger: ``logger.config``, ``logger.watch(model)``. In
    ``logger.log(...)`` give no ``step=``: each call here takes a step of W&B.

    Args:
        args: Of ``wandb.init``.
        init: Call ``wandb.init``; else you do it.
        unsent: The file for what cannot be sent.
        kwargs: Of ``wandb.init``, such as ``project=`` or ``mode="offline"``.

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

        super().__init__(start, unsent=unsent)
        self._named: Any = None  # the run that knows what the step is

    def send(self, records: Sequence[Record]) -> None:
        run = self.client.run
        if run is None:
            raise RuntimeError("WandBLogger: there is no run; call wandb.init, or leave init=True")
        if self._named is not run:
            run.define_metric("*", step_metric=_STEP)
            self._named = run
        each(self._log, records)

    def close(self) -> None:
        """Send the rest, and finish the run."""
        super().close()
        self.client.finish()

    def _log(self, record: Record) -> None:
        make = self._makers[record.kind]
        made = {"/".join(key): make(self.client, value) for key, value in record.values.items()}
        values = {name: value for name, value in made.items() if value is not None}
        if values:
            self.client.run.log({**values, _STEP: record.step, "_timestamp": record.time})

    _makers: Mapping[str, Callable[[Any, Any], Any]] = {
        "scalars": lambda wandb, value: value,
        "texts": lambda wandb, value: value,
        "images": lambda wandb, value: wandb.Image(as_bytes(value)),
        "histograms": lambda wandb, value: _histogram(wandb, value),
    }


def _histogram(wandb: Any, values: Any) -> Any:
    histogram = histogram_of(values)
    return None if histogram is None else wandb.Histogram(np_histogram=histogram)


class WandBSaver(BaseSaveHandler):
    """Saves checkpoints as artifacts of a run of Weights & Biases: give it to a Checkpoint as ``save_handler``.

    Checkpoints with one ``basename`` are versions of one artifact, each with the name of its file as an alias. When the
    Checkpoint removes one, its version is deleted from the server. A run that is offline keeps all of them.

    Args:
        logger: Whose run it is.
        type: What W&B calls the type of the artifact.
        kwargs: Handed to :func:`torch.save`.
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
            artifact.add_file(str(path), name=filename)  # which copies it
        self._logged[filename] = run.log_artifact(artifact, aliases=["latest", re.sub("[/:]", "_", filename)])

    def remove(self, filename: str) -> None:
        """Delete a version; if the server does not let us, that is told, and the run goes on."""
        artifact = self._logged.pop(filename, None)
        if artifact is None or self._logger.client.run.offline:
            return
        try:
            artifact.wait().delete(delete_aliases=True)
        except Exception as error:
            _logger.warning("WandBSaver: %s stays on the server (%s: %s)", filename, type(error).__name__, error)

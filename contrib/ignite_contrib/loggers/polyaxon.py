"""Logs to Polyaxon."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

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
from ignite_core.handlers import OptimizerParamsHandler, OutputHandler, global_step_from_engine

__all__ = ["OptimizerParamsHandler", "OutputHandler", "PolyaxonLogger", "global_step_from_engine"]


class PolyaxonLogger(TakesImages, TakesFigures, TakesHistograms, TakesTexts):
    """Logs to a run of Polyaxon: numbers, histograms, images, figures and text.

    Methods of the run, such as ``log_inputs``, are found through the logger.

    Args:
        args: Of ``polyaxon.tracking.Run``.
        unsent: The file for what cannot be sent.
        kwargs: Of the same, such as ``is_offline=True, artifacts_path="plx"``.

    Raises:
        ModuleNotFoundError: If polyaxon is not installed.
    """

    def __init__(self, *args: Any, unsent: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        tracking = require("polyaxon.tracking", extra="polyaxon", feature="PolyaxonLogger")
        super().__init__(lambda: tracking.Run(*args, **kwargs), unsent=unsent)

    @property
    def experiment(self) -> Any:
        """The run."""
        return self.client

    def send(self, records: Sequence[Record]) -> None:
        each(self._log, records)

    def close(self) -> None:
        """Send the rest, and end the run."""
        super().close()
        self.client.end()

    def _log(self, record: Record) -> None:
        at = {"step": record.step, "timestamp": datetime.fromtimestamp(record.time, UTC)}
        values = {"/".join(key): value for key, value in record.values.items()}
        getattr(self, f"_log_{record.kind}")(values, at)

    def _log_scalars(self, values: dict[str, Any], at: dict[str, Any]) -> None:
        self.client.log_metrics(**at, **values)

    def _log_texts(self, values: dict[str, Any], at: dict[str, Any]) -> None:
        for name, text in values.items():
            self.client.log_text(name, text, **at)

    def _log_images(self, values: dict[str, Any], at: dict[str, Any]) -> None:
        for name, image in values.items():
            self.client.log_image(as_bytes(image), name=name, dataformats="HWC", **at)

    def _log_histograms(self, values: dict[str, Any], at: dict[str, Any]) -> None:
        for name, value in values.items():
            if (histogram := histogram_of(value)) is not None:
                counts, edges = histogram
                # what numpy calls counts and edges, Polyaxon calls values and counts
                self.client.log_np_histogram(name, values=counts, counts=edges, **at)

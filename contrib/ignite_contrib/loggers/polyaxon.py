"""Polyaxon: numbers, histograms, images, figures and text of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ignite_contrib._require import require
from ignite_contrib.loggers._media import HistogramLogger, as_bytes, histogram_of
from ignite_contrib.loggers.delivery.deliver import each
from ignite_contrib.loggers.delivery.outbox import Outbox
from ignite_contrib.loggers.delivery.record import Record
from ignite_core.handlers import OptimizerParamsHandler, OutputHandler, global_step_from_engine

__all__ = ["OptimizerParamsHandler", "OutputHandler", "PolyaxonLogger", "global_step_from_engine"]


class PolyaxonLogger(HistogramLogger):
    """Logs to a run of Polyaxon, whose client queues and sends. Methods of the run are found through the logger.

    Args:
        args: Arguments of ``polyaxon.tracking.Run``.
        unsent: The file for what the client does not accept; by default a new one in the working folder.
        kwargs: Keyword arguments of the same, such as ``is_offline=True, artifacts_path="plx"``.

    Raises:
        ModuleNotFoundError: If polyaxon is not installed.
    """

    def __init__(self, *args: Any, unsent: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        tracking = require("polyaxon.tracking", extra="polyaxon", feature="PolyaxonLogger")
        super().__init__(lambda: tracking.Run(*args, **kwargs), unsent, Outbox)

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
        if record.kind == "scalars":
            self.client.log_metrics(**at, **values)
            return
        for name, value in values.items():
            if record.kind == "texts":
                self.client.log_text(name, value, **at)
            elif record.kind == "images":
                self.client.log_image(as_bytes(value), name=name, dataformats="HWC", **at)
            elif (histogram := histogram_of(value)) is not None:
                counts, edges = histogram
                # Polyaxon's `values` and `counts` are numpy's counts and edges
                self.client.log_np_histogram(name, values=counts, counts=edges, **at)

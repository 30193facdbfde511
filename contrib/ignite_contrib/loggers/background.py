"""Loggers whose back-end is a server: what is logged is sent in the background, and nothing is lost if it is away."""

from __future__ import annotations

import atexit
import logging
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ignite_contrib.loggers.outbox import Outbox
from ignite_contrib.loggers.records import Kind, Record
from ignite_contrib.loggers.unsent import Unsent
from ignite_core.handlers import BaseLogger

__all__ = ["BackgroundLogger", "image_of"]

_logger = logging.getLogger(__name__)

Values = Mapping[tuple[str, ...], Any]


class BackgroundLogger(BaseLogger):
    """A logger that sends in the background; a back-end defines :meth:`send`.

    No call waits for the back-end. One that is slow gets many values at once; of one that is away it is said once, and
    the values stand in a file until it is back. :meth:`close`, the end of a run and that of the program wait for it,
    at most ten seconds; what is left is in the file then, and :meth:`resend` sends it.

    Args:
        open_client: As of :class:`~ignite_core.handlers.BaseLogger`.
        unsent: The file for what cannot be sent; by default one in the working folder, named after the back-end.

    Attributes:
        run: What the back-end calls this run, as far as it is known; it is noted with all that is logged.
        wait_s: Of the class: seconds that a flush, and the end, wait at most.
    """

    run: str = ""
    wait_s: ClassVar[float] = 10.0

    def __init__(self, open_client: Callable[[], Any], *, unsent: str | os.PathLike[str] | None = None) -> None:
        super().__init__(open_client)
        name = self._name = type(self).__name__
        path = Path(unsent or f"{name}-unsent-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.jsonl").absolute()
        self._outbox = Outbox(self.send, path, name)
        self._is_open = False

    @abstractmethod
    def send(self, records: Sequence[Record]) -> None:
        """Send what was logged, in its order, or raise. Called in a thread; everything in it is on the CPU."""

    def scalars(self, step: int, values: Values) -> None:
        """Have numbers sent, and text where the back-end takes it."""
        self._put("scalars", step, dict(values))

    def flush(self) -> None:
        """Wait until all has arrived or stands in the file, at most ten seconds."""
        self._outbox.flush(self.wait_s)

    def close(self) -> None:
        """Send the rest, which takes at most ten seconds. What the back-end did not take stands in the file."""
        if self._is_open:
            self._is_open = False
            atexit.unregister(self._outbox.close)
            self._outbox.close(self.wait_s)

    def resend(self, path: str | os.PathLike[str]) -> None:
        """Send what an earlier run has left in a file, which is deleted then.

        Raises:
            Exception: Of the back-end, if it does not take it; the file stays.
        """
        for batch in Unsent(Path(path)).batches(500):
            self.send(batch)

    def _put(self, kind: Kind, step: int, values: Values) -> None:
        if not self._is_open:
            self._is_open = True
            atexit.register(self._outbox.close, self.wait_s)  # after the client, whose own end comes later then
        self._outbox.put(Record(kind, step, time.time(), values, self.run))

    def _keep(self, kind: Kind, step: int, values: Values, reason: Exception) -> None:
        """Have :meth:`resend` send what the back-end has refused."""
        path = self._outbox.unsent.path
        try:
            self._outbox.unsent.add([Record(kind, step, time.time(), values, self.run)])
        except OSError as error:
            _logger.error("%s: %s is lost: %s; %s takes nothing: %s", self._name, kind, reason, path, error)
        else:
            _logger.warning("%s: %s has not arrived (%s); it stands in %s", self._name, kind, reason, path)


def image_of(figure: Any) -> Tensor:
    """A figure of matplotlib as an image, uint8 of shape ``(3, H, W)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # whoever has a figure has this

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    return pixels.reshape(height, width, 4)[..., :3].permute(2, 0, 1).contiguous()

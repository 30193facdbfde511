"""Loggers that take images, figures, histograms and text beside numbers, and hand them to an outbox."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ignite_contrib.loggers.delivery.background import BackgroundOutbox
from ignite_contrib.loggers.delivery.outbox import Outbox
from ignite_contrib.loggers.delivery.record import Kind, Record, Values, plain, text_of
from ignite_core.handlers import BaseLogger, kept

__all__ = ["HistogramLogger", "MediaLogger", "as_bytes", "finite", "histogram_of"]


class MediaLogger(BaseLogger):
    """A logger of numbers, text, images and figures; a back-end defines :meth:`send`.

    No error of the back-end ends a run. What it does not accept is kept in a file, and is sent as soon as it does.
    Values are copied when they are logged, since training may change them; those on a device are copied there, so
    that training does not wait for it.

    Args:
        open_client: Opens the client of the back-end, on rank 0. Its attributes are found through the logger.
        unsent: The file for what cannot be sent, of this logger alone; by default a new one in the working folder,
            named after the class.
        outbox: The class that delivers: :class:`BackgroundOutbox` sends in a thread; ``Outbox`` sends at once, for
            clients that queue and work offline by themselves.

    Attributes:
        wait_s: Class attribute: longest time in seconds that a flush, and the end, wait for the back-end.
    """

    _run: str = ""  # id of the run in the back-end, kept with all records
    wait_s: ClassVar[float] = 10.0

    def __init__(
        self,
        open_client: Callable[[], Any],
        unsent: str | os.PathLike[str] | None = None,
        outbox: type[Outbox | BackgroundOutbox] = BackgroundOutbox,
    ) -> None:
        super().__init__(open_client)
        self._outbox = outbox(self.send, type(self).__name__, unsent)

    @abstractmethod
    def send(self, records: Sequence[Record]) -> None:
        """Send records of one kind, in order, or raise.

        After an error the same records come again in smaller parts, until it is known which of them are refused. If
        some of them were sent before the error, raise
        :class:`~ignite_contrib.loggers.delivery.deliver.PartlySentError`.
        """

    def scalars(self, step: int, values: Values) -> None:
        """Log numbers, and text if the back-end takes it as a value."""
        self._put("scalars", step, {key: _number(value) for key, value in values.items()})

    def texts(self, step: int, values: Values) -> None:
        """Log text."""
        self._put("texts", step, {key: text_of(text) for key, text in values.items()})

    def images(self, step: int, values: Values) -> None:
        """Log images of shape ``(C, H, W)``: floats in [0, 1], or uint8.

        Raises:
            ValueError: If one does not have three dimensions and 1, 3 or 4 channels.
            TypeError: If one is not a tensor of floats or uint8.
        """
        name = type(self).__name__
        self._put("images", step, {key: _copied(_checked(name, key, image)) for key, image in values.items()})

    def figures(self, step: int, values: Values) -> None:
        """Log figures of matplotlib as images."""
        self._put("images", step, {key: _drawn(figure) for key, figure in values.items()})

    def flush(self) -> None:
        """Wait until all values are sent or in the file, at most ten seconds."""
        self._outbox.flush(self.wait_s)

    def close(self) -> None:
        """Send the rest, for at most ten seconds. What the back-end did not accept is in the file then."""
        self._outbox.close(self.wait_s)

    def resend(self, path: str | os.PathLike[str]) -> None:
        """Send the values in the file of an earlier run, and delete it.

        Values that are refused stay in the file, and one error reports them.

        Raises:
            FileNotFoundError: If there is no such file.
            Exception: Raised by the back-end, if it is unavailable; what was not sent stays in the file.
        """
        self._outbox.resend(path)

    def _put(self, kind: Kind, step: int, values: Values) -> None:
        self._outbox.put(Record(kind, int(step), time.time(), values, self._run))


class HistogramLogger(MediaLogger):
    """A :class:`MediaLogger` that also takes histograms."""

    def histograms(self, step: int, values: Values) -> None:
        """Log tensors of any shape as histograms of their values."""
        self._put("histograms", step, {key: _copied(tensor) for key, tensor in values.items()})


def as_bytes(image: Any) -> Any:
    """Convert an image to an array of uint8 of shape ``(H, W, C)``; floats are clipped to [0, 1], NaN becomes 0.

    Example:
        >>> as_bytes(np.array([[[0.0, 0.5, 1.5]]])).flatten().tolist()
        [0, 128, 255]
    """
    if image.dtype != np.uint8:
        image = np.rint(np.nan_to_num(image.astype(np.float32)).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def finite(values: Any) -> Any:
    """The finite values of an array, as a vector of float32 (float64 stays)."""
    flat = np.asarray(values).reshape(-1)
    if flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    flat = flat if flat.dtype == np.float64 else flat.astype(np.float32)
    return flat[np.isfinite(flat)]


def histogram_of(values: Any, bins: int = 64) -> tuple[list[float], list[float]] | None:
    """Counts and edges of a histogram; None if no value is finite.

    Example:
        >>> histogram_of(np.array([0.0, 0.0, 1.0, 4.0]), bins=2)
        ([3.0, 1.0], [0.0, 2.0, 4.0])
    """
    shown = finite(values)
    if not shown.size:
        return None
    counts, edges = np.histogram(shown.astype(np.float64), bins)
    return [float(count) for count in counts], edges.tolist()


def _number(value: Any) -> Any:
    """A number or text, or a tensor of one element that is read later."""
    number = kept(value)
    return plain(value) if number is None else number


def _copied(tensor: Tensor) -> Any:
    return plain(tensor) if tensor.is_cpu else tensor.detach().clone()


def _drawn(figure: Any) -> Any:
    """Draw a figure of matplotlib as an image, uint8 of shape ``(3, H, W)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].transpose(2, 0, 1)


def _checked(logger: str, key: tuple[str, ...], image: object) -> Tensor:
    name = "/".join(key)
    if not isinstance(image, Tensor) or not (image.is_floating_point() or image.dtype == torch.uint8):
        got = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"{logger}: the image {name!r} must be a tensor of floats in [0, 1] or of uint8, got {got}")
    if image.dim() != 3 or image.shape[0] not in (1, 3, 4):
        raise ValueError(
            f"{logger}: the image {name!r} must be of shape (C, H, W) with 1, 3 or 4 channels, got {tuple(image.shape)}"
        )
    return image.detach()

"""What a back-end takes beside numbers: it derives from these, and gets what was logged in ``send``.

Tensors are copied, as training may change them: to numpy arrays, or where they are if that is not the CPU, so that
training does not wait for a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ignite_contrib.loggers.delivery.background import BackgroundLogger
from ignite_contrib.loggers.delivery.record import plain, text_of

__all__ = ["TakesFigures", "TakesHistograms", "TakesImages", "TakesTexts", "as_bytes", "finite", "histogram_of"]

Values = Mapping[tuple[str, ...], Any]


class TakesImages(BackgroundLogger):
    """A back-end that takes images: of shape ``(C, H, W)``, floats in [0, 1] or bytes in [0, 255]."""

    def images(self, step: int, values: Values) -> None:
        """Have images sent.

        Raises:
            ValueError: If one is not of shape ``(C, H, W)`` with 1, 3 or 4 channels.
            TypeError: If one holds neither floats nor bytes.
        """
        who = type(self).__name__
        self._put("images", step, {key: _copied(_checked(who, key, image)) for key, image in values.items()})


class TakesFigures(BackgroundLogger):
    """A back-end that takes images, and figures of matplotlib as such."""

    def figures(self, step: int, values: Values) -> None:
        """Have figures sent, drawn as they are now."""
        self._put("images", step, {key: _image_of(figure) for key, figure in values.items()})


class TakesHistograms(BackgroundLogger):
    """A back-end that takes tensors of any shape, to be shown as histograms of their values."""

    def histograms(self, step: int, values: Values) -> None:
        """Have histograms sent."""
        self._put("histograms", step, {key: _copied(tensor) for key, tensor in values.items()})


class TakesTexts(BackgroundLogger):
    """A back-end that takes text."""

    def texts(self, step: int, values: Values) -> None:
        """Have texts sent."""
        self._put("texts", step, {key: text_of(text) for key, text in values.items()})


def as_bytes(image: Any) -> Any:
    """An image as an array of uint8, of shape ``(H, W, C)``; floats are cut off at 0 and 1, NaN is black.

    Example:
        >>> as_bytes(np.array([[[0.0, 0.5, 1.5]]])).flatten().tolist()
        [0, 128, 255]
    """
    if image.dtype != np.uint8:
        image = np.rint(np.nan_to_num(image.astype(np.float32)).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def finite(values: Any) -> Any:
    """The values that a histogram can show, as a vector of float32 (float64 stays): neither NaN nor infinite.

    Example:
        >>> finite(np.array([[1.0, np.nan], [np.inf, 2.0]])).tolist()
        [1.0, 2.0]
    """
    flat = np.asarray(values).reshape(-1)
    if flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    flat = flat if flat.dtype == np.float64 else flat.astype(np.float32)
    return flat[np.isfinite(flat)]


def histogram_of(values: Any, bins: int = 64) -> tuple[list[float], list[float]] | None:
    """How many values lie between which edges; None if there is no finite one.

    Example:
        >>> histogram_of(np.array([0.0, 0.0, 1.0, 4.0]), bins=2)
        ([3.0, 1.0], [0.0, 2.0, 4.0])
    """
    shown = finite(values)
    if not shown.size:
        return None
    counts, edges = np.histogram(shown.astype(np.float64), bins)
    return [float(count) for count in counts], edges.tolist()


def _copied(tensor: Tensor) -> Any:
    return plain(tensor) if tensor.is_cpu else tensor.detach().clone()


def _image_of(figure: Any) -> Any:
    """A figure of matplotlib as an image, uint8 of shape ``(3, H, W)``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # whoever has a figure has this

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].transpose(2, 0, 1)


def _checked(who: str, key: tuple[str, ...], image: Any) -> Tensor:
    name = "/".join(key)
    if not isinstance(image, Tensor) or not (image.is_floating_point() or image.dtype == torch.uint8):
        got = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"{who}: the image {name!r} must be a tensor of floats in [0, 1] or of uint8, got {got}")
    if image.dim() != 3 or image.shape[0] not in (1, 3, 4):
        raise ValueError(
            f"{who}: the image {name!r} must be of shape (C, H, W) with 1, 3 or 4 channels, got {tuple(image.shape)}"
        )
    return image.detach()

"""What a back-end takes beside numbers: it derives from these, and gets what was logged in ``send``.

Tensors are copied where they are, so that nobody waits for a device, and training may change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ignite_contrib.loggers.background import BackgroundLogger, image_of

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
        self._put("images", step, {key: _checked(who, key, image).clone() for key, image in values.items()})


class TakesFigures(BackgroundLogger):
    """A back-end that takes images, and figures of matplotlib as such."""

    def figures(self, step: int, values: Values) -> None:
        """Have figures sent, drawn as they are now."""
        self._put("images", step, {key: image_of(figure) for key, figure in values.items()})


class TakesHistograms(BackgroundLogger):
    """A back-end that takes tensors of any shape, to be shown as histograms of their values."""

    def histograms(self, step: int, values: Values) -> None:
        """Have histograms sent."""
        self._put("histograms", step, {key: tensor.detach().clone() for key, tensor in values.items()})


class TakesTexts(BackgroundLogger):
    """A back-end that takes text."""

    def texts(self, step: int, values: Values) -> None:
        """Have texts sent."""
        self._put("texts", step, {key: str(text) for key, text in values.items()})


def as_bytes(image: Tensor) -> Tensor:
    """An image as uint8 of shape ``(H, W, C)``; floats are cut off at 0 and 1, NaN is black.

    Example:
        >>> as_bytes(torch.tensor([[[0.0, 0.5, 1.5]]])).flatten()
        tensor([  0, 128, 255], dtype=torch.uint8)
    """
    if image.dtype != torch.uint8:
        image = image.float().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return image.permute(1, 2, 0).contiguous()


def finite(tensor: Tensor) -> Tensor:
    """The values that a histogram can show, as a vector of float32 (float64 stays): neither NaN nor infinite.

    Example:
        >>> finite(torch.tensor([[1.0, float("nan")], [float("inf"), 2.0]], dtype=torch.bfloat16))
        tensor([1., 2.])
    """
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    values = values.reshape(-1)
    values = values if values.dtype == torch.float64 else values.float()
    return values[values.isfinite()]


def histogram_of(tensor: Tensor, bins: int = 64) -> tuple[list[float], list[float]] | None:
    """How many values lie between which edges; None if there is no finite one.

    Example:
        >>> histogram_of(torch.tensor([0.0, 0.0, 1.0, 4.0]), bins=2)
        ([3.0, 1.0], [0.0, 2.0, 4.0])
    """
    values = finite(tensor)
    if not values.numel():
        return None
    counts, edges = torch.histogram(values, bins)
    return counts.tolist(), edges.tolist()


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

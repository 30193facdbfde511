"""A stand-in for ``torch_xla.distributed.parallel_loader``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .. import sync  # noqa: TID252 - only on a path of its own is this `torch_xla`


class MpDeviceLoader:
    def __init__(self, loader: Any, device: torch.device, **kwargs: Any) -> None:
        self._loader, self._device = loader, device

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            sync()
            yield batch.to(self._device)

    def __len__(self) -> int:
        return len(self._loader)

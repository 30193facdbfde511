"""Find a NaN or an infinity in the nested output of a step, without waiting for a device."""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Number
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ignite_core.handlers.checkpoint.sharded import dtensor_type

__all__ = ["DeviceFlags", "Place", "find_nonfinite", "holds_numbers", "is_finite", "show"]

#: The place of a value in a nested structure: that of its container, and the key; None is the structure itself.
Place = tuple[Any, Any] | None

#: The iteration of a NaN that was not found.
_NEVER: Final = 2**62

#: Bits for the number of a place, below those of the iteration.
_BITS: Final = 12


def show(place: Place, name: str = "output") -> str:
    """A place as a Python expression.

    Example:
        >>> show(((None, "losses"), 2))
        "output['losses'][2]"
    """
    return name if place is None else f"{show(place[0], name)}[{place[1]!r}]"


def find_nonfinite(value: Any, on_devices: list[tuple[Place, Tensor]], place: Place = None) -> Place | Literal[False]:
    """The first place in nested mappings and sequences that holds a NaN or an infinity; False if there is none.

    Tensors on devices are appended to ``on_devices`` with their places instead, since checking them would wait.

    Example:
        >>> find_nonfinite({"loss": 1e100, "scores": [1, torch.tensor([0.0, torch.inf])]}, [])
        ((None, 'scores'), 1)
    """
    if type(value) is float:  # fast path for the output of most steps
        return False if math.isfinite(value) else place
    if isinstance(value, Tensor):
        if not value.is_cpu:
            on_devices.append((place, value))
            return False
        return False if is_finite(value) else place
    if isinstance(value, Number):
        return False if is_finite(value) else place
    if isinstance(value, Mapping):
        pairs: Any = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        pairs = enumerate(value)
    else:
        return False
    for key, one in pairs:
        found = find_nonfinite(one, on_devices, (place, key))
        if found is not False:
            return found
    return False


def holds_numbers(value: Any) -> bool:
    """Whether a structure holds any number or tensor."""
    if isinstance(value, Tensor | Number):
        return True
    if isinstance(value, Mapping):
        return any(map(holds_numbers, value.values()))
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and any(map(holds_numbers, value))


def is_finite(value: Any) -> bool:
    """Whether a number, or each element of a CPU tensor, is finite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Tensor):
        if type(value) is Tensor and value.numel() == 1 and value.layout is torch.strided:
            return is_finite(value.item())
        values = _values(value)
        if values is None:
            return True
        least, largest = torch.aminmax(values)  # both are NaN if any element is; the fastest way on a CPU
        return math.isfinite(least.item()) and math.isfinite(largest.item())
    if isinstance(value, Decimal):
        return value.is_finite()
    try:
        return cmath.isfinite(value)
    except OverflowError:  # an integer or a fraction that is too large for a float
        return True


def _values(tensor: Tensor) -> Tensor | None:
    """The elements of a tensor that may be NaN or infinite, as real numbers; None if there are none."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return None
    values = tensor.detach()
    if isinstance(values, dtensor_type() or ()):
        values = values.to_local()  # each rank checks its part, which may be empty
    if values.layout is torch.sparse_coo:
        values = values._values()
    elif values.layout is not torch.strided:
        values = values.values()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())  # the magnitude of a finite number may overflow
    if values.dtype.itemsize == 1:
        values = values.float()
    return values if values.numel() else None


class DeviceFlags:
    """Keeps, on each device, when and where the first NaN or infinity was found; only :meth:`first` waits."""

    def __init__(self) -> None:
        self._places: dict[Place, int] = {}
        self._first: dict[torch.device, Tensor] = {}  # iteration and number of the place, as one number

    def update(self, iteration: int, place: Place, tensor: Tensor) -> None:
        """Record on the device whether the tensor has a NaN or an infinity."""
        values = _values(tensor)
        if values is None:
            return
        number = self._places.setdefault(place, min(len(self._places), 2**_BITS - 1))
        code = iteration << _BITS | number
        first = self._first.get(tensor.device)
        if first is None:
            first = self._first[tensor.device] = torch.full((), _NEVER, dtype=torch.int64, device=tensor.device)
        # No where() with scalars: it would copy them to the device, and wait.
        is_finite = torch.linalg.vector_norm(values, torch.inf).lt(torch.inf)  # the largest magnitude, or NaN
        now = is_finite.mul(_NEVER - code).add(code)
        torch.minimum(first, now, out=first)

    def first(self) -> tuple[int, Place] | None:
        """The first iteration and place; None if all values were finite. Waits for the devices."""
        codes = [int(first.item()) for first in self._first.values()]
        code = min(codes, default=_NEVER)
        if code == _NEVER:
            return None
        return code >> _BITS, list(self._places)[code & (2**_BITS - 1)]

    def reset(self) -> None:
        """Forget everything."""
        self._first.clear()

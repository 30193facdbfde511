"""Find the NaN or infinity in whatever structure a step returns, without waiting for a device."""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Number, Rational
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ignite_core.handlers.checkpoint.sharded import dtensor_type

__all__ = ["DeviceFlags", "Place", "holds_numbers", "is_finite", "non_finite", "show"]

#: Where something lies in a structure: the place around it and the key there; None is the structure itself.
Place = tuple[Any, Any] | None

#: Stands for the iteration of a NaN that was not met.
_NEVER: Final = 2**62

#: Places by number: as many as fit into the lowest bits of what a device keeps.
_BITS: Final = 12


def show(place: Place, name: str = "output") -> str:
    """A place as it would be written in Python.

    Example:
        >>> show(((None, "losses"), 2))
        "output['losses'][2]"
    """
    return name if place is None else f"{show(place[0], name)}[{place[1]!r}]"


def non_finite(value: Any, later: list[tuple[Place, Tensor]], place: Place = None) -> Place | Literal[False]:
    """The first place in a structure that holds a NaN or an infinity; False if there is none.

    Args:
        value: Numbers and tensors in mappings and sequences, nested at will; what else is there is passed over.
        later: Gets the tensors on devices, with their places: to look at them would be to wait.
        place: Where ``value`` lies in the whole.

    Example:
        >>> non_finite({"loss": 1e100, "scores": [1, torch.tensor([0.0, torch.inf])]}, [])
        ((None, 'scores'), 1)
    """
    if type(value) is float:  # the quick way, for what most steps return
        return False if math.isfinite(value) else place
    if isinstance(value, Tensor):
        if not value.is_cpu:
            later.append((place, value))
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
        found = non_finite(one, later, (place, key))
        if found is not False:
            return found
    return False


def holds_numbers(value: Any) -> bool:
    """Whether there is any number or tensor in a structure."""
    if isinstance(value, Tensor | Number):
        return True
    if isinstance(value, Mapping):
        return any(map(holds_numbers, value.values()))
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and any(map(holds_numbers, value))


def is_finite(value: Any) -> bool:
    """Whether a number, or all of a tensor of the CPU, is finite. What has no NaN (whole numbers) is."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Tensor):
        if type(value) is Tensor and value.numel() == 1 and value.layout is torch.strided:
            return is_finite(value.item())
        values = _values(value)
        if values is None:
            return True
        least, largest = torch.aminmax(values)  # both are NaN if any is; on a CPU nothing is quicker
        return math.isfinite(least.item()) and math.isfinite(largest.item())
    if isinstance(value, int | Rational):  # of any size: a float could not hold it
        return True
    if isinstance(value, complex):
        return cmath.isfinite(value)
    if isinstance(value, Decimal):
        return value.is_finite()
    try:
        return math.isfinite(value)  # a number of another library
    except TypeError:
        return cmath.isfinite(value)


def _values(tensor: Tensor) -> Tensor | None:
    """What may be NaN or infinite in a tensor, as real numbers; None if nothing can be."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0:
        return None
    values = tensor.detach()
    if isinstance(values, dtensor_type() or ()):
        values = values.to_local()  # each rank looks at its part, which may be empty
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
    """Remembers on a device when and where the first NaN or infinity was met there; nothing waits until it is asked."""

    def __init__(self) -> None:
        self._places: dict[Place, int] = {}
        self._first: dict[torch.device, Tensor] = {}  # iteration and number of the place, as one number

    def watch(self, iteration: int, place: Place, tensor: Tensor) -> None:
        """Take note, on the device, if the tensor is not finite."""
        values = _values(tensor)
        if values is None:
            return
        number = self._places.setdefault(place, min(len(self._places), 2**_BITS - 1))
        code = iteration << _BITS | number
        first = self._first.get(tensor.device)
        if first is None:
            first = self._first[tensor.device] = torch.full((), _NEVER, dtype=torch.int64, device=tensor.device)
        # No scalar travels to the device: where() would copy it, and wait.
        is_finite = torch.linalg.vector_norm(values, torch.inf).lt(torch.inf)  # the largest magnitude, or NaN
        now = is_finite.mul(_NEVER - code).add(code)
        torch.minimum(first, now, out=first)

    def first(self) -> tuple[int, Place] | None:
        """The iteration and the place of the first one, if there was any; waits for the devices."""
        codes = [int(first.item()) for first in self._first.values()]
        code = min(codes, default=_NEVER)
        if code == _NEVER:
            return None
        return code >> _BITS, list(self._places)[code & (2**_BITS - 1)]

    def forget(self) -> None:
        """Begin anew."""
        self._first.clear()

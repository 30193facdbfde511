"""One reduction for many metrics: at most two collectives, for any number of metrics with any states.

Each rank packs the states of its metrics into one payload of bytes. The first collective gathers a parcel of fixed size
from each rank: a header (a hash of the metrics, whether the rank failed, the length of its payload) and as much of the
payload as fits, usually all of it. If it does not fit on every rank, a second collective gathers the rest, padded to
the longest. Every rank then combines the states in rank order, so all ranks hold the same bits. Uneven states, and the
states of a rank without batches, need no special case. Only large states, such as a confusion matrix of thousands of
classes, are reduced by the backend instead, with one collective for each op and dtype among them.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from ignite_core.distributed import collectives
from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed
from ignite_core.distributed.serialization import from_bytes, to_bytes, unpack
from ignite_core.metrics.core.states import StateSpec

#: Larger states, in bytes, are reduced by the backend where possible.
LARGE = 2**20

#: Tensors of up to so many elements are sent as Python numbers, which is faster than as bytes.
_FEW = 64

#: Bytes that each rank sends in the first collective, and those of the header at its beginning.
_PARCEL, _HEADER = 4096, 24


class Reducible(Protocol):
    """A metric as far as the reduction over ranks is concerned."""

    _specs: ClassVar[Mapping[str, StateSpec]]
    _is_synced: bool

    def _export(self) -> dict[str, Any]: ...
    def _combined(self, ranks: Sequence[Mapping[str, Any]]) -> Any: ...
    def _leaves(self) -> Sequence[Any]: ...
    def _with_leaves(self, leaves: Mapping[Any, Any]) -> Any: ...
    def _adopt_attributes(self, computed: Any) -> None: ...


M = TypeVar("M", bound=Reducible)


def synced(metrics: Sequence[tuple[str, M]]) -> list[M]:
    """Copies of the metrics that hold the data of all ranks; the metrics passed in keep their states.

    All ranks must call it. With one process the metrics themselves are returned.

    Args:
        metrics: With names for messages.
    """
    if idist.get_world_size() == 1 or not metrics:
        return [metric for _, metric in metrics]
    schema = [(name, type(metric).__qualname__) for name, metric in metrics]
    error: Exception | None = None
    try:
        own = [metric._export() for _, metric in metrics]
        packed, blobs = _pack(metrics, own)
    except Exception as failure:
        error, own, packed, blobs = failure, [], f"{type(failure).__name__}: {failure}", []
    payload = _payload((schema, packed), blobs)
    digest = int.from_bytes(hashlib.blake2b(repr(schema).encode(), digest_size=7).digest(), "little")
    headers, rows = _exchange([digest, int(error is not None), payload.numel()], payload)
    if error is not None:
        raise agreed(error)
    ranks = [_unpack(row) for row in rows]
    if any(failed or other != digest for other, failed, _ in headers):
        raise agreed(RuntimeError(f"metrics: {_disagreement(ranks)}"))
    states = [states for _, states in ranks]
    _reduce_large(metrics, own, states)
    return [metric._combined([of[place] for of in states]) for place, (_, metric) in enumerate(metrics)]


def over_all_ranks(compute: Callable[..., Any]) -> Callable[..., Any]:
    """``compute`` with the states of all ranks."""

    @wraps(compute)
    def compute_reduced(self: Reducible) -> Any:
        if self._is_synced or idist.get_world_size() == 1:
            return compute(self)
        leaves = self._leaves()
        if all(leaf._is_synced for leaf in leaves):
            return compute(self)
        reduced = synced([(f"{type(self).__name__}.{number}", leaf) for number, leaf in enumerate(leaves)])
        value = self._with_leaves(dict(zip(leaves, reduced, strict=True))).compute()
        for leaf, copy in zip(leaves, reduced, strict=True):
            leaf._adopt_attributes(copy)
        return value

    return compute_reduced


def _exchange(header: list[int], payload: Tensor) -> tuple[list[list[int]], list[Tensor]]:
    """Gather the headers and payloads of all ranks."""
    parcel = torch.zeros(1, _PARCEL, dtype=torch.uint8)
    parcel[0, :_HEADER] = torch.tensor(header).view(torch.uint8)
    head = payload[: _PARCEL - _HEADER]
    parcel[0, _HEADER : _HEADER + head.numel()] = head
    parcels = idist.all_gather(parcel)
    headers = parcels[:, :_HEADER].clone().view(torch.int64).tolist()
    longest = max(length for _, _, length in headers) - (_PARCEL - _HEADER)
    if longest <= 0:
        return headers, list(parcels[:, _HEADER:])
    rest = payload[_PARCEL - _HEADER :]
    rests = idist.all_gather(torch.nn.functional.pad(rest, (0, longest - rest.numel())).unsqueeze(0))
    return headers, list(torch.cat([parcels[:, _HEADER:], rests], dim=1))


#: First element of the tuple that replaces a tensor: its elements follow as Python numbers; its bytes are at the end of
#: the payload; or nothing, because it is large and reduced by the backend.
_NUMBERS, _BYTES, _LARGE = range(3)


def _pack(metrics: Sequence[tuple[str, Reducible]], states: list[dict[str, Any]]) -> tuple[Any, list[Tensor]]:
    """The states with their tensors replaced, and the tensors to send as bytes."""
    blobs: list[Tensor] = []

    def pack(value: Any, may_be_large: bool) -> Any:
        if isinstance(value, list):
            return [pack(one, False) for one in value]
        if not isinstance(value, Tensor):  # a total may be a number with a dtype: send a plain one
            return int(value) if isinstance(value, int) else float(value) if isinstance(value, float) else value
        if value.numel() <= _FEW and value.is_cpu and not value.is_complex():
            return _NUMBERS, value.dtype, tuple(value.shape), value.tolist()
        if may_be_large and value.numel() * value.element_size() > LARGE:
            return _LARGE, value.dtype, tuple(value.shape)
        blobs.append(to_bytes(value))
        return _BYTES, value.dtype, tuple(value.shape)

    packed = [
        {name: pack(value, name in metric._specs and metric._specs[name].may_be_large) for name, value in one.items()}
        for (_, metric), one in zip(metrics, states, strict=True)
    ]
    return packed, blobs


def _payload(packed: Any, blobs: list[Tensor]) -> Tensor:
    """One byte tensor on the CPU: the length of the pickle, the pickle, the tensors. Waits for a device once."""
    head = pickle.dumps(packed, protocol=pickle.HIGHEST_PROTOCOL)
    flat = torch.frombuffer(bytearray(len(head).to_bytes(8, "little") + head), dtype=torch.uint8)
    devices = {blob.device for blob in blobs}
    tail = [torch.cat(blobs)] if len(devices) == 1 else blobs
    return torch.cat([flat, *(one.cpu() for one in tail)])


def _unpack(row: Tensor) -> tuple[Any, Any]:
    """The schema of a rank and its states, or the message of its error."""
    length = int(from_bytes(row[:8], torch.int64, ()))
    schema, packed = unpack(row[8 : 8 + length])
    if isinstance(packed, str):
        return schema, packed
    offset = 8 + length

    def restore(value: Any) -> Any:
        nonlocal offset
        if isinstance(value, list):
            return [restore(one) for one in value]
        if not isinstance(value, tuple) or value[0] == _LARGE:
            return value
        kind, dtype, shape, *numbers = value
        if kind == _NUMBERS:
            tensor = torch.tensor(numbers[0], dtype=dtype)
            return tensor if tensor.numel() else tensor.view(shape)
        begin, offset = offset, offset + math.prod(shape) * dtype.itemsize
        return from_bytes(row[begin:offset], dtype, shape)

    return schema, [{name: restore(value) for name, value in one.items()} for one in packed]


def _reduce_large(
    metrics: Sequence[tuple[str, Reducible]], own: list[dict[str, Any]], ranks: list[list[dict[str, Any]]]
) -> None:
    """Reduce the large states by the backend; the result replaces the state of the first rank."""
    found = {
        (place, name): value
        for states in ranks
        for place, one in enumerate(states)
        for name, value in one.items()
        if isinstance(value, tuple)
    }
    if not found:
        return
    order = sorted(found)
    inputs = []
    for place, name in order:
        (_, dtype, shape), spec, value = found[place, name], metrics[place][1]._specs[name], own[place][name]
        if not isinstance(value, Tensor) or value.shape != shape:  # no data on this rank
            value = torch.as_tensor(spec.fresh(), dtype=dtype).expand(shape)
        assert spec.op is not None
        inputs.append((value.cpu(), spec.op))
    for (place, name), value in zip(order, idist.all_reduce_packed(inputs), strict=True):
        for number, states in enumerate(ranks):
            states[place][name] = value if number == 0 else metrics[place][1]._specs[name].fresh()


def _disagreement(ranks: list[tuple[Any, Any]]) -> str:
    failed = {rank: packed for rank, (_, packed) in enumerate(ranks) if isinstance(packed, str)}
    if failed:
        return "; ".join(f"the metrics of rank {rank} could not be read: {text}" for rank, text in failed.items())
    difference = collectives.disagreement([[f"{name} ({kind})" for name, kind in schema] for schema, _ in ranks])
    return f"all ranks must compute the same metrics at the same event, but {difference}"

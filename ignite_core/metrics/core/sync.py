"""One reduction for many metrics: two collectives at most, however many there are and whatever they remember.

Each rank packs the states of its metrics into one payload of bytes. The first collective brings a parcel of fixed size
from each rank: a header (what its metrics are, hashed; whether it failed; how long its payload is) and as much of the
payload as fits, which mostly is all of it. Where it does not fit on every rank, a second one brings the rest, padded to
the longest. Every rank then combines the states in rank order, so that all of them hold the same bits. States that are
uneven, or that a rank without batches does not have, need nothing special. Only large ones, such as a confusion matrix
of thousands of classes, are reduced by the backend instead, with a collective for each op and dtype among them.
"""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ignite_core.distributed import collectives
from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed
from ignite_core.distributed.serialization import from_bytes, to_bytes, unpack

if TYPE_CHECKING:
    from ignite_core.metrics.core.metric import Metric

__all__ = ["synced"]

#: States of more bytes are reduced by the backend, if they can be.
LARGE = 2**20

#: Tensors of up to so many elements travel as Python numbers: quicker than bytes.
_FEW = 64

#: Bytes that each rank sends at first, of which the header takes the first ones.
_PARCEL, _HEADER = 4096, 24


def synced(metrics: Sequence[tuple[str, Metric]]) -> list[Metric]:
    """Metrics that have seen what those of all ranks have seen; the ones passed in keep what they have.

    All ranks must call it. In a run of one process the very metrics are returned.

    Args:
        metrics: With names for messages.

    Raises:
        RuntimeError: On all ranks if one of them has other metrics, or has failed to say what it has seen.
    """
    if idist.get_world_size() == 1 or not metrics:
        return [metric for _, metric in metrics]
    schema = [(name, type(metric).__qualname__) for name, metric in metrics]
    error: Exception | None = None
    try:
        mine = [metric._export() for _, metric in metrics]
        told, blobs = _pack(metrics, mine)
    except Exception as failure:
        error, mine, told, blobs = failure, [], f"{type(failure).__name__}: {failure}", []
    payload = _payload((schema, told), blobs)
    digest = int.from_bytes(hashlib.blake2b(repr(schema).encode(), digest_size=7).digest(), "little")
    headers, rows = _exchange([digest, int(error is not None), payload.numel()], payload)
    if error is not None:
        raise agreed(error)
    ranks = [_unpack(row) for row in rows]
    if any(failed or other != digest for other, failed, _ in headers):
        raise agreed(RuntimeError(f"metrics: {_complaint(ranks)}"))
    states = [states for _, states in ranks]
    _reduce_large(metrics, mine, states)
    return [metric._combined([of[place] for of in states]) for place, (_, metric) in enumerate(metrics)]


def _exchange(header: list[int], payload: Tensor) -> tuple[list[list[int]], list[Tensor]]:
    """The headers and payloads of all ranks."""
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


#: What stands for a tensor, as the first of a tuple: its elements as Python numbers; its bytes at the end of the
#: payload; or nothing, because it is large and reduced by the backend.
_NUMBERS, _BYTES, _LARGE = range(3)


def _pack(metrics: Sequence[tuple[str, Metric]], states: list[dict[str, Any]]) -> tuple[Any, list[Tensor]]:
    """The states without the tensors in them, and those tensors."""
    blobs: list[Tensor] = []

    def packed(value: Any, may_be_large: bool) -> Any:
        if isinstance(value, list):
            return [packed(one, False) for one in value]
        if not isinstance(value, Tensor):  # a total may be a number that knows its dtype: here it is a plain one
            return int(value) if isinstance(value, int) else float(value) if isinstance(value, float) else value
        if value.numel() <= _FEW and value.is_cpu and not value.is_complex():
            return _NUMBERS, value.dtype, tuple(value.shape), value.tolist()
        if may_be_large and value.numel() * value.element_size() > LARGE:
            return _LARGE, value.dtype, tuple(value.shape)
        blobs.append(to_bytes(value))
        return _BYTES, value.dtype, tuple(value.shape)

    told = [
        {name: packed(value, name in metric._specs and metric._specs[name].may_be_large) for name, value in one.items()}
        for (_, metric), one in zip(metrics, states, strict=True)
    ]
    return told, blobs


def _payload(told: Any, blobs: list[Tensor]) -> Tensor:
    """One tensor of bytes on the CPU: the length of what is pickled, that, and the tensors. One wait for a device."""
    head = pickle.dumps(told, protocol=pickle.HIGHEST_PROTOCOL)
    flat = torch.frombuffer(bytearray(len(head).to_bytes(8, "little") + head), dtype=torch.uint8)
    devices = {blob.device for blob in blobs}
    tail = [torch.cat(blobs)] if len(devices) == 1 else blobs
    return torch.cat([flat, *(one.cpu() for one in tail)])


def _unpack(row: Tensor) -> tuple[Any, Any]:
    """The schema of a rank and its states, or what failed there."""
    length = int(from_bytes(row[:8], torch.int64, ()))
    schema, told = unpack(row[8 : 8 + length])
    if isinstance(told, str):
        return schema, told
    offset = 8 + length

    def unpacked(value: Any) -> Any:
        nonlocal offset
        if isinstance(value, list):
            return [unpacked(one) for one in value]
        if not isinstance(value, tuple) or value[0] == _LARGE:
            return value
        kind, dtype, shape, *numbers = value
        if kind == _NUMBERS:
            tensor = torch.tensor(numbers[0], dtype=dtype)
            return tensor if tensor.numel() else tensor.view(shape)
        begin, offset = offset, offset + math.prod(shape) * dtype.itemsize
        return from_bytes(row[begin:offset], dtype, shape)

    return schema, [{name: unpacked(value) for name, value in one.items()} for one in told]


def _reduce_large(
    metrics: Sequence[tuple[str, Metric]], mine: list[dict[str, Any]], ranks: list[list[dict[str, Any]]]
) -> None:
    """Reduce the large states by the backend; what came of it then counts as the state of the first rank."""
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
    brought = []
    for place, name in order:
        (_, dtype, shape), spec, own = found[place, name], metrics[place][1]._specs[name], mine[place][name]
        if not isinstance(own, Tensor) or own.shape != shape:  # this rank has seen nothing
            own = torch.as_tensor(spec.fresh(), dtype=dtype).expand(shape)
        assert spec.op is not None
        brought.append((own.cpu(), spec.op))
    for (place, name), value in zip(order, idist.all_reduce_packed(brought), strict=True):
        for number, states in enumerate(ranks):
            states[place][name] = value if number == 0 else metrics[place][1]._specs[name].fresh()


def _complaint(ranks: list[tuple[Any, Any]]) -> str:
    failed = {rank: told for rank, (_, told) in enumerate(ranks) if isinstance(told, str)}
    if failed:
        return "; ".join(f"the metrics of rank {rank} could not be read: {told}" for rank, told in failed.items())
    difference = collectives.disagreement([[f"{name} ({kind})" for name, kind in schema] for schema, _ in ranks])
    return f"all ranks must compute the same metrics at the same event, but {difference}"

"""One reduction for many metrics: two collectives, however many there are and whatever they remember.

The first brings a header of three numbers from each rank: what its metrics are (hashed), whether it failed, and how
long its payload is. The second brings the payloads, padded to the longest: all states as bytes, which every rank then
combines in rank order, so that all of them hold the same bits. States that are uneven, or that a rank without batches
does not have, need nothing special. Only large ones, such as a confusion matrix of thousands of classes, are reduced by
the backend instead, one collective for each op and dtype among them.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ignite_core.distributed import collectives
from ignite_core.distributed import utils as idist
from ignite_core.distributed.wire import from_bytes, to_bytes, unpack

if TYPE_CHECKING:
    from ignite_core.metrics.metric import Metric

__all__ = ["synced"]

#: States of more bytes are reduced by the backend, if they can be.
LARGE = 2**20

#: Tensors of up to so many elements travel as Python numbers: quicker than bytes.
_FEW = 64


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
    headers = idist.all_gather(torch.tensor([[digest, error is not None, payload.numel()]]))
    padded = torch.nn.functional.pad(payload, (0, int(headers[:, 2].max()) - payload.numel()))
    rows = idist.all_gather(padded.unsqueeze(0))
    if error is not None:
        raise error
    ranks = [_unpack(row) for row in rows]
    if headers[:, 1].any() or (headers[:, 0] != digest).any():
        raise RuntimeError(f"metrics: {_complaint(ranks)}")
    states = [states for _, states in ranks]
    _reduce_large(metrics, mine, states)
    return [metric._combined([of[place] for of in states]) for place, (_, metric) in enumerate(metrics)]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Stands for a tensor that does not travel as Python numbers."""

    dtype: torch.dtype
    shape: torch.Size
    is_large: bool  # it is not in the payload at all; else its bytes are at the end of it

    @property
    def num_bytes(self) -> int:
        return 0 if self.is_large else self.shape.numel() * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class _Few:
    """A small tensor as Python numbers."""

    dtype: torch.dtype
    shape: torch.Size
    numbers: Any

    def tensor(self) -> Tensor:
        return torch.tensor(self.numbers, dtype=self.dtype).view(self.shape)


def _pack(metrics: Sequence[tuple[str, Metric]], states: list[dict[str, Any]]) -> tuple[Any, list[Tensor]]:
    """The states without the tensors in them, and those tensors."""
    blobs: list[Tensor] = []

    def packed(value: Any, may_be_large: bool) -> Any:
        if isinstance(value, list):
            return [packed(one, False) for one in value]
        if not isinstance(value, Tensor):  # a total may be a number that knows its dtype: here it is a plain one
            return int(value) if isinstance(value, int) else float(value) if isinstance(value, float) else value
        if value.is_cpu and value.numel() <= _FEW and not value.is_complex():
            return _Few(value.dtype, value.shape, value.tolist())
        kind = _Kind(value.dtype, value.shape, may_be_large and value.numel() * value.element_size() > LARGE)
        if not kind.is_large:
            blobs.append(to_bytes(value))
        return kind

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
        if isinstance(value, _Few):
            return value.tensor()
        if not isinstance(value, _Kind) or value.is_large:
            return value
        begin, offset = offset, offset + value.num_bytes
        return from_bytes(row[begin:offset], value.dtype, value.shape)

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
        if isinstance(value, _Kind)
    }
    order = sorted(found)
    brought = []
    for place, name in order:
        kind, spec, own = found[place, name], metrics[place][1]._specs[name], mine[place][name]
        if not isinstance(own, Tensor) or own.shape != kind.shape:  # this rank has seen nothing
            own = torch.as_tensor(spec.fresh(), dtype=kind.dtype).expand(kind.shape)
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

"""Collectives built on the few primitives of a computation model.

Their ``group`` is what :func:`find_group` returns. Arguments are not changed.
"""

from __future__ import annotations

import numbers
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ignite_core.distributed.models.base import ComputationModel
from ignite_core.distributed.serialization import from_bytes, pack, to_bytes, unpack

__all__ = [
    "OPS",
    "all_gather",
    "all_gather_numbers",
    "all_gather_object",
    "all_gather_uneven",
    "all_gather_with_shapes",
    "all_reduce",
    "all_reduce_packed",
    "broadcast",
    "check_dense",
    "check_op",
    "check_ranks",
    "disagreement",
    "find_group",
]

#: Reductions, as functions of the tensors of all ranks, stacked along a new first dimension.
_REDUCE_STACK: dict[str, Callable[[Tensor], Tensor]] = {
    "SUM": lambda stack: stack.sum(0, dtype=stack.dtype),
    "PRODUCT": lambda stack: stack.prod(0, dtype=stack.dtype),
    "MIN": lambda stack: stack.amin(0),
    "MAX": lambda stack: stack.amax(0),
    "AND": lambda stack: reduce(torch.bitwise_and, stack.unbind()),
    "OR": lambda stack: reduce(torch.bitwise_or, stack.unbind()),
}
OPS = tuple(_REDUCE_STACK)

#: For bools a sum or maximum is "any", a product or minimum "all", as for torch's own ``+`` and ``*``.
_OP_OF_BOOLS = {"SUM": "MAX", "OR": "MAX", "MAX": "MAX", "PRODUCT": "MIN", "AND": "MIN", "MIN": "MIN"}

#: Dtypes that are reduced in a wider one if the backend does not support them; the result is rounded or wrapped once.
_WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.int16: torch.int32,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
}

#: The kinds of numbers; a mixture is gathered as the last kind that occurs in it.
_NUMBERS: tuple[tuple[type[Any], type[Any]], ...] = ((bool, bool), (numbers.Integral, int), (numbers.Real, float))
_FLOAT = 2
_REDUCE_NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "SUM": lambda a, b: a + b,
    "PRODUCT": lambda a, b: a * b,
    "MIN": lambda a, b: b if b < a or b != b else a,  # keeps NaN
    "MAX": lambda a, b: b if b > a or b != b else a,
    "AND": lambda a, b: a & b,
    "OR": lambda a, b: a | b,
}

_DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16),
    *(torch.float32, torch.float64, torch.complex32, torch.complex64, torch.complex128, torch.uint16, torch.uint32),
    *(torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2),
]
_MAX_DIMENSIONS = 64


def find_group(model: ComputationModel, group: Any) -> tuple[Any, tuple[int, ...]]:
    """The group in the form that the model takes, and its ranks: empty on a rank outside of it."""
    if group is None:
        return None, tuple(range(model.world_size))
    if not isinstance(group, list | tuple):
        return group, model.members(group)
    ranks = check_ranks(model, group)
    if ranks not in model.groups:
        model.groups[ranks] = model.make_group(ranks)
    return model.groups[ranks], ranks if model.rank in ranks else ()


def check_ranks(model: ComputationModel, ranks: Sequence[int]) -> tuple[int, ...]:
    """The ranks of a group, sorted."""
    if not isinstance(ranks, list | tuple) or any(isinstance(r, bool) or not isinstance(r, int) for r in ranks):
        raise ValueError(f"a group must be a list of ranks, got {ranks!r}")
    if not ranks or len(set(ranks)) != len(ranks) or not all(0 <= r < model.world_size for r in ranks):
        raise ValueError(f"the ranks of a group must be different ones in [0, {model.world_size}), got {list(ranks)}")
    return tuple(sorted(ranks))


def check_dense(where: str, tensor: Tensor) -> None:
    """Refuse sparse tensors."""
    if tensor.layout is not torch.strided:
        raise TypeError(f"{where}: takes dense tensors, got {tensor.layout}; call to_dense() first")


def check_op(tensor: object, op: str) -> None:
    """Refuse an op that does not apply to a tensor or number, on one rank as on many."""
    if isinstance(tensor, Tensor):
        is_integral = not (tensor.is_floating_point() or tensor.is_complex())
        got = f"a tensor of {tensor.dtype}"
        if tensor.is_complex() and op in ("MIN", "MAX"):
            raise ValueError(f"all_reduce: complex numbers have no order, got {op} of {got}")
    else:
        is_integral, got = isinstance(tensor, numbers.Integral), repr(tensor)
    if op in ("AND", "OR") and not is_integral:
        raise ValueError(f"all_reduce: {op} is for bools and integers, got {got}")


def all_reduce(model: ComputationModel, tensor: Any, op: str, group: Any) -> Any:
    """Reduce a tensor or number."""
    if not isinstance(tensor, Tensor):
        return _reduce_numbers(model, tensor, op, group)
    tensor = tensor.detach().resolve_conj().contiguous()
    if tensor.dtype is torch.bool:
        return _reduce(model, tensor.to(torch.uint8), _OP_OF_BOOLS[op], group).to(torch.bool)
    if tensor.is_complex() and op == "SUM":
        return torch.view_as_complex(_reduce(model, torch.view_as_real(tensor).contiguous(), op, group))
    return _reduce(model, tensor, op, group)


def _reduce(model: ComputationModel, tensor: Tensor, op: str, group: Any) -> Tensor:
    """By the backend if it can do so exactly; else all tensors are gathered and reduced in rank order."""
    keeps_nan = op not in ("MIN", "MAX") or not tensor.is_floating_point()  # backends lose NaN, torch does not
    if keeps_nan and model.reduces(tensor, op):
        return model.all_reduce(tensor.clone(), op, group)
    wider = _WIDER.get(tensor.dtype)
    if keeps_nan and wider is not None and model.reduces(tensor.new_empty(0, dtype=wider), op):
        return model.all_reduce(tensor.to(wider), op, group).to(tensor.dtype)
    stack = torch.stack(model.all_gather(tensor, group))
    return _REDUCE_STACK[op](stack if wider is None else stack.to(wider)).to(tensor.dtype)


def _reduce_numbers(model: ComputationModel, number: Any, op: str, group: Any) -> Any:
    """Numbers are reduced in Python: ints cannot overflow, and all ranks hold the same bits."""
    gathered = all_gather_numbers(model, number, group)
    check_op(gathered[0], op)  # not earlier: one rank alone may pass a float, and the others would wait for it
    if isinstance(gathered[0], bool):
        op = _OP_OF_BOOLS[op]
    return reduce(_REDUCE_NUMBERS[op], gathered)


def all_gather_numbers(model: ComputationModel, number: Any, group: Any) -> list[Any]:
    """Gather numbers; if their kinds differ, all as the widest of them."""
    kind = next((place for place, (base, _) in enumerate(_NUMBERS) if isinstance(number, base)), None)
    if kind is None:
        raise TypeError(f"a number must be a bool, an integer or a real one, got {number!r}")
    if kind == _FLOAT:
        bits = torch.tensor([float(number)], dtype=torch.float64).view(torch.int64)
    else:
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"an integer must fit in 64 bits, got {number}")
        bits = torch.tensor([int(number)])
    rows = model.all_gather(torch.cat([torch.tensor([kind]), bits]).to(model.control_device()), group)
    table = torch.stack(rows).cpu()
    widest = _NUMBERS[int(table[:, 0].max())][1]
    return [widest((row[1:].view(torch.float64) if row[0] == _FLOAT else row[1:]).item()) for row in table]


def all_gather(model: ComputationModel, tensor: Tensor, group: Any) -> Tensor:
    """Gather tensors of one shape, joined along the first dimension."""
    rows = model.all_gather(tensor.detach().contiguous(), group)
    return torch.stack(rows) if tensor.ndim == 0 else torch.cat(rows)


def all_gather_uneven(model: ComputationModel, tensor: Tensor, group: Any) -> list[Tensor]:
    """Gather tensors of any shape and dtype: one collective for the shapes, one for the values."""
    header = torch.zeros(2 + _MAX_DIMENSIONS, dtype=torch.int64)
    header[: 2 + tensor.ndim] = torch.tensor([_DTYPES.index(tensor.dtype), tensor.ndim, *tensor.shape])
    headers = [row.tolist() for row in model.all_gather(header.to(model.control_device()), group)]
    kinds = [(_DTYPES[dtype], torch.Size(shape[:ndim])) for dtype, ndim, *shape in headers]
    return _gather_kinds(model, tensor, kinds, group)


def all_gather_with_shapes(
    model: ComputationModel, tensor: Tensor, shapes: Sequence[Sequence[int]], group: Any
) -> list[Tensor]:
    """Gather tensors of one dtype whose shapes are known on all ranks, in one collective."""
    return _gather_kinds(model, tensor, [(tensor.dtype, torch.Size(shape)) for shape in shapes], group)


def _gather_kinds(
    model: ComputationModel, tensor: Tensor, kinds: list[tuple[torch.dtype, torch.Size]], group: Any
) -> list[Tensor]:
    lengths = [shape.numel() * dtype.itemsize for dtype, shape in kinds]
    rows = _gather_bytes(model, to_bytes(tensor.detach()), lengths, group)
    return [from_bytes(row, dtype, shape) for row, (dtype, shape) in zip(rows, kinds, strict=True)]


def all_gather_object(model: ComputationModel, value: Any, group: Any) -> list[Any]:
    """Gather pickled values: one collective for their lengths, one for the bytes."""
    data = pack(value, model.control_device())
    lengths = model.all_gather(torch.tensor([data.numel()], device=data.device), group)
    return [unpack(row) for row in _gather_bytes(model, data, [int(length) for length in lengths], group)]


def _gather_bytes(model: ComputationModel, data: Tensor, lengths: list[int], group: Any) -> list[Tensor]:
    """Gather bytes of these lengths: padded to the longest, then cut."""
    longest = max(lengths)
    if longest == 0:
        return [data for _ in lengths]
    padded = torch.nn.functional.pad(data, (0, longest - data.numel()))
    return [row[:length] for row, length in zip(model.all_gather(padded, group), lengths, strict=True)]


def all_reduce_packed(model: ComputationModel, tensors: Sequence[tuple[Tensor, str]], group: Any) -> list[Tensor]:
    """Reduce many tensors: those of one op, dtype and device in one collective."""
    packs: dict[Any, list[int]] = {}
    for place, (tensor, op) in enumerate(tensors):
        packs.setdefault((op, tensor.dtype, tensor.device), []).append(place)
    reduced: dict[int, Tensor] = {}
    for (op, _, _), places in packs.items():
        members = [tensors[place][0].detach() for place in places]
        flat = members[0] if len(members) == 1 else torch.cat([member.reshape(-1) for member in members])
        pieces = all_reduce(model, flat, op, group).reshape(-1).split([member.numel() for member in members])
        for place, member, piece in zip(places, members, pieces, strict=True):
            reduced[place] = piece.view(member.shape)
    return [reduced[place] for place in range(len(tensors))]


def broadcast(model: ComputationModel, value: Any, src: int, safe_mode: bool) -> Any:
    """Send the value of one rank to all."""
    is_source = model.rank == src
    is_tensor = isinstance(value, Tensor)
    if safe_mode:  # the other ranks do not know the kind of the value
        coming = (True, (value.dtype, value.shape)) if is_tensor else (False, value)
        is_tensor, kind = _broadcast_object(model, coming, src, is_source)
        if is_tensor and not is_source:
            value = torch.empty(kind[1], dtype=kind[0], device=model.device())
        elif not is_tensor:
            return kind
    if not is_tensor:
        return _broadcast_object(model, value, src, is_source)
    if is_source:
        model.broadcast(value.detach().contiguous(), src)
        return value
    return model.broadcast(torch.empty_like(value, memory_format=torch.contiguous_format, requires_grad=False), src)


def _broadcast_object(model: ComputationModel, value: Any, src: int, is_source: bool) -> Any:
    """A pickled value: its length first, then its bytes."""
    device = model.control_device()
    data = pack(value if is_source else None, device)
    length = int(model.broadcast(torch.tensor([data.numel()], device=device), src))
    data = model.broadcast(data if is_source else torch.empty(length, dtype=torch.uint8, device=device), src)
    return value if is_source else unpack(data)


def disagreement(values: Sequence[Any]) -> str | None:
    """A text that lists differing values by rank, the most frequent one first; None if all values are the same."""
    camps: list[tuple[Any, list[int]]] = []
    for rank, value in enumerate(values):
        for known, ranks in camps:
            if is_same(known, value):
                ranks.append(rank)
                break
        else:
            camps.append((value, [rank]))
    if len(camps) == 1:
        return None
    camps.sort(key=lambda camp: -len(camp[1]))
    return "; ".join(f"{_ranks(ranks)} {reprlib.repr(value)}" for value, ranks in camps)


def is_same(a: Any, b: Any) -> bool:
    """Whether two values have one type and equal content; a NaN equals a NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(is_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b or (a != a and b != b))


def _ranks(ranks: Sequence[int]) -> str:
    numbers = ", ".join(map(str, ranks[:10])) + (f" and {len(ranks) - 10} more" if len(ranks) > 10 else "")
    return f"rank {numbers} has" if len(ranks) == 1 else f"ranks {numbers} have"

"""What every computation model must do: one suite for a serial run, for torch's gloo, and for the fakes of the others.

Each function that runs on the ranks makes many calls and returns what came out; all of them run in one launch a world,
for launches cost more than calls. The tests compare that with values worked out here from what all ranks bring, element
by element in Python, and list every case that differs.
"""

from __future__ import annotations

import math
import operator
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import ignite_core.distributed as idist
from ignite_core.testing import run_distributed
from tests.distributed.fakes.worlds import World

WORLDS = [
    World(None, 1),
    World("gloo", 1),
    World("gloo", 2),
    World("gloo", 4),
    World("xla-tpu", 1),
    World("xla-tpu", 2),
]
every_world = pytest.mark.parametrize("world", WORLDS, ids=str)
several_ranks = pytest.mark.parametrize("world", [world for world in WORLDS if world.size > 1], ids=str)

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
DTYPES = (torch.bool, *WHOLE, *REAL, *COMPLEX)
OPS = ("SUM", "PRODUCT", "MIN", "MAX", "AND", "OR")


_ON_RANKS: list[Callable[[], Any]] = []


def on_ranks(function: Callable[[], Any]) -> Callable[[], Any]:
    """To be called on the ranks of every world."""
    _ON_RANKS.append(function)
    return function


def call_all() -> dict[str, Any]:
    return {function.__name__: function() for function in _ON_RANKS}


@cache
def _launched(world: World) -> list[dict[str, Any]] | Exception:
    try:
        return world.run(call_all)
    except Exception as error:  # it is kept: another launch would take as long to fail
        return error


def observed(world: World, function: Callable[[], Any]) -> list[Any]:
    """What a function gave on each rank of a world."""
    found = _launched(world)
    if isinstance(found, Exception):
        raise found
    return [results[function.__name__] for results in found]


# ------------------------------------------------------------------------------------- what ranks bring, and get


def four(dtype: torch.dtype, rank: int) -> Tensor:
    """Four values of a rank, so small that each op on four ranks is exact in each dtype."""
    if dtype is torch.bool:
        return torch.tensor([True, False, rank == 0, rank != 1])
    values = [1 + (rank + place) % 3 for place in range(4)]
    if dtype.is_complex:
        return torch.tensor([complex(value, rank - place) for place, value in enumerate(values)], dtype=dtype)
    return torch.tensor(values, dtype=dtype)


#: Tensors of all kinds, made of four values.
FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "vector": lambda t: t,
    "matrix": lambda t: t.reshape(2, 2),
    "0-dim": lambda t: t[1],
    "empty": lambda t: t[:0],
    "no columns": lambda t: t.reshape(4, 1)[:, :0],
    "transposed": lambda t: t.reshape(2, 2).T,
    "every second": lambda t: t[::2],
    "from an offset": lambda t: t[1:],
    "expanded": lambda t: t[2].expand(3, 2),
    "conjugated": lambda t: t.conj(),
    "negated": lambda t: t.conj().imag if t.is_complex() else t,
    "with grad": lambda t: t.clone().requires_grad_() if t.dtype in REAL + COMPLEX else t,
    "of a graph": lambda t: t.clone().requires_grad_() * 1 if t.dtype in REAL + COMPLEX else t,
}


def brought(dtype: torch.dtype, form: str, rank: int) -> Tensor:
    return FORMS[form](four(dtype, rank))


@dataclass
class Outcome:
    """What a call gave, or the error that it raised, and whether it kept its hands off its argument."""

    value: Any = None
    error: str | None = None
    kept: bool = True
    is_argument: bool = False


def attempt(function: Callable[[Any], Any], argument: Any) -> Outcome:
    tensors = [argument] if isinstance(argument, Tensor) else []
    before = [(tensor._version, tensor.detach().clone()) for tensor in tensors]
    try:
        value = function(argument)
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}")
    kept = all(t._version == version and same(t, copy) for t, (version, copy) in zip(tensors, before, strict=True))
    is_argument = value is argument
    return Outcome(value.detach() if isinstance(value, Tensor) else value, None, kept, is_argument)


def same(a: Any, b: Any) -> bool:
    """Whether two values are of one type and, where they hold numbers, have the same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, float):
        return a.hex() == b.hex()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def bits(tensor: Tensor) -> list[int]:
    plain = tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    return plain.reshape(-1).view(torch.uint8).tolist()


def differing(outcomes: Sequence[dict[Any, Outcome]], expected: Callable[[Any, int], Any]) -> Iterator[str]:
    """The cases in which a rank got something else, or changed its argument."""
    for rank, found in enumerate(outcomes):
        assert list(found) == list(outcomes[0])
        for case, outcome in found.items():
            wanted = expected(case, rank)
            if outcome.error is not None or not same(outcome.value, wanted):
                got = outcome.error or outcome.value
                yield f"{case} on rank {rank}: expected {wanted}, got {got}"
            if not outcome.kept:
                yield f"{case} on rank {rank}: the argument was changed"


def none_of(wrong: Iterator[str]) -> None:
    found = list(wrong)
    assert not found, "\n".join([f"{len(found)} cases differ:", *found[:20]])


FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "SUM": operator.add,
    "PRODUCT": operator.mul,
    "MIN": min,
    "MAX": max,
    "AND": operator.and_,
    "OR": operator.or_,
}


def folded(tensors: Sequence[Tensor], op: str) -> Tensor:
    """By Python's numbers, element by element."""
    if tensors[0].dtype is torch.bool:
        fold: Callable[[Any], Any] = any if op in ("SUM", "OR", "MAX") else all
    else:
        fold = lambda column: reduce(FOLDS[op], column)  # noqa: E731
    columns = zip(*(tensor.flatten().tolist() for tensor in tensors), strict=True)
    return torch.tensor([fold(column) for column in columns], dtype=tensors[0].dtype).reshape(tensors[0].shape)


def joined(tensors: Sequence[Tensor]) -> Tensor:
    rows = [tensor.detach() if tensor.ndim else tensor.detach().reshape(1) for tensor in tensors]
    return torch.cat(rows)


def allowed(dtype: torch.dtype, op: str) -> bool:
    return not (op in ("AND", "OR") and dtype in REAL + COMPLEX) and not (op in ("MIN", "MAX") and dtype in COMPLEX)


# ---------------------------------------------------------------------------------------------------------- all_reduce


@on_ranks
def reduce_tensors() -> dict[Any, Outcome]:
    rank = idist.get_rank()
    cases = [(dtype, form, op) for dtype in DTYPES for form in FORMS for op in OPS]
    return {
        (dtype, form, op): attempt(lambda t, op=op: idist.all_reduce(t, op), brought(dtype, form, rank))
        for dtype, form, op in cases
        if allowed(brought(dtype, form, rank).dtype, op)
    }


@every_world
def test_all_reduce_tensors(world: World) -> None:
    """Of every dtype and operation."""

    def expected(case: Any, rank: int) -> Tensor:
        dtype, form, op = case
        return folded([brought(dtype, form, other) for other in range(world.size)], op)

    outcomes = observed(world, reduce_tensors)

    none_of(differing(outcomes, expected))
    assert {outcome.is_argument for found in outcomes for outcome in found.values()} == {world.size == 1}


@on_ranks
def reduce_what_has_no_order_or_bits() -> dict[Any, Outcome]:
    return {
        (dtype, op): attempt(lambda t, op=op: idist.all_reduce(t, op), four(dtype, 0))
        for dtype in DTYPES
        for op in OPS
        if not allowed(dtype, op)
    }


@every_world
def test_all_reduce_op_and_dtype_mismatch(world: World) -> None:
    """Alone too: a script must not fail only once it runs on several ranks."""
    for found in observed(world, reduce_what_has_no_order_or_bits):
        for (dtype, op), outcome in found.items():
            what = "complex numbers have no order, got" if op in ("MIN", "MAX") else f"{op} is for bools and integers"
            assert outcome.error is not None, (dtype, op)
            assert outcome.error.startswith(f"ValueError: all_reduce: {what}"), outcome.error
            assert outcome.error.endswith(f"of {dtype}"), outcome.error


@on_ranks
def reduce_random() -> dict[Any, Outcome]:
    generator = torch.Generator().manual_seed(idist.get_rank())
    values = torch.randn(1000, generator=generator, dtype=torch.float64)
    return {
        (dtype, op): attempt(lambda t, op=op: idist.all_reduce(t, op), values.to(dtype))
        for dtype in REAL + COMPLEX
        for op in ("SUM", "PRODUCT")
    }


@several_ranks
def test_all_reduce_is_bit_identical_on_all_ranks(world: World) -> None:
    """Also if sums are rounded."""
    outcomes = observed(world, reduce_random)
    values = [
        torch.randn(1000, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
        for rank in range(world.size)
    ]

    none_of(differing(outcomes, lambda case, rank: outcomes[0][case].value))
    for (dtype, op), outcome in outcomes[0].items():
        rounded = torch.stack([value.to(dtype).to(torch.complex128) for value in values])
        exact = rounded.sum(0) if op == "SUM" else rounded.prod(0)
        tolerance = 8 * torch.finfo(dtype).eps
        assert torch.allclose(outcome.value.to(torch.complex128), exact, rtol=tolerance, atol=tolerance), (dtype, op)


SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1.0)


def special(dtype: torch.dtype, rank: int) -> Tensor:
    """Rank 0 holds each special value, the others hold each in turn."""
    return torch.tensor([SPECIAL[(place + rank) % len(SPECIAL)] for place in range(len(SPECIAL))], dtype=dtype)


@on_ranks
def reduce_special() -> dict[Any, Outcome]:
    cases = [(dtype, op) for dtype in REAL for op in ("SUM", "PRODUCT", "MIN", "MAX")]
    rank = idist.get_rank()
    return {(dtype, op): attempt(lambda t, op=op: idist.all_reduce(t, op), special(dtype, rank)) for dtype, op in cases}


@every_world
def test_all_reduce_propagates_nan(world: World) -> None:
    for found in observed(world, reduce_special):
        for (dtype, op), outcome in found.items():
            for place, value in enumerate(outcome.value.tolist()):
                column = [special(torch.float64, rank)[place].item() for rank in range(world.size)]
                exact = reduce(FOLDS[op], column)
                wanted = math.nan if any(map(math.isnan, column)) else exact
                assert value == wanted or (math.isnan(value) and math.isnan(wanted)), (dtype, op, column)


#: What rank r of up to four brings; numbers beyond 64 bits come of their sums and products.
NUMBERS: dict[str, tuple[Any, ...]] = {
    "ints": (3, -2, 5, 7),
    "large ints": (2**62, 2**62 - 1, 2**61, 2**62),
    "lowest ints": (-(2**63), 2**63 - 1, -1, 1),
    "floats": (0.1, 0.2, 0.3, -1e300),
    "special floats": (-0.0, math.inf, -0.0, 1.0),
    "bools": (True, False, True, True),
    "int and float": (1, 2.5, 3, 4),
    "bool and int": (True, 2, True, 3),
    "bool and float": (True, 0.5, False, 2.0),
}


@on_ranks
def reduce_numbers() -> dict[Any, Outcome]:
    rank = idist.get_rank()
    cases = [(name, op) for name in NUMBERS for op in OPS if op not in ("AND", "OR") or "float" not in name]
    return {(name, op): attempt(lambda n, op=op: idist.all_reduce(n, op), NUMBERS[name][rank]) for name, op in cases}


def widened(numbers: Sequence[Any]) -> list[Any]:
    kind = max((type(number) for number in numbers), key=(bool, int, float).index)
    return [kind(number) for number in numbers]


@every_world
def test_all_reduce_numbers(world: World) -> None:
    """The result is that of Python's operators.

    Ints are exact, whatever their size; numbers of different kinds become the widest of them; bools stay bools.
    """

    def expected(case: Any, rank: int) -> Any:
        name, op = case
        numbers = widened(NUMBERS[name][: world.size])
        if name == "bools":
            return any(numbers) if op in ("SUM", "OR", "MAX") else all(numbers)
        return reduce(FOLDS[op], numbers)

    none_of(differing(observed(world, reduce_numbers), expected))


@on_ranks
def reduce_nan() -> list[Any]:
    number = math.nan if idist.get_rank() == idist.get_world_size() - 1 else 1.0
    return [idist.all_reduce(number, op) for op in ("SUM", "PRODUCT", "MIN", "MAX")]


@every_world
def test_all_reduce_numbers_propagates_nan(world: World) -> None:
    assert all(math.isnan(number) for numbers in observed(world, reduce_nan) for number in numbers)


# ----------------------------------------------------------------------------------------------------------- in packs


def packed_case(rank: int) -> list[tuple[Tensor, str]]:
    forms = list(FORMS)
    return [
        (brought(dtype, form, rank), op)
        for place, dtype in enumerate(DTYPES)
        for form, op in ((forms[place % len(forms)], "SUM"), (forms[(place + 4) % len(forms)], "SUM"), ("0-dim", "MAX"))
        if allowed(brought(dtype, form, rank).dtype, op)
    ]


@on_ranks
def reduce_packed() -> dict[Any, Outcome]:
    tensors = packed_case(idist.get_rank())
    versions = [tensor._version for tensor, _ in tensors]
    found = attempt(idist.all_reduce_packed, tensors)
    found.value = [tensor.detach() for tensor in found.value]
    found.kept = versions == [tensor._version for tensor, _ in tensors]
    return {"many": found, "none": attempt(idist.all_reduce_packed, [])}


@every_world
def test_all_reduce_packed(world: World) -> None:
    """The results are those of ``all_reduce``, in the given order."""
    cases = [packed_case(rank) for rank in range(world.size)]
    many = [folded([tensor for tensor, _ in column], column[0][1]) for column in zip(*cases, strict=True)]

    none_of(differing(observed(world, reduce_packed), lambda case, rank: {"many": many, "none": []}[case]))


# ---------------------------------------------------------------------------------------------------------- all_gather


@on_ranks
def gather_tensors() -> dict[Any, Outcome]:
    rank = idist.get_rank()
    found = {(dtype, form): attempt(idist.all_gather, brought(dtype, form, rank)) for dtype in DTYPES for form in FORMS}
    return found | {(dtype, "special"): attempt(idist.all_gather, special(dtype, rank)) for dtype in REAL}


@every_world
def test_all_gather_tensors(world: World) -> None:
    """Bit-identical. Along the first dimension, or along a new one if they have none."""

    def expected(case: Any, rank: int) -> Tensor:
        dtype, form = case
        make = special if form == "special" else lambda dtype, rank: brought(dtype, form, rank)
        return joined([make(dtype, other) for other in range(world.size)])

    none_of(differing(observed(world, gather_tensors), expected))


UNEVEN: dict[str, Callable[[int], Tensor]] = {
    "lengths": lambda rank: torch.arange(3.0 * rank),
    "one is empty": lambda rank: torch.ones(0 if rank == 0 else 2, 3),
    "all are empty": lambda rank: torch.ones(0, rank),
    "dimensions": lambda rank: torch.full((2,) * rank, rank),
    "dtypes": lambda rank: four(DTYPES[3 * rank], rank),
    "transposed": lambda rank: torch.arange(4 + 2 * rank).reshape(2, -1).T,
    "with grad": lambda rank: torch.ones(rank + 1, requires_grad=True),
    "same": lambda rank: torch.tensor([rank]),
}


@on_ranks
def gather_uneven() -> dict[Any, Outcome]:
    rank = idist.get_rank()
    found = {name: attempt(lambda t: idist.all_gather(t, uneven=True), make(rank)) for name, make in UNEVEN.items()}
    for outcome in found.values():
        outcome.value = [tensor.detach() for tensor in outcome.value]
    return found


@every_world
def test_all_gather_uneven_tensors(world: World) -> None:
    expected = {name: [make(rank).detach() for rank in range(world.size)] for name, make in UNEVEN.items()}

    none_of(differing(observed(world, gather_uneven), lambda case, rank: expected[case]))


@on_ranks
def gather_with_shapes() -> dict[Any, Outcome]:
    rank, size = idist.get_rank(), idist.get_world_size()
    found = {}
    for name, make in UNEVEN.items():
        if "dtypes" not in name:
            shapes = [make(other).shape for other in range(size)]
            call = lambda t, shapes=shapes: idist.all_gather_tensors_with_shapes(t, shapes)  # noqa: E731
            found[name] = attempt(call, make(rank))
            found[name].value = [tensor.detach() for tensor in found[name].value]
    return found


@every_world
def test_all_gather_tensors_with_shapes(world: World) -> None:
    expected = {name: [make(rank).detach() for rank in range(world.size)] for name, make in UNEVEN.items()}

    none_of(differing(observed(world, gather_with_shapes), lambda case, rank: expected[case]))


def objects(rank: int) -> dict[str, Any]:
    return {
        "strings": "ä" * 100 * rank,
        "none": None,
        "kinds": (None, {"a": [1, 2.5]}, (), "text")[rank],
        "lists": list(range(rank)),
        "a dict with a tensor": {"x": torch.tensor([rank, 1])},
        "large": bytes(10_000 * (rank + 1)),
    }


@on_ranks
def gather_values() -> dict[Any, Outcome]:
    rank = idist.get_rank()
    found: dict[Any, Outcome] = {}
    for name, value in objects(rank).items():
        found["all_gather", name] = attempt(idist.all_gather, value)
        found["all_gather_object", name] = attempt(idist.all_gather_object, value)
    for name, numbers in NUMBERS.items():
        found["all_gather", name] = attempt(idist.all_gather, numbers[rank])
        found["all_gather_object", name] = attempt(idist.all_gather_object, numbers[rank])
    found["all_gather_object", "tensors"] = attempt(idist.all_gather_object, torch.ones(rank))
    return found


@every_world
def test_values_of_all_kinds_are_gathered(world: World) -> None:
    """Numbers become the widest kind among them in all_gather; all_gather_object leaves each value what it is."""

    def expected(case: Any, rank: int) -> Any:
        function, name = case
        if name == "tensors":
            return [torch.ones(other) for other in range(world.size)]
        if name in NUMBERS:
            numbers = list(NUMBERS[name][: world.size])
            return widened(numbers) if function == "all_gather" else numbers
        return [objects(other)[name] for other in range(world.size)]

    none_of(differing(observed(world, gather_values), expected))


RARE = (torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)


@on_ranks
def exchange_rare() -> dict[torch.dtype, list[Any]]:
    """As pairs of a dtype and numbers: tensors of these dtypes cannot be pickled."""
    rank, size = idist.get_rank(), idist.get_world_size()
    found = {}
    for dtype in RARE:
        tensor = torch.tensor([rank + 1, 2]).to(dtype)
        got = [
            *idist.all_gather(tensor, uneven=True),
            idist.all_gather(tensor),
            idist.broadcast(tensor),
            idist.broadcast(tensor if rank == size - 1 else None, size - 1, safe_mode=True),
        ]
        found[dtype] = [(each.dtype, each.double().tolist()) for each in got]
    return found


@every_world
def test_storage_only_dtypes(world: World) -> None:
    """Dtypes without arithmetic can be exchanged."""
    rows = [[rank + 1.0, 2.0] for rank in range(world.size)]
    expected = [*rows, [value for row in rows for value in row], rows[0], rows[-1]]

    for found in observed(world, exchange_rare):
        assert found == {dtype: [(dtype, values) for values in expected] for dtype in RARE}


# ----------------------------------------------------------------------------------------------------------- broadcast


@on_ranks
def broadcast_all() -> dict[Any, Outcome]:
    rank, size = idist.get_rank(), idist.get_world_size()
    found: dict[Any, Outcome] = {}
    for place, (dtype, form) in enumerate((dtype, form) for dtype in DTYPES for form in FORMS):
        src = place % size
        found[src, dtype, form] = attempt(lambda t, src=src: idist.broadcast(t, src), brought(dtype, form, rank))
    for src in range(size):
        for dtype in REAL:
            found[src, dtype, "special"] = attempt(lambda t, src=src: idist.broadcast(t, src), special(dtype, rank))
        for name, value in objects(rank).items():
            if objects(src)[name] is not None:
                mine = "not looked at" if value is None else value
                found[src, name] = attempt(lambda v, src=src: idist.broadcast(v, src), mine)
        for name, numbers in NUMBERS.items():
            found[src, name] = attempt(lambda n, src=src: idist.broadcast(n, src), numbers[rank])
    for outcome in found.values():
        outcome.value = outcome.value.detach() if isinstance(outcome.value, Tensor) else outcome.value
    return found


@every_world
def test_broadcast(world: World) -> None:
    """All ranks get the value of one."""

    def expected(case: Any, rank: int) -> Any:
        src, *what = case
        if what[-1] == "special":
            return special(what[0], src)
        if len(what) == 2:
            return brought(*what, src).detach()
        return NUMBERS[what[0]][src] if what[0] in NUMBERS else objects(src)[what[0]]

    outcomes = observed(world, broadcast_all)

    none_of(differing(outcomes, expected))
    for rank, found in enumerate(outcomes):
        assert all(outcome.is_argument for (src, *_), outcome in found.items() if src == rank)


def surprises(rank: int) -> list[Any]:
    """What a source may bring that the others do not expect."""
    return [torch.arange(rank + 2).to(torch.int16), torch.tensor(1.5), torch.ones(0, 2), "text", None, 3, [1, None]]


@on_ranks
def broadcast_safely() -> dict[Any, Outcome]:
    rank, size = idist.get_rank(), idist.get_world_size()
    found: dict[Any, Outcome] = {}
    for src in range(size):
        for place, value in enumerate(surprises(src)):
            if value is not None:
                for name, other in (("None", None), ("a tensor", torch.zeros(7)), ("a string", "x")):
                    mine = value if rank == src else other
                    call = lambda v, src=src: idist.broadcast(v, src, safe_mode=True)  # noqa: E731
                    found[src, place, name] = attempt(call, mine)
    return found


@every_world
def test_broadcast_safe_mode(world: World) -> None:
    """The other ranks need not know shape and dtype."""
    none_of(differing(observed(world, broadcast_safely), lambda case, rank: surprises(case[0])[case[1]]))


# -------------------------------------------------------------------------------------------------------------- groups


def groups_of(size: int) -> list[list[int]]:
    return {1: [[0]], 2: [[1], [0, 1], [1, 0]], 4: [[1, 3], [0, 2, 3], [3, 1], [2], [3, 2, 1, 0]]}[size]


#: Each takes a rank, and a function of the group, and gives what the call gives.
GROUPED: dict[str, tuple[Callable[[int], Any], Callable[[Any, Any], Any]]] = {
    "all_reduce": (lambda rank: four(torch.int16, rank), lambda t, group: idist.all_reduce(t, group=group)),
    "all_reduce a number": (lambda rank: rank + 0.5, lambda n, group: idist.all_reduce(n, "MAX", group)),
    "all_reduce_packed": (
        lambda rank: four(torch.float32, rank),
        lambda t, g: idist.all_reduce_packed([(t, "SUM")], g),
    ),
    "all_gather": (lambda rank: four(torch.float64, rank), lambda t, group: idist.all_gather(t, group)),
    "all_gather 0-dim": (lambda rank: torch.tensor(rank), lambda t, group: idist.all_gather(t, group)),
    "all_gather a number": (lambda rank: rank, lambda n, group: idist.all_gather(n, group)),
    "all_gather a string": (lambda rank: "x" * rank, lambda s, group: idist.all_gather(s, group)),
    "all_gather uneven": (lambda rank: torch.ones(rank), lambda t, group: idist.all_gather(t, group, uneven=True)),
    "all_gather_object": (lambda rank: {"rank": rank}, lambda v, group: idist.all_gather_object(v, group)),
}


@on_ranks
def in_groups() -> dict[Any, Outcome]:
    rank = idist.get_rank()
    found: dict[Any, Outcome] = {}
    for ranks in groups_of(idist.get_world_size()):
        for how, group in (("list", ranks), ("tuple", tuple(ranks)), ("new_group", idist.new_group(ranks))):
            for name, (make, call) in GROUPED.items():
                argument = make(rank)
                found[tuple(ranks), how, name] = attempt(lambda a, call=call, group=group: call(a, group), argument)
            shapes = [(other, 2) for other in sorted(ranks)]
            call_with_shapes = lambda t, s=shapes, g=group: idist.all_gather_tensors_with_shapes(t, s, g)  # noqa: E731
            found[tuple(ranks), how, "shapes"] = attempt(call_with_shapes, torch.full((rank, 2), rank))
    return found


@every_world
def test_groups(world: World) -> None:
    """Members exchange values; other ranks get their argument back.

    In the order of the ranks, regardless of the order in which the group lists them.
    """

    def expected(case: Any, rank: int) -> Any:
        ranks, _, name = case
        make = GROUPED[name][0] if name in GROUPED else lambda rank: torch.full((rank, 2), rank)
        mine = make(rank)
        if rank not in ranks:
            return [mine] if name in ("all_gather_object", "shapes", "all_reduce_packed") else mine
        values = [make(other) for other in sorted(ranks)]
        if name in ("all_reduce", "all_reduce_packed"):
            return folded(values, "SUM") if name == "all_reduce" else [folded(values, "SUM")]
        if name == "all_reduce a number":
            return max(values)
        return joined(values) if name in ("all_gather", "all_gather 0-dim") else values

    none_of(differing(observed(world, in_groups), expected))


# ----------------------------------------------------------------------------------------------------------- decisions


@on_ranks
def decide() -> dict[str, Any]:
    rank, size = idist.get_rank(), idist.get_world_size()
    flags = {"none": False, "first": rank == 0, "last": rank == size - 1, "every": True}
    return {
        "any": {name: idist.any(flag) for name, flag in flags.items()},
        "all": {name: idist.all(flag) for name, flag in flags.items()},
    }


@every_world
def test_any_and_all_decide_for_all_ranks(world: World) -> None:
    alone = world.size == 1

    assert (
        observed(world, decide)
        == [
            {
                "any": {"none": False, "first": True, "last": True, "every": True},
                "all": {"none": False, "first": alone, "last": alone, "every": True},
            }
        ]
        * world.size
    )


AGREED: list[Any] = [7, "a", None, math.nan, [1, {"x": (2.0, math.nan)}], torch.tensor([1.0, math.nan]), True]


@on_ranks
def agree() -> list[Any]:
    return [idist.agree(value) is value for value in AGREED]


@every_world
def test_agree(world: World) -> None:
    """It returns the value that all ranks have."""
    assert observed(world, agree) == [[True] * len(AGREED)] * world.size


@on_ranks
def disagree() -> list[str | None]:
    last = idist.get_rank() == idist.get_world_size() - 1
    pairs = [(1, 2), ("a", None), (1, 1.0), (True, 1), ([1], [1, 1]), (torch.ones(2), torch.zeros(2)), ({"a": 1}, {})]
    return [attempt(idist.agree, other if last else usual).error for usual, other in pairs]


@several_ranks
def test_agree_on_different_values(world: World) -> None:
    """It raises on all ranks, with the values by rank."""
    found = observed(world, disagree)

    last = world.size - 1
    others = ", ".join(map(str, range(last)))
    usual = f"rank {others} has" if last == 1 else f"ranks {others} have"
    assert found == [found[0]] * world.size
    assert (
        found[0][0]
        == f"RuntimeError: idist.agree: all ranks must hold the same value, but {usual} 1; rank {last} has 2"
    )
    assert all(error is not None and f"; rank {last} has " in error for error in found[0])


@on_ranks
def take_turns() -> dict[str, Any]:
    rank, last = idist.get_rank(), idist.get_world_size() - 1
    with_barrier = idist.one_rank_only(rank=last, with_barrier=True)(lambda: time.monotonic())
    value = with_barrier()
    after = time.monotonic()
    with idist.one_rank_first(last):
        entered = time.monotonic()
    left = time.monotonic()
    with idist.one_rank_first(local=True):
        pass
    reached = time.monotonic()
    idist.barrier()
    return {
        "plain": idist.one_rank_only(rank=last)(lambda: rank)(),
        "value": value,
        "after": after,
        "entered": entered,
        "left": left,
        "reached": reached,
        "passed": time.monotonic(),
    }


@every_world
def test_one_rank_only_one_rank_first_and_barrier(world: World) -> None:
    found = observed(world, take_turns)
    last = world.size - 1

    assert [one["plain"] for one in found] == [None] * last + [last]
    assert [one["value"] is None for one in found] == [True] * last + [False]
    assert min(one["after"] for one in found) >= found[last]["value"]
    assert all(one["entered"] >= found[last]["entered"] for one in found)
    assert max(one["reached"] for one in found) <= min(one["passed"] for one in found)


@on_ranks
def fail_first() -> dict[str, str | None]:
    def fail(_: Any) -> None:
        raise OSError("disk full")

    def enter(_: Any) -> None:
        with idist.one_rank_first():
            fail(None)

    return {
        "only": attempt(idist.one_rank_only(with_barrier=True)(fail), None).error,
        "first": attempt(enter, None).error,
        "still in step": str(idist.all_reduce(1)),
    }


@every_world
def test_one_rank_first_reports_errors(world: World) -> None:
    """Waiting ranks get the error of the first rank."""
    first, *others = observed(world, fail_first)

    assert first == {"only": "OSError: disk full", "first": "OSError: disk full", "still in step": str(world.size)}
    for found in others:
        assert (
            found["only"]
            == "RuntimeError: fail_first.<locals>.fail: rank 0 went first and failed with OSError: disk full"
        )
        assert found["first"] == "RuntimeError: one_rank_first: rank 0 went first and failed with OSError: disk full"
        assert found["still in step"] == str(world.size)


# ------------------------------------------------------------------------------------------------------------ mistakes


def _sparse() -> Tensor:
    return torch.eye(2).to_sparse()


#: A call, and the error that it gives on every rank, before anything is exchanged; SIZE is that of the world.
MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "unknown op": (
        lambda: idist.all_reduce(1, "MEAN"),
        "ValueError: all_reduce: op must be one of SUM, PRODUCT, MIN, MAX, AND, OR, got 'MEAN'",
    ),
    "unknown op in a pack": (
        lambda: idist.all_reduce_packed([(torch.ones(1), "sum")]),
        "ValueError: all_reduce_packed: op must be one of SUM, PRODUCT, MIN, MAX, AND, OR, got 'sum'",
    ),
    "a string": (lambda: idist.all_reduce("a"), "TypeError: all_reduce: takes a tensor or a number, got str"),
    "a complex number": (
        lambda: idist.all_reduce(1j),
        "TypeError: all_reduce: takes a tensor or a number, got complex",
    ),
    "a number in a pack": (
        lambda: idist.all_reduce_packed([(1, "SUM")]),  # type: ignore[list-item]
        "TypeError: all_reduce_packed: takes tensors, got int",
    ),
    "bits of a float": (
        lambda: idist.all_reduce(1.5, "AND"),
        "ValueError: all_reduce: AND is for bools and integers, got 1.5",
    ),
    "bits of floats in a pack": (
        lambda: idist.all_reduce_packed([(torch.ones(2), "OR")]),
        "ValueError: all_reduce: OR is for bools and integers, got a tensor of torch.float32",
    ),
    "sparse all_reduce": (
        lambda: idist.all_reduce(_sparse()),
        "TypeError: all_reduce: takes dense tensors, got torch.sparse_coo; call to_dense() first",
    ),
    "sparse all_gather": (
        lambda: idist.all_gather(_sparse()),
        "TypeError: all_gather: takes dense tensors, got torch.sparse_coo; call to_dense() first",
    ),
    "sparse broadcast": (
        lambda: idist.broadcast(_sparse()),
        "TypeError: broadcast: takes dense tensors, got torch.sparse_coo; call to_dense() first",
    ),
    "uneven numbers": (
        lambda: idist.all_gather(1, uneven=True),
        "TypeError: all_gather: uneven=True is for tensors, got int",
    ),
    "broadcast None": (
        lambda: idist.broadcast(None),
        "ValueError: broadcast: rank RANK passes None; rank 0 must pass a value, and the others may pass None only "
        "with safe_mode=True",
    ),
    "broadcast from nobody": (
        lambda: idist.broadcast(1, src=9),
        "ValueError: broadcast: src must be a rank in [0, SIZE), got 9",
    ),
    "broadcast from a bool": (
        lambda: idist.broadcast(1, src=False),
        "ValueError: broadcast: src must be a rank in [0, SIZE), got False",
    ),
    "first of nobody": (
        lambda: idist.one_rank_first(-1).__enter__(),
        "ValueError: one_rank_first: rank must be in [0, SIZE), got -1",
    ),
    "a group with a rank that is not there": (
        lambda: idist.all_reduce(1, group=[0, 9]),
        "ValueError: the ranks of a group must be different ones in [0, SIZE), got [0, 9]",
    ),
    "a group that repeats": (
        lambda: idist.new_group([0, 0]),
        "ValueError: the ranks of a group must be different ones in [0, SIZE), got [0, 0]",
    ),
    "an empty group": (
        lambda: idist.new_group([]),
        "ValueError: the ranks of a group must be different ones in [0, SIZE), got []",
    ),
    "a group of bools": (
        lambda: idist.new_group([False]),
        "ValueError: a group must be a list of ranks, got [False]",
    ),
    "no group": (
        lambda: idist.all_gather(torch.ones(1), group="all"),
        "TypeError: group must be a list of ranks( or a ProcessGroup| or a ProcessSet)?, got str",
    ),
    "shapes of others": (
        lambda: idist.all_gather_tensors_with_shapes(torch.ones(3), [(2,)] * idist.get_world_size()),
        "ValueError: all_gather_tensors_with_shapes: there must be a shape for each of SIZE ranks, and that of rank "
        "RANK is (3,); got [(2,)",
    ),
    "shapes of too few": (
        lambda: idist.all_gather_tensors_with_shapes(torch.ones(3), []),
        "ValueError: all_gather_tensors_with_shapes: there must be a shape for each of SIZE ranks, and that of rank "
        "RANK is (3,); got []",
    ),
}


@on_ranks
def make_mistakes() -> dict[str, str | None]:
    found = {name: attempt(lambda _, call=call: call(), None).error for name, (call, _) in MISTAKES.items()}
    idist.barrier()  # all are still in step
    return found


@every_world
def test_wrong_arguments(world: World) -> None:
    """Each wrong argument raises the documented error.

    On every rank at once, and alone too, where nothing would have been exchanged.
    """
    for rank, found in enumerate(observed(world, make_mistakes)):
        for name, (_, message) in MISTAKES.items():
            pattern = message.replace("RANK", str(rank)).replace("SIZE", str(world.size))
            if name != "no group":
                pattern = re.escape(pattern)
            assert re.match(pattern, found[name] or "no error"), (name, found[name])


@on_ranks
def number_beyond_64_bits() -> str | None:
    return attempt(idist.all_reduce, 2**63).error


@several_ranks
def test_too_large_integers(world: World) -> None:
    message = f"ValueError: an integer must fit in 64 bits, got {2**63}"

    assert observed(world, number_beyond_64_bits) == [message] * world.size


# --------------------------------------------------------------------------------------------------- number of messages


COLLECTIVES = [
    *("all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_object", "broadcast", "broadcast_object_list"),
    *("barrier", "reduce", "gather", "scatter", "reduce_scatter", "all_to_all", "send", "recv", "all_reduce_coalesced"),
]


def counted() -> dict[str, dict[str, int]]:
    calls: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return function(*args, **kwargs)

        return call

    for name in COLLECTIVES:
        setattr(dist, name, counting(name, getattr(dist, name)))
    ten = [(torch.ones(place), "SUM") for place in range(6)] + [(torch.ones(3, dtype=torch.int64), "MAX")] * 4
    tensor = torch.ones(3)
    shapes = [(3,)] * idist.get_world_size()
    uses: dict[str, Callable[[], Any]] = {
        "all_reduce": lambda: idist.all_reduce(tensor),
        "all_reduce a bool tensor": lambda: idist.all_reduce(tensor > 0),
        "all_reduce a bfloat16 tensor": lambda: idist.all_reduce(tensor.bfloat16()),
        "all_reduce a number": lambda: idist.all_reduce(1),
        "all_reduce a maximum of floats": lambda: idist.all_reduce(tensor, "MAX"),
        "all_reduce_packed": lambda: idist.all_reduce_packed(ten),
        "all_gather": lambda: idist.all_gather(tensor),
        "all_gather numbers": lambda: idist.all_gather(1.5),
        "all_gather uneven": lambda: idist.all_gather(tensor, uneven=True),
        "all_gather_object": lambda: idist.all_gather_object("x"),
        "all_gather_tensors_with_shapes": lambda: idist.all_gather_tensors_with_shapes(tensor, shapes),
        "broadcast": lambda: idist.broadcast(tensor),
        "broadcast a value": lambda: idist.broadcast("x"),
        "broadcast safely": lambda: idist.broadcast(tensor, safe_mode=True),
        "any": lambda: idist.any(True),
    }
    found = {}
    for name, use in uses.items():
        calls.clear()
        use()
        found[name] = dict(calls)
    return found


def test_number_of_collectives() -> None:
    """Each function makes the documented number of collectives."""
    found = run_distributed(counted, ranks=2)

    assert found[0] == found[1]
    assert found[0] == {
        "all_reduce": {"all_reduce": 1},
        "all_reduce a bool tensor": {"all_reduce": 1},
        "all_reduce a bfloat16 tensor": {"all_reduce": 1},
        "all_reduce a number": {"all_gather": 1},
        "all_reduce a maximum of floats": {"all_gather": 1},
        "all_reduce_packed": {"all_reduce": 2},
        "all_gather": {"all_gather": 1},
        "all_gather numbers": {"all_gather": 1},
        "all_gather uneven": {"all_gather": 2},
        "all_gather_object": {"all_gather": 2},
        "all_gather_tensors_with_shapes": {"all_gather": 1},
        "broadcast": {"broadcast": 1},
        "broadcast a value": {"broadcast": 2},
        "broadcast safely": {"broadcast": 3},
        "any": {"all_gather": 1},
    }


def alone(name: str) -> Any:
    raise AssertionError(f"a serial run called torch.distributed.{name}")


def test_serial_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions call no collective and return the argument itself."""
    for name in COLLECTIVES:
        monkeypatch.setattr(dist, name, lambda *args, name=name, **kwargs: alone(name))
    tensor = torch.ones(2, requires_grad=True)

    assert idist.model_name() == "serial"
    assert idist.all_reduce(tensor) is tensor
    assert idist.all_gather(tensor) is tensor
    assert idist.broadcast(tensor) is tensor
    assert idist.all_reduce_packed([(tensor, "SUM")])[0] is tensor
    assert idist.all_gather(tensor, uneven=True)[0] is tensor
    idist.barrier()


# -------------------------------------------------------------------------------------------------------- who and where


@on_ranks
def place() -> dict[str, Any]:
    return {
        "model": idist.model_name(),
        "backend": idist.backend(),
        "device": idist.device().type,
        "rank": (idist.get_rank(), idist.get_world_size()),
        "local": (idist.get_local_rank(), idist.get_nproc_per_node()),
        "node": (idist.get_node_rank(), idist.get_nnodes()),
    }


@every_world
def test_every_rank_knows_its_place(world: World) -> None:
    models = {None: "serial", "gloo": "native-dist", "xla-tpu": "xla-dist"}
    found = observed(world, place)
    devices = {one.pop("device") for one in found}

    assert len(devices) == 1
    assert found == [
        {
            "model": models[world.backend],
            "backend": world.backend,
            "rank": (rank, world.size),
            "local": (rank, world.size),
            "node": (0, 1),
        }
        for rank in range(world.size)
    ]

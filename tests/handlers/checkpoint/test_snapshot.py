"""Copies of a state, in memory that is kept."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ignite_core.handlers.checkpoint.snapshot import Snapshot

Pair = namedtuple("Pair", "first second")


def all_kinds() -> dict[str, Any]:
    """Whatever a state dict may hold."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    base = torch.randn(10, 10)
    return {
        "model": model.state_dict(),
        "parameter": model[0].weight,
        "tied": [base, base.T, base[2:5, ::2], base.flatten()],
        "expanded": torch.randn(3, 1).expand(3, 1000),
        "sparse": torch.eye(3).to_sparse(),
        "conjugate": torch.tensor([1 + 2j, 3.0]).conj(),
        "empty": torch.empty(0, 3),
        "number": torch.tensor(1.5),
        "types": [torch.ones(3).to(dtype) for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.uint16)],
        "needs a gradient": torch.ones(2, requires_grad=True) * 2,
        "plain": [1, 2.5, "text", None, True, (1, torch.ones(2)), torch.Size([2, 3])],
        "nested": {1: {"a": [torch.zeros(2)]}},
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        is_same = type(a) is type(b) and (a.dtype, a.shape, a.requires_grad) == (b.dtype, b.shape, b.requires_grad)
        return (
            is_same and a.layout == b.layout and torch.equal(*(one.to_dense().to(torch.complex128) for one in (a, b)))
        )
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def change(value: Any) -> None:
    """Other values in all tensors."""
    if isinstance(value, Tensor):
        with torch.no_grad():
            value.zero_()
    elif isinstance(value, dict):
        for item in value.values():
            change(item)
        value.clear()
    elif isinstance(value, list | tuple):
        for item in value:
            change(item)


def test_a_copy_is_the_same_and_stays_so() -> None:
    snapshot, state = Snapshot(), all_kinds()
    for _ in range(2):  # the second time the memory is there
        copied = snapshot.take(state)
        assert same(copied, all_kinds())
    metadata = state["model"]._metadata
    change(state)

    assert same(copied, all_kinds())
    assert copied["model"]._metadata == metadata
    snapshot.close()


def test_what_shares_memory_shares_it_again() -> None:
    weights = torch.randn(100, 100)
    snapshot = Snapshot()
    copied = snapshot.take({"a": weights, "b": weights, "rows": weights[50:], "columns": weights.T})
    copied["a"].fill_(7.0)

    assert copied["b"] is copied["a"]
    assert bool((copied["rows"] == 7).all())
    assert bool((copied["columns"] == 7).all())
    assert snapshot._memory is not None
    assert snapshot._memory.size < 2 * weights.nbytes, "and is copied once"


def test_one_thing_in_two_places_stays_one() -> None:
    shared = [1, {"a": torch.ones(1)}]
    odd = defaultdict(list, a=[torch.ones(1)])
    copied = Snapshot().take({"first": shared, "second": shared, "third": odd, "fourth": odd, "pair": Pair(1, 2)})

    assert copied["first"] is copied["second"]
    assert copied["third"] is copied["fourth"]
    assert type(copied["third"]) is defaultdict
    assert copied["pair"] == Pair(1, 2)


def test_memory_is_kept_and_grows_only_when_it_must() -> None:
    snapshot = Snapshot()
    places = []
    for size in (10_000, 10_000, 100, 10_000, 20_000, 20_000):
        copied = snapshot.take({"a": torch.full((size,), float(size)), "b": torch.ones(3)})
        places.append(copied["a"].data_ptr())
        assert bool((copied["a"] == size).all())

    assert len(set(places[:4])) == 1
    assert places[4] == places[5]


def mapped(folder: str = "/proc/self/maps") -> int:
    """Anonymous pieces of shared memory."""
    with open(folder) as maps:
        return sum("/dev/zero" in line for line in maps)


def test_memory_is_given_back() -> None:
    before, snapshot = mapped(), Snapshot()
    for size in (10, 10_000, 1_000_000):
        snapshot.take([torch.ones(size)])
        assert mapped() == before + 1
    snapshot.close()
    assert mapped() == before

    assert same(snapshot.take([torch.ones(3)]), [torch.ones(3)]), "and allocated again"
    del snapshot
    assert mapped() == before


@pytest.mark.gpu
def test_tensors_of_a_gpu_are_copied_to_pinned_memory() -> None:
    """R33"""
    snapshot = Snapshot()
    state = OrderedDict(a=torch.randn(1000, 1000, device="cuda"), b=torch.ones(3), c=torch.arange(5, device="cuda"))
    for _ in range(3):
        expected = {key: value.cpu() for key, value in state.items()}
        copied = snapshot.take(state)
        for value in state.values():
            value.zero_()
        assert all(torch.equal(copied[key], expected[key]) for key in expected)
        assert copied["a"].is_pinned()
        state = OrderedDict((key, value.copy_(expected[key])) for key, value in state.items())
    snapshot.close()

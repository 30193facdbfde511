"""Copies of a state, in memory that is kept; and the files that a process without torch makes of them."""

from __future__ import annotations

import io
import mmap
import os
import zipfile
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ignite_core.handlers.checkpoint import archive
from ignite_core.handlers.checkpoint.archive import write_archive
from ignite_core.handlers.checkpoint.safety import check
from ignite_core.handlers.checkpoint.snapshot import Snapshot
from tests.faults.sizes import FULL

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


def usual_kinds() -> dict[str, Any]:
    """What checkpoints may hold, stored by torch as it is."""
    return {name: value for name, value in all_kinds().items() if name not in ("sparse", "conjugate")}


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


def written(snapshot: Snapshot, copied: Any) -> bytes:
    """The file that a process makes of it that sees the memory and what is sent."""
    entries, sent = snapshot.pickled(copied)
    file, size = snapshot.descriptor
    with mmap.mmap(file, size, prot=mmap.PROT_READ) as memory, memoryview(memory) as seen:
        pieces = [
            (name, (memoryview(sent) if is_sent else seen)[offset : offset + length])
            for name, is_sent, offset, length in entries
        ]
        with io.BytesIO() as target:
            write_archive(target, pieces)
            result = target.getvalue()
        for _, piece in pieces:
            piece.release()
    return result


def pickle_in(file: bytes) -> bytes:
    opened = zipfile.ZipFile(io.BytesIO(file))
    return opened.read(next(name for name in opened.namelist() if name.endswith("data.pkl")))


@pytest.mark.parametrize("named", [False, True])
def test_a_copy_is_the_same_and_stays_so(named: bool) -> None:
    snapshot, state = Snapshot(named), all_kinds()
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


def test_memory_is_given_back() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    Snapshot(named=True).take([torch.ones(10)])
    before = open_files()
    snapshot = Snapshot(named=True)
    for size in (10, 10_000, 1_000_000):
        snapshot.take([torch.ones(size)])
        assert open_files() == before + 2  # the memory, and the mapping of it
    snapshot.close()
    assert open_files() == before

    assert same(snapshot.take([torch.ones(3)]), [torch.ones(3)]), "and taken anew"
    del snapshot
    assert open_files() == before


def test_a_file_of_it_is_what_torch_writes(tmp_path: Path) -> None:
    """To the last byte of the pickle; torch, its memory map, zip tools and our own checks read it."""
    snapshot, state = Snapshot(named=True), usual_kinds()
    place = tmp_path / "file.pt"
    place.write_bytes(written(snapshot, snapshot.take(state)))
    with io.BytesIO() as official:
        torch.save(state, official)
        expected = pickle_in(official.getvalue())

    assert pickle_in(place.read_bytes()) == expected
    assert zipfile.ZipFile(place).testzip() is None
    with place.open("rb") as file:
        check(file.fileno())
    for options in ({}, {"mmap": True}):
        loaded = torch.load(place, weights_only=True, **options)
        assert same(loaded, state)
        assert loaded["tied"][0].data_ptr() % 64 == 0


def test_tensors_that_are_no_plain_view_of_memory_are_in_the_file_too() -> None:
    snapshot = Snapshot(named=True)
    file = io.BytesIO(written(snapshot, snapshot.take(all_kinds())))

    assert same(torch.load(file, weights_only=True), all_kinds())


def test_what_views_one_memory_as_different_types_is_refused() -> None:
    """As by torch.save."""
    snapshot, number = Snapshot(named=True), torch.ones(4)
    with pytest.raises(RuntimeError, match="different types that view the same memory"):
        snapshot.pickled(snapshot.take([number, number.view(torch.int32)]))


@pytest.mark.parametrize("large", [1, 60, 700])
def test_large_files_are_read_by_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, large: int) -> None:
    """What is larger than a field of 32 bits stands elsewhere; here everything above a few bytes does."""
    monkeypatch.setattr(archive, "_LARGE", large)
    snapshot, state = Snapshot(named=True), usual_kinds()
    place = tmp_path / "file.pt"
    place.write_bytes(written(snapshot, snapshot.take(state)))

    assert zipfile.ZipFile(place).testzip() is None
    assert same(torch.load(place, weights_only=True, mmap=True), state)
    with place.open("rb") as file:
        check(file.fileno())


@pytest.mark.skipif(not FULL, reason="writes 5 GB: part of `make faults`")
def test_a_truly_large_file_is_read_by_all(tmp_path: Path) -> None:
    state = {"first": torch.ones(2**30 + 2**28, dtype=torch.int32), "second": torch.arange(5)}
    snapshot = Snapshot(named=True)
    entries, sent = snapshot.pickled(snapshot.take(state))
    file, size = snapshot.descriptor
    seen = memoryview(mmap.mmap(file, size, prot=mmap.PROT_READ))
    place = tmp_path / "file.pt"
    with place.open("wb") as target:
        pieces = [(memoryview(sent) if is_sent else seen)[at : at + length] for _, is_sent, at, length in entries]
        write_archive(target, zip([entry.name for entry in entries], pieces, strict=True))
    loaded = torch.load(place, weights_only=True, mmap=True)

    assert torch.equal(loaded["second"], state["second"])
    assert int(loaded["first"][-1]) == 1
    with place.open("rb") as opened:
        check(opened.fileno())


def test_many_records_are_counted_in_a_wide_field() -> None:
    with io.BytesIO() as target:
        write_archive(target, ((f"data/{number}", memoryview(b"")) for number in range(70_000)))
        assert len(zipfile.ZipFile(target).namelist()) == 70_002


@pytest.mark.gpu
def test_tensors_of_a_gpu_are_copied_to_pinned_memory() -> None:
    """R33"""
    snapshot = Snapshot(named=True)
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

"""Values out of structures, as they are now, and as numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ignite_core.handlers import kept, numbers_of
from ignite_core.handlers.logging._scalars import flattened


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", {"a": "text"}),
        (b"bytes", {"a": b"bytes"}),
        ({"b": {}}, {}),
        ([[1, 2], (3,)], {"a/0/0": 1, "a/0/1": 2, "a/1/0": 3}),
        (range(2), {"a/0": 0, "a/1": 1}),
    ],
    ids=repr,
)
def test_a_structure_is_taken_apart_and_text_is_not(value: Any, expected: dict[str, Any]) -> None:
    assert {"/".join(key): part for key, part in flattened(("a",), value)} == expected


def test_a_matrix_stays_whole() -> None:
    matrix = torch.ones(2, 2)

    assert [part is matrix for _, part in flattened(("a",), matrix)] == [True]


@pytest.mark.parametrize(
    "value", [object(), None, torch.ones(3), b"bytes", 1j, torch.empty(0)], ids=lambda one: type(one).__name__
)
def test_what_is_no_number_and_no_text_is_not_kept(value: Any) -> None:
    assert kept(value) is None


def test_tensors_of_a_device_are_fetched_together(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: fetched.append(tensor.shape) or tolist(tensor))
    values = {
        ("a",): torch.tensor(0.5),
        ("b",): 3,
        ("c",): torch.tensor([[0.25]]),
        ("d",): torch.tensor(7),
        ("e",): "x",
    }

    assert numbers_of(values) == {("a",): 0.5, ("b",): 3, ("c",): 0.25, ("d",): 7, ("e",): "x"}
    assert fetched == [(2,), (1,)], "the floats at once, and the integers"
    assert list(numbers_of(values)) == list(values)
    assert type(numbers_of(values)["d",]) is int

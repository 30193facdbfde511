"""convert_tensor moves tensors, wherever they are in a batch, and keeps everything around them."""

import dataclasses
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from ignite_core.utils import convert_tensor

TENSOR = torch.arange(3.0)
Point = namedtuple("Point", "x y")


class Sized(NamedTuple):
    image: Any
    name: str


class Columns(list[Any]):
    """A list of one's own."""


def moved(x: Any) -> Any:
    return convert_tensor(x, device="meta")


@pytest.mark.parametrize(
    ("x", "tensors_of"),
    [
        (TENSOR, lambda x: [x]),
        ([TENSOR, TENSOR], list),
        ((TENSOR, "name"), lambda x: [x[0]]),
        (Point(TENSOR, (TENSOR,)), lambda x: [x.x, x.y[0]]),
        (Sized(TENSOR, "name"), lambda x: [x.image]),
        (Columns([TENSOR]), list),
        ({"a": TENSOR, "b": [{"c": TENSOR}]}, lambda x: [x["a"], x["b"][0]["c"]]),
        (OrderedDict(a=TENSOR), lambda x: [x["a"]]),
        (UserDict(a=TENSOR), lambda x: [x["a"]]),
        (MappingProxyType({"a": TENSOR}), lambda x: [x["a"]]),
        (defaultdict(list, {"a": TENSOR}), lambda x: [x["a"]]),
        (pack_sequence([TENSOR]), lambda x: [x.data]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_tensor_is_moved_and_the_structure_stays(x: Any, tensors_of: Any) -> None:
    result = moved(x)

    assert type(result) is type(x)
    assert {tensor.device.type for tensor in tensors_of(result)} == {"meta"}
    assert {tensor.device.type for tensor in tensors_of(x)} == {"cpu"}


def test_a_default_dict_keeps_its_default() -> None:
    assert moved(defaultdict(list, {"a": TENSOR}))["b"] == []


def test_a_packed_sequence_stays_one() -> None:
    assert isinstance(convert_tensor(pack_sequence([TENSOR]), "cpu"), PackedSequence)


@pytest.mark.parametrize("text", ["name", b"name"])
def test_strings_and_bytes_stay_as_they_are(text: Any) -> None:
    assert moved([text, TENSOR])[0] is text


def test_tensors_on_the_device_are_not_copied() -> None:
    assert convert_tensor([TENSOR], device="cpu")[0] is TENSOR


def test_without_a_device_nothing_is_touched() -> None:
    batch = {"a": [TENSOR, 3]}

    assert convert_tensor(batch) is batch


@pytest.mark.parametrize("value", [3, 0.5, True, None])
def test_numbers_stay_as_they_are(value: Any) -> None:
    batch = moved({"ids": TENSOR, "count": value})

    assert batch["ids"].device.type == "meta"
    assert batch["count"] is value


@dataclasses.dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    name: str = "a"


class Graph:
    """A batch of another library."""

    def __init__(self, x: torch.Tensor, waits: bool = True) -> None:
        self.x, self.waits = x, waits

    def to(self, device: Any, non_blocking: bool = False) -> "Graph":
        return Graph(self.x.to(device), not non_blocking)


def test_dataclasses_keep_their_type() -> None:
    sample = moved([Sample(TENSOR)])[0]

    assert (type(sample), sample.x.device.type, sample.name) == (Sample, "meta", "a")
    assert TENSOR.device.type == "cpu"


def test_objects_with_a_method_to_move_themselves() -> None:
    assert moved({"graph": Graph(TENSOR)})["graph"].x.device.type == "meta"
    assert not convert_tensor(Graph(TENSOR), "meta", non_blocking=True).waits


def test_anything_else_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="in lists, tuples, mappings and dataclasses; got set"):
        moved({"a": (TENSOR, {TENSOR})})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, this machine has none")
def test_pinned_memory_is_copied_to_the_device() -> None:
    (result,) = convert_tensor([TENSOR.pin_memory()], device="cuda", non_blocking=True)

    assert result.device.type == "cuda"
    assert torch.equal(result.cpu(), TENSOR)

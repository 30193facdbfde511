"""What is saved can be loaded: numpy's numbers become Python's, and the rest is refused before a file is made."""

from __future__ import annotations

import datetime
import enum
import os
import re
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_core.engine import Engine
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import AsyncDiskSaver, Checkpoint, DCPSaver, DiskSaver
from ignite_core.handlers.checkpoint.storage.plain_values import plain_state
from ignite_core.testing import run_distributed
from tests.faults import io_shim

Pair = namedtuple("Pair", "first second")


class Color(enum.IntEnum):
    RED = 1


class Held:
    """An object with a state."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


NUMBERS = [
    (np.float64(0.1), 0.1),
    (np.float32(1.5), 1.5),
    (np.float16(1.5), 1.5),
    (np.int64(2**62), 2**62),
    (np.uint8(3), 3),
    (np.bool_(True), True),
    (np.complex64(1 + 2j), 1 + 2j),
    (np.str_("a"), "a"),
    (np.bytes_(b"a"), b"a"),
    (np.array(1.5), 1.5),
    (np.array(3, dtype=np.int32), 3),
]

NESTS: list[Callable[[Any], Any]] = [
    lambda value: value,
    lambda value: [1, {"a": (value, None)}],
    lambda value: {value: value},
    lambda value: {value},
    lambda value: Counter({"a": value}),
    lambda value: OrderedDict(a=value, b=torch.Size([1])),
]


@pytest.mark.parametrize("nest", range(len(NESTS)))
@pytest.mark.parametrize(("value", "expected"), NUMBERS, ids=lambda value: type(value).__name__)
def test_a_number_of_numpy_is_saved_as_one_of_python(value: Any, expected: Any, nest: int) -> None:
    if type(value) is np.ndarray and nest in (2, 3):
        pytest.skip("an array cannot be a key")
    found, right = plain_state(NESTS[nest](value), "a.pt"), NESTS[nest](expected)

    assert (found, repr(found), type(found)) == (right, repr(right), type(right))


def test_a_state_without_them_is_the_very_state() -> None:
    state = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).state_dict()
    assert plain_state({"model": state}, "a.pt")["model"] is state


def test_what_is_in_two_places_stays_one_and_metadata_stays() -> None:
    model = nn.Linear(2, 2).state_dict()
    model["scale"] = np.float32(2)
    shared = [np.int64(1)]
    found = plain_state({"model": model, "a": shared, "b": (shared,)}, "a.pt")

    assert found["a"] is found["b"][0]
    assert type(found["a"][0]) is int
    assert type(found["model"]["scale"]) is float
    assert found["model"]._metadata == model._metadata
    assert type(model["scale"]) is np.float32, "the state of the object is left alone"


def in_itself() -> list[Any]:
    value: list[Any] = []
    value.append([value, value])
    return value


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    return value


REFUSED = [
    (np.ones(2), r"a numpy array of shape \(2,\) and dtype float64, .* torch.from_numpy\(array\) or array.tolist\(\)"),
    (np.array(["a"]), r"a numpy array of shape \(1,\) and dtype <U1"),
    (np.longdouble(1) / 3, "a numpy.longdouble, which could not be loaded"),
    (np.datetime64("2020"), "a numpy.datetime64"),
    (Color.RED, r"a .*Color, .*add_safe_globals\(\[Color\]\)"),
    (Pair(1, 2), "a .*Pair"),
    (defaultdict(int), "a collections.defaultdict"),
    (datetime.date(2020, 1, 1), "a datetime.date"),
    (frozenset({1}), "a builtins.frozenset"),
    (lambda: None, "a builtins.function, .* sets of them$"),
    (nn.MSELoss(), "a torch.nn.modules.loss.MSELoss"),
    (in_itself(), "a list in itself, or in more than 100 others"),
    (deep(), "a list in itself, or in more than 100 others"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[type(value).__name__ for value, _ in REFUSED])
def test_what_could_not_be_loaded_is_refused(value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        plain_state({"a": value}, "a.pt")


@pytest.mark.parametrize(
    ("state", "name", "place"),
    [
        ({"param_groups": [{"lr": np.ones(2)}]}, "optimizer", "optimizer.param_groups[0].lr"),
        ({"model": {"0.weight": np.ones(2)}}, "", "model.0.weight"),
        ({"a": {3: ({"x y": np.ones(2)},)}}, "", "a[3][0]['x y']"),
        ({"a": {Color.RED: 1}}, "", "a[<Color.RED: 1>]"),
        (np.ones(2), "", "it"),
        (np.ones(2), "scaler", "scaler"),
    ],
)
def test_the_place_is_named(state: Any, name: str, place: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(f"a.pt: is not saved, as {place} is a ")):
        plain_state(state, "a.pt", name)


SAVERS = [DiskSaver, AsyncDiskSaver, DCPSaver]


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("names", [["optimizer"], ["optimizer", "model"]], ids=["one object", "several"])
def test_nothing_is_written_of_what_is_refused(saver: type[DiskSaver], names: list[str], tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    objects = {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "model": model}
    checkpoint = Checkpoint({name: objects[name] for name in names}, saver(tmp_path), n_saved=1)
    trainer = Engine(lambda engine, batch: None)
    trainer.state.iteration = 1
    checkpoint(trainer)
    trainer.state.iteration = 2
    objects["optimizer"].param_groups[0]["betas"] = np.ones(2)  # type: ignore[attr-defined]
    if isinstance(checkpoint.save_handler, AsyncDiskSaver):
        checkpoint.save_handler.flush()
    before = sorted(os.listdir(tmp_path))
    with io_shim.recording() as ops, pytest.raises(CheckpointError) as caught:
        checkpoint(trainer)

    assert f"{'optimizer' if len(names) == 1 else 'checkpoint'}_2.pt (step 2)" in str(caught.value)
    assert "as optimizer.param_groups[0].betas is a numpy array" in str(caught.value)
    assert (ops if saver is not DCPSaver else [], sorted(os.listdir(tmp_path))) == ([], before)


@pytest.mark.parametrize("saver", SAVERS)
def test_learning_rates_of_numpy_are_saved_and_loaded(saver: type[DiskSaver], tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=np.logspace(-4, -2, 3)[1])
    trainer = Engine(lambda engine, batch: None)
    trainer.state_dict_user_keys.append("best")
    trainer.state.best = np.float64(0.3)
    objects = {"model": model, "optimizer": optimizer, "trainer": trainer}
    checkpoint = Checkpoint(objects, saver(tmp_path))
    checkpoint(trainer)
    if isinstance(checkpoint.save_handler, AsyncDiskSaver):
        checkpoint.save_handler.close()
    other = torch.optim.Adam(model.parameters())
    Checkpoint.load_objects({**objects, "optimizer": other}, tmp_path / "checkpoint_0.pt")

    assert (type(other.param_groups[0]["lr"]), other.param_groups[0]["lr"]) == (float, pytest.approx(1e-3))
    assert type(trainer.state.best) is float


@pytest.mark.parametrize("saver", SAVERS)
def test_a_class_that_was_declared_safe_is_saved_and_loaded(saver: type[DiskSaver], tmp_path: Path) -> None:
    loaded = Held()
    with torch.serialization.safe_globals([Color, Pair]):
        checkpoint = Checkpoint({"a": Held(Color.RED), "b": Held(Pair(1, 2))}, saver(tmp_path))
        checkpoint(Engine(lambda engine, batch: None))
        if isinstance(checkpoint.save_handler, AsyncDiskSaver):
            checkpoint.save_handler.close()
        Checkpoint.load_objects({"b": loaded}, tmp_path / "checkpoint_0.pt")
    assert loaded.value == Pair(1, 2)
    assert type(loaded.value) is Pair


def test_arrays_are_loaded_where_the_classes_of_numpy_were_declared(tmp_path: Path) -> None:
    loaded = Held()
    declared = [np.ndarray, np.dtype, np.dtypes.Float64DType, np._core.multiarray._reconstruct]
    with torch.serialization.safe_globals(declared):
        Checkpoint({"a": Held(np.arange(3.0))}, tmp_path)(Engine(lambda engine, batch: None))
        Checkpoint.load_objects({"a": loaded}, tmp_path / "a_0.pt")

    assert loaded.value.tolist() == [0.0, 1.0, 2.0]


def test_a_file_that_torch_could_not_load_is_not_made(tmp_path: Path) -> None:
    """Of what numpy makes of an array, one class was not declared; no list of ours knows."""
    declared = [np.ndarray, np.dtype, np._core.multiarray._reconstruct]
    for saver in (DiskSaver(tmp_path), DCPSaver(tmp_path)):
        with (
            torch.serialization.safe_globals(declared),
            pytest.raises(CheckpointError, match=r"run \(step 3\): is not saved, as it could not be loaded.*DType"),
        ):
            saver({"a": np.ones(2)}, "run", {"step": 3})
    assert os.listdir(tmp_path) == []


def refuse_on_one_rank(folder: str) -> tuple[str, int]:
    value = np.ones(2) if idist.get_rank() == 1 else 1
    try:
        DCPSaver(folder)({"a": value}, "run", {"step": 3})
        told = ""
    except CheckpointError as error:
        told = str(error)
    return told, idist.all_reduce(1)


def test_what_one_rank_refuses_all_ranks_refuse(tmp_path: Path) -> None:
    first, second = run_distributed(refuse_on_one_rank, str(tmp_path))

    assert first == second
    assert "rank 1 failed with" in first[0]
    assert "as a is a numpy array" in first[0]
    assert first[1] == 2
    assert os.listdir(tmp_path) == []

"""Wrappers leave no trace in what is saved, and are no obstacle to what is loaded."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel

from ignite_core.engine import Engine
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint
from ignite_core.handlers.checkpoint.states import Wrappers, check_objects, state_of, unwrapped

WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "nothing": lambda module: module,
    "DataParallel": DataParallel,
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "compiled DataParallel": lambda module: torch.compile(DataParallel(module), backend="eager"),
    "DataParallel of compiled": lambda module: DataParallel(torch.compile(module, backend="eager")),
}


def net(wrap_inner: Callable[[nn.Module], nn.Module] = lambda module: module) -> nn.Sequential:
    return nn.Sequential(wrap_inner(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))), nn.Linear(3, 1))


def saved_of(obj: Any) -> Any:
    """What a handler hands to its saver."""
    seen: list[Any] = []
    Checkpoint({"model": obj}, lambda state, filename: seen.append(copy.deepcopy(state)))(Engine(lambda e, b: None))
    return seen[0]


@pytest.mark.parametrize("inner", WRAPPERS)
@pytest.mark.parametrize("outer", WRAPPERS)
def test_a_wrapped_model_is_saved_as_the_plain_one_and_each_loads_the_other(outer: str, inner: str) -> None:
    plain = net()
    wrapped = WRAPPERS[outer](net(WRAPPERS[inner]))
    saved = saved_of(wrapped)

    assert list(saved) == list(plain.state_dict())
    assert saved._metadata == plain.state_dict()._metadata
    Checkpoint.load_objects({"model": plain}, saved)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(1)
    Checkpoint.load_objects({"model": wrapped}, {"model": plain.state_dict()})
    assert all(torch.equal(a, b) for a, b in zip(saved_of(wrapped).values(), plain.state_dict().values(), strict=True))


@pytest.mark.parametrize("theirs", WRAPPERS)
@pytest.mark.parametrize("ours", WRAPPERS)
def test_a_state_that_others_saved_with_its_wrappers_is_loaded(theirs: str, ours: str) -> None:
    source, target = WRAPPERS[theirs](net(WRAPPERS[theirs])), WRAPPERS[ours](net(WRAPPERS[ours]))
    if "DataParallel" in theirs and ours != theirs:  # an inner "module." may be the name of a part
        source = WRAPPERS[theirs](net())
    Checkpoint.load_objects({"model": target}, {"model": source.state_dict()})

    assert all(torch.equal(a, b) for a, b in zip(saved_of(source).values(), saved_of(target).values(), strict=True))


def test_a_part_that_is_called_module_keeps_its_name() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(1, 1)

    assert list(saved_of(DataParallel(Holder()))) == ["module.weight", "module.bias"]
    saved = saved_of(Holder())
    target = DataParallel(Holder())
    Checkpoint.load_objects({"model": target}, saved)
    assert torch.equal(target.module.module.weight, saved["module.weight"])


def test_keys_are_dressed_and_bared_by_where_the_wrappers_are() -> None:
    wrappers = Wrappers(net(DataParallel))

    assert wrappers.bare("0.module.0.weight") == "0.0.weight"
    assert wrappers.dressed("0.0.weight") == "0.module.0.weight"
    assert wrappers.dressed(wrappers.bare("1.weight")) == "1.weight"


def test_what_is_shared_is_renamed_wherever_it_stands() -> None:
    part = DataParallel(nn.Linear(1, 1))

    assert list(saved_of(nn.Sequential(part, part))) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_what_cannot_be_saved_or_loaded_is_named_by_its_place() -> None:
    with pytest.raises(TypeError, match=r"heads\[1\]\['b'\]\" must have a method state_dict\(\), got int"):
        check_objects({"heads": [nn.Linear(1, 1), {"a": nn.Linear(1, 1), "b": 3}]}, "state_dict", "here")
    with pytest.raises(TypeError, match="must be a mapping of names to them, got list"):
        check_objects([nn.Linear(1, 1)], "state_dict", "here")
    with pytest.raises(TypeError, match="'model' must have a method load_state_dict"):
        Checkpoint.load_objects({"model": 3}, {})


def test_lists_and_dictionaries_of_objects_are_saved_and_loaded() -> None:
    def build() -> dict[str, Any]:
        return {"nets": [nn.Linear(1, 1), {"head": nn.Linear(1, 1)}], "other": (nn.Linear(1, 1),)}

    seen: list[Any] = []
    source, target = build(), build()
    Checkpoint(source, lambda state, filename: seen.append(copy.deepcopy(state)))(Engine(lambda e, b: None))
    Checkpoint.load_objects(target, seen[0])

    assert torch.equal(target["nets"][1]["head"].weight, source["nets"][1]["head"].weight)
    assert torch.equal(target["other"][0].weight, source["other"][0].weight)
    with pytest.raises(CheckpointError, match=r"it contains no state of 'nets\[2\]', only of \[0, 1\]"):
        Checkpoint.load_objects({**target, "nets": [*target["nets"], nn.Linear(1, 1)]}, seen[0])


def test_the_module_itself_is_found_inside_wrappers() -> None:
    model = nn.Linear(1, 1)

    assert all(unwrapped(wrap(model)) is model for wrap in WRAPPERS.values())
    assert unwrapped("anything") == "anything"
    assert list(state_of(model, 0)) == ["weight", "bias"]

"""A sharded state as whole tensors, and back: what FSDP2 saved loads into a plain model, and the other way round."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_core.handlers.checkpoint.sharded import full, is_sharded, load_sharded
from ignite_core.testing import run_distributed
from tests.faults.sizes import FULL


def network() -> nn.Module:
    """Sizes that two and three ranks do not divide, and buffers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def trained(model: nn.Module, steps: int = 2) -> torch.optim.Optimizer:
    """The optimizer after some steps with the same data on all ranks."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(6, 5)).square().mean().backward()
        optimizer.step()
    return optimizer


def sharded(model: nn.Module) -> nn.Module:
    return idist.auto_model(model, shard=True)


def is_close(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return list(a) == list(b) and all(is_close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(is_close, a, b))
    return torch.allclose(a, b, atol=1e-6) if isinstance(a, torch.Tensor) else bool(a == b)


def plain_state() -> Any:
    """Of the same model where nothing is sharded."""
    model = network()
    optimizer = trained(model)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def make_whole() -> Any:
    model = sharded(network())
    optimizer = trained(model)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    assert is_sharded(state)
    for_one, for_all = full(state), full(state, rank=None)
    assert not is_sharded(for_all)
    return for_one, for_all, type(for_all["model"]), for_all["model"]._metadata == state["model"]._metadata


def load_plain(steps_before: int) -> Any:
    state = plain_state()
    model = sharded(network())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    optimizer = trained(model, steps=steps_before)
    load_sharded(model, state["model"])
    load_sharded(optimizer, copy.deepcopy(state["optimizer"]))
    first = next(model.parameters())
    assert is_sharded([first, optimizer.state_dict()])
    assert optimizer.state[first]["exp_avg"].placements == first.placements
    found = copy.deepcopy(full({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, rank=None))
    model(torch.ones(4, 5)).sum().backward()
    optimizer.step()  # all parts fit together
    return is_close(found, state)


def load_other_shapes() -> str:
    model = sharded(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = optimizer.state_dict()
    state["state"] = {2: {"row": torch.ones(7)}}
    try:
        load_sharded(optimizer, state)
    except ValueError as error:
        return str(error)
    return ""


def load_incomplete() -> str:
    model = sharded(network())
    state = full(model.state_dict(), rank=None)
    del state["1.bias"]
    load_sharded(model, state, strict=False)
    try:
        load_sharded(model, state)
    except RuntimeError as error:
        return str(error)
    return ""


def play() -> dict[str, Any]:
    """Everything on one rank, in one process: sharding the first model takes long."""
    return {
        "whole": make_whole(),
        "loaded": [load_plain(steps_before) for steps_before in (0, 1)],
        "shapes": load_other_shapes(),
        "incomplete": load_incomplete(),
    }


@pytest.fixture(scope="module", params=[2, 3] if FULL else [3])
def found(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What each rank has found."""
    return run_distributed(play, ranks=request.param)


def test_a_sharded_state_becomes_that_of_the_plain_model(found: list[dict[str, Any]]) -> None:
    expected = plain_state()

    for rank, of_rank in enumerate(found):
        for_one, for_all, kind, has_metadata = of_rank["whole"]
        assert is_close(for_all, expected)
        assert kind is OrderedDict
        assert has_metadata
        weight = for_one["model"]["1.weight"]
        assert weight.device.type == "cpu" if rank == 0 else weight is None
        assert for_one["optimizer"]["param_groups"] == expected["optimizer"]["param_groups"]


def test_whole_tensors_load_into_the_plain_model(found: list[dict[str, Any]]) -> None:
    state = found[0]["whole"][0]
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    load_sharded(model, state["model"])
    load_sharded(optimizer, state["optimizer"])

    assert is_close(full(model.state_dict()), state["model"])
    assert is_close(optimizer.state_dict(), state["optimizer"])


def test_the_state_of_a_plain_model_loads_into_a_sharded_one(found: list[dict[str, Any]]) -> None:
    """Before the first step of the optimizer, and after it."""
    assert all(of_rank["loaded"] == [True, True] for of_rank in found)


def test_what_cannot_be_spread_says_how_to_mend_it(found: list[dict[str, Any]]) -> None:
    message = "got 'row' of shape (7,) for parameter 2 of shape (7, 5); do one step of the optimizer before loading"

    assert all(message in of_rank["shapes"] for of_rank in found)


def test_options_reach_the_model(found: list[dict[str, Any]]) -> None:
    assert all('Missing key(s) in state_dict: "1.bias"' in of_rank["incomplete"] for of_rank in found)


def test_nothing_is_touched_where_nothing_is_sharded() -> None:
    state = {"a": [torch.ones(2)], "b": {"c": 1}}

    assert not is_sharded(state)
    assert full(state) is state

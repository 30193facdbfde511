"""Random states are read from files: none is set that its generator would read outside its memory for."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pytest
import torch

from ignite_core.engine import DeterministicEngine, Engine
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint
from ignite_core.rng import check_rng_state, rng_state, set_rng_state
from ignite_core.utils import manual_seed

PLACE = {"left": 8, "next": 16}


def torchs(**fields: int) -> torch.Tensor:
    """A state of torch with other counters."""
    state = bytearray(torch.get_rng_state().tolist())
    for name, value in fields.items():
        struct.pack_into("q" if name == "next" else "i", state, PLACE[name], value)
    return torch.tensor(list(state), dtype=torch.uint8)


DAMAGED = [
    ("numpy", "pos", 10**8),
    ("numpy", "pos", 625),
    ("numpy", "pos", -1),
    ("numpy", "pos", 1.5),
    ("numpy", "pos", "0"),
    ("numpy", "pos", ...),
    ("numpy", "key", torch.zeros(623, dtype=torch.int64)),
    ("numpy", "key", torch.zeros(624)),
    ("numpy", "key", torch.full((624,), -1)),
    ("numpy", "key", [0] * 624),
    ("numpy", "has_gauss", 7),
    ("numpy", "gauss", None),
    ("python", "words", torch.zeros(624, dtype=torch.int64)),
    ("python", "words", torch.tensor([1] * 624 + [625])),
    ("python", "words", torch.tensor([1] * 624 + [-1])),
    ("python", "words", torch.tensor([2**40] * 624 + [1])),
    ("python", "words", [1] * 625),
    ("python", "version", 9),
    ("python", "version", None),
    ("python", "gauss", "0.5"),
    ("python", "gauss", ...),
    ("torch", None, torch.zeros(5056)),
    ("torch", None, torch.zeros(10, dtype=torch.uint8)),
    ("torch", None, torch.zeros(0, dtype=torch.uint8)),
    ("torch", None, torchs(left=624, next=624)),
    ("torch", None, torchs(left=0)),
    ("torch", None, torchs(next=2**40)),
    ("torch", None, b"1"),
    ("torch", None, ...),
    ("cuda", None, 3),
    ("cuda", None, [torch.zeros(3, dtype=torch.uint8)]),
    ("cuda", None, [torch.zeros(16)]),
    ("cuda", None, [torch.tensor([0] * 8 + [1] * 8, dtype=torch.uint8)]),
]


def damaged(generator: str, key: str | None, value: Any) -> dict[str, Any]:
    state = rng_state()
    place, name = (state, generator) if key is None else (state[generator], key)
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return state


@pytest.mark.parametrize(("generator", "key", "value"), DAMAGED, ids=lambda value: str(value)[:20])
def test_a_damaged_state_is_refused_and_nothing_is_set(generator: str, key: str | None, value: Any) -> None:
    manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    manual_seed(1)

    with pytest.raises(CheckpointError, match=f"random state of {generator} is damaged: "):
        set_rng_state(damaged(generator, key, value))

    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.parametrize("state", [None, 3, [], "state"])
def test_what_is_no_mapping_is_refused(state: Any) -> None:
    with pytest.raises(CheckpointError, match="must be a mapping, got"):
        set_rng_state(state)


def test_every_state_that_generators_can_have_is_accepted() -> None:
    """Their words are used up and made again in between."""
    for _ in range(700):
        random.gauss(0, 1), np.random.randn(), torch.randn(1)
        check_rng_state(rng_state())


@pytest.mark.parametrize("make", [Engine, DeterministicEngine])
@pytest.mark.parametrize("holder", ["rank", "data"])
def test_a_checkpoint_with_a_damaged_state_is_refused_where_it_is_loaded(make: type[Engine], holder: str) -> None:
    engine = make(lambda engine, batch: None)
    engine.run([1, 2], seed=1)
    saved = dict(engine.state_dict())
    bad = damaged("numpy", "pos", 10**8)
    part = {"rng": bad} if holder == "rank" else {"data": {"state": {}, "rng": bad}}
    saved["by_rank"] = [{**saved["by_rank"][0], **part}]
    other = make(lambda engine, batch: None)

    with pytest.raises(CheckpointError, match="pos must be a number from 0 to 624, got '100000000'"):
        Checkpoint.load_objects({"trainer": other}, {"trainer": saved})

    assert other.state.iteration == 0

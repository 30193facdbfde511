"""Checkpoints that all ranks write: R7 (no mixture), R8 (leftovers), R9 (a rank fails), R27 (nothing is executed)."""

from __future__ import annotations

import copy
import os
import pickle
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_core.distributed.failures.api import is_agreed
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint, DCPSaver, resume
from ignite_core.handlers.checkpoint import dcp_saver as dcp
from ignite_core.handlers.checkpoint.dcp_reader import read_folder
from ignite_core.handlers.checkpoint.sharded import full, is_sharded
from ignite_core.handlers.checkpoint.storage import commit as storage
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.testing import run_distributed
from tests.faults.sizes import FULL
from tests.handlers.checkpoint.comparing import read_manifest
from tests.handlers.checkpoint.test_sharded import is_close, network, sharded, trained


def fitted(steps: int, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A sharded model that has done some steps (a plain one in a serial run), and its optimizer."""
    model = sharded(network())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(seed)
    return model, trained(model, steps=steps)


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "notes": [1, {"a": (2.5, "b")}]}


def whole(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    return copy.deepcopy(full({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, rank=None))


def save(folder: Path, seed: int = 0) -> Any:
    """Save a state, and return the whole of it."""
    pair = fitted(2, seed)
    DCPSaver(folder, require_empty=False)(state_of(*pair), "run", {"step": seed})
    return whole(*pair)


def load(folder: Path, steps: int = 0) -> Any:
    """Load into another model, and return the whole of it."""
    model, optimizer = fitted(steps, seed=9)
    Checkpoint.load_objects({"model": model, "optimizer": optimizer}, folder / "run")
    assert is_sharded(optimizer.state_dict()["state"]) == (idist.get_world_size() > 1)
    found = whole(model, optimizer)
    model(torch.ones(4, 5)).sum().backward()
    optimizer.step()  # all parts fit together
    return found


def save_whole(folder: Path) -> Any:
    """As one file, which rank 0 writes."""
    model, optimizer = fitted(2)
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.COMPLETED, Checkpoint({"model": model, "optimizer": optimizer}, folder))
    trainer.run([0])
    return whole(model, optimizer)


def load_whole(folder: Path) -> Any:
    model, optimizer = fitted(0, seed=9)
    Checkpoint.load_objects({"model": model, "optimizer": optimizer}, folder / "checkpoint_1.pt")
    return whole(model, optimizer)


def save_bare(folder: Path) -> bool:
    model, _ = fitted(1)
    DCPSaver(folder)(model.state_dict(), "run")
    other, _ = fitted(0, seed=3)
    Checkpoint.load_objects({"model": other}, folder / "run")
    return is_close(full(other.state_dict(), rank=None), full(model.state_dict(), rank=None))


def save_different_things(folder: Path) -> str:
    model, _ = fitted(0)
    state = model.state_dict()
    if idist.get_rank() == 1:
        del state["1.bias"]
    try:
        DCPSaver(folder)(state, "run")
    except CheckpointError as error:
        return str(error)
    return ""


def fail_to_remove(folder: Path) -> list[str]:
    saver = DCPSaver(folder)
    saver({"a": 1}, "run")
    told = []
    with failing("syncing the folder", 0):
        try:
            saver.remove("run")
        except CheckpointError as error:
            told.append(str(error))
    saver.remove("run")
    return [*told, *(name for name in os.listdir(folder) if name.startswith("run"))]


def play_first(folder: Path) -> dict[str, Any]:
    """What the tests look at, on one rank, in one process: sharding the first model takes seconds."""
    return {
        "saved": save(folder / "saved", 7),
        "loaded": [load(folder / "saved", steps) for steps in (0, 1)],
        "whole": save_whole(folder / "whole"),
        "bare": save_bare(folder / "bare"),
        "different": save_different_things(folder / "different"),
        "removed": fail_to_remove(folder / "removed"),
        "failed": fail_in_each_phase(folder / "failed"),
        "older": save(folder / "mixed", 1),
        "run": train(folder / "run", 1),
    }


def play_second(folder: Path) -> dict[str, Any]:
    """Goes on, with another number of ranks."""
    return {
        "loaded": [load(folder / "saved", steps) for steps in (0, 1)],
        "whole": load_whole(folder / "whole"),
        "plain": load_whole(folder / "plain"),
        "newer": save(folder / "mixed", 2),
        "run": train(folder / "run", 2),
    }


def play_third(folder: Path) -> dict[str, Any]:
    """And with the first number again."""
    return {
        "newer": load(folder / "mixed"),
        "run": train(folder / "run", 3),
        "damaged": load_damaged(folder / "damaged"),
    }


@dataclass(frozen=True)
class Played:
    """What each rank has found."""

    folder: Path
    first: list[dict[str, Any]]
    second: list[dict[str, Any]]
    third: list[dict[str, Any]]
    plain: Any


#: How many ranks save, go on, and go on again.
NUMBERS = (4, 2) if FULL else (3, 2)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("played")
    many, few = NUMBERS
    first = run_distributed(play_first, folder, ranks=many)
    plain = save_whole(folder / "plain")
    second = run_distributed(play_second, folder, ranks=few)
    shutil.copytree(folder / "saved", folder / "damaged")
    published_anew(folder / "damaged", damage_part_of_rank_1)
    return Played(folder, first, second, run_distributed(play_third, folder, ranks=many), plain)


@pytest.fixture
def folder(played: Played, tmp_path: Path) -> Path:
    """With a checkpoint that may be spoilt."""
    shutil.copytree(played.folder / "saved", tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_it_is_loaded_on_any_number_of_ranks(played: Played) -> None:
    """Before the first step of the optimizer, and after it."""
    saved = played.first[0]["saved"]

    for of_rank in (*played.first, *played.second):
        assert all(is_close(found, saved) for found in of_rank["loaded"])


def test_it_is_loaded_into_a_plain_model(played: Played, folder: Path) -> None:
    assert is_close(load(folder), played.first[0]["saved"])


def test_one_file_of_a_sharded_model_is_loaded_into_any(played: Played) -> None:
    """Written with DiskSaver: into a plain model, and on another number of ranks; and that of a plain model too."""
    saved = played.first[0]["whole"]

    assert is_close(load_whole(played.folder / "whole"), saved)
    assert all(is_close(of_rank["whole"], saved) for of_rank in played.second)
    assert all(is_close(of_rank["plain"], played.plain) for of_rank in played.second)


def test_what_is_not_spread_is_there_too(folder: Path) -> None:
    states = read_folder(folder / "run", {})

    assert states["notes"] == [1, {"a": (2.5, "b")}]
    assert states["model"]["0.running_mean"].abs().sum() > 0
    assert states["model"]["1.weight"] is None, "it was not asked for"


def test_the_state_of_a_single_object_may_be_bare(played: Played, tmp_path: Path) -> None:
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    DCPSaver(tmp_path)(model.state_dict(), "run")
    Checkpoint.load_objects({"model": other}, tmp_path / "run")

    assert torch.equal(other.weight, model.weight)
    assert all(of_rank["bare"] for of_rank in played.first), "and that of a sharded one"


def test_other_tools_can_read_it(played: Played, folder: Path) -> None:
    """It is what torch.distributed.checkpoint writes."""
    import torch.distributed.checkpoint as official

    weights = {"model.1.weight": torch.zeros(7, 5)}
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        official.load(weights, checkpoint_id=folder / "run")

    assert is_close(weights["model.1.weight"], played.first[0]["saved"]["model"]["1.weight"])


def test_what_stands_beside_it_tells_of_all_files(folder: Path) -> None:
    manifest = read_manifest(folder / "run")

    assert set(manifest.files) == {".metadata", "common.pt", *(f"__{rank}_0.distcp" for rank in range(NUMBERS[0]))}
    assert (manifest.kind, manifest.step, manifest.about["world_size"]) == ("folder", 7, NUMBERS[0])


def test_ranks_that_save_different_things_are_told(played: Played) -> None:
    told = [of_rank["different"] for of_rank in played.first]

    assert len(set(told)) == 1
    assert "all ranks must save the same tensors, but rank" in told[0]
    assert os.listdir(played.folder / "different") == []


def test_a_removal_that_fails_is_told_to_all(played: Played) -> None:
    told = [of_rank["removed"] for of_rank in played.first]

    assert all(of_rank == told[0] for of_rank in told)
    assert len(told[0]) == 1, "the second time nothing is left"
    assert "run was not removed: rank 0 failed with" in told[0][0]


# ------------------------------------------------------------------------------------------------------ R7, R8: names


def test_generations_never_mix(played: Played) -> None:
    """R7: the same step saved by many ranks, then by fewer, loaded by many: nothing of the former is left."""
    manifest = read_manifest(played.folder / "mixed" / "run")

    assert set(os.listdir(played.folder / "mixed" / "run")) == set(manifest.files)
    assert manifest.about["world_size"] == NUMBERS[1]
    assert f"__{NUMBERS[0] - 1}_0.distcp" not in manifest.files
    assert not is_close(played.first[0]["older"], played.second[0]["newer"])
    assert all(is_close(of_rank["newer"], played.second[0]["newer"]) for of_rank in played.third)


def die_while_writing(folder: Path) -> None:
    from torch.distributed.tensor import DTensor, Shard, init_device_mesh

    spread = DTensor.from_local(torch.ones(2, 3), init_device_mesh("cpu", (2,)), [Shard(0)])
    with mock.patch("torch.distributed.checkpoint.FileSystemWriter.finish", side_effect=lambda *_: os._exit(9)):
        DCPSaver(folder)({"weights": spread}, "run")


def test_what_a_dead_save_left_is_no_hindrance(tmp_path: Path) -> None:
    """R8"""
    with pytest.raises(Exception, match=r"ended with exit code 9|rank 0|peer"):
        run_distributed(die_while_writing, tmp_path, timeout_s=60)
    left = os.listdir(tmp_path)
    DCPSaver(tmp_path)({"a": 1}, "run")

    assert any(name.startswith(".ignite-") for name in left)
    assert "run" not in left
    assert sorted(os.listdir(tmp_path)) == ["run", "run.json"]


# --------------------------------------------------------------------------------------------------- R9: a rank fails

#: What is called in each phase of a save, and on which ranks.
PHASES: dict[str, tuple[Any, str, Callable[[int], bool]]] = {
    "making the folder": (files, "mkdir", lambda rank: rank == 0),
    "taking the state apart": (dcp, "_split", lambda rank: True),
    "planning": ("torch.distributed.checkpoint.DefaultSavePlanner", "create_local_plan", lambda rank: True),
    "planning for all": (
        "torch.distributed.checkpoint.DefaultSavePlanner",
        "create_global_plan",
        lambda rank: rank == 0,
    ),
    "finishing the plan": ("torch.distributed.checkpoint.DefaultSavePlanner", "finish_plan", lambda rank: True),
    "writing": ("torch.distributed.checkpoint.FileSystemWriter", "write_data", lambda rank: True),
    "writing the list": ("torch.distributed.checkpoint.FileSystemWriter", "finish", lambda rank: rank == 0),
    "looking at the rest": (dcp, "check_loadable", lambda rank: rank == 0),
    "syncing": (files, "fsync", lambda rank: rank == 0),
    "naming": (files, "replace", lambda rank: rank == 0),
    "syncing the folder": (files, "fsync_path", lambda rank: rank == 0),
}


@contextmanager
def failing(phase: str, rank: int) -> Iterator[None]:
    owner, name, _ = PHASES[phase]
    if rank != idist.get_rank():
        yield
        return
    error = OSError(28, f"planted in {phase}")
    patched = (
        mock.patch(f"{owner}.{name}", side_effect=error)
        if isinstance(owner, str)
        else mock.patch.object(owner, name, side_effect=error)
    )
    with patched:
        yield


def fail_in_each_phase(folder: Path) -> list[tuple[str, int, str, bool, int]]:
    saver = DCPSaver(folder, require_empty=False)
    pair = fitted(1)
    saver(state_of(*pair), "older")
    found = []
    for phase, (_, _, is_called_on) in PHASES.items():
        for rank in filter(is_called_on, range(idist.get_world_size())):
            start = time.monotonic()
            with failing(phase, rank):
                try:
                    saver(state_of(*pair), "run", {"step": 5})
                    told, agreed = "nothing was raised", False
                except CheckpointError as error:
                    told, agreed = str(error), is_agreed(error)
            assert time.monotonic() - start < 5.0, phase
            found.append((phase, rank, told, agreed, idist.all_reduce(1)))
            idist.barrier()
            assert {name for name in os.listdir(folder) if not name.startswith(".ignite")} == {"older", "older.json"}
    saver(state_of(*pair), "run")
    return found


def test_all_ranks_raise_when_one_fails_in_any_phase(played: Played) -> None:
    """R9: the same error, soon, naming the rank; the next collective works; nothing was published."""
    of_ranks = [of_rank["failed"] for of_rank in played.first]
    ranks = len(of_ranks)
    everywhere = sum(is_called_on(1) for _, _, is_called_on in PHASES.values())

    assert len(of_ranks[0]) == len(PHASES) + everywhere * (ranks - 1)
    for cases in zip(*of_ranks, strict=True):
        phase, rank, told, *_ = cases[0]
        for other in cases:
            assert other[2] == told
            assert f"rank {rank} failed with" in told, (phase, told)
            assert f"planted in {phase}" in told
            assert "run (step 5)" in told
            assert other[3:] == (True, ranks), phase
    left = sorted(os.listdir(played.folder / "failed"))
    assert left == ["older", "older.json", "run", "run.json"], "and nothing is left over"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """R4: torch.save reports an error of its own where a write fails."""
    saver = DCPSaver(tmp_path)
    saver({"a": torch.ones(2)}, "older", {"step": 4})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=rf"{tmp_path}/run \(step 5\): .* File too large") as caught:
            saver({"a": torch.ones(10**6)}, "run", {"step": 5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert isinstance(caught.value.__cause__, OSError)
    assert sorted(os.listdir(tmp_path)) == ["older", "older.json"]


# ------------------------------------------------------------------------------------------------ R6, R27: bad folders


def check_refused(folder: Path, message: str) -> None:
    """Nothing is loaded, and nothing changed."""
    model, optimizer = fitted(0, seed=5)
    before = whole(model, optimizer)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load_objects({"model": model, "optimizer": optimizer}, folder / "run")
    assert is_close(whole(model, optimizer), before)


def test_every_file_of_it_is_compared(folder: Path) -> None:
    """R6: one bit of any file."""
    for name in os.listdir(folder / "run"):
        place = folder / "run" / name
        good = place.read_bytes()
        place.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
        check_refused(folder, re.escape(name))
        place.unlink()
        check_refused(folder, re.escape(name))
        place.write_bytes(good)

    assert load(folder)


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def published_anew(folder: Path, change: Callable[[Path], None]) -> None:
    """Change a checkpoint, with a manifest that agrees: whoever can write the one can write the other."""
    contents = {place.name: place.read_bytes() for place in (folder / "run").iterdir()}

    def fill(place: Path) -> None:
        for name, data in contents.items():
            (place / name).write_bytes(data)
        change(place)

    storage.publish_folder(folder / "run", fill)


def test_the_list_of_torch_is_never_read(played: Played, folder: Path) -> None:
    """R27: torch.distributed.checkpoint itself would run what is in ``.metadata``."""
    bomb = pickle.dumps(Bomb(folder / "canary"))

    def plant(place: Path) -> None:
        (place / ".metadata").write_bytes(bomb)

    published_anew(folder, plant)

    assert is_close(load(folder), played.first[0]["saved"])
    assert not (folder / "canary").exists()


def test_a_part_cannot_run_code(folder: Path) -> None:
    """R27"""

    def plant(place: Path) -> None:
        common = torch.load(place / "common.pt", weights_only=True)
        file = place / "__0_0.distcp"
        begin = file.stat().st_size
        with file.open("ab") as stream:
            torch.save(Bomb(folder / "canary"), stream)
        length = file.stat().st_size - begin
        with_parts(lambda part: (*part[:2], "__0_0.distcp", begin, length))(common)
        torch.save(common, place / "common.pt")

    published_anew(folder, plant)
    check_refused(folder, r"__0_0\.distcp, bytes .*holds ")
    assert not (folder / "canary").exists()


def change_common(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def changed(place: Path) -> None:
        common = torch.load(place / "common.pt", weights_only=True)
        change(common)
        torch.save(common, place / "common.pt")

    return changed


def with_parts(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def changed(common: Any) -> None:
        common["spread"] = [(*facts, [change(part) for part in parts]) for *facts, parts in common["spread"]]

    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda common: common.pop("spread"), "is not what DCPSaver writes"),
        (lambda common: common.update(spread=[1]), "is not what DCPSaver writes"),
        (lambda common: common.update(spread=[(["model"], "a", [2**40, 2**20], "float32", [])]), "its files have"),
        (lambda common: common.update(spread=[(["model"], "a", [2], "load", [])]), "is not what DCPSaver writes"),
        (with_parts(lambda part: (*part[:2], "../../secret.distcp", *part[3:])), "is no file of this checkpoint"),
        (with_parts(lambda part: (*part[:2], "common.pt", *part[3:])), "is no file of this checkpoint"),
        (with_parts(lambda part: (*part[:4], part[4] - 1)), "__._0.distcp, bytes"),
        (with_parts(lambda part: (*part[:3], part[3] + 1, part[4])), "__._0.distcp, bytes"),
        (with_parts(lambda part: (*part[:4], 2**62)), "do not fit together|__._0.distcp, bytes|is not within it"),
        (with_parts(lambda part: (*part[:3], -5, part[4])), "do not fit together|__._0.distcp, bytes|is not within it"),
        (
            lambda common: common.update(spread=[(*facts, parts[:1]) for *facts, parts in common["spread"]]),
            "are needed",
        ),
        (lambda common: common.update(spread=[(*facts, []) for *facts, parts in common["spread"]]), "are needed"),
    ],
)
def test_a_list_of_parts_that_lies_is_refused(folder: Path, change: Callable[[Any], Any], message: str) -> None:
    """R27"""
    published_anew(folder, change_common(change))

    check_refused(folder, message)


def damage_part_of_rank_1(place: Path) -> None:
    part = place / "__1_0.distcp"
    part.write_bytes(bytes(part.stat().st_size))


def load_damaged(folder: Path) -> tuple[str, bool, int]:
    model, optimizer = fitted(0, seed=5)
    before = whole(model, optimizer)
    try:
        Checkpoint.load_objects({"model": model, "optimizer": optimizer}, folder / "run")
        told = ""
    except CheckpointError as error:
        told = str(error)
    return told, is_close(whole(model, optimizer), before), idist.all_reduce(1)


def test_all_ranks_raise_when_one_cannot_read_its_part(played: Played) -> None:
    found = [of_rank["damaged"] for of_rank in played.third]

    assert all(of_rank == found[0] for of_rank in found)
    assert "rank 1 failed with CheckpointError" in found[0][0]
    assert "rank 0" not in found[0][0]
    assert found[0][1:] == (True, NUMBERS[0])


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()

    check_refused(tmp_path, "run: is no folder that DCPSaver has written")


# -------------------------------------------------------------------------------------------------------- in a run


def train(folder: Path, max_epochs: int, n_saved: int = 2) -> tuple[int | None, list[str], Any]:
    """Train a sharded model, going on from what is in the folder."""
    model = sharded(network())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def step(engine: Engine, batch: torch.Tensor) -> None:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    trainer = Engine(step)
    objects = {"model": model, "optimizer": optimizer, "trainer": trainer}
    saver = DCPSaver(folder, require_empty=False)
    checkpoint = Checkpoint(objects, saver, n_saved=n_saved)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    resumed = resume(trainer, objects, folder)
    torch.manual_seed(7)
    data = [torch.randn(6, 5) for _ in range(3)]
    trainer.run(data, max_epochs=max_epochs)
    return resumed.step, sorted(os.listdir(folder)), whole(model, optimizer)


def test_a_run_goes_on_with_another_number_of_ranks(played: Played, tmp_path: Path) -> None:
    """Against a plain model that was not cut; the same data everywhere, so that the results are equal."""
    uncut = train(tmp_path, 3)[2]
    runs = [played.first[0]["run"], played.second[0]["run"], played.third[0]["run"]]

    assert [step for step, _, _ in runs] == [None, 3, 6]
    assert [name for name in runs[2][1] if not name.endswith(".json")] == ["checkpoint_6.pt", "checkpoint_9.pt"]
    assert all(is_close(of_rank["run"][2], uncut) for of_rank in played.third)

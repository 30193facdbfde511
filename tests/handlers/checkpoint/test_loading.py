"""What is loaded is what was saved, whatever stood in between; nothing is changed where it is not (R6)."""

from __future__ import annotations

import copy
import os
import random
import time
import warnings
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage import load as loading
from ignite_core.handlers.checkpoint.storage.commit import publish, remove
from ignite_core.handlers.checkpoint.storage.load import load, verify_checkpoint
from ignite_core.handlers.checkpoint.storage.safety import check
from ignite_core.rng import rng_state
from tests.faults.sizes import sized
from tests.handlers.checkpoint.newest import load_newest


def save(path: Path, value: Any, **about: Any) -> None:
    publish(path, lambda file: torch.save(value, file), about, check=check)


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), amsgrad=True)
    model(torch.randn(16, 4)).sum().backward()
    optimizer.step()
    return model, optimizer


def tagged() -> nn.Parameter:
    parameter = nn.Parameter(torch.arange(3.0))
    parameter.tag = "mine"  # type: ignore[attr-defined]
    return parameter


VALUES: dict[str, Any] = {
    "model": trained()[0].state_dict(),
    "optimizer": trained()[1].state_dict(),
    "scheduler": torch.optim.lr_scheduler.StepLR(trained()[1], 3).state_dict(),
    "random generators": rng_state(),
    "python's own generator": random.getstate(),
    "numbers": [0, -1, 2**31, -(2**63), 2**64 - 1, 0.5, float("inf"), 1 + 2j, True, None],
    "texts": ["", "ü", "\ud800", "x" * 100_000, b"\x00\xff", bytearray(b"ab"), bytearray()],
    "containers": {"list": [[]], "tuple": ((), (1,), (1, 2, 3, 4)), "set": {1, 2}, "dict": {1: {2.5: {}}, None: 3}},
    "collections": [OrderedDict(a=1), Counter("abca"), torch.Size([2, 3]), torch.device("cpu"), torch.float16],
    "an ordered dict with attributes": nn.Linear(1, 1).state_dict(),
    "parameters": [nn.Parameter(torch.ones(2)), tagged()],
    "a thousand tensors": {str(number): torch.tensor(number) for number in range(1000)},
    "a history": [(number, number / 7) for number in range(20_000)],
    "views": [
        torch.arange(12.0).view(3, 4).t(),
        torch.arange(9)[2:5],
        torch.zeros(1).expand(50, 50),
        torch.zeros(0, 3),
    ],
    **{
        str(dtype): torch.ones(5).to(dtype)
        for dtype in (
            *(
                torch.float16,
                torch.bfloat16,
                torch.float64,
                torch.int8,
                torch.uint8,
                torch.int16,
                torch.int32,
                torch.bool,
            ),
            *(torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.complex128, torch.float8_e4m3fn),
        )
    },
}


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and _bytes(one) == _bytes(other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _bytes(tensor: torch.Tensor) -> list[int]:
    return tensor.detach().contiguous().view(-1).view(torch.uint8).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", VALUES)
def test_whatever_state_dicts_hold_is_loaded_as_it_was(name: str, tmp_path: Path) -> None:
    save(tmp_path / "run.pt", VALUES[name])

    assert same(load(tmp_path / "run.pt"), VALUES[name])
    assert same(load_newest(tmp_path)[0], VALUES[name])


def test_attributes_of_tensors_and_dicts_are_kept(tmp_path: Path) -> None:
    save(tmp_path / "run.pt", {"parameter": tagged(), "model": nn.Linear(1, 1).state_dict()})
    loaded = load(tmp_path / "run.pt")

    assert loaded["parameter"].tag == "mine"
    assert loaded["model"]._metadata == nn.Linear(1, 1).state_dict()._metadata  # type: ignore[attr-defined]


def test_a_state_that_could_never_be_loaded_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"run.pt \(step 3\): is not saved, as it holds torch.nn.modules.linear.Linear"
    ):
        save(tmp_path / "run.pt", {"model": nn.Linear(1, 1)}, step=3)

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "manifest", "empty"])
def test_a_failed_load_leaves_model_and_optimizer_as_they_are(damage: str, tmp_path: Path) -> None:
    """R6"""
    path = tmp_path / "run.pt"
    save(path, {"model": trained()[0].state_dict(), "optimizer": trained()[1].state_dict()})
    model, optimizer = trained()
    before = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    data = bytearray(path.read_bytes())
    if damage == "bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "gone":
        path.unlink()
    elif damage == "manifest":
        (tmp_path / "run.pt.json").write_text("{}{")
    else:
        path.write_bytes(b"")

    def restore() -> None:
        loaded = load(path)
        model.load_state_dict(loaded["model"])
        optimizer.load_state_dict(loaded["optimizer"])

    with pytest.raises(CheckpointError, match=r"run.pt"):
        restore()
    assert same([model.state_dict(), optimizer.state_dict()], before)


def test_sizes_alone_find_what_is_cut_but_no_turned_bit(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    save(path, {"weight": torch.zeros(1000)})
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    assert verify_checkpoint(path, "size") is not None
    with pytest.raises(CheckpointError, match=r"run.pt: is damaged: its SHA-256 must be \w{12}…, is \w{12}…"):
        verify_checkpoint(path)
    path.write_bytes(data[:-1])
    with pytest.raises(
        CheckpointError, match=rf"run.pt: is damaged: it must have {len(data)} bytes, has {len(data) - 1}"
    ):
        load(path, verify="size")


def test_all_damaged_is_one_clear_error(tmp_path: Path) -> None:
    """R6"""
    for step in (1, 2):
        save(tmp_path / f"run_{step}.pt", {"step": step})
        (tmp_path / f"run_{step}.pt").write_bytes(b"")

    with pytest.raises(
        CheckpointError, match=r"there is no checkpoint that can be loaded: .*run_2.pt: .*; .*run_1.pt: "
    ):
        load_newest(tmp_path)


def test_no_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "foreign.pt")

    with pytest.raises(
        CheckpointError, match=r"there is no checkpoint whose name begins with 'best' that can be loaded$"
    ):
        load_newest(tmp_path, "best")


def test_old_damage_is_no_reason_for_a_warning(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / f"run_{step}.pt", {"step": step})
    (tmp_path / "run_1.pt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert load_newest(tmp_path)[0] == {"step": 2}


def test_a_foreign_file_is_loaded_by_its_path_and_never_chosen(tmp_path: Path) -> None:
    save(tmp_path / "run.pt", {"step": 1})
    torch.save({"step": 2}, tmp_path / "foreign.pt")

    assert load(tmp_path / "foreign.pt") == {"step": 2}
    assert verify_checkpoint(tmp_path / "foreign.pt") is None
    assert load_newest(tmp_path)[0] == {"step": 1}


def test_checkpoints_of_pytorch_ignite_are_loaded(tmp_path: Path) -> None:
    ignite = pytest.importorskip("ignite.handlers")
    from ignite.engine import Engine

    model, optimizer = trained()
    trainer = Engine(lambda engine, batch: None)
    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer}
    handler = ignite.Checkpoint(to_save, ignite.DiskSaver(str(tmp_path), create_dir=True), n_saved=None)
    trainer.run([0], max_epochs=2)
    handler(trainer)
    (path,) = tmp_path.iterdir()
    loaded = load(path)

    assert same(loaded["model"], model.state_dict())
    assert same(loaded["optimizer"], optimizer.state_dict())
    assert loaded["trainer"]["iteration"] == 2


def test_a_link_to_the_newest_is_verified_as_what_it_leads_to(tmp_path: Path) -> None:
    save(tmp_path / "run_3.pt", {"step": 3})
    (tmp_path / "latest.pt").symlink_to("run_3.pt")
    assert load(tmp_path / "latest.pt") == {"step": 3}
    manifest = verify_checkpoint(tmp_path / "latest.pt")
    assert manifest is not None
    assert manifest.name == "run_3.pt"
    (tmp_path / "run_3.pt").write_bytes(b"other")

    with pytest.raises(CheckpointError, match=r"run_3.pt: is damaged"):
        load(tmp_path / "latest.pt")


@pytest.mark.parametrize("end", ["replaced", "removed"])
def test_what_was_loaded_stays_when_the_file_goes(end: str, tmp_path: Path) -> None:
    """The tensors lie in the file, which lives on until they do not."""
    path = tmp_path / "last.pt"
    save(path, {"weight": torch.arange(10**6)})
    loaded = load(path)
    if end == "replaced":
        save(path, {"weight": torch.zeros(10)})
    else:
        remove(path)

    assert torch.equal(loaded["weight"], torch.arange(10**6))


def test_what_is_loaded_can_be_changed_and_does_not_change_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    save(path, {"weight": torch.zeros(10)})
    load(path)["weight"].add_(1)

    assert verify_checkpoint(path) is not None
    assert torch.equal(load(path)["weight"], torch.zeros(10))


@pytest.mark.parametrize("mapped", [True, False])
def test_what_was_checked_is_what_is_loaded(mapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file that takes the name in between is none of what was checked."""
    path = tmp_path / "last.pt"
    save(path, {"step": torch.tensor(1)})
    original = torch.load

    def replaced_meanwhile(*args: Any, **kwargs: Any) -> Any:
        save(path, {"step": torch.tensor(2)})
        return original(*args, **kwargs)

    monkeypatch.setattr(loading.torch, "load", replaced_meanwhile)
    if not mapped:
        monkeypatch.setattr(loading, "_FDS", tmp_path / "none")

    assert load(path)["step"].item() == 1
    monkeypatch.undo()
    assert load(path)["step"].item() == 2


def test_a_file_that_is_written_to_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "foreign.pt"
    torch.save({"step": torch.tensor(1)}, path)
    original = torch.load

    def written_meanwhile(*args: Any, **kwargs: Any) -> Any:
        loaded = original(*args, **kwargs)
        with path.open("r+b") as file:
            file.write(b"PK")
        os.utime(path, ns=(0, time.time_ns()))
        return loaded

    monkeypatch.setattr(loading.torch, "load", written_meanwhile)
    with pytest.raises(CheckpointError, match=r"foreign.pt: .* faster than it can be read"):
        load(path)


def test_a_flipped_bit_is_found_where_no_manifest_tells(tmp_path: Path) -> None:
    path, weight = tmp_path / "foreign.pt", torch.arange(1.0, 9.0)
    torch.save({"weight": weight}, path)
    data = bytearray(path.read_bytes())
    data[data.find(weight.numpy().tobytes()) + 3] ^= 0x40
    path.write_bytes(data)

    with pytest.raises(CheckpointError, match=r"foreign.pt: is damaged: the CRC-32 of its record 'data/0' must be"):
        load(path)
    with pytest.raises(CheckpointError, match="CRC-32"):
        verify_checkpoint(path)


def test_where_tensors_go_can_be_told(tmp_path: Path) -> None:
    save(tmp_path / "run.pt", {"weight": torch.zeros(10)})

    assert load(tmp_path / "run.pt", map_location="meta")["weight"].device.type == "meta"


@pytest.mark.gpu
def test_tensors_of_an_accelerator_come_to_the_cpu_by_default(tmp_path: Path) -> None:
    weight = torch.arange(10.0, device=torch.accelerator.current_accelerator())
    save(tmp_path / "run.pt", {"weight": weight})
    loaded = load(tmp_path / "run.pt")["weight"]

    assert loaded.device.type == "cpu"
    assert torch.equal(loaded, weight.cpu())
    assert load(tmp_path / "run.pt", map_location=None)["weight"].device == weight.device


def test_a_file_of_many_tensors_is_looked_at_in_reasonable_time(tmp_path: Path) -> None:
    """Once, at least as fast as torch itself unpacks it, with a margin of four."""
    import time

    state = {str(number): torch.zeros(3) for number in range(sized(2000, 20_000))}
    torch.save(state, tmp_path / "run.pt")
    with open(tmp_path / "run.pt", "rb") as file:
        taken = {"check": float("inf"), "load": float("inf")}
        for _ in range(3):
            begin = time.perf_counter()
            check(file.fileno())
            middle = time.perf_counter()
            torch.load(tmp_path / "run.pt", weights_only=True)
            taken["check"] = min(taken["check"], middle - begin)
            taken["load"] = min(taken["load"], time.perf_counter() - middle)

    assert taken["check"] < 4 * taken["load"]

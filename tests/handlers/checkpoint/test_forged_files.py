"""Files of a run that were forged: nothing of others is removed, nothing is lost, nothing is printed raw (R35)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core.engine import Engine, Events
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint, DCPSaver, DiskSaver, resume
from ignite_core.handlers.checkpoint.storage.commit import publish, publish_folder, remove
from ignite_core.handlers.checkpoint.storage.scan import scan


def forge(place: Path, path: list[Any], value: Any) -> None:
    """Replace what a manifest says, and its own digest."""
    content = json.loads(place.read_text())
    del content["sha256"]
    part = content
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    plain = json.dumps(content, indent=1, sort_keys=True)
    content["sha256"] = hashlib.sha256(plain.encode()).hexdigest()
    place.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rotating(folder: Path, epochs: int = 3, forged: Any = None) -> Checkpoint:
    """A run that keeps one checkpoint, after it was told what a file says that it keeps."""
    trainer, model = Engine(lambda engine, batch: None), nn.Linear(1, 1)
    checkpoint = Checkpoint({"model": model}, DiskSaver(folder, require_empty=False), n_saved=1)
    if forged is not None:
        checkpoint.load_state_dict(forged)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    trainer.run([1], max_epochs=epochs)
    return checkpoint


NAMES = [
    "../precious",
    "/etc/hostname",
    "..",
    ".",
    "",
    "a/b",
    "a\0b",
    "\ud800",
    "x" * 256,
    7,
    None,
    b"model_1.pt",
    ["a"],
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["_saved", "_last"])
def test_names_that_lead_out_of_the_folder_are_refused(name: Any, key: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint({"model": nn.Linear(1, 1)}, tmp_path)

    with pytest.raises(CheckpointError, match=f"'{key}' must be a list of .priority, file name."):
        checkpoint.load_state_dict({"_saved": [], key: [(1, name)]})


@pytest.mark.parametrize(
    "pairs", [7, "ab", [1], [(1,)], [(1, "model_1.pt", 2)], [("9", "model_1.pt")], [(10**400, "a.pt")]]
)
def test_what_is_no_list_of_priorities_and_names_is_refused(pairs: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must be a list of"):
        Checkpoint({"model": nn.Linear(1, 1)}, tmp_path).load_state_dict({"_saved": pairs})


def test_a_score_that_is_not_finite_holds_no_place_among_the_best(tmp_path: Path) -> None:
    forged = {"_saved": [(float("inf"), "model_9.pt"), (float("nan"), "model_8.pt")]}

    assert str(rotating(tmp_path, forged=forged).last_checkpoint).endswith("model_3.pt")


@pytest.mark.parametrize(
    "name", ["precious.txt", "best_model_1.pt", "model_1.pt", "MODEL_0.pt", "model_2.pt", "model_-7.pt"]
)
def test_only_own_files_are_removed(name: str, tmp_path: Path) -> None:
    """Others have other names, or no manifest, or one that tells of something else."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "outside").write_bytes(b"thesis")
    DiskSaver(tmp_path / "runs")({"weight": torch.ones(1)}, "best_model_1.pt", {"basename": "best_model"})
    (tmp_path / "runs" / "precious.txt").write_bytes(b"thesis")
    (tmp_path / "runs" / "MODEL_0.pt").write_bytes(b"thesis")
    (tmp_path / "runs" / "model_1.pt").symlink_to(tmp_path / "outside")
    (tmp_path / "runs" / "model_2.pt").mkdir()
    (tmp_path / "runs" / "model_2.pt" / "thesis").write_bytes(b"thesis")
    publish(tmp_path / "runs" / "model_-7.pt", lambda file: file.write(b"thesis"))
    (tmp_path / "runs" / "model_-7.pt").unlink()
    (tmp_path / "runs" / "model_-7.pt").mkdir()
    (tmp_path / "runs" / "model_-7.pt" / "thesis").write_bytes(b"thesis")
    before = tree(tmp_path)

    trainer = Engine(lambda engine, batch: None)
    checkpoint = Checkpoint({"model": nn.Linear(1, 1)}, DiskSaver(tmp_path / "runs", require_empty=False), n_saved=1)
    checkpoint.load_state_dict({"_saved": [(-1, name)]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.add_event_handler(Events.ITERATION_COMPLETED(after=2), checkpoint)
        trainer.run([1] * 5)

    after = tree(tmp_path)
    assert {path: after.get(path) for path in before} == before


def test_a_folder_with_a_file_that_was_not_saved_is_not_removed(tmp_path: Path) -> None:
    DCPSaver(tmp_path)({"weight": torch.ones(1)}, "run_1")
    (tmp_path / "run_1" / "thesis.tex").write_bytes(b"thesis")

    with pytest.warns(
        UserWarning, match="run_1: is not removed: there are files in it that were not saved, such as 'th"
    ):
        remove(tmp_path / "run_1")
    (tmp_path / "run_1" / "thesis.tex").unlink()
    remove(tmp_path / "run_1")

    assert tree(tmp_path) == {}


@pytest.mark.parametrize("serial", [2**53, 2**63 - 1, 2**63, 2**200, -1, 0, True, 1.5, 1e300, "9", None, [], {}])
def test_a_forged_serial_makes_no_save_vanish(serial: Any, tmp_path: Path) -> None:
    rotating(tmp_path, 1)
    forge(tmp_path / "model_1.pt.json", ["checkpoint", "serial"], serial)
    assert "is no valid manifest of a checkpoint: serial must be" in scan(tmp_path).damaged["model_1.pt"].reason
    rotating(tmp_path, 3)

    assert [one.name for one in scan(tmp_path).manifests] == ["model_3.pt"]


def test_nothing_follows_the_last_serial(tmp_path: Path) -> None:
    rotating(tmp_path, 1)
    forge(tmp_path / "model_1.pt.json", ["checkpoint", "serial"], 2**53 - 1)

    with pytest.raises(CheckpointError, match=r"nothing can follow the serial of 'model_1.pt'; move it away"):
        rotating(tmp_path, 3)


ODD = [
    -1,
    2**63,
    2**63 - 1,
    2**80,
    0.5,
    1e300,
    True,
    None,
    "",
    "\x1b[31m",
    "../x",
    [],
    [[]],
    [{}],
    {},
    {"a": "\x1b]0;"},
]
FIELDS = ["step", "score", "priority", "basename", "score_name", "objects", "trainer", "world_size", "versions", "more"]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_forged_manifest_is_an_error_or_passed_over(
    value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ignite_core.checkpoint import main

    trainer, model = Engine(lambda engine, batch: None), nn.Linear(1, 1)
    objects = {"model": model, "trainer": trainer}
    checkpoint = Checkpoint(objects, DiskSaver(tmp_path, require_empty=False), n_saved=1)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    trainer.run([1], max_epochs=1)
    place = tmp_path / "checkpoint_1.pt.json"
    good = place.read_bytes()
    paths = [["checkpoint", "about", field] for field in FIELDS]
    paths += [["checkpoint", key] for key in json.loads(good)["checkpoint"]] + [["previous"], ["ignite_core"]]
    paths += [["checkpoint", "files", "checkpoint_1.pt", key] for key in ("size", "digest")]
    for path in paths:
        place.write_bytes(good)
        forge(place, path, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(CheckpointError):
                resume(trainer, objects, tmp_path)
        for command in (["show"], ["verify"]):
            main([*command, str(tmp_path)])
            main([*command, str(tmp_path / "checkpoint_1.pt")])
        printed = capsys.readouterr()
        assert "\x1b" not in printed.out + printed.err
    assert (tmp_path / "checkpoint_1.pt").exists()


SPREAD = [["model", "weight"], "model.weight", [4], "float32", [([0], [4], "__0_0.distcp", 0, 8)]]


@pytest.mark.parametrize(
    "value", [[-4], [2**63], [True], ["4"], 4, None, "load", "\x1b[31m", 7.5, [[0]], [([-1], [4], "a", 0, 8)]]
)
@pytest.mark.parametrize("place", range(5))
def test_a_forged_list_of_parts_takes_no_memory(place: int, value: Any, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "__0_0.distcp").write_bytes(bytes(8))
        spread = [*SPREAD[:place], value, *SPREAD[place + 1 :]]
        torch.save({"state": {"model": {"weight": None}}, "spread": [spread]}, folder / "common.pt")

    publish_folder(tmp_path / "run", fill, {"step": 1, "objects": ["model"]})

    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load_objects({"model": nn.Linear(2, 2, bias=False)}, tmp_path / "run")
    assert "\x1b" not in str(caught.value)


def test_a_newest_checkpoint_that_lost_its_manifest_is_told_of(tmp_path: Path) -> None:
    def build() -> tuple[Engine, dict[str, Any]]:
        trainer, model = Engine(lambda engine, batch: None), nn.Linear(1, 1)
        objects = {"model": model, "trainer": trainer}
        checkpoint = Checkpoint(objects, DiskSaver(tmp_path, require_empty=False), n_saved=2)
        checkpoint.attach(trainer, Events.EPOCH_COMPLETED)
        return trainer, objects

    build()[0].run([1, 2], max_epochs=3)
    torch.save({}, tmp_path / "foreign.pt")
    assert resume(*build(), tmp_path).step == 6
    (tmp_path / "checkpoint_6.pt.json").unlink()

    with pytest.warns(
        UserWarning, match=r"checkpoint_6.pt is newer than checkpoint_4.pt, but has no manifest"
    ) as caught:
        assert resume(*build(), tmp_path).step == 4
    assert len(caught) == 1

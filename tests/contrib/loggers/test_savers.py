"""Checkpoints that go to a server: what is uploaded and removed, seen by a client that only takes note.

The real clients are tried offline, where nothing is removed: test_offline_clients.py.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from ignite_contrib.loggers import ClearMLSaver, WandBSaver
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint


def save_five_keep_two(saver: Any) -> None:
    trainer = Engine(lambda engine, batch: None)
    checkpoint = Checkpoint({"model": torch.nn.Linear(1, 1)}, saver, n_saved=2)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
    trainer.run(range(5))


# --- ClearML ---


class Model:
    """A model of ClearML, and what was uploaded as each."""

    uploads: list[tuple[int, str, str]]
    made = 0

    def __init__(self, task: Any, framework: str) -> None:
        Model.made += 1
        self.number = Model.made
        self.name = self.comment = ""

    def update_weights(self, weights_filename: str, target_filename: str, **arguments: Any) -> None:
        assert Path(weights_filename).exists()
        assert arguments == {"auto_delete_file": False, "iteration": len(Model.uploads) + 1}
        Model.uploads.append((self.number, self.name, target_filename))


class Frameworks:
    """ClearML looks at each ``torch.save``, unless a callback says that it is no model."""

    callbacks: dict[int, Any]

    @classmethod
    def add_pre_callback(cls, callback: Any) -> int:
        cls.callbacks[7] = callback
        return 7

    @classmethod
    def remove_pre_callback(cls, number: int) -> None:
        del cls.callbacks[number]


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The current task of a ClearML with a server."""
    task = SimpleNamespace(name="digits", output_uri=None, is_offline=lambda: False, artifacts={})
    Model.uploads, Model.made, Frameworks.callbacks = [], 0, {}
    for name, content in {
        "clearml": {"OutputModel": Model, "Task": SimpleNamespace(current_task=lambda: task)},
        "clearml.binding": {},
        "clearml.binding.frameworks": {"WeightsFileHandler": Frameworks},
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return task


def test_clearml_has_a_model_for_each_checkpoint_that_is_kept_and_one_to_change(
    task: SimpleNamespace, tmp_path: Path
) -> None:
    """A checkpoint is saved before an older one goes, so there are three, used in turn."""
    save_five_keep_two(ClearMLSaver(dirname=tmp_path, output_uri="s3://bucket"))

    assert Model.uploads == [
        (1, "digits: model_1.pt", "model_0.pt"),
        (2, "digits: model_2.pt", "model_1.pt"),
        (3, "digits: model_3.pt", "model_2.pt"),
        (1, "digits: model_4.pt", "model_0.pt"),
        (2, "digits: model_5.pt", "model_1.pt"),
    ]
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["model_4.pt", "model_5.pt"]
    assert task.output_uri == "s3://bucket"
    assert Frameworks.callbacks == {}


def test_clearml_does_not_take_the_temporary_file_for_a_model(
    task: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, save = [], torch.save
    monkeypatch.setattr(
        torch,
        "save",
        lambda *args, **kwargs: (
            seen.append([callback("save", "file") for callback in Frameworks.callbacks.values()]),
            save(*args, **kwargs),
        ),
    )
    save_five_keep_two(ClearMLSaver(dirname=tmp_path))

    assert seen == [[None]] * 5


def test_clearml_needs_a_task_and_chooses_a_folder(task: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="checkpoints are in the temporary folder .*ignite_core_checkpoints_"):
        saver = ClearMLSaver()
    saver.dirname.rmdir()
    with pytest.raises(TypeError, match="ClearMLSaver: logger must be a ClearMLLogger, got int"):
        ClearMLSaver(3)
    monkeypatch.setattr(sys.modules["clearml"].Task, "current_task", lambda: None)
    with pytest.raises(RuntimeError, match="there must be a task; pass a ClearMLLogger"):
        ClearMLSaver()


# --- W&B ---


class Artifact:
    def __init__(self, name: str, type: str, metadata: dict[str, Any]) -> None:
        self.name, self.type, self.metadata = name, type, metadata
        self.files: list[str] = []
        self.is_deleted = False

    def add_file(self, path: str, name: str) -> None:
        assert torch.load(path).keys() == {"weight", "bias"}
        self.files.append(name)

    def wait(self) -> Artifact:
        return self

    def delete(self, delete_aliases: bool) -> None:
        if self.metadata["step"] == 2:
            raise ConnectionError("nobody listens")
        self.is_deleted = True


def test_wandb_deletes_the_versions_that_are_not_kept_and_no_failure_of_that_ends_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logged: list[tuple[Artifact, list[str]]] = []
    run = SimpleNamespace(
        id="abc",
        offline=False,
        log_artifact=lambda artifact, aliases: logged.append((artifact, aliases)) or artifact,
    )
    save_five_keep_two(WandBSaver(SimpleNamespace(client=SimpleNamespace(run=run, Artifact=Artifact))))

    assert [(artifact.name, artifact.type, artifact.files, aliases) for artifact, aliases in logged] == [
        ("model-abc", "model", [f"model_{step}.pt"], ["latest", f"model_{step}.pt"]) for step in range(1, 6)
    ]
    assert [artifact.is_deleted for artifact, _ in logged] == [True, False, True, False, False]
    assert "WandBSaver: model_2.pt stays on the server (ConnectionError: nobody listens)" in caplog.text

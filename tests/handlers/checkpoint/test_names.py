"""File names, side by side with pytorch-ignite 0.5.5."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, resume
from ignite_core.handlers.checkpoint.naming import Naming, object_name
from tests.handlers.checkpoint.comparing import read_manifest

theirs = pytest.importorskip("ignite.handlers")


@pytest.mark.parametrize("parts", list(itertools.product([True, False], repeat=4)))
def test_the_pattern_of_each_choice_of_parts_is_that_of_pytorch_ignite(parts: tuple[bool, ...]) -> None:
    try:
        expected = theirs.Checkpoint.setup_filename_pattern(*parts)
    except ValueError:
        with pytest.raises(ValueError, match="setup_filename_pattern"):
            Checkpoint.setup_filename_pattern(*parts)
    else:
        assert Checkpoint.setup_filename_pattern(*parts) == expected


@pytest.mark.parametrize(
    ("naming", "arguments", "expected"),
    [
        (Naming(), ("model", 12), "model_12.pt"),
        (Naming("best"), ("checkpoint", 12), "best_checkpoint_12.pt"),
        (Naming(has_score=True), ("model", None, 0.123456), "model_0.1235.pt"),
        (Naming(has_score=True), ("model", None, 3), "model_3.pt"),
        (Naming(has_score=True, score_name="loss"), ("model", 7, -0.5), "model_7_loss=-0.5000.pt"),
        (Naming(has_score=True, score_name="loss"), ("model", 7, None), "model_7_loss=none.pt"),
        (Naming(has_score=True, score_name="loss"), ("model", 7, float("nan")), "model_7_loss=nan.pt"),
        (Naming("p", True, "a", "{global_step}-{name}-{score}.{ext}"), ("model", 7, 94), "7-model-94.pt"),
        (Naming(has_score=True, score_name="val/acc"), ("gan/d", None, 0.5), "gan_d_val_acc=0.5000.pt"),
        (Naming(has_score=True, score_name="a\0b"), ("model", None, 0.5), "model_a_b=0.5000.pt"),
        (Naming("p", pattern="latest.pt"), ("model", 7, 94), "latest.pt"),
    ],
)
def test_a_name_has_the_parts_it_was_given(naming: Naming, arguments: tuple[object, ...], expected: str) -> None:
    assert naming.filename(*arguments) == expected  # type: ignore[arg-type]


def test_a_pattern_with_an_unknown_part_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"got '\{name\}_\{epoch\}.pt' with \['epoch'\]"):
        Naming(pattern="{name}_{epoch}.pt")
    with pytest.raises(TypeError, match="got int"):
        Naming(pattern=3)  # type: ignore[arg-type]


def test_several_objects_are_called_checkpoint() -> None:
    assert object_name(["model"]) == "model"
    assert object_name(["model", "optimizer"]) == "checkpoint"
    assert Naming("best").basename("model") == "best_model"


def test_a_slash_in_a_name_is_an_underscore_in_the_file(tmp_path: Path) -> None:
    """As loggers group them; resume finds the file."""

    def build() -> tuple[Engine, dict[str, Any], Checkpoint]:
        trainer = Engine(lambda engine, batch: None)
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED, lambda: trainer.state.metrics.update({"val/acc": trainer.state.epoch / 10})
        )
        objects: dict[str, Any] = {"gan/d": nn.Linear(1, 1), "trainer": trainer}
        checkpoint = Checkpoint(objects, tmp_path, score_name="val/acc", n_saved=2, require_empty=False)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
        return trainer, objects, checkpoint

    trainer, objects, checkpoint = build()
    trainer.run([0], max_epochs=3)
    names = [f"checkpoint_val_acc=0.{score}000.pt" for score in (2, 3)]
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == names
    assert read_manifest(tmp_path / names[1]).about["score_name"] == "val/acc"
    checkpoint.reload_objects(objects, score=0.3)

    trainer, objects, checkpoint = build()
    assert resume(trainer, objects, tmp_path).path == tmp_path / names[1]
    assert checkpoint.last_checkpoint == tmp_path / names[1]


@pytest.mark.parametrize(
    "options",
    [
        {"filename_prefix": "runs/a"},
        {"filename_prefix": "a\0b"},
        {"filename_prefix": "a" * 250},
        {"filename_prefix": ".ignite-a"},
        {"filename_pattern": "runs/{name}_{global_step}.{ext}"},
        {"filename_pattern": "{name}_{global_step}.json"},
    ],
)
def test_names_that_are_none_of_files_are_refused_at_once(options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="filename_prefix and filename_pattern must make the name of a file"):
        Checkpoint({"model": nn.Linear(1, 1)}, tmp_path, **options)


def test_a_function_may_be_given_names_that_are_none_of_files() -> None:
    names: list[str] = []
    checkpoint = Checkpoint({"model": nn.Linear(1, 1)}, lambda state, name: names.append(name), "bucket/a")
    checkpoint(Engine(lambda engine, batch: None))

    assert names == ["bucket/a_model_0.pt"]

"""Names and kept files, side by side with pytorch-ignite 0.5.5; and where they differ on purpose."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core.engine import Engine, Events
from ignite_core.handlers import BaseSaveHandler, Checkpoint, DiskSaver, global_step_from_engine

theirs = pytest.importorskip("ignite.handlers")
their_checkpoint = pytest.importorskip("ignite.handlers.checkpoint")
their_engine = pytest.importorskip("ignite.engine")

RISING = [0.1, 0.2, 0.3, 0.4, 0.5]
FALLING = [-0.1, -0.2, -0.3, -0.4, -0.5]
TIES = [0.5, 0.5, 0.7, 0.5, 0.7, 0.7, 0.5, 0.9]
WHOLE = [3, 1, 2, 3, 5, 4]
MIXED = [True, 2, 0.25, 7]
RANDOM = [round(random.Random(0).random(), 1) for _ in range(30)]

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two": {"n_saved": 2},
    "all": {"n_saved": None},
    "prefix": {"filename_prefix": "run", "n_saved": 3},
    "step of our own": {"global_step_transform": lambda engine, event: 10 * engine.state.epoch, "n_saved": 2},
    "score": {"score_function": "score"},
    "score, two": {"score_function": "score", "n_saved": 2},
    "score, greater or equal": {"score_function": "score", "n_saved": 2, "greater_or_equal": True},
    "score, all": {"score_function": "score", "n_saved": None},
    "score with a name": {"score_function": "score", "score_name": "accuracy", "n_saved": 3},
    "name alone": {"score_name": "accuracy", "n_saved": 2, "filename_prefix": "best"},
    "score and step": {
        "score_function": "score",
        "score_name": "accuracy",
        "global_step_transform": lambda engine, event: engine.state.epoch,
        "n_saved": 2,
        "filename_prefix": "best",
    },
    "pattern": {"filename_pattern": "{global_step}-{name}.{ext}", "n_saved": 2},
    "pattern with all": {
        "score_function": "score",
        "score_name": "a",
        "filename_prefix": "p",
        "global_step_transform": lambda engine, event: engine.state.iteration,
        "filename_pattern": "{filename_prefix}+{name}+{global_step}+{score_name}+{score}.pt",
        "n_saved": 2,
    },
    "one name for all": {"filename_pattern": "latest.pt", "score_function": "score", "n_saved": 1},
    "one name for all, two": {"filename_pattern": "latest.pt", "n_saved": 2},
    "with itself": {"include_self": True, "n_saved": 2, "score_function": "score"},
}
SEQUENCES = {"rising": RISING, "falling": FALLING, "ties": TIES, "whole": WHOLE, "mixed": MIXED, "random": RANDOM}


class Side:
    """One of the two libraries, at work; what it keeps is in memory, or in a folder."""

    def __init__(self, is_ours: bool, folder: Path | None, objects: dict[str, Any], **options: Any) -> None:
        if options.get("score_function") == "score":
            options["score_function"] = lambda engine: engine.state.metrics["accuracy"]
        self.engine: Any = (Engine if is_ours else their_engine.Engine)(lambda engine, batch: None)
        self.folder = folder
        self.saver = memory(BaseSaveHandler if is_ours else their_checkpoint.BaseSaveHandler)
        self.checkpoint = (Checkpoint if is_ours else theirs.Checkpoint)(objects, folder or self.saver, **options)

    def call(self, number: int, score: float) -> Any:
        self.engine.state.iteration, self.engine.state.epoch = 5 * number, number
        self.engine.state.metrics["accuracy"] = score
        self.checkpoint(self.engine)
        there = self.saver.saved if self.folder is None else [path.name for path in self.folder.glob("*.pt")]
        last = self.checkpoint.last_checkpoint
        return sorted(there), getattr(last, "name", last), self.checkpoint.state_dict()["_saved"]


def memory(base: Any) -> Any:
    """A saver that keeps what it is given, and a trace of what it was asked for."""

    class Memory(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.saved: dict[str, Any] = {}
            self.trace: list[str] = []

        def __call__(self, checkpoint: Any, filename: str, metadata: Any = None) -> None:
            self.trace.append(f"save {filename}")
            self.saved[filename] = checkpoint

        def remove(self, filename: str) -> None:
            self.trace.append(f"remove {filename}")
            del self.saved[filename]

    return Memory()


def both(folder: Path | None, objects: dict[str, Any], **options: Any) -> tuple[Side, Side]:
    """Theirs and ours."""
    if folder is None:
        return Side(False, None, objects, **options), Side(True, None, objects, **options)
    return Side(False, folder / "theirs", objects, **options), Side(True, folder / "ours", objects, **options)


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("several", [False, True], ids=["one object", "several"])
def test_after_each_call_the_same_files_are_there_and_the_same_one_is_last(
    configuration: str, sequence: str, several: bool
) -> None:
    model = nn.Linear(1, 1)
    objects = (
        {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)} if several else {"model": model}
    )
    their, our = both(None, objects, **CONFIGURATIONS[configuration])

    for number, score in enumerate(SEQUENCES[sequence], start=1):
        assert our.call(number, score) == their.call(number, score), f"after call {number}, with {score}"


@pytest.mark.parametrize("configuration", ["score and step", "one name for all, two", "with itself"])
def test_on_the_disk_the_same_files_are_there(configuration: str, tmp_path: Path) -> None:
    their, our = both(tmp_path, {"model": nn.Linear(1, 1)}, **CONFIGURATIONS[configuration])

    for number, score in enumerate(TIES, start=1):
        assert our.call(number, score) == their.call(number, score), f"after call {number}, with {score}"


def test_a_run_with_events_leaves_the_same_files(tmp_path: Path) -> None:
    found = []
    for engine_class, events, checkpoint_class, step in (
        (their_engine.Engine, their_engine.Events, theirs.Checkpoint, theirs.global_step_from_engine),
        (Engine, Events, Checkpoint, global_step_from_engine),
    ):
        folder = tmp_path / engine_class.__module__
        trainer, evaluator = engine_class(lambda engine, batch: None), engine_class(lambda engine, batch: None)

        trainer.add_event_handler(events.EPOCH_COMPLETED, lambda engine, e=evaluator: e.run([1, 2]))
        regular = checkpoint_class({"a": nn.Linear(1, 1), "trainer": trainer}, folder / "regular", n_saved=2)
        trainer.add_event_handler(events.ITERATION_COMPLETED(every=4), regular)
        best = checkpoint_class(
            {"model": nn.Linear(1, 1)},
            folder / "best",
            filename_prefix="best",
            score_name="accuracy",
            n_saved=2,
            global_step_transform=step(trainer),
        )
        # theirs loses the score when a new run of the evaluator begins, so it is set while that runs
        evaluator.add_event_handler(
            events.EPOCH_COMPLETED, lambda engine, t=trainer: engine.state.metrics.update(accuracy=t.state.epoch % 3)
        )
        evaluator.add_event_handler(events.COMPLETED, best)
        trainer.run(range(6), max_epochs=4)
        found.append(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.pt")))

    assert found[0] == found[1]
    assert found[1] == [
        "best/best_model_1_accuracy=1.0000.pt",
        "best/best_model_2_accuracy=2.0000.pt",
        "regular/checkpoint_20.pt",
        "regular/checkpoint_24.pt",
    ]


def test_what_is_saved_of_one_object_and_of_several_is_laid_out_alike(tmp_path: Path) -> None:
    model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    for number, objects in enumerate(({"model": model}, {"model": model, "other": [other, {"again": other}]})):
        their, our = both(tmp_path / str(number), objects)
        (name,), _, _ = their.call(1, 0.5)
        our.call(1, 0.5)
        one, two = (torch.load(side.checkpoint.save_handler.dirname / name, weights_only=True) for side in (their, our))

        assert repr(one) == repr(two)


@pytest.mark.parametrize(
    "options",
    [
        {"n_saved": 0},
        {"include_self": True, "to_save": {"checkpointer": nn.Linear(1, 1)}},
        {"global_step_transform": 3},
        {"save_handler": 3},
        {"to_save": [nn.Linear(1, 1)]},
        {"to_save": {"model": 3}},
    ],
    ids=repr,
)
def test_what_they_refuse_is_refused_with_the_same_kind_of_error(options: dict[str, Any], tmp_path: Path) -> None:
    arguments = {"to_save": {"model": nn.Linear(1, 1)}, "save_handler": lambda *args: None, **options}
    with pytest.raises((TypeError, ValueError)) as expected:
        theirs.Checkpoint(**arguments)
    with pytest.raises(expected.type):
        Checkpoint(**arguments)


def test_a_folder_that_is_not_empty_or_not_there_is_refused_alike(tmp_path: Path) -> None:
    (tmp_path / "old.pt").touch()
    for saver in (theirs.DiskSaver, DiskSaver):
        with pytest.raises(ValueError, match="require_empty=False"):
            saver(tmp_path)
        saver(tmp_path, require_empty=False)
        with pytest.raises(ValueError, match="nowhere"):
            saver(tmp_path / "nowhere", create_dir=False)
        saver(tmp_path / saver.__module__ / "new")


# ------------------------------------------------------------------------------------------------ different on purpose


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_never_best(score: float) -> None:
    their, our = both(None, {"model": nn.Linear(1, 1)}, score_function="score", n_saved=2)

    assert their.call(1, score)[0] != []
    assert our.call(1, score)[0] == []
    assert our.call(2, 0.5)[0] == ["model_0.5000.pt"]


def test_with_itself_a_single_object_is_saved_by_name() -> None:
    their, our = both(None, {"model": nn.Linear(1, 1)}, include_self=True)
    their.call(1, 0)
    our.call(1, 0)

    assert list(their.saver.saved["model_5.pt"]) == ["weight", "bias", "checkpointer"]
    assert list(our.saver.saved["model_5.pt"]) == ["model", "checkpointer"]


def test_the_new_one_is_saved_before_an_old_one_goes() -> None:
    their, our = both(None, {"model": nn.Linear(1, 1)})
    for number in (1, 2):
        their.call(number, 0)
        our.call(number, 0)

    assert their.saver.trace == ["save model_5.pt", "remove model_5.pt", "save model_10.pt"]
    assert our.saver.trace == ["save model_5.pt", "save model_10.pt", "remove model_5.pt"]

"""The handler in one process: when it saves, what is in a file, what stays, and that a failed save changes nothing."""

import gc
import logging
import os
import runpy
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core.engine import Engine, Events
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import (
    AsyncDiskSaver,
    BaseSaveHandler,
    Checkpoint,
    CheckpointEvents,
    DCPSaver,
    DiskSaver,
    ModelCheckpoint,
    vote_of,
)
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.handlers.checkpoint.storage.scan import find_manifest


class Memory(BaseSaveHandler):
    """Keeps copies of what it is given."""

    def __init__(self) -> None:
        self.saved: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.removed: list[str] = []
        self.failing = ""

    def __call__(self, checkpoint: Any, filename: str, metadata: Any = None) -> None:
        if self.failing == "save":
            raise OSError("no space left")
        self.saved[filename] = checkpoint
        self.metadata[filename] = metadata

    def remove(self, filename: str) -> None:
        if self.failing == "remove":
            raise OSError("not permitted")
        self.removed.append(filename)
        self.saved.pop(filename, None)


def engine_that(step: Callable[[Any, Any], Any] = lambda engine, batch: None) -> Engine:
    return Engine(step)


def model() -> nn.Linear:
    return nn.Linear(1, 1)


def pt_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pt"))


# ------------------------------------------------------------------------------------------------------ what is saved


def test_a_single_object_is_saved_bare_and_several_by_name(tmp_path: Path) -> None:
    net, trainer = model(), engine_that()
    one = Checkpoint({"model": net}, tmp_path / "one")
    two = Checkpoint({"model": net, "trainer": trainer}, tmp_path / "two")
    trainer.add_event_handler(Events.COMPLETED, one)
    trainer.add_event_handler(Events.COMPLETED, two)
    trainer.run([1, 2, 3])

    other = model()
    other.load_state_dict(torch.load(tmp_path / "one" / "model_3.pt"))
    by_name = torch.load(tmp_path / "two" / "checkpoint_3.pt")
    assert torch.equal(other.weight, net.weight)
    assert list(by_name) == ["model", "trainer"]
    assert by_name["trainer"]["iteration"] == 3


def test_what_is_known_of_a_checkpoint_is_told_to_the_saver() -> None:
    memory, trainer = Memory(), engine_that()
    checkpoint = Checkpoint(
        {"model": model(), "loop": trainer},
        memory,
        "best",
        score_function=lambda engine: torch.tensor(0.25),
        score_name="accuracy",
        include_self=True,
    )
    trainer.add_event_handler(Events.COMPLETED, checkpoint)
    trainer.run(range(4), max_epochs=2)

    assert memory.metadata["best_checkpoint_accuracy=0.2500.pt"] == {
        "basename": "best_checkpoint",
        "score_name": "accuracy",
        "priority": 0.25,
        "score": 0.25,
        "step": 8,
        "objects": ["model", "loop", "checkpointer"],
        "trainer": "loop",
        "world_size": 1,
    }


def test_with_itself_a_handler_saves_what_stays_with_this_very_checkpoint() -> None:
    memory, trainer = Memory(), engine_that()
    checkpoint = Checkpoint({"model": model()}, memory, n_saved=2, include_self=True)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
    trainer.run(range(3))

    assert memory.saved["model_3.pt"]["checkpointer"]["_saved"] == [(2, "model_2.pt"), (3, "model_3.pt")]
    again = Checkpoint({"model": model()}, Memory(), n_saved=2)
    again.load_state_dict(memory.saved["model_3.pt"]["checkpointer"])
    assert again.last_checkpoint == "model_3.pt"


def test_a_saver_may_be_a_function_of_two_arguments() -> None:
    seen: list[str] = []
    trainer = engine_that()
    trainer.add_event_handler(Events.COMPLETED, Checkpoint({"model": model()}, lambda state, name: seen.append(name)))
    trainer.run([1])

    assert seen == ["model_1.pt"]


def test_an_error_of_a_saver_is_not_taken_for_a_wrong_signature() -> None:
    calls = 0

    def saver(checkpoint: Any, filename: str, metadata: Any) -> None:
        nonlocal calls
        calls += 1
        raise TypeError("of its own")

    with pytest.raises(TypeError, match="of its own"):
        Checkpoint({"model": model()}, saver)(engine_that())
    assert calls == 1


def test_a_checkpoint_without_objects_is_refused_when_it_saves() -> None:
    with pytest.raises(RuntimeError, match="there must be objects to save, got none"):
        Checkpoint({}, Memory())(engine_that())


def test_an_object_that_can_never_be_loaded_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    class Odd:
        def state_dict(self) -> dict[str, Any]:
            return {"engine": Path("x")}

    with pytest.raises(CheckpointError, match="Path"):
        Checkpoint({"odd": Odd()}, tmp_path)(engine_that())
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------------ when it saves


def test_it_saves_after_the_other_handlers_of_the_event_and_before_loggers() -> None:
    order: list[str] = []

    class Logger:
        event_priority = -100

        def __call__(self, engine: Engine) -> None:
            order.append("logger")

    trainer = engine_that()
    trainer.add_event_handler(Events.COMPLETED, Logger())
    trainer.add_event_handler(Events.COMPLETED, Checkpoint({"m": model()}, lambda state, name: order.append("save")))
    trainer.add_event_handler(Events.COMPLETED, lambda: order.append("changes the model"))
    trainer.run([1])

    assert order == ["changes the model", "save", "logger"]


def test_attached_to_all_the_ways_to_end_it_saves_once(tmp_path: Path) -> None:
    def step(engine: Engine, batch: int) -> None:
        if batch == 7:
            raise RuntimeError("bad batch")

    saved: list[str] = []
    for batches, end in (([1, 2, 3], "completed"), ([1, 2, 7], "raised"), ([1, 2, 3], "terminated")):
        trainer = engine_that(step)
        checkpoint = Checkpoint({"model": model()}, lambda state, name: saved.append(name), n_saved=None)
        checkpoint.attach(trainer, Events.TERMINATE | Events.COMPLETED | Events.EXCEPTION_RAISED | Events.INTERRUPT)
        if end == "terminated":
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.terminate)
        if end == "raised":
            with pytest.raises(RuntimeError, match="bad batch"):
                trainer.run(batches)
        else:
            trainer.run(batches)

    assert saved == ["model_3.pt", "model_3.pt", "model_2.pt"]


def test_a_second_run_that_ends_at_the_same_step_is_saved_too() -> None:
    saved: list[str] = []
    trainer = engine_that()
    checkpoint = Checkpoint(
        {"model": model()}, lambda state, name: saved.append(name), n_saved=None, filename_pattern="{name}.pt"
    )
    checkpoint.attach(trainer, Events.COMPLETED)
    trainer.run([1, 2])
    trainer.run([1, 2])

    assert saved == ["model.pt", "model.pt"]


def test_every_so_many_iterations_and_at_an_event() -> None:
    saved: list[str] = []
    trainer = engine_that()
    checkpoint = Checkpoint({"model": model()}, lambda state, name: saved.append(name))
    checkpoint.attach(trainer, Events.EPOCH_COMPLETED, every=3)
    trainer.run(range(7))

    assert saved == ["model_3.pt", "model_6.pt", "model_7.pt"]


def test_every_so_many_seconds_by_the_clock_that_is_given() -> None:
    saved: list[str] = []
    now = 1000.0

    def step(engine: Engine, batch: float) -> None:
        nonlocal now
        now += batch

    trainer = engine_that(step)
    checkpoint = Checkpoint({"model": model()}, lambda state, name: saved.append(name))
    checkpoint.attach(trainer, every_s=60, clock=lambda: now)
    trainer.run([10, 50, 10, 60, 30, 29, 1, 200])

    assert saved == ["model_3.pt", "model_4.pt", "model_7.pt", "model_8.pt"]


@pytest.mark.parametrize("every_s", [0, -1, float("nan"), float("inf"), "60"])
def test_a_period_that_is_no_time_is_refused(every_s: Any) -> None:
    with pytest.raises(ValueError, match="every_s must be a positive number of seconds"):
        Checkpoint({"model": model()}, Memory()).attach(engine_that(), every_s=every_s)


def test_attach_asks_for_a_time_to_save() -> None:
    with pytest.raises(ValueError, match="say when to save"):
        Checkpoint({"model": model()}, Memory()).attach(engine_that())


def test_on_an_evaluator_it_takes_the_iteration_of_the_trainer_that_runs_it() -> None:
    saved: list[str] = []
    trainer, evaluator = engine_that(), engine_that()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(range(3)))
    Checkpoint({"model": model()}, lambda state, name: saved.append(name)).attach(evaluator, Events.COMPLETED)
    explicit = Checkpoint(
        {"model": model()}, lambda state, name: saved.append(name), "own", global_step_transform=lambda *_: 42
    )
    explicit.attach(evaluator, Events.COMPLETED)
    trainer.run(range(10), max_epochs=2)

    assert saved == ["model_10.pt", "own_model_42.pt", "model_20.pt"]


def test_the_event_is_heard_without_being_registered_and_filters_work_on_it() -> None:
    heard: list[Any] = []
    trainer = engine_that()
    trainer.add_event_handler(
        Checkpoint.SAVED_CHECKPOINT(every=2),
        lambda engine: heard.append((engine.state.iteration, checkpoint.newest_checkpoint)),
    )
    checkpoint = Checkpoint({"model": model()}, Memory())
    trainer.add_event_handler(Events.ITERATION_COMPLETED, checkpoint)
    trainer.run(range(5))

    assert heard == [(2, "model_2.pt"), (4, "model_4.pt")]
    assert Checkpoint.SAVED_CHECKPOINT is CheckpointEvents.SAVED_CHECKPOINT


def test_handlers_after_it_see_the_event_that_they_are_attached_to() -> None:
    seen: list[Any] = []
    trainer = engine_that()
    trainer.add_event_handler(Events.COMPLETED, Checkpoint({"model": model()}, Memory()))
    trainer.add_event_handler(Events.COMPLETED(priority=-50), lambda engine: seen.append(engine.last_event_name))
    trainer.run([1])

    assert seen == [Events.COMPLETED]


def test_nothing_is_saved_of_a_run_that_was_found_bad(caplog: pytest.LogCaptureFixture) -> None:
    """R18: a check that is pending is forced before a save."""
    memory, trainer, evaluator = Memory(), engine_that(), engine_that()
    vote = vote_of(trainer)

    def check() -> None:
        if trainer.state.iteration >= 4:
            vote.unsafe_to_save = "NaN in output at iteration 4"

    vote.add_check(check)
    Checkpoint({"model": model()}, memory, n_saved=None).attach(trainer, every=2)
    Checkpoint({"model": model()}, memory, "best", n_saved=None).attach(evaluator, Events.COMPLETED)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda: evaluator.run([1]))
    with caplog.at_level(logging.WARNING):
        trainer.run(range(6))

    assert set(memory.saved) == {"best_model_2.pt", "model_2.pt"}
    assert "nothing was saved: NaN in output at iteration 4" in caplog.text


# -------------------------------------------------------------------------------------------------------- what stays


def test_best_and_last_are_kept_at_once(tmp_path: Path) -> None:
    trainer = engine_that()
    scores = [0.3, 0.9, float("nan"), 0.5, 0.4]
    checkpoint = Checkpoint(
        {"model": model()},
        tmp_path,
        score_function=lambda engine: scores[engine.state.epoch - 1],
        score_name="accuracy",
        n_saved=1,
        keep_last=2,
    )
    checkpoint.attach(trainer, Events.EPOCH_COMPLETED)
    kept = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED(priority=-50), lambda: kept.append(pt_files(tmp_path)))
    trainer.run([1], max_epochs=5)

    assert kept == [
        ["model_1_accuracy=0.3000.pt"],
        ["model_1_accuracy=0.3000.pt", "model_2_accuracy=0.9000.pt"],
        ["model_2_accuracy=0.9000.pt", "model_3_accuracy=nan.pt"],
        ["model_2_accuracy=0.9000.pt", "model_3_accuracy=nan.pt", "model_4_accuracy=0.5000.pt"],
        ["model_2_accuracy=0.9000.pt", "model_4_accuracy=0.5000.pt", "model_5_accuracy=0.4000.pt"],
    ]
    assert checkpoint.best_checkpoint == tmp_path / "model_2_accuracy=0.9000.pt"
    assert checkpoint.newest_checkpoint == tmp_path / "model_5_accuracy=0.4000.pt"
    assert checkpoint.last_checkpoint == checkpoint.best_checkpoint


def test_the_best_of_equal_ones_is_the_first_or_if_asked_for_the_last() -> None:
    for greater_or_equal, expected in ((False, "model_2_0.9000.pt"), (True, "model_3_0.9000.pt")):
        trainer, memory = engine_that(), Memory()
        checkpoint = Checkpoint(
            {"model": model()},
            memory,
            score_function=lambda engine: [0.5, 0.9, 0.9][engine.state.iteration - 1],
            n_saved=2,
            global_step_transform=lambda engine, event: engine.state.iteration,
            greater_or_equal=greater_or_equal,
        )
        checkpoint.attach(trainer, every=1)
        trainer.run(range(3))

        assert checkpoint.best_checkpoint == expected


def test_there_is_no_best_without_scores_and_nothing_before_the_first_save() -> None:
    trainer = engine_that()
    checkpoint = Checkpoint({"model": model()}, Memory())
    assert (checkpoint.best_checkpoint, checkpoint.newest_checkpoint, checkpoint.last_checkpoint) == (None, None, None)
    checkpoint(trainer)
    assert (checkpoint.best_checkpoint, checkpoint.newest_checkpoint) == (None, "model_0.pt")


def test_a_score_of_none_is_never_best_and_kept_as_last() -> None:
    memory, trainer = Memory(), engine_that()
    alone = Checkpoint({"model": model()}, memory, "best", score_function=lambda engine: None)
    with_last = Checkpoint({"model": model()}, memory, "last", score_function=lambda engine: None, keep_last=1)
    alone(trainer)
    with_last(trainer)

    assert list(memory.saved) == ["last_model_0_none.pt"]
    assert with_last.best_checkpoint is None


def test_with_keep_last_a_pattern_must_tell_steps_apart() -> None:
    with pytest.raises(ValueError, match=r"there must be \{global_step\} in filename_pattern"):
        Checkpoint({"model": model()}, Memory(), score_name="a", filename_pattern="best.pt", keep_last=1)


def test_reset_forgets_and_leaves_the_files(tmp_path: Path) -> None:
    trainer = engine_that()
    checkpoint = Checkpoint({"model": model()}, tmp_path)
    trainer.add_event_handler(Events.COMPLETED, checkpoint)
    trainer.add_event_handler(Events.STARTED, checkpoint.reset)
    trainer.run(range(5))
    trainer.run(range(3))

    assert pt_files(tmp_path) == ["model_3.pt", "model_5.pt"]
    assert checkpoint.last_checkpoint == tmp_path / "model_3.pt"


def test_a_state_without_its_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the key '_saved' must be there, got \['saved'\]"):
        Checkpoint({"model": model()}, Memory()).load_state_dict({"saved": []})


# ---------------------------------------------------------------------------------------------- when something fails


def test_a_save_that_failed_changes_nothing_and_the_next_one_succeeds() -> None:
    """R4, R5 at the handler: what was kept is kept, and nothing is removed."""
    memory, trainer = Memory(), engine_that()
    checkpoint = Checkpoint({"model": model()}, memory, n_saved=2)
    for trainer.state.iteration in (1, 2):
        checkpoint(trainer)
    before = checkpoint.state_dict()
    memory.failing = "save"
    trainer.state.iteration = 3
    heard: list[str] = []
    trainer.add_event_handler(CheckpointEvents.SAVED_CHECKPOINT, lambda: heard.append("saved"))
    with pytest.raises(OSError, match="no space left"):
        checkpoint(trainer)

    assert checkpoint.state_dict() == before
    assert memory.removed == []
    assert heard == []
    memory.failing = ""
    checkpoint(trainer)
    assert list(memory.saved) == ["model_2.pt", "model_3.pt"]
    assert heard == ["saved"]


@pytest.mark.parametrize("base", [DiskSaver, AsyncDiskSaver, DCPSaver])
def test_a_saver_with_one_name_for_all_keeps_what_it_wrote_last(base: type[DiskSaver], tmp_path: Path) -> None:
    class OneName(base):  # type: ignore[misc, valid-type]
        def __call__(self, checkpoint: Any, filename: str, metadata: Any = None) -> None:
            super().__call__(checkpoint, "latest", metadata)

        def remove(self, filename: str) -> None:
            super().remove("latest")

    trainer, saver = Engine(lambda engine, batch: None), OneName(tmp_path)
    best = Checkpoint({"model": nn.Linear(1, 1)}, saver, score_function=lambda engine: engine.state.epoch, n_saved=2)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, best)
    trainer.run([1], max_epochs=4)

    assert best.last_checkpoint == best.best_checkpoint == best.newest_checkpoint == tmp_path / "latest"
    assert find_manifest(tmp_path / "latest").step == 4  # type: ignore[union-attr]
    saver.remove("any")  # asked for by itself it goes
    getattr(saver, "close", lambda: None)()
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_removed_is_removed_after_the_next_save() -> None:
    memory, trainer = Memory(), engine_that()
    checkpoint = Checkpoint({"model": model()}, memory)
    checkpoint(trainer)
    memory.failing, trainer.state.iteration = "remove", 1
    with pytest.raises(OSError, match="not permitted"):
        checkpoint(trainer)
    assert list(memory.saved) == ["model_0.pt", "model_1.pt"]
    assert checkpoint.last_checkpoint == "model_1.pt"

    memory.failing, trainer.state.iteration = "", 2
    checkpoint(trainer)
    assert list(memory.saved) == ["model_2.pt"]


def test_an_older_file_that_somebody_else_has_deleted_is_no_error(tmp_path: Path) -> None:
    trainer = engine_that()
    checkpoint = Checkpoint({"model": model()}, tmp_path)
    checkpoint(trainer)
    (tmp_path / "model_0.pt").unlink()
    trainer.state.iteration = 1
    checkpoint(trainer)

    assert pt_files(tmp_path) == ["model_1.pt"]


def test_a_state_dict_that_fails_says_of_which_object() -> None:
    class Failing:
        def state_dict(self) -> dict[str, Any]:
            raise KeyError("lost")

    memory = Memory()
    with pytest.raises(KeyError, match="lost") as caught:
        Checkpoint({"good": model(), "bad": Failing()}, memory)(engine_that())

    assert caught.value.__notes__ == ["Raised by state_dict() of 'bad', a Failing, for a checkpoint."]
    assert memory.saved == {}


def test_the_disk_that_is_full_is_named_with_path_and_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = engine_that()
    checkpoint = Checkpoint({"model": model()}, tmp_path)
    trainer.state.iteration = 7
    checkpoint(trainer)
    trainer.state.iteration = 9

    def full(fd: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        with pytest.raises(CheckpointError, match=r"model_9\.pt \(step 9\).*No space left on device"):
            checkpoint(trainer)
    assert sorted(os.listdir(tmp_path)) == ["model_7.pt", "model_7.pt.json"]
    checkpoint(trainer)
    assert sorted(os.listdir(tmp_path)) == ["model_9.pt", "model_9.pt.json"]


# ------------------------------------------------------------------------------------------------ its two relatives


def test_a_model_checkpoint_is_told_its_objects_when_it_is_attached(tmp_path: Path) -> None:
    trainer, net = engine_that(), model()
    handler = ModelCheckpoint(tmp_path, "run", n_saved=2, score_function=lambda engine: engine.state.epoch)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), handler, {"model": net})
    trainer.run(range(5), max_epochs=6)

    assert pt_files(tmp_path) == ["run_model_4.pt", "run_model_6.pt"]
    assert handler.last_checkpoint == tmp_path / "run_model_6.pt"


def test_a_model_checkpoint_takes_its_objects_at_an_exception_too(tmp_path: Path) -> None:
    def step(engine: Engine, batch: int) -> None:
        raise RuntimeError("bad")

    trainer = engine_that(step)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, ModelCheckpoint(tmp_path), {"model": model()})
    with pytest.raises(RuntimeError, match="bad"):
        trainer.run([1])

    assert pt_files(tmp_path) == ["model_1.pt"]


def test_a_file_is_loaded_again_by_what_is_in_its_name(tmp_path: Path) -> None:
    trainer, net = engine_that(), model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    handler = ModelCheckpoint(tmp_path, "run", n_saved=None)
    handler.to_save = {"weights": net, "optimizer": optimizer}
    handler.attach(trainer, every=2)

    @trainer.on(Events.ITERATION_STARTED)
    def move() -> None:
        net.weight.data.fill_(trainer.state.iteration)

    trainer.run(range(6))
    other = model()
    handler.reload_objects({"weights": other}, global_step=4)

    assert other.weight.item() == 4
    with pytest.raises(AttributeError, match="needs a save_handler with a folder"):
        Checkpoint({"model": net}, Memory()).reload_objects({"model": net}, global_step=4)


def test_a_handler_lets_its_engine_go(tmp_path: Path) -> None:
    trainer = engine_that()
    checkpoint = Checkpoint({"model": model()}, tmp_path)
    checkpoint.attach(trainer, Events.COMPLETED, every_s=1000)
    trainer.run([1])
    alive = weakref.ref(trainer)
    gc.disable()
    try:
        del trainer
        assert alive() is None
    finally:
        gc.enable()


def test_a_saver_of_a_folder_has_pytorch_ignites_arguments(tmp_path: Path) -> None:
    saver = DiskSaver(tmp_path, True, True, True, save_on_rank=0, pickle_protocol=2)
    saver({"a": torch.ones(2)}, "a.pt", {"score": float("nan"), "step": 3})

    assert torch.load(tmp_path / "a.pt")["a"].tolist() == [1, 1]
    saver.remove("a.pt")
    saver.remove("a.pt")
    assert os.listdir(tmp_path) == []


def test_a_save_is_not_spread_over_too_many_modules() -> None:
    """The number of moves between files, which tests/benchmarks/save_moves.py prints."""
    benchmark = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "save_moves.py"))

    assert len(benchmark["moves_of_a_save"]()) <= benchmark["MOST"]

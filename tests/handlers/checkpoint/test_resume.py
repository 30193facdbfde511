"""One call resumes: the newest whole checkpoint, every object or none, and what stays. R6, R20 at this level, R22."""

import copy
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint, DiskSaver, ModelCheckpoint, Resumed, resume
from ignite_core.handlers.checkpoint.storage.load import load
from ignite_core.testing import run_distributed
from tests.faults.sizes import sized
from tests.handlers.checkpoint.comparing import read_manifest, same


class Run:
    """A small training, as a script sets it up each time it is started."""

    def __init__(self, folder: Path, **options: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.5)
        self.trainer = Engine(self.step)
        self.objects = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "trainer": self.trainer,
        }
        saver = DiskSaver(folder, require_empty=False)
        self.checkpoint = Checkpoint(self.objects, saver, **options)
        self.checkpoint.attach(self.trainer, every=2)

    def step(self, engine: Engine, batch: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.model(batch).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.item()

    def train(self, epochs: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.trainer.run(list(torch.randn(4, 8, 2, generator=generator)), max_epochs=epochs, seed=0)

    def states(self) -> dict[str, Any]:
        return {name: copy.deepcopy(obj.state_dict()) for name, obj in self.objects.items()}


def pt_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pt"))


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)


def test_a_run_that_is_cut_and_resumed_ends_where_the_one_that_was_not_cut_does(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole")
    whole.train(4)
    first = Run(tmp_path / "cut", n_saved=2)
    first.train(2)
    second = Run(tmp_path / "cut", n_saved=2)
    resumed = resume(second.trainer, second.objects, tmp_path / "cut")
    second.train(4)

    ends = second.states(), whole.states()
    for end in ends:  # at the end of the data a run that goes on begins anew, and one that is resumed begins
        end["trainer"]["event_counts"].pop("Events.DATALOADER_STOP_ITERATION")
    assert same(*ends)
    assert resumed == Resumed(
        tmp_path / "cut" / "checkpoint_8.pt", 8, 1, 8, ("model", "optimizer", "scheduler", "trainer"), ()
    )
    assert pt_files(tmp_path / "cut") == ["checkpoint_14.pt", "checkpoint_16.pt"]


def test_a_file_of_another_program_beside_the_folder_does_not_matter(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.train(1)
    (tmp_path / "run.json").write_text('{"about": "the run"}')

    assert resume(run.trainer, run.objects, tmp_path / "run").iteration == 4


@pytest.mark.parametrize("there", [False, True])
def test_without_a_checkpoint_the_run_starts_afresh_and_says_so(there: bool, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    before = run.states()
    folder = tmp_path / "run" if there else tmp_path / "nowhere"
    resumed = resume(run.trainer, run.objects, folder)

    assert resumed.path is None
    assert str(resumed) == "nothing to resume from: a fresh start"
    assert same(run.states(), before)


def test_the_trainer_is_found_under_the_name_that_it_was_saved_under(tmp_path: Path) -> None:
    model, trainer = nn.Linear(1, 1), Engine(lambda engine, batch: None)
    Checkpoint({"model": model, "loop": trainer}, tmp_path).attach(trainer, Events.COMPLETED)
    trainer.run(range(7))
    for to_load in ({"model": nn.Linear(1, 1)}, {}, {"model": nn.Linear(1, 1), "loop": None}):
        again = Engine(lambda engine, batch: None)
        if "loop" in to_load:
            to_load["loop"] = again
        resumed = resume(again, to_load, tmp_path)

        assert again.state.iteration == resumed.iteration == 7
        assert "loop" in resumed.objects


def test_what_was_asked_for_must_be_there_and_nothing_is_changed_otherwise(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(1)
    again = Run(tmp_path)
    before = again.states()
    with pytest.raises(CheckpointError, match=r"must hold \['ema'\] and the trainer, none of the 1 does; the newest"):
        resume(again.trainer, {"ema": nn.Linear(1, 1)}, tmp_path)
    other = nn.Sequential(nn.Linear(2, 4), nn.Identity(), nn.Linear(5, 1))
    with pytest.raises(CheckpointError, match=r"model: 2.weight has shape \(1, 4\)"):
        resume(again.trainer, {**again.objects, "model": other}, tmp_path)

    assert same(again.states(), before)


def test_without_the_trainer_in_it_a_checkpoint_is_no_place_to_resume_from(tmp_path: Path) -> None:
    Checkpoint({"model": nn.Linear(1, 1), "other": nn.Linear(1, 1)}, tmp_path)(Engine(lambda engine, batch: None))
    with pytest.raises(CheckpointError, match=r"and the trainer, none of the 1 does.*'trainer': trainer"):
        resume(Engine(lambda engine, batch: None), {"model": nn.Linear(1, 1)}, tmp_path)


@pytest.mark.parametrize("is_named", [True, False])
@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_checkpoint_of_the_trainer_alone_is_resumed(is_named: bool, has_manifest: bool, tmp_path: Path) -> None:
    first, second = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    first.run(range(5), seed=1)
    Checkpoint({"loop": first}, tmp_path)(first)
    if not has_manifest:
        (tmp_path / "loop_5.pt.json").unlink()
    path = tmp_path if has_manifest else tmp_path / "loop_5.pt"
    resumed = resume(second, {"loop": second} if is_named else {}, path)

    assert (resumed.iteration, second.state.seed) == (5, 1)


@pytest.mark.parametrize("name", ["checkpoint_9.pt", "none/checkpoint_4.pt", "checkpoint_9.pth"])
def test_a_named_checkpoint_that_is_not_there_is_an_error_with_those_that_are(name: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(1)
    there = r"its folder has \['checkpoint_4.pt'\]" if "/" not in name else "its folder does not exist either"
    with pytest.raises(CheckpointError, match=f"there must be a checkpoint '.*{name}', {there}"):
        resume(run.trainer, run.objects, tmp_path / name)


def test_an_object_that_has_only_load_state_dict_is_resumed(tmp_path: Path) -> None:
    class OnlyLoads:
        def load_state_dict(self, state: Any) -> None:
            self.state = state

    run = Run(tmp_path)
    run.train(1)
    scheduler = OnlyLoads()
    resume(run.trainer, {**run.objects, "scheduler": scheduler}, tmp_path)

    assert scheduler.state["last_epoch"] == 4


def test_models_that_were_saved_alone_are_passed_over(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.train(1)
    saver = DiskSaver(tmp_path, require_empty=False)
    best = Checkpoint({"model": run.model}, saver, "best", score_function=lambda engine: 0.5)
    best(run.trainer)
    again = Run(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = resume(again.trainer, again.objects, tmp_path)

    assert resumed.path == tmp_path / "checkpoint_4.pt"
    assert resumed.skipped == ()


# ------------------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone", "manifest", "manifest emptied"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it_with_one_warning(
    damage: str, tmp_path: Path
) -> None:
    """R6."""
    run = Run(tmp_path, n_saved=3)
    run.train(2)
    newest = tmp_path / "checkpoint_8.pt"
    sidecar = tmp_path / "checkpoint_8.pt.json"
    if damage == "flipped":
        flip(newest)
    elif damage == "cut":
        os.truncate(newest, 1000)
    elif damage == "empty":
        os.truncate(newest, 0)
    elif damage == "gone":
        newest.unlink()
    elif damage == "manifest":
        flip(sidecar)
    else:
        os.truncate(sidecar, 0)
    again = Run(tmp_path, n_saved=3)
    with pytest.warns(UserWarning, match=r"resume: took checkpoint_6.pt, .*checkpoint_8.pt") as warned:
        resumed = resume(again.trainer, again.objects, tmp_path)

    assert len(warned) == 1
    assert resumed.path == tmp_path / "checkpoint_6.pt"
    assert again.trainer.state.iteration == 6
    assert [name for name, _ in resumed.skipped] == ["checkpoint_8.pt"]
    assert "passed over checkpoint_8.pt" in str(resumed)


@pytest.mark.parametrize("number", range(sized(20, 500)))
def test_a_bit_flipped_anywhere_is_found_before_anything_is_changed(number: int, tmp_path: Path) -> None:
    """R6: seed = number."""
    at = torch.rand((), generator=torch.Generator().manual_seed(number)).item()
    run = Run(tmp_path)
    run.train(1)
    flip(tmp_path / "checkpoint_4.pt", at)
    again = Run(tmp_path)
    before = again.states()
    with pytest.raises(CheckpointError, match=r"none of the checkpoints is whole: .*checkpoint_4.pt"):
        resume(again.trainer, again.objects, tmp_path)

    assert same(again.states(), before)


def test_a_damaged_one_is_replaced_when_the_run_comes_to_the_same_step(tmp_path: Path) -> None:
    Run(tmp_path, n_saved=2).train(2)
    flip(tmp_path / "checkpoint_8.pt")
    again = Run(tmp_path, n_saved=2)
    with pytest.warns(UserWarning, match="took checkpoint_6"):
        resume(again.trainer, again.objects, tmp_path)
    again.train(2)

    assert pt_files(tmp_path) == ["checkpoint_6.pt", "checkpoint_8.pt"]
    assert load(tmp_path / "checkpoint_8.pt")["trainer"]["iteration"] == 8


def test_with_sizes_alone_a_flipped_bit_of_a_number_is_not_looked_for(tmp_path: Path) -> None:
    """The negative control of the tests above: it is the digest that finds it."""
    model, trainer = nn.Linear(100, 100), Engine(lambda engine, batch: None)
    Checkpoint({"model": model, "trainer": trainer}, tmp_path)(trainer)
    flip(tmp_path / "checkpoint_0.pt")

    assert resume(trainer, {"model": model}, tmp_path, verify="size").path is not None
    with pytest.raises(CheckpointError, match="is damaged"):
        resume(trainer, {"model": model}, tmp_path)


# ------------------------------------------------------------------------------------------------------ what stays


def test_n_saved_holds_across_restarts(tmp_path: Path) -> None:
    for epochs in (1, 2, 3, 4):
        run = Run(tmp_path, n_saved=2)
        resume(run.trainer, run.objects, tmp_path)
        run.train(epochs)
        assert len(pt_files(tmp_path)) == 2

    assert pt_files(tmp_path) == ["checkpoint_14.pt", "checkpoint_16.pt"]


def test_the_best_of_an_evaluator_stays_across_restarts_if_its_handler_is_given(tmp_path: Path) -> None:
    def train(scores: list[float], epochs: int) -> Checkpoint:
        run = Run(tmp_path / "run")
        evaluator = Engine(lambda engine, batch: None)
        best = ModelCheckpoint(
            tmp_path / "run",
            "best",
            score_function=lambda engine: scores[run.trainer.state.epoch - 1],
            score_name="accuracy",
            n_saved=1,
            keep_last=1,
            require_empty=False,
        )
        best.to_save = {"model": run.model}
        best.attach(evaluator, Events.COMPLETED)
        run.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
        resume(run.trainer, run.objects, tmp_path / "run", checkpoint=best)
        run.train(epochs)
        return best

    first = train([0.5, 0.9], 2)
    second = train([0, 0, 0.7, 0.6], 4)

    assert first.best_checkpoint == second.best_checkpoint == tmp_path / "run" / "best_model_8_accuracy=0.9000.pt"
    assert second.newest_checkpoint == tmp_path / "run" / "best_model_16_accuracy=0.6000.pt"
    assert pt_files(tmp_path / "run") == [
        "best_model_16_accuracy=0.6000.pt",
        "best_model_8_accuracy=0.9000.pt",
        "checkpoint_16.pt",
    ]


def test_what_was_saved_after_the_one_that_is_resumed_is_left_alone(tmp_path: Path) -> None:
    Run(tmp_path, n_saved=None).train(2)
    again = Run(tmp_path, n_saved=1)
    resumed = resume(again.trainer, again.objects, tmp_path / "checkpoint_4.pt")
    assert resumed.iteration == 4
    again.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=7), again.trainer.terminate)
    again.train(2)

    assert pt_files(tmp_path) == ["checkpoint_6.pt", "checkpoint_8.pt"]


def test_handlers_of_other_folders_and_names_take_over_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "one")
    run.train(1)
    again = Run(tmp_path / "one")
    elsewhere = Checkpoint(again.objects, tmp_path / "two")
    prefixed = Checkpoint(again.objects, DiskSaver(tmp_path / "one", require_empty=False), "other")
    resume(again.trainer, again.objects, tmp_path / "one", checkpoint=[elsewhere, prefixed])

    assert again.checkpoint.last_checkpoint == tmp_path / "one" / "checkpoint_4.pt"
    assert elsewhere.last_checkpoint is None
    assert prefixed.last_checkpoint is None


def test_a_prefix_chooses_among_those_of_several_handlers(tmp_path: Path) -> None:
    run = Run(tmp_path, filename_prefix="regular")
    run.train(1)
    final = Checkpoint(run.objects, DiskSaver(tmp_path, require_empty=False), "final")
    final(run.trainer)

    assert resume(run.trainer, run.objects, tmp_path).path == tmp_path / "final_checkpoint_4.pt"
    assert resume(run.trainer, run.objects, tmp_path, prefix="regular_").path == tmp_path / "regular_checkpoint_4.pt"


# ----------------------------------------------------------------------------------------------------- R22, foreign


def test_a_handler_of_another_prefix_takes_over_its_files_too(tmp_path: Path) -> None:
    """Else the best of an earlier start would be forgotten, and replaced by a worse one."""
    run = Run(tmp_path, filename_prefix="regular")
    scored = Checkpoint({"model": run.model}, DiskSaver(tmp_path), "best", lambda engine: 0.9, "score")
    scored(run.trainer)
    run.train(1)

    again = Run(tmp_path, filename_prefix="regular")
    saver = DiskSaver(tmp_path, require_empty=False)
    best = Checkpoint({"model": again.model}, saver, "best", lambda engine: 0.8, "score")
    resume(again.trainer, again.objects, tmp_path, prefix="regular", checkpoint=best)
    best(again.trainer)

    assert best.best_checkpoint is not None
    assert best.best_checkpoint.name == "best_model_score=0.9000.pt"
    assert [name for name in pt_files(tmp_path) if name.startswith("best")] == ["best_model_score=0.9000.pt"]


def test_saved_loaded_and_saved_again_without_a_step_the_contents_are_equal(tmp_path: Path) -> None:
    """R22."""
    run = Run(tmp_path / "one")
    run.train(1)
    again = Run(tmp_path / "two")
    resume(again.trainer, again.objects, tmp_path / "one")
    again.checkpoint(again.trainer)
    one, two = (tmp_path / name / "checkpoint_4.pt" for name in ("one", "two"))

    assert same(load(one), load(two))
    abouts = [dict(read_manifest(path).about) for path in (one, two)]
    assert abouts[0] == abouts[1]


def test_resumed_twice_from_the_same_checkpoint_the_run_ends_alike(tmp_path: Path) -> None:
    """R22."""
    Run(tmp_path / "first").train(1)
    ends = []
    for name in ("a", "b"):
        shutil.copytree(tmp_path / "first", tmp_path / name)
        run = Run(tmp_path / name)
        resume(run.trainer, run.objects, tmp_path / name)
        run.train(3)
        ends.append(run.states())

    assert same(*ends)


def test_checkpoints_of_pytorch_ignite_are_loaded(tmp_path: Path) -> None:
    theirs = pytest.importorskip("ignite.handlers")
    their_engine = pytest.importorskip("ignite.engine")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(3, 2)).sum().backward()
    optimizer.step()
    trainer = their_engine.Engine(lambda engine, batch: None)
    handler = theirs.Checkpoint(
        {"model": model, "optimizer": optimizer, "trainer": trainer}, str(tmp_path), n_saved=2, include_self=True
    )
    trainer.add_event_handler(their_engine.Events.ITERATION_COMPLETED(every=2), handler)
    trainer.run(range(4), max_epochs=3)

    ours = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    our_optimizer = torch.optim.Adam(ours.parameters())
    our_trainer = Engine(lambda engine, batch: None)
    checkpointer = Checkpoint({"model": ours}, lambda state, filename: None)
    objects = {"model": ours, "optimizer": our_optimizer, "trainer": our_trainer, "checkpointer": checkpointer}
    Checkpoint.load_objects(objects, tmp_path / "checkpoint_12.pt")

    assert same(ours.state_dict(), model.state_dict())
    assert same(our_optimizer.state_dict(), optimizer.state_dict())
    assert our_trainer.state.iteration == 12
    assert checkpointer.last_checkpoint == "checkpoint_12.pt"
    with pytest.warns(
        UserWarning, match=r"the 2 .pt files in .* have no manifest, .*the run starts from the beginning; pass the path"
    ):
        assert resume(Engine(lambda engine, batch: None), {"model": ours}, tmp_path).path is None
    again = Engine(lambda engine, batch: None)
    assert resume(again, {"model": ours}, tmp_path / "checkpoint_10.pt").iteration == again.state.iteration == 10


# --------------------------------------------------------------------------------------------------- several ranks


class Value:
    """In a new process the first optimizer takes a second; this one does not."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def state_dict(self) -> dict[str, int]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: Any) -> None:
        self.value = state_dict["value"]


def small_objects() -> dict[str, Any]:
    return {"value": Value(), "other": Value(), "model": nn.Linear(2, 2), "trainer": Engine(lambda engine, batch: None)}


def save_small(folder: Path, n_saved: int) -> None:
    objects = small_objects()
    checkpoint = Checkpoint(objects, folder, n_saved=n_saved)
    checkpoint.attach(objects["trainer"], every=2)
    objects["value"].value = objects["other"].value = 7
    objects["trainer"].run(range(4))


def states_of(objects: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(obj.state_dict()) for name, obj in objects.items()}


def resume_on_ranks(folder: str, failing: str) -> tuple[str, int, bool]:
    rank = idist.get_rank()
    objects = small_objects()
    if failing == "views" and rank != 0:
        for name in ("listdir", "scandir"):
            setattr(os, name, lambda *args: 1 / 0)
    if failing == "load" and rank == 1:
        objects["other"].load_state_dict = lambda state: 1 / 0
    if failing == "shape" and rank == 1:
        objects["model"] = nn.Linear(1, 1)
    before = states_of(objects)
    try:
        resumed = resume(objects["trainer"], objects, folder)
    except CheckpointError as error:
        return str(error), idist.all_reduce(1), same(states_of(objects), before)
    return str(resumed.path), idist.all_reduce(1), same(states_of(objects), before)


@pytest.mark.parametrize("failing", ["nothing", "views", "load", "shape"])
def test_all_ranks_load_the_same_or_none_loads_anything(failing: str, tmp_path: Path) -> None:
    """R9, R10 of a resume."""
    save_small(tmp_path, 1)
    results = run_distributed(resume_on_ranks, str(tmp_path), failing, ranks=2)

    messages = {message for message, _, _ in results}
    assert len(messages) == 1
    assert [count for _, count, _ in results] == [2, 2]
    is_loaded = failing in ("nothing", "views")
    assert [unchanged for _, _, unchanged in results] == [not is_loaded] * 2
    expected = str(tmp_path / "checkpoint_4.pt") if is_loaded else "rank 1 failed with CheckpointError"
    assert expected in messages.pop()


def lose_the_newest_on_one_rank(folder: str) -> tuple[str, int]:
    objects = small_objects()
    if idist.get_rank() == 1:
        original = os.open

        def blind(path: Any, *args: Any, **kwargs: Any) -> int:
            if str(path).endswith("checkpoint_4.pt"):
                raise FileNotFoundError(2, "No such file or directory", str(path))
            return original(path, *args, **kwargs)

        os.open = blind
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        resumed = resume(objects["trainer"], objects, folder)
    return str(resumed.path), len(warned)


def test_one_that_a_single_rank_cannot_read_is_passed_over_by_all(tmp_path: Path) -> None:
    save_small(tmp_path, 2)
    results = run_distributed(lose_the_newest_on_one_rank, str(tmp_path), ranks=2)

    assert results == [(str(tmp_path / "checkpoint_2.pt"), 1), (str(tmp_path / "checkpoint_2.pt"), 0)]

"""R9, R10: several ranks save together, or all raise together; only one of them looks at the file system."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core import distributed as idist
from ignite_core.distributed.failures.api import is_agreed
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import CheckpointError, RankFailed
from ignite_core.handlers import BaseSaveHandler, Checkpoint, DiskSaver
from ignite_core.metrics import Accuracy
from ignite_core.testing import run_distributed
from tests.faults.sizes import FULL, sized

RANKS = sized(2, 4)

#: A failing rank must not let the others wait longer.
SOON_S = 5.0


class Failing:
    """An object of which one rank cannot take the state."""

    def __init__(self, rank: int | None) -> None:
        self.rank = rank

    def state_dict(self) -> dict[str, int]:
        if idist.get_rank() == self.rank:
            raise KeyError("planted")
        return {"value": 1}


class FailingSaver(DiskSaver):
    """A saver that fails where it is told to."""

    phase = ""

    def __call__(self, checkpoint: Any, filename: str, metadata: Any = None) -> None:
        if self.phase == "write":
            raise OSError("planted")
        super().__call__(checkpoint, filename, metadata)

    def remove(self, filename: str) -> None:
        if self.phase == "retention":
            raise OSError("planted")
        super().remove(filename)


def fail_once(folder: str, phase: str, failing_rank: int, save_on_rank: int) -> tuple[str, float, list[str], list[str]]:
    rank = idist.get_rank()
    trainer, failing, fails = Engine(lambda engine, batch: None), Failing(None), False
    saver = FailingSaver(folder, save_on_rank=save_on_rank)
    accuracy = Accuracy()
    accuracy.update((torch.eye(2), torch.tensor([0, 1])))

    def score(engine: Any) -> int:
        if fails and phase == "score" and rank == failing_rank:
            raise KeyError("planted")
        return int(engine.state.iteration)

    checkpoint = Checkpoint(
        {"failing": failing, "accuracy": accuracy, "model": nn.Linear(1, 1)},
        saver,
        score_function=score,
        save_on_rank=save_on_rank,
    )
    trainer.state.iteration = 1
    checkpoint(trainer)
    fails, trainer.state.iteration = True, 2
    failing.rank = failing_rank if phase == "state_dict" else None
    saver.phase = phase if rank == failing_rank else ""
    began = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        checkpoint(trainer)
    took = time.monotonic() - began
    assert is_agreed(caught.value)
    assert idist.all_reduce(1) == idist.get_world_size()  # the next collective works
    idist.barrier()
    there = sorted(name for name in os.listdir(folder) if name.endswith(".pt"))
    idist.barrier()
    fails, failing.rank, saver.phase, trainer.state.iteration = False, None, "", 3
    checkpoint(trainer)
    idist.barrier()
    after = sorted(name for name in os.listdir(folder) if name.endswith(".pt"))
    return str(caught.value), took, there, after


CASES = [
    *((phase, rank, 0) for phase in ("score", "state_dict") for rank in range(RANKS)),
    *((phase, rank, rank) for phase in ("write", "retention") for rank in range(RANKS)),
]


@pytest.mark.parametrize(("phase", "failing_rank", "save_on_rank"), CASES)
def test_whatever_fails_on_whichever_rank_all_raise_the_same_soon_and_go_on(
    phase: str, failing_rank: int, save_on_rank: int, tmp_path: Path
) -> None:
    results = run_distributed(fail_once, str(tmp_path / "run"), phase, failing_rank, save_on_rank, ranks=RANKS)

    messages = {message for message, _, _, _ in results}
    assert len(messages) == 1
    assert f"rank {failing_rank} failed with" in messages.pop()
    assert max(took for _, took, _, _ in results) < SOON_S
    published = ["checkpoint_1.pt", "checkpoint_2.pt"] if phase == "retention" else ["checkpoint_1.pt"]
    assert [there for _, _, there, _ in results] == [published] * RANKS
    assert [after for _, _, _, after in results] == [["checkpoint_3.pt"]] * RANKS


def see_another_file_system(folder: str, save_on_rank: int) -> tuple[Any, list[str]]:
    looked: list[str] = []
    if idist.get_rank() != save_on_rank:
        for name in ("listdir", "scandir", "stat", "lstat", "open", "replace", "mkdir"):
            setattr(os, name, lambda *args, _name=name, **kwargs: looked.append(_name) or 1 / 0)
    trainer = Engine(lambda engine, batch: None)
    checkpoint = Checkpoint({"model": nn.Linear(1, 1)}, folder, n_saved=2, save_on_rank=save_on_rank)
    checkpoint.attach(trainer, Events.ITERATION_COMPLETED)
    trainer.run(range(5))
    return checkpoint.last_checkpoint, looked


@pytest.mark.parametrize("save_on_rank", range(RANKS))
def test_only_the_rank_that_saves_looks_at_the_file_system(save_on_rank: int, tmp_path: Path) -> None:
    """R10."""
    folder = tmp_path / "run"
    results = run_distributed(see_another_file_system, str(folder), save_on_rank, ranks=RANKS)

    assert results == [(folder / "model_5.pt", [])] * RANKS
    assert sorted(path.name for path in folder.glob("*.pt")) == ["model_4.pt", "model_5.pt"]


def make_a_saver_in_a_folder_that_is_not_empty(folder: str) -> None:
    if idist.get_rank() == 0:
        DiskSaver(folder)
    else:
        DiskSaver(folder)  # it does not look at the folder
        with pytest.raises(RankFailed, match=r"old\.pt"):
            idist.barrier()
        raise ValueError("the other ranks have heard of old.pt")


def test_a_folder_that_is_not_empty_is_refused_and_the_other_ranks_hear_of_it(tmp_path: Path) -> None:
    (tmp_path / "old.pt").touch()
    with pytest.raises(ValueError, match=r"old\.pt"):
        run_distributed(make_a_saver_in_a_folder_that_is_not_empty, str(tmp_path), ranks=RANKS, timeout_s=30)


def score_differently() -> list[str]:
    saved: list[str] = []

    class Memory(BaseSaveHandler):
        def __call__(self, checkpoint: Any, filename: str, metadata: Any = None) -> None:
            saved.append(filename)

        def remove(self, filename: str) -> None:
            saved.append(f"-{filename}")

    rank = idist.get_rank()
    scores = [[0.5, 0.6, 0.4, 0.9], [0.9, 0.1, 0.95, 0.2], [1.0] * 4, [float("nan")] * 4][rank]
    trainer = Engine(lambda engine, batch: None)
    checkpoint = Checkpoint(
        {"model": nn.Linear(1, 1)}, Memory(), score_function=lambda e: scores[e.state.iteration - 1]
    )
    checkpoint.attach(trainer, every=1)
    trainer.run(range(4))
    return [*saved, str(checkpoint.best_checkpoint)]


def test_scores_that_differ_between_ranks_are_those_of_the_rank_that_saves() -> None:
    """R19 for saves: no rank waits for another that has decided differently."""
    results = run_distributed(score_differently, ranks=RANKS)

    done = ["model_0.5000.pt", "model_0.6000.pt", "-model_0.5000.pt", "model_0.9000.pt", "-model_0.6000.pt"]
    assert results[0] == [*done, "model_0.9000.pt"]
    assert results[1:] == [["model_0.9000.pt"]] * (RANKS - 1)


def save_different_objects() -> str:
    name = "model" if idist.get_rank() == 0 else "other"
    with pytest.raises(CheckpointError) as caught:
        Checkpoint({name: nn.Linear(1, 1)}, lambda state, filename: None)(Engine(lambda engine, batch: None))
    return str(caught.value)


def test_ranks_that_save_different_things_are_told_so() -> None:
    messages = run_distributed(save_different_objects, ranks=RANKS)

    assert len(set(messages)) == 1
    assert "it saves ('', ['model'])" in messages[0]
    assert "it saves ('', ['other'])" in messages[0]


def save_by_the_clock(folder: str) -> tuple[list[str], int]:
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        return 10.0 * calls

    trainer = Engine(lambda engine, batch: idist.barrier())
    checkpoint = Checkpoint({"model": nn.Linear(1, 1)}, folder, n_saved=None)
    checkpoint.attach(trainer, every_s=200, clock=clock)
    saved: list[str] = []
    trainer.add_event_handler(
        Checkpoint.SAVED_CHECKPOINT, lambda: saved.append(Path(str(checkpoint.newest_checkpoint)).name)
    )
    trainer.run(range(60))
    return saved, calls


def test_by_the_clock_of_one_rank_all_save_after_the_same_iteration(tmp_path: Path) -> None:
    results = run_distributed(save_by_the_clock, str(tmp_path / "run"), ranks=RANKS)

    saved, calls = results[0]
    assert len(saved) in (2, 3)
    assert calls == 60
    assert results[1:] == [(saved, 0)] * (RANKS - 1)


def raise_on_one_rank(folder: str) -> tuple[str, list[str]]:
    def step(engine: Engine, batch: int) -> None:
        if batch == 3 and idist.get_rank() == 1:
            raise ValueError("planted")
        idist.all_reduce(1)

    trainer = Engine(step)
    checkpoint = Checkpoint({"model": nn.Linear(1, 1)}, folder)
    checkpoint.attach(trainer, Events.EXCEPTION_RAISED, every=1)
    try:
        trainer.run([1, 2, 3, 4])
    except Exception as error:
        return type(error).__name__, sorted(os.listdir(folder))
    return "nothing", []


def test_after_an_error_on_one_rank_nothing_is_saved_and_the_error_is_not_replaced(tmp_path: Path) -> None:
    results = run_distributed(raise_on_one_rank, str(tmp_path / "run"), ranks=2)

    assert results[1] == ("ValueError", ["model_2.pt", "model_2.pt.json"])
    assert results[0][0] in ("RankFailed", "RuntimeError")  # the latter where the connection broke before it was told


def save_the_trainers_part_of_each_rank(folder: str) -> Any:
    class Own(Engine):
        def state_dict(self) -> Any:
            saved = super().state_dict()
            saved["by_rank"] = [{"rank": idist.get_rank()}]
            return saved

    trainer = Own(lambda engine, batch: None)
    Checkpoint({"trainer": trainer, "model": nn.Linear(1, 1)}, folder)(trainer)
    idist.barrier()
    return torch.load(Path(folder) / "checkpoint_0.pt")["trainer"]["by_rank"]


def test_what_differs_between_ranks_is_saved_of_all_of_them(tmp_path: Path) -> None:
    results = run_distributed(save_the_trainers_part_of_each_rank, str(tmp_path / "run"), ranks=RANKS)

    assert results == [[{"rank": rank} for rank in range(RANKS)]] * RANKS


def save_what_ddp_wraps(folder: str) -> list[str]:
    from torch.distributed.optim import ZeroRedundancyOptimizer  # slow to import

    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    for _ in range(2):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    trainer = Engine(lambda engine, batch: None)
    Checkpoint({"model": model, "optimizer": optimizer}, folder)(trainer)
    idist.barrier()
    saved = torch.load(Path(folder) / "checkpoint_0.pt")
    other = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    Checkpoint.load_objects({"model": model, "optimizer": other}, saved)
    return [*saved["model"], *map(str, saved["optimizer"]["state"])]


def test_wrapped_models_and_sharded_optimizers_are_saved_whole(tmp_path: Path) -> None:
    results = run_distributed(save_what_ddp_wraps, str(tmp_path / "run"), ranks=2)

    assert results == [["weight", "bias", "0", "1"]] * 2


def test_the_number_of_ranks_is_the_full_one_in_full() -> None:
    assert (4 if FULL else 2) == RANKS

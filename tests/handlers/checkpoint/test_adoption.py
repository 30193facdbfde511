"""After a resume each handler counts the files of earlier runs in its own folder, wherever that is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from ignite_core.engine import Engine, Events
from ignite_core.handlers import AsyncDiskSaver, Checkpoint, DCPSaver, DiskSaver, ModelCheckpoint, StopOnSignal, resume
from ignite_core.testing import run_distributed


class Run:
    """A trainer that validates after each epoch, as a script sets it up each time it is started."""

    def __init__(self, folder: Path, scores: list[float]) -> None:
        self.folder, self.model = folder, nn.Linear(1, 1)
        self.trainer, self.evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
        self.objects = {"model": self.model, "trainer": self.trainer}
        values = iter(scores)
        self.evaluator.add_event_handler(
            Events.STARTED, lambda: self.evaluator.state.metrics.update(accuracy=(value := next(values)), loss=value)
        )
        self.last = Checkpoint(self.objects, folder / "last", require_empty=False)
        self.last.attach(self.trainer, Events.EPOCH_COMPLETED)

    def best(self, folder: str, saver: Callable[..., Any] = DiskSaver, **options: Any) -> Checkpoint:
        own = saver(self.folder / folder, require_empty=False)
        handler = Checkpoint({"model": self.model}, own, "best", **{"score_name": "accuracy", **options})
        handler.attach(self.evaluator, Events.COMPLETED)
        return handler

    def train(self, max_epochs: int, *handlers: Checkpoint) -> None:
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.evaluator.run([0]))
        resume(self.trainer, self.objects, self.folder / "last", checkpoint=handlers)
        self.trainer.run([0], max_epochs=max_epochs)


def names(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".json") for path in folder.glob("*.json"))


class Renaming(DiskSaver):
    """Writes one file, whatever it is told."""

    def __call__(self, checkpoint: Any, filename: str, metadata: Any = None) -> None:
        super().__call__(checkpoint, "model.pt", metadata)

    def remove(self, filename: str) -> None:
        super().remove("model.pt")


@pytest.mark.parametrize("saver", [DiskSaver, AsyncDiskSaver, DCPSaver, Renaming])
def test_the_best_in_a_folder_of_its_own_is_not_forgotten(saver: Callable[..., Any], tmp_path: Path) -> None:
    for scores, max_epochs in (([0.9, 0.8], 2), ([0.7, 0.6], 4)):
        run = Run(tmp_path, scores)
        best = run.best("best", saver)
        run.train(max_epochs, best)
        assert names(tmp_path / "best") == ["model.pt" if saver is Renaming else "best_model_accuracy=0.9000.pt"]
        assert best.best_checkpoint == tmp_path / "best" / names(tmp_path / "best")[0]


def test_a_model_checkpoint_that_does_not_know_its_objects_yet_finds_its_best(tmp_path: Path) -> None:
    for scores, max_epochs in (([0.9], 1), ([0.7], 2)):
        run = Run(tmp_path, scores)
        best = ModelCheckpoint(tmp_path / "best", "best", score_name="accuracy", require_empty=False)
        run.evaluator.add_event_handler(Events.COMPLETED, best, {"model": run.model})
        run.train(max_epochs, best)
        assert names(tmp_path / "best") == ["best_model_accuracy=0.9000.pt"]


def test_handlers_of_the_trainer_rotate_the_files_of_earlier_runs_in_other_folders(tmp_path: Path) -> None:
    for max_epochs in (2, 4):
        run = Run(tmp_path, [0] * 4)
        Checkpoint(run.objects, tmp_path / "often", n_saved=2, require_empty=False).attach(run.trainer, every=1)
        stopped = Checkpoint(run.objects, tmp_path / "stopped", require_empty=False)
        StopOnSignal(save=stopped).attach(run.trainer)
        run.trainer.add_event_handler(Events.COMPLETED(priority=-1), lambda: stopped(run.trainer))  # noqa: B023
        run.train(max_epochs)

    assert names(tmp_path / "often") == ["checkpoint_3.pt", "checkpoint_4.pt"]
    assert names(tmp_path / "stopped") == ["checkpoint_4.pt"]


def test_handlers_that_share_a_folder_and_a_prefix_keep_their_own_scores(tmp_path: Path) -> None:
    for scores, max_epochs in (([0.5, 0.9], 2), ([0.7, 0.4], 4)):
        run = Run(tmp_path, scores)
        largest = run.best("last")
        least = run.best("last", score_name="loss", score_function=Checkpoint.get_default_score_fn("loss", -1.0))
        latest = Checkpoint(run.objects, run.last.save_handler, "best", filename_pattern="latest.pt")
        latest.attach(run.evaluator, Events.COMPLETED)
        run.train(max_epochs, largest, least, latest)

    assert names(tmp_path / "last") == [
        "best_model_accuracy=0.9000.pt",
        "best_model_loss=-0.4000.pt",
        "checkpoint_4.pt",
        "latest.pt",
    ]


def test_what_one_of_two_like_handlers_keeps_is_not_removed_by_the_other(tmp_path: Path) -> None:
    """Both name their files alike, so it cannot be told who has saved one: the one that keeps most has them all."""
    for every, max_epochs in ((2, 1), (5, 2)):
        trainer = Engine(lambda engine, batch: None)
        saver = DiskSaver(tmp_path, require_empty=False)
        Checkpoint({"trainer": trainer, "model": nn.Linear(1, 1)}, saver).attach(trainer, every=every)
        Checkpoint({"trainer": trainer, "model": nn.Linear(1, 1)}, saver, n_saved=None).attach(
            trainer, Events.EPOCH_COMPLETED
        )
        resume(trainer, {}, tmp_path)
        trainer.run(range(3), max_epochs=max_epochs)

    assert names(tmp_path) == [f"checkpoint_{step}.pt" for step in (2, 3, 5, 6)]


def files_after_two_starts(folder: str) -> tuple[list[str], str]:
    for scores, max_epochs in (([0.9, 0.8], 2), ([0.7, 0.6], 4)):
        run = Run(Path(folder), scores)
        best = run.best("best", save_on_rank=1) if max_epochs == 2 else run.best("best")
        run.train(max_epochs, best)
    return names(Path(folder) / "best"), str(best.best_checkpoint)


def test_all_ranks_take_over_what_the_one_that_saves_has_found(tmp_path: Path) -> None:
    best = tmp_path / "best" / "best_model_accuracy=0.9000.pt"

    assert run_distributed(files_after_two_starts, str(tmp_path), ranks=2) == [([best.name], str(best))] * 2

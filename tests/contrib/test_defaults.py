"""One call: what it attaches, what it leaves in the folder, and how the next start goes on."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ignite_contrib.defaults
import ignite_contrib.loggers
from ignite_contrib.curves import draw_curves, read_curves
from ignite_contrib.defaults import Defaults
from ignite_contrib.loggers import ProgressBar
from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.exceptions import CheckpointError
from ignite_core.metrics import Accuracy, Loss
from ignite_core.testing import run_distributed
from tests.handlers.checkpoint.comparing import read_manifest

mse = nn.functional.mse_loss


def data(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    x = torch.linspace(-1, 1, 4 * count).reshape(count, 4, 1)
    return [(part, 2 * part) for part in x]


def plain_trainer() -> Engine:
    model = nn.Linear(1, 1)
    return create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), mse)


class Training:
    """A model that learns to double a number, validated after each epoch."""

    def __init__(self, folder: Path, to_save: Any = None, scores: Any = None, **options: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.trainer = create_supervised_trainer(self.model, optimizer, mse)
        self.evaluator = create_supervised_evaluator(self.model, {"loss": Loss(mse)})
        if scores is not None:
            given = iter(scores)
            self.evaluator.add_event_handler(
                Events.EPOCH_COMPLETED, lambda: self.evaluator.state.metrics.update(score=next(given))
            )
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.evaluator.run(data(2)))
        self.defaults = Defaults(folder, **{"bar": False, "curves": False, **options})
        self.resumed = self.defaults.attach(self.trainer, self.evaluator, to_save)

    def run(self, epochs: int) -> Engine:
        self.trainer.run(data(), max_epochs=epochs)
        return self.trainer

    @property
    def weights(self) -> list[float]:
        return [parameter.item() for parameter in self.model.parameters()]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".json")


def test_a_folder_has_checkpoint_best_model_metrics_and_curves(tmp_path: Path) -> None:
    training = Training(tmp_path / "run", curves=True)
    training.run(3)

    assert files(tmp_path / "run") == ["best_model.pt", "checkpoint_18.pt", "curves.png", "metrics.csv"]
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    model = nn.Linear(1, 1)
    model.load_state_dict(torch.load(tmp_path / "run" / "best_model.pt", weights_only=True))
    best = create_supervised_evaluator(model, {"loss": Loss(mse)}).run(data(2)).metrics["loss"]
    curves = read_curves(tmp_path / "run" / "metrics.csv")
    assert best == min(curves["validation/loss"].values())
    assert set(curves) == {"training/loss", "validation/loss"}
    assert all(list(values) == [1, 2, 3] for values in curves.values())


def test_the_training_loss_is_the_mean_over_the_epoch(tmp_path: Path) -> None:
    training, losses = Training(tmp_path), []
    training.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: losses.append(training.trainer.state.output.item())
    )
    training.run(2)
    curve = read_curves(tmp_path / "metrics.csv")["training/loss"]

    assert curve == pytest.approx({1: sum(losses[:6]) / 6, 2: sum(losses[6:]) / 6})


def test_a_second_start_goes_on_as_if_there_had_been_no_first_end(tmp_path: Path) -> None:
    whole = Training(tmp_path / "whole")
    whole.run(5)
    first = Training(tmp_path / "cut")
    first.run(2)
    second = Training(tmp_path / "cut")
    second.run(5)

    assert first.resumed.path is None
    assert second.resumed.epoch == 2
    assert second.weights == whole.weights
    assert read_curves(tmp_path / "cut" / "metrics.csv") == read_curves(tmp_path / "whole" / "metrics.csv")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_it_is_exact_where_a_signal_cuts_an_epoch(tmp_path: Path) -> None:
    """The mean of the epoch that was cut is that of all its iterations."""
    whole = Training(tmp_path / "whole")
    whole.trainer.run(data(), max_epochs=3, seed=1)
    cut = Training(tmp_path / "cut")
    assert cut.defaults.checkpoint is not None
    cut.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=9), cut.defaults.checkpoint)
    cut.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=9), cut.trainer.interrupt)
    cut.trainer.run(data(), max_epochs=3, seed=1)
    resumed = Training(tmp_path / "cut")
    resumed.trainer.run(data(), max_epochs=3, seed=1)

    assert resumed.resumed.iteration == 9
    assert resumed.weights == whole.weights
    assert read_curves(tmp_path / "cut" / "metrics.csv") == read_curves(tmp_path / "whole" / "metrics.csv")


def test_what_is_over_stays_over_until_more_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Training(tmp_path)
    first.run(3)
    second, seen = Training(tmp_path), []
    second.trainer.add_event_handler(Events.ITERATION_COMPLETED | Events.COMPLETED, seen.append, "something")
    with caplog.at_level(logging.WARNING):
        state = second.run(3).state

    assert not seen
    assert (state.epoch, state.iteration) == (3, 18)
    assert second.weights == first.weights
    assert "the loaded run is over, 3 of max_epochs=3 are done; pass a larger max_epochs" in caplog.text
    assert Training(tmp_path).run(4).state.iteration == 24


def test_a_training_that_has_stopped_early_stays_so_until_there_is_more_patience(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"metric": "score", "mode": "max", "scores": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]}
    assert Training(tmp_path, patience=2, **options).run(6).state.epoch == 3
    with caplog.at_level(logging.WARNING):
        assert Training(tmp_path, patience=2, **options).run(6).state.iteration == 18

    assert "the loaded run is over, 3 of max_epochs=6 are done, ended for good by EarlyStopping" in caplog.text
    assert Training(tmp_path, patience=3, metric="score", mode="max", scores=[0.5, 0.4]).run(6).state.epoch == 4


def test_a_later_start_that_saves_more_is_an_error_that_names_it(tmp_path: Path) -> None:
    Training(tmp_path, patience=None).run(1)

    with pytest.raises(CheckpointError, match=r"must hold \[.*'early_stopping'\]"):
        Training(tmp_path, patience=5)
    assert Training(tmp_path, patience=None).run(2).state.iteration == 12


@pytest.mark.parametrize(("mode", "epoch"), [("max", 2), ("min", 3)])
def test_the_best_model_is_that_of_the_best_score(tmp_path: Path, mode: Any, epoch: int) -> None:
    training = Training(tmp_path, metric="score", mode=mode, scores=[0.5, 0.9, 0.1])
    weights: list[list[float]] = []
    training.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: weights.append(training.weights))
    training.run(3)

    saved = torch.load(tmp_path / "best_model.pt", weights_only=True)
    assert [tensor.item() for tensor in saved.values()] == weights[epoch - 1]


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 2), ("loss", 3)])
def test_the_metric_says_which_of_its_values_are_better(tmp_path: Path, metric: str, best: int) -> None:
    trainer, values = plain_trainer(), iter([0.5, 0.9, 0.1])
    evaluator = Engine(lambda engine, batch: torch.tensor(next(values)))
    Accuracy(lambda value: (torch.arange(10) < 10 * value, torch.ones(10).long())).attach(evaluator, "accuracy")
    Loss(lambda y_pred, y: y_pred, lambda value: (value, torch.zeros(1))).attach(evaluator, "loss")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    defaults = Defaults(tmp_path, metric=metric, patience=3, bar=False, curves=False)
    defaults.attach(trainer, evaluator)
    trainer.run(data(), max_epochs=3)

    assert defaults.best is not None
    assert read_manifest(tmp_path / "best_model.pt").step == 6 * best


def test_a_start_may_begin_again_or_keep_its_own_rate(tmp_path: Path) -> None:
    def rate(training: Training) -> float:
        return next(iter(training.trainer.process_function.to_save["optimizer"].param_groups))["lr"]

    first = Training(tmp_path)
    for group in first.trainer.process_function.to_save["optimizer"].param_groups:
        group["lr"] = 0.05
    first.run(2)
    kept = Training(tmp_path, keep=["lr"])
    assert (kept.resumed.epoch, rate(kept)) == (2, 0.1)

    again = Training(tmp_path, resume=False)
    assert (again.resumed.path, again.run(1).state.epoch) == (None, 1)
    assert list(read_curves(tmp_path / "metrics.csv")["training/loss"]) == [1]
    assert Training(tmp_path).resumed.epoch == 1


def test_a_score_whose_direction_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mode must be given for 'score', as a metric of this name is not attached"):
        Training(tmp_path, metric="score", scores=[0.5])
    with pytest.raises(ValueError, match=r"mode must be 'min' or 'max', got 'least'"):
        Defaults(tmp_path, mode="least")  # type: ignore[arg-type]


def test_an_evaluator_that_is_missing_or_never_run_is_told_of(tmp_path: Path) -> None:
    trainer = plain_trainer()
    with pytest.raises(ValueError, match="there must be an evaluator with the metric 'accuracy'"):
        Defaults(tmp_path / "none", metric="accuracy", bar=False).attach(trainer)

    Defaults(tmp_path / "idle", bar=False, curves=False).attach(trainer, Engine(lambda engine, batch: None))
    with pytest.warns(UserWarning, match="the evaluator was not run, so there is neither a best model nor") as told:
        trainer.run(data(), max_epochs=2)
    assert len(told) == 1


def test_the_best_score_of_an_earlier_start_still_counts(tmp_path: Path) -> None:
    Training(tmp_path, metric="score", mode="max", scores=[0.9]).run(1)
    best = (tmp_path / "best_model.pt").read_bytes()
    Training(tmp_path, metric="score", mode="max", scores=[0.8]).run(2)

    assert (tmp_path / "best_model.pt").read_bytes() == best


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"checkpoint": False}, ["metrics.csv"]),
        ({"csv": False}, ["best_model.pt", "checkpoint_12.pt"]),
        ({"checkpoint": False, "csv": False}, []),
    ],
)
def test_every_part_can_be_switched_off(tmp_path: Path, options: dict[str, bool], expected: list[str]) -> None:
    training = Training(tmp_path, **options, patience=None, outputs=())
    training.run(2)

    assert files(tmp_path) == expected
    assert training.defaults.early_stopping is None
    assert not training.trainer.state.metrics


def test_without_checkpoints_each_start_begins_the_file_anew(tmp_path: Path) -> None:
    for _ in range(2):
        Training(tmp_path, checkpoint=False).run(2)

    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 2 * 2


def test_the_bar_shows_the_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(ignite_contrib.loggers, "ProgressBar", lambda **named: ProgressBar(file=screen, **named))
    trainer = Engine(lambda engine, batch: {"d": 0.5, "g": 0.25, "images": None})
    Defaults(tmp_path, outputs=["d", "g"], checkpoint=False, csv=False, curves=False).attach(trainer)
    trainer.run([0, 0])

    assert "2/2" in screen.getvalue()
    assert "d=0.5, g=0.25" in screen.getvalue()
    assert dict(trainer.state.metrics) == {"d": 0.5, "g": 0.25}


def test_curves_are_drawn_at_the_first_epoch_and_the_end_and_not_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    training = Training(tmp_path, curves=True)
    monkeypatch.setattr(
        ignite_contrib.defaults, "draw_curves", lambda *_: drawn.append(training.trainer.state.iteration)
    )
    training.run(4)

    assert drawn == [6, 24]


def test_a_trainer_of_ones_own_says_what_is_to_be_saved(tmp_path: Path) -> None:
    trainer = Engine(lambda engine, batch: 0.5)
    with pytest.raises(ValueError, match=r"are not known from this trainer; pass to_save=\{'model': model"):
        Defaults(tmp_path, bar=False, curves=False).attach(trainer)

    trainer = Engine(lambda engine, batch: 0.5)
    Defaults(tmp_path, bar=False, curves=False).attach(trainer, to_save={"net": nn.Linear(1, 1)})
    trainer.run([0])
    assert {"net", "trainer"} < set(torch.load(tmp_path / "checkpoint_1.pt", weights_only=True))


def test_without_it_the_engine_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Engine(lambda engine, batch: 0.5).run([0, 0], max_epochs=2)

    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="curves are drawn from the CSV file"):
        Defaults(tmp_path, csv=False)
    with pytest.raises(TypeError, match="outputs must be a list of names, got 'loss'"):
        Defaults(tmp_path, outputs="loss")
    with pytest.raises(TypeError, match=r"Defaults\.attach: takes engines, got 3"):
        Defaults(tmp_path).attach(3)  # type: ignore[arg-type]


def on_a_rank(folder: str) -> tuple[int, float, list[str], bool]:
    training = Training(Path(folder), curves=True)
    epoch = training.resumed.epoch
    training.run(epoch + 1)
    idist.barrier()
    return epoch, training.weights[0], files(Path(folder)), training.defaults.checkpoint is not None


def test_two_ranks_leave_what_one_does_and_both_go_on(tmp_path: Path) -> None:
    first = run_distributed(on_a_rank, str(tmp_path))
    second = run_distributed(on_a_rank, str(tmp_path))

    assert first[0] == first[1]
    assert second[0] == second[1]
    assert (first[0][0], second[0][0]) == (0, 1)
    assert second[0][2] == ["best_model.pt", "checkpoint_12.pt", "curves.png", "metrics.csv"]


def test_curves_leave_out_text_and_of_one_step_take_the_later_line(tmp_path: Path) -> None:
    source = tmp_path / "metrics.csv"
    source.write_text("step,name,value\n1,a/loss,1\n1,a/loss,0.5\n2,a/loss,nan\n1,note,hello\n")
    draw_curves(source, tmp_path / "curves.svg")

    assert read_curves(source)["a/loss"][1] == 0.5
    assert set(read_curves(source)) == {"a/loss"}
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,name,value\n")
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")

    assert not (tmp_path / "curves.png").exists()

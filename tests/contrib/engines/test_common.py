"""What ``setup_common_training_handlers`` and its companions attach, seen from what a run then does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DistributedSampler

import ignite_contrib.loggers
from ignite_contrib.engines import common
from ignite_contrib.engines.common import (
    add_early_stopping_by_val_score,
    gen_save_best_models_by_val_score,
    save_best_model_by_val_score,
    setup_common_training_handlers,
)
from ignite_contrib.loggers import ProgressBar
from ignite_core.engine import Engine, Events
from ignite_core.handlers import DiskSaver, resume
from ignite_core.testing import run_distributed


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pt"))


def echo() -> Engine:
    return Engine(lambda engine, batch: batch)


def with_scores(*scores: float) -> tuple[Engine, Engine]:
    """A trainer and the evaluator that it runs after each epoch, with these scores one after the other."""
    trainer, evaluator, left = echo(), echo(), iter(scores)
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(Score=next(left)))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    return trainer, evaluator


class Silent:
    """Stands in for the bars."""

    made: list[Silent]

    def __init__(self, **arguments: Any) -> None:
        self.made.append(self)
        self.bar = ProgressBar(file=io.StringIO(), **arguments)

    def attach(self, *arguments: Any, **named: Any) -> None:
        self.attached = named
        self.bar.attach(*arguments, **named)


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Silent]:
    Silent.made = []
    monkeypatch.setattr(ignite_contrib.loggers, "ProgressBar", Silent)
    return Silent.made


@pytest.mark.parametrize(
    "outputs",
    [
        [{"a": 1.0, "b": 10.0}, {"a": 3.0, "b": 30.0}],
        [(1.0, 10.0), (3.0, 30.0)],
        [[torch.tensor(1.0), torch.tensor(10.0)], [torch.tensor(3.0), torch.tensor(30.0)]],
    ],
)
def test_outputs_are_averaged_by_name(outputs: list[Any]) -> None:
    trainer = echo()
    setup_common_training_handlers(trainer, output_names=["a", "b"], with_pbars=False)
    metrics = trainer.run(outputs).metrics

    assert dict(metrics) == pytest.approx({"a": 0.98 * 1 + 0.02 * 3, "b": 0.98 * 10 + 0.02 * 30})


def test_an_output_that_has_not_the_name_is_an_error_that_says_what_it_has() -> None:
    trainer = echo()
    setup_common_training_handlers(trainer, output_names=["loss"], with_pbars=False)

    with pytest.raises(TypeError, match=r"the step must return 'loss', .* got a mapping of \['lost'\]"):
        trainer.run([{"lost": 1.0}])


@pytest.mark.parametrize(("stop", "iterations"), [(True, 2), (False, 3)])
def test_a_nan_ends_the_run_unless_it_may(stop: bool, iterations: int) -> None:
    trainer = echo()
    setup_common_training_handlers(trainer, with_pbars=False, stop_on_nan=stop)

    assert trainer.run([1.0, float("nan"), 1.0]).iteration == iterations


def test_it_saves_every_so_many_iterations_and_a_later_start_resumes(tmp_path: Path) -> None:
    model, trainer = nn.Linear(1, 1), echo()
    objects = {"model": model, "trainer": trainer}
    setup_common_training_handlers(
        trainer, None, objects, save_every_iters=4, output_path=str(tmp_path), with_pbars=False, n_saved=2
    )
    trainer.run(range(10))

    assert files(tmp_path) == ["training_checkpoint_4.pt", "training_checkpoint_8.pt"]

    trainer = echo()
    assert resume(trainer, {"model": nn.Linear(1, 1)}, tmp_path).iteration == 8


def test_a_save_handler_may_take_the_place_of_a_folder() -> None:
    saved: list[str] = []
    trainer = echo()
    setup_common_training_handlers(
        trainer,
        to_save={"model": nn.Linear(1, 1)},
        save_every_iters=5,
        save_handler=lambda checkpoint, filename: saved.append(filename),
        with_pbars=False,
    )
    trainer.run(range(10))

    assert saved == ["training_model_5.pt", "training_model_10.pt"]


def test_a_scheduler_of_torch_steps_after_each_iteration_and_a_handler_is_called_before_it() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    rates: list[float] = []
    trainer = Engine(lambda engine, batch: rates.append(optimizer.param_groups[0]["lr"]) or optimizer.step())
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    setup_common_training_handlers(trainer, lr_scheduler=scheduler, with_pbars=False, stop_on_nan=False)
    trainer.run(range(3))

    assert rates == [1.0, 0.5, 0.25]

    def double(engine: Engine) -> None:
        optimizer.param_groups[0]["lr"] = 2.0 * engine.state.iteration

    rates.clear()
    trainer = Engine(lambda engine, batch: rates.append(optimizer.param_groups[0]["lr"]))
    setup_common_training_handlers(trainer, lr_scheduler=double, with_pbars=False, stop_on_nan=False)
    trainer.run(range(3))

    assert rates == [2.0, 4.0, 6.0]


def test_a_sampler_that_a_loader_hides_is_told_each_epoch() -> None:
    sampler: DistributedSampler[int] = DistributedSampler(range(4), 2, 0)  # type: ignore[arg-type]
    heard: list[int] = []
    trainer = Engine(lambda engine, batch: heard.append(sampler.epoch))
    setup_common_training_handlers(trainer, sampler, with_pbars=False, stop_on_nan=False)
    trainer.run([0], max_epochs=3)

    assert heard == [0, 1, 2]


def test_bars_are_drawn_of_epochs_and_iterations(bars: list[Silent]) -> None:
    setup_common_training_handlers(trainer := echo(), output_names=["loss"], log_every_iters=2)
    trainer.run([1.0, 2.0, 3.0, 4.0], max_epochs=2)
    of_iterations, of_epochs = bars

    assert of_iterations.attached["event_name"] == Events.ITERATION_COMPLETED(every=2)
    assert of_iterations.attached["metric_names"] == "all"
    assert of_epochs.attached["closing_event_name"] == Events.COMPLETED
    assert "2/2" in of_epochs.bar._tqdm_kwargs["file"].getvalue()


@pytest.mark.parametrize(("options", "count"), [({"with_pbar_on_iters": False}, 1), ({"with_pbars": False}, 0)])
def test_bars_can_be_left_out(bars: list[Silent], options: dict[str, bool], count: int) -> None:
    setup_common_training_handlers(echo(), **options)  # type: ignore[arg-type]

    assert len(bars) == count


def test_the_state_of_the_gpus_is_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    attached: list[Any] = []

    class FakeInfo:
        def attach(self, *arguments: Any) -> None:
            attached.extend(arguments)

    monkeypatch.setattr(common, "GpuInfo", FakeInfo)
    trainer = echo()
    setup_common_training_handlers(trainer, with_gpu_stats=True, log_every_iters=None, with_pbars=False)

    assert attached == [trainer, "gpu", Events.ITERATION_COMPLETED]


def test_memory_of_the_gpu_is_given_back_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    for clear in (True, False):
        setup_common_training_handlers(trainer := echo(), with_pbars=False, clear_cuda_cache=clear)
        trainer.run([1.0, 1.0], max_epochs=3)

    assert len(calls) == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to_save": {"m": nn.Linear(1, 1)}}, ValueError, "to_save needs a place"),
        ({"output_path": "x", "save_handler": print}, ValueError, "exclude each other"),
        ({"lr_scheduler": 0.1}, TypeError, "lr_scheduler must be a scheduler of torch, or a handler, got 0.1"),
        ({"train_sampler": 3}, TypeError, "train_sampler must have set_epoch, got 3"),
    ],
)
def test_wrong_arguments_are_told_at_once(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        setup_common_training_handlers(echo(), with_pbars=False, **options)


def test_a_schedule_that_needs_a_metric_is_refused() -> None:
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(torch.optim.SGD([torch.zeros(1)], lr=1.0))

    with pytest.raises(TypeError, match="ReduceLROnPlateau needs a metric"):
        setup_common_training_handlers(echo(), lr_scheduler=scheduler, with_pbars=False)


def on_a_rank(folder: str) -> tuple[bool, list[str], float]:
    """Whether a rank draws, the checkpoints of all, and the average that it sees."""
    from ignite_core import distributed as idist

    made = Silent.made = []
    ignite_contrib.loggers.ProgressBar = Silent  # type: ignore[misc, assignment]
    trainer = Engine(lambda engine, batch: float(idist.get_rank()))
    objects = {"model": nn.Linear(1, 1), "trainer": trainer}
    setup_common_training_handlers(
        trainer, to_save=objects, output_path=folder, save_every_iters=2, output_names=["loss"], log_every_iters=1
    )
    trainer.run(range(4))
    idist.barrier()
    drawn = any(one.bar._tqdm_kwargs["file"].getvalue() for one in made)
    return drawn, files(Path(folder)), trainer.state.metrics["loss"]


def test_on_two_ranks_one_draws_and_saves_for_both(tmp_path: Path) -> None:
    first, second = run_distributed(on_a_rank, str(tmp_path))

    assert first == (True, ["training_checkpoint_4.pt"], 0.0)
    assert second == (False, ["training_checkpoint_4.pt"], 1.0)


@pytest.mark.parametrize(("sign", "names"), [(1.0, ["2_val_score=0.9000", "3_val_score=0.7000"]), (-1.0, [])])
def test_the_best_models_stay_and_are_named_by_epoch_and_score(tmp_path: Path, sign: float, names: list[str]) -> None:
    trainer, evaluator = with_scores(0.5, 0.9, 0.7, 0.6)
    best = save_best_model_by_val_score(
        str(tmp_path), evaluator, nn.Linear(1, 1), "Score", n_saved=2, trainer=trainer, score_sign=sign
    )
    trainer.run([0], max_epochs=4)

    expected = names or ["1_val_score=-0.5000", "4_val_score=-0.6000"]
    assert files(tmp_path) == [f"best_model_{name}.pt" for name in expected]
    assert best.best_checkpoint is not None
    assert sorted(torch.load(tmp_path / files(tmp_path)[0], weights_only=True)) == ["bias", "weight"]


def test_several_models_are_saved_together_by_any_saver_and_other_arguments_are_handed_on(tmp_path: Path) -> None:
    trainer, evaluator = with_scores(0.5, 0.9)
    models = {"g": nn.Linear(1, 1), "d": nn.Linear(1, 1)}
    gen_save_best_models_by_val_score(
        DiskSaver(tmp_path), evaluator, models, "Score", n_saved=1, tag="test", filename_prefix="top"
    )
    trainer.run([0], max_epochs=2)

    assert files(tmp_path) == ["top_checkpoint_test_score=0.9000.pt"]
    assert set(torch.load(tmp_path / files(tmp_path)[0], weights_only=True)) == {"g", "d"}


@pytest.mark.parametrize(("sign", "epoch"), [(1.0, 4), (-1.0, 3)])
def test_the_training_ends_when_the_score_gets_no_better(sign: float, epoch: int) -> None:
    trainer, evaluator = with_scores(0.5, 0.9, 0.7, 0.6, 0.5, 0.5)
    stopping = add_early_stopping_by_val_score(2, evaluator, trainer, "Score", sign)

    assert trainer.run([0], max_epochs=6).epoch == epoch
    assert stopping.best_score == sign * (0.9 if sign > 0 else 0.5)

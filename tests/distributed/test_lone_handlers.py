"""What one rank alone has attached acts there as in a serial run, or all ranks learn that it cannot."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, create_supervised_trainer
from ignite_core.exceptions import RankFailed
from ignite_core.handlers import Checkpoint, DCPSaver, DiskSaver, EarlyStopping, TerminateOnNan, TimeLimit
from ignite_core.metrics import Average, RunningAverage
from ignite_core.testing import run_distributed


def attach(what: str, trainer: Engine, folder: str) -> None:
    if what == "Checkpoint":
        Checkpoint({"model": nn.Linear(1, 1), "trainer": trainer}, folder).attach(trainer, Events.EPOCH_COMPLETED)
    elif what == "Checkpoint by the clock":
        Checkpoint({"model": nn.Linear(1, 1)}, folder).attach(trainer, every_s=1e-9)
    elif what == "EarlyStopping":
        EarlyStopping(2, lambda engine: 1.0, trainer).attach(trainer, event=Events.EPOCH_COMPLETED)
    elif what == "metrics":
        Average().attach(trainer, "mean")
    else:
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, {"TerminateOnNan": TerminateOnNan, "TimeLimit": TimeLimit}[what]()
        )


def run_with_lone(what: str, has_it: int, folder: str) -> tuple[list[str], int, dict[str, Any]]:
    trainer = Engine(lambda engine, batch: batch)
    if idist.get_rank() == has_it:
        attach(what, trainer, folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state = trainer.run([1.0, 2.0, 3.0], max_epochs=5)
        trainer.run([1.0, 1.0, 1.0])
    return [str(one.message) for one in caught], state.iteration, dict(state.metrics)


@pytest.mark.parametrize("has_it", [0, 1])
@pytest.mark.parametrize(
    ("what", "iterations"),
    [
        ("Checkpoint", 15),
        ("Checkpoint by the clock", 15),
        ("EarlyStopping", 9),
        ("TerminateOnNan", 15),
        ("TimeLimit", 15),
        ("metrics", 15),
    ],
)
def test_lone_handler(what: str, iterations: int, has_it: int, tmp_path: Path) -> None:
    """It acts on its rank, with one warning."""
    results = run_distributed(run_with_lone, what, has_it, str(tmp_path))

    messages, _, metrics = results[has_it]
    assert len(messages) == 1
    assert messages[0].startswith(f"rank {has_it} of 2 alone has attached {what}")
    assert results[1 - has_it][0] == []
    if what == "metrics":
        assert metrics == {"mean": 1.0}
    if what.startswith("Checkpoint"):
        assert len(list(tmp_path.glob("*.pt"))) == 1


def stop_alone(wraps: bool) -> int:
    model = nn.Linear(1, 1)
    trainer = create_supervised_trainer(
        idist.auto_model(model) if wraps else model, torch.optim.SGD(model.parameters(), 0.1), nn.functional.mse_loss
    )
    if idist.get_rank() == 0:
        attach("EarlyStopping", trainer, "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trainer.run([(torch.ones(2, 1), torch.ones(2, 1))], max_epochs=1000 if wraps else 8).iteration


def test_lone_stop() -> None:
    """It ends the run of its rank."""
    assert run_distributed(stop_alone, False) == [3, 8]


def test_lone_stop_before_a_collective() -> None:
    """It is an error if the other ranks would wait."""
    with pytest.raises(RuntimeError, match="EarlyStopping ends a run on rank 0 alone in which the ranks exchange"):
        run_distributed(stop_alone, True, timeout_s=30)


def report(run: Any) -> str:
    try:
        run()
    except (RuntimeError, RankFailed) as error:
        return str(error)
    return "no error"


def some_have_it() -> str:
    trainer = Engine(lambda engine, batch: idist.all_reduce(batch))
    if idist.get_rank() < 2:
        attach("EarlyStopping", trainer, "")
    return report(lambda: trainer.run([1.0], max_epochs=3))


def test_handler_on_some_ranks() -> None:
    """A handler on several ranks but not on all is an error on all ranks."""
    messages = run_distributed(some_have_it, ranks=3, timeout_s=60)

    words = (
        "EarlyStopping must be attached on all ranks, as often on each, or on one alone, but rank 0 has 1, rank 1 has 1"
    )
    assert all(words in message and "rank 2 has none" in message for message in messages)


def save_sharded_alone(folder: str, with_dcp: bool) -> str:
    model = nn.Linear(2, 2)
    saver = DCPSaver(folder, require_empty=False) if with_dcp else folder
    sharded = model if with_dcp else idist.auto_model(model, shard=True)
    trainer = create_supervised_trainer(sharded, torch.optim.SGD(model.parameters(), 0.1), nn.functional.mse_loss)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: idist.barrier())
    if idist.get_rank() == 0:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint({"model": sharded}, saver))
    return report(lambda: trainer.run([(torch.ones(2, 2), torch.ones(2, 2))], max_epochs=3))


@pytest.mark.parametrize(
    ("with_dcp", "reason"), [(True, "DCPSaver saves on every rank"), (False, "it saves a model that is sharded")]
)
def test_lone_checkpoint_of_a_sharded_model(with_dcp: bool, reason: str, tmp_path: Path) -> None:
    """It is an error."""
    messages = run_distributed(save_sharded_alone, str(tmp_path), with_dcp, timeout_s=60)

    assert all(f"Checkpoint must be attached on all ranks, as {reason}" in message for message in messages)
    assert not list(tmp_path.glob("*.pt"))


def run_on_one_rank() -> int:
    evaluator = Engine(lambda engine, batch: batch)
    RunningAverage(output_transform=float).attach(evaluator, "mean")  # nothing is reduced over the ranks
    trainer = Engine(lambda engine, batch: batch)
    if idist.get_rank() == 0:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
    trainer.run([1], max_epochs=2)
    return evaluator.state.iteration


def test_engine_on_one_rank() -> None:
    """An engine without collective handlers may run on one rank only."""
    assert run_distributed(run_on_one_rank) == [2, 0]


def save_beside_a_lone_guard(folder: str) -> list[str]:
    trainer = Engine(lambda engine, batch: batch)
    Checkpoint({"trainer": trainer}, folder, n_saved=None).attach(trainer, every=1)
    if idist.get_rank() == 0:
        TerminateOnNan().attach(trainer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report(lambda: trainer.run([1.0, float("nan"), 3.0] if idist.get_rank() == 0 else [1.0, 2.0, 3.0]))
    return sorted(path.name for path in Path(folder).glob("*.pt"))


def test_lone_nan_check_prevents_saves(tmp_path: Path) -> None:
    """No rank saves a state in which one rank has found a NaN."""
    results = run_distributed(save_beside_a_lone_guard, str(tmp_path), timeout_s=60)

    assert results == [["trainer_1.pt"]] * 2


def make_alone(folder: str) -> bool:
    return idist.get_rank() != 0 or DiskSaver(folder).dirname.is_dir()


def test_a_saver_can_be_made_on_one_rank(tmp_path: Path) -> None:
    assert run_distributed(make_alone, str(tmp_path / "run"), timeout_s=30) == [True, True]

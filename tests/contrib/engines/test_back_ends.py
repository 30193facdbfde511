"""One call logs a training, the same for every back-end: shown with one that keeps what it gets, and TensorBoard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import ignite_contrib.loggers
from ignite_contrib.engines import common
from ignite_contrib.engines.back_ends import BACK_ENDS
from ignite_core.engine import Engine, Events
from ignite_core.handlers import BaseLogger
from ignite_core.metrics import RunningAverage


class Kept(BaseLogger):
    """Keeps what is logged, and the arguments that it was made with."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments
        self.lines: list[tuple[int, dict[str, Any]]] = []

    def scalars(self, step: int, values: Mapping[tuple[str, ...], Any]) -> None:
        self.lines.append((step, {"/".join(key): value for key, value in values.items()}))


def with_loss() -> Engine:
    engine = Engine(lambda engine, batch: batch)
    RunningAverage(alpha=0.5, output_transform=lambda output: output).attach(engine, "loss")
    return engine


def sgd(rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1)], lr=rate)


@pytest.fixture
def trained() -> tuple[Engine, Engine]:
    """A trainer, and the evaluator that it runs after each epoch."""
    trainer, evaluator = with_loss(), with_loss()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0.25]))
    return trainer, evaluator


@pytest.mark.parametrize("name", sorted(BACK_ENDS))
def test_every_back_end_of_the_table_has_its_function(
    name: str, trained: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes the logger with the arguments that it does not know itself, and attaches it."""
    monkeypatch.setattr(ignite_contrib.loggers, BACK_ENDS[name], Kept, raising=False)
    setup = getattr(common, f"setup_{name}_logging")
    path = {"output_path": "here"} if name == "tb" else {}
    logger = setup(
        trainer=trained[0], optimizers=sgd(0.5), evaluators=trained[1], log_every_iters=2, **path, project="p"
    )
    trained[0].run([1.0, 1.0, 3.0, 3.0], max_epochs=2)

    assert logger.arguments == {"project": "p"} | ({"log_dir": "here"} if path else {})
    assert setup.__name__ == f"setup_{name}_logging"
    assert BACK_ENDS[name] in setup.__doc__ or name == "tb"
    assert logger.lines == [
        (2, {"lr/group_0": 0.5}),
        (2, {"training/loss": 1.0}),
        (4, {"lr/group_0": 0.5}),
        (4, {"training/loss": 2.5}),
        (1, {"validation/loss": 0.25}),
        (6, {"lr/group_0": 0.5}),
        (6, {"training/loss": 1.375}),
        (8, {"lr/group_0": 0.5}),
        (8, {"training/loss": 2.59375}),
        (2, {"validation/loss": 0.25}),
    ]


def test_the_table_names_loggers_that_there_are() -> None:
    assert set(BACK_ENDS.values()) <= set(ignite_contrib.loggers.__all__)


def test_several_optimizers_and_evaluators_are_told_apart_by_name_and_metrics_are_chosen(
    trained: tuple[Engine, Engine],
) -> None:
    trainer, evaluator = trained
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: trainer.state.metrics.update(other=1))
    logger = common.setup_any_logging(
        Kept(),
        None,
        trainer,
        {"g": sgd(0.5), "d": sgd(0.25)},
        {"test": evaluator},
        None,
        trainer_metric_names=["other"],
        evaluator_metric_names=["loss"],
    )
    trainer.run([1.0])

    assert isinstance(logger, Kept)
    assert logger.lines == [
        (1, {"g/lr/group_0": 0.5}),
        (1, {"d/lr/group_0": 0.25}),
        (1, {"training/other": 1}),
        (1, {"test/loss": 0.25}),
    ]


def test_an_evaluation_between_epochs_is_logged_at_the_iteration_and_one_after_the_run_at_the_epoch() -> None:
    """There, all evaluations of an epoch are logged at one and the same step."""
    trainer, evaluator = with_loss(), with_loss()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda: evaluator.run([0.25]))
    logger = common.setup_any_logging(Kept(), None, trainer, None, evaluator, 100)
    trainer.run([1.0] * 4, max_epochs=1)
    evaluator.run([0.25])

    assert isinstance(logger, Kept)
    assert [step for step, _ in logger.lines] == [2, 4, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"trainer": 3}, "trainer must be an Engine, got 3"),
        ({"optimizers": [sgd(0.1)]}, "optimizers must be an Optimizer, or a mapping of them by name"),
        ({"evaluators": {"test": 1}}, "evaluators must be an Engine, or a mapping of them by name"),
    ],
)
def test_wrong_arguments_are_told_before_a_logger_is_made(
    changed: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(ignite_contrib.loggers, "WandBLogger", lambda **_: made.append(1), raising=False)

    with pytest.raises(TypeError, match=f"setup_wandb_logging: {message}"):
        common.setup_wandb_logging(**{"trainer": with_loss(), **changed})
    assert not made


def test_tensorboard_gets_it_all(trained: tuple[Engine, Engine], tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with common.setup_tb_logging(str(tmp_path), trained[0], sgd(0.5), trained[1], log_every_iters=2):
        trained[0].run([1.0, 1.0, 3.0, 3.0])
    read = event_accumulator.EventAccumulator(str(tmp_path)).Reload()

    found = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert found == {
        "training/loss": [(2, 1.0), (4, 2.5)],
        "lr/group_0": [(2, 0.5), (4, 0.5)],
        "validation/loss": [(1, 0.25)],
    }


def test_no_back_end_is_imported_before_it_is_used() -> None:
    code = (
        "import sys; import ignite_contrib.engines.common, ignite_contrib.defaults; "
        "names = {'tensorboardX', 'tensorboard', 'mlflow', 'visdom', 'wandb', 'matplotlib'}; "
        "sys.exit(repr(names & set(sys.modules)) if names & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr

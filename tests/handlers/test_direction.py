"""Whether larger scores are better is asked of the metric, wherever a metric is named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_contrib.engines.common import add_early_stopping_by_val_score, save_best_model_by_val_score
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, EarlyStopping, ReduceLROnPlateauScheduler
from ignite_core.metrics import Accuracy, Loss, Metric, MetricGroup


class Validation:
    """A trainer whose evaluator finds the given values, epoch by epoch, as an accuracy and as a loss."""

    def __init__(self, values: list[float]) -> None:
        self.trainer = Engine(lambda engine, batch: None)
        found = iter(values)
        self.evaluator = Engine(lambda engine, batch: next(found))
        accuracy: Metric = Accuracy(lambda value: (torch.arange(10) < 10 * value, torch.ones(10).long()))
        accuracy.attach(self.evaluator, "accuracy")
        loss = Loss(lambda y_pred, y: y_pred, lambda value: (torch.tensor(value), torch.zeros(1)))
        MetricGroup({"loss": loss}).attach(self.evaluator, "group")
        self.evaluator.add_event_handler(
            Events.EPOCH_COMPLETED(priority=-1),
            lambda: self.evaluator.state.metrics.update(number=self.evaluator.state.output),
        )
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.evaluator.run([0]))

    def run(self, max_epochs: int) -> int:
        return self.trainer.run([0], max_epochs=max_epochs).epoch


@pytest.mark.parametrize(
    ("values", "metric", "epochs"),
    [
        ([0.1, 0.2, 0.3, 0.4], "accuracy", 4),
        ([0.4, 0.3, 0.2, 0.1], "accuracy", 3),
        ([0.1, 0.2, 0.3, 0.4], "loss", 3),
        ([0.4, 0.3, 0.2, 0.1], "loss", 4),
    ],
)
def test_training_ends_when_the_metric_gets_worse(values: list[float], metric: str, epochs: int) -> None:
    validation = Validation(values)
    EarlyStopping(2).attach(validation.trainer, validation.evaluator, metric=metric)
    assert validation.run(4) == epochs

    validation = Validation(values)
    add_early_stopping_by_val_score(2, validation.evaluator, validation.trainer, metric)
    assert validation.run(4) == epochs


def test_a_direction_that_is_not_known_is_asked_for() -> None:
    validation = Validation([0.5])
    EarlyStopping(2).attach(validation.trainer, validation.evaluator, metric="number")
    with pytest.raises(ValueError, match=r"mode must be given for 'number'.*pass mode='max' or mode='min'"):
        validation.run(1)

    validation = Validation([0.4, 0.3, 0.2, 0.1])
    EarlyStopping(2, mode="min").attach(validation.trainer, validation.evaluator, metric="number")
    assert validation.run(4) == 4


@pytest.mark.parametrize("sign", [None, 1.0])
def test_the_best_checkpoint_is_that_of_the_least_loss(sign: float | None, tmp_path: Path) -> None:
    """Unless the sign is given. Without a metric behind the name larger is better, as in pytorch-ignite."""
    validation = Validation([0.5, 0.25, 0.75])
    made = {"require_empty": False}
    named = [Checkpoint({"model": nn.Linear(1, 1)}, tmp_path, name, None, name, **made) for name in ("loss", "number")]
    score = Checkpoint.get_default_score_fn("loss", sign)
    signed = Checkpoint({"model": nn.Linear(1, 1)}, tmp_path, "signed", score, **made)
    for handler in (*named, signed):
        handler.attach(validation.evaluator, Events.COMPLETED)
    best = save_best_model_by_val_score(
        str(tmp_path / "best"), validation.evaluator, nn.Linear(1, 1), "loss", 1, score_sign=sign
    )
    validation.run(3)

    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "loss_model_loss=-0.2500.pt",
        "number_model_number=0.7500.pt",
        "signed_model_-0.2500.pt" if sign is None else "signed_model_0.7500.pt",
    ]
    assert best.best_checkpoint is not None
    assert best.best_checkpoint.name == f"best_model_val_loss={-0.25 if sign is None else 0.75:.4f}.pt"


@pytest.mark.parametrize(
    ("metric", "options", "lowered"),
    [("accuracy", {}, False), ("loss", {}, True), ("number", {}, True), ("accuracy", {"mode": "min"}, True)],
)
def test_the_rate_is_lowered_when_the_metric_gets_worse(metric: str, options: Any, lowered: bool) -> None:
    def build() -> tuple[torch.optim.SGD, ReduceLROnPlateauScheduler]:
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        return optimizer, ReduceLROnPlateauScheduler(optimizer, metric, patience=1, factor=0.5, **options)

    validation = Validation([0.1, 0.2, 0.3, 0.4])
    optimizer, scheduler = build()
    scheduler.attach(validation.evaluator)
    validation.run(2)
    other, resumed = build()
    resumed.load_state_dict(scheduler.state_dict())
    resumed.attach(validation.evaluator)
    validation.run(4)

    assert optimizer.param_groups[0]["lr"] == other.param_groups[0]["lr"] == (0.5 if lowered else 1.0)


def test_an_evaluator_that_is_to_end_itself_is_an_error() -> None:
    """Its run is over when the score is known, so nothing would ever be ended."""
    for event in (Events.COMPLETED, Events.EPOCH_COMPLETED):
        validation = Validation([0.5])
        stopping = EarlyStopping(2, lambda engine: 1.0, validation.evaluator)
        validation.evaluator.add_event_handler(event, stopping)
        with pytest.raises(RuntimeError, match=r"the trainer is the evaluator itself.*in whose handler"):
            validation.run(1)

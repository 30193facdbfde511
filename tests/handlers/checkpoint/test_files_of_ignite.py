"""What docs/coming_from_ignite.md says of checkpoints that pytorch-ignite 0.5.5 has saved."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import ignite_core.engine
import ignite_core.handlers
import ignite_core.metrics
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ignite.engine
    import ignite.handlers
    import ignite.metrics

DATA = [(torch.ones(2, 2), torch.ones(2, 1))] * 4
THEIRS = ignite.engine, ignite.handlers, ignite.metrics
OURS = ignite_core.engine, ignite_core.handlers, ignite_core.metrics


def build(engine: ModuleType, handlers: ModuleType, metrics: ModuleType, deterministic: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    trainer = engine.create_supervised_trainer(model, optimizer, nn.functional.mse_loss, deterministic=deterministic)
    schedule = handlers.PiecewiseLinear(optimizer, "lr", [(0, 0.1), (20, 0.0)])
    trainer.add_event_handler(engine.Events.ITERATION_STARTED, schedule)
    stopping = handlers.EarlyStopping(3, lambda engine: 1.0 / engine.state.epoch, trainer)
    trainer.add_event_handler(engine.Events.EPOCH_COMPLETED, stopping)
    ema = handlers.EMAHandler(model, 0.1)
    ema.attach(trainer)
    return {
        "trainer": trainer,
        "model": model,
        "optimizer": optimizer,
        "schedule": schedule,
        "stopping": stopping,
        "ema": ema.ema_model,
    }


def saved_by_ignite(folder: Path, deterministic: bool, **others: Any) -> tuple[Path, dict[str, Any]]:
    """The file of iteration 6 of 12, and what was saved."""
    objects = build(*THEIRS, deterministic) | others
    events = ignite.engine.Events
    save = ignite.handlers.Checkpoint(objects, ignite.handlers.DiskSaver(str(folder), require_empty=False))
    objects["trainer"].add_event_handler(events.ITERATION_COMPLETED(once=6), save)
    objects["trainer"].add_event_handler(events.ITERATION_COMPLETED(once=6), objects["trainer"].terminate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        objects["trainer"].run(DATA, max_epochs=3)
    return Path(save.last_checkpoint), objects


@pytest.mark.parametrize("deterministic", [False, True])
def test_all_but_metrics_is_loaded_and_the_run_goes_on(tmp_path: Path, deterministic: bool) -> None:
    """A deterministic one from a mapping that the program has read: its file holds arrays of numpy."""
    path, theirs = saved_by_ignite(tmp_path, deterministic)
    ours = build(*OURS, deterministic)
    source: Any = path
    if deterministic:
        with pytest.raises(CheckpointError, match="holds numpy"):
            Checkpoint.load_objects(ours, path)
        source = torch.load(path, weights_only=False)
    Checkpoint.load_objects(ours, source)

    assert torch.equal(ours["model"].weight, theirs["model"].weight)
    assert torch.equal(ours["ema"].weight, theirs["ema"].weight)
    assert ours["optimizer"].param_groups[0]["lr"] == theirs["optimizer"].param_groups[0]["lr"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a plain one runs the epoch that was cut again
        assert ours["trainer"].run(DATA).iteration == (12 if deterministic else 14)


def test_a_warm_up_of_the_ema_is_not_loaded_by_path(tmp_path: Path) -> None:
    """Its state holds an object of a class of pytorch-ignite."""
    ema = ignite.handlers.EMAHandler(nn.Linear(1, 1), 0.1, 0.5, 4)
    ema.attach(ignite.engine.Engine(lambda engine, batch: None))
    path, _ = saved_by_ignite(tmp_path, False, momentum=ema.momentum_scheduler)

    with pytest.raises(CheckpointError, match=r"holds ignite.handlers.ema_handler.EMAWarmUp"):
        Checkpoint.load_objects(build(*OURS, False), path)
    Checkpoint.load_objects(build(*OURS, False), torch.load(path, weights_only=False))


def test_states_of_metrics_are_not_loaded(tmp_path: Path) -> None:
    accuracy = ignite.metrics.Accuracy()
    accuracy.update((torch.tensor([[0.0, 1.0]]), torch.tensor([1])))
    path, _ = saved_by_ignite(tmp_path, False, accuracy=accuracy)

    with pytest.raises(CheckpointError, match="'accuracy', a Accuracy, does not accept its saved state"):
        Checkpoint.load_objects({"accuracy": ignite_core.metrics.Accuracy()}, path)
    Checkpoint.load_objects(build(*OURS, False), path)  # without it

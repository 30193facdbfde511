"""A rehearsal tries everything and leaves nothing behind."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from ignite_core.debug import dev_run, overfit, sanity_check
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint, EarlyStopping, FlightRecorder, TorchProfile
from ignite_core.metrics import Accuracy, RunningAverage
from ignite_core.rng import rng_state

WRONG: Any = dev_run


class Script:
    """A training as people write it, with all that may be left behind."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1)
        generator = torch.Generator().manual_seed(1)
        samples = [(torch.rand(4), index % 3) for index in range(40)]
        self.data = DataLoader(samples, batch_size=4, shuffle=True, generator=generator)
        self.trainer = create_supervised_trainer(self.model, self.optimizer, nn.functional.cross_entropy)
        self.evaluator = create_supervised_evaluator(self.model)
        self.metrics = [RunningAverage(output_transform=lambda loss: loss), Accuracy()]
        self.metrics[0].attach(self.trainer, "loss")
        self.metrics[1].attach(self.evaluator, "accuracy")
        self.checkpoint = Checkpoint({"model": self.model, "trainer": self.trainer}, folder)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED(every=1000), self.checkpoint)
        self.best = Checkpoint({"model": self.model}, folder / "best", score_name="accuracy")
        self.evaluator.add_event_handler(Events.COMPLETED, self.best)
        self.stopping = EarlyStopping(1, "accuracy", self.trainer)
        self.evaluator.add_event_handler(Events.COMPLETED, self.stopping)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED(every=5), self.validate)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.scheduler.step())
        self.validated: list[tuple[int, float]] = []

    def validate(self) -> None:
        self.evaluator.run(self.data)
        self.validated.append((self.evaluator.state.iteration, self.evaluator.state.metrics["accuracy"]))

    def state(self) -> dict[str, Any]:
        """All that must be as it was."""
        engines = [self.trainer, self.evaluator]
        assert self.data.generator is not None
        return {
            "engines": [
                (repr(engine.state_dict()), repr(engine.state), dict(engine.state.metrics)) for engine in engines
            ],
            "model": {name: value.tolist() for name, value in self.model.state_dict().items()},
            "modes": [part.training for part in self.model.modules()],
            "gradients": [None if one.grad is None else one.grad.tolist() for one in self.model.parameters()],
            "optimizer": repr(self.optimizer.state_dict()),
            "groups": [id(group) for group in self.optimizer.param_groups],
            "scheduler": self.scheduler.state_dict(),
            "metrics": [repr(metric.state_dict()) for metric in self.metrics],
            "stopping": dict(self.stopping.state_dict()),
            "kept": [(one.last_checkpoint, dict(one.state_dict())) for one in (self.checkpoint, self.best)],
            "savers": [one.save_handler for one in (self.checkpoint, self.best)],
            "files": sorted(str(path) for path in self.folder.rglob("*")),
            "random": (random.getstate(), {name: str(value) for name, value in rng_state().items()}),
            "loader": self.data.generator.get_state().tolist(),
            "handlers": [str(engine) for engine in engines],
        }


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are made; torch makes a folder of its own for its compiler there, now and then."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("begun", [False, True])
def test_a_dev_run_leaves_nothing_behind(tmp_path: Path, temporary: Path, begun: bool) -> None:
    script = Script(tmp_path / "run")
    if begun:
        script.trainer.run(script.data, max_epochs=2)
        script.evaluator.run(script.data)
    before = script.state()

    tried = dev_run(script.trainer, script.evaluator, data=script.data)

    assert script.state() == before
    assert list(temporary.glob("ignite_core*")) == []
    assert [count for count, _ in script.validated] == [1]
    assert tried.not_called == ()
    assert "accuracy" in tried.metrics[1]


def test_lazy_model_must_be_initialized() -> None:
    model = nn.LazyLinear(2)
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.functional.mse_loss)

    with pytest.raises(ValueError, match="initialize it before"):
        dev_run(trainer, data=[(torch.ones(3, 4), torch.ones(3, 2))])

    model(torch.ones(3, 4))
    dev_run(trainer, data=[(torch.ones(3, 4), torch.ones(3, 2))])


def test_dev_run_does_not_change_the_run(tmp_path: Path) -> None:
    """A run after a dev run has the same result as without it."""
    weights = []
    for rehearses in (False, True):
        script = Script(tmp_path / str(rehearses))
        if rehearses:
            dev_run(script.trainer, script.evaluator, data=script.data, batches=2)
        script.trainer.run(script.data, max_epochs=2)
        weights.append(script.model[0].weight.tolist())

    assert weights[0] == weights[1]


def test_rare_handlers_are_called(tmp_path: Path) -> None:
    script = Script(tmp_path)

    @script.trainer.on(Events.ITERATION_COMPLETED(once=5000))
    def unfreeze() -> None:
        raise ValueError("a slip")

    before = script.state()
    with pytest.raises(ValueError, match="a slip"):
        dev_run(script.trainer, script.evaluator, data=script.data)

    assert script.state() == before


def test_dev_run_finds_a_state_that_cannot_be_saved(tmp_path: Path) -> None:
    class Broken:
        def state_dict(self) -> dict[str, Any]:
            return {"function": lambda: None}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            """Take it."""

    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=100), Checkpoint({"broken": Broken()}, tmp_path))

    with pytest.raises(CheckpointError, match=r"broken\.function is a builtins\.function"):
        dev_run(engine, data=[1])

    assert list(tmp_path.glob("*.pt")) == []


def test_stop_requests_and_filters() -> None:
    """Requests to stop have no effect in a dry run before they are due; filters decide as in a run."""
    engine = Engine(lambda engine, batch: None)
    called: list[str] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=500), engine.terminate)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: called.append("epoch"))
    engine.add_event_handler(Events.EPOCH_COMPLETED(lambda engine, epoch: False), lambda: called.append("no"))

    tried = dev_run(engine, data=range(10))

    assert called == ["epoch"]
    assert len(tried.called) == 1
    assert [one.rpartition(" of ")[2] for one in tried.not_called] == [
        "Events.ITERATION_COMPLETED(once=500)",
        "Events.EPOCH_COMPLETED(event_filter=<lambda>)",
    ]
    assert str(tried).startswith("1 handlers were called, 2 were not")


def test_profiles_are_written_to_the_temporary_folder(tmp_path: Path, temporary: Path) -> None:
    """So are flight records."""
    engine = Engine(lambda engine, batch: torch.ones(1) / batch)
    TorchProfile(tmp_path / "profile", wait=0, warmup=1, active=1).attach(engine)
    FlightRecorder(tmp_path / "flight").attach(engine)
    engine.add_event_handler(Events.COMPLETED, lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        dev_run(engine, data=[1, 2, 3], batches=2)

    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert list(temporary.glob("ignite_core*")) == []


def test_paused_engine_continues() -> None:
    """A paused engine continues from the same place after a dry run."""
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    engine.run([1, 2, 3], max_epochs=2)

    dev_run(engine, data=[7])
    engine.run([1, 2, 3], max_epochs=2)

    assert seen == [1, 2, 7, 3, 1, 2, 3]


def test_restores_named_objects() -> None:
    """Further objects to restore can be passed."""

    class Hidden:
        """A step whose model is not found by searching its attributes."""

        def __init__(self) -> None:
            self.parts = [[nn.Linear(1, 1)]]

        def __call__(self, engine: Engine, batch: Any) -> None:
            with torch.no_grad():
                self.parts[0][0].weight += 1

    step = Hidden()
    engine, model = Engine(step), step.parts[0][0]
    weight = model.weight.item()

    dev_run(engine, data=[1], restore=[model])

    assert model.weight.item() == weight


@pytest.mark.parametrize("arguments", [{}, {"epoch_length": 50}, {"max_epochs": 3}])
def test_evaluators_are_cut(arguments: dict[str, int]) -> None:
    """Evaluators run a few iterations only, for all arguments of their run."""
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    counts: list[int] = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        counts.extend(evaluator.run(range(50), **arguments).iteration for _ in range(2))

    dev_run(trainer, evaluator, data=range(50), batches=4)

    assert counts == [4, 4]
    assert evaluator.run(range(50)).iteration == 50


def test_sanity_check_changes_nothing(tmp_path: Path, temporary: Path) -> None:
    script = Script(tmp_path / "run")
    script.model.train()
    before = script.state()

    metrics = sanity_check(script.evaluator, script.data)

    assert list(metrics) == ["accuracy"]
    assert script.state() == before
    assert list(temporary.glob("ignite_core*")) == []


def test_sanity_check_raises_errors_of_the_evaluation(tmp_path: Path) -> None:
    script = Script(tmp_path)
    script.evaluator.add_event_handler(Events.COMPLETED, lambda: 1 / 0)
    before = script.state()

    with pytest.raises(ZeroDivisionError):
        sanity_check(script.evaluator, script.data, batches=1)

    assert script.state() == before


def test_overfit_repeats_the_first_batches(tmp_path: Path) -> None:
    script = Script(tmp_path)
    before = script.state()

    data = overfit(script.data, batches=2)

    assert script.state() == before
    seen: list[Any] = []
    Engine(lambda engine, batch: seen.append(batch)).run(data, max_epochs=3)
    assert len(seen) == 6
    assert seen[0] is seen[2] is seen[4]
    assert torch.equal(seen[0][0], next(iter(script.data))[0])


def test_overfit_learns_two_batches() -> None:
    torch.manual_seed(0)
    samples = [(torch.rand(8), index % 2) for index in range(64)]
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    trainer = create_supervised_trainer(model, torch.optim.Adam(model.parameters(), 0.01), nn.functional.cross_entropy)

    state = trainer.run(overfit(DataLoader(samples, batch_size=8), batches=2), max_epochs=100)

    assert float(state.output) < 0.05


def test_wrong_arguments() -> None:
    engine = Engine(lambda engine, batch: None)
    with pytest.raises(TypeError, match="dev_run: takes engines, got 3"):
        WRONG(engine, 3, data=[1])
    with pytest.raises(ValueError, match="batches must be at least 1"):
        dev_run(engine, data=[1], batches=0)
    with pytest.raises(TypeError, match="sanity_check: batches must be an integer"):
        sanity_check(engine, [1], batches=True)
    with pytest.raises(ValueError, match="at least 3 batches, got 2; ask for fewer"):
        overfit([1, 2], batches=3)


def test_accumulated_gradients_are_restored() -> None:
    """A rehearsal in a pause, between two of three batches whose gradients are accumulated."""

    def train(rehearses: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss_fn = torch.nn.functional.mse_loss
        trainer = create_supervised_trainer(model, optimizer, loss_fn, gradient_accumulation_steps=3)
        data = [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(6)]
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.interrupt)
        trainer.run(data)
        if rehearses:
            dev_run(trainer, data=data, batches=2)
        trainer.run(data)
        return model.weight.detach()

    assert torch.equal(train(rehearses=True), train(rehearses=False))


def test_references_to_the_state_stay_valid() -> None:
    """A handler that keeps ``trainer.state`` reads the counters of the dry run, and what it sets there is undone."""
    trainer = Engine(lambda engine, batch: None)
    state, read = trainer.state, []
    state.seen, state.metrics["loss"] = 0, 1.0

    @trainer.on(Events.ITERATION_COMPLETED)
    def count() -> None:
        state.seen += 1
        state.extra = True
        state.metrics["loss"] = 2.0
        read.append(state.iteration)

    dev_run(trainer, data=range(10), batches=2)

    assert read == [1, 2]
    assert (state.seen, state.iteration, dict(state.metrics)) == (0, 0, {"loss": 1.0})
    assert trainer.state is state
    assert not hasattr(state, "extra")


def test_restores_non_persistent_buffers() -> None:
    model = torch.nn.Linear(1, 1)
    model.register_buffer("seen", torch.zeros(()), persistent=False)

    dev_run(Engine(lambda engine, batch: model.seen.add_(1)), data=range(10), restore=[model])

    assert model.seen == 0

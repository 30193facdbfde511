"""Trials that are given up: what Optuna is told, when, by whom, and how the run is left."""

from __future__ import annotations

import contextlib
import gc
import re
import sys
import weakref
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

import ignite_core.distributed as idist
import ignite_core.engine
from ignite_contrib.optuna import OptunaPruning
from ignite_core.engine import Engine, EventEnum, Events
from ignite_core.handlers import AsyncDiskSaver, Checkpoint
from ignite_core.metrics import Accuracy, Metric, total
from ignite_core.testing import run_distributed

optuna.logging.set_verbosity(optuna.logging.WARNING)

NEVER = 1e9


class Mean(Metric):
    """Of the outputs of all ranks."""

    sum = total()
    count = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        self.sum += output
        self.count += 1

    def compute(self) -> float:
        return float(self.sum / self.count)


def new_study(upper: float = NEVER, **kwargs: Any) -> optuna.Study:
    """One that prunes what is above a limit."""
    return optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=upper), **kwargs)


def echo(engine: Engine, batch: Any) -> Any:
    engine.state.metrics["loss"] = batch
    return batch


def reports(study: optuna.Study) -> dict[int, float]:
    return study.trials[-1].intermediate_values


# ----------------------------------------------------------------------------------------------- what and when it tells


class OwnEvents(EventEnum):
    HALF = "half"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Events.EPOCH_COMPLETED, {1: 3.0, 2: 3.0}),
        (Events.EPOCH_COMPLETED(every=2), {2: 3.0}),
        (Events.COMPLETED, {2: 3.0}),
        (Events.ITERATION_COMPLETED, {1: 1.0, 2: 2.0, 3: 3.0, 4: 1.0, 5: 2.0, 6: 3.0}),
        (Events.ITERATION_COMPLETED(every=4), {4: 1.0}),
        (Events.GET_BATCH_STARTED(after=0), {1: 1.0, 2: 2.0, 3: 3.0, 4: 1.0, 5: 2.0}),
        (OwnEvents.HALF, {2: 2.0, 5: 2.0}),
        (Events.TERMINATE, {5: 2.0}),
        (Events.TERMINATE_SINGLE_EPOCH, {1: 1.0}),
    ],
    ids=repr,
)
def test_it_reports_at_any_event_by_epochs_or_by_iterations(event: Any, expected: dict[int, float]) -> None:
    def objective(trial: optuna.Trial) -> float:
        trainer = Engine(echo)
        trainer.register_events(*OwnEvents)
        cut = Events.ITERATION_COMPLETED(once=5)
        if event == Events.TERMINATE:
            trainer.add_event_handler(cut, trainer.terminate)
        elif event == Events.TERMINATE_SINGLE_EPOCH:
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), trainer.terminate_epoch)

        @trainer.on(Events.ITERATION_COMPLETED(lambda engine, _: engine.epoch_iteration == 2))
        def half() -> None:
            trainer.fire_event(OwnEvents.HALF)

        trainer.add_event_handler(event, OptunaPruning(trial, "loss"))
        trainer.run([1.0, 2.0, 3.0], max_epochs=2)
        return 0.0

    study = new_study()
    study.optimize(objective, n_trials=1)

    assert reports(study) == expected


@pytest.mark.parametrize("named", [True, False], ids=["trainer named", "trainer found"])
@pytest.mark.parametrize(
    ("event", "expected"),
    [(Events.EPOCH_COMPLETED, {1: 3.0, 2: 6.0}), (Events.ITERATION_COMPLETED(every=2), {2: 2.0, 4: 4.0, 6: 6.0})],
    ids=repr,
)
def test_an_evaluator_reports_by_the_counters_of_the_trainer_that_runs_it(
    event: Any, expected: dict[int, float], named: bool
) -> None:
    def objective(trial: optuna.Trial) -> float:
        trainer, evaluator = Engine(lambda engine, batch: None), Engine(echo)
        OptunaPruning(trial, "loss", trainer=trainer if named else None).attach(evaluator)
        trainer.add_event_handler(event, lambda: evaluator.run([0.0, float(trainer.state.iteration)]))
        trainer.run(range(3), max_epochs=2)
        return 0.0

    study = new_study()
    study.optimize(objective, n_trials=1)

    assert reports(study) == expected


def test_a_trial_is_left_after_the_other_handlers_of_the_event_and_its_files_are_closed(tmp_path: Path) -> None:
    """Of the epoch that was too bad there is a line in the log and a checkpoint, written in the background, whole."""
    seen = []

    def objective(trial: optuna.Trial) -> float:
        trainer, evaluator = Engine(lambda engine, batch: None), Engine(echo)
        OptunaPruning(trial, "loss", trainer=trainer).attach(evaluator)
        log = (tmp_path / "log.txt").open("w")
        evaluator.add_event_handler(Events.COMPLETED, lambda engine: log.write(f"{engine.state.metrics['loss']}\n"))
        Checkpoint({"trainer": trainer}, AsyncDiskSaver(tmp_path / "saved")).attach(trainer, Events.EPOCH_STARTED)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([trainer.state.epoch]))

        @trainer.on(Events.COMPLETED | Events.EXCEPTION_RAISED)
        def close(engine: Engine, *error: BaseException) -> None:
            seen.extend([type(one) for one in error])
            log.close()

        trainer.run(range(3), max_epochs=9)
        return 0.0

    study = new_study(upper=2.5)
    study.optimize(objective, n_trials=1)

    assert study.trials[0].state is optuna.trial.TrialState.PRUNED
    assert reports(study) == {1: 1.0, 2: 2.0, 3: 3.0}
    assert seen == [optuna.TrialPruned]
    assert (tmp_path / "log.txt").read_text().split() == ["1", "2", "3"]
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["trainer_6.pt", "trainer_6.pt.json"]


def test_a_trial_that_is_not_pruned_goes_on_and_its_value_counts() -> None:
    def objective(trial: optuna.Trial) -> float:
        trainer = Engine(echo)
        OptunaPruning(trial, "loss").attach(trainer, Events.EPOCH_COMPLETED)
        return float(trainer.run([trial.suggest_float("x", 0, 1)], max_epochs=3).metrics["loss"])

    study = new_study(upper=1.5)
    study.optimize(objective, n_trials=3)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    assert [trial.value for trial in study.trials] == [trial.params["x"] for trial in study.trials]


def test_a_study_of_the_other_direction_would_prune_the_best_and_is_refused() -> None:
    def objective(trial: optuna.Trial) -> float:
        evaluator = Engine(lambda engine, batch: (torch.eye(2), torch.arange(2)))
        Accuracy().attach(evaluator, "accuracy")
        OptunaPruning(trial, "accuracy").attach(evaluator)
        return evaluator.run([0]).metrics["accuracy"]

    with pytest.raises(ValueError, match=r"to minimize, but higher values of 'accuracy'.*direction='maximize'"):
        optuna.create_study().optimize(objective, n_trials=1)
    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=1)
    assert study.best_value == 1


def test_a_nan_is_told_as_it_is() -> None:
    """What to make of it is the business of the pruner: this one prunes it."""

    def objective(trial: optuna.Trial) -> float:
        trainer = Engine(echo)
        OptunaPruning(trial, "loss").attach(trainer, Events.EPOCH_COMPLETED)
        trainer.run([float("nan") if trial.number == 1 else 1.0], max_epochs=2)
        return 1.0

    study = new_study()
    study.optimize(objective, n_trials=2)

    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]


# ------------------------------------------------------------------------------------------------------- several ranks


class Told:
    """A trial that notes which rank talks to it, and gives up at a step."""

    def __new__(cls, at: int) -> Any:
        class Trial(optuna.trial.FixedTrial):
            asked: list[tuple[int, float, int]] = []  # noqa: RUF012 - one a class, and a class for each

            def report(self, value: float, step: int) -> None:
                self.asked.append((idist.get_rank(), value, step))

            def should_prune(self) -> bool:
                return self.asked[-1][2] >= at

        return Trial({})


def prune_on_ranks(folder: str, at: int, on_iterations: bool) -> dict[str, Any]:
    """What one rank sees of a trial that the first one gives up."""
    rank = idist.get_rank()
    trial = Told(at) if rank == 0 else None
    trainer, evaluator = Engine(lambda engine, batch: batch), Engine(lambda engine, batch: batch)
    Mean().attach(evaluator, "mean")
    OptunaPruning(trial, "mean", trainer=trainer).attach(evaluator)
    event = Events.ITERATION_COMPLETED if on_iterations else Events.EPOCH_COMPLETED
    trainer.add_event_handler(event, lambda: evaluator.run([float(10 * rank + trainer.state.epoch)]))
    file = (Path(folder) / str(rank)).open("w")
    exchanged = []

    @trainer.on(Events.EXCEPTION_RAISED)
    def close_together(engine: Engine, error: BaseException) -> None:
        exchanged.append(idist.all_reduce(1))
        file.close()

    try:
        trainer.run(range(2), max_epochs=5)
        raised = None
    except Exception as error:
        raised = type(error).__name__
    return {
        "raised": raised,
        "iteration": trainer.state.iteration,
        "asked": [] if trial is None else trial.asked,
        "closed": file.closed,
        "exchanged": [*exchanged, idist.all_reduce(1)],
    }


@pytest.mark.parametrize("on_iterations", [False, True])
def test_all_ranks_leave_by_trial_pruned_after_the_same_event_and_only_the_first_talks_to_optuna(
    on_iterations: bool, tmp_path: Path
) -> None:
    """Together: they can talk to each other in handlers of the error, and after it."""
    first, second = run_distributed(prune_on_ranks, str(tmp_path), 3, on_iterations)

    iteration = 3 if on_iterations else 6
    assert {**first, "asked": None} == {
        "raised": "TrialPruned",
        "iteration": iteration,
        "asked": None,
        "closed": True,
        "exchanged": [2, 2],
    }
    assert second == {**first, "asked": []}
    epochs = [1, 1, 2] if on_iterations else [1, 2, 3]
    assert first["asked"] == [(0, 5.0 + epoch, step) for step, epoch in enumerate(epochs, start=1)]


def sweep_on_ranks() -> list[Any]:
    """As docs/sweeps.md has it: the first rank has the study, the others follow."""

    def objective(trial: optuna.Trial | None) -> float:
        x = idist.broadcast(0.0 if trial is None else trial.suggest_float("x", 0, 1))
        trainer = Engine(lambda engine, batch: x * batch)
        Mean().attach(trainer, "mean")
        OptunaPruning(trial, "mean").attach(trainer, Events.EPOCH_COMPLETED)
        mean: float = trainer.run([1.0, 3.0], max_epochs=2).metrics["mean"]
        seen.append(mean)
        return mean

    seen: list[Any] = []
    if idist.get_rank() == 0:
        study = new_study(upper=1.0, sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(objective, n_trials=6)
        return [*seen, [trial.state.name for trial in study.trials]]
    for _ in range(6):
        with contextlib.suppress(optuna.TrialPruned):
            objective(None)
    return seen


def test_a_whole_sweep_runs_on_several_ranks() -> None:
    (*first, states), second = run_distributed(sweep_on_ranks)

    assert first == second
    assert len(first) == states.count("COMPLETE")
    assert set(states) == {"COMPLETE", "PRUNED"}


def fail_on_first_rank() -> str:
    class Broken(optuna.trial.FixedTrial):
        def report(self, value: float, step: int) -> None:
            raise OSError("the database is gone")

    trainer = Engine(echo)
    OptunaPruning(Broken({}) if idist.get_rank() == 0 else None, "loss").attach(trainer, Events.EPOCH_COMPLETED)
    with pytest.raises((OSError, RuntimeError)) as caught:
        trainer.run([1.0])
    return f"{type(caught.value).__name__}: {caught.value}"


def test_where_optuna_itself_fails_the_other_ranks_hear_of_it() -> None:
    first, second = run_distributed(fail_on_first_rank)

    assert first == "OSError: the database is gone"
    assert second.startswith("RankFailed: rank 0 of 2 has failed")
    assert "the database is gone" in second


# ------------------------------------------------------------------------------------------------- mistakes, and memory


def test_what_is_no_trial_no_name_and_no_engine_is_refused() -> None:
    trial = optuna.trial.FixedTrial({})
    with pytest.raises(TypeError, match=r"^OptunaPruning: on rank 0 trial must be .* got None$"):
        OptunaPruning(None, "loss")
    with pytest.raises(TypeError, match=r"^OptunaPruning: metric must be the name of a metric, got 3$"):
        OptunaPruning(trial, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^OptunaPruning: trainer must be an Engine, got 'trainer'$"):
        OptunaPruning(trial, "loss", trainer="trainer")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^OptunaPruning.attach: engine must be an Engine, got 7$"):
        OptunaPruning(trial, "loss").attach(7)  # type: ignore[arg-type]


def make_distributed_trial() -> str:
    from optuna_integration import TorchDistributedTrial

    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        trial = TorchDistributedTrial(optuna.trial.FixedTrial({}) if idist.get_rank() == 0 else None)
    if idist.get_rank() == 0:
        with pytest.raises(TypeError) as caught:
            OptunaPruning(trial, "loss")
        return str(caught.value)
    OptunaPruning(trial, "loss")
    return ""


def test_a_trial_that_would_wait_for_ranks_that_are_not_asked_is_refused() -> None:
    """Its every call is a collective, but the other ranks ask nothing."""
    assert "for a TorchDistributedTrial, the trial that it wraps" in run_distributed(make_distributed_trial)[0]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, ValueError, r"OptunaPruning: the engine has no metric 'acc', its metrics are \['loss'\]; attach"),
        ([1.0, 2.0], TypeError, r"OptunaPruning: the metric 'acc' must be a number, got \[1.0, 2.0\]"),
        (torch.ones(2), TypeError, r"OptunaPruning: the metric 'acc' must be a number, got tensor"),
    ],
    ids=["missing", "list", "tensor"],
)
def test_a_metric_that_is_missing_or_no_number_is_named(value: Any, error: type[Exception], message: str) -> None:
    trainer = Engine(echo)
    OptunaPruning(optuna.trial.FixedTrial({}), "acc").attach(trainer, Events.EPOCH_COMPLETED)
    if value is not None:
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: engine.state.metrics.update(acc=value))
    with pytest.raises(error, match=message):
        trainer.run([1.0])


def test_the_trainer_is_not_kept_alive_and_missed_where_it_is_needed() -> None:
    trainer, evaluator = Engine(echo), Engine(echo)
    OptunaPruning(optuna.trial.FixedTrial({}), "loss", trainer=trainer).attach(evaluator)
    seen = weakref.ref(trainer)
    del trainer
    gc.collect()

    assert seen() is None
    with pytest.raises(RuntimeError, match=r"the trainer no longer exists; keep a reference to it"):
        evaluator.run([1.0])


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "optuna"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    message = "OptunaPruning needs the package 'optuna': pip install 'ignite-core[optuna]'"
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        OptunaPruning(None, "loss")


# ------------------------------------------------------------------------------------ the handler of optuna-integration


def their_handler() -> Any:
    pytest.importorskip("ignite.engine")  # first: it warns while it is imported, which is allowed here alone
    return pytest.importorskip("optuna_integration").PyTorchIgnitePruningHandler


def sweep_with_their_handler(library: Any) -> list[tuple[str, dict[int, float], dict[str, Any]]]:
    """Six trials, validated after each epoch, of which the bad ones are pruned."""
    handler_class = their_handler()

    def objective(trial: optuna.Trial) -> float:
        slope = trial.suggest_float("slope", 0.1, 1.0)
        trainer, evaluator = library.Engine(lambda engine, batch: None), library.Engine(echo)
        evaluator.add_event_handler(library.Events.COMPLETED, handler_class(trial, "loss", trainer))

        @trainer.on(library.Events.EPOCH_COMPLETED)
        def validate() -> None:
            evaluator.run([slope * trainer.state.epoch])

        trainer.run(range(2), max_epochs=4)
        return slope

    study = new_study(upper=1.5, sampler=optuna.samplers.RandomSampler(seed=3))
    study.optimize(objective, n_trials=6)
    return [(trial.state.name, trial.intermediate_values, trial.params) for trial in study.trials]


def test_the_handler_of_optuna_integration_does_on_our_engine_what_it_does_on_pytorch_ignite() -> None:
    ours = sweep_with_their_handler(ignite_core.engine)
    theirs = sweep_with_their_handler(pytest.importorskip("ignite.engine"))

    assert ours == theirs
    assert {state for state, _, _ in ours} == {"COMPLETE", "PRUNED"}


def test_the_handler_of_optuna_integration_leaves_our_run_as_ours_does() -> None:
    """It asks an engine for nothing but its state; pytorch-ignite must be installed, but no engine of it is needed."""
    handler_class, closed = their_handler(), []

    def objective(trial: optuna.Trial) -> float:
        trainer = Engine(echo)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, handler_class(trial, "loss", trainer))
        trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: closed.append(type(error)))
        trainer.run([2.0])
        return 0.0

    study = new_study(upper=1.0)
    study.optimize(objective, n_trials=1)

    assert (study.trials[0].state.name, closed) == ("PRUNED", [optuna.TrialPruned])


def test_nothing_is_reported_when_it_is_detached() -> None:
    study = optuna.create_study()
    trial, engine = study.ask(), Engine(lambda engine, loss: engine.state.metrics.update(loss=loss))
    with OptunaPruning(trial, "loss").attach(engine, Events.ITERATION_COMPLETED):
        engine.run([0.5])
    engine.run([0.25, 0.125])

    assert study.trials[0].intermediate_values == {1: 0.5}

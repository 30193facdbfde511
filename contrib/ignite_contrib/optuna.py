"""Trials of Optuna that end early, on all ranks together."""

from __future__ import annotations

import weakref
from typing import Any

import ignite_core.distributed as idist
from ignite_contrib._require import require
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import few
from ignite_core.handlers import clock_of, global_step_from_engine
from ignite_core.metrics import find_metric

__all__ = ["OptunaPruning"]


class OptunaPruning:
    """Tells a trial of Optuna how it is going, and leaves the run where its pruner gives it up.

    Attach it at any event: each time it reports a metric of the engine it is attached to. Where the trial is to be
    pruned, :class:`optuna.TrialPruned` leaves the run, after all other handlers of the event; handlers of
    ``EXCEPTION_RAISED`` run, so whoever has opened a file closes it.

    The step of a report is the epoch of the trainer at events of an epoch, and its iteration at all others. For an
    evaluator that runs in a handler of the trainer it follows from the event of that handler.

    On several ranks the first one alone talks to Optuna, and needs the trial; the others are told what it decided, and
    all of them raise after the same event.

    Args:
        trial: What Optuna calls the objective with, an :class:`optuna.trial.Trial`. Ranks but the first ignore it, and
            may pass None.
        metric: Name of a metric of the engine that this is attached to; the direction of the study says what is better.
        trainer: Whose counters number the reports; by default those of the engine that this is attached to or, for an
            evaluator, of the one that runs it.

    Raises:
        ModuleNotFoundError: If Optuna is not installed.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> def objective(trial):
        ...     trainer = Engine(lambda engine, loss: engine.state.metrics.update(loss=loss))
        ...     pruning = OptunaPruning(trial, "loss", trainer=trainer)
        ...     trainer.add_event_handler(Events.ITERATION_COMPLETED, pruning)
        ...     return trainer.run([0.5, 0.7, 1.5, 0.1]).metrics["loss"]
        >>> study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1.0))
        >>> study.optimize(objective, n_trials=1)
        >>> study.trials[0].state.name, study.trials[0].intermediate_values
        ('PRUNED', {1: 0.5, 2: 0.7, 3: 1.5})
    """

    #: What others do at the same event, they have done before the run is left.
    event_priority = -1000

    collective = "OptunaPruning"

    def __init__(self, trial: Any, metric: str, trainer: Engine | None = None) -> None:
        optuna = require("optuna", extra="optuna", feature="OptunaPruning")
        if idist.get_rank() == 0:
            _check_trial(trial, optuna)
        if not isinstance(metric, str):
            raise TypeError(f"OptunaPruning: metric must be the name of a metric, got {metric!r}")
        if trainer is not None and not isinstance(trainer, Engine):
            raise TypeError(f"OptunaPruning: trainer must be an Engine, got {trainer!r}")
        self._trial = trial
        self._metric = metric
        self._trainer = None if trainer is None else weakref.ref(trainer)  # it may hold this
        self._pruned: type[Exception] = optuna.TrialPruned

    def attach(self, engine: Engine, event: Any = Events.COMPLETED) -> None:
        """Report at an event of an engine; by default that is the end of each run of an evaluator.

        Raises:
            TypeError: If ``engine`` is no engine.
        """
        if not isinstance(engine, Engine):
            raise TypeError(f"OptunaPruning.attach: engine must be an Engine, got {engine!r}")
        engine.add_event_handler(event, self)

    def __call__(self, engine: Engine, *extras: Any) -> None:
        """Report the metric; raise if the trial is to be pruned.

        Raises:
            optuna.TrialPruned: On all ranks.
            ValueError: If the engine has no such metric, or the study takes its other direction for better.
            TypeError: If its value is no number.
        """
        value = self._value(engine)
        clock = self._clock(engine)
        step = global_step_from_engine(clock, fallback_attr="iteration")(engine, clock.last_event_name)
        if idist.get_rank() == 0:
            self._check_direction(engine)
        if idist.broadcast(self._is_given_up(value, step) if idist.get_rank() == 0 else False):
            raise idist.agreed(self._pruned(f"pruned at step {step}, where {self._metric} is {value}"))

    def _check_direction(self, engine: Engine) -> None:
        """A study of the other direction would give up the best trials."""
        metric = find_metric(engine, self._metric)
        directions = [one.name.lower() for one in getattr(getattr(self._trial, "study", None), "directions", ())]
        if metric is None or metric.higher_is_better is None or len(directions) != 1:
            return
        better, right = ("higher", "maximize") if metric.higher_is_better else ("lower", "minimize")
        if directions != [right]:
            raise ValueError(
                f"OptunaPruning: the study is to {directions[0]}, but {better} values of {self._metric!r} are better: "
                f"the best trials would be pruned; report another metric, or create_study(direction={right!r})"
            )

    def _is_given_up(self, value: float, step: int) -> bool:
        """What Optuna decides."""
        self._trial.report(value, step)
        return bool(self._trial.should_prune())

    def _value(self, engine: Engine) -> float:
        metrics = engine.state.metrics
        if self._metric not in metrics:
            raise ValueError(
                f"OptunaPruning: the engine has no metric {self._metric!r}, its metrics are {few(sorted(metrics))}; "
                "attach that metric to the engine whose event this listens to"
            )
        value = metrics[self._metric]
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"OptunaPruning: the metric {self._metric!r} must be a number, got {value!r}") from error

    def _clock(self, engine: Engine) -> Engine:
        if self._trainer is None:
            return clock_of(engine)
        trainer = self._trainer()
        if trainer is None:
            raise RuntimeError("OptunaPruning: the trainer that numbers the reports is gone; keep a reference to it")
        return trainer


def _check_trial(trial: Any, optuna: Any) -> None:
    """Refuse what is no trial, and one that would talk to ranks which do not listen."""
    if isinstance(trial, optuna.trial.BaseTrial) and type(trial).__name__ != "TorchDistributedTrial":
        return
    raise TypeError(
        "OptunaPruning: on the first rank trial must be what Optuna calls the objective with (for a "
        f"TorchDistributedTrial, the trial that it was made of), got {trial!r}"
    )

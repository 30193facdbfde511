"""Prune trials of Optuna, on all ranks at the same event."""

from __future__ import annotations

import weakref
from typing import Any

import ignite_core.distributed as idist
from ignite_contrib._require import require
from ignite_core.engine import Engine, Events, RemovableEventHandle
from ignite_core.exceptions import few
from ignite_core.handlers import clock_of, global_step_from_engine
from ignite_core.metrics import find_metric

__all__ = ["OptunaPruning"]


class OptunaPruning:
    """Reports a metric to a trial of Optuna, and raises :class:`optuna.TrialPruned` if its pruner decides so.

    Attach it at any event: each time it reports a metric of the engine it is attached to. It runs after all other
    handlers of the event. The exception ends the run like any other: handlers of ``EXCEPTION_RAISED`` are called.

    The step of a report is the epoch of the trainer at events of an epoch, and its iteration at all others. For an
    evaluator that runs in a handler of the trainer, the event of that handler decides.

    Only rank 0 calls Optuna and needs the trial; its decision is broadcast, and all ranks raise after the same event.

    Args:
        trial: The :class:`optuna.trial.Trial` that the objective is called with. Other ranks ignore it, and may pass
            None.
        metric: Name of a metric of the engine that this is attached to; the direction of the study says what is better.
        trainer: Engine whose epoch or iteration is the step; by default the engine that this is attached to or, for an
            evaluator, the engine that runs it.

    Raises:
        ModuleNotFoundError: If Optuna is not installed.
        TypeError: If an argument has the wrong type.

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

    #: Runs after the other handlers of the event, since it may raise.
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

    def attach(self, engine: Engine, event: Any = Events.COMPLETED) -> RemovableEventHandle:
        """Report at an event of an engine; the default is the end of each run of an evaluator.

        Returns:
            A handle that detaches it.

        Raises:
            TypeError: If ``engine`` is not an Engine.
        """
        if not isinstance(engine, Engine):
            raise TypeError(f"OptunaPruning.attach: engine must be an Engine, got {engine!r}")
        return engine.add_event_handler(event, self)

    def __call__(self, engine: Engine, *extras: Any) -> None:
        """Report the metric.

        Raises:
            optuna.TrialPruned: If the trial is pruned, on all ranks.
            ValueError: If the engine has no such metric, or the study has the opposite direction.
            TypeError: If its value is not a number.
        """
        value = self._value(engine)
        clock = self._clock(engine)
        step = global_step_from_engine(clock, fallback_attr="iteration")(engine, clock.last_event_name)
        is_pruned = False
        if idist.get_rank() == 0:
            self._check_direction(engine)
            self._trial.report(value, step)
            is_pruned = bool(self._trial.should_prune())
        if idist.broadcast(is_pruned):
            raise idist.agreed(self._pruned(f"pruned at step {step}, where {self._metric} is {value}"))

    def _check_direction(self, engine: Engine) -> None:
        """Raise ValueError if the study has the opposite direction of the metric: it would prune the best trials."""
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

    def _value(self, engine: Engine) -> float:
        metrics = engine.state.metrics
        if self._metric not in metrics:
            raise ValueError(
                f"OptunaPruning: the engine has no metric {self._metric!r}, its metrics are {few(sorted(metrics))}; "
                "attach that metric to the engine that this is attached to"
            )
        value = metrics[self._metric]
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"OptunaPruning: the metric {self._metric!r} must be a number, got {value!r}") from error

    def _clock(self, engine: Engine) -> Engine:
        clock = clock_of(engine) if self._trainer is None else self._trainer()
        if clock is None:
            raise RuntimeError("OptunaPruning: the trainer no longer exists; keep a reference to it")
        return clock


def _check_trial(trial: Any, optuna: Any) -> None:
    if isinstance(trial, optuna.trial.BaseTrial) and type(trial).__name__ != "TorchDistributedTrial":
        return  # the calls of that one are collectives, which the other ranks would not join
    raise TypeError(
        "OptunaPruning: on rank 0 trial must be the trial that Optuna calls the objective with (for a "
        f"TorchDistributedTrial, the trial that it wraps), got {trial!r}"
    )

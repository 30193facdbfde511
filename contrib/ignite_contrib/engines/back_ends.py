"""Log a training to any back-end with one call.

Which back-ends there are stands in one table, ``BACK_ENDS``; the functions are made from it. A back-end is imported
when its function is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch.optim import Optimizer

from ignite_core.engine import Engine, Events
from ignite_core.handlers import BaseLogger, global_step_from_engine

__all__ = [
    "BACK_ENDS",
    "setup_any_logging",
    "setup_clearml_logging",
    "setup_mlflow_logging",
    "setup_neptune_logging",
    "setup_plx_logging",
    "setup_tb_logging",
    "setup_visdom_logging",
    "setup_wandb_logging",
]

Optimizers = Optimizer | Mapping[Any, Optimizer] | None
Evaluators = Engine | Mapping[str, Engine] | None


#: The class in :mod:`ignite_contrib.loggers`, by the name in ``setup_…_logging``.
BACK_ENDS: Final = {
    "clearml": "ClearMLLogger",
    "mlflow": "MLflowLogger",
    "neptune": "NeptuneLogger",
    "plx": "PolyaxonLogger",
    "tb": "TensorboardLogger",
    "visdom": "VisdomLogger",
    "wandb": "WandBLogger",
}


def setup_any_logging(
    logger: BaseLogger,
    logger_module: Any,
    trainer: Engine,
    optimizers: Optimizers = None,
    evaluators: Evaluators = None,
    log_every_iters: int | None = 100,
    *,
    trainer_metric_names: str | list[str] = "all",
    evaluator_metric_names: str | list[str] = "all",
) -> BaseLogger:
    """Log metrics and learning rates of a training to a logger of any kind, of your own too.

    Args:
        logger: Where they go.
        logger_module: Nothing; it stands here for older scripts.
        trainer: Its metrics are logged as ``training/…``, every so many iterations.
        optimizers: Their learning rates are logged then; of several by name, as ``name/lr/group_0``.
        evaluators: Their metrics are logged when their runs are completed, as ``validation/…`` or by name. The step is
            the epoch of the trainer, or its iteration, if it runs them between two epochs.
        log_every_iters: Iterations between two entries; None for 1.
        trainer_metric_names: Names of metrics of the trainer.
        evaluator_metric_names: And of the evaluators.

    Returns:
        The logger; close it at the end.

    Raises:
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> class Screen(BaseLogger):
        ...     def scalars(self, step, values):
        ...         print(step, {"/".join(key): value for key, value in values.items()})
        >>> from ignite_core.metrics import RunningAverage
        >>> trainer, evaluator = Engine(lambda engine, batch: batch), Engine(lambda engine, batch: batch)
        >>> for engine in (trainer, evaluator):
        ...     RunningAverage(output_transform=lambda loss: loss).attach(engine, "loss")
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0.25]))
        >>> logger = setup_any_logging(Screen(), None, trainer, None, evaluator, log_every_iters=2)
        >>> state = trainer.run([1.0, 1.0])
        2 {'training/loss': 1.0}
        1 {'validation/loss': 0.25}
    """
    of_optimizers, of_evaluators = _by_name("setup_any_logging", trainer, optimizers, evaluators)
    every = log_every_iters or 1
    at = Events.ITERATION_COMPLETED(every=every)
    logger.attach_output_handler(trainer, at, tag="training", metric_names=trainer_metric_names)
    for name, optimizer in of_optimizers.items():
        logger.attach_opt_params_handler(trainer, Events.ITERATION_STARTED(every=every), optimizer, "lr", tag=name)
    for name, evaluator in of_evaluators.items():
        logger.attach_output_handler(
            evaluator,
            Events.COMPLETED,
            tag=name,
            metric_names=evaluator_metric_names,
            global_step_transform=_step_of_evaluation(trainer),
        )
    return logger


def _by_name(
    where: str, trainer: Any, optimizers: Any, evaluators: Any
) -> tuple[Mapping[Any, Optimizer], Mapping[Any, Engine]]:
    """Optimizers and evaluators by the names that they are logged under.

    Raises:
        TypeError: If one of them is something else.
    """
    if not isinstance(trainer, Engine):
        raise TypeError(f"{where}: trainer must be an Engine, got {trainer!r}")
    return (
        _named(where, "optimizers", optimizers, Optimizer, None),
        _named(where, "evaluators", evaluators, Engine, "validation"),
    )


def _named(where: str, what: str, given: Any, kind: type, name: str | None) -> Mapping[Any, Any]:
    named = {} if given is None else {name: given} if isinstance(given, kind) else given
    if not isinstance(named, Mapping) or not all(isinstance(one, kind) for one in named.values()):
        raise TypeError(f"{where}: {what} must be an {kind.__name__}, or a mapping of them by name, got {given!r}")
    return named


def _step_of_evaluation(trainer: Engine) -> Callable[[Engine, Any], int]:
    """The epoch of the trainer, also after its run; its iteration where it runs the evaluator between two epochs."""
    of_trainer = global_step_from_engine(trainer)

    def step(evaluator: Engine, event: Any) -> int:
        return of_trainer(evaluator, trainer.last_event_name if evaluator.parent is trainer else event)

    return step


def _setup(name: str) -> Callable[..., Any]:
    """The function that logs to one of ``BACK_ENDS``."""
    class_name = BACK_ENDS[name]

    def setup(
        trainer: Engine,
        optimizers: Optimizers = None,
        evaluators: Evaluators = None,
        log_every_iters: int | None = 100,
        *,
        trainer_metric_names: str | list[str] = "all",
        evaluator_metric_names: str | list[str] = "all",
        **kwargs: Any,
    ) -> Any:
        _by_name(f"setup_{name}_logging", trainer, optimizers, evaluators)  # before a connection is opened
        logger = getattr(importlib.import_module("ignite_contrib.loggers"), class_name)(**kwargs)
        return setup_any_logging(
            logger,
            None,
            trainer,
            optimizers,
            evaluators,
            log_every_iters,
            trainer_metric_names=trainer_metric_names,
            evaluator_metric_names=evaluator_metric_names,
        )

    setup.__name__ = setup.__qualname__ = f"setup_{name}_logging"
    setup.__doc__ = f"""Log metrics and learning rates with a :class:`~ignite_contrib.loggers.{class_name}`.

    Args:
        trainer: As of :func:`setup_any_logging`, as are all others.
        kwargs: Its arguments.

    Returns:
        The logger; close it at the end.
    """
    return setup


setup_clearml_logging = _setup("clearml")
setup_mlflow_logging = _setup("mlflow")
setup_neptune_logging = _setup("neptune")
setup_plx_logging = _setup("plx")
setup_visdom_logging = _setup("visdom")
setup_wandb_logging = _setup("wandb")


def setup_tb_logging(output_path: str, trainer: Engine, *args: Any, **kwargs: Any) -> Any:
    """Log metrics and learning rates of a training to TensorBoard.

    Args:
        output_path: The folder.
        trainer: As of :func:`setup_any_logging`.
        args: As of :func:`setup_any_logging`, from ``optimizers`` on.
        kwargs: As there, too; all others are arguments of :class:`~ignite_contrib.loggers.TensorboardLogger`.

    Returns:
        The logger; close it at the end.
    """
    return _setup("tb")(trainer, *args, log_dir=output_path, **kwargs)

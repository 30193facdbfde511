"""Log a training to any back-end with one call.

The functions are made from the table ``BACK_ENDS``. A back-end is imported when its function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from torch.optim import Optimizer

from ignite_contrib import loggers
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

#: Class in :mod:`ignite_contrib.loggers` for each name in ``setup_…_logging``.
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
    """Log metrics and learning rates of a training to any logger.

    Args:
        logger: The logger.
        logger_module: Ignored, for compatibility with pytorch-ignite.
        trainer: Engine whose metrics are logged as ``training/…``.
        optimizers: Optimizers whose learning rates are logged; several by name, as ``name/lr/group_0``.
        evaluators: Engines whose metrics are logged when their runs are completed, as ``validation/…`` or by name. The
            step is the epoch of the trainer, or its iteration if they run between two epochs.
        log_every_iters: Iterations between two values of metrics and learning rates of the trainer; None means 1.
        trainer_metric_names: Names of metrics of the trainer, or ``"all"``.
        evaluator_metric_names: Names of metrics of the evaluators, or ``"all"``.

    Returns:
        The logger; close it at the end.

    Raises:
        TypeError: If an argument has the wrong type.

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
    named_optimizers, named_evaluators = _by_name("setup_any_logging", trainer, optimizers, evaluators)
    every = log_every_iters or 1
    event = Events.ITERATION_COMPLETED(every=every)
    logger.attach_output_handler(trainer, event, tag="training", metric_names=trainer_metric_names)
    for name, optimizer in named_optimizers.items():
        logger.attach_opt_params_handler(trainer, Events.ITERATION_STARTED(every=every), optimizer, "lr", tag=name)
    trainer_step = global_step_from_engine(trainer)

    def step(evaluator: Engine, event: Any) -> int:
        return trainer_step(evaluator, trainer.last_event_name if evaluator.parent is trainer else event)

    for name, evaluator in named_evaluators.items():
        logger.attach_output_handler(
            evaluator, Events.COMPLETED, tag=name, metric_names=evaluator_metric_names, global_step_transform=step
        )
    return logger


def _by_name(
    where: str, trainer: Any, optimizers: Any, evaluators: Any
) -> tuple[Mapping[Any, Optimizer], Mapping[Any, Engine]]:
    """Optimizers and evaluators by the names that they are logged under; TypeError if one is something else."""
    if not isinstance(trainer, Engine):
        raise TypeError(f"{where}: trainer must be an Engine, got {trainer!r}")
    return (
        _named(where, "optimizers", optimizers, Optimizer, None),
        _named(where, "evaluators", evaluators, Engine, "validation"),
    )


def _named(where: str, argument: str, value: Any, type_: type, name: str | None) -> Mapping[Any, Any]:
    named = {} if value is None else {name: value} if isinstance(value, type_) else value
    if not isinstance(named, Mapping) or not all(isinstance(one, type_) for one in named.values()):
        raise TypeError(f"{where}: {argument} must be an {type_.__name__}, or a mapping of them by name, got {value!r}")
    return named


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
        return setup_any_logging(
            getattr(loggers, class_name)(**kwargs),
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

    The arguments are those of :func:`setup_any_logging`, and those of the logger by keyword. Returns the logger; close
    it at the end.
    """
    return setup


setup_clearml_logging = _setup("clearml")
setup_mlflow_logging = _setup("mlflow")
setup_neptune_logging = _setup("neptune")
setup_plx_logging = _setup("plx")
setup_visdom_logging = _setup("visdom")
setup_wandb_logging = _setup("wandb")


def setup_tb_logging(output_path: str, trainer: Engine, *args: Any, **kwargs: Any) -> Any:
    """Log metrics and learning rates with a :class:`~ignite_contrib.loggers.TensorboardLogger`.

    Args:
        output_path: The folder of the event files.
        trainer: Engine whose metrics are logged.
        args: Arguments of :func:`setup_any_logging`, from ``optimizers`` on.
        kwargs: Keyword arguments of :func:`setup_any_logging` and of the logger.

    Returns:
        The logger; close it at the end.
    """
    return _setup("tb")(trainer, *args, log_dir=output_path, **kwargs)

"""Set up a trainer: functions with the names and arguments of pytorch-ignite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ignite_contrib import loggers
from ignite_contrib.engines.back_ends import (
    setup_any_logging,
    setup_clearml_logging,
    setup_mlflow_logging,
    setup_neptune_logging,
    setup_plx_logging,
    setup_tb_logging,
    setup_visdom_logging,
    setup_wandb_logging,
)
from ignite_contrib.engines.outputs import picker
from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    BaseSaveHandler,
    Checkpoint,
    DiskSaver,
    EarlyStopping,
    TerminateOnNan,
    global_step_from_engine,
)
from ignite_core.metrics import GpuInfo, RunningAverage

__all__ = [
    "add_early_stopping_by_val_score",
    "gen_save_best_models_by_val_score",
    "save_best_model_by_val_score",
    "setup_any_logging",
    "setup_clearml_logging",
    "setup_common_distrib_training_handlers",
    "setup_common_training_handlers",
    "setup_mlflow_logging",
    "setup_neptune_logging",
    "setup_plx_logging",
    "setup_tb_logging",
    "setup_visdom_logging",
    "setup_wandb_logging",
]


def setup_common_training_handlers(
    trainer: Engine,
    train_sampler: Any = None,
    to_save: Mapping[str, Any] | None = None,
    save_every_iters: int = 1000,
    output_path: str | None = None,
    lr_scheduler: Any = None,
    with_gpu_stats: bool = False,
    output_names: Iterable[str] | None = None,
    with_pbars: bool = True,
    with_pbar_on_iters: bool = True,
    log_every_iters: int | None = 100,
    stop_on_nan: bool = True,
    clear_cuda_cache: bool = True,
    save_handler: Callable[..., Any] | BaseSaveHandler | None = None,
    **kwargs: Any,
) -> None:
    """Attach what most trainings need: a NaN guard, a schedule, checkpoints, running averages and progress bars.

    Call it on all ranks; rank 0 saves and draws.

    Args:
        trainer: The engine.
        train_sampler: An object with ``set_epoch``, called with ``epoch - 1`` each epoch. Only needed for a loader that
            hides its sampler: the engine sets the epoch of the sampler of a DataLoader.
        to_save: Objects by name, see :class:`~ignite_core.handlers.Checkpoint`. Include the trainer.
        save_every_iters: Iterations between two checkpoints. Only the newest is kept, unless ``kwargs`` say otherwise.
        output_path: The folder for checkpoints. Excludes ``save_handler``.
        lr_scheduler: A scheduler of torch, whose ``step()`` is called after each iteration, or a handler that is called
            before each.
        with_gpu_stats: Attach :class:`~ignite_core.metrics.GpuInfo` as ``"gpu"``.
        output_names: Names of the values that the step returns, as keys of a mapping, in the order of a sequence, or of
            a single value. A :class:`~ignite_core.metrics.RunningAverage` of each is attached under its name.
        with_pbars: Draw a bar of the epochs.
        with_pbar_on_iters: Also draw a bar of the iterations, with all metrics.
        log_every_iters: Iterations between two updates of the bar and of ``GpuInfo``; None means 1.
        stop_on_nan: Stop the run when the output is NaN or infinite.
        clear_cuda_cache: Call :func:`torch.cuda.empty_cache` after each epoch. It takes time, and helps only if another
            process uses the same GPU.
        save_handler: The save handler of the :class:`~ignite_core.handlers.Checkpoint`. Excludes ``output_path``.
        kwargs: Further arguments of :class:`~ignite_core.handlers.Checkpoint`, such as ``n_saved``.

    Raises:
        TypeError: If ``train_sampler`` or ``lr_scheduler`` has the wrong type.
        ValueError: If both ``output_path`` and ``save_handler`` are given, or neither although there is ``to_save``.

    Example:
        >>> trainer = Engine(lambda engine, batch: {"loss": 1 / batch})
        >>> setup_common_training_handlers(trainer, output_names=["loss"], with_pbars=False)
        >>> round(trainer.run([1.0, 2.0, 4.0]).metrics["loss"], 4)
        0.9752
    """
    where, every = "setup_common_training_handlers", log_every_iters or 1
    if output_path is not None and save_handler is not None:
        raise ValueError(f"{where}: output_path and save_handler exclude each other, got both")
    if to_save is not None and output_path is None and save_handler is None:
        raise ValueError(f"{where}: to_save needs a place: pass output_path or save_handler, got neither")
    if stop_on_nan:
        TerminateOnNan().attach(trainer)
    if lr_scheduler is not None:
        _attach_scheduler(where, trainer, lr_scheduler)
    if train_sampler is not None:
        if not callable(getattr(train_sampler, "set_epoch", None)):
            raise TypeError(f"{where}: train_sampler must have set_epoch, got {train_sampler!r}")
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: train_sampler.set_epoch(engine.state.epoch - 1))
    if clear_cuda_cache and torch.cuda.is_available():
        trainer.add_event_handler(Events.EPOCH_COMPLETED, torch.cuda.empty_cache)
    if to_save is not None:
        saver: Any = save_handler if output_path is None else DiskSaver(output_path, require_empty=False)
        checkpoint = Checkpoint(to_save, saver, **{"filename_prefix": "training", **kwargs})
        checkpoint.attach(trainer, every=save_every_iters)
    if with_gpu_stats:
        GpuInfo().attach(trainer, "gpu", Events.ITERATION_COMPLETED(every=every))
    for index, name in enumerate(output_names or ()):
        RunningAverage(output_transform=picker(where, index, name)).attach(trainer, name)
    if with_pbars:
        if with_pbar_on_iters:
            event = Events.ITERATION_COMPLETED(every=every)
            loggers.ProgressBar().attach(trainer, metric_names="all", event_name=event)
        bar = loggers.ProgressBar(persist=True)
        bar.attach(trainer, event_name=Events.EPOCH_STARTED, closing_event_name=Events.COMPLETED)


#: The name in older scripts; one function serves one process and many.
setup_common_distrib_training_handlers = setup_common_training_handlers


def _attach_scheduler(where: str, trainer: Engine, scheduler: Any) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError(f"{where}: ReduceLROnPlateau needs a metric, which is not known here; call step in a handler")
    if isinstance(scheduler, LRScheduler):
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: scheduler.step())
    elif callable(scheduler):
        trainer.add_event_handler(Events.ITERATION_STARTED, scheduler)
    else:
        raise TypeError(f"{where}: lr_scheduler must be a scheduler of torch, or a handler, got {scheduler!r}")


def gen_save_best_models_by_val_score(
    save_handler: Callable[..., Any] | BaseSaveHandler,
    evaluator: Engine,
    models: nn.Module | Mapping[str, nn.Module],
    metric_name: str,
    n_saved: int | None = 3,
    trainer: Engine | None = None,
    tag: str = "val",
    score_sign: float | None = None,
    **kwargs: Any,
) -> Checkpoint:
    """Save the models with the best scores of an evaluator.

    Args:
        save_handler: The save handler of the :class:`~ignite_core.handlers.Checkpoint`.
        evaluator: The engine with the metric; its score is read when its run is completed.
        models: A model, called ``"model"`` in file names, or models by name.
        metric_name: Name of the metric.
        n_saved: Number of checkpoints to keep.
        trainer: The engine whose epoch is in file names.
        tag: Prefix of the metric in file names: ``best_model_3_val_accuracy=0.9123.pt``.
        score_sign: 1.0, or -1.0 if smaller scores are better; by default the metric decides, see
            :meth:`Checkpoint.get_default_score_fn <ignite_core.handlers.Checkpoint.get_default_score_fn>`.
        kwargs: Further arguments of :class:`~ignite_core.handlers.Checkpoint`.

    Returns:
        The handler.
    """
    arguments = {
        "filename_prefix": "best",
        "n_saved": n_saved,
        "global_step_transform": None if trainer is None else global_step_from_engine(trainer),
        "score_name": f"{tag}_{metric_name.lower()}",
        "score_function": Checkpoint.get_default_score_fn(metric_name, score_sign),
    }
    to_save = {"model": models} if isinstance(models, nn.Module) else models
    checkpoint = Checkpoint(to_save, save_handler, **{**arguments, **kwargs})
    checkpoint.attach(evaluator, Events.COMPLETED)
    return checkpoint


def save_best_model_by_val_score(
    output_path: str,
    evaluator: Engine,
    model: nn.Module,
    metric_name: str,
    n_saved: int | None = 3,
    trainer: Engine | None = None,
    tag: str = "val",
    score_sign: float | None = None,
    **kwargs: Any,
) -> Checkpoint:
    """Save the models with the best scores of an evaluator to a folder, which need not be empty.

    The other arguments are those of :func:`gen_save_best_models_by_val_score`. Returns the handler.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> scores = iter([0.5, 0.75, 0.625])
        >>> trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
        >>> @evaluator.on(Events.EPOCH_COMPLETED)
        ... def score():
        ...     evaluator.state.metrics["accuracy"] = next(scores)
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model = nn.Linear(1, 1)
        ...     best = save_best_model_by_val_score(folder, evaluator, model, "accuracy", n_saved=1, trainer=trainer)
        ...     state = trainer.run([0], max_epochs=3)
        ...     [path.name for path in Path(folder).glob("*.pt")]
        ['best_model_2_val_accuracy=0.7500.pt']
    """
    saver = DiskSaver(output_path, require_empty=False)
    return gen_save_best_models_by_val_score(
        saver, evaluator, model, metric_name, n_saved, trainer, tag, score_sign, **kwargs
    )


def add_early_stopping_by_val_score(
    patience: int, evaluator: Engine, trainer: Engine, metric_name: str, score_sign: float | None = None
) -> EarlyStopping:
    """Stop a training when a metric of an evaluator does not improve any more.

    Args:
        patience: Number of evaluations in a row without improvement after which the run stops.
        evaluator: The engine with the metric; its score is read when its run is completed.
        trainer: The engine that is stopped. The count restarts with each new run.
        metric_name: Name of the metric.
        score_sign: 1.0, or -1.0 if smaller scores are better; by default the metric decides, see
            :meth:`Checkpoint.get_default_score_fn <ignite_core.handlers.Checkpoint.get_default_score_fn>`.

    Returns:
        The handler; save it with the other objects, so that a resumed training continues the count.
    """
    stopping = EarlyStopping(patience, Checkpoint.get_default_score_fn(metric_name, score_sign), trainer)
    stopping.attach(trainer, evaluator)
    return stopping

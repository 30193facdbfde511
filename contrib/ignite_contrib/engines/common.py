"""Set up a trainer the usual way, each part with one call."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

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

# ------------------------------------------------------------------------------------------------------------- training


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
    """Attach what most trainings want: a NaN guard, a schedule, checkpoints, running averages and progress bars.

    Call it on all ranks; rank 0 saves and draws.

    Args:
        trainer: The engine.
        train_sampler: Needed for a loader that hides its sampler only: of a DataLoader that ``run`` is given, the
            engine tells the sampler each epoch itself. Anything with ``set_epoch``, told ``epoch - 1``.
        to_save: Names and objects, as of :class:`~ignite_core.handlers.Checkpoint`. Have the trainer among them.
        save_every_iters: Iterations from one checkpoint to the next; the newest stays, unless ``kwargs`` say otherwise.
        output_path: The folder for checkpoints. Excludes ``save_handler``.
        lr_scheduler: One of torch, whose ``step()`` is called after each iteration, or a handler that is called before
            it.
        with_gpu_stats: Attach :class:`~ignite_core.metrics.GpuInfo` as ``"gpu"``.
        output_names: Names for what the step returns, a mapping with these keys, as many values in a sequence, or a
            single one: a :class:`~ignite_core.metrics.RunningAverage` of each is attached under its name.
        with_pbars: Draw a bar of the epochs.
        with_pbar_on_iters: And one of the iterations, with all metrics.
        log_every_iters: Iterations between two looks at the metrics and the GPUs; None for 1.
        stop_on_nan: End the run when the output is NaN or infinite.
        clear_cuda_cache: Give unused GPU memory back after each epoch. That costs time, and helps those only who share
            the GPU with another process.
        save_handler: Where checkpoints go, as of :class:`~ignite_core.handlers.Checkpoint`. Excludes ``output_path``.
        kwargs: More arguments of :class:`~ignite_core.handlers.Checkpoint`, such as ``n_saved``.

    Raises:
        TypeError: If ``train_sampler`` or ``lr_scheduler`` is something else.
        ValueError: If there is something to save and no place for it, or two.

    Example:
        >>> trainer = Engine(lambda engine, batch: {"loss": 1 / batch})
        >>> setup_common_training_handlers(trainer, output_names=["loss"], with_pbars=False)
        >>> round(trainer.run([1.0, 2.0, 4.0]).metrics["loss"], 4)
        0.9752
    """
    where, every = "setup_common_training_handlers", log_every_iters or 1
    saver = _saver(where, to_save, output_path, save_handler)
    if stop_on_nan:
        TerminateOnNan().attach(trainer)
    if lr_scheduler is not None:
        _attach_schedule(where, trainer, lr_scheduler)
    if train_sampler is not None:
        _attach_sampler(where, trainer, train_sampler)
    if clear_cuda_cache and torch.cuda.is_available():
        trainer.add_event_handler(Events.EPOCH_COMPLETED, torch.cuda.empty_cache)
    if to_save is not None:
        checkpoint = Checkpoint(to_save, saver, **{"filename_prefix": "training", **kwargs})
        checkpoint.attach(trainer, every=save_every_iters)
    if with_gpu_stats:
        GpuInfo().attach(trainer, "gpu", Events.ITERATION_COMPLETED(every=every))
    for index, name in enumerate(output_names or ()):
        RunningAverage(output_transform=picker(where, index, name)).attach(trainer, name)
    if with_pbars:
        _attach_bars(trainer, every if with_pbar_on_iters else None)


#: As it is called in older scripts; one function serves one process and many.
setup_common_distrib_training_handlers = setup_common_training_handlers


def _saver(where: str, to_save: Any, output_path: Any, save_handler: Any) -> Any:
    if output_path is not None and save_handler is not None:
        raise ValueError(f"{where}: output_path and save_handler exclude each other, got both")
    if to_save is not None and output_path is None and save_handler is None:
        raise ValueError(f"{where}: to_save needs a place: give output_path or save_handler, got neither")
    if output_path is None or to_save is None:
        return save_handler
    return DiskSaver(output_path, require_empty=False)


def _attach_schedule(where: str, trainer: Engine, scheduler: Any) -> None:
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError(
            f"{where}: ReduceLROnPlateau needs a metric, which is not known here; call its step in a handler"
        )
    if isinstance(scheduler, LRScheduler):
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: scheduler.step())
    elif callable(scheduler):
        trainer.add_event_handler(Events.ITERATION_STARTED, scheduler)
    else:
        raise TypeError(f"{where}: lr_scheduler must be a scheduler of torch, or a handler, got {scheduler!r}")


def _attach_sampler(where: str, trainer: Engine, sampler: Any) -> None:
    if not callable(getattr(sampler, "set_epoch", None)):
        raise TypeError(f"{where}: train_sampler must have set_epoch, got {sampler!r}")
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: sampler.set_epoch(engine.state.epoch - 1))


def _attach_bars(trainer: Engine, every: int | None) -> None:
    """A bar of the epochs, and one of the iterations if so many of them move it."""
    bar = importlib.import_module("ignite_contrib.loggers").ProgressBar
    if every is not None:
        bar().attach(trainer, metric_names="all", event_name=Events.ITERATION_COMPLETED(every=every))
    bar(persist=True).attach(trainer, event_name=Events.EPOCH_STARTED, closing_event_name=Events.COMPLETED)


# ----------------------------------------------------------------------------------------------------------- validation


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
        save_handler: Where they go, as of :class:`~ignite_core.handlers.Checkpoint`.
        evaluator: The engine whose metric is the score; looked at when its run is completed.
        models: A model, called ``"model"`` in file names, or models by name.
        metric_name: The name of the metric.
        n_saved: How many stay.
        trainer: Whose epoch stands in file names.
        tag: Stands before the name of the metric in file names: ``best_model_3_val_accuracy=0.9123.pt``.
        score_sign: 1.0, or -1.0 for what is better when it is smaller; by default the metric says so, as of
            :meth:`Checkpoint.get_default_score_fn <ignite_core.handlers.Checkpoint.get_default_score_fn>`.
        kwargs: More arguments of :class:`~ignite_core.handlers.Checkpoint`.

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
    """Save the models with the best scores of an evaluator in a folder.

    Args:
        output_path: The folder; it need not be empty.
        evaluator: The engine whose metric is the score.
        model: The model.
        metric_name: The name of the metric.
        n_saved: How many stay.
        trainer: Whose epoch stands in file names.
        tag: As of :func:`gen_save_best_models_by_val_score`, as are the others.
        score_sign: As there.
        kwargs: As there.

    Returns:
        The handler.

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
    return gen_save_best_models_by_val_score(
        DiskSaver(output_path, require_empty=False),
        evaluator,
        model,
        metric_name,
        n_saved,
        trainer,
        tag,
        score_sign,
        **kwargs,
    )


def add_early_stopping_by_val_score(
    patience: int, evaluator: Engine, trainer: Engine, metric_name: str, score_sign: float | None = None
) -> EarlyStopping:
    """End the training when a metric of an evaluator does not get better any more.

    Args:
        patience: So many evaluations in a row without improvement end it.
        evaluator: The engine whose metric is the score; looked at when its run is completed.
        trainer: The engine whose run is ended. A new run of it begins anew.
        metric_name: The name of the metric.
        score_sign: 1.0, or -1.0 for what is better when it is smaller; by default the metric says so, as of
            :meth:`Checkpoint.get_default_score_fn <ignite_core.handlers.Checkpoint.get_default_score_fn>`.

    Returns:
        The handler; save it with the rest, and a resumed training counts on.
    """
    stopping = EarlyStopping(patience, Checkpoint.get_default_score_fn(metric_name, score_sign), trainer)
    stopping.attach(trainer, evaluator)
    return stopping

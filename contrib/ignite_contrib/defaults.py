"""Attach what most trainings need with one call."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import ignite_core.distributed as idist
from ignite_contrib import loggers
from ignite_contrib._require import require
from ignite_contrib.curves import draw_curves
from ignite_contrib.engines.outputs import named_outputs, picker
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, EarlyStopping, Resumed, resume
from ignite_core.metrics import Average, find_metric

__all__ = ["Defaults"]

#: Shortest time in seconds between two drawings of the curves, except for the one at the end.
_DRAW_EVERY_S = 60.0

_LAST = -1_000  # priority

_LOSS = "loss"


class Defaults:
    """A progress bar, a CSV file, checkpoints, early stopping and a plot of the curves, in one folder.

    =================== ===========================================================================================
    ``checkpoint_*.pt`` The newest state of everything, saved after each epoch. When the same script is started again,
                        it resumes from there; a finished run is not continued.
    ``best_model.pt``   The weights with the best score: ``model.load_state_dict(torch.load(path))``.
    ``metrics.csv``     After each epoch, ``training/…`` and ``validation/…``: ``step, name, value``.
    ``curves.png``      A plot of ``metrics.csv``.
    =================== ===========================================================================================

    Args:
        folder: The folder, used by this run only.
        metric: Name of the metric of the evaluator that is the score, ``"loss"`` by default.
        mode: ``"min"`` if smaller scores are better, ``"max"`` if larger ones are. By default ``higher_is_better`` of
            the metric decides; required if that is not set.
        patience: Number of evaluations in a row without improvement after which the training stops; None: no limit.
        outputs: Names of the values that the step returns, as keys of a mapping, in the order of a sequence, or of a
            single value. They are shown beside the bar, and their means over the epoch and all ranks are metrics of
            the trainer. Without names the output is not used.
        bar: Draw a progress bar.
        checkpoint: Save checkpoints, and resume from them.
        resume: Resume from the newest checkpoint. False: train from the start; ``metrics.csv`` and ``best_model.pt``
            are replaced, older checkpoints stay in the folder.
        keep: Hyperparameters for which the values of the script are used instead of the saved ones, such as
            ``("lr",)``, see :func:`~ignite_core.handlers.resume`.
        csv: Write the CSV file.
        curves: Draw the plot.

    Attributes:
        checkpoint: The handler that saves the newest state, once attached, as for
            :class:`~ignite_core.handlers.StopOnSignal`; None if there is none.
        best: The handler that saves the best weights; None if there is none.
        early_stopping: The handler that stops the training; None if there is none.

    Raises:
        ModuleNotFoundError: If tqdm or matplotlib is needed and not installed.
        ValueError: If ``curves`` is True and ``csv`` is False, or ``mode`` is not ``"min"``, ``"max"`` or None.

    Example:
        >>> import tempfile
        >>> from torch import nn, ones, optim
        >>> from ignite_core.engine import create_supervised_evaluator, create_supervised_trainer
        >>> from ignite_core.metrics import Loss
        >>> def train(folder, max_epochs):
        ...     model = nn.Linear(1, 1)
        ...     optimizer = optim.SGD(model.parameters(), lr=0.1)
        ...     trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss)
        ...     evaluator = create_supervised_evaluator(model, {"loss": Loss(nn.functional.mse_loss)})
        ...     data = [(ones(4, 1), ones(4, 1))]
        ...     handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(data))
        ...     resumed = Defaults(folder, bar=False, curves=False).attach(trainer, evaluator)
        ...     return resumed.epoch, trainer.run(data, max_epochs=max_epochs).epoch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(train(folder, 2), train(folder, 5), sorted(path.name for path in Path(folder).iterdir())[::2])
        (0, 2) (2, 5) ['best_model.pt', 'checkpoint_5.pt', 'metrics.csv']
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        metric: str | None = None,
        mode: Literal["min", "max"] | None = None,
        patience: int | None = 10,
        outputs: Sequence[str] = ("loss",),
        bar: bool = True,
        checkpoint: bool = True,
        resume: bool = True,
        keep: Collection[str] = (),
        csv: bool = True,
        curves: bool = True,
    ) -> None:
        if curves and not csv:
            raise ValueError("Defaults: curves are drawn from the CSV file, got csv=False; pass curves=False too")
        if isinstance(outputs, str):
            raise TypeError(f"Defaults: outputs must be a list of names, got {outputs!r}")
        if mode not in (None, "min", "max"):
            raise ValueError(f"Defaults: mode must be 'min' or 'max', got {mode!r}")
        if curves:
            require("matplotlib", extra="plot", feature="Defaults(curves=True)")
        self.folder = Path(folder).expanduser()
        self.metric = metric
        self.mode = mode
        self.outputs = tuple(outputs)
        self.checkpoint: Checkpoint | None = None
        self.best: Checkpoint | None = None
        self.early_stopping = None if patience is None else EarlyStopping(patience, metric or _LOSS, mode=mode)
        self._wants = {"bar": bar, "checkpoint": checkpoint, "resume": resume, "csv": csv, "curves": curves}
        self._keep = keep
        self._next_drawing = 0.0

    def attach(
        self, trainer: Engine, evaluator: Engine | None = None, to_save: Mapping[str, Any] | None = None
    ) -> Resumed:
        """Attach everything, and load the newest checkpoint if there is one. Call it on all ranks, just before the run.

        Args:
            trainer: The engine that trains.
            evaluator: The engine with the scores, run by a handler of the trainer. Without it there is neither a best
                model nor early stopping.
            to_save: Objects to save besides the trainer, by name, such as a schedule. Model and optimizer of a trainer
                made by :func:`~ignite_core.engine.create_supervised_trainer` are saved without being named.

        Returns:
            A description of what was loaded, which can be printed.

        Raises:
            ValueError: If there is nothing to save, ``metric`` is given without an evaluator, or its direction is not
                known.
            CheckpointError: If there are checkpoints, but none that can be used.
        """
        if not isinstance(trainer, Engine) or not isinstance(evaluator, Engine | None):
            raise TypeError(f"Defaults.attach: takes engines, got {trainer!r} and {evaluator!r}")
        if evaluator is None and self.metric is not None:
            raise ValueError(
                f"Defaults.attach: there must be an evaluator with the metric {self.metric!r}, got none; pass "
                "attach(trainer, evaluator), or leave metric out"
            )
        averages = {name: Average(picker("Defaults", place, name)) for place, name in enumerate(self.outputs)}
        for name, average in averages.items():
            average.attach(trainer, name)
        if evaluator is None:
            self.early_stopping = None
        else:
            self.mode = self.mode or self._direction(evaluator)
            trainer.add_event_handler(Events.COMPLETED(priority=_LAST), _warn_if_never_run, evaluator)
        if self.early_stopping is not None:
            self.early_stopping.mode = self.mode
            self.early_stopping.attach(trainer, evaluator)

        resumed = Resumed()
        if self._wants["checkpoint"]:
            objects = {**getattr(trainer.process_function, "to_save", {}), **(to_save or {})}
            handlers = {"averages": averages, "early_stopping": self.early_stopping}
            resumed = self._attach_checkpoints(trainer, evaluator, objects, handlers)
        if self._wants["csv"]:
            self._attach_files(trainer, evaluator, is_new=resumed.path is None)
        if self._wants["bar"]:
            self._attach_bar(trainer)
        return resumed

    def _direction(self, evaluator: Engine) -> Literal["min", "max"]:
        name = self.metric or _LOSS
        metric = find_metric(evaluator, name)
        is_higher = None if metric is None else metric.higher_is_better
        if is_higher is None and name != _LOSS:
            found = "does not say" if metric is not None else "is not attached to the evaluator (yet)"
            raise ValueError(
                f"Defaults.attach: mode must be given for {name!r}, as a metric of this name {found}: whether higher "
                "values are better is not known; pass Defaults(..., mode='max') or mode='min'"
            )
        return "max" if is_higher else "min"

    def _attach_checkpoints(
        self, trainer: Engine, evaluator: Engine | None, objects: Mapping[str, Any], handlers: Mapping[str, Any]
    ) -> Resumed:
        if not objects:
            raise ValueError(
                "Defaults.attach: the objects to save are not known from this trainer; pass "
                "to_save={'model': model, 'optimizer': optimizer}, or Defaults(..., checkpoint=False)"
            )
        everything = {**objects, **{name: handler for name, handler in handlers.items() if handler}, "trainer": trainer}
        self.checkpoint = Checkpoint(everything, self.folder, require_empty=False)
        self.checkpoint.attach(trainer, Events.EPOCH_COMPLETED)
        if evaluator is not None and "model" in objects:
            score = Checkpoint.get_default_score_fn(self.metric or _LOSS, 1.0 if self.mode == "max" else -1.0)
            model, pattern = {"model": objects["model"]}, "best_{name}.{ext}"
            self.best = Checkpoint(model, self.folder, "best", score, filename_pattern=pattern, require_empty=False)
            self.best.attach(evaluator, Events.COMPLETED)
        if not self._wants["resume"]:
            return Resumed()
        resumed = resume(trainer, everything, self.folder, checkpoint=self.best or (), keep=self._keep)
        stopping = self.early_stopping
        if stopping is not None and stopping.counter < stopping.patience:
            trainer.reopen()  # patience was increased after the run ended
        return resumed

    def _attach_files(self, trainer: Engine, evaluator: Engine | None, is_new: bool) -> None:
        path = self.folder / "metrics.csv"
        if is_new and idist.get_rank() == 0:
            path.unlink(missing_ok=True)
        logger = loggers.CSVLogger(path)
        logger.attach_output_handler(trainer, Events.EPOCH_COMPLETED, tag="training", metric_names="all")
        if evaluator is not None:
            logger.attach_output_handler(evaluator, Events.COMPLETED, tag="validation", metric_names="all")
        if self._wants["curves"] and idist.get_rank() == 0:
            events = Events.EPOCH_COMPLETED(priority=_LAST) | Events.COMPLETED(priority=_LAST)
            trainer.add_event_handler(events, self._draw)

    def _draw(self, trainer: Engine) -> None:
        now = time.monotonic()
        if trainer.last_event_name == Events.COMPLETED or now >= self._next_drawing:
            draw_curves(self.folder / "metrics.csv", self.folder / "curves.png")
            self._next_drawing = now + _DRAW_EVERY_S

    def _attach_bar(self, trainer: Engine) -> None:
        shown = named_outputs("Defaults", self.outputs) if self.outputs else None
        loggers.ProgressBar(persist=True).attach(trainer, output_transform=shown)


def _warn_if_never_run(evaluator: Engine) -> None:
    if evaluator.state.iteration == 0 and idist.get_rank() == 0:
        warnings.warn(
            "Defaults: the evaluator was not run, so there is neither a best model nor early stopping; run it in a "
            "handler: trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(data))",
            stacklevel=2,
        )

"""End the training when a score no longer improves."""

from __future__ import annotations

import logging
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from numbers import Real
from typing import Any, Literal

from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle, weak_call
from ignite_core.exceptions import few
from ignite_core.handlers._arguments import check_engine, check_keys, choice, integer, number
from ignite_core.handlers._direction import higher_is_better

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """Ends the training when a score has not improved for a number of evaluations.

    A NaN or infinite score is no improvement. On several ranks the score of rank 0 counts, so that all ranks take the
    same decision: the evaluation must run on all ranks.

    Args:
        patience: How many evaluations in a row without improvement end the training.
        score_function: ``score_function(engine) -> score``, called with the engine whose event triggers this handler;
            or the name of a metric of that engine.
        trainer: The engine whose run is ended.
        min_delta: The smallest improvement that counts, at least 0.
        cumulative_delta: Measure ``min_delta`` from the last improvement instead of from the best score.
        min_delta_mode: ``"abs"``: ``min_delta`` is a difference; ``"rel"``: a fraction of the magnitude of the best
            score.
        mode: ``"max"``: larger scores are better; ``"min"``: smaller ones. The default is ``"max"`` for a score
            function, and follows ``higher_is_better`` for a metric.
        threshold: Another name of ``min_delta``.
        cumulative: Another name of ``cumulative_delta``.
        threshold_mode: Another name of ``min_delta_mode``.

    Attributes:
        counter: Evaluations since the last improvement.
        best_score: The score that the next improvement is measured from; None if there was no score.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is too small, a mode is unknown, or an argument is given under both of its names.

    Example:
        >>> trainer = Engine(lambda engine, batch: None)
        >>> scores = iter([0.5, 0.7, 0.7, 0.6, 0.9])
        >>> stopping = EarlyStopping(patience=2, score_function=lambda engine: next(scores), trainer=trainer)
        >>> handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, stopping)
        >>> trainer.run([1, 2], max_epochs=5).epoch, stopping.best_score
        (4, 0.7)
    """

    collective = "EarlyStopping"

    def __init__(
        self,
        patience: int,
        score_function: Callable[[Engine], Any] | str | None = None,
        trainer: Engine | None = None,
        min_delta: float | None = None,
        cumulative_delta: bool | None = None,
        min_delta_mode: Literal["abs", "rel"] | None = None,
        mode: Literal["max", "min"] | None = None,
        *,
        threshold: float | None = None,
        cumulative: bool | None = None,
        threshold_mode: Literal["abs", "rel"] | None = None,
    ) -> None:
        if not (score_function is None or callable(score_function) or isinstance(score_function, str)):
            raise TypeError(
                f"EarlyStopping: score_function must be a callable or the name of a metric, got {score_function!r}"
            )
        self.patience = integer("EarlyStopping", "patience", patience, least=1)
        self.score_function = score_function
        delta = _one_of("min_delta", min_delta, "threshold", threshold, 0.0)
        delta_mode = _one_of("min_delta_mode", min_delta_mode, "threshold_mode", threshold_mode, "abs")
        self.min_delta = number("EarlyStopping", "min_delta", delta, least=0)
        self.min_delta_mode = choice("EarlyStopping", "min_delta_mode", delta_mode, ("abs", "rel"))
        self.cumulative_delta = bool(_one_of("cumulative_delta", cumulative_delta, "cumulative", cumulative, False))
        mode = "max" if mode is None and callable(score_function) else mode
        self.mode = None if mode is None else choice("EarlyStopping", "mode", mode, ("max", "min"))
        self.counter = 0
        self.best_score: float | None = None
        self.logger = logging.getLogger(f"{__name__}.{type(self).__name__}")
        self._trainer: weakref.ref[Engine] | None = None  # the trainer may hold this handler
        self._attached = 0
        self._before_attach: tuple[Any, Any, Any] = (None, None, None)  # what detaching restores
        self._is_loaded = False
        if trainer is not None:
            self._set_trainer(trainer)

    @property
    def trainer(self) -> Engine | None:
        """The engine whose run is ended."""
        return None if self._trainer is None else self._trainer()

    def attach(
        self,
        engine: Engine,
        evaluator: Any = None,
        reset_engine: Engine | None = None,
        reset_event: EventName = Events.STARTED,
        *,
        event: EventName = Events.COMPLETED,
        metric: str | None = None,
    ) -> RemovableHandle:
        """Check the score at the end of each evaluation, and reset at the start of a new run of the trainer.

        Args:
            engine: The trainer if ``evaluator`` is given; otherwise the engine that has the score.
            evaluator: The engine that has the score, which runs in a handler of the trainer; or ``event``.
            reset_engine: The engine that resets the counter and the best score, by default the trainer.
            reset_event: When they are reset. At ``STARTED`` they are kept if the run continues or was loaded.
            event: When to check the score.
            metric: The name of the metric of the evaluator to use as score, instead of a score function.

        Returns:
            A handle that detaches it.

        Raises:
            TypeError: If ``engine`` is not an Engine.
            ValueError: If there is no score, two scores, or no trainer.

        Example:
            >>> from ignite_core.metrics import Accuracy
            >>> trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: batch)
            >>> _ = Accuracy().attach(evaluator, "accuracy")
            >>> handle = EarlyStopping(patience=10).attach(trainer, evaluator, metric="accuracy")
        """
        check_engine("EarlyStopping.attach", engine)
        if self._attached == 0:
            self._before_attach = self._trainer, self.score_function, self.mode
        with ExitStack() as attached:
            self._attached += 1
            attached.callback(weak_call(self._detach, [engine]))
            if isinstance(evaluator, Engine):
                self._set_trainer(engine)
                engine = evaluator
            elif evaluator is not None:
                event = evaluator
            self._set_metric(metric)
            trainer = self.trainer
            if trainer is None:
                raise ValueError("EarlyStopping.attach: there is no trainer; call attach(trainer, evaluator)")
            attached.enter_context(engine.add_event_handler(event, self))
            reset_engine = reset_engine or trainer
            attached.enter_context(reset_engine.add_event_handler(reset_event, self._reset_for_run))
            return RemovableHandle(attached.pop_all().close)

    def _detach(self, engine: Engine) -> None:
        self._attached -= 1
        if self._attached == 0:
            self._trainer, self.score_function, self.mode = self._before_attach

    def __call__(self, engine: Engine) -> None:
        """Take the score of an evaluation into account, and end the training if the patience is exhausted."""
        trainer = self._trainer_of(engine)
        score = self._score(engine)
        if self.mode is None:
            self.mode = _mode_of_metric(engine, str(self.score_function))
        if self._improves(score):
            self.counter = 0
            return
        self.counter += 1
        self.logger.debug("EarlyStopping: %d of %d evaluations without improvement", self.counter, self.patience)
        if self.counter >= self.patience:
            if not trainer.is_running:
                raise RuntimeError(
                    "EarlyStopping: the training must be ended now, but the trainer is not running; run the evaluator "
                    "in a handler of the trainer"
                )
            self.logger.info("EarlyStopping: the best score is %s; the run ends", self.best_score)
            trainer.terminate(final=True)

    def reset(self) -> None:
        """Reset the counter and the best score."""
        self.counter = 0
        self.best_score = None

    def state_dict(self) -> OrderedDict[str, Any]:
        """``counter`` and ``best_score``."""
        return OrderedDict(counter=self.counter, best_score=self.best_score)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict`, also of pytorch-ignite.

        Raises:
            TypeError: If it is not a mapping, or a value is not a number.
            ValueError: If a key is missing.
        """
        check_keys("EarlyStopping", state_dict, ["counter", "best_score"])
        counter, best = state_dict["counter"], state_dict["best_score"]
        counter, best = integer("EarlyStopping", "counter", counter, least=0), None if best is None else _number(best)
        self.counter, self.best_score = counter, best
        self._is_loaded = True

    def _set_trainer(self, trainer: Engine) -> None:
        check_engine("EarlyStopping", trainer, "trainer")
        if self.trainer not in (None, trainer):
            raise ValueError("EarlyStopping.attach: it already has another trainer; create one for each trainer")
        self._trainer = weakref.ref(trainer)

    def _set_metric(self, metric: str | None) -> None:
        if metric is not None and self.score_function not in (None, metric):
            raise ValueError(
                f"EarlyStopping.attach: the score is already {self.score_function!r}, got metric={metric!r} as well"
            )
        if self.score_function is None:
            self.score_function = metric
        if self.score_function is None:
            raise ValueError("EarlyStopping.attach: there is no score; pass score_function, or attach(metric=...)")

    def _reset_for_run(self, engine: Engine) -> None:
        is_continued = engine.last_event_name == Events.STARTED and (engine.state.iteration > 0 or engine.is_resumed)
        if not (is_continued or self._is_loaded):
            self.reset()
        self._is_loaded = False

    def _trainer_of(self, engine: Engine) -> Engine:
        """The trainer; raises if an evaluation by ``engine`` cannot end its run."""
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("EarlyStopping: there is no trainer, or it was deleted; pass trainer, or attach to it")
        around: Engine | None = engine
        while around is not None and around is not trainer:
            around = around.parent
        if trainer is engine and engine.parent is not None and engine.state.max_epochs == 1:
            raise RuntimeError(
                "EarlyStopping: the trainer is the evaluator itself, whose run ends with the evaluation anyway; "
                "pass as trainer the engine in whose handler the evaluator runs"
            )
        if around is None and engine.parent is not None:
            raise RuntimeError(
                "EarlyStopping: the evaluation runs inside another engine than the trainer, so it cannot end the "
                "trainer; pass as trainer the engine in whose handler the evaluator runs"
            )
        return trainer

    def _score(self, engine: Engine) -> float:
        if isinstance(self.score_function, str):
            if self.score_function not in engine.state.metrics:
                raise ValueError(
                    f"EarlyStopping: the engine has no metric {self.score_function!r}, its metrics are "
                    f"{few(sorted(engine.state.metrics))}; attach the metric to the engine that triggers this handler"
                )
            score = engine.state.metrics[self.score_function]
        elif self.score_function is None:
            raise ValueError("EarlyStopping: there is no score; pass score_function, or attach(metric=...)")
        else:
            score = self.score_function(engine)
        of_rank_0: float = idist.broadcast(_number(score))
        return of_rank_0

    def _improves(self, score: float) -> bool:
        """Whether the score is an improvement; keeps it as best score if it is, or if it is the best so far."""
        if not math.isfinite(score):
            return False
        best = self.best_score
        if best is None:
            self.best_score = score
            return True
        sign = 1 if self.mode == "max" else -1
        if self.min_delta_mode == "abs":
            limit = best + sign * self.min_delta
        else:
            limit = best * (1 + sign * math.copysign(self.min_delta, best))
        improves = sign * score > sign * limit
        if improves or (not self.cumulative_delta and sign * score > sign * best):
            self.best_score = score
        return improves


def _mode_of_metric(engine: Engine, metric: str) -> Literal["max", "min"]:
    is_higher = higher_is_better(engine, metric)
    if is_higher is None:
        raise ValueError(
            f"EarlyStopping: mode must be given for {metric!r}, as no metric with this name is attached that says "
            "whether higher values are better; pass mode='max' or mode='min'"
        )
    return "max" if is_higher else "min"


def _number(score: Any) -> float:
    if isinstance(score, Real):
        return float(score)
    try:
        return float(score.item())
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"EarlyStopping: a score must be a number, got {score!r}") from error


def _one_of(name: str, value: Any, alias: str, other: Any, default: Any) -> Any:
    """An argument that may be given under either of two names."""
    if value is not None and other is not None:
        raise ValueError(f"EarlyStopping: {name} and {alias} are the same argument, got {value!r} and {other!r}")
    return next((one for one in (value, other) if one is not None), default)

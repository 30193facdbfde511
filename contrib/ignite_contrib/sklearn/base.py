"""What classifiers and regressors have in common: parts that are built from classes, trained by an engine."""

from __future__ import annotations

import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from ignite_contrib.sklearn.handlers import attach, make_handlers, takes_evaluator
from ignite_contrib.sklearn.library import BaseEstimator, check_is_fitted, check_random_state, np, train_test_split
from ignite_contrib.sklearn.parameters import PartParameters
from ignite_contrib.sklearn.samples import Batches, Inputs, as_inputs, as_weights, count_of, features_of
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.metrics import Average, Loss, Metric
from ignite_core.utils import convert_tensor

__all__ = ["EngineEstimator"]


class EngineEstimator(PartParameters, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator whose module an engine trains. Subclasses know targets."""

    _parts = ("module", "criterion", "optimizer", "handlers")
    _default_criterion: type[nn.Module]

    def __init__(
        self,
        module: Any,
        *,
        criterion: Any = None,
        optimizer: Any = torch.optim.Adam,
        max_epochs: int = 10,
        batch_size: int = 128,
        device: Any = "cpu",
        random_state: Any = None,
        handlers: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.0,
        warm_start: bool = False,
        **arguments: Any,
    ) -> None:
        self.module = module
        self.criterion = criterion
        self.optimizer = optimizer
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.handlers = handlers
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self._take(arguments)

    # ------------------------------------------------------------------------------------- what subclasses tell

    @abstractmethod
    def _targets(self, y: Any, classes: Any, *, reset: bool) -> Tensor:
        """Targets as the criterion takes them; sets or compares what is known of them."""

    @abstractmethod
    def _outputs(self) -> int:
        """How many numbers the module must give for a sample."""

    def _shaped(self, y_pred: Tensor) -> Tensor:
        """What the module gives, as the criterion takes it."""
        return y_pred

    @abstractmethod
    def _metrics(self) -> dict[str, Metric]:
        """What an evaluation tells besides the loss."""

    # ----------------------------------------------------------------------------------------------------- train

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for ``max_epochs``, from new weights unless ``warm_start`` goes on from those that are there.

        Args:
            X: Samples: an array, a table, a tensor, or a mapping of these by the names of the module's arguments.
            y: Their targets.
            sample_weight: How much each of them counts, numbers from 0 on.

        Returns:
            The estimator.

        Raises:
            ValueError: If lengths disagree, values are not finite, or a parameter is out of its range.
            TypeError: If a parameter is of the wrong kind.
        """
        reset = not (self.warm_start and hasattr(self, "module_"))
        return self._learn(X, y, None, sample_weight, self.max_epochs, self.validation_fraction, reset=reset)

    def _learn(
        self, X: Any, y: Any, classes: Any, sample_weight: Any, max_epochs: int, held_out: float, *, reset: bool
    ) -> Self:
        _check(type(self).__name__, self)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        x = as_inputs(self, X, reset=reset)
        target = self._targets(y, classes, reset=reset)
        weights = None if sample_weight is None else as_weights(sample_weight)
        _check_counts(x, target, weights)
        if reset:
            self._random = check_random_state(self.random_state)
        seed = int(self._random.randint(2**31 - 1))
        with _generators_left_alone(self.device):
            if reset:
                self._build(features_of(x), seed)
            self._train(x, target, weights, max_epochs, held_out, seed)
        return self

    def _build(self, n_features: int | None, seed: int) -> None:
        """New weights, nothing learnt."""
        if isinstance(self.module, nn.Module):
            raise TypeError(
                f"{type(self).__name__}: module must be a class, or a function that makes a module, got an instance of "
                f"{type(self.module).__name__}: pass the class, and its arguments as module__NAME"
            )
        known = {"n_features": n_features, "n_outputs": self._outputs()}
        wanted = inspect.signature(self.module).parameters
        arguments = {name: value for name, value in known.items() if name in wanted and value is not None}
        torch.default_generator.manual_seed(seed)
        self.module_ = self.module(**{**arguments, **self._arguments_of("module")}).to(self.device)
        self.optimizer_ = self.optimizer(self.module_.parameters(), **self._arguments_of("optimizer"))
        self.history_: list[dict[str, Any]] = []

    def _make_criterion(self, **arguments: Any) -> Any:
        return (self.criterion or self._default_criterion)(**{**self._arguments_of("criterion"), **arguments})

    def _train(self, x: Inputs, y: Tensor, weights: Tensor | None, max_epochs: int, held_out: float, seed: int) -> None:
        learnt, evaluated = self._split(y, held_out, seed)
        target = y if weights is None else (y, weights)
        trainer = self._trainer(is_weighted=weights is not None)
        evaluator = self._evaluator({**self._metrics(), "loss": Loss(self._make_criterion())})
        handlers = make_handlers(self.handlers or {}, self._arguments_of("handlers"))
        is_evaluated = held_out > 0 or any(takes_evaluator(handler) for handler in handlers)

        @trainer.on(Events.EPOCH_COMPLETED)
        def note(engine: Engine) -> None:
            metrics = evaluator.run(Batches((x, y), evaluated, self.batch_size)).metrics if is_evaluated else {}
            told = {"epoch": len(self.history_) + 1, "train_loss": engine.state.metrics["train_loss"], **metrics}
            self.history_.append(told)

        for handler in handlers:
            attach(handler, trainer, evaluator)
        trainer.run(Batches((x, target), learnt, self.batch_size, seed), max_epochs=max_epochs, seed=seed)

    def _trainer(self, is_weighted: bool) -> Engine:
        trainer = create_supervised_trainer(
            self.module_,
            self.optimizer_,
            _Weighted(self._make_criterion(reduction="none")) if is_weighted else self._make_criterion(),
            device=self.device,
            model_transform=self._shaped,
            model_fn=_call,
        )
        Average().attach(trainer, "train_loss")
        return trainer

    def _split(self, y: Tensor, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
        """Which samples to train with, and which to evaluate: those held out, or the same where none are."""
        everything = torch.arange(len(y))
        if held_out == 0:
            return everything, everything
        parts = train_test_split(everything.numpy(), test_size=held_out, random_state=seed, stratify=self._strata(y))
        learnt, evaluated = (torch.tensor(part) for part in parts)
        return learnt, evaluated

    def _strata(self, y: Tensor) -> Any:
        """What is to be spread evenly when samples are held out."""
        return None

    # --------------------------------------------------------------------------------------------------- predict

    def _evaluator(self, metrics: Mapping[str, Metric], **functions: Any) -> Engine:
        return create_supervised_evaluator(
            self.module_, metrics, device=self.device, model_transform=self._shaped, model_fn=_call, **functions
        )

    def _predicted(self, X: Any) -> Tensor:
        """What the module gives for all samples, on the CPU."""
        check_is_fitted(self)
        x = as_inputs(self, X, reset=False)
        outputs: list[Tensor] = []
        evaluator = self._evaluator({}, prepare_batch=_inputs_alone, output_transform=lambda x, y, y_pred: y_pred)
        evaluator.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output.cpu())
        )
        evaluator.run(Batches(x, torch.arange(count_of(x)), self.batch_size))
        return torch.cat(outputs)


class _Weighted:
    """The mean over a batch of losses, each multiplied by the weight of its sample.

    Args:
        criterion: Without a reduction. The mean counts each target as the mean of the criterion does: by the weight of
            its class, and not at all if it is ignored.
    """

    def __init__(self, criterion: Any) -> None:
        self._criterion = criterion

    def __call__(self, y_pred: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
        y, weights = target
        losses: Tensor = self._criterion(y_pred, y)
        weights = weights.view(-1, *[1] * (losses.ndim - 1)).expand_as(losses)
        total = (losses * weights).sum()
        share = _class_weights(self._criterion, y)
        divisor = losses.numel() if share is None else losses.numel() * (weights * share).sum() / weights.sum()
        return total / torch.as_tensor(divisor).nan_to_num().clamp(min=torch.finfo(losses.dtype).tiny)


def _class_weights(criterion: Any, y: Tensor) -> Tensor | None:
    """How much each target counts in the mean of a criterion; None where all count the same."""
    if not isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss) or y.is_floating_point():
        return None
    counts = y != criterion.ignore_index
    return counts if criterion.weight is None else counts * criterion.weight[y.where(counts, 0)]


def _call(module: Any, x: Inputs) -> Any:
    return module(**x) if isinstance(x, dict) else module(x)


def _inputs_alone(x: Inputs, device: Any, non_blocking: bool) -> tuple[Any, None]:
    return convert_tensor(x, device, non_blocking), None


def _check(where: str, estimator: Any) -> None:
    """What neither the engine nor scikit-learn checks."""
    size, fraction = estimator.batch_size, estimator.validation_fraction
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"{where}: batch_size must be an integer, got {size!r}")
    if size < 1:
        raise ValueError(f"{where}: batch_size must be at least 1, got {size}")
    if not 0 <= fraction < 1:
        raise ValueError(f"{where}: validation_fraction must be in [0, 1), got {fraction!r}")


def _check_counts(x: Inputs, y: Tensor, weights: Tensor | None) -> None:
    counts = {"X": count_of(x), "y": len(y)} | ({} if weights is None else {"sample_weight": len(weights)})
    if len(set(counts.values())) != 1:
        raise ValueError(f"all of them must have as many samples, got {counts}")


@contextmanager
def _generators_left_alone(device: Any) -> Iterator[None]:
    """Put the global generators back afterwards: a seeded run seeds them."""
    device = torch.device(device)
    of_python, of_numpy = random.getstate(), np.random.get_state()
    on_device: dict[str, Any] = {} if device.type == "cpu" else {"device_type": device.type}
    try:
        with torch.random.fork_rng([device] if on_device else [], **on_device):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)

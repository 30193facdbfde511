"""The common part of classifier and regressor: parts that are built from classes, and trained by an engine."""

from __future__ import annotations

import copy
import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ignite_contrib.sklearn.samples import Batches, Inputs, as_inputs, as_weights, count_of
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.exceptions import few
from ignite_core.metrics import Average, Loss, Metric
from ignite_core.utils import convert_tensor

__all__ = ["EngineEstimator"]

#: Parameters that are classes; ``part__argument`` is an argument of such a class.
_PARTS = ("module", "criterion", "optimizer", "handlers")


class EngineEstimator(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator whose module is trained by an engine. Subclasses define targets and outputs."""

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
        for name in arguments:
            if not _is_argument(name):
                prefixes = ", ".join(f"{part}__" for part in _PARTS)
                raise TypeError(
                    f"{type(self).__name__}: there is no parameter {name!r}; what goes to a part begins with {prefixes}"
                )
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
        self._arguments = arguments

    # ------------------------------------------------------------------------------------------------- parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all parameters by name, including ``part__argument``.

        Args:
            deep: Also those of parameters that are estimators.
        """
        params: dict[str, Any] = super().get_params(deep)
        return {**params, **self._arguments}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; ``part__argument`` need not be set before. Returns the estimator.

        Raises:
            ValueError: If there is no such parameter and no such part.
        """
        arguments = {name: params.pop(name) for name in list(params) if _is_argument(name)}
        super().set_params(**params)
        self._arguments = {**self._arguments, **arguments}
        return self

    def _arguments_of(self, part: str) -> dict[str, Any]:
        prefix = f"{part}__"
        return {name.removeprefix(prefix): value for name, value in self._arguments.items() if name.startswith(prefix)}

    # ------------------------------------------------------------------------------------- defined by subclasses

    @abstractmethod
    def _targets(self, y: Any, classes: Any, *, reset: bool) -> Tensor:
        """Convert targets for the criterion; stores their properties, or compares them with those stored."""

    @abstractmethod
    def _outputs(self) -> int:
        """Number of outputs of the module for a sample."""

    @abstractmethod
    def _shaped(self, y_pred: Tensor) -> Tensor:
        """Check the output of the module, and give it the shape for the criterion."""

    @abstractmethod
    def _metrics(self) -> dict[str, Metric]:
        """Metrics of an evaluation besides the loss."""

    def _strata(self, y: Tensor) -> Any:
        """Labels for a stratified split; None for a random one."""
        return None

    # ------------------------------------------------------------------------------------------------------ train

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for ``max_epochs`` epochs, from new weights, or with ``warm_start`` from the present ones.

        Args:
            X: Samples: an array, a table, a tensor, or a mapping of these by the names of the module's arguments.
            y: Targets.
            sample_weight: Weight of each sample, at least 0.

        Returns:
            The estimator.

        Raises:
            ValueError: If lengths differ, values are not finite, or a parameter is out of range.
            TypeError: If a parameter has the wrong type.
        """
        reset = not (self.warm_start and hasattr(self, "module_"))
        return self._learn(X, y, None, sample_weight, self.max_epochs, self.validation_fraction, reset=reset)

    def _learn(
        self, X: Any, y: Any, classes: Any, sample_weight: Any, max_epochs: int, held_out: float, *, reset: bool
    ) -> Self:
        self._check_parameters()
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        x = as_inputs(self, X, reset=reset)
        target = self._targets(y, classes, reset=reset)
        weights = None if sample_weight is None else as_weights(sample_weight)
        counts = {"X": count_of(x), "y": len(target)} | ({} if weights is None else {"sample_weight": len(weights)})
        if len(set(counts.values())) != 1:
            raise ValueError(f"all of them must have as many samples, got {counts}")
        if reset:
            self._random = check_random_state(self.random_state)
        seed = int(self._random.randint(2**31 - 1))
        with _preserved_generators(self.device):
            if reset:
                self._build(x.shape[1] if isinstance(x, Tensor) and x.ndim > 1 else None, seed)
            self._train(x, target, weights, max_epochs, held_out, seed)
        return self

    def _check_parameters(self) -> None:
        """Check what neither the engine nor scikit-learn checks."""
        name, size, fraction = type(self).__name__, self.batch_size, self.validation_fraction
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(f"{name}: batch_size must be an integer, got {size!r}")
        if size < 1:
            raise ValueError(f"{name}: batch_size must be at least 1, got {size}")
        if not 0 <= fraction < 1:
            raise ValueError(f"{name}: validation_fraction must be in [0, 1), got {fraction!r}")

    def _build(self, n_features: int | None, seed: int) -> None:
        if isinstance(self.module, nn.Module):
            raise TypeError(
                f"{type(self).__name__}: module must be a class, or a function that makes a module, got an instance of "
                f"{type(self.module).__name__}: pass the class, and its arguments as module__NAME"
            )
        sizes = {"n_features": n_features, "n_outputs": self._outputs()}
        parameters = inspect.signature(self.module).parameters
        arguments = {name: size for name, size in sizes.items() if name in parameters and size is not None}
        torch.default_generator.manual_seed(seed)
        self.module_ = self.module(**{**arguments, **self._arguments_of("module")}).to(self.device)
        self.optimizer_ = self.optimizer(self.module_.parameters(), **self._arguments_of("optimizer"))
        self.history_: list[dict[str, Any]] = []

    def _make_criterion(self, **arguments: Any) -> Any:
        return (self.criterion or self._default_criterion)(**{**self._arguments_of("criterion"), **arguments})

    def _train(self, x: Inputs, y: Tensor, weights: Tensor | None, max_epochs: int, held_out: float, seed: int) -> None:
        train, validation = self._split(y, held_out, seed)
        trainer = create_supervised_trainer(
            self.module_,
            self.optimizer_,
            self._make_criterion() if weights is None else _Weighted(self._make_criterion(reduction="none")),
            device=self.device,
            model_transform=self._shaped,
            model_fn=_call,
        )
        Average().attach(trainer, "train_loss")
        evaluator = self._evaluator({**self._metrics(), "loss": Loss(self._make_criterion())})
        handlers = _make_handlers(self.handlers or {}, self._arguments_of("handlers"))
        is_evaluated = held_out > 0 or any(_takes_evaluator(handler) for handler in handlers)

        @trainer.on(Events.EPOCH_COMPLETED)
        def extend_history(engine: Engine) -> None:
            metrics = evaluator.run(Batches((x, y), validation, self.batch_size)).metrics if is_evaluated else {}
            epoch, loss = len(self.history_) + 1, engine.state.metrics["train_loss"]
            self.history_.append({"epoch": epoch, "train_loss": loss, **metrics})

        for handler in handlers:
            handler.attach(*((trainer, evaluator) if _takes_evaluator(handler) else (trainer,)))
        target = y if weights is None else (y, weights)
        trainer.run(Batches((x, target), train, self.batch_size, seed), max_epochs=max_epochs, seed=seed)

    def _split(self, y: Tensor, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
        """Indices of samples for training and evaluation; the same if none are held out."""
        everything = torch.arange(len(y))
        if held_out == 0:
            return everything, everything
        parts = train_test_split(everything.numpy(), test_size=held_out, random_state=seed, stratify=self._strata(y))
        train, validation = (torch.tensor(part) for part in parts)
        return train, validation

    # ---------------------------------------------------------------------------------------------------- predict

    def _evaluator(self, metrics: Mapping[str, Metric], **functions: Any) -> Engine:
        return create_supervised_evaluator(
            self.module_, metrics, device=self.device, model_transform=self._shaped, model_fn=_call, **functions
        )

    def _predicted(self, X: Any) -> Tensor:
        """Outputs of the module for all samples, on the CPU."""
        check_is_fitted(self)
        x = as_inputs(self, X, reset=False)
        outputs: list[Tensor] = []
        evaluator = self._evaluator({}, prepare_batch=_inputs_only, output_transform=lambda x, y, y_pred: y_pred)
        evaluator.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output.cpu())
        )
        evaluator.run(Batches(x, torch.arange(count_of(x)), self.batch_size))
        return torch.cat(outputs)


def _is_argument(name: str) -> bool:
    part, _, argument = name.partition("__")
    return part in _PARTS and argument != ""


def _make_handlers(handlers: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[Any]:
    """Create the handlers of one training: classes are called, objects are copied.

    Args:
        handlers: Classes or objects, by name.
        arguments: By ``NAME__ARGUMENT``: arguments of a class, or attributes to set on the copy of an object.
    """
    by_name: dict[str, dict[str, Any]] = {name: {} for name in handlers}
    for path, value in arguments.items():
        name, _, argument = path.partition("__")
        if name not in handlers:
            raise ValueError(f"handlers: {path} is for a handler {name!r}, but there are {few(sorted(handlers))}")
        by_name[name][argument] = value
    return [_make_handler(name, handler, by_name[name]) for name, handler in handlers.items()]


def _make_handler(name: str, handler: Any, arguments: Mapping[str, Any]) -> Any:
    if not hasattr(handler, "attach"):
        raise TypeError(
            f"handlers: {name!r} must be a class or an object with a method attach(engine), got {handler!r}"
        )
    if isinstance(handler, type):
        return handler(**arguments)
    made = copy.deepcopy(handler)
    for attribute, value in arguments.items():
        if not hasattr(made, attribute):
            raise ValueError(f"handlers: {name!r}, a {type(made).__name__}, has no attribute {attribute!r} to be set")
        setattr(made, attribute, value)
    return made


def _takes_evaluator(handler: Any) -> bool:
    return "evaluator" in inspect.signature(handler.attach).parameters


class _Weighted:
    """The mean over a batch of losses, each multiplied by the weight of its sample.

    Args:
        criterion: A criterion without reduction. Targets count in the mean as in that of the criterion itself: by the
            weight of their class, and not at all if they are ignored.
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
    """Weight of each target in the mean of a criterion; None if all count the same."""
    if not isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss) or y.is_floating_point():
        return None
    counts = y != criterion.ignore_index
    return counts if criterion.weight is None else counts * criterion.weight[y.where(counts, 0)]


def _call(module: Any, x: Inputs) -> Any:
    return module(**x) if isinstance(x, dict) else module(x)


def _inputs_only(x: Inputs, device: Any, non_blocking: bool) -> tuple[Any, None]:
    return convert_tensor(x, device, non_blocking), None


@contextmanager
def _preserved_generators(device: Any) -> Iterator[None]:
    """Restore the global random generators at the end: a seeded run seeds them."""
    device = torch.device(device)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    on_device: dict[str, Any] = {} if device.type == "cpu" else {"device_type": device.type}
    try:
        with torch.random.fork_rng([device] if on_device else [], **on_device):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)

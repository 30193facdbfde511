"""Handlers that log metrics, outputs, parameters of optimizers, weights and gradients, to any back-end.

They are attached with :meth:`~ignite_core.handlers.BaseLogger.attach`, and called with the engine, the logger and the
event. They run after the other handlers of their event, so that metrics that are attached later are already computed.
"""

from __future__ import annotations

import numbers
import reprlib
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName
from ignite_core.exceptions import few
from ignite_core.handlers._global_step import step_of
from ignite_core.handlers.logging._scalars import Key, flattened, kept

__all__ = [
    "FigureHandler",
    "GradsHistHandler",
    "GradsScalarHandler",
    "ImageHandler",
    "LogHandler",
    "OptimizerParamsHandler",
    "OutputHandler",
    "TextHandler",
    "WeightsHistHandler",
    "WeightsScalarHandler",
]

#: Formats any value in a few characters, also if its ``repr`` raises.
_brief = reprlib.Repr()
_brief.maxother = _brief.maxstring = 80

Transform = Callable[[Engine, EventName], Any]
Whitelist = Iterable[str] | Callable[[str, nn.Parameter], bool]


class LogHandler(ABC):
    """Base class of handlers that log; derive from it and define :meth:`values` for a custom handler.

    Args:
        tag: Prefix of the names.
        global_step_transform: ``global_step_transform(engine, event_name) -> step``. By default the count of the event:
            epochs or iterations, for an evaluator those of the engine that runs it.

    Attributes:
        needs: Class attribute: the method of the logger that is called, ``"scalars"`` for numbers.

    Raises:
        TypeError: If ``tag`` is not a string, or ``global_step_transform`` is not callable.
    """

    needs: ClassVar[str] = "scalars"

    event_priority = -100

    def __init__(self, tag: str | None = None, global_step_transform: Transform | None = None) -> None:
        if not (tag is None or isinstance(tag, str)):
            raise TypeError(f"{type(self).__name__}: tag must be a string, got {tag!r}")
        _check_callable(type(self).__name__, "global_step_transform", global_step_transform)
        self.tag = tag
        self.global_step_transform: Transform = global_step_transform or step_of
        self._warned: set[Key] = set()

    def __call__(self, engine: Engine, logger: Any, event_name: EventName) -> None:
        """Log, if this process writes."""
        if not logger.writes:
            return
        values = self.values(engine, logger)
        if values:
            self.log(logger, self._step(engine, event_name), values)

    def log(self, logger: Any, step: int, values: Mapping[Key, Any]) -> None:
        """Pass values to the logger."""
        getattr(logger, self.needs)(step, values)

    @abstractmethod
    def values(self, engine: Engine, logger: Any) -> dict[Key, Any]:
        """The values to log now, by name."""

    def _step(self, engine: Engine, event_name: EventName) -> int:
        step: Any = self.global_step_transform(engine, event_name)
        if not isinstance(step, numbers.Integral):
            raise TypeError(f"{type(self).__name__}: global_step_transform must return an integer, got {step!r}")
        return int(step)

    def _name(self, *parts: str) -> Key:
        return parts if not self.tag else (self.tag, *parts)

    def _scalars(self, named: Iterable[tuple[Key, Any]], logger: Any) -> dict[Key, Any]:
        """The numbers in structures, and text if the logger accepts it; one warning for each other value."""
        values: dict[Key, Any] = {}
        for name, value in named:
            for key, part in flattened(name, value):
                number = kept(part)
                if number is None or (isinstance(number, str) and not logger.takes_text):
                    self._warn(
                        key, f"{'/'.join(key)!r} must be a number or a tensor with one element, got {_shown(part)}"
                    )
                else:
                    values[key] = number
        return values

    def _warn(self, key: Key, message: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            warnings.warn(f"{type(self).__name__}: {message}; it is not logged", stacklevel=2)


class OutputHandler(LogHandler):
    """Logs metrics, the output of the step function, and attributes of the state, as ``tag/name``.

    Structures are logged value by value: ``tag/loss/d``, or ``tag/recall/0`` for vectors.

    Args:
        tag: Prefix of the names, such as ``"training"``.
        metric_names: Names in ``engine.state.metrics``, or ``"all"``.
        output_transform: Function of ``engine.state.output`` that returns a number, or a dict of numbers.
        global_step_transform: See :class:`LogHandler`.
        state_attributes: Names of attributes of ``engine.state``.

    Raises:
        ValueError: If there is nothing to log.

    Example:
        >>> from ignite_core.engine import Events
        >>> from ignite_core.handlers import BaseLogger
        >>> class Screen(BaseLogger):
        ...     def scalars(self, step, values):
        ...         print(step, values)
        >>> trainer, logger = Engine(lambda engine, batch: (batch, 0.5)), Screen()
        >>> handler = OutputHandler("training", output_transform=lambda output: {"loss": output[1]})
        >>> handle = logger.attach(trainer, handler, Events.EPOCH_COMPLETED)
        >>> state = trainer.run([1, 2])
        1 {('training', 'loss'): 0.5}
    """

    def __init__(
        self,
        tag: str,
        metric_names: Iterable[str] | str | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        global_step_transform: Transform | None = None,
        state_attributes: Iterable[str] | None = None,
    ) -> None:
        super().__init__(tag, global_step_transform)
        if isinstance(metric_names, str) and metric_names != "all":
            raise TypeError(f"OutputHandler: metric_names must be a list of names, or 'all', got {metric_names!r}")
        _check_callable("OutputHandler", "output_transform", output_transform)
        if output_transform is None and metric_names is None and state_attributes is None:
            raise ValueError("OutputHandler: give metric_names, output_transform or state_attributes, got none of them")
        self.metric_names = metric_names if metric_names is None or metric_names == "all" else tuple(metric_names)
        self.output_transform = output_transform
        self.state_attributes = None if state_attributes is None else tuple(state_attributes)

    def values(self, engine: Engine, logger: Any) -> dict[Key, Any]:
        return self._scalars(self._found(engine), logger)

    def _found(self, engine: Engine) -> Iterator[tuple[Key, Any]]:
        metrics: Any = engine.state.metrics
        for name in metrics if self.metric_names == "all" else self.metric_names or ():
            if name in metrics:
                yield self._name(name), metrics.unread(name)
            else:
                self._warn((name,), f"the engine has no metric {name!r}, its metrics are {few(sorted(metrics))}")
        if self.output_transform is not None:
            output = self.output_transform(engine.state.output)
            named = output.items() if isinstance(output, Mapping) else [("output", output)]
            yield from ((self._name(str(name)), value) for name, value in named)
        for name in self.state_attributes or ():
            yield self._name(name), getattr(engine.state, name, None)


class OptimizerParamsHandler(LogHandler):
    """Logs a parameter of an optimizer, such as its learning rate, as ``tag/lr/group_0``.

    Args:
        optimizer: A torch optimizer, or any object with ``param_groups``.
        param_name: A key of its parameter groups; the elements of values such as ``betas`` are logged separately.
        tag, global_step_transform: See :class:`LogHandler`.

    Raises:
        TypeError: If ``optimizer`` has no ``param_groups``.
        ValueError: If no group has the parameter.
    """

    def __init__(
        self,
        optimizer: Any,
        param_name: str = "lr",
        tag: str | None = None,
        global_step_transform: Transform | None = None,
    ) -> None:
        super().__init__(tag, global_step_transform)
        groups = getattr(optimizer, "param_groups", None)
        if not isinstance(groups, Sequence):
            raise TypeError(f"OptimizerParamsHandler: optimizer must have param_groups, got {type(optimizer).__name__}")
        if not any(param_name in group for group in groups):
            known = sorted({name for group in groups for name in group if name != "params"})
            raise ValueError(f"OptimizerParamsHandler: param_name must be one of {known}, got {param_name!r}")
        self.optimizer = optimizer
        self.param_name = param_name

    def values(self, engine: Engine, logger: Any) -> dict[Key, Any]:
        groups = enumerate(self.optimizer.param_groups)
        name = self.param_name
        named = ((self._name(name, f"group_{number}"), group[name]) for number, group in groups if name in group)
        return self._scalars(named, logger)


class _ModelHandler(LogHandler):
    """Base class of handlers that log something of each parameter of a model."""

    kind: ClassVar[str] = "weights"

    def __init__(
        self,
        model: nn.Module,
        tag: str | None = None,
        whitelist: Whitelist | None = None,
        global_step_transform: Transform | None = None,
    ) -> None:
        super().__init__(tag, global_step_transform)
        if not isinstance(model, nn.Module):
            raise TypeError(f"{type(self).__name__}: model must be a torch.nn.Module, got {type(model).__name__}")
        if isinstance(whitelist, str):
            raise TypeError(f"{type(self).__name__}: whitelist must be a list of names, or a function, got a string")
        self.model = model
        self.whitelist = whitelist if whitelist is None or callable(whitelist) else tuple(whitelist)

    def _tensors(self) -> Iterator[tuple[Key, Tensor]]:
        for name, parameter in self.model.named_parameters():
            tensor = parameter if self.kind == "weights" else parameter.grad
            if tensor is not None and self._is_wanted(name, parameter):
                yield tuple(name.split(".")), tensor.detach()

    def _is_wanted(self, name: str, parameter: nn.Parameter) -> bool:
        if callable(self.whitelist):
            return bool(self.whitelist(name, parameter))
        return self.whitelist is None or name.startswith(self.whitelist)


class WeightsScalarHandler(_ModelHandler):
    """Logs one number for each parameter of a model, as ``tag/weights_norm/layer/weight``.

    Args:
        model: The model.
        reduction: Function of a tensor that returns a number; its name is part of the logged names.
        tag, global_step_transform: See :class:`LogHandler`.
        whitelist: Log only parameters whose names begin with one of these strings, or for which
            ``whitelist(name, parameter)`` is true.

    Raises:
        TypeError: If an argument has the wrong type, or ``reduction`` does not return a number.
    """

    def __init__(
        self,
        model: nn.Module,
        reduction: Callable[[Tensor], Any] = torch.norm,
        tag: str | None = None,
        whitelist: Whitelist | None = None,
        global_step_transform: Transform | None = None,
    ) -> None:
        super().__init__(model, tag, whitelist, global_step_transform)
        if not callable(reduction):
            raise TypeError(f"{type(self).__name__}: reduction must be callable, got {reduction!r}")
        example = reduction(torch.ones(4, 2))
        if kept(example) is None or isinstance(example, str):
            raise TypeError(f"{type(self).__name__}: reduction must return a number, got {_shown(example)}")
        self.reduction = reduction

    def values(self, engine: Engine, logger: Any) -> dict[Key, Any]:
        name = f"{self.kind}_{getattr(self.reduction, '__name__', type(self.reduction).__name__)}"
        reduced = ((self._name(name, *parts), self.reduction(tensor)) for parts, tensor in self._tensors())
        return self._scalars(reduced, logger)


class GradsScalarHandler(WeightsScalarHandler):
    """Logs one number for the gradient of each parameter that has one, as ``tag/grads_norm/layer/weight``.

    The arguments are those of :class:`WeightsScalarHandler`.
    """

    kind = "grads"


class WeightsHistHandler(_ModelHandler):
    """Logs a histogram of the values of each parameter of a model, as ``tag/weights/layer/weight``.

    Args:
        model: The model.
        tag, whitelist, global_step_transform: See :class:`WeightsScalarHandler`.
    """

    needs = "histograms"

    def values(self, engine: Engine, logger: Any) -> dict[Key, Any]:
        return {self._name(self.kind, *parts): tensor for parts, tensor in self._tensors()}


class GradsHistHandler(WeightsHistHandler):
    """Logs a histogram of the gradient of each parameter that has one, as ``tag/grads/layer/weight``.

    The arguments are those of :class:`WeightsHistHandler`.
    """

    kind = "grads"


class _MediaHandler(LogHandler):
    """Base class of handlers that log the return values of a function."""

    def __init__(self, tag: str, make: Callable[[Engine], Any], global_step_transform: Transform | None = None) -> None:
        super().__init__(tag, global_step_transform)
        if not callable(make):
            raise TypeError(f"{type(self).__name__}: make must be callable with the engine, got {make!r}")
        self.make = make

    def values(self, engine: Engine, logger: Any) -> dict[Key, Any]:
        made = self.make(engine)
        if made is None:
            return {}
        named = made if isinstance(made, Mapping) else {(): made}
        return {self._name(*((name,) if isinstance(name, str) else name)): value for name, value in named.items()}


class ImageHandler(_MediaHandler):
    """Logs images: tensors of shape ``(C, H, W)``, with 1, 3 or 4 channels; floats in [0, 1] or bytes in [0, 255].

    Args:
        tag: Prefix of the names; the name of a single image.
        make: ``make(engine)`` returns an image, images by name, or None for nothing.
        global_step_transform: See :class:`LogHandler`.
    """

    needs = "images"


class FigureHandler(_MediaHandler):
    """Logs figures of matplotlib, and closes them.

    Args:
        tag: Prefix of the names; the name of a single figure.
        make: ``make(engine)`` returns a figure, figures by name, or None for nothing.
        global_step_transform: See :class:`LogHandler`.
    """

    needs = "figures"

    def log(self, logger: Any, step: int, values: Mapping[Key, Any]) -> None:
        super().log(logger, step, values)
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:  # otherwise pyplot holds no figures
            for figure in values.values():
                pyplot.close(figure)


class TextHandler(_MediaHandler):
    """Logs text.

    Args:
        tag: Prefix of the names; the name of a single text.
        make: ``make(engine)`` returns a string, strings by name, or None for nothing.
        global_step_transform: See :class:`LogHandler`.
    """

    needs = "texts"


def _check_callable(where: str, name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{where}: {name} must be callable, got {value!r}")


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{_brief.repr(value)} of type {type(value).__name__}"

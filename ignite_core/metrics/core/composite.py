"""Metrics made of other metrics: expressions and groups.

They have no states. Their leaves, the metrics at the ends, are updated once per batch and reduced over the ranks once,
however often each of them appears.
"""

from __future__ import annotations

import copy
import operator
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import torch

from ignite_core.exceptions import few
from ignite_core.metrics.core.arithmetic import INCREASING, Arithmetic, divide
from ignite_core.metrics.core.attachment import attached_metrics
from ignite_core.metrics.core.memo import memo_scope
from ignite_core.metrics.core.metric import Metric, OutputTransform, ResultMode, unchanged

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["Composite", "MetricGroup", "MetricsLambda", "find_metric"]


class Composite(Metric):
    """A metric whose value is computed from those of other metrics."""

    required_output_keys = None

    @abstractmethod
    def _children(self) -> Iterator[Metric]:
        """The metrics it is made of, one level down."""

    @abstractmethod
    def _with_children(self, replace: Callable[[Metric], Metric]) -> Self:
        """A copy with its children replaced."""

    def reset(self) -> None:
        """Reset all leaves."""
        for leaf in self._leaves():
            leaf.reset()

    def update(self, output: Any) -> None:
        """Update each leaf once; intermediate results that several of them need are computed once."""
        with memo_scope(output):
            for leaf, its_output in dict(self._routes(output)).items():
                leaf.update(its_output)

    def iteration_completed(self, engine: Engine) -> None:
        with memo_scope(engine.state.output):
            for leaf in self._leaves():
                leaf.iteration_completed(engine)

    def merged(self, other: Self) -> Self:
        if type(other) is not type(self) or len(other._leaves()) != len(self._leaves()):
            raise TypeError(f"{type(self).__name__}.merged: got a metric made of other metrics, {other!r}")
        pairs = zip(self._leaves(), other._leaves(), strict=True)
        return self._with_leaves({leaf: leaf.merged(same) for leaf, same in pairs})

    def to(self, device: str | torch.device) -> Self:
        for leaf in self._leaves():
            leaf.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """The states of the leaves, numbered from "0"."""
        return {str(number): leaf.state_dict() for number, leaf in enumerate(self._leaves())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        leaves = self._leaves()
        if set(state_dict) != {str(number) for number in range(len(leaves))}:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: there must be a state for each of {len(leaves)} metrics, "
                f"got {few(sorted(state_dict))}"
            )
        for number, leaf in enumerate(leaves):  # copies first, so that an error changes nothing
            leaf._copy().load_state_dict(state_dict[str(number)])
        for number, leaf in enumerate(leaves):
            leaf.load_state_dict(state_dict[str(number)])

    def _routes(self, output: Any, in_group: bool = False) -> Iterator[tuple[Metric, Any]]:
        """The leaves and the output for each. As in pytorch-ignite, ``output_transform`` applies within groups."""
        for child in self._children():
            its_output = child._output_transform(output) if in_group else output
            if isinstance(child, Composite):
                yield from child._routes(its_output, in_group)
            else:
                yield child, its_output

    def _leaves(self) -> list[Metric]:
        return list({leaf: None for child in self._children() for leaf in child._leaves()})

    def _with_leaves(self, leaves: Mapping[Metric, Metric]) -> Self:
        return self._with_children(lambda child: child._with_leaves(leaves))

    def _copy(self) -> Self:
        return self._with_leaves({leaf: leaf._copy() for leaf in self._leaves()})


class MetricsLambda(Composite):
    """A function of the values of metrics. Arithmetic on metrics returns objects of this class.

    ``higher_is_better`` is derived for sums, differences, multiples, elements and means of metrics. For other functions
    it is None, and may be set.

    Args:
        f: Called with ``args`` and ``kwargs``, in which each metric is replaced by its value.
        args: Metrics and constants.
        metrics_result_mode: As for :class:`Metric`.
        skip_unrolling: Accepted, as in pytorch-ignite, without effect: each metric uses its setting.
        kwargs: Metrics and constants.

    Example:
        >>> from ignite_core.metrics import Accuracy
        >>> accuracy = Accuracy()
        >>> error_in_percent = 100 * (1 - accuracy)
        >>> error_in_percent.update((torch.eye(4), torch.tensor([0, 1, 2, 0])))
        >>> error_in_percent.compute(), MetricsLambda(round, accuracy, 1).compute()
        (25.0, 0.8)
    """

    def __init__(
        self,
        f: Callable[..., Any],
        *args: Any,
        metrics_result_mode: ResultMode = "both",
        skip_unrolling: bool = False,
        **kwargs: Any,
    ) -> None:
        if not callable(f):
            raise TypeError(f"MetricsLambda: f must be callable, got {type(f).__name__}")
        self.function = f
        self.args = args
        self.kwargs = kwargs
        self.higher_is_better = _direction(f, args)
        self._set_up(unchanged, None, skip_unrolling, metrics_result_mode)  # no reset: the metrics keep their states

    def compute(self) -> Any:
        args = [_value(arg) for arg in self.args]
        return self.function(*args, **{name: _value(arg) for name, arg in self.kwargs.items()})

    def _children(self) -> Iterator[Metric]:
        return (arg for arg in (*self.args, *self.kwargs.values()) if isinstance(arg, Metric))

    def _with_children(self, replace: Callable[[Metric], Metric]) -> Self:
        new = copy.copy(self)
        new.args = tuple(replace(arg) if isinstance(arg, Metric) else arg for arg in self.args)
        new.kwargs = {name: replace(arg) if isinstance(arg, Metric) else arg for name, arg in self.kwargs.items()}
        return new

    def __repr__(self) -> str:
        inner = ", ".join([*map(repr, self.args), *(f"{name}={arg!r}" for name, arg in self.kwargs.items())])
        return f"{getattr(self.function, '__name__', self.function)}({inner})"


class MetricGroup(Composite):
    """Metrics under one name. Its value maps names to values; attached, each value is stored under its name too.

    Args:
        metrics: Metrics by name.
        output_transform: Applied to ``engine.state.output`` before the transforms of the metrics, which are copied for
            that. ``update`` takes the transformed output.
        skip_unrolling: As for :class:`Metric`.

    Example:
        >>> from ignite_core.metrics import Accuracy, Loss
        >>> group = MetricGroup({"accuracy": Accuracy(), "loss": Loss(torch.nn.functional.cross_entropy)})
        >>> group.update((torch.zeros(2, 4), torch.tensor([0, 1])))
        >>> {name: round(value, 3) for name, value in group.compute().items()}
        {'accuracy': 0.5, 'loss': 1.386}
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        output_transform: OutputTransform = unchanged,
        skip_unrolling: bool = False,
    ) -> None:
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise TypeError(f"MetricGroup: {name!r} must be a Metric, got {type(metric).__name__}")
        self.metrics = dict(metrics)
        self._set_up(output_transform, None, skip_unrolling)
        if output_transform is not unchanged or skip_unrolling:  # the metrics may be in use without these
            leaves = {leaf: leaf._copy_for_group(self._output_transform, skip_unrolling) for leaf in self._leaves()}
            self.metrics = {name: metric._with_leaves(leaves) for name, metric in metrics.items()}

    def compute(self) -> dict[str, Any]:
        return {name: metric.compute() for name, metric in self.metrics.items()}

    def _children(self) -> Iterator[Metric]:
        return iter(self.metrics.values())

    def _routes(self, output: Any, in_group: bool = True) -> Iterator[tuple[Metric, Any]]:
        return super()._routes(output, in_group=True)

    def _with_children(self, replace: Callable[[Metric], Metric]) -> Self:
        new = copy.copy(self)
        new.metrics = {name: replace(metric) for name, metric in self.metrics.items()}
        return new


def find_metric(engine: Engine, name: str) -> Metric | None:
    """The metric whose value an engine stores under a name; None if there is none.

    Args:
        engine: The engine that the metric is attached to.
        name: A key of ``engine.state.metrics``; may be that of a metric in a :class:`MetricGroup`.

    Example:
        >>> from ignite_core.engine import Engine
        >>> from ignite_core.metrics import Accuracy, find_metric
        >>> evaluator = Engine(lambda engine, batch: batch)
        >>> Accuracy().attach(evaluator, "accuracy")
        >>> find_metric(evaluator, "accuracy").higher_is_better
        True
    """
    attached: dict[str, Metric] = attached_metrics(engine)
    if name in attached:
        return attached[name]
    groups = (metric for metric in attached.values() if isinstance(metric, MetricGroup))
    return next((group.metrics[name] for group in groups if name in group.metrics), None)


def _value(arg: Any) -> Any:
    return arg.compute() if isinstance(arg, Metric) else arg


def _direction(function: Any, args: tuple[Any, ...]) -> bool | None:
    """``higher_is_better`` of a function of metrics; None if unknown or if the metrics disagree."""
    directions = set()
    for arg, sign in zip(args, _signs(function, args), strict=False):
        if isinstance(arg, Metric):
            unknown = arg.higher_is_better is None or sign == 0
            directions.add(None if unknown else arg.higher_is_better is (sign > 0))
    return directions.pop() if len(directions) == 1 else None


_SIGNS: Mapping[Any, tuple[int, ...]] = {operator.add: (1, 1), operator.sub: (1, -1), operator.neg: (-1,)}


def _signs(function: Any, args: tuple[Any, ...]) -> tuple[int, ...]:
    """For each argument: 1 if the function increases with it, -1 if it decreases, 0 if unknown."""
    if function in _SIGNS:
        return _SIGNS[function]
    if function is operator.mul:
        return _sign(args[1]), _sign(args[0])
    if function is divide:
        return _sign(args[1]), 0
    if function is operator.getitem or getattr(function, "__name__", None) in INCREASING:
        return 1, *(0 for _ in args[1:])
    return tuple(0 for _ in args)


def _sign(factor: Any) -> int:
    return (factor > 0) - (factor < 0) if isinstance(factor, int | float) else 0


Arithmetic._expression = MetricsLambda

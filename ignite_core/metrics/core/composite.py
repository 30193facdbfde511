"""Metrics made of other metrics: expressions and groups.

They remember nothing themselves. The metrics at their ends, the leaves, are updated once a batch and reduced over the
ranks once, however often each of them appears.
"""

from __future__ import annotations

import copy
import operator
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import torch

from ignite_core.exceptions import few
from ignite_core.metrics.core.arithmetic import INCREASING, Arithmetic, divide
from ignite_core.metrics.core.memo import sharing
from ignite_core.metrics.core.metric import Metric, ResultMode, unchanged

__all__ = ["Composite", "MetricGroup", "MetricsLambda"]


class Composite(Metric):
    """A metric whose value follows from those of others."""

    required_output_keys = None

    @abstractmethod
    def _children(self) -> Iterator[Metric]:
        """The metrics it is made of, one level down."""

    @abstractmethod
    def _with_children(self, replaced: Callable[[Metric], Metric]) -> Self:
        """The same, made of others."""

    def reset(self) -> None:
        """Reset the metrics that it is made of."""
        for leaf in self._leaves():
            leaf.reset()

    def update(self, output: Any) -> None:
        """Update the metrics that it is made of, each once, in one round: what several need of it is computed once."""
        with sharing(output):
            for leaf, its_output in dict(self._shares(output)).items():
                leaf.update(its_output)

    def iteration_completed(self, engine: Any) -> None:
        with sharing(engine.state.output):
            for leaf in self._leaves():
                leaf.iteration_completed(engine)

    def merged(self, other: Self) -> Self:
        if type(other) is not type(self) or len(other._leaves()) != len(self._leaves()):
            raise TypeError(f"{type(self).__name__}.merged: got something made of other metrics, {other!r}")
        pairs = zip(self._leaves(), other._leaves(), strict=True)
        return self._on({leaf: leaf.merged(same) for leaf, same in pairs})

    def to(self, device: str | torch.device) -> Self:
        for leaf in self._leaves():
            leaf.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """The states of the leaves, by their number."""
        return {str(number): leaf.state_dict() for number, leaf in enumerate(self._leaves())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        leaves = self._leaves()
        if set(state_dict) != {str(number) for number in range(len(leaves))}:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: there must be a state for each of {len(leaves)} metrics, "
                f"got {few(sorted(state_dict))}"
            )
        for number, leaf in enumerate(leaves):
            leaf.load_state_dict(state_dict[str(number)])

    def _shares(self, output: Any, in_group: bool = False) -> Iterator[tuple[Metric, Any]]:
        """The leaves with what each takes of an output; ``output_transform`` counts within a group, as there."""
        for child in self._children():
            its_output = child._output_transform(output) if in_group else output
            if isinstance(child, Composite):
                yield from child._shares(its_output, in_group)
            else:
                yield child, its_output

    def _leaves(self) -> list[Metric]:
        return list({leaf: None for child in self._children() for leaf in child._leaves()})

    def _on(self, leaves: Mapping[Metric, Metric]) -> Self:
        return self._with_children(lambda child: child._on(leaves))

    def _copy(self) -> Self:
        return self._on({leaf: leaf._copy() for leaf in self._leaves()})


class MetricsLambda(Composite):
    """A function of the values of metrics; arithmetic on metrics makes these.

    ``higher_is_better`` follows from the metrics for sums, differences, multiples by a number, elements and means; for
    other functions it is None, and may be set.

    Args:
        f: Called with the values of the metrics among the arguments, and with the others as they are.
        args: Metrics and constants.
        metrics_result_mode: As for :class:`Metric`.
        skip_unrolling: Accepted, as in pytorch-ignite; each of the metrics goes by its own.
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
        self._set_up(unchanged, None, skip_unrolling, metrics_result_mode)  # no reset: what the metrics have seen stays

    def compute(self) -> Any:
        args = [_value(arg) for arg in self.args]
        return self.function(*args, **{name: _value(arg) for name, arg in self.kwargs.items()})

    def _children(self) -> Iterator[Metric]:
        return (arg for arg in (*self.args, *self.kwargs.values()) if isinstance(arg, Metric))

    def _with_children(self, replaced: Callable[[Metric], Metric]) -> Self:
        new = copy.copy(self)
        new.args = tuple(replaced(arg) if isinstance(arg, Metric) else arg for arg in self.args)
        new.kwargs = {name: replaced(arg) if isinstance(arg, Metric) else arg for name, arg in self.kwargs.items()}
        return new

    def __repr__(self) -> str:
        inner = ", ".join([*map(repr, self.args), *(f"{name}={arg!r}" for name, arg in self.kwargs.items())])
        return f"{getattr(self.function, '__name__', self.function)}({inner})"


class MetricGroup(Composite):
    """Metrics under one name, whose value is a mapping of theirs; attached, each is stored under its own name too.

    Args:
        metrics: By name.
        output_transform: Applied to ``engine.state.output`` before those of the metrics, which are then copied;
            ``update`` takes what it makes.
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
        output_transform: Any = unchanged,
        skip_unrolling: bool = False,
    ) -> None:
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise TypeError(f"MetricGroup: {name!r} must be a Metric, got {type(metric).__name__}")
        self.metrics = dict(metrics)
        self._set_up(output_transform, None, skip_unrolling)
        if output_transform is not unchanged or skip_unrolling:  # the metrics may be used elsewhere without that
            leaves = {leaf: leaf._within(self._output_transform, skip_unrolling) for leaf in self._leaves()}
            self.metrics = {name: metric._on(leaves) for name, metric in metrics.items()}

    def compute(self) -> dict[str, Any]:
        return {name: metric.compute() for name, metric in self.metrics.items()}

    def _children(self) -> Iterator[Metric]:
        return iter(self.metrics.values())

    def _shares(self, output: Any, in_group: bool = True) -> Iterator[tuple[Metric, Any]]:
        return super()._shares(output, in_group=True)

    def _with_children(self, replaced: Callable[[Metric], Metric]) -> Self:
        new = copy.copy(self)
        new.metrics = {name: replaced(metric) for name, metric in self.metrics.items()}
        return new


def _value(arg: Any) -> Any:
    return arg.compute() if isinstance(arg, Metric) else arg


def _direction(function: Any, args: tuple[Any, ...]) -> bool | None:
    """Whether a larger value of a function is better, if all metrics among its arguments agree on that."""
    directions = set()
    for arg, sign in zip(args, _signs(function, args), strict=False):
        if isinstance(arg, Metric):
            unknown = arg.higher_is_better is None or sign == 0
            directions.add(None if unknown else arg.higher_is_better is (sign > 0))
    return directions.pop() if len(directions) == 1 else None


def _signs(function: Any, args: tuple[Any, ...]) -> tuple[int, ...]:
    """For each argument whether a function grows with it (1), falls (-1), or neither is known (0)."""
    if function is operator.add:
        return 1, 1
    if function is operator.sub:
        return 1, -1
    if function is operator.neg:
        return (-1,)
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

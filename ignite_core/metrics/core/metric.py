"""The base class of metrics: states are declared, ``update`` and ``compute`` are written, the rest is derived.

Updating and computing need no engine, so a metric works in a plain ``for`` loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

import torch

from ignite_core.distributed import utils as idist
from ignite_core.engine.events import EventName
from ignite_core.metrics.core import attachment, conversion
from ignite_core.metrics.core.arithmetic import Arithmetic
from ignite_core.metrics.core.conversion import OutputTransform, ResultMode, unchanged
from ignite_core.metrics.core.states import PlainSpec, StateSpec, accumulation_dtype, loaded_states
from ignite_core.metrics.core.sync import over_all_ranks, synced
from ignite_core.metrics.core.usage import MetricUsage, resolve_usage

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["Metric", "OutputTransform", "ResultMode", "unchanged"]

#: Attributes that a copy of a metric does not take over.
_NOT_COPIED = ("_attached_to", "_stores_numbers")

#: States created in inference mode could only be changed in inference mode.
_as_normal_tensors = torch.inference_mode(False)


class Metric(Arithmetic, ABC):
    """Base class of metrics. A subclass declares its states and defines ``update`` and ``compute``.

    ``reset``, ``merged``, ``state_dict``, ``load_state_dict``, ``to``, pickling and the reduction over ranks follow
    from the declarations. ``compute`` may use only declared states and constructor arguments: with several ranks it
    is called on a copy that holds the reduced states.

    Operators and methods of :class:`torch.Tensor` return a :class:`~ignite_core.metrics.MetricsLambda`.

    Args:
        output_transform: Maps ``engine.state.output`` to the argument of :meth:`update`: a function, a key or index, or
            a tuple of these that is followed into the output.
        device: The device of a loaded state. Default: the CPU, where scalar totals combine with data on any device. A
            state is on the device of the data, so that no update waits for a copy.
        skip_unrolling: If True, lists of tensors are passed to ``update`` unchanged instead of pair by pair.
        metrics_result_mode: How an engine stores a value that is a mapping: ``"named"``, under the name of the metric;
            ``"flatten"``, each entry under its key; or ``"both"``.
        validate: Check the values of every batch (labels in range, zeros and ones), which waits for the device. By
            default only those of the first batch are checked.

    Example:
        >>> from ignite_core.metrics import Metric, total
        >>> class MeanSquaredError(Metric):
        ...     squared_error = total()
        ...     count = total(dtype=torch.int64)
        ...
        ...     def update(self, output):
        ...         y_pred, y = output
        ...         self.squared_error += (y_pred - y).square().sum()
        ...         self.count += y.numel()
        ...
        ...     def compute(self):
        ...         return float(self.squared_error / self.count)
        >>> metric = MeanSquaredError()
        >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])))
        >>> metric.compute()
        2.0
    """

    #: Keys that turn an output that is a mapping into the tuple for ``update``; None if a mapping is not accepted.
    required_output_keys: tuple[str, ...] | None = ("y_pred", "y")

    #: Whether a larger value is better; None if the metric has no direction or it is unknown.
    higher_is_better: bool | None = None

    #: Name of the usage with which it is attached by default.
    default_usage: str = "epoch_wise"

    _specs: ClassVar[Mapping[str, StateSpec]] = {}
    _stores_numbers: bool = True  # convert values at once; False for values of iterations, which may stay on the device
    _is_synced: bool = False  # holds the data of all ranks, or is not to be reduced
    _stays_local: bool = False  # not reduced where it is computed at each iteration
    _requested_device: torch.device | None = None
    _result_mode: ResultMode = "both"
    _has_validated: bool = False  # the values of the first batch
    _is_loaded: bool = False  # its state comes from a state_dict
    _group_transform: Callable[[Any], Any] | None = None  # of the group that it belongs to
    _attached_to: tuple[Any, ...] = ()  # engines and usages

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = {name: spec for name, spec in vars(cls).items() if isinstance(spec, StateSpec)}
        cls._specs = {**cls._specs, **declared}
        for method in vars(cls).values():
            cls._specs = {**cls._specs, **getattr(method, "synced_attributes", {})}
        if "compute" in vars(cls):
            cls.compute = over_all_ranks(cls.compute)  # type: ignore[method-assign]
        has_all_declared = cls._specs and not any(isinstance(spec, PlainSpec) for spec in cls._specs.values())
        if cls.reset is Metric.reset and not has_all_declared and not _is_abstract(cls):
            raise TypeError(
                f"{cls.__name__}: a metric must declare its states, as in `count = total()`, or define reset(), "
                "otherwise it accumulates across epochs and runs; a metric without states defines an empty reset()"
            )

    def __init__(
        self,
        output_transform: OutputTransform = unchanged,
        device: str | torch.device | None = None,
        skip_unrolling: bool = False,
        metrics_result_mode: ResultMode = "both",
        *,
        validate: bool = False,
    ) -> None:
        self._set_up(output_transform, device, skip_unrolling, metrics_result_mode)
        self.validate = validate
        self.reset()

    def _set_up(
        self,
        output_transform: OutputTransform,
        device: str | torch.device | None,
        skip_unrolling: bool,
        metrics_result_mode: ResultMode = "both",
    ) -> None:
        if metrics_result_mode not in get_args(ResultMode):
            raise ValueError(
                f"{type(self).__name__}: metrics_result_mode must be one of {get_args(ResultMode)}, "
                f"got {metrics_result_mode!r}"
            )
        self._result_mode = metrics_result_mode
        self._output_transform = conversion.as_transform(output_transform, type(self).__name__)
        self._requested_device = None if device is None else torch.device(device)
        self._device = self._requested_device or torch.device("cpu")  # for metrics written for pytorch-ignite
        self._skip_unrolling = skip_unrolling

    @abstractmethod
    def update(self, output: Any) -> None:
        """Add one batch. It must not wait for a device: no ``.item()``, no ``bool(tensor)``.

        An engine calls it under :class:`torch.no_grad`; in a custom loop, detach outputs that carry a graph.
        """

    @abstractmethod
    def compute(self) -> Any:
        """The value over all batches since the last reset.

        Raises:
            NotComputableError: If there were none.
        """

    def reset(self) -> None:
        """Reset all states."""
        for name, spec in self._specs.items():
            if not isinstance(spec, PlainSpec):
                setattr(self, name, spec.fresh())

    def merged(self, other: Self) -> Self:
        """A new metric that holds the data of both."""
        if type(other) is not type(self):
            raise TypeError(f"{type(self).__name__}.merged: got a {type(other).__name__}")
        return self._with_states(lambda name, spec: spec.reduce.combine(getattr(self, name), getattr(other, name)))

    @_as_normal_tensors
    def to(self, device: str | torch.device) -> Self:
        """Move the states; returns this metric."""
        for name, spec in self._specs.items():
            setattr(self, name, spec.moved(getattr(self, name), device))
        return self

    def state_dict(self) -> dict[str, Any]:
        """The declared states, as tensors and lists of tensors; with several ranks the reduced ones.

        All ranks must call it. The result does not depend on the number of ranks.
        """
        (metric,) = [self] if self._is_synced else synced([(type(self).__name__, self)])
        return {name: spec.saved(getattr(metric, name)) for name, spec in self._specs.items()}

    @_as_normal_tensors
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the states that :meth:`state_dict` returned. With several ranks, rank 0 loads and the others reset.

        Raises:
            TypeError: If it is not a mapping, or a state has the wrong type; nothing is changed then.
            ValueError: If a state is missing or unknown; nothing is changed then.
        """
        loaded = loaded_states(f"{type(self).__name__}.load_state_dict", self._specs, state_dict)
        self.reset()
        if idist.get_rank() == 0:
            for name, value in loaded.items():
                setattr(self, name, value)
        if self._requested_device is not None:
            self.to(self._requested_device)
        self._is_loaded = True

    def attach(
        self,
        engine: Engine,
        name: str,
        usage: MetricUsage | str | None = None,
        *,
        reset: EventName | None = None,
        update: EventName | None = None,
        compute: EventName | None = None,
    ) -> None:
        """Reset, update and compute this metric on events of an engine; its value is ``engine.state.metrics[name]``.

        The first engine uses this object, so ``compute()`` after a run works; every other engine uses a copy with
        separate states.

        Args:
            engine: The engine.
            name: Name of the value. If the value is a mapping, its entries are stored under their keys too.
            usage: A :class:`~ignite_core.metrics.MetricUsage` or its name. Default: :attr:`default_usage`.
            reset: The event that resets, instead of that of the usage.
            update: The event that updates with ``engine.state.output``, instead of that of the usage.
            compute: The event that stores the value, instead of that of the usage. The value covers all ranks, so all
                ranks must reach the event equally often.

        Raises:
            ValueError: If the name is taken by another metric of this engine, or the usage is unknown.

        Example:
            >>> from ignite_core.engine import Engine
            >>> from ignite_core.metrics import Accuracy
            >>> evaluator = Engine(lambda engine, batch: batch)
            >>> Accuracy().attach(evaluator, "accuracy")
            >>> y_pred, y = torch.eye(3), torch.tensor([0, 1, 1])
            >>> evaluator.run([(y_pred, y)]).metrics
            {'accuracy': 0.6666666666666666}
        """
        attachment.attach(self, engine, name, self._resolve_usage(usage, reset=reset, update=update, compute=compute))

    def detach(
        self,
        engine: Engine,
        usage: MetricUsage | str | None = None,
        *,
        reset: EventName | None = None,
        update: EventName | None = None,
        compute: EventName | None = None,
    ) -> None:
        """Undo :meth:`attach` with the same arguments; does nothing if the metric is not attached with these."""
        attachment.detach(self, engine, self._resolve_usage(usage, reset=reset, update=update, compute=compute))

    def is_attached(
        self,
        engine: Engine,
        usage: MetricUsage | str | None = None,
        *,
        reset: EventName | None = None,
        update: EventName | None = None,
        compute: EventName | None = None,
    ) -> bool:
        """Whether the metric is attached with these arguments."""
        return attachment.is_attached(
            self, engine, self._resolve_usage(usage, reset=reset, update=update, compute=compute)
        )

    def started(self, engine: Engine) -> None:
        """Called at the event that resets. In a resumed run a loaded metric is not reset; others cause a warning."""
        if not getattr(engine, "is_resumed", False):
            self.reset()
        elif self._is_partial():
            attachment.warn_of_partial_metrics(engine)

    def iteration_completed(self, engine: Engine) -> None:
        """Called at the event that updates."""
        with torch.no_grad():
            for output in self._unrolled(engine.state.output):
                self.update(output)

    def completed(self, engine: Engine, name: str) -> None:
        """Called at the event that computes. Stores the value; one of an iteration stays on its device until read."""
        convert = conversion.as_number if self._stores_numbers else conversion.as_number_on_cpu
        value = self.compute()
        metrics = engine.state.metrics
        for key, one in conversion.result_entries(type(self).__name__, name, value, self._result_mode).items():
            metrics[key] = convert(one)

    _double_dtype = property(lambda self: accumulation_dtype(self._device))  # for metrics written for pytorch-ignite

    def _resolve_usage(self, usage: MetricUsage | str | None, **events: EventName | None) -> MetricUsage:
        return resolve_usage(repr(self), self.default_usage if usage is None else usage, **events)

    def _hooks(self, usage: MetricUsage) -> list[tuple[EventName, Callable[[Any], None]]]:
        """The handlers and their events, except for the one that computes."""
        return [(usage.started, self.started), (usage.iteration_completed, self.iteration_completed)]

    @property
    def _has_default_update(self) -> bool:
        return type(self).iteration_completed is Metric.iteration_completed

    @property
    def _has_no_transform(self) -> bool:
        return self._output_transform is unchanged and self._group_transform is None

    def _should_validate(self) -> bool:
        """Whether to check the values of this batch: for the first one, and with ``validate``."""
        is_first, self._has_validated = not self._has_validated, True
        return is_first or self.validate

    def _is_partial(self) -> bool:
        """Whether data from before a resume is missing."""
        return not self._is_loaded and not self._has_data()

    def _has_data(self) -> bool:
        """Whether any declared total or list is not empty."""
        specs = [(leaf, name, spec.op) for leaf in self._leaves() for name, spec in leaf._specs.items()]
        states = [getattr(leaf, name) for leaf, name, op in specs if op in (None, "SUM")]
        return any(bool(state.any()) if isinstance(state, torch.Tensor) else bool(state) for state in states)

    def _leaves(self) -> list[Metric]:
        """The metrics with states that this one is computed from: itself, unless it is a composite."""
        return [self]

    def _with_leaves(self, leaves: Mapping[Metric, Metric]) -> Any:
        """This metric with its leaves replaced."""
        return leaves[self]

    def _copy(self) -> Self:
        """A metric with the same arguments, fresh states and no engine."""
        new = self._shallow_copy()
        new.reset()
        return new

    def _copy_for_group(self, transform: Callable[[Any], Any], skip_unrolling: bool) -> Self:
        """A copy for a group with an ``output_transform``."""
        new, inner = self._copy(), self._group_transform
        new._group_transform = transform if inner is None else conversion.Chain(transform, inner)
        new._skip_unrolling = self._skip_unrolling or skip_unrolling
        return new

    def _local_copy(self) -> Self:
        """A copy that is computed without a reduction."""
        new = self._shallow_copy()
        new._is_synced = True
        return new

    def _export(self) -> dict[str, Any]:
        """The states to send to other ranks: numbers, tensors, lists of tensors."""
        return {name: getattr(self, name) for name in self._specs}

    def _combined(self, ranks: Sequence[Mapping[str, Any]]) -> Self:
        """A copy with the exported states of all ranks."""
        new = self._with_states(lambda name, spec: reduce(spec.reduce.combine, [states[name] for states in ranks]))
        new._is_synced = True
        return new

    def _adopt_attributes(self, computed: Metric) -> None:
        """Copy attributes, except states, that a metric written for pytorch-ignite has set in ``compute``."""
        is_ported = all(isinstance(spec, PlainSpec) for spec in self._specs.values())
        if is_ported and type(self)._combined is Metric._combined:
            excluded = {*self._specs, "_is_synced", *_NOT_COPIED}
            vars(self).update({name: value for name, value in vars(computed).items() if name not in excluded})

    def _unrolled(self, output: Any) -> list[Any]:
        """The arguments of ``update`` for one output of the step."""
        output = self._transformed(output)
        return conversion.update_args(type(self).__name__, output, self.required_output_keys, self._skip_unrolling)

    def _transformed(self, output: Any) -> Any:
        if self._group_transform is not None:
            output = self._group_transform(output)
        return output if self._output_transform is unchanged else self._output_transform(output)

    @_as_normal_tensors
    def _with_states(self, value_of: Callable[[str, StateSpec], Any]) -> Self:
        """A copy with other states."""
        new = self._shallow_copy()
        for name, spec in self._specs.items():
            setattr(new, name, value_of(name, spec))
        return new

    def _shallow_copy(self) -> Self:
        """Like ``copy.copy``, several times faster; attached to no engine."""
        new = object.__new__(type(self))
        attributes = new.__dict__
        attributes.update(self.__dict__)
        for name in _NOT_COPIED:
            attributes.pop(name, None)
        return new

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_COPIED}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _is_abstract(cls: type) -> bool:
    """Whether a class has abstract methods; ABCMeta sets ``__abstractmethods__`` only after ``__init_subclass__``."""
    names = {*vars(cls), *(name for base in cls.__bases__ for name in getattr(base, "__abstractmethods__", ()))}
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in names)

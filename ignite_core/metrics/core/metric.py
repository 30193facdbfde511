"""A metric: what it remembers is declared, how it is updated and computed is written, the rest is derived.

Nothing here knows an engine: a metric works in a bare ``for`` loop. How it is attached is in
:mod:`ignite_core.metrics.core.usage`, which puts itself into ``Metric._usage`` when it is imported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import reduce, wraps
from numbers import Number
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

import torch

from ignite_core.distributed import utils as idist
from ignite_core.exceptions import few
from ignite_core.metrics.core.arithmetic import Arithmetic
from ignite_core.metrics.core.compat import reinit__is_reduced, sync_all_reduce
from ignite_core.metrics.core.states import PlainSpec, StateSpec, accumulated_in
from ignite_core.metrics.core.sync import synced

__all__ = ["Metric", "reinit__is_reduced", "sync_all_reduce"]  # the decorators are imported from here in ported code


M = TypeVar("M", bound="Metric")
ResultMode = Literal["flatten", "named", "both"]

#: What a copy of a metric does not take over: where it is attached, and how.
_OF_THE_ORIGINAL = ("_homes", "_waits")


#: States that are made in inference mode could be added to in that mode only.
_as_normal_tensors = torch.inference_mode(False)


def unchanged(output: Any) -> Any:
    """The default ``output_transform``."""
    return output


class Metric(Arithmetic, ABC):
    """Base class of metrics. A subclass declares its states and writes ``update`` and ``compute``.

    ``reset``, ``merged``, ``state_dict``, ``load_state_dict``, ``to``, pickling and the reduction over all ranks follow
    from the declarations. ``compute`` may use declared states and arguments of the constructor, and nothing else: on
    several ranks it is called on a copy that has seen what all of them have seen.

    Operators and methods of :class:`torch.Tensor` make a :class:`~ignite_core.metrics.MetricsLambda`.

    Args:
        output_transform: Makes what :meth:`update` takes of ``engine.state.output``: a function, a key or index of
            it, or a tuple of these that leads to it.
        device: Where a loaded state is put; by default on the CPU, and totals without dimensions join the next data
            that is taken in. A state lives on the device of the data, so that no update waits for a copy.
        skip_unrolling: Hand lists of tensors to ``update`` as they are, instead of pair by pair.
        metrics_result_mode: How an engine stores a value that is a mapping: ``"named"``, under the name of the metric;
            ``"flatten"``, each entry under its own key; or ``"both"``.
        validate: Look at the values of each batch (labels in range, zeros and ones), which waits for the device; by
            default only at those of the first one.

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

    #: Names by which an output that is a mapping is turned into the tuple that ``update`` takes; None if it may not be.
    required_output_keys: tuple[str, ...] | None = ("y_pred", "y")

    #: Whether a larger value is the better one; None if it has no direction, or not one that is known.
    higher_is_better: bool | None = None

    #: Name of the usage under which it is attached unless told otherwise.
    default_usage: str = "epoch_wise"

    _specs: ClassVar[Mapping[str, StateSpec]] = {}
    _usage: ClassVar[Any] = None
    _waits: bool = True  # whether what is stored must be a number at once; not where it is stored at each iteration
    _is_synced: bool = False  # it has seen what all ranks have seen, or is not to be asked about others
    _stays_local: bool = False  # where it is computed at each iteration, it is that of this rank
    _own_device: torch.device | None = None  # where it was asked to put its state
    _result_mode: ResultMode = "both"
    _has_looked: bool = False  # at the values of a batch
    _is_loaded: bool = False  # a saved state was
    _outer_transform: Callable[[Any], Any] | None = None  # of the group it is in
    _homes: tuple[Any, ...] = ()  # the engines and usages it is attached to

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = {name: spec for name, spec in vars(cls).items() if isinstance(spec, StateSpec)}
        compute = vars(cls).get("compute")
        cls._specs = {**cls._specs, **declared}
        for method in vars(cls).values():
            cls._specs = {**cls._specs, **getattr(method, "synced_attributes", {})}
        if compute is not None:
            cls.compute = _of_all_ranks(compute)  # type: ignore[method-assign]
        has_all_declared = cls._specs and not any(isinstance(spec, PlainSpec) for spec in cls._specs.values())
        if cls.reset is Metric.reset and not has_all_declared and not _is_abstract(cls):
            raise TypeError(
                f"{cls.__name__}: a metric must declare its states, as in `count = total()`, or define reset(), else "
                "its value goes on over epochs and runs; one without a state defines an empty reset()"
            )

    def __init__(
        self,
        output_transform: Callable[[Any], Any] | str | int | tuple[str | int, ...] = unchanged,
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
        output_transform: Any,
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
        self._output_transform = _as_function(output_transform, type(self).__name__)
        self._own_device = None if device is None else torch.device(device)
        self._device = self._own_device or torch.device("cpu")  # where what is written for pytorch-ignite keeps states
        self._skip_unrolling = skip_unrolling

    @abstractmethod
    def update(self, output: Any) -> None:
        """Take in what one batch gave. It must not wait for a device: no ``.item()``, no ``bool(tensor)``.

        An engine calls it under :class:`torch.no_grad`; in a loop of your own, detach what carries a graph.
        """

    @abstractmethod
    def compute(self) -> Any:
        """The value over everything that was taken in since the last reset.

        Raises:
            NotComputableError: If there was nothing.
        """

    def reset(self) -> None:
        """Forget everything that was taken in."""
        for name, spec in self._specs.items():
            if not isinstance(spec, PlainSpec):
                setattr(self, name, spec.fresh())

    def merged(self, other: Self) -> Self:
        """A new metric that has seen what both have seen."""
        if type(other) is not type(self):
            raise TypeError(f"{type(self).__name__}.merged: got a {type(other).__name__}")
        return self._with(lambda name, spec: spec.reduce.combine(getattr(self, name), getattr(other, name)))

    @_as_normal_tensors
    def to(self, device: str | torch.device) -> Self:
        """Move the state; returns this metric."""
        for name, spec in self._specs.items():
            setattr(self, name, spec.moved(getattr(self, name), device))
        return self

    def state_dict(self) -> dict[str, Any]:
        """The declared states, as tensors and lists of tensors.

        On several ranks these are the states over all of them, so all ranks must call it; what is saved does not depend
        on how many there were.
        """
        (metric,) = [self] if self._is_synced else synced([(type(self).__name__, self)])
        return {name: spec.saved(getattr(metric, name)) for name, spec in self._specs.items()}

    @_as_normal_tensors
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` saved. On several ranks the first one does; the others start from nothing.

        Raises:
            TypeError: If it is no mapping, or a state is not what was saved; nothing is changed then.
            ValueError: If a state is missing or unknown; nothing is changed then.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{type(self).__name__}.load_state_dict: state_dict must be a mapping, got {type(state_dict).__name__}"
            )
        if set(state_dict) != set(self._specs):
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the states must be {few(sorted(self._specs))}, "
                f"got {few(sorted(state_dict))}"
            )
        loaded = {name: spec.loaded(state_dict[name]) for name, spec in self._specs.items()}  # before any is changed
        self.reset()
        if idist.get_rank() == 0:
            for name, value in loaded.items():
                setattr(self, name, value)
        if self._own_device is not None:
            self.to(self._own_device)
        self._is_loaded = True

    def attach(
        self, engine: Any, name: str, usage: Any = None, *, reset: Any = None, update: Any = None, compute: Any = None
    ) -> None:
        """Reset, update and compute this metric on events of an engine; its value is ``engine.state.metrics[name]``.

        The first engine gets this very object, so ``compute()`` after a run still works; every further one gets a copy
        with a state of its own.

        Args:
            engine: An :class:`~ignite_core.engine.Engine`.
            name: Of the value. A value that is a mapping is stored under its own keys too.
            usage: When it happens, a :class:`~ignite_core.metrics.MetricUsage` or its name; by default
                :attr:`default_usage`.
            reset: The event that forgets, instead of that of the usage.
            update: The event that takes in ``engine.state.output``, instead of that of the usage.
            compute: The event that stores the value, instead of that of the usage. All ranks must reach it equally
                often, as the values are those of all ranks together.

        Raises:
            ValueError: If another metric of this engine has the name, or the usage is not known.

        Example:
            >>> from ignite_core.engine import Engine
            >>> from ignite_core.metrics import Accuracy
            >>> evaluator = Engine(lambda engine, batch: batch)
            >>> Accuracy().attach(evaluator, "accuracy")
            >>> y_pred, y = torch.eye(3), torch.tensor([0, 1, 1])
            >>> evaluator.run([(y_pred, y)]).metrics
            {'accuracy': 0.6666666666666666}
        """
        self._usage.attach(self, engine, name, usage, reset, update, compute)

    def detach(
        self, engine: Any, usage: Any = None, *, reset: Any = None, update: Any = None, compute: Any = None
    ) -> None:
        """Undo :meth:`attach` with the same arguments; a metric that is not attached so is left alone."""
        self._usage.detach(self, engine, usage, reset, update, compute)

    def is_attached(
        self, engine: Any, usage: Any = None, *, reset: Any = None, update: Any = None, compute: Any = None
    ) -> bool:
        """Whether :meth:`attach` was called with these arguments, and not undone."""
        attached: bool = self._usage.is_attached(self, engine, usage, reset, update, compute)
        return attached

    def started(self, engine: Any) -> None:
        """What is done at the event that resets: nothing where a run goes on from a state that was loaded.

        A metric whose own state was not loaded then covers the rest alone; a warning names it.
        """
        if not getattr(engine, "is_resumed", False):
            self.reset()
        elif self._is_partial():
            self._usage.warn_of_partial_metrics(engine)

    def iteration_completed(self, engine: Any) -> None:
        """What is done at the event that updates."""
        with torch.no_grad():
            for output in self._outputs_of(engine.state.output):
                self.update(output)

    def completed(self, engine: Any, name: str) -> None:
        """What is done at the event that computes: the value is stored, one element as a number.

        What is computed at each iteration on an accelerator stays there until somebody reads it.
        """
        value = self.compute()
        metrics = engine.state.metrics
        as_number = _as_number if self._waits else _as_number_from_cpu
        if not isinstance(value, Mapping):
            metrics[name] = as_number(value)
            return
        if self._result_mode != "flatten" and name in value:
            raise ValueError(f"{type(self).__name__}: the name {name!r} is also one of its values, {few(value)}")
        if self._result_mode != "named":
            for key, one in value.items():
                metrics[key] = as_number(one)
        if self._result_mode != "flatten":
            metrics[name] = as_number(value)

    @property
    def _double_dtype(self) -> torch.dtype:
        """What those written for pytorch-ignite accumulate in."""
        return accumulated_in(torch.float64, self._device)

    def _hooks(self, usage: Any) -> list[tuple[Any, Callable[[Any], None]]]:
        """What listens to which event, but for what computes."""
        return [(usage.started, self.started), (usage.iteration_completed, self.iteration_completed)]

    def _looks_at_values(self) -> bool:
        """Whether the values of this batch are checked: they are on the first one, and with ``validate``."""
        first, self._has_looked = not self._has_looked, True
        return first or self.validate

    def _has_seen(self) -> bool:
        """Whether it has taken in samples, as far as the declared sums and lists tell."""
        specs = [(leaf, name, spec.op) for leaf in self._leaves() for name, spec in leaf._specs.items()]
        states = [getattr(leaf, name) for leaf, name, op in specs if op in (None, "SUM")]
        return any(bool(state.any()) if isinstance(state, torch.Tensor) else bool(state) for state in states)

    def _is_partial(self) -> bool:
        """Whether it lacks what was seen before a resume."""
        return not self._is_loaded and not self._has_seen()

    def _copy(self) -> Self:
        """A metric like this one that has seen nothing and is attached nowhere."""
        new = _twin(self)
        new._homes = ()
        new.reset()
        return new

    def _leaves(self) -> list[Metric]:
        """The metrics that remember what this one needs: itself, unless it is made of others."""
        return [self]

    def _on(self, leaves: Mapping[Metric, Metric]) -> Any:
        """This metric with other leaves."""
        return leaves[self]

    def _within(self, outer_transform: Callable[[Any], Any], skip_unrolling: bool) -> Self:
        """A copy for a group that has an ``output_transform`` of its own."""
        new = self._copy()
        inner = self._outer_transform
        new._outer_transform = outer_transform if inner is None else _OneAfterAnother(outer_transform, inner)
        new._skip_unrolling = self._skip_unrolling or skip_unrolling
        return new

    def _as_it_is(self) -> Self:
        """A copy that is computed from what this rank has seen."""
        new = _twin(self)
        new._is_synced = True
        return new

    def _export(self) -> dict[str, Any]:
        """What other ranks need to know: numbers, tensors, lists of tensors."""
        return {name: getattr(self, name) for name in self._specs}

    def _combined(self, ranks: Sequence[Mapping[str, Any]]) -> Self:
        """A copy that has seen what was exported on all ranks."""
        new = self._with(lambda name, spec: reduce(spec.reduce.combine, [states[name] for states in ranks]))
        new._is_synced = True
        return new

    def _keep(self, copy: Metric) -> None:
        """Take over what one that is written for pytorch-ignite has set while it was computed, but for its states."""
        if (
            all(isinstance(spec, PlainSpec) for spec in self._specs.values())
            and type(self)._combined is Metric._combined
        ):
            not_kept = {*self._specs, "_is_synced", "_homes", "_waits"}
            vars(self).update({name: value for name, value in vars(copy).items() if name not in not_kept})

    def _outputs_of(self, output: Any) -> list[Any]:
        """What ``update`` is called with for one output of the step."""
        output = self._transformed(output)
        if is_usual_output(output):
            return [output]
        if isinstance(output, Mapping):
            keys = self.required_output_keys
            if keys is None:
                raise TypeError(f"{type(self).__name__}: the output must not be a mapping, got the keys {few(output)}")
            missing = [key for key in keys if key not in output]
            if missing:
                raise ValueError(
                    f"{type(self).__name__}: the output must have the keys {list(keys)}, got {few(output)}"
                )
            output = tuple(output[key] for key in keys)
        if self._skip_unrolling or not _is_pair_of_lists(output):
            return [output]
        return [_as_batches(*pair) for pair in zip(*output, strict=True)]

    @property
    def _takes_outputs_as_they_are(self) -> bool:
        return self._output_transform is unchanged and self._outer_transform is None

    def _transformed(self, output: Any) -> Any:
        if self._outer_transform is not None:
            output = self._outer_transform(output)
        return output if self._output_transform is unchanged else self._output_transform(output)

    @_as_normal_tensors
    def _with(self, value_of: Callable[[str, StateSpec], Any]) -> Self:
        """A copy, attached nowhere, with other states."""
        new = _twin(self)
        new._homes = ()
        for name, spec in self._specs.items():
            setattr(new, name, value_of(name, spec))
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the engines it is attached to."""
        return {name: value for name, value in self.__dict__.items() if name not in _OF_THE_ORIGINAL}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _is_abstract(cls: type) -> bool:
    """Whether methods of a class are still to be written; ABCMeta tells it only after ``__init_subclass__``."""
    names = {*vars(cls), *(name for base in cls.__bases__ for name in getattr(base, "__abstractmethods__", ()))}
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in names)


def _twin(metric: M) -> M:
    """What ``copy.copy`` would make, several times as fast."""
    new = object.__new__(type(metric))
    attributes = new.__dict__
    attributes.update(metric.__dict__)
    for name in _OF_THE_ORIGINAL:
        attributes.pop(name, None)
    return new


def _of_all_ranks(compute: Callable[..., Any]) -> Callable[..., Any]:
    """``compute`` over what all ranks have seen."""

    @wraps(compute)
    def on_all(self: Metric) -> Any:
        if self._is_synced or idist.get_world_size() == 1:
            return compute(self)
        leaves = self._leaves()
        if all(leaf._is_synced for leaf in leaves):
            return compute(self)
        own = [(f"{type(self).__name__}.{number}", leaf) for number, leaf in enumerate(leaves)]
        joined = dict(zip(leaves, synced(own), strict=True))
        value = self._on(joined).compute()
        for leaf, one in joined.items():
            leaf._keep(one)
        return value

    return on_all


def _as_function(transform: Any, who: str) -> Callable[[Any], Any]:
    """An ``output_transform``, which may be the key of what is wanted, or a path of keys."""
    if callable(transform):
        return transform  # type: ignore[no-any-return]
    path = transform if isinstance(transform, tuple) else (transform,)
    if not path or not all(isinstance(key, str | int) and not isinstance(key, bool) for key in path):
        raise TypeError(
            f"{who}: output_transform must be callable, a key, an index, or a tuple of these, got {transform!r}"
        )
    return _Path(path)


class _OneAfterAnother:
    """Two transforms, one after the other."""

    def __init__(self, first: Callable[[Any], Any], second: Callable[[Any], Any]) -> None:
        self.first = first
        self.second = second

    def __call__(self, output: Any) -> Any:
        return self.second(self.first(output))


class _Path:
    """Follows keys into an output."""

    def __init__(self, keys: tuple[str | int, ...]) -> None:
        self.keys = keys

    def __call__(self, output: Any) -> Any:
        return reduce(lambda value, key: value[key], self.keys, output)


def is_usual_output(output: Any) -> bool:
    """Whether an output is what it mostly is: a tuple of tensors, which is taken as it is."""
    return type(output) is tuple and len(output) > 0 and isinstance(output[0], torch.Tensor)


def _is_pair_of_lists(output: Any) -> bool:
    return (
        isinstance(output, tuple | list)
        and len(output) == 2
        and all(isinstance(one, tuple | list) for one in output)
        and all(isinstance(item, torch.Tensor | Number) for one in output for item in one)
    )


def _as_batches(y_pred: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample as a batch of one; a number goes where the prediction is."""
    prediction = torch.as_tensor(y_pred)
    target = y if isinstance(y, torch.Tensor) else torch.as_tensor(y, device=prediction.device)
    return prediction.unsqueeze(0), target.unsqueeze(0)


def _as_number(value: Any) -> Any:
    """A tensor without dimensions as a python number, another one on the CPU, anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.item() if value.ndim == 0 else value.detach().cpu()


def _as_number_from_cpu(value: Any) -> Any:
    """As :func:`_as_number`, but what lies on an accelerator stays there."""
    if isinstance(value, torch.Tensor) and not value.is_cpu:
        return value.detach()
    return _as_number(value)


def __getattr__(name: str) -> Any:
    """The usages, which ported code imports from here."""
    if name not in getattr(Metric._usage, "__all__", ()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(Metric._usage, name)

"""Metrics on an engine: which accumulate, which handler updates them, and which values are computed together.

A metric is described by the protocol :class:`Attachable`, so that :class:`~ignite_core.metrics.Metric` can import this
module and not the other way round.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ignite_core.distributed import utils as idist
from ignite_core.engine.events import EventName, EventsList
from ignite_core.exceptions import few
from ignite_core.metrics.core.conversion import is_tuple_of_tensors
from ignite_core.metrics.core.memo import memo_scope
from ignite_core.metrics.core.sync import Reducible, synced
from ignite_core.metrics.core.usage import MetricUsage, bare, event_key, parts, priority

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine
    from ignite_core.engine.registration import RemovableEventHandle

_Key = tuple[Any, ...]  # of a usage
_Hook = Callable[[Any], None]


class Attachable(Reducible, Protocol):
    """What an engine needs of a metric; :class:`~ignite_core.metrics.Metric` says what each member does."""

    _attached_to: tuple[tuple[weakref.ref[Any], _Key], ...]
    _stores_numbers: bool
    _stays_local: bool

    @property
    def _has_default_update(self) -> bool: ...
    @property
    def _has_no_transform(self) -> bool: ...
    def update(self, output: Any) -> None: ...
    def completed(self, engine: Any, name: str) -> None: ...
    def _hooks(self, usage: MetricUsage) -> list[tuple[EventName, _Hook]]: ...
    def _unrolled(self, output: Any) -> list[Any]: ...
    def _copy(self) -> Any: ...
    def _local_copy(self) -> Any: ...
    def _is_partial(self) -> bool: ...


class _Accumulator:
    """A leaf that accumulates on one engine under one usage: the metric itself, or a copy with separate state."""

    def __init__(self, metric: Attachable, removers: list[Callable[[], None]]) -> None:
        self.metric = metric
        self.removers = removers  # of its handlers
        self.num_values = 0  # attached values that are computed from it


class _UpdateGroup:
    """Leaves updated by one handler: attached one after the other, with no other handler registered in between."""

    def __init__(self, engine: Engine, event: EventName) -> None:
        self.leaves: list[Attachable] = []
        self.handle = engine.add_event_handler(event, self.update)
        self.newest = _newest(engine, event)

    def update(self, engine: Engine) -> None:
        """Update each leaf as ``iteration_completed`` does, with one ``no_grad`` and one memo for all."""
        output, leaves = engine.state.output, self.leaves
        is_plain = is_tuple_of_tensors(output)
        with torch.no_grad(), memo_scope(output) if len(leaves) > 1 else nullcontext():
            for leaf in leaves:
                if is_plain and leaf._has_no_transform:
                    leaf.update(output)
                else:
                    for one in leaf._unrolled(output):
                        leaf.update(one)

    def add(self, leaf: Attachable) -> None:
        self.leaves = [*self.leaves, leaf]  # a new list: an update may be iterating over the old one

    def remove(self, leaf: Attachable) -> None:
        """Remove a leaf, and the handler with the last one."""
        self.leaves = [one for one in self.leaves if one is not leaf]
        if not self.leaves:
            self.handle.remove()


class _AttachedValue:
    """A value stored under a name: a metric, computed from its accumulators."""

    def __init__(
        self, name: str, metric: Attachable, usage: MetricUsage, accumulators: dict[Attachable, _Accumulator]
    ) -> None:
        self.name = name
        self.metric = metric
        self.key = usage.key
        self.stores_numbers = not usage.is_per_iteration
        self.accumulators = accumulators  # by the leaves of the metric
        self.active = self.computed_from({one.metric: one.metric for one in accumulators.values()})

    def computed_from(self, replacements: Mapping[Attachable, Attachable]) -> Attachable:
        """The metric with its accumulators replaced."""
        metric: Attachable = self.metric._with_leaves(
            {leaf: replacements[one.metric] for leaf, one in self.accumulators.items()}
        )
        metric._stores_numbers = self.stores_numbers
        return metric

    def is_partial(self) -> bool:
        """Whether data from before a resume is missing."""
        return any(one.metric._is_partial() for one in self.accumulators.values())


class _ComputeGroup:
    """The values computed at one event, with one filter and priority: reduced over the ranks together."""

    def __init__(self) -> None:
        self.values: list[_AttachedValue] = []
        self.partial_at: int | None = None  # iteration of the last resume without states

    @property
    def collective(self) -> str | None:
        """Name used where ranks compare their handlers; None if nothing is reduced."""
        leaves = (one.metric for value in self.values for one in value.accumulators.values())
        return None if all(leaf._stays_local and not leaf._stores_numbers for leaf in leaves) else "metrics"

    def compute(self, engine: Engine) -> None:
        values = self.values
        if self.partial_at == engine.state.iteration:
            values = [value for value in values if not value.is_partial()]  # no data of the resumed epoch is left
        if idist.get_world_size() > 1:
            self._compute_over_ranks(engine, values)
            return
        for value in values:
            value.active.completed(engine, value.name)

    def _compute_over_ranks(self, engine: Engine, values: list[_AttachedValue]) -> None:
        names = {one.metric: value.name for value in values for one in value.accumulators.values()}
        local = {leaf: leaf._local_copy() for leaf in names if leaf._stays_local and not leaf._stores_numbers}
        to_reduce = [(name, leaf) for leaf, name in names.items() if leaf not in local]
        reduced = zip((leaf for _, leaf in to_reduce), synced(to_reduce), strict=True)
        replacements: dict[Attachable, Attachable] = {**local, **dict(reduced)}
        for value in values:
            value.computed_from(replacements).completed(engine, value.name)
        for leaf, computed in replacements.items():
            leaf._adopt_attributes(computed)


class _Attachments:
    """Everything attached to one engine, which holds this object."""

    def __init__(self) -> None:
        self.values: dict[str, _AttachedValue] = {}
        self.accumulators: dict[tuple[Attachable, _Key], _Accumulator] = {}
        self.compute_groups: list[tuple[_Key, _ComputeGroup, RemovableEventHandle]] = []
        self.last_updates: tuple[_Key, _UpdateGroup] | None = None
        self.warned_at: tuple[int, Any] | None = None  # iteration and event of the last resume without states

    def remove(self, value: _AttachedValue) -> None:
        """Remove a value, and the handler of a compute group that has no values left."""
        del self.values[value.name]
        for _, group, handle in self.compute_groups:
            group.values = [one for one in group.values if one is not value]
            if not group.values:
                handle.remove()
        self.compute_groups = [entry for entry in self.compute_groups if entry[1].values]


def attach(metric: Attachable, engine: Engine, name: str, usage: MetricUsage) -> None:
    """Implements :meth:`Metric.attach`."""
    for event in (*parts(usage.started), *parts(usage.completed), *parts(usage.iteration_completed)):
        if not engine.has_registered_events(event):  # checked before a handler is added
            raise ValueError(f"{metric!r}.attach: {event!r} is not an event of this engine; register it first")
    attachments = _attachments(engine)
    if attachments is None:
        attachments = engine._metrics = _Attachments()  # type: ignore[attr-defined]
    if name in attachments.values:
        raise ValueError(
            f"{metric!r}.attach: the name {name!r} is taken by {attachments.values[name].metric!r} on this engine; "
            "choose another one, or detach that metric first"
        )
    accumulators = {leaf: _accumulator(attachments, leaf, engine, usage) for leaf in metric._leaves()}
    for accumulator in accumulators.values():
        accumulator.num_values += 1
    attachments.values[name] = value = _AttachedValue(name, metric, usage, accumulators)
    group = _compute_group(attachments, engine, usage)
    group.values = [*group.values, value]  # a new list: a computation may be iterating over the old one


def detach(metric: Attachable, engine: Engine, usage: MetricUsage) -> None:
    """Implements :meth:`Metric.detach`."""
    attachments, key = _attachments(engine), usage.key
    for value in _values_of(metric, engine, key):
        assert attachments is not None
        attachments.remove(value)
        for leaf, accumulator in value.accumulators.items():
            accumulator.num_values -= 1
            if not accumulator.num_values:
                for remove in accumulator.removers:
                    remove()
                del attachments.accumulators[leaf, key]
                leaf._attached_to = tuple(one for one in leaf._attached_to if (one[0](), one[1]) != (engine, key))


def is_attached(metric: Attachable, engine: Engine, usage: MetricUsage) -> bool:
    """Implements :meth:`Metric.is_attached`."""
    return bool(_values_of(metric, engine, usage.key))


def attached_metrics(engine: Engine) -> dict[str, Any]:
    """The metrics attached to an engine, by the name of their value."""
    attachments = _attachments(engine)
    return {} if attachments is None else {name: value.metric for name, value in attachments.values.items()}


def warn_of_partial_metrics(engine: Engine) -> None:
    """At an event that resets metrics, in a resumed run: warn once of those whose state was not loaded."""
    attachments, event = _attachments(engine), engine.last_event_name
    at = engine.state.iteration, event
    if attachments is None or attachments.warned_at == at:
        return
    attachments.warned_at = at
    for _, group, _ in attachments.compute_groups:
        group.partial_at = at[0]
    values = [value for value in attachments.values.values() if any(one == event for one, _ in value.key[0])]
    names = few([value.name for value in values if value.is_partial()], most=5)
    warnings.warn(
        f"Engine.run: the resumed run has no saved state of the metrics {names}: until they are reset next, their "
        f"values cover only what follows iteration {at[0]}. Save the metrics with the engine, as in "
        "Checkpoint({'trainer': trainer, 'metric': metric}, ...)",
        stacklevel=2,
    )


def _values_of(metric: Attachable, engine: Engine, key: _Key) -> list[_AttachedValue]:
    attachments = _attachments(engine)
    values = [] if attachments is None else attachments.values.values()
    return [value for value in values if value.metric is metric and value.key == key]


def _attachments(engine: Engine) -> _Attachments | None:
    return getattr(engine, "_metrics", None)


def _accumulator(attachments: _Attachments, leaf: Attachable, engine: Engine, usage: MetricUsage) -> _Accumulator:
    """The accumulator of a leaf: an existing one, the leaf itself, or a copy if the leaf is attached elsewhere."""
    key = usage.key
    if (leaf, key) not in attachments.accumulators:
        leaf._attached_to = tuple(one for one in leaf._attached_to if one[0]() is not None)
        metric: Attachable = leaf._copy() if leaf._attached_to else leaf
        metric._stores_numbers = not usage.is_per_iteration
        removers = [_register(attachments, engine, event, hook) for event, hook in metric._hooks(usage)]
        leaf._attached_to = (*leaf._attached_to, (weakref.ref(engine), key))
        attachments.accumulators[leaf, key] = _Accumulator(metric, removers)
    return attachments.accumulators[leaf, key]


def _register(attachments: _Attachments, engine: Engine, event: EventName, hook: _Hook) -> Callable[[], None]:
    """Register a hook of a metric, and return what removes it. A default update joins updates registered before it."""
    metric: Any = getattr(hook, "__self__", None)
    has_default_update = getattr(metric, "_has_default_update", False) and hook == metric.iteration_completed
    if not has_default_update or isinstance(event, EventsList):
        return engine.add_event_handler(event, hook).remove
    key, last = (*event_key(event), priority(event)), attachments.last_updates
    if last is None or last[0] != key or last[1].newest != _newest(engine, event) or not last[1].leaves:
        attachments.last_updates = last = key, _UpdateGroup(engine, event)
    group = last[1]
    group.add(metric)
    return partial(group.remove, metric)


def _newest(engine: Engine, event: EventName) -> int:
    """The number of the handler that was added to the event last."""
    return max((registration.number for registration in engine.handlers(event)), default=0)


def _compute_group(attachments: _Attachments, engine: Engine, usage: MetricUsage) -> _ComputeGroup:
    """The group that computes at this event. A metric updated by the same event gets a new group, which runs later."""
    event = usage.completed
    key = (event_key(event), tuple(map(priority, parts(event))))
    update_events = [bare(one) for one in parts(usage.iteration_completed)]
    if not any(bare(one) in update_events for one in parts(event)):
        for known, group, _ in attachments.compute_groups:
            if known == key:
                return group
    group = _ComputeGroup()
    attachments.compute_groups.append((key, group, engine.add_event_handler(event, group.compute)))
    return group

"""When an attached metric is reset, updated and computed: three events of an engine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, Final

from ignite_core.engine.events import CallableEventWithFilter, EventEnum, EventName, Events, EventsList, Filter


@dataclass(frozen=True)
class MetricUsage:
    """The events at which a metric is reset, computed and updated, in the order of pytorch-ignite.

    Args:
        started: The event that resets the metric.
        completed: The event that computes and stores the value.
        iteration_completed: The event that updates the metric with ``engine.state.output``.

    Raises:
        ValueError: If a priority makes ``completed`` run before ``iteration_completed`` of the same event.

    Example:
        >>> usage = MetricUsage(Events.STARTED, Events.COMPLETED, Events.ITERATION_COMPLETED(every=10))
        >>> usage.iteration_completed
        Events.ITERATION_COMPLETED(every=10)
    """

    started: EventName
    completed: EventName
    iteration_completed: EventName

    def __post_init__(self) -> None:
        pairs = itertools.product(parts(self.iteration_completed), parts(self.completed))
        if any(bare(update) == bare(compute) and priority(compute) > priority(update) for update, compute in pairs):
            raise ValueError(
                "MetricUsage: a metric must be updated before it is computed, got "
                f"completed={self.completed!r} and iteration_completed={self.iteration_completed!r}"
            )

    STARTED = property(attrgetter("started"))  # the names in pytorch-ignite
    COMPLETED = property(attrgetter("completed"))
    ITERATION_COMPLETED = property(attrgetter("iteration_completed"))

    @property
    def is_per_iteration(self) -> bool:
        """Whether a value is stored at each iteration."""
        return any(one in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED) for one in parts(self.completed))

    @property
    def key(self) -> tuple[Any, ...]:
        """Identifies the events and their filters."""
        return tuple(map(event_key, (self.started, self.completed, self.iteration_completed)))


class _Preset(MetricUsage):
    usage_name: ClassVar[str]
    _events: ClassVar[tuple[Events, Events, Events]]  # started, completed, iteration_completed

    def __init__(self) -> None:
        super().__init__(*self._events)


class EpochWise(_Preset):
    """Over an epoch, computed at its end. The default of most metrics."""

    usage_name = "epoch_wise"
    _events = (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED)


class RunningEpochWise(_Preset):
    """Over a run, updated and computed at the end of each epoch."""

    usage_name = "running_epoch_wise"
    _events = (Events.STARTED, Events.EPOCH_COMPLETED, Events.EPOCH_COMPLETED)


class BatchWise(_Preset):
    """Over each batch separately."""

    usage_name = "batch_wise"
    _events = (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class RunningBatchWise(_Preset):
    """Over a run, computed at each iteration. The default of a running average."""

    usage_name = "running_batch_wise"
    _events = (Events.STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class SingleEpochRunningBatchWise(_Preset):
    """Over an epoch, computed at each iteration."""

    usage_name = "single_epoch_running_batch_wise"
    _events = (Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class BatchFiltered(MetricUsage):
    """Over the iterations of an epoch that pass a filter, computed at the end of the epoch.

    Args:
        args: Arguments of the event filter, as in ``BatchFiltered(every=10)``.
        kwargs: Arguments of the event filter.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED(*args, **kwargs))


_PRESETS: Final = {
    preset.usage_name: preset
    for preset in (EpochWise, RunningEpochWise, BatchWise, RunningBatchWise, SingleEpochRunningBatchWise)
}


def resolve_usage(
    who: str,
    usage: MetricUsage | str,
    reset: EventName | None = None,
    update: EventName | None = None,
    compute: EventName | None = None,
) -> MetricUsage:
    """A usage or the preset of that name, with its events replaced by those that are given."""
    if not isinstance(usage, MetricUsage):
        if not isinstance(usage, str) or usage not in _PRESETS:
            raise ValueError(f"{who}: usage must be a MetricUsage or one of {list(_PRESETS)}, got {usage!r}")
        usage = _PRESETS[usage]()
    if reset is None and update is None and compute is None:
        return usage
    return MetricUsage(reset or usage.started, compute or usage.completed, update or usage.iteration_completed)


def parts(event: EventName) -> tuple[CallableEventWithFilter | str, ...]:
    """The events of a union; a single event is a union of one."""
    return tuple(event) if isinstance(event, EventsList) else (event,)


def bare(event: CallableEventWithFilter | str) -> EventEnum | str:
    """An event without its filter. A custom event may be a string."""
    return event if isinstance(event, str) else event.bare


def priority(event: CallableEventWithFilter | str) -> int:
    """The priority of an event; 0 if it has none."""
    return getattr(event, "priority", None) or 0


def event_key(event: EventName) -> tuple[tuple[EventEnum | str, Filter | None], ...]:
    """Identifies an event and its filter. The events themselves do not: a bare event equals any filter of it."""
    return tuple((bare(one), getattr(one, "filter", None)) for one in parts(event))

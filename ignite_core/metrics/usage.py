"""When an attached metric is reset, updated and computed: where metrics and engines meet."""

from __future__ import annotations

import sys
import weakref
from dataclasses import dataclass
from typing import Any, Final

from ignite_core.engine.dispatch import RemovableEventHandle
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import CallableEventWithFilter, EventEnum, Events, Filter
from ignite_core.metrics.metric import Metric

__all__ = [
    "BatchFiltered",
    "BatchWise",
    "EpochWise",
    "MetricUsage",
    "RunningBatchWise",
    "RunningEpochWise",
    "SingleEpochRunningBatchWise",
    "attach",
    "detach",
    "is_attached",
]


@dataclass(frozen=True)
class MetricUsage:
    """The events at which a metric is reset, computed and updated, in the order of pytorch-ignite.

    Args:
        started: The event that forgets.
        completed: The event that stores the value.
        iteration_completed: The event that takes in ``state.output``.

    Raises:
        ValueError: If a priority makes ``completed`` run before ``iteration_completed`` of the same event.

    Example:
        >>> usage = MetricUsage(Events.STARTED, Events.COMPLETED, Events.ITERATION_COMPLETED(every=10))
        >>> usage.iteration_completed
        Events.ITERATION_COMPLETED(every=10)
    """

    started: CallableEventWithFilter
    completed: CallableEventWithFilter
    iteration_completed: CallableEventWithFilter

    def __post_init__(self) -> None:
        updated, computed = self.iteration_completed, self.completed
        if _bare(updated) == _bare(computed) and _priority(computed) > _priority(updated):
            raise ValueError(
                "MetricUsage: a metric must be updated before it is computed, got "
                f"completed={computed!r} and iteration_completed={updated!r}"
            )

    @property
    def STARTED(self) -> CallableEventWithFilter:  # noqa: N802 - so named in pytorch-ignite, as the two below
        """:attr:`started`."""
        return self.started

    @property
    def COMPLETED(self) -> CallableEventWithFilter:  # noqa: N802
        """:attr:`completed`."""
        return self.completed

    @property
    def ITERATION_COMPLETED(self) -> CallableEventWithFilter:  # noqa: N802
        """:attr:`iteration_completed`."""
        return self.iteration_completed


class EpochWise(MetricUsage):
    """Over an epoch, computed at its end: what metrics do by default."""

    usage_name: Final = "epoch_wise"

    def __init__(self) -> None:
        super().__init__(Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED)


class RunningEpochWise(MetricUsage):
    """Over a run, updated and computed at the end of each epoch."""

    usage_name: Final = "running_epoch_wise"

    def __init__(self) -> None:
        super().__init__(Events.STARTED, Events.EPOCH_COMPLETED, Events.EPOCH_COMPLETED)


class BatchWise(MetricUsage):
    """Of each batch alone."""

    usage_name: Final = "batch_wise"

    def __init__(self) -> None:
        super().__init__(Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class RunningBatchWise(MetricUsage):
    """Over a run, computed at each iteration: what a running average does by default."""

    usage_name: Final = "running_batch_wise"

    def __init__(self) -> None:
        super().__init__(Events.STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class SingleEpochRunningBatchWise(MetricUsage):
    """Over an epoch, computed at each iteration."""

    usage_name: Final = "single_epoch_running_batch_wise"

    def __init__(self) -> None:
        super().__init__(Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED)


class BatchFiltered(MetricUsage):
    """Over those iterations of an epoch that a filter lets through, computed at its end.

    Args:
        args: As of an event: ``BatchFiltered(every=10)``.
        kwargs: As of an event.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED(*args, **kwargs))


_PRESETS: Final = {
    preset.usage_name: preset
    for preset in (EpochWise, RunningEpochWise, BatchWise, RunningBatchWise, SingleEpochRunningBatchWise)
}


@dataclass(frozen=True, slots=True)
class _Attachment:
    """One metric on one engine. The engine holds the worker through its handlers; nothing here holds either."""

    engine: weakref.ref[Engine]
    usage: MetricUsage
    worker: weakref.ref[Metric]
    name: str
    handles: tuple[RemovableEventHandle, ...]

    def is_on(self, engine: Engine, usage: MetricUsage) -> bool:
        return self.engine() is engine and _events(self.usage) == _events(usage)


#: Which names of an engine are taken, by which metric.
_taken: weakref.WeakKeyDictionary[Engine, weakref.WeakValueDictionary[str, Metric]] = weakref.WeakKeyDictionary()


def attach(metric: Metric, engine: Engine, name: str, usage: MetricUsage | str | None = None) -> None:
    """What :meth:`Metric.attach` does.

    Raises:
        ValueError: If the engine has the name for another value already, or the usage is not known.
    """
    usage = _resolve(metric, usage)
    for event in (usage.started, usage.completed, usage.iteration_completed):
        if not engine.has_registered_events(event):  # told before a handler is added
            raise ValueError(f"{metric!r}.attach: {event!r} is no event of this engine; register it first")
    names = _taken.setdefault(engine, weakref.WeakValueDictionary())
    if name in names:
        raise ValueError(
            f"{metric!r}.attach: the name {name!r} is taken by {names[name]!r} on this engine; "
            "choose another one, or detach that metric first"
        )
    attachments = [one for one in metric._attachments if one.engine() is not None]
    worker = next((one.worker() for one in attachments if one.is_on(engine, usage)), None)
    handles = []
    if worker is None:
        worker = metric._copy() if attachments else metric
        worker._waits = usage.completed not in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED)
        handles = [engine.add_event_handler(event, hook) for event, hook in worker._hooks(usage)]
    handles.append(engine.add_event_handler(usage.completed, worker.completed, name))
    names[name] = worker
    metric._attachments = (
        *attachments,
        _Attachment(weakref.ref(engine), usage, weakref.ref(worker), name, tuple(handles)),
    )


def detach(metric: Metric, engine: Engine, usage: MetricUsage | str | None = None) -> None:
    """What :meth:`Metric.detach` does."""
    usage = _resolve(metric, usage)
    for attachment in metric._attachments:
        if attachment.is_on(engine, usage):
            _taken[engine].pop(attachment.name, None)
            for handle in attachment.handles:
                handle.remove()
    metric._attachments = tuple(one for one in metric._attachments if not one.is_on(engine, usage))


def is_attached(metric: Metric, engine: Engine, usage: MetricUsage | str | None = None) -> bool:
    """What :meth:`Metric.is_attached` does."""
    usage = _resolve(metric, usage)
    return any(attachment.is_on(engine, usage) for attachment in metric._attachments)


def _resolve(metric: Metric, usage: MetricUsage | str | None) -> MetricUsage:
    if isinstance(usage, MetricUsage):
        return usage
    name = metric.default_usage if usage is None else usage
    if not isinstance(name, str) or name not in _PRESETS:
        raise ValueError(f"{metric!r}: usage must be a MetricUsage or one of {list(_PRESETS)}, got {usage!r}")
    return _PRESETS[name]()


def _bare(event: CallableEventWithFilter | str) -> EventEnum | str:
    """An event without its filter; one of the user's own may be a string."""
    return event if isinstance(event, str) else event.bare


def _priority(event: CallableEventWithFilter | str) -> int:
    return getattr(event, "priority", None) or 0


def _events(usage: MetricUsage) -> list[tuple[EventEnum | str, Filter | None]]:
    """What tells two usages apart; events alone would not, as a bare one equals all its filters."""
    events = usage.started, usage.completed, usage.iteration_completed
    return [(_bare(event), getattr(event, "filter", None)) for event in events]


Metric._usage = sys.modules[__name__]

"""When an attached metric is reset, updated and computed: where metrics and engines meet."""

from __future__ import annotations

import itertools
import sys
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch

from ignite_core.distributed import utils as idist
from ignite_core.engine.dispatch import RemovableEventHandle
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import CallableEventWithFilter, EventEnum, Events, EventsList, Filter
from ignite_core.metrics.core.composite import MetricGroup
from ignite_core.metrics.core.memo import sharing
from ignite_core.metrics.core.metric import Metric, is_usual_output
from ignite_core.metrics.core.sync import synced

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
    "find_metric",
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
        pairs = itertools.product(_parts(self.iteration_completed), _parts(self.completed))
        if any(_bare(one) == _bare(other) and _priority(other) > _priority(one) for one, other in pairs):
            raise ValueError(
                "MetricUsage: a metric must be updated before it is computed, got "
                f"completed={self.completed!r} and iteration_completed={self.iteration_completed!r}"
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


_Key = tuple[Any, ...]  # of a usage: its events with their filters


class _Worker:
    """A leaf at work on one engine, under one usage: the metric itself, or a copy with a state of its own."""

    def __init__(self, metric: Metric, handles: list[RemovableEventHandle | _Member]) -> None:
        self.metric = metric
        self.handles = handles
        self.users = 0  # the values that are computed from it


class _Updates:
    """Leaves that one handler updates: attached one after the other, with nobody else's handler in between."""

    def __init__(self, engine: Engine, event: Any) -> None:
        self.leaves: list[Metric] = []
        self.handle = engine.add_event_handler(event, self.update)
        self.newest = engine._dispatch.channel(event).newest

    def update(self, engine: Engine) -> None:
        """What each leaf would do by itself, with the gradients switched off once; a round for what they share."""
        output, leaves = engine.state.output, self.leaves
        is_usual = is_usual_output(output)
        with torch.no_grad(), sharing(output) if len(leaves) > 1 else nullcontext():
            for leaf in leaves:
                if is_usual and leaf._takes_outputs_as_they_are:
                    leaf.update(output)
                else:
                    for one in leaf._outputs_of(output):
                        leaf.update(one)

    def add(self, leaf: Metric) -> _Member:
        self.leaves = [*self.leaves, leaf]  # another list: one may be under way
        return _Member(self, leaf)


class _Member:
    """Stands for the handle that a leaf would have."""

    def __init__(self, updates: _Updates, leaf: Metric) -> None:
        self._updates = updates
        self._leaf = leaf

    def remove(self) -> None:
        updates = self._updates
        updates.leaves = [leaf for leaf in updates.leaves if leaf is not self._leaf]
        if not updates.leaves:
            updates.handle.remove()


class _Value:
    """What is stored under a name: a metric, computed from the leaves that work for it."""

    def __init__(self, name: str, metric: Metric, key: _Key, waits: bool, workers: dict[Metric, _Worker]) -> None:
        self.name = name
        self.metric = metric
        self.key = key
        self.waits = waits
        self.workers = workers  # by the leaves of the metric
        self.at_work = self.on({worker.metric: worker.metric for worker in workers.values()})

    def on(self, stands_for: Mapping[Metric, Metric]) -> Metric:
        """The metric on leaves that stand for its workers."""
        metric: Metric = self.metric._on({leaf: stands_for[worker.metric] for leaf, worker in self.workers.items()})
        metric._waits = self.waits
        return metric

    def is_partial(self) -> bool:
        """Whether it lacks what was seen before a resume."""
        return any(worker.metric._is_partial() for worker in self.workers.values())


class _Group:
    """The values that are computed at one event, with one filter and priority: reduced over the ranks together."""

    def __init__(self) -> None:
        self.values: list[_Value] = []
        self.partial_at: int | None = None  # the iteration of the last resume without states

    @property
    def collective(self) -> str | None:
        """Its name where ranks compare what they have attached; None if nothing is reduced over them."""
        leaves = (worker.metric for value in self.values for worker in value.workers.values())
        return None if all(leaf._stays_local and not leaf._waits for leaf in leaves) else "metrics"

    def compute(self, engine: Engine) -> None:
        values = self.values
        if self.partial_at == engine.state.iteration:
            values = [value for value in values if not value.is_partial()]  # nothing was left of the resumed epoch
        if idist.get_world_size() > 1:
            self._compute_for_all_ranks(engine, values)
            return
        for value in values:
            value.at_work.completed(engine, value.name)

    def _compute_for_all_ranks(self, engine: Engine, values: list[_Value]) -> None:
        names = {worker.metric: value.name for value in values for worker in value.workers.values()}
        local = {leaf: leaf._as_it_is() for leaf in names if leaf._stays_local and not leaf._waits}
        shared = [(name, leaf) for leaf, name in names.items() if leaf not in local]
        joined = zip((leaf for _, leaf in shared), synced(shared), strict=True)
        stands_for = {**local, **dict(joined)}
        for value in values:
            value.on(stands_for).completed(engine, value.name)
        for leaf, one in stands_for.items():
            leaf._keep(one)


class _Board:
    """What is attached to one engine, which holds it."""

    def __init__(self) -> None:
        self.values: dict[str, _Value] = {}
        self.workers: dict[tuple[Metric, _Key], _Worker] = {}
        self.groups: list[tuple[_Key, _Group, RemovableEventHandle]] = []
        self.updates: tuple[_Key, _Updates] | None = None  # that were begun last
        self.warned_at: tuple[int, Any] | None = None  # the iteration and event of the last resume without states

    def drop(self, value: _Value) -> None:
        """Take a value back; a group without values does not listen any more."""
        del self.values[value.name]
        for _, group, handle in self.groups:
            group.values = [one for one in group.values if one is not value]
            if not group.values:
                handle.remove()
        self.groups = [entry for entry in self.groups if entry[1].values]


def attach(
    metric: Metric,
    engine: Engine,
    name: str,
    usage: MetricUsage | str | None = None,
    reset: CallableEventWithFilter | None = None,
    update: CallableEventWithFilter | None = None,
    compute: CallableEventWithFilter | None = None,
) -> None:
    """What :meth:`Metric.attach` does.

    Raises:
        ValueError: If the engine has the name for another value already, or the usage is not known.
    """
    usage = _resolve(metric, usage, reset, update, compute)
    for event in (*_parts(usage.started), *_parts(usage.completed), *_parts(usage.iteration_completed)):
        if not engine.has_registered_events(event):  # told before a handler is added
            raise ValueError(f"{metric!r}.attach: {event!r} is no event of this engine; register it first")
    board = _board(engine, create=True)
    assert board is not None
    if name in board.values:
        raise ValueError(
            f"{metric!r}.attach: the name {name!r} is taken by {board.values[name].metric!r} on this engine; "
            "choose another one, or detach that metric first"
        )
    key = _events(usage)
    workers = {leaf: _work(board, leaf, engine, usage) for leaf in metric._leaves()}
    for worker in workers.values():
        worker.users += 1
    board.values[name] = value = _Value(name, metric, key, _waits(usage), workers)
    group = _group(board, engine, usage)
    group.values = [*group.values, value]  # another list: one may be under way


def detach(
    metric: Metric,
    engine: Engine,
    usage: MetricUsage | str | None = None,
    reset: CallableEventWithFilter | None = None,
    update: CallableEventWithFilter | None = None,
    compute: CallableEventWithFilter | None = None,
) -> None:
    """What :meth:`Metric.detach` does."""
    key = _events(_resolve(metric, usage, reset, update, compute))
    board = _board(engine)
    for value in _values_of(metric, engine, key):
        assert board is not None
        board.drop(value)
        for leaf, worker in value.workers.items():
            worker.users -= 1
            if not worker.users:
                for handle in worker.handles:
                    handle.remove()
                del board.workers[leaf, key]
                leaf._homes = tuple(home for home in leaf._homes if (home[0](), home[1]) != (engine, key))


def is_attached(
    metric: Metric,
    engine: Engine,
    usage: MetricUsage | str | None = None,
    reset: CallableEventWithFilter | None = None,
    update: CallableEventWithFilter | None = None,
    compute: CallableEventWithFilter | None = None,
) -> bool:
    """What :meth:`Metric.is_attached` does."""
    return bool(_values_of(metric, engine, _events(_resolve(metric, usage, reset, update, compute))))


def find_metric(engine: Engine, name: str) -> Metric | None:
    """The metric whose value an engine stores under a name; None if no metric of it does.

    Args:
        engine: That the metric is attached to.
        name: The key of ``engine.state.metrics``, of a metric in a :class:`MetricGroup` too.

    Example:
        >>> from ignite_core.metrics import Accuracy, find_metric
        >>> evaluator = Engine(lambda engine, batch: batch)
        >>> Accuracy().attach(evaluator, "accuracy")
        >>> find_metric(evaluator, "accuracy").higher_is_better
        True
    """
    board = _board(engine)
    values = {} if board is None else board.values
    if name in values:
        return values[name].metric
    groups = (value.metric for value in values.values() if isinstance(value.metric, MetricGroup))
    return next((group.metrics[name] for group in groups if name in group.metrics), None)


def warn_of_partial_metrics(engine: Engine) -> None:
    """At an event that resets metrics, in a resumed run: warn once of those that have not been loaded."""
    board, event = _board(engine), engine.last_event_name
    at = engine.state.iteration, event
    if board is None or board.warned_at == at:
        return
    board.warned_at = at
    for _, group, _ in board.groups:
        group.partial_at = at[0]
    values = [value for value in board.values.values() if any(bare == event for bare, _ in value.key[0])]
    names = [value.name for value in values if value.is_partial()]
    shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    warnings.warn(
        f"Engine.run: the resumed run has no saved state of the metrics {shown}: until they are reset next, their "
        f"values cover only what follows iteration {at[0]}. Save the metrics with the engine, as in "
        "Checkpoint({'trainer': trainer, 'metric': metric}, ...)",
        stacklevel=2,
    )


def _values_of(metric: Metric, engine: Engine, key: _Key) -> list[_Value]:
    board = _board(engine)
    values = [] if board is None else board.values.values()
    return [value for value in values if value.metric is metric and value.key == key]


def _board(engine: Engine, create: bool = False) -> _Board | None:
    board: _Board | None = getattr(engine, "_metrics", None)
    if board is None and create:
        board = engine._metrics = _Board()  # type: ignore[attr-defined]
    return board


def _work(board: _Board, leaf: Metric, engine: Engine, usage: MetricUsage) -> _Worker:
    """Who updates for a leaf: who does already, else the leaf itself, unless it does so elsewhere: then a copy."""
    key = _events(usage)
    if (leaf, key) not in board.workers:
        leaf._homes = tuple(home for home in leaf._homes if home[0]() is not None)
        metric = leaf._copy() if leaf._homes else leaf
        metric._waits = _waits(usage)
        handles = [_listen(board, engine, event, hook) for event, hook in metric._hooks(usage)]
        leaf._homes = (*leaf._homes, (weakref.ref(engine), key))
        board.workers[leaf, key] = _Worker(metric, handles)
    return board.workers[leaf, key]


def _listen(board: _Board, engine: Engine, event: Any, hook: Callable[[Any], None]) -> RemovableEventHandle | _Member:
    """Register what a metric does at an event; where it is the usual update, with that of the metrics before it."""
    if getattr(hook, "__func__", None) is not Metric.iteration_completed or isinstance(event, EventsList):
        return engine.add_event_handler(event, hook)
    key, last = (*_with_filter(event), _priority(event)), board.updates
    channel = engine._dispatch.channel(event)
    if last is None or last[0] != key or last[1].newest != channel.newest or not last[1].leaves:
        board.updates = last = key, _Updates(engine, event)
    return last[1].add(hook.__self__)  # type: ignore[attr-defined]


def _group(board: _Board, engine: Engine, usage: MetricUsage) -> _Group:
    """The group that computes at this event; a new one for a metric that the same event updates, to come after that."""
    event = usage.completed
    key = (_with_filter(event), tuple(map(_priority, _parts(event))))
    updated = [_bare(one) for one in _parts(usage.iteration_completed)]
    if not any(_bare(one) in updated for one in _parts(event)):
        for known, group, _ in board.groups:
            if known == key:
                return group
    group = _Group()
    board.groups.append((key, group, engine.add_event_handler(event, group.compute)))
    return group


def _resolve(
    metric: Metric,
    usage: MetricUsage | str | None,
    reset: CallableEventWithFilter | None,
    update: CallableEventWithFilter | None,
    compute: CallableEventWithFilter | None,
) -> MetricUsage:
    """The usage, with the events that are given instead of its own."""
    if not isinstance(usage, MetricUsage):
        name = metric.default_usage if usage is None else usage
        if not isinstance(name, str) or name not in _PRESETS:
            raise ValueError(f"{metric!r}: usage must be a MetricUsage or one of {list(_PRESETS)}, got {usage!r}")
        usage = _PRESETS[name]()
    if reset is None and update is None and compute is None:
        return usage
    return MetricUsage(reset or usage.started, compute or usage.completed, update or usage.iteration_completed)


def _waits(usage: MetricUsage) -> bool:
    """Whether values must be numbers at once: not those of iterations, which nobody may ever read."""
    return not any(event in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED) for event in _parts(usage.completed))


def _parts(event: Any) -> tuple[CallableEventWithFilter, ...]:
    """The events of a union; one event is a union of itself."""
    return tuple(event) if isinstance(event, EventsList) else (event,)


def _bare(event: CallableEventWithFilter | str) -> EventEnum | str:
    """An event without its filter; one of the user's own may be a string."""
    return event if isinstance(event, str) else event.bare


def _priority(event: CallableEventWithFilter | str) -> int:
    return getattr(event, "priority", None) or 0


def _with_filter(event: Any) -> tuple[tuple[EventEnum | str, Filter | None], ...]:
    """What tells two events apart; they themselves would not, as a bare one equals all its filters."""
    return tuple((_bare(one), getattr(one, "filter", None)) for one in _parts(event))


def _events(usage: MetricUsage) -> _Key:
    return tuple(map(_with_filter, (usage.started, usage.completed, usage.iteration_completed)))


Metric._usage = sys.modules[__name__]

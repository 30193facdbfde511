"""Stand-ins for the handlers of this library in a dry run, registered by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ignite_core.debug.plan.dry_run import DryRun, stand_in_of
from ignite_core.distributed import utils as idist
from ignite_core.engine.engine import Engine
from ignite_core.handlers.checkpoint.checkpoint import ENDS, Checkpoint
from ignite_core.handlers.checkpoint.interval_trigger import IntervalTrigger
from ignite_core.handlers.checkpoint.naming import object_name
from ignite_core.handlers.checkpoint.retention import Item
from ignite_core.handlers.schedules.base import BaseParamScheduler
from ignite_core.handlers.schedules.batch_size import BatchSizeScheduler
from ignite_core.handlers.stopping.time_limit import TimeLimit

__all__ = ["schedule_stand_in"]

# ---------------------------------------------------------------------------------------------------------- schedulers


@stand_in_of.register
def schedule_stand_in(scheduler: BaseParamScheduler, dry_run: DryRun) -> Callable[..., None] | None:
    """Report what a scheduler will write; None if its values cannot be known before the run.

    Args:
        scheduler: An object with ``next_values(count)``, and either ``param_name`` or ``names``; it may have
            ``is_predictable``. It writes to the state of the engine unless it has an ``optimizer``, ``schedulers`` or
            a ``dataloader``.
        dry_run: Where its values are reported.
    """
    if not getattr(scheduler, "is_predictable", True):
        return None
    names = list(getattr(scheduler, "names", None) or [scheduler.param_name])
    for name, number in _current_values(scheduler, names):
        dry_run.write(name, number)
    writes_state = not any(hasattr(scheduler, name) for name in ("optimizer", "schedulers", "dataloader"))
    values = _in_growing_parts(scheduler.next_values)
    is_loaded = getattr(scheduler, "_is_loaded", False)

    def write(engine: Engine, *extras: Any, **named: Any) -> None:
        nonlocal is_loaded
        if is_loaded and engine.is_resumed:  # the call was counted before the run was saved
            return
        is_loaded = False
        value = next(values)
        if writes_state:
            setattr(engine.state, names[0], value)
        numbers = list(_flat(value))
        for name, number in zip(_names_for(names, len(numbers)), numbers, strict=True):
            dry_run.write(name, number)

    return write


@stand_in_of.register
def _(scheduler: BatchSizeScheduler, dry_run: DryRun) -> None:
    """A plan does not follow the length of epochs, which changes with the batch size: calls are only recorded."""


def _current_values(scheduler: Any, names: list[str]) -> Iterator[tuple[str, float]]:
    """The values in the optimizer before the first call; none if one value will replace different ones."""
    groups = getattr(scheduler, "optimizer_param_groups", None) or []
    held = [group[name] for group, name in zip(groups, names * len(groups), strict=False) if name in group]
    before = [float(value[0] if isinstance(value, tuple) else value) for value in held]  # the first of betas
    count = len(list(_flat(scheduler.next_values(1))))
    if count == 1 and len(set(before)) == 1:
        before = before[:1]
    if len(before) == count:
        yield from zip(_names_for(names, count), before, strict=True)


def _names_for(names: list[str], count: int) -> list[str]:
    """A name for each number: those of the schedule, numbered if there are several parameter groups."""
    if len(names) == count and len(set(names)) == count:
        return names
    return [f"{names[min(place, len(names) - 1)]}[{place}]" for place in range(count)]


def _in_growing_parts(values: Callable[[int], list[Any]]) -> Iterator[Any]:
    """All values to come, computed in parts of doubling size, as each part may begin with a copy of the schedule."""
    given, count = 0, 64
    while True:
        yield from values(count)[given:]
        given, count = count, 2 * count


def _flat(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _flat(one)
    else:
        yield float(value)


# ------------------------------------------------------------------------------------------------ limits and intervals


@stand_in_of.register
def _(limit: TimeLimit, dry_run: DryRun) -> Callable[[Engine], None] | None:
    """End the dry run when its time is up; on several ranks the real run may end a little later, after a vote."""
    if dry_run.seconds_per_iteration is None:
        return None
    is_timed = dry_run.goes_on and limit._started_at == dry_run.engine.run_started_at
    limit_sec = dry_run.seconds() + limit._ends - limit._clock() if is_timed else limit.limit_sec

    def stop(engine: Engine) -> None:
        if dry_run.seconds() > limit_sec:
            dry_run.request(engine.terminate)

    return stop


@stand_in_of.register
def _(timer: IntervalTrigger, dry_run: DryRun) -> IntervalTrigger | None:
    """Call the stand-in of a checkpoint at intervals of the dry run's time, if this is the only process."""
    handler = dry_run.stand_in(timer.handler)
    if dry_run.seconds_per_iteration is None or handler is None or idist.get_world_size() > 1:
        return None
    stand_in = IntervalTrigger(handler, timer._every_s, dry_run.seconds, timer._rank)
    if timer._since is not None:
        stand_in._since = dry_run.seconds() + timer._since - timer._clock()
    return stand_in


# --------------------------------------------------------------------------------------------------------- checkpoints


class CheckpointStandIn:
    """Marks what a :class:`~ignite_core.handlers.Checkpoint` saves, and writes no file.

    With a score function or a ``global_step_transform``, names and decisions are not known before the run: each call is
    then marked as a save that may happen.
    """

    def __init__(self, checkpoint: Checkpoint, dry_run: DryRun) -> None:
        self._checkpoint = checkpoint
        self._dry_run = dry_run
        self._kept = checkpoint._saved.kept
        goes_on = dry_run.goes_on and checkpoint._last_run is not None
        self._last = (checkpoint._last_key, checkpoint._last_event) if goes_on else None
        self._knows_names = checkpoint.score_function is None and checkpoint.global_step_transform is None

    def __call__(self, engine: Engine, *extras: Any, **named: Any) -> None:
        self._dry_run.settle()
        checkpoint, event, step = self._checkpoint, engine.last_event_name, engine.state.iteration
        filename = self._filename(step, *extras, **named) if self._knows_names else ""
        key = (filename, step, repr(step)) if self._knows_names else (step,)
        if self._last is not None and self._last[0] == key and (event in ENDS or event == self._last[1]):
            return
        if self._knows_names:
            if not checkpoint._retention.wants(self._kept, step):
                return
            self._kept, _ = checkpoint._retention.after(self._kept, Item(step, filename))
        self._last = key, event
        is_certain = self._knows_names or checkpoint.keep_last is not None
        self._dry_run.mark("save", filename, is_certain)
        if is_certain:
            engine.fire_event(checkpoint.SAVED_CHECKPOINT)
            engine.last_event_name = event

    def _filename(self, step: int, *extras: Any, **named: Any) -> str:
        """The name of the file; a :class:`~ignite_core.handlers.ModelCheckpoint` is called with the objects to save."""
        objects = named.get("to_save", extras[-1] if extras else None)
        if not isinstance(objects, dict):
            objects = self._checkpoint.to_save
        return self._checkpoint._naming.filename(object_name(objects), step, None)


@stand_in_of.register
def _(checkpoint: Checkpoint, dry_run: DryRun) -> CheckpointStandIn:
    return CheckpointStandIn(checkpoint, dry_run)

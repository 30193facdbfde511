"""Where a virtual run begins: as many batches as the real one would have, and an engine at the same place."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final

from ignite_core.engine.data.position import PlainPasses, Position, has_state, length_of
from ignite_core.engine.events import Events
from ignite_core.engine.run_arguments import Plan, plan_run
from ignite_core.engine.state import State
from ignite_core.engine.state_dict import CUTS

if TYPE_CHECKING:
    from ignite_core.engine.engine import Engine

__all__ = ["Limits", "set_up"]

_silent: Final = logging.Logger("a virtual run")
_silent.disabled = True


class _ScratchState(State):
    """A state that reads the attributes that it does not have from another one, and writes nothing there."""

    def __init__(self, real: State) -> None:
        super().__init__()
        self._real = real
        self.event_to_attr = real.event_to_attr
        self.metrics = dict(real.metrics)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@dataclass(frozen=True, slots=True)
class Limits:
    """What ``engine.plan`` was asked for, with the meaning that ``run`` gives it; ``...`` is data that is not there."""

    data: Iterable[Any] | EllipsisType | None
    max_epochs: int | None
    max_iters: int | None
    epoch_length: int | None


class _VirtualData:
    """As many batches as the real data has, all None; the first pass may be one that has begun.

    Args:
        length: Batches of a pass; None: it has no end.
        first: Batches of the first pass.
    """

    def __init__(self, length: int | None, first: int | None) -> None:
        self._length = length
        self._first: int | None = first

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("the data does not tell its length")
        return self._length

    def __iter__(self) -> Iterator[None]:
        if self._length is None:
            return itertools.repeat(None)
        length, self._first = self._length if self._first is None else self._first, None
        return itertools.repeat(None, length)


def set_up(real: Engine, virtual: Engine, limits: Limits) -> tuple[Any, Plan]:
    """Put the virtual engine where the real one stands; returns its data, and what its run does."""
    paused = real._paused_at is not None and not (real.state.max_epochs is None and real.state.max_iters is None)
    data = _data_of_run(real, limits, paused)
    known = None if real._length_is_found and data is not None else real.state.epoch_length
    plan = plan_run(
        real.state,
        data,
        limits.max_epochs,
        limits.max_iters,
        limits.epoch_length,
        paused=paused,
        known_length=known,
        loaded=real._loaded_position(limits.max_epochs),
    )
    if plan.epoch_length is None:
        raise ValueError(
            f"Engine.plan: how long an epoch is must be known, but the data, a {type(data).__name__}, does not tell "
            "its length; pass epoch_length"
        )
    virtual.state, virtual.logger = _counters_of(real), _silent
    virtual._length_is_found = real._length_is_found
    virtual._dispatch.counts = real._dispatch.counts
    position = real._position
    length = None if data is None else length_of(data)
    place, done = (0, 0) if plan.is_new or position.started else _loaded_place(real, data, plan.epoch_length)
    first = None if length is None or done > length else length - done
    virtual_data = None if data is None else _VirtualData(length, first)
    if paused and not plan.is_new:
        _pause_alike(real, virtual, virtual_data, length)
    elif position.started:
        virtual._position = copy.copy(position)
    else:
        virtual._position = Position(place, left=real._position.left)
        virtual._position.again = real._position.again
    return virtual_data, plan


def _data_of_run(real: Engine, limits: Limits, paused: bool) -> Any:
    """The data that the run would iterate, or something as long."""
    data = limits.data
    if paused or (data in (None, ...) and real._data_is_set):
        return real.state.dataloader
    if data is not ...:
        return data
    if limits.epoch_length is None and real.state.dataloader is not None:
        return real.state.dataloader
    length = limits.epoch_length or real.state.epoch_length or limits.max_iters
    return None if not isinstance(length, int) else _VirtualData(length, None)


def _counters_of(real: Engine) -> _ScratchState:
    state = _ScratchState(real.state)
    for name in ("iteration", "epoch", "epoch_length", "max_epochs", "max_iters"):
        setattr(state, name, getattr(real.state, name))
    return state


def _loaded_place(real: Engine, data: Any, epoch_length: int) -> tuple[int, int]:
    """The place in the epoch that a loaded run goes on from, and the batches of a pass over the data that are done."""
    place, loaded = real._position.place, real._resumption._loaded
    is_seeded = real.state.seed is not None
    has_place = has_state(data)
    if loaded is None:
        return place, 0
    if real._position.left in CUTS:
        return place, 0
    if place and not (is_seeded or data is None or has_place or place == epoch_length):
        return 0, 0  # nobody knows which batches these were: the epoch is run again
    if not (is_seeded or has_place):
        return place, 0
    return place, loaded.data_pass[1] if loaded.data_pass else place if is_seeded else 0


def _pause_alike(real: Engine, virtual: Engine, data: _VirtualData | None, length: int | None) -> None:
    """Pause the virtual engine where the real one is paused, with as many batches left."""
    position = virtual._position = copy.copy(real._position)
    virtual._paused_at, virtual._stop, virtual._skip = real._paused_at, real._stop, real._skip
    virtual.state.dataloader = data
    virtual._resumption.go_over(data, None)
    if data is None or length is None or not position._in_pass:
        position.iterate(None if data is None else PlainPasses(data))
        return
    fetched = position.progress_in_data(real.state)[1]
    fetched += real._paused_at in (Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED)
    position.iterator = itertools.repeat(None, length - fetched)

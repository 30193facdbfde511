"""Where a dry run starts: with as many batches as the real run would have, at the same place."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from ignite_core.engine.data.position import PlainPasses, has_state, length_of
from ignite_core.engine.data.reproducibility import ResumeState
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.run_arguments import Arguments, Resolved
from ignite_core.engine.state_dict import CUTS, ResumeInfo

__all__ = ["set_up"]


class _DryData:
    """As many batches as the real data has, all None. It has a state, so a loaded run continues inside a pass.

    Args:
        length: Batches of a pass; None: endless.
        first: Batches of the first pass, if part of it was run before.
    """

    def __init__(self, length: int | None, first: int | None = None) -> None:
        self._length = length
        self._first = first

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("the data has no length")
        return self._length

    def __iter__(self) -> Iterator[None]:
        if self._length is None:
            return itertools.repeat(None)
        length, self._first = self._length if self._first is None else self._first, None
        return itertools.repeat(None, length)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to load: the first pass is as long as what is left."""


def set_up(engine: Engine, arguments: Arguments) -> tuple[Any, Resolved]:
    """Put an engine where its run would start, without seed and data; return stand-in data, and what the run does.

    The caller saves the state of the engine before, and restores it. ``arguments.data`` is ``...`` if it was not given.
    """
    state, run = engine.state, engine._run
    position, paused = run.position, run.is_paused(state)
    data = _data_of_run(engine, arguments, paused)
    resolved = run.resolve(state, dataclasses.replace(arguments, data=data))
    if resolved.epoch_length is None:
        raise ValueError(
            f"Engine.plan: the length of an epoch must be known, but the data, a {type(data).__name__}, has no length; "
            "pass epoch_length"
        )
    length = None if data is None else length_of(data)
    place, done = (0, 0) if resolved.is_new or position.started else _loaded_place(engine, data, resolved.epoch_length)
    dry_data = None if data is None else _DryData(length, None if length is None or done > length else length - done)
    is_waiting, run.resumption = run.resumption.is_waiting, ResumeState()
    run.position = copy.copy(position)
    run.data_is_set, state.seed = False, None
    if paused:
        _pause(engine, dry_data, length)
    elif not position.started:
        run.position.place = place
        run.resumption.load(state, ResumeInfo() if is_waiting else None)
    return dry_data, resolved


def _data_of_run(engine: Engine, arguments: Arguments, paused: bool) -> Any:
    """The data that the run would iterate, or stand-in data of the same length."""
    data: Any = arguments.data
    state = engine.state
    if paused or ((data is None or data is ...) and engine._run.data_is_set):
        return state.dataloader
    if data is not ...:
        return data
    if arguments.epoch_length is None and state.dataloader is not None:
        return state.dataloader
    length = arguments.epoch_length or state.epoch_length or arguments.max_iters
    return _DryData(length) if isinstance(length, int) else None


def _loaded_place(engine: Engine, data: Any, epoch_length: int) -> tuple[int, int]:
    """The place in the epoch where a loaded run continues, and the batches of a pass over the data that are done."""
    place, loaded = engine._run.position.place, engine._run.resumption._loaded
    is_seeded, has_place = engine.state.seed is not None, has_state(data)
    if loaded is None or engine._run.position.left in CUTS:
        return place, 0
    if place and not (is_seeded or data is None or has_place or place == epoch_length):
        return 0, 0  # which batches were done is not known: the epoch is run again
    if not (is_seeded or has_place):
        return place, 0
    return place, loaded.data_pass[1] if loaded.data_pass else place if is_seeded else 0


def _pause(engine: Engine, data: _DryData | None, length: int | None) -> None:
    """Let a paused engine continue with as many batches as are left."""
    state, position = engine.state, engine._run.position
    state.dataloader = data
    engine._run.resumption.go_over(data, None)
    if data is None or length is None or not position._in_pass:
        position.iterate(None if data is None else PlainPasses(data))
        return
    fetched = position.progress_in_data(state)[1]
    fetched += engine._run.paused_at in (Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED)
    position.iterator = itertools.repeat(None, length - fetched)

"""The states that make a checkpoint, taken on all ranks together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.handlers.checkpoint.ranks import caught, share
from ignite_core.handlers.checkpoint.sharded import full
from ignite_core.handlers.checkpoint.states import each_object, state_of
from ignite_core.handlers.voting.vote import find_vote

__all__ = ["collect", "is_bad"]


def collect(objects: Mapping[str, Any], what: str, rank: int, whole: bool) -> dict[str, Any]:
    """The states of all objects by name. All ranks call it.

    A rank that fails goes on to the other objects, as others wait for it where a state is of all ranks.

    Args:
        objects: By name.
        what: Is being done, for the message.
        rank: The one that saves.
        whole: Put together tensors that are spread over the ranks, for ``rank``.

    Raises:
        CheckpointError: On all ranks, if a ``state_dict()`` failed on one of them; in a serial run its own error.
    """
    states: dict[str, Any] = {}
    error: Exception | None = None
    for name, obj in objects.items():
        try:
            states[name] = each_object(partial(state_of, save_on_rank=rank), obj)
        except Exception as failure:
            caught(failure).add_note(f"Raised by state_dict() of {name!r}, a {type(obj).__name__}, for a checkpoint.")
            error = error or failure
    engines = [name for name, obj in objects.items() if isinstance(obj, Engine) and "by_rank" in states.get(name, ())]
    told = share(f"{what}, state_dict() failed", error, {name: states[name]["by_rank"] for name in engines})
    for name in engines:  # what differs between ranks (the state of their random generators), one after the other
        states[name] = OrderedDict(states[name], by_rank=[part for of_rank in told for part in of_rank[name]])
    whole_states: dict[str, Any] = full(states, rank) if whole else states
    return whole_states


def is_bad(engine: Engine | None) -> bool:
    """Settle what is pending about a run and those that run it; whether what it holds must not be saved."""
    while engine is not None:
        vote = find_vote(engine)
        if vote is not None:
            vote.settle()
            if vote.unsafe_to_save is not None:
                engine.logger.warning("Checkpoint: nothing was saved: %s", vote.unsafe_to_save)
                return True
        engine = engine.parent
    return False

"""Exchanges between ranks during a save or a resume: all ranks continue, or all ranks raise."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed, is_agreed
from ignite_core.engine.engine import Engine
from ignite_core.exceptions import CheckpointError, RankFailed
from ignite_core.handlers.checkpoint.sharded import full
from ignite_core.handlers.checkpoint.states import each_object, state_of
from ignite_core.handlers.voting.vote import find_vote

__all__ = ["caught", "collect_states", "is_unsafe_to_save", "saving_rank", "share"]

T = TypeVar("T")


def saving_rank(save_on_rank: int) -> int:
    """The rank that saves: ``save_on_rank``, or 0 if there are fewer ranks, as when a script runs alone."""
    return save_on_rank if save_on_rank == 0 or save_on_rank < idist.get_world_size() else 0


def caught(error: Exception) -> Exception:
    """Return an error that is to be reported with :func:`share`.

    Raises:
        Exception: The error itself, if all ranks raise it anyway: another rank is lost, or they have agreed on it.
    """
    if isinstance(error, RankFailed) or is_agreed(error):
        raise error
    return error


def share(what: str, error: Exception | None, value: T) -> list[T]:
    """Gather a value from all ranks, or raise on all ranks if one of them failed. All ranks must call it.

    Args:
        what: What is being done, for the message. The message of the failed rank is used.
        error: The error of this rank, if it failed.
        value: The value of this rank; it is pickled.

    Returns:
        The values by rank; in a serial run the value itself.

    Raises:
        CheckpointError: On all ranks, if one of them failed, with its number and its error. In a serial run the error
            itself is raised.
    """
    if idist.get_world_size() == 1:
        if error is not None:
            raise error
        return [value]
    summary = None if error is None else f"{type(error).__name__}: {error}"
    gathered = idist.all_gather_object((what, summary, None if error is not None else value))
    failed = {rank: (what, summary) for rank, (what, summary, _) in enumerate(gathered) if summary is not None}
    if failed:
        what, _ = next(iter(failed.values()))
        reasons = "; ".join(f"rank {rank} failed with {summary}" for rank, (_, summary) in failed.items())
        raise agreed(CheckpointError(f"{what}: {reasons}")) from error
    return [value for _, _, value in gathered]  # type: ignore[misc]


def collect_states(objects: Mapping[str, Any], what: str, rank: int, unshard: bool) -> dict[str, Any]:
    """The states of all objects by name. All ranks must call it.

    A rank where one ``state_dict()`` fails still calls the others, since these may be collective.

    Args:
        objects: Objects by name.
        what: What is being done, for the message.
        rank: The rank that saves.
        unshard: Gather tensors that are sharded over the ranks on ``rank``.

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
    gathered = share(f"{what}, state_dict() failed", error, {name: states[name]["by_rank"] for name in engines})
    for name in engines:  # what differs between ranks (random states) is concatenated in the order of the ranks
        states[name] = OrderedDict(states[name], by_rank=[part for by_name in gathered for part in by_name[name]])
    unsharded: dict[str, Any] = full(states, rank) if unshard else states
    return unsharded


def is_unsafe_to_save(engine: Engine | None) -> bool:
    """Resolve the pending votes of a run and of its parents; True if one of them found that its state is bad (NaN)."""
    while engine is not None:
        vote = find_vote(engine)
        if vote is not None:
            vote.settle()
            if vote.unsafe_to_save is not None:
                engine.logger.warning("Checkpoint: nothing was saved: %s", vote.unsafe_to_save)
                return True
        engine = engine.parent
    return False

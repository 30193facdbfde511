"""What ranks tell each other during a save or a resume, so that all of them go on or all raise."""

from __future__ import annotations

from typing import TypeVar

from ignite_core.distributed import utils as idist
from ignite_core.distributed.failures.api import agreed, is_agreed
from ignite_core.exceptions import CheckpointError, RankFailed

__all__ = ["caught", "saving_rank", "share"]

T = TypeVar("T")


def saving_rank(save_on_rank: int) -> int:
    """The rank that saves: the first one where there is none of that number, as when a script runs alone."""
    return save_on_rank if save_on_rank < idist.get_world_size() else 0


def caught(error: Exception) -> Exception:
    """An error that is to be told with :func:`share`; what all ranks learn of anyway goes on at once.

    Raises:
        Exception: The very error, if another rank is lost, or all ranks raise it together.
    """
    if isinstance(error, RankFailed) or is_agreed(error):
        raise error
    return error


def share(what: str, error: Exception | None, value: T) -> list[T]:
    """The values of all ranks, unless one of them failed. All ranks call it.

    Args:
        what: Is being done, for the message, which tells that of the rank that failed.
        error: What went wrong on this rank.
        value: What this rank brings; it is pickled.

    Returns:
        The values in the order of the ranks; in a serial run the very value.

    Raises:
        CheckpointError: On all ranks, if one of them failed; it says which, and with what. In a serial run the error
            itself is raised.
    """
    if idist.get_world_size() == 1:
        if error is not None:
            raise error
        return [value]
    summary = None if error is None else f"{type(error).__name__}: {error}"
    told = idist.all_gather_object((what, summary, None if error is not None else value))
    failed = {rank: (what, summary) for rank, (what, summary, _) in enumerate(told) if summary is not None}
    if failed:
        what, _ = next(iter(failed.values()))
        reasons = "; ".join(f"rank {rank} failed with {summary}" for rank, (_, summary) in failed.items())
        raise agreed(CheckpointError(f"{what}: {reasons}")) from error
    return [value for _, _, value in told]  # type: ignore[misc]

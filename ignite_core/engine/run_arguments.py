"""The rules for the arguments of ``Engine.run``, as one pure function."""

from __future__ import annotations

import inspect
import numbers
from collections import UserDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from ignite_core.engine.data.position import Position, length_of
from ignite_core.engine.describe import describe
from ignite_core.engine.state import State

__all__ = ["Arguments", "Resolved", "check_data", "check_not_empty", "check_step", "is_done", "over_message", "resolve"]


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of ``Engine.run``."""

    data: Iterable[Any] | None = None
    max_epochs: int | None = None
    max_iters: int | None = None
    epoch_length: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """The limits of the next run, and whether it starts from zero, continues, or has nothing left."""

    is_new: bool
    max_epochs: int | None
    max_iters: int | None
    epoch_length: int | None
    is_over: bool = False


def is_done(state: State) -> bool:
    """Whether as many epochs or iterations were begun as are requested."""
    if state.max_epochs is not None and state.epoch >= state.max_epochs:
        return True
    return state.max_iters is not None and state.iteration >= state.max_iters


def resolve(
    state: State, arguments: Arguments, *, paused: bool, known_length: int | None, loaded: Position | None = None
) -> Resolved:
    """Decide what ``run`` with these arguments does from this state.

    A run continues where it was paused, ended early or loaded. It starts from zero if none was requested yet or as much
    is done as is requested. A run that was loaded with nothing left is over.

    Args:
        state: The present state; it is not changed.
        arguments: Those of ``run``; the seed is not used.
        paused: The run was interrupted and not dropped since.
        known_length: The length of an epoch of a new run if neither an argument nor the data tells it.
        loaded: Where a loaded run continues; None if none was loaded, or for an evaluator, which runs many times.

    Raises:
        TypeError: If ``data`` cannot be iterated or a number is not an integer.
        ValueError: If a number is below 1, arguments exclude each other or contradict the state, the data is empty,
            or there is neither data nor a length.
    """
    data, epoch_length = arguments.data, arguments.epoch_length
    max_epochs, max_iters = arguments.max_epochs, arguments.max_iters
    if data is not None:
        check_data("Engine.run", data)
    for name, value in (("max_epochs", max_epochs), ("max_iters", max_iters), ("epoch_length", epoch_length)):
        _check_positive(name, value)
    if max_epochs is not None and max_iters is not None:
        raise ValueError(
            f"Engine.run: max_epochs and max_iters exclude each other, got max_epochs={max_epochs} and "
            f"max_iters={max_iters}"
        )
    _check_limit("max_epochs", max_epochs, state.epoch, "epochs", state.max_epochs, state.max_iters)
    _check_limit("max_iters", max_iters, state.iteration, "iterations", state.max_iters, state.max_epochs)

    wanted_epochs = state.max_epochs if max_epochs is None else max_epochs
    wanted_iters = state.max_iters if max_iters is None else max_iters
    reached = is_done(
        State(epoch=state.epoch, iteration=state.iteration, max_epochs=wanted_epochs, max_iters=wanted_iters)
    )
    dropped = state.max_epochs is None and state.max_iters is None
    if loaded is not None and not dropped:
        is_larger = (wanted_epochs or 0) > (state.max_epochs or 0) or (wanted_iters or 0) > (state.max_iters or 0)
        reached = reached and not loaded.has_epoch_to_end(state)
        if reached or (loaded.left == "nothing" and not is_larger):
            return Resolved(False, wanted_epochs, wanted_iters, state.epoch_length, is_over=True)
    if not paused and (dropped or reached):
        length = _length_of_new_run(data, max_iters, epoch_length, known_length)
        return Resolved(True, max_epochs or (None if max_iters else 1), max_iters, length)

    if epoch_length not in (None, state.epoch_length) and (paused or state.epoch_length is not None):
        raise ValueError(
            f"Engine.run: epoch_length={epoch_length} differs from the {state.epoch_length or 'yet unknown number of'} "
            "iterations of an epoch of the run that continues; leave it out, or set engine.state.max_epochs = None to "
            "start from zero"
        )
    length = epoch_length if state.epoch_length is None else state.epoch_length
    if length is None and not paused:
        length = _length_of_new_run(data, wanted_iters, None, None)
    return Resolved(False, wanted_epochs, wanted_iters, length)


def over_message(state: State, resolved: Resolved) -> str:
    """Why a loaded run has nothing left, and what to do about it."""
    kind, done, limit = "max_epochs", state.epoch, resolved.max_epochs
    if limit is None:
        kind, done, limit = "max_iters", state.iteration, resolved.max_iters
    why = ", ended for good by EarlyStopping or terminate(final=True)" if done != limit else ""
    return (
        f"nothing is run: the loaded run is over, {done} of {kind}={limit} are done{why}; pass a larger {kind} to "
        f"continue, or do not load, or set engine.state.{kind} = None, to start from zero"
    )


def check_data(where: str, data: object) -> None:
    """Raise a TypeError for data that cannot be iterated, or that iterates over something other than batches."""
    kind = type(data)
    if not isinstance(data, Iterable):
        raise TypeError(f"{where}: data must be iterable, got {kind.__name__}; wrap a Dataset in a DataLoader")
    over = ""
    if any(base.__name__ == "DataFrame" for base in kind.__mro__):
        over = "column names; pass a DataLoader over tensors of its rows"
    elif isinstance(data, dict | UserDict) and data and all(isinstance(key, str) for key in data):
        over = "its names; pass one of its values, or list(data.values())"
    elif isinstance(data, str | bytes):
        over = "characters; pass a list of batches"
    if over:
        raise TypeError(
            f"{where}: data must be an iterable of batches, got {kind.__name__}, which iterates over {over}"
        )


def _check_positive(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"Engine.run: {name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"Engine.run: {name} must be at least 1, got {value}")


def _check_limit(name: str, limit: int | None, done: int, unit: str, own: int | None, other: int | None) -> None:
    """A new limit must not be below what is done, nor of another kind than that of the run."""
    if limit is None:
        return
    if other is not None:
        kind = "max_iters" if name == "max_epochs" else "max_epochs"
        raise ValueError(
            f"Engine.run: {name}={limit}, but this run goes by {kind}={other}; "
            f"set engine.state.{kind} = None to start from zero"
        )
    if own is not None and limit < done:
        raise ValueError(
            f"Engine.run: {name}={limit} is below the {done} {unit} already begun; "
            f"pass a larger {name}, or set engine.state.{name} = None to start from zero"
        )


def _length_of_new_run(
    data: Iterable[Any] | None, max_iters: int | None, epoch_length: int | None, known_length: int | None
) -> int | None:
    """The length of an epoch: the argument, that of the data, the known one; None if the run has to find it."""
    if epoch_length is not None:
        return epoch_length
    if data is None:
        length = known_length or max_iters
        if length is None:
            raise ValueError(
                "Engine.run: without data the length of an epoch must be given, got data=None and epoch_length=None; "
                "pass epoch_length, or max_iters"
            )
        return length
    length = length_of(data)
    if length is None:
        return known_length
    check_not_empty(length)
    return length


def check_not_empty(length: int) -> None:
    """Raise a ValueError for an epoch without batches; with several ranks, others may have some."""
    several_ranks = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if length == 0 and not several_ranks:
        raise ValueError("Engine.run: the data must hold at least one batch, got data of length 0")


def check_step(step: object) -> None:
    """Raise an error if a step is not callable with an engine and a batch."""
    if not callable(step):
        raise TypeError(
            f"Engine: the step must be callable as step(engine, batch), got {step!r} of {type(step).__name__}"
        )
    try:
        signature = inspect.signature(step)
    except (TypeError, ValueError):  # a builtin without signature
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise ValueError(
            f"Engine: the step must take (engine, batch), got {describe(step)} with the signature {signature}: {error}"
        ) from error

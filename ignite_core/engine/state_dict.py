"""The state dict of an engine: read and checked as a whole before anything is changed."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ignite_core.engine.state import State
from ignite_core.exceptions import few
from ignite_core.rng import check_rng_state

__all__ = ["BEFORE_STEP", "CUTS", "Progress", "ResumeInfo", "read_progress", "read_resume_info", "results_of"]

#: What is left of an epoch cut by ``terminate_epoch()``: both of its last events, the first, or the second of them.
CUTS: Final = ("terminate_epoch", "skip_epoch_completed", "epoch_completed")

#: The events before the step, numbered in their order; those from 3 on are fired for each batch.
BEFORE_STEP: Final = {
    "STARTED": 1,
    "EPOCH_STARTED": 2,
    "GET_BATCH_STARTED": 3,
    "GET_BATCH_COMPLETED": 4,
    "ITERATION_STARTED": 5,
}

#: The largest number of elements of a tensor or container that is saved as a result.
_FEW: Final = 1000

_DTYPES: Final = frozenset({torch.bool, torch.int64, torch.float64, torch.float32, torch.float16, torch.bfloat16})

#: What is left of a run if it does not follow from its numbers.
_LEFT: Final = (*CUTS, "nothing", "everything")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a saved run."""

    iteration: int
    epochs_done: int
    epoch_iteration: int  #: iterations done in the current epoch
    epoch_length: int | None
    max_epochs: int | None
    max_iters: int | None
    event_counts: dict[str, int]
    left: str | None  #: what is left of the run, if it does not follow from its numbers
    results: dict[str, Any]  #: ``metrics`` and ``output``, if they were saved
    begun: str | None  #: the last event before the step, fired for an iteration that is not done


@dataclass(frozen=True, slots=True)
class ResumeInfo:
    """What a run is resumed from beside its counters; empty if it is not seeded and needs no position in the data."""

    seed: int | None = None
    data_pass: tuple[int, int] | None = None  #: number of the pass over the data, and how many of its batches are done
    data_length: int | None = None  #: batches of a whole pass, if known
    global_batch: int | None = None  #: samples in a batch of all ranks together, if known
    num_workers: int | None = None  #: workers that share a stream, at least 1
    parts: tuple[Mapping[str, Any], ...] = ()  #: what differs by rank

    @property
    def world_size(self) -> int | None:
        """Number of ranks of the saved run."""
        return self.parts[0]["world_size"] if self.parts else None

    def saved(self, state: State, part: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of a state dict: numbers, and the part of one rank if it is not empty."""
        if self.data_pass is None:
            return {}
        saved: dict[str, Any] = {} if state.seed is None else {"seed": state.seed}
        saved["data_pass"] = list(self.data_pass)
        if self.data_length != state.epoch_length:
            saved["data_length"] = self.data_length
        known = {"global_batch": self.global_batch, "num_workers": self.num_workers}
        saved.update({key: number for key, number in known.items() if number is not None})
        if part:
            saved["by_rank"] = [dict(part)]
        return saved


def read_resume_info(saved: Mapping[str, Any]) -> ResumeInfo:
    """Read and check the entries that ``Engine.state_dict`` saved beside the counters, if there are any."""
    seed = _number(saved, "seed", least=None)
    place = saved.get("data_pass")
    if place is not None:
        if not isinstance(place, Sequence) or len(place) != 2:
            raise TypeError(f"load_state_dict: data_pass must be two integers, got {place!r:.80}")
        place = _integer("data_pass[0]", place[0], least=1), _integer("data_pass[1]", place[1], least=0)
        iteration = _number(saved, "iteration", least=0)
        if iteration is not None and place[1] > iteration:
            raise ValueError(f"load_state_dict: data_pass={list(place)} contradicts iteration={iteration}")
    parts = saved.get("by_rank", ())
    if not isinstance(parts, Sequence) or not all(isinstance(part, Mapping) for part in parts):
        raise TypeError(f"load_state_dict: by_rank must be a list of mappings, got {type(parts).__name__}")
    for number, part in enumerate(parts):
        for key, least in (("rank", 0), ("world_size", 1)):
            if key not in part:
                raise ValueError(f"load_state_dict: by_rank[{number}] must have a {key!r}, got {few(part)}")
            _integer(f"by_rank[{number}][{key!r}]", part[key], least)
        _number(part, "seed", least=None)
        _check_random_states(part)
    length = _number(saved, "data_length" if "data_length" in saved else "epoch_length", least=0)
    batch, workers = _number(saved, "global_batch", least=1), _number(saved, "num_workers", least=1)
    return ResumeInfo(seed, place, length, batch, workers, tuple(parts))


def _check_random_states(part: Mapping[str, Any]) -> None:
    """Check the random states of one rank, and of its data if that has a state."""
    of_data = part.get("data", {})
    if not isinstance(of_data, Mapping) or ("data" in part and "state" not in of_data):
        kind = type(of_data).__name__
        raise TypeError(f"load_state_dict: the state of the data must be a mapping with 'state', got a {kind}")
    for holder in (part, of_data):
        if "rng" in holder:
            check_rng_state(holder["rng"])


def read_progress(saved: Mapping[str, Any], user_keys: Sequence[str]) -> Progress:
    """Read and check the counters of a state dict, saved or written by hand."""
    if not isinstance(saved, Mapping):
        raise TypeError(f"load_state_dict: state_dict must be a mapping, got {type(saved).__name__}")
    for key in ("epoch_length", *user_keys):
        if key not in saved:
            raise ValueError(f"load_state_dict: the key {key!r} is missing, got {few(saved)}")
    _check_one_of(saved, "iteration", "epoch")
    _check_one_of(saved, "max_epochs", "max_iters")
    length = _number(saved, "epoch_length", least=0)
    iteration, epochs_done, epoch_iteration = _counters(saved, length)
    max_epochs, max_iters = _number(saved, "max_epochs", least=1), _number(saved, "max_iters", least=1)
    epochs_begun = epochs_done + (epoch_iteration > 0)
    for name, limit, done in (("max_epochs", max_epochs, epochs_begun), ("max_iters", max_iters, iteration)):
        if limit is not None and limit < done:
            raise ValueError(f"load_state_dict: {name}={limit} is below the {done} already begun, got {_shown(saved)}")
    left, begun = _choice(saved, "left", _LEFT), _choice(saved, "begun", tuple(BEFORE_STEP))
    results = {key: saved[key] for key in ("metrics", "output") if key in saved}
    if not isinstance(results.get("metrics", {}), Mapping):
        raise TypeError(f"load_state_dict: metrics must be a mapping, got {type(results['metrics']).__name__}")
    counts = saved.get("event_counts", {})
    if not isinstance(counts, Mapping):
        raise TypeError(f"load_state_dict: event_counts must be a mapping, got {type(counts).__name__}")
    counts = {event: _integer(f"event_counts[{event!r}]", count, least=0) for event, count in counts.items()}
    return Progress(
        iteration, epochs_done, epoch_iteration, length, max_epochs, max_iters, counts, left, results, begun
    )


def results_of(state: State) -> dict[str, Any]:
    """The metrics and the output, if they are numbers, strings, small tensors or containers of these."""
    results, metrics = {}, {}
    if state.output is not None:
        with contextlib.suppress(_NotPlainError):
            results["output"] = _plain(state.output)
    for name in state.metrics:
        with contextlib.suppress(_NotPlainError):
            metrics[name] = _plain(state.metrics[name])
    return {**results, "metrics": metrics} if metrics else results


class _NotPlainError(Exception):
    """A value is large, or of a type that torch.load(weights_only=True) refuses."""


def _plain(value: Any, depth: int = 4) -> Any:
    kind = type(value)
    if value is None or kind in (bool, float) or (kind is int and abs(value) < 2**63):
        return value
    if (
        kind is Tensor
        and value.dtype in _DTYPES
        and value.layout is torch.strided
        and not value.is_meta
        and value.numel() <= _FEW
    ):
        return value.detach().cpu().clone()
    if not depth or kind not in (str, list, tuple, dict) or len(value) > _FEW:
        raise _NotPlainError
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise _NotPlainError
        return {key: _plain(one, depth - 1) for key, one in value.items()}
    return value if kind is str else kind(_plain(one, depth - 1) for one in value)


def _choice(saved: Mapping[str, Any], key: str, allowed: Sequence[str]) -> str | None:
    value = saved.get(key)
    if value is not None and value not in allowed:
        raise ValueError(f"load_state_dict: {key} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def _counters(saved: Mapping[str, Any], length: int | None) -> tuple[int, int, int]:
    """Iterations done, epochs done, and iterations done in the current epoch."""
    name = "iteration" if "iteration" in saved else "epoch"
    number = _integer(name, saved[name], least=0)
    iteration, epoch = (number, None) if name == "iteration" else (None, number)
    done, begun = _number(saved, "epochs_done", least=0), _number(saved, "epoch_iteration", least=0)
    if (done is None) != (begun is None):
        raise ValueError(
            f"load_state_dict: epochs_done and epoch_iteration go together, got epochs_done={done} and "
            f"epoch_iteration={begun}"
        )
    if done is not None and begun is not None and iteration is not None:
        if begun > iteration or (length is not None and begun > length):
            raise ValueError(
                f"load_state_dict: epoch_iteration={begun} contradicts iteration={iteration}, epoch_length={length}"
            )
        return iteration, done, begun
    if number == 0:
        return 0, 0, 0
    if not length:
        raise ValueError(
            "load_state_dict: epoch_length must be a positive integer to compute epochs and iterations from each "
            f"other, got {_shown(saved)}"
        )
    if iteration is None:
        assert epoch is not None
        return epoch * length, epoch, 0
    return iteration, *divmod(iteration, length)


def _check_one_of(saved: Mapping[str, Any], one: str, other: str) -> None:
    if (one in saved) == (other in saved):
        raise ValueError(
            f"load_state_dict: there must be exactly one of {one!r} and {other!r}, got "
            f"{ {key: saved[key] for key in (one, other) if key in saved} } in {few(saved)}"
        )


def _shown(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The counters in a state dict."""
    names = ("iteration", "epoch", "epoch_length", "max_epochs", "max_iters", "epochs_done", "epoch_iteration")
    return {name: saved[name] for name in names if name in saved}


def _number(saved: Mapping[str, Any], key: str, least: int | None) -> int | None:
    value = saved.get(key)
    return None if value is None else _integer(key, value, least)


def _integer(key: str, value: Any, least: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"load_state_dict: {key} must be an integer, got {value!r:.80}")
    if int(value).bit_length() > 64:
        raise ValueError(f"load_state_dict: {key} must fit into 64 bits, got one of {int(value).bit_length()}")
    if least is not None and value < least:
        raise ValueError(f"load_state_dict: {key} must be at least {least}, got {value}")
    return int(value)

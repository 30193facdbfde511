"""Handlers that communicate with other ranks, but are attached on one rank only, as by ``if rank == 0:``.

A handler class that communicates has an attribute ``collective``, its name for this comparison. When an engine first
runs on several ranks, each rank writes the names of its handlers to the store. A rank that has any waits until all
ranks run this engine; a rank that has none continues, so an engine without such handlers can run on one rank alone. A
handler of one rank only acts as in a serial run.
"""

from __future__ import annotations

import functools
import json
import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

from ignite_core.distributed import utils as idist
from ignite_core.distributed.current import acts_alone, current_model, run_alone
from ignite_core.distributed.failures import api as failures
from ignite_core.distributed.models.base import ComputationModel
from ignite_core.engine.registration import Registration

__all__ = ["name_of_engine", "separate_lone_handlers"]

#: Number of engines of each name in this process.
_made: Counter[str] = Counter()

#: The engines that were compared, by the model of the process group.
_compared: weakref.WeakKeyDictionary[ComputationModel, weakref.WeakSet[Any]] = weakref.WeakKeyDictionary()


def name_of_engine(process_function: Callable[..., Any]) -> str:
    """A name that is the same on all ranks, if they create their engines in the same order."""
    name = getattr(process_function, "__qualname__", type(process_function).__qualname__)
    _made[name] += 1
    return f"{name} {_made[name]}"


def separate_lone_handlers(engine: Any) -> None:
    """Compare the handlers of all ranks when the engine first runs; those of one rank only act as in a serial run.

    Raises:
        RuntimeError: If some ranks, but not all, have a handler, or one rank has a handler that cannot act alone.
        RankFailed: If another rank fails meanwhile.
    """
    model = current_model()
    if model.store is None or engine in _compared.setdefault(model, weakref.WeakSet()):
        return
    _compared[model].add(engine)
    owners = _collective_owners(engine)
    of_ranks = _compare(model, f"ignite_core/handlers/{engine._name}", sorted(name for _, name in owners))
    if of_ranks is None:
        return
    lone = []
    for owner, name in owners:
        counts = [names.count(name) for names in of_ranks]
        if counts.count(0) == model.world_size - 1:
            lone.append((owner, name))
        elif len(set(counts)) > 1:
            _refuse(f"{name} must be attached on all ranks, as often on each, or on one alone", counts, of_ranks)
    for owner, name in lone:
        reason = owner.why_not_alone() if hasattr(owner, "why_not_alone") else None
        if reason is not None:
            counts = [names.count(name) for names in of_ranks]
            _refuse(f"{name} must be attached on all ranks, as {reason}", counts, of_ranks)
    if lone:
        found = ", ".join(sorted({name for _, name in lone}))
        warnings.warn(
            f"rank {model.rank} of {model.world_size} alone has attached {found}: it acts as in a serial run, on the "
            "values of this rank, and if it stops the run, it stops that of this rank only; attach it on all ranks to "
            "let it act for all",
            stacklevel=5,
        )
        engine.instrument(functools.partial(_let_act_alone, model, [owner for owner, _ in lone]))


def _collective_owners(engine: Any) -> list[tuple[Any, str]]:
    """The objects that communicate in their handlers, each once, and their names."""
    found: dict[int, tuple[Any, str]] = {}
    for registration in engine.handlers():
        owner = registration.owner
        name = getattr(owner, "collective", None)
        if isinstance(name, str) and not isinstance(owner, type):
            found[id(owner)] = owner, name
    return list(found.values())


def _compare(model: ComputationModel, key: str, names: list[str]) -> list[list[str]] | None:
    """The names of all ranks; None if they are equal or this rank has none."""
    store, mine = model.store, json.dumps(names)
    store.set(f"{key}/{model.rank}", mine)
    if store.compare_set(f"{key}/first", "", mine).decode() != mine:
        store.set(f"{key}/differ", "")
    if store.add(f"{key}/count", 1) == model.world_size:
        store.set(f"{key}/complete", "")
    if not names:
        return None
    with failures.explained("Engine.run", model.rank, model.world_size, idist.backend()):
        failures.wait_for(lambda: store.check([f"{key}/complete"]), model.timeout)
    if not store.check([f"{key}/differ"]):
        return None
    return [json.loads(store.get(f"{key}/{rank}")) for rank in range(model.world_size)]


def _refuse(rule: str, counts: list[int], of_ranks: list[list[str]]) -> None:
    """Raise an error; all ranks with handlers raise it together, the others when they check for failures."""
    shown = [f"rank {rank} has {count or 'none'}" for rank, count in enumerate(counts[:8])]
    error = RuntimeError(f"{rule}, but {', '.join(shown)}{', ...' if len(counts) > len(shown) else ''}")
    raise failures.agreed(error) if all(of_ranks) else error


def _let_act_alone(
    model: ComputationModel, lone: list[Any], registration: Registration, call: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """A wrap that runs handlers of lone owners, and those that they attach, as in a serial run."""
    if not (acts_alone() or any(registration.owner is owner for owner in lone)):
        return call
    begun = model.collectives_done

    def alone(engine: Any) -> Any:
        stops = _stops(engine)
        with run_alone():
            result = call(engine)
        if _stops(engine) > stops and model.collectives_done > begun:
            raise RuntimeError(
                f"{type(registration.owner).__name__} ends a run on rank {model.rank} alone in which the ranks "
                "exchange tensors, so the others would wait for this one; attach it on all ranks"
            )
        return result

    return alone


def _stops(engine: Any) -> list[int]:
    """The strongest stop request of the engine and of each engine that runs it."""
    return [] if engine is None else [int(engine._run.stop), *_stops(engine.parent)]

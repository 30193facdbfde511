"""Hyperparameters of optimizers and of torch's schedulers: those that a script sets, and those of a checkpoint.

What a script sets is read when it creates a :class:`~ignite_core.handlers.Checkpoint` and when it calls ``resume``, and
saved in the manifest. A later start compares its values with these, not with the values at the time of the save, which
a schedule may have changed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ignite_core.handlers.checkpoint.states import leaves, place_of, unwrapped

__all__ = ["Built", "built_of", "differences", "keep_built", "saved_of"]

#: By the place of an object in a checkpoint, its hyperparameters: one value, or one for each parameter group.
Built: TypeAlias = dict[str, dict[str, list[Any]]]

#: The number of differences that a message lists.
_SHOWN = 6


def built_of(objects: Any) -> Built:
    """The hyperparameters of optimizers and schedulers, by the place of each."""
    built = {}
    for path, obj in leaves(objects, "state_dict"):
        groups = _groups(unwrapped(obj))
        keys = {key: None for group in groups for key in group}
        values = {key: [group.get(key) for group in groups] for key in keys}
        values = {key: each[:1] if each.count(each[0]) == len(each) else each for key, each in values.items()}
        if values:
            built[path] = values
    return built


def saved_of(about: Any, payload: Any) -> Built:
    """What the script that saved a checkpoint had set, according to its manifest.

    Without that, the initial rates that schedulers of torch add to optimizers.
    """
    if isinstance(about, Mapping):
        return {
            path: {key: each for key, each in values.items() if isinstance(each, list)}
            for path, values in about.items()
            if isinstance(values, Mapping)
        }
    return dict(_initial_rates(payload))


def _initial_rates(state: Any, path: str = "") -> Iterator[tuple[str, dict[str, list[Any]]]]:
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    if isinstance(groups, list) and all(isinstance(one, Mapping) and "initial_lr" in one for one in groups):
        rates = [_plain(group["initial_lr"]) for group in groups]
        yield path, {"lr": rates[:1] if rates.count(rates[0]) == len(rates) else rates}
    elif isinstance(state, Mapping | list | tuple):
        for key, value in state.items() if isinstance(state, Mapping) else enumerate(state):
            yield from _initial_rates(value, place_of(key, path))


def differences(saved: Built, *own: Built) -> list[str]:
    """Describe where this script sets other values than the one that saved.

    Args:
        saved: Those of the checkpoint.
        own: Those of this script, read at several times: a value that was the saved one at any time is no difference.
    """
    found = []
    for path, values in own[0].items():
        for key, mine in values.items():
            theirs = saved.get(path, {}).get(key, mine)
            if all(theirs != built.get(path, {}).get(key, mine) for built in own):
                found.append(f"{path} {key}={_shown(theirs)} (this script: {_shown(mine)})")
    return found if len(found) <= _SHOWN else [*found[:_SHOWN], f"and {len(found) - _SHOWN} more"]


def keep_built(objects: Mapping[str, Any], keys: Collection[str], built: Built, saved: Built) -> None:
    """Restore the values of this script in loaded optimizers and schedulers.

    A rate that a scheduler of torch, loaded too, has changed since the start of the run is changed by the same factor.

    Args:
        objects: The loaded objects.
        keys: The hyperparameters to restore.
        built: What this script had set before loading.
        saved: What the script that saved them had set.
    """
    loaded = {path: unwrapped(obj) for path, obj in leaves(objects, "load_state_dict")}
    schedulers = [one for one in loaded.values() if isinstance(one, LRScheduler)]
    scheduled = [one.optimizer for one in schedulers if not isinstance(one, ReduceLROnPlateau)]
    for path, obj in loaded.items():
        for key in (key for key in keys if key in built.get(path, {})):
            mine = built[path][key]
            if not isinstance(obj, Optimizer):
                setattr(obj, key, mine[0])
                continue
            before = saved.get(path, {}).get(key, [None]) if any(obj is one for one in scheduled) else [None]
            for number, group in enumerate(obj.param_groups):
                _keep(group, key, _at(mine, number), _at(before, number))
    if "lr" in keys:
        for scheduler in schedulers:
            _keep_rates(scheduler)


def _keep(group: dict[str, Any], key: str, mine: Any, before: Any) -> None:
    """Set a value of a loaded parameter group."""
    now = _plain(group.get(key))
    is_moved = now != before and isinstance(now, float) and isinstance(before, float) and before != 0
    value = now * (mine / before) if is_moved else tuple(mine) if isinstance(mine, list) else mine
    if isinstance(group.get(key), Tensor):
        group[key].fill_(value)
    else:
        group[key] = value
    if key == "lr" and "initial_lr" in group:
        group["initial_lr"] = mine


def _keep_rates(scheduler: LRScheduler) -> None:
    """Set the base rates of a scheduler of torch, and of those in it, to the initial rates of its optimizer."""
    groups = scheduler.optimizer.param_groups
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [group.get("initial_lr", group["lr"]) for group in groups]
    scheduler._last_lr = [group["lr"] for group in groups]
    for part in getattr(scheduler, "_schedulers", ()):
        _keep_rates(part)


def _groups(obj: Any) -> list[dict[str, Any]]:
    """Hyperparameters by group, as plain values; a scheduler has one group."""
    if isinstance(obj, Optimizer):
        return [_settings({**group, "lr": group.get("initial_lr", group.get("lr"))}) for group in obj.param_groups]
    return [_settings(obj.state_dict())] if isinstance(obj, LRScheduler) else []


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without counters, and without what follows from the rate of the optimizer."""
    left_out = ("params", "param_names", "initial_lr", "last_epoch", "base_lrs", "best")
    plain = {key: _plain(value) for key, value in values.items() if key not in left_out and not key.startswith("_")}
    return {key: value for key, value in plain.items() if value is not None}


def _plain(value: Any) -> Any:
    """A number, a string or a list of them, as in JSON; None for anything else."""
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    if isinstance(value, list | tuple):
        each = [_plain(one) for one in value]
        return None if None in each or not each else each
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) and math.isfinite(value) else None


def _at(each: list[Any], number: int) -> Any:
    return each[number] if number < len(each) else each[0]


def _shown(each: Iterable[Any]) -> str:
    values = [f"{value!r:.40}" for value in each]
    return values[0] if len(values) == 1 else f"[{', '.join(values[:_SHOWN])}{', …' if len(values) > _SHOWN else ''}]"

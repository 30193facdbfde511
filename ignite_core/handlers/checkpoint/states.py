"""States of objects, and nestings of them; the state of a module has the keys it would have without wrappers."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ignite_core.distributed import utils as idist
from ignite_core.exceptions import CheckpointError

__all__ = [
    "Wrappers",
    "by_name",
    "check_objects",
    "each_object",
    "is_zero",
    "leaves",
    "paired",
    "place_of",
    "state_of",
    "unwrapped",
]


def leaves(tree: Any, method: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, lists and tuples, by their place; an object with ``method`` is a leaf."""
    if not hasattr(tree, method) and isinstance(tree, Mapping | list | tuple):
        for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from leaves(value, method, place_of(key, path))
    else:
        yield path, tree


def place_of(key: object, path: str = "") -> str:
    """A place in a nesting, as ``schedulers[0]``."""
    return f"{path}[{key!r}]" if path else str(key)


def each_object(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same nesting, with ``function`` applied to each object."""
    if hasattr(tree, "state_dict"):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: each_object(function, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [each_object(function, value) for value in tree]
    return function(tree)


def check_objects(objects: object, method: str, where: str) -> None:
    """Check that each object can be saved, or loaded.

    Raises:
        TypeError: If it is not a mapping of names to objects that have ``method``.
    """
    if not isinstance(objects, Mapping):
        raise TypeError(f"{where}: the objects must be a mapping of names to them, got {type(objects).__name__}")
    for path, obj in leaves(objects, method):
        if not callable(getattr(obj, method, None)):
            raise TypeError(f"{where}: {path!r} must have a method {method}(), got {type(obj).__name__}")


def paired(objects: Any, states: Any, source: str, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Place, object and state of each object."""
    if hasattr(objects, "load_state_dict"):
        yield path, objects, states
        return
    is_list = isinstance(objects, list | tuple)
    held = dict(enumerate(states)) if is_list and isinstance(states, list | tuple) else states
    for key in range(len(objects)) if is_list else objects:
        place = place_of(key, path)
        if not isinstance(held, Mapping) or key not in held:
            known = list(held) if isinstance(held, Mapping) else type(held).__name__
            raise CheckpointError(f"{source}: it contains no state of {place!r}, only of {known}; load what is there")
        yield from paired(objects[key], held[key], source, place)


def by_name(objects: Mapping[str, Any], states: Any) -> Any:
    """States by name, also if that of a single object was saved bare."""
    if len(objects) != 1:
        return states
    (name,) = objects
    is_bare = not isinstance(states, Mapping) or name not in states or isinstance(states[name], Tensor)
    return {name: states} if is_bare else states


def unwrapped(obj: Any) -> Any:
    """The module inside DataParallel, DistributedDataParallel and torch.compile, in any order; others as they are."""
    while (inner := _inner_name(obj)) is not None:
        obj = getattr(obj, inner)
    return obj


def state_of(obj: Any, save_on_rank: int) -> Any:
    """The state of an object without a trace of wrappers. All ranks must call it.

    The state of a ZeroRedundancyOptimizer is gathered on ``save_on_rank``; on other ranks it is None.
    """
    obj = unwrapped(obj)
    if is_zero(obj) and idist.get_world_size() > 1:
        obj.consolidate_state_dict(to=save_on_rank)
        return obj.state_dict() if idist.get_rank() == save_on_rank else None
    state = obj.state_dict()
    return Wrappers(obj).taken_off(state) if isinstance(obj, nn.Module) else state


class Wrappers:
    """The wrapped modules inside a module. Each wrapper adds its name to the keys of the state."""

    def __init__(self, module: nn.Module) -> None:
        parts = module.named_modules(remove_duplicate=False)
        self._names = {path: inner for path, part in parts if (inner := _inner_name(part)) is not None}

    def bare(self, key: str) -> str:
        """A key without the names of wrappers."""
        if not self._names:
            return key
        path: list[str] = []
        kept = []
        for part in key.split("."):
            if self._names.get(".".join(path)) != part:
                kept.append(part)
            path.append(part)
        return ".".join(kept)

    def dressed(self, key: str) -> str:
        """A key with the names of wrappers."""
        if not self._names:
            return key
        path: list[str] = []
        for part in key.split("."):
            while (inner := self._names.get(".".join(path))) is not None:
                path.append(inner)
            path.append(part)
        return ".".join(path)

    def taken_off(self, state: Any) -> Any:
        """The state of the module, with keys as without the wrappers."""
        return renamed(state, {key: self.bare(key) for key in state}, self.bare) if self._names else state

    def put_on(self, state: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
        """A saved state, with the keys of this module.

        Args:
            state: As it was saved; it may have names of wrappers that this module does not have.
            own: The state of the module now.
        """
        plain: dict[str, list[str]] = {}
        for name in own:
            plain.setdefault(_plain(name), []).append(name)
        names = {key: dressed if (dressed := self.dressed(key)) in own else key for key in state}
        found = set(names.values())
        for key, name in names.items():
            alike = plain.get(_plain(key), [])
            if name not in own and len(alike) == 1 and alike[0] not in found:
                names[key] = alike[0]
        if all(key == name for key, name in names.items()):
            return state
        return renamed(state, names, self.dressed)


def renamed(state: Mapping[str, Any], names: Mapping[str, str], prefixes: Callable[[str], str]) -> Any:
    """A state with other keys, and its metadata of torch (versions by prefix)."""
    new = OrderedDict((names[key], value) for key, value in state.items())
    metadata = getattr(state, "_metadata", None)
    if metadata is not None:
        new._metadata = OrderedDict((prefixes(prefix), note) for prefix, note in metadata.items())  # type: ignore[attr-defined]
    return new


def _plain(key: str) -> str:
    """A key without parts that may be names of wrappers."""
    return ".".join(part for part in key.split(".") if part not in ("module", "_orig_mod"))


def _inner_name(module: object) -> str | None:
    """The attribute of a wrapper with the module in it; None if it is not a wrapper."""
    if isinstance(module, DataParallel | DistributedDataParallel):
        return "module"
    # torch.compile imports this; before, there is no compiled module
    compiled = getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", None)
    return "_orig_mod" if compiled is not None and isinstance(module, compiled) else None


def is_zero(obj: object) -> bool:
    """Whether it is a ZeroRedundancyOptimizer, whose state is sharded over the ranks and gathered on request."""
    home = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")  # not imported for this check
    return home is not None and isinstance(obj, home.ZeroRedundancyOptimizer)

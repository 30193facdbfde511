"""Gather states whose tensors are sharded over the ranks (FSDP2), and shard them again.

A full state has the keys and shapes of the same model without sharding: a file written from a sharded model loads into
a plain one, and vice versa.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ignite_core.distributed import utils as idist
from ignite_core.distributed.current import acts_alone
from ignite_core.exceptions import CheckpointError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["Layout", "dtensor_type", "full", "is_sharded", "load_sharded", "mapped"]

#: The keys that lead to a value in a state.
Path = tuple[Any, ...]


def is_sharded(state: object) -> bool:
    """Whether there is a :class:`~torch.distributed.tensor.DTensor` in nested mappings, lists and tuples."""
    kind = dtensor_type()
    return kind is not None and any(isinstance(leaf, kind) for leaf in _leaves(state))


def full(state: Any, rank: int | None = 0) -> Any:
    """The same state with full tensors. All ranks must call it, with the same keys in the same order.

    Args:
        state: Nested mappings, lists and tuples.
        rank: The rank that gets the tensors, on the CPU; others get None in their place. None: all ranks.

    Returns:
        New containers around what was sharded; the rest is not copied.
    """
    kind = dtensor_type()
    if kind is None or not is_sharded(state):
        return state
    if acts_alone():
        raise CheckpointError(
            f"a state that is sharded over the ranks needs all of them, but rank {torch.distributed.get_rank()} saves "
            "alone; attach the handler that saves on all ranks"
        )
    is_mine = rank is None or rank == idist.get_rank()

    def gathered(path: Path, leaf: Any) -> Any:
        if not isinstance(leaf, kind):
            return leaf
        whole: Tensor = leaf.detach().full_tensor()
        return whole.cpu() if is_mine else None

    return mapped(gathered, state)


def load_sharded(obj: Any, full_state: Any, **options: Any) -> None:
    """``obj.load_state_dict`` with full tensors, of which each rank takes its shards. Nothing is exchanged.

    Args:
        obj: A model, an optimizer, or anything with ``state_dict`` and ``load_state_dict``, sharded or not.
        full_state: A state of :func:`full`, or of a model that was not sharded; the same on all ranks.
        options: Arguments of ``obj.load_state_dict``, such as ``strict``.

    Raises:
        ValueError: If the optimizer has a tensor for a sharded parameter that has another shape than the parameter, and
            has done no step yet which would show how it is sharded.
    """
    layout = Layout(obj)
    if layout.is_sharded:
        full_state = mapped(layout.spread, full_state)
    obj.load_state_dict(full_state, **options)


class Layout:
    """How the state of an object is sharded over the ranks.

    Args:
        obj: The object; without ``state_dict()`` it is not sharded.

    Attributes:
        is_sharded: Whether any of its tensors is sharded.
    """

    def __init__(self, obj: Any) -> None:
        self._parameters: list[Any] = []
        self._own: Any = {}
        if dtensor_type() is not None:
            if isinstance(obj, torch.optim.Optimizer):
                self._parameters = [parameter for group in obj.param_groups for parameter in group["params"]]
            self._own = obj.state_dict() if hasattr(obj, "state_dict") else {}
        self.is_sharded = is_sharded(self._parameters) or is_sharded(self._own)

    def like(self, path: Path, shape: tuple[int, ...]) -> DTensor | None:
        """A tensor that is sharded as one of this shape at ``path`` must be; None if that is not sharded.

        An optimizer that has done no step yet has no tensors. Then a tensor with the shape of the parameter is sharded
        as the parameter is, and a scalar is not sharded.
        """
        kind = dtensor_type()
        if kind is None:
            return None
        own = self._own
        for key in path:
            own = _at(own, key)
        if own is not None:
            found: DTensor | None = own if isinstance(own, kind) else None
            return found
        parameter = self._parameter(path)
        if not isinstance(parameter, kind) or not shape:
            return None
        if tuple(parameter.shape) != tuple(shape):
            raise ValueError(
                f"load_sharded: what the optimizer keeps for a sharded parameter must have its shape, got {path[-1]!r} "
                f"of shape {tuple(shape)} for parameter {path[1]} of shape {tuple(parameter.shape)}; do one step of "
                "the optimizer before loading, which shows how it is spread"
            )
        like: DTensor = parameter
        return like

    def spread(self, path: Path, leaf: Any) -> Any:
        """A leaf of a full state as the object needs it: this rank's shards of a sharded tensor."""
        if not isinstance(leaf, Tensor) or isinstance(leaf, dtensor_type() or ()):
            return leaf
        like = self.like(path, tuple(leaf.shape))
        return leaf if like is None else _part_of(leaf, like)

    def _parameter(self, path: Path) -> Any:
        """The parameter of an entry in the state of an optimizer."""
        if len(path) != 3 or path[0] != "state" or not isinstance(path[1], int):
            return None
        return self._parameters[path[1]] if 0 <= path[1] < len(self._parameters) else None


def mapped(change: Callable[[Path, Any], Any], state: Any, path: Path = ()) -> Any:
    """Nested mappings, lists and tuples with ``change(path, leaf)`` in place of each leaf.

    Containers around changed leaves are new; the others, with their types, stay as they are.
    """
    if isinstance(state, Mapping):
        values = {key: mapped(change, value, (*path, key)) for key, value in state.items()}
        if all(values[key] is value for key, value in state.items()):
            return state
        if not isinstance(state, OrderedDict):
            return values
        copied = OrderedDict(values)
        vars(copied).update(vars(state))  # the state of a module has its metadata there
        return copied
    if isinstance(state, list | tuple):
        items = [mapped(change, value, (*path, number)) for number, value in enumerate(state)]
        if all(item is old for item, old in zip(items, state, strict=True)):
            return state
        return items if isinstance(state, list) else tuple(items)
    return change(path, state)


def _part_of(whole: Tensor, like: DTensor) -> DTensor:
    """Shard a tensor that all ranks have as ``like`` is: each keeps its shards, without communication."""
    from torch.distributed.tensor import DTensor, Replicate  # loaded already: `like` is a DTensor

    everywhere = [Replicate()] * like.device_mesh.ndim
    with torch.no_grad():
        spread = DTensor.from_local(whole.detach().to(like.device), like.device_mesh, everywhere, run_check=False)
        return spread.redistribute(placements=like.placements)


def dtensor_type() -> Any:
    """The class DTensor, if it is loaded; before, nothing is sharded."""
    module = sys.modules.get("torch.distributed.tensor")
    return getattr(module, "DTensor", None)


def _leaves(state: Any) -> Iterator[Any]:
    if isinstance(state, Mapping):
        for value in state.values():
            yield from _leaves(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _leaves(value)
    else:
        yield state


def _at(state: object, key: object) -> Any:
    """The value of a key; None if there is none."""
    if isinstance(state, Mapping):
        return state.get(key)
    if isinstance(state, list | tuple):
        return state[key] if isinstance(key, int) and key < len(state) else None
    return None

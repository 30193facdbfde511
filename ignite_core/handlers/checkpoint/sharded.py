"""States whose tensors are spread over the ranks (FSDP2), as whole tensors and back.

A whole state has the keys and shapes that the same model has when nothing is sharded: a file written from a sharded
model loads into a plain one, and the other way round.
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

#: Where something stands in a state: the keys that lead to it.
Path = tuple[Any, ...]


def is_sharded(state: Any) -> bool:
    """Whether there is a :class:`~torch.distributed.tensor.DTensor` in nested mappings, lists and tuples.

    Example:
        >>> is_sharded({"weight": torch.ones(2), "steps": [1, 2]})
        False
    """
    kind = dtensor_type()
    return kind is not None and any(isinstance(leaf, kind) for leaf in _leaves(state))


def full(state: Any, rank: int | None = 0) -> Any:
    """The same state with whole tensors. All ranks make the call, with the same keys in the same order.

    Args:
        state: Nested mappings, lists and tuples.
        rank: Who gets the tensors, on the CPU; the others get None in their place. None: everyone.

    Returns:
        A new structure where something was sharded; everything else is as it is, not copied.

    Example:
        >>> state = {"weight": torch.ones(2)}
        >>> full(state)["weight"] is state["weight"]
        True
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
    """``obj.load_state_dict`` with whole tensors, of which each rank takes its part. Nothing is exchanged.

    Args:
        obj: A model, an optimizer, or anything with ``state_dict`` and ``load_state_dict``, sharded or not.
        full_state: As :func:`full` gave it, or as it was saved where nothing was sharded; the same on all ranks.
        options: Of ``obj.load_state_dict``, such as ``strict``.

    Raises:
        ValueError: If the optimizer keeps something for a sharded parameter that has another shape than that, and has
            done no step yet which would show how it is spread.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> load_sharded(model, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
        >>> model.weight.tolist()
        [[1.0, 1.0]]
    """
    layout = Layout(obj)
    if layout.is_sharded:
        full_state = mapped(layout.spread, full_state)
    obj.load_state_dict(full_state, **options)


class Layout:
    """How the state of an object is spread over the ranks.

    Args:
        obj: What the state is of. Without ``state_dict()`` nothing of it is spread.

    Attributes:
        is_sharded: Whether any of it is.
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
        """The tensor to take for a model when one of this shape is to be put there; None: it is not spread.

        An optimizer that has done no step yet has nothing there. Then what has the shape of the parameter is spread as
        the parameter is, and a single number not at all.
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
        """A leaf of a whole state as the object needs it: this rank's part of a tensor that is spread."""
        if not isinstance(leaf, Tensor) or isinstance(leaf, dtensor_type() or ()):
            return leaf
        like = self.like(path, tuple(leaf.shape))
        return leaf if like is None else _part_of(leaf, like)

    def _parameter(self, path: Path) -> Any:
        """The parameter that an optimizer keeps this for."""
        if len(path) != 3 or path[0] != "state" or not isinstance(path[1], int):
            return None
        return self._parameters[path[1]] if 0 <= path[1] < len(self._parameters) else None


def mapped(change: Callable[[Path, Any], Any], state: Any, path: Path = ()) -> Any:
    """A structure of mappings, lists and tuples, in which ``change`` was called with each path and leaf.

    It is a new one on the way to what was changed; the rest, with its types, stays as it is.
    """
    if isinstance(state, Mapping):
        values = {key: mapped(change, value, (*path, key)) for key, value in state.items()}
        if all(values[key] is value for key, value in state.items()):
            return state
        if not isinstance(state, OrderedDict):
            return values
        copied = OrderedDict(values)
        vars(copied).update(vars(state))  # a module notes the versions of its parts there
        return copied
    if isinstance(state, list | tuple):
        items = [mapped(change, value, (*path, number)) for number, value in enumerate(state)]
        if all(item is old for item, old in zip(items, state, strict=True)):
            return state
        return items if isinstance(state, list) else tuple(items)
    return change(path, state)


def _part_of(whole: Tensor, like: DTensor) -> DTensor:
    """A tensor that all ranks have, spread as ``like``: each keeps its part, without a word to the others."""
    from torch.distributed.tensor import DTensor, Replicate  # loaded already, or there were no `like`

    everywhere = [Replicate()] * like.device_mesh.ndim
    with torch.no_grad():
        spread = DTensor.from_local(whole.detach().to(like.device), like.device_mesh, everywhere, run_check=False)
        return spread.redistribute(placements=like.placements)


def dtensor_type() -> Any:
    """The class, if anybody has loaded it: as long as nobody has, nothing is sharded."""
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


def _at(state: Any, key: Any) -> Any:
    """What stands under a key; None if there is nothing."""
    if isinstance(state, Mapping):
        return state.get(key)
    if isinstance(state, list | tuple):
        return state[key] if isinstance(key, int) and key < len(state) else None
    return None

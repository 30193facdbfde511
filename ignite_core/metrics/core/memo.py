"""Work that several metrics need of one output is done once, within one round of updates and no longer.

A round is one event of an engine that updates a group of metrics, or one ``update`` of something made of metrics.
Nothing is remembered across rounds: the same tensor may hold another batch then, written in a way that torch does not
count (a numpy buffer, ``.data``, the replay of a CUDA graph).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

__all__ = ["once_a_round", "sharing"]

P = ParamSpec("P")
T = TypeVar("T")

#: The tensors of the output that this round of this thread is about, by id, and what was computed of them.
_Round = tuple[dict[int, Tensor], dict[Any, Any]]
_round: ContextVar[_Round | None] = ContextVar("round", default=None)

_NOTHING: Any = object()


class sharing:  # noqa: N801 - a context manager, read as a phrase
    """A round of updates with one output.

    Args:
        output: Tensors, in tuples and mappings. Work on others, such as what an ``output_transform`` makes, is not
            shared.
    """

    def __init__(self, output: Any) -> None:
        self._tensors = _tensors(output)

    def __enter__(self) -> None:
        self._token: Token[_Round | None] = _round.set((self._tensors, {}))

    def __exit__(self, *_: object) -> None:
        _round.reset(self._token)


def once_a_round(function: Callable[P, T]) -> Callable[P, T]:
    """Compute a function once a round for the same arguments; the results are shared and must not be changed.

    A tensor that was changed in place during the round is another one; so is each tensor of inference mode, whose
    changes torch does not count. Outside a round the function is called each time.

    Args:
        function: Of tensors and of anything that can be hashed, by position.

    Example:
        >>> import torch
        >>> calls = []
        >>> @once_a_round
        ... def hits(y_pred, y):
        ...     calls.append(1)
        ...     return (y_pred.argmax(1) == y).sum()
        >>> y_pred, y = torch.eye(3), torch.tensor([0, 1, 1])
        >>> with sharing((y_pred, y)):
        ...     hits(y_pred, y) is hits(y_pred, y)
        True
        >>> hits(y_pred, y) is hits(y_pred, y), len(calls)
        (False, 3)
    """

    @wraps(function)
    def shared(*args: P.args, **kwargs: P.kwargs) -> T:
        current = _round.get()
        if current is None:
            return function(*args, **kwargs)
        tensors, results = current
        key: tuple[Any, ...] = (function,)
        for arg in args:
            if id(arg) in tensors:
                key += id(arg), arg._version  # type: ignore[attr-defined]
            elif isinstance(arg, Tensor):
                return function(*args, **kwargs)
            else:
                key += (arg,)
        result: T = results.get(key, _NOTHING)
        if result is _NOTHING:
            result = results[key] = function(*args, **kwargs)
        return result

    return shared


def _tensors(output: Any) -> dict[int, Tensor]:
    """The tensors of an output whose changes torch counts, by id."""
    found: dict[int, Tensor] = {}
    if isinstance(output, (tuple, Mapping)):
        for one in output if isinstance(output, tuple) else output.values():
            if not isinstance(one, Tensor):
                found |= _tensors(one)
            elif not one.is_inference():
                found[id(one)] = one
    return found

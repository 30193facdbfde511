"""Compute what several metrics need of one output once, within one scope.

A scope is one event of an engine that updates a group of metrics, or one ``update`` of a composite metric. Nothing is
kept across scopes: the same tensor may then hold another batch, written in a way that torch does not count (a numpy
buffer, ``.data``, the replay of a CUDA graph).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

#: The tensors of the output in the current scope of this thread, by id, and the results computed from them.
_Scope = tuple[dict[int, Tensor], dict[Any, Any]]
_scope: ContextVar[_Scope | None] = ContextVar("scope", default=None)

_MISSING: Any = object()


class memo_scope:  # noqa: N801 - a context manager
    """A scope in which functions decorated with :func:`memoized` keep their results.

    Args:
        output: Tensors, in tuples and mappings. Results for other tensors, such as those made by an
            ``output_transform``, are not kept.
    """

    def __init__(self, output: Any) -> None:
        self._tensors = _tensors(output)

    def __enter__(self) -> None:
        self._token: Token[_Scope | None] = _scope.set((self._tensors, {}))

    def __exit__(self, *_: object) -> None:
        _scope.reset(self._token)


def memoized(function: Callable[P, T]) -> Callable[P, T]:
    """Call a function once per scope for the same arguments. Results are shared and must not be changed.

    A tensor that was changed in place counts as another argument. Inference tensors are never memoized, as torch does
    not count their changes. Outside a scope the function is called each time.

    Args:
        function: Takes tensors and hashable values by position.

    Example:
        >>> import torch
        >>> calls = []
        >>> @memoized
        ... def hits(y_pred, y):
        ...     calls.append(1)
        ...     return (y_pred.argmax(1) == y).sum()
        >>> y_pred, y = torch.eye(3), torch.tensor([0, 1, 1])
        >>> with memo_scope((y_pred, y)):
        ...     hits(y_pred, y) is hits(y_pred, y)
        True
        >>> hits(y_pred, y) is hits(y_pred, y), len(calls)
        (False, 3)
    """

    @wraps(function)
    def with_memo(*args: P.args, **kwargs: P.kwargs) -> T:
        scope = _scope.get()
        if scope is None:
            return function(*args, **kwargs)
        tensors, results = scope
        key: tuple[Any, ...] = (function,)
        for arg in args:
            if id(arg) in tensors:
                key += id(arg), arg._version  # type: ignore[attr-defined]
            elif isinstance(arg, Tensor):
                return function(*args, **kwargs)
            else:
                key += (arg,)
        result: T = results.get(key, _MISSING)
        if result is _MISSING:
            result = results[key] = function(*args, **kwargs)
        return result

    return with_memo


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

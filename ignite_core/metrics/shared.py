"""Work that several metrics need of the same batch is done once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from torch import Tensor

__all__ = ["once_a_batch"]

P = ParamSpec("P")
T = TypeVar("T")


def once_a_batch(function: Callable[P, T]) -> Callable[P, T]:
    """Remember the last result of a function, for as long as it is asked with the very same tensors.

    Precision, Recall and F1 of one model are handed the same predictions and targets, one after the other: the first to
    ask computes, the others get what it got, and must not change it. A tensor that was changed in place is another one.
    The tensors are not kept alive.

    Args:
        function: Of tensors and hashable arguments.

    Example:
        >>> import torch
        >>> calls = []
        >>> @once_a_batch
        ... def hits(y_pred, y):
        ...     calls.append(1)
        ...     return (y_pred.argmax(1) == y).sum()
        >>> y_pred, y = torch.eye(3), torch.tensor([0, 1, 1])
        >>> hits(y_pred, y) is hits(y_pred, y), len(calls)
        (True, 1)
    """
    last: tuple[Any, Any] = ((), None)  # read and replaced as a whole, so that threads cannot mix two calls

    @wraps(function)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal last
        key, result = last
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if any(tensor.is_inference() for tensor in tensors):  # changes of these are not counted
            return function(*args, **kwargs)
        asked = tuple(_Seen(arg) if isinstance(arg, Tensor) else arg for arg in args) + tuple(kwargs.items())
        if asked == key:
            return cast(T, result)
        new = function(*args, **kwargs)
        last = asked, new
        return new

    return remembered


class _Seen:
    """A tensor as it was: the very object, unchanged since."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = weakref.ref(tensor)
        self.version = tensor._version

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Seen):
            return False
        mine = self.tensor()
        return mine is not None and mine is other.tensor() and self.version == other.version

    __hash__ = None  # type: ignore[assignment]

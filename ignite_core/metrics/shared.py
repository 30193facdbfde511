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
        function: Of tensors, then of anything that can be compared.

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
    last: tuple[tuple[Any, ...], tuple[Any, ...], Any] = ((), (), None)  # replaced as a whole, so that threads cannot
    # mix two calls: the tensors and their versions, the other arguments, the result

    @wraps(function)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal last
        seen, others, result = last
        if seen and _are_seen(args, seen) and others == (*args[len(seen) :], *kwargs.items()):
            return cast(T, result)
        new = function(*args, **kwargs)
        tensors = []
        for arg in args:
            if not isinstance(arg, Tensor):
                break
            if arg.is_inference():  # its changes are not counted
                return new
            tensors.append((weakref.ref(arg), arg._version))
        last = tuple(tensors), (*args[len(tensors) :], *kwargs.items()), new
        return new

    return remembered


def _are_seen(args: tuple[Any, ...], seen: tuple[Any, ...]) -> bool:
    """Whether the first arguments are the very tensors, unchanged since."""
    for arg, (tensor, version) in zip(args, seen, strict=False):
        if tensor() is not arg or arg._version != version:
            return False
    return True

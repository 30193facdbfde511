"""Decorators that let metrics written for pytorch-ignite run unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ignite_core.metrics.core.states import REDUCTIONS, PlainSpec

__all__ = ["reinit__is_reduced", "sync_all_reduce"]

F = TypeVar("F", bound=Callable[..., Any])


def sync_all_reduce(*attributes: str) -> Callable[[F], F]:
    """Declare, at ``compute``, which attributes are reduced over the ranks, as in pytorch-ignite.

    Args:
        attributes: Names of numbers or tensors, each optionally followed by ``:SUM``, ``:PRODUCT``, ``:MAX`` or
            ``:MIN``. Default: ``:SUM``.

    Raises:
        ValueError: If the reduction is not one of these.

    Example:
        >>> import torch
        >>> from ignite_core.metrics import Metric, reinit__is_reduced, sync_all_reduce
        >>> class Largest(Metric):
        ...     @reinit__is_reduced
        ...     def reset(self):
        ...         self._largest, self._count = torch.tensor(0.0), 0
        ...
        ...     @reinit__is_reduced
        ...     def update(self, output):
        ...         self._largest = torch.maximum(self._largest, output.max())
        ...         self._count += 1
        ...
        ...     @sync_all_reduce("_largest:MAX", "_count")
        ...     def compute(self):
        ...         return self._largest.item(), self._count
        >>> metric = Largest()
        >>> metric.update(torch.tensor([1.0, 3.0]))
        >>> metric.compute()
        (3.0, 1)
    """
    declared = {}
    for attribute in attributes:
        name, _, op = attribute.partition(":")
        if op and op not in REDUCTIONS:
            raise ValueError(
                f"sync_all_reduce: the reduction must be one of {', '.join(REDUCTIONS)}, got {attribute!r}"
            )
        declared[name] = PlainSpec(REDUCTIONS[op or "SUM"], None)

    def decorate(compute: F) -> F:
        compute.synced_attributes = declared  # type: ignore[attr-defined]
        return compute

    return decorate


def reinit__is_reduced(method: F) -> F:
    """Accepted at ``reset`` and ``update``, as in pytorch-ignite, without effect: reductions change no local state."""
    return method

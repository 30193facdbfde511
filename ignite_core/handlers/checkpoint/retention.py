"""Which checkpoints stay: the best, the newest, or both. Values and rules only; nothing here touches a file."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.storage.manifest import check_name

__all__ = ["Item", "Kept", "Retention", "as_number", "by_priority", "checked", "plain"]


class Item(NamedTuple):
    """A checkpoint that was saved.

    Args:
        priority: Its score, or its step where there is no score function; higher is better. None has no place among
            the best, and neither has NaN or an infinity.
        filename: Its name.
    """

    priority: float | None
    filename: str


@dataclass(frozen=True)
class Kept:
    """What stays at present.

    Args:
        best: By priority, the best last; of equal ones the later last.
        last: In the order in which they were saved.
    """

    best: tuple[Item, ...] = ()
    last: tuple[Item, ...] = ()

    @property
    def filenames(self) -> list[str]:
        """All names, each once."""
        return list(dict.fromkeys(item.filename for item in (*self.best, *self.last)))

    def without(self, filename: str) -> Kept:
        """What stays if one of them turns out not to be there."""
        return Kept(tuple(_without(self.best, filename)), tuple(_without(self.last, filename)))


@dataclass(frozen=True)
class Retention:
    """How many checkpoints stay.

    Args:
        n_saved: How many of the best; None for all.
        keep_last: How many of the newest beside them, whatever their priority.
        greater_or_equal: One that is as good as the least of the best takes its place; else the earlier one stays.

    Raises:
        ValueError: If a number is not a positive integer.

    Example:
        >>> retention, kept = Retention(n_saved=1, keep_last=1), Kept()
        >>> for score in (0.7, 0.9, 0.8):
        ...     kept, removed = retention.after(kept, Item(score, f"{score}.pt"))
        ...     print(kept.filenames, removed)
        ['0.7.pt'] []
        ['0.9.pt'] ['0.7.pt']
        ['0.9.pt', '0.8.pt'] []
    """

    n_saved: int | None = 1
    keep_last: int | None = None
    greater_or_equal: bool = False

    def __post_init__(self) -> None:
        for name, number in (("n_saved", self.n_saved), ("keep_last", self.keep_last)):
            is_integer = isinstance(number, int) and not isinstance(number, bool)
            if number is not None and not (is_integer and number > 0):
                raise ValueError(f"Checkpoint: {name} must be a positive integer or None, got {number!r}")

    def wants(self, kept: Kept, priority: float | None) -> bool:
        """Whether one of this priority would stay."""
        return self.keep_last is not None or self._is_among_best(kept, priority)

    def after(self, kept: Kept, item: Item) -> tuple[Kept, list[str]]:
        """What stays once ``item`` is saved, and the names of what goes then. An item of the same name is replaced."""
        best = kept.best
        if self._is_among_best(kept, item.priority):
            others = _without(best, item.filename)
            is_full = self.n_saved is not None and len(others) >= self.n_saved
            best = by_priority([*(others[1:] if is_full else others), item])
        elif item.filename in kept.filenames:  # overwritten by one that is not among the best
            best = tuple(_without(best, item.filename))
        last = kept.last
        if self.keep_last is not None:
            last = (*_without(last, item.filename), item)[-self.keep_last :]
        new = Kept(best, last)
        stay = set(new.filenames)
        return new, [name for name in kept.filenames if name not in stay]

    def of(self, items: Iterable[Item]) -> tuple[Kept, list[str]]:
        """What stays of items that were saved in this order, and what goes."""
        kept, removed = Kept(), []
        for item in items:
            if self.wants(kept, item.priority):
                kept, gone = self.after(kept, item)
                removed += gone
            else:
                removed.append(item.filename)
        stay = set(kept.filenames)
        return kept, [name for name in removed if name not in stay]

    def _is_among_best(self, kept: Kept, priority: float | None) -> bool:
        if priority is None or not math.isfinite(priority):
            return False
        if self.n_saved is None or len(kept.best) < self.n_saved:
            return True
        least = kept.best[0].priority
        assert least is not None
        return priority >= least if self.greater_or_equal else priority > least


def _without(items: tuple[Item, ...], filename: str) -> list[Item]:
    return [item for item in items if item.filename != filename]


def checked(pairs: Any, key: str) -> list[Item]:
    """What a file says of the checkpoints that stay.

    Raises:
        CheckpointError: If it is no list of priorities and plain names of files.
    """
    try:
        items = [Item(plain(as_number(priority, "priority")), filename) for priority, filename in pairs]
        for item in items:
            check_name(item.filename)
            float(item.priority or 0)  # an integer may be too large
    except (TypeError, ValueError, OverflowError, CheckpointError) as error:
        raise CheckpointError(
            f"Checkpoint.load_state_dict: {key!r} must be a list of (priority, file name), but: {error}"
        ) from error
    return items


def by_priority(items: Iterable[Item]) -> tuple[Item, ...]:
    """In their order, the best last; of equal ones the later stays later."""
    return tuple(sorted(items, key=lambda item: item.priority or 0))


def as_number(value: Any, where: str) -> Any:
    """A number as it was given; of a tensor with one element that element. None stays None.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if value is not None and not isinstance(value, numbers.Real):
        raise ValueError(f"Checkpoint: {where} must give a number, got {value!r} of type {type(value).__name__}")
    return value


def plain(number: Any) -> float | None:
    """A number as one of Python's own, which any checkpoint may hold."""
    if number is None:
        return None
    return int(number) if isinstance(number, numbers.Integral) else float(number)

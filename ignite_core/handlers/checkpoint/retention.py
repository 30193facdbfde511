"""Which checkpoints stay: the best, the newest, or both. Values and rules only; no file is touched."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ignite_core.exceptions import CheckpointError, few
from ignite_core.handlers.checkpoint.scores import as_number, as_python_number
from ignite_core.handlers.checkpoint.storage.manifest import check_name

__all__ = ["Item", "Kept", "Retention", "SavedCheckpoints"]


class Item(NamedTuple):
    """A checkpoint that was saved.

    Args:
        priority: Its score, or its step if there is no score function; higher is better. None, NaN and infinities are
            never among the best.
        filename: Its file name.
    """

    priority: float | None
    filename: str


@dataclass(frozen=True)
class Kept:
    """The checkpoints that stay.

    Args:
        best: By priority, the best last; of equal ones the later last.
        last: In the order in which they were saved.
    """

    best: tuple[Item, ...] = ()
    last: tuple[Item, ...] = ()

    @property
    def filenames(self) -> list[str]:
        """All file names, each once."""
        return list(dict.fromkeys(item.filename for item in (*self.best, *self.last)))

    def without(self, filename: str) -> Kept:
        return Kept(tuple(_without(self.best, filename)), tuple(_without(self.last, filename)))

    def state_dict(self) -> OrderedDict[str, Any]:
        """Pairs of priority and file name: the best under ``_saved``, the newest under ``_last``."""
        state = OrderedDict(_saved=[tuple(item) for item in self.best])
        if self.last:
            state["_last"] = [tuple(item) for item in self.last]
        return state


@dataclass(frozen=True)
class Retention:
    """How many checkpoints stay.

    Args:
        n_saved: Number of the best; None for all.
        keep_last: Number of the newest that stay besides the best, regardless of priority.
        greater_or_equal: A checkpoint that is as good as the worst of the best replaces it; by default it does not.

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
        """Whether a checkpoint of this priority would stay."""
        return self.keep_last is not None or self._is_among_best(kept, priority)

    def after(self, kept: Kept, item: Item) -> tuple[Kept, list[str]]:
        """What stays once ``item`` is saved, and the file names to remove. An item of the same name is replaced."""
        best = kept.best
        if self._is_among_best(kept, item.priority):
            others = _without(best, item.filename)
            is_full = self.n_saved is not None and len(others) >= self.n_saved
            best = _by_priority([*(others[1:] if is_full else others), item])
        elif item.filename in kept.filenames:  # overwritten by one that is not among the best
            best = tuple(_without(best, item.filename))
        last = kept.last
        if self.keep_last is not None:
            last = (*_without(last, item.filename), item)[-self.keep_last :]
        new = Kept(best, last)
        stay = set(new.filenames)
        return new, [name for name in kept.filenames if name not in stay]

    def of(self, items: Iterable[Item]) -> tuple[Kept, list[str]]:
        """What stays of items that were saved in this order, and the file names to remove."""
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
        worst = kept.best[0].priority
        assert worst is not None
        return priority >= worst if self.greater_or_equal else priority > worst


@dataclass
class SavedCheckpoints:
    """Bookkeeping of what a handler has saved.

    Attributes:
        kept: The checkpoints that stay.
        newest: The file name of the last save.
        to_remove: File names that could not be removed when they should have been.
        renamed: File names by the name that was asked for, where a custom saver has chosen another one.
        foreign: File names that were loaded, but that this handler would not give; they are never removed.
    """

    kept: Kept = Kept()
    newest: str | None = None
    to_remove: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()

    @classmethod
    def from_state(cls, state: Mapping[str, Any], fits: Callable[[str], bool]) -> SavedCheckpoints:
        """Read what :meth:`Kept.state_dict`, or the handler of pytorch-ignite, has saved.

        Args:
            state: The state.
            fits: Whether the handler would give a file this name.

        Raises:
            ValueError: If ``_saved`` is missing.
            CheckpointError: If the state holds anything else than priorities and file names.
        """
        if "_saved" not in state:
            raise ValueError(f"Checkpoint.load_state_dict: the key '_saved' must be there, got {few(state)}")
        best, last = (_checked(state.get(key, ()), key) for key in ("_saved", "_last"))
        kept = Kept(_by_priority(item for item in best if math.isfinite(item.priority or 0)), tuple(last))
        return cls(kept, foreign=frozenset(name for name in kept.filenames if not fits(name)))


def _without(items: tuple[Item, ...], filename: str) -> list[Item]:
    return [item for item in items if item.filename != filename]


def _by_priority(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(sorted(items, key=lambda item: item.priority or 0))


def _checked(pairs: Any, key: str) -> list[Item]:
    """Items from a list of pairs that was read from a file."""
    try:
        items = [Item(as_python_number(as_number(priority, "priority")), filename) for priority, filename in pairs]
        for item in items:
            check_name(item.filename)
            float(item.priority or 0)  # an integer may be too large
    except (TypeError, ValueError, OverflowError, CheckpointError) as error:
        raise CheckpointError(
            f"Checkpoint.load_state_dict: {key!r} must be a list of (priority, file name), but: {error}"
        ) from error
    return items

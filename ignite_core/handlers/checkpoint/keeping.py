"""What a handler has saved and still keeps: which it is, where, and how that is saved with the rest."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ignite_core.exceptions import few
from ignite_core.handlers.checkpoint.hyperparameters import Built, built_of
from ignite_core.handlers.checkpoint.naming import Naming, object_name
from ignite_core.handlers.checkpoint.retention import Item, Kept, Retention, by_priority, checked
from ignite_core.handlers.checkpoint.savers import DiskSaver

__all__ = ["Keeper", "kept_state"]

#: A step or a score in the name of a file that another file names.
_NUMBER = r"[A-Za-z0-9.+-]+"


class Keeper:
    """The half of a :class:`~ignite_core.handlers.Checkpoint` that knows what was saved; the other half saves.

    Args:
        to_save: Objects by name.
        retention: Which checkpoints stay.
        naming: What they are called.
    """

    save_handler: Any
    score_function: Callable[[Any], Any] | None

    def __init__(self, to_save: Mapping[str, Any], retention: Retention, naming: Naming) -> None:
        self.to_save = to_save
        self._retention = retention
        self._naming = naming
        self._kept = Kept()
        self._newest: str | None = None
        self._to_remove: list[str] = []  # what could not be removed when it was time
        self._built: Built = built_of(to_save)
        self._files: dict[str, str] = {}  # what a saver of the user's own has called otherwise
        self._foreign: frozenset[str] = frozenset()  # what was taken over but is not this handler's to remove

    @property
    def n_saved(self) -> int | None:
        """How many of the best stay."""
        return self._retention.n_saved

    @property
    def keep_last(self) -> int | None:
        """How many of the newest stay."""
        return self._retention.keep_last

    @property
    def greater_or_equal(self) -> bool:
        """Of equal scores the latest stays."""
        return self._retention.greater_or_equal

    @property
    def last_checkpoint(self) -> Path | str | None:
        """As in pytorch-ignite: of those that stay the one of highest score, without scores that of highest step.

        A path where the saver has a folder, else the file name; None before the first save.
        """
        kept = self._kept.best or self._kept.last
        return self._place(kept[-1].filename) if kept else None

    @property
    def best_checkpoint(self) -> Path | str | None:
        """The one of highest score; of equal ones the first, or with ``greater_or_equal`` the last.

        None without scores.
        """
        if self.score_function is None or not self._kept.best:
            return None
        best = self._kept.best
        equals = [item for item in best if item.priority == best[-1].priority]
        return self._place(equals[-1 if self.greater_or_equal else 0].filename)

    @property
    def newest_checkpoint(self) -> Path | str | None:
        """The one that was saved last."""
        return None if self._newest is None else self._place(self._newest)

    def _place(self, filename: str) -> Path | str:
        saver = self.save_handler
        return saver.dirname / self._files.get(filename, filename) if isinstance(saver, DiskSaver) else filename

    def reset(self) -> None:
        """Forget what was saved; the files stay. For an engine that is run anew for something else, such as a fold."""
        self._kept, self._newest, self._to_remove, self._files = Kept(), None, [], {}
        self._foreign = frozenset()

    def state_dict(self) -> OrderedDict[str, Any]:
        """What stays: pairs of priority and file name under ``_saved``, the newest under ``_last``."""
        return kept_state(self._kept)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict`, or that of pytorch-ignite, has saved.

        Files that this handler would not name so are counted, but never removed.

        Raises:
            ValueError: If ``_saved`` is missing.
            CheckpointError: If there is something else in it than priorities and names of files.
        """
        if "_saved" not in state_dict:
            raise ValueError(f"Checkpoint.load_state_dict: the key '_saved' must be there, got {few(state_dict)}")
        best, last = (checked(state_dict.get(key, ()), key) for key in ("_saved", "_last"))
        self._kept = Kept(by_priority(item for item in best if math.isfinite(item.priority or 0)), tuple(last))
        name = object_name(self.to_save) if self.to_save else None
        names = self._kept.filenames
        self._foreign = frozenset(one for one in names if not self._naming.fits(name, one, _NUMBER))

    @property
    def basename(self) -> str:
        """What the names of its files begin with: the prefix, and the name of the only object or ``checkpoint``."""
        return self._naming.basename(object_name(self.to_save))

    def adopt(self, items: Iterable[Item]) -> None:
        """Take over checkpoints that are there already, as :func:`~ignite_core.handlers.resume` does.

        Args:
            items: In the order in which they were saved. Those that would not stay are removed after the next save.
        """
        items = list(items)
        self.reset()
        self._kept, self._to_remove = self._retention.of(items)
        self._newest = items[-1].filename if items else None


def kept_state(kept: Kept) -> OrderedDict[str, Any]:
    """What stays, as a checkpoint may hold it."""
    saved = OrderedDict(_saved=[tuple(item) for item in kept.best])
    if kept.last:
        saved["_last"] = [tuple(item) for item in kept.last]
    return saved

"""Checkpoints in a folder, of objects that are passed when the handler is attached."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.handlers.checkpoint.checkpoint import Checkpoint
from ignite_core.handlers.checkpoint.savers import DiskSaver
from ignite_core.handlers.checkpoint.states import check_objects

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(Checkpoint):
    """A :class:`~ignite_core.handlers.Checkpoint` that gets its objects as an argument of ``add_event_handler``.

    Args:
        dirname: The folder; this, ``atomic``, ``require_empty``, ``create_dir`` and ``kwargs`` are arguments of
            :class:`~ignite_core.handlers.DiskSaver`.
        filename_prefix: This and the others are arguments of :class:`~ignite_core.handlers.Checkpoint`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ignite_core.engine import Events
        >>> from torch import nn
        >>> trainer, model = Engine(lambda engine, batch: None), nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = ModelCheckpoint(folder, "run", n_saved=None)
        ...     handle = trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint, {"model": model})
        ...     state = trainer.run(range(10), max_epochs=2)
        ...     print(sorted(path.name for path in Path(folder).glob("*.pt")))
        ['run_model_10.pt', 'run_model_20.pt']
    """

    def __init__(
        self,
        dirname: str | PathLike[str],
        filename_prefix: str = "",
        score_function: Callable[[Any], Any] | None = None,
        score_name: str | None = None,
        n_saved: int | None = 1,
        atomic: bool = True,
        require_empty: bool = True,
        create_dir: bool = True,
        global_step_transform: Callable[[Any, Any], Any] | None = None,
        filename_pattern: str | None = None,
        include_self: bool = False,
        greater_or_equal: bool = False,
        save_on_rank: int = 0,
        *,
        keep_last: int | None = None,
        **kwargs: Any,
    ) -> None:
        saver = DiskSaver(dirname, atomic, create_dir, require_empty, save_on_rank, **kwargs)
        super().__init__(
            {},
            saver,
            filename_prefix,
            score_function,
            score_name,
            n_saved,
            global_step_transform,
            filename_pattern,
            include_self,
            greater_or_equal,
            save_on_rank,
            keep_last=keep_last,
        )

    def __call__(self, engine: Engine, *extras: Any, **named: Any) -> None:
        """Save; the objects are the last argument: ``add_event_handler(event, checkpoint, {"model": model})``."""
        objects = named.get("to_save", extras[-1] if extras else None)
        if objects is not None:
            check_objects(objects, "state_dict", "ModelCheckpoint")
            self.to_save = objects
        super().__call__(engine)

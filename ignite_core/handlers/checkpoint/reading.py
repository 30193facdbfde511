"""From a path, or from states in memory, into objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite_core.handlers.checkpoint.dcp_reader import read_folder
from ignite_core.handlers.checkpoint.restore import Restoring
from ignite_core.handlers.checkpoint.storage.load import load

__all__ = ["read_into"]


def read_into(objects: Mapping[str, Any], checkpoint: Any, **options: Any) -> None:
    """Load a checkpoint into objects, all or none.

    Args:
        objects: By name.
        checkpoint: A path, or states by name, or the bare state of a single object.
        options: Handed to ``load_state_dict`` of modules.

    Raises:
        TypeError: If ``checkpoint`` is neither.
        CheckpointError: If it is damaged, not safe, or does not fit.
    """
    if isinstance(checkpoint, str | os.PathLike):
        path = Path(checkpoint)
        states = read_folder(path, objects) if path.is_dir() else load(path)
        Restoring(objects, states, path.name, **options).load()
    elif isinstance(checkpoint, Mapping):
        Restoring(objects, checkpoint, "Checkpoint.load_objects", **options).load()
    else:
        raise TypeError(
            "Checkpoint.load_objects: checkpoint must be a path or a mapping of names to states, got "
            f"{type(checkpoint).__name__}"
        )

"""Whether a file can be loaded without harm: looked at as it lies there, before torch sees it."""

from __future__ import annotations

import os

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.opcodes import check_pickle
from ignite_core.handlers.checkpoint.rebuilding import Budget
from ignite_core.handlers.checkpoint.zip_entries import read_entries

__all__ = ["check"]

#: The records that say how to read the others are short.
_SHORT = 64


def check(fd: int) -> None:
    """Make sure that ``torch.load(weights_only=True)`` of an open file runs no code, and takes no more than it has.

    Lists and numbers take more room in memory than in a file: they may take eight times its size and 32 MiB, about.

    Args:
        fd: Open for reading; its place in the file is left alone.

    Raises:
        CheckpointError: With what is wrong, in words that follow the name of the file.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryFile() as file:
        ...     torch.save({"weight": torch.ones(3), "lr": 0.1}, file)
        ...     file.flush()
        ...     check(file.fileno())
        >>> with tempfile.TemporaryFile() as file:
        ...     torch.save({"loss": torch.nn.MSELoss()}, file)
        ...     file.flush()
        ...     check(file.fileno())
        Traceback (most recent call last):
        ignite_core.exceptions.CheckpointError: holds torch.nn.modules.loss.MSELoss, which is not loaded, ...
    """
    entries = read_entries(fd)
    for name, entry in entries.items():
        if not name.startswith("data") and entry.size > _SHORT:
            raise CheckpointError(f"has a record {name!r} of {entry.size} bytes, where there are a few")
    records = {name.removeprefix("data/"): entry.size for name, entry in entries.items() if name.startswith("data/")}
    pickled = entries["data.pkl"]
    check_pickle(os.pread(fd, pickled.size, pickled.offset), records, Budget(os.fstat(fd).st_size))

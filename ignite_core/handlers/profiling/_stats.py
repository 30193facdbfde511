"""Statistics of times, as the profilers report and write them."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any

import torch

__all__ = ["name_of", "print_table", "stats", "write_csv"]


def stats(times: Iterable[float]) -> dict[str, Any]:
    """Total, minimum and maximum with their indices, mean and standard deviation (None for a single time).

    Args:
        times: Seconds; NaN for what did not happen.

    Example:
        >>> stats([2.0, math.nan, 1.0, 3.0])
        {'total': 6.0, 'min': (1.0, 2), 'max': (3.0, 3), 'mean': 2.0, 'std': 1.0}
        >>> stats([2.0])
        {'total': 2.0, 'min': (2.0, 0), 'max': (2.0, 0), 'mean': 2.0, 'std': None}
        >>> stats([])
        {}
    """
    all_times = torch.tensor(list(times), dtype=torch.float64)
    indices = (~all_times.isnan()).nonzero().flatten()
    if not len(indices):
        return {}
    known = all_times[indices]
    least, most = int(known.argmin()), int(known.argmax())
    return {
        "total": math.fsum(known.tolist()),
        "min": (known[least].item(), int(indices[least])),
        "max": (known[most].item(), int(indices[most])),
        "mean": known.mean().item(),
        "std": known.std().item() if len(indices) > 1 else None,
    }


def name_of(handler: Callable[..., Any]) -> str:
    """The name of a handler in reports."""
    name: str = getattr(handler, "__qualname__", type(handler).__qualname__)
    return name


def write_csv(path: str | PathLike[str], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table; NaN and None are empty fields."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            writer.writerow(["" if value is None or value != value else value for value in row])


def print_table(text: str) -> None:
    """Print a text; characters that the encoding of the console lacks are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))

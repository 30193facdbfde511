"""What profilers make of times: total, extremes, mean and spread; and files with all of them."""

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
    """Total, and of several times the extremes with their places, the mean and the standard deviation.

    Args:
        times: Seconds; NaN stands for what did not happen.

    Example:
        >>> stats([2.0, math.nan, 1.0, 3.0])
        {'total': 6.0, 'min': (1.0, 2), 'max': (3.0, 3), 'mean': 2.0, 'std': 1.0}
        >>> stats([2.0])
        {'total': 2.0, 'min': (2.0, 0), 'max': (2.0, 0), 'mean': 2.0, 'std': None}
        >>> stats([])
        {}
    """
    all_times = torch.tensor(list(times), dtype=torch.float64)
    places = (~all_times.isnan()).nonzero().flatten()
    if not len(places):
        return {}
    happened = all_times[places]
    least, most = int(happened.argmin()), int(happened.argmax())
    return {
        "total": math.fsum(happened.tolist()),
        "min": (happened[least].item(), int(places[least])),
        "max": (happened[most].item(), int(places[most])),
        "mean": happened.mean().item(),
        "std": happened.std().item() if len(places) > 1 else None,
    }


def name_of(handler: Callable[..., Any]) -> str:
    """The name of a handler as profilers show it."""
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
    """Print a text on any console; characters of names that its encoding lacks are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))

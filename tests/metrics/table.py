"""The table of metrics that drives every law: what they are fed, and what independent references say.

Each family has a file ``rows_*.py`` with a list ``ROWS``.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ignite_core.metrics import Metric


@dataclass(frozen=True)
class Row:
    """A metric, how to feed it, and what it must give.

    Attributes:
        name: Unique in the table.
        make: A fresh metric.
        inputs: Called with a generator and a number of samples, gives what ``update`` takes, a tuple of tensors that
            can be split along the first dimension.
        reference: Called with these tensors, gives the value by an independent implementation: a number, a list, a
            tensor, a tuple or a mapping of these.
        by_hand: Such tensors, and the value as worked out by hand.
        tolerance: How far the value may be from the reference, relative and absolute.
        min_samples: Of a metric that needs several.
    """

    name: str
    make: Callable[[], Metric]
    inputs: Callable[[torch.Generator, int], tuple[torch.Tensor, ...]]
    reference: Callable[..., Any]
    by_hand: tuple[tuple[torch.Tensor, ...], Any]
    tolerance: float = 1e-6
    min_samples: int = 2


def rows() -> list[Row]:
    names = sorted(path.stem for path in Path(__file__).parent.glob("rows_*.py"))
    return [row for name in names for row in importlib.import_module(f"tests.metrics.{name}").ROWS]


def same(value: Any, expected: Any, tolerance: float) -> bool:
    """Whether two values are the same, whatever they are made of; NaN is NaN."""
    if isinstance(expected, dict):
        return set(value) == set(expected) and all(same(value[key], expected[key], tolerance) for key in expected)
    if isinstance(expected, tuple):
        return len(value) == len(expected) and all(
            same(one, other, tolerance) for one, other in zip(value, expected, strict=True)
        )
    if isinstance(expected, str):
        return bool(value == expected)
    one, other = (torch.as_tensor(side).double().cpu() for side in (value, expected))
    return one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def pieces(data: tuple[torch.Tensor, ...], cuts: list[int]) -> list[tuple[torch.Tensor, ...]]:
    """The samples between the cuts, as batches; empty ones are left out."""
    bounds = [0, *sorted(cuts), data[0].shape[0]]
    parts = [tuple(column[low:high] for column in data) for low, high in itertools.pairwise(bounds)]
    return [part for part in parts if part[0].shape[0]]


def fed(metric: Metric, batches: list[tuple[torch.Tensor, ...]]) -> Metric:
    for batch in batches:
        metric.update(batch if len(batch) > 1 else batch[0])
    return metric


class Unwaited(torch.Tensor):
    """A tensor whose values nobody may ask for: as one on an accelerator, where that would wait."""

    @staticmethod
    def refuse(name: str) -> Callable[..., Any]:
        def refused(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError(f"update waits for the device: {name} was called")

        return refused

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False


for _name in ("item", "__bool__", "cpu", "tolist", "numpy", "__int__", "__float__", "__index__", "nonzero"):
    setattr(Unwaited, _name, Unwaited.refuse(_name))

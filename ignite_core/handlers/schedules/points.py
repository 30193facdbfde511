"""Curves that are given by points."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from ignite_core.handlers._arguments import integer, number

__all__ = ["multi_step", "piecewise_linear"]


@dataclass(frozen=True, slots=True)
class multi_step:
    r"""Multiplied by a factor at each milestone: :math:`f(t) = a \gamma^{|\{m : m \le t\}|}`.

    Args:
        start: :math:`a`, at step 0.
        gamma: :math:`\gamma`, above 0.
        milestones: The steps :math:`m`, in increasing order; one that stands twice counts twice.

    Example:
        >>> [multi_step(1.0, gamma=0.5, milestones=(2, 3))(step) for step in range(5)]
        [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    start: float
    gamma: float
    milestones: Sequence[int]
    # What was asked for last is mostly what is asked for next: its first step, the step after it, the value.
    _stretch: tuple[int, int, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number("multi_step", "start", self.start)
        number("multi_step", "gamma", self.gamma, above=0)
        for milestone in self.milestones:
            integer("multi_step", "a milestone", milestone, least=0)
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"multi_step: milestones must increase, got {list(self.milestones)}")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        self._find(0)

    def __call__(self, step: int) -> float:
        first, stop, value = self._stretch
        return value if first <= step < stop else self._find(step)

    def _find(self, step: int) -> float:
        passed = bisect_right(self.milestones, step)
        ends = (-sys.maxsize, *self.milestones, sys.maxsize)
        value = self.start * self.gamma**passed
        object.__setattr__(self, "_stretch", (ends[passed], ends[passed + 1], value))
        return value


@dataclass(frozen=True, slots=True, init=False)
class piecewise_linear:
    r"""Straight lines between points: :math:`f(t) = v_i + (v_{i+1} - v_i) (t - t_i) / (t_{i+1} - t_i)`.

    It is flat before the first point and after the last. Where two points share a step, the value jumps to the second.

    Args:
        points: Pairs of a step and a value; the steps in increasing order, at least one pair.

    Example:
        >>> curve = piecewise_linear([(1, 1.0), (3, 0.8), (3, 0.5), (4, 0.2)])
        >>> [curve(step) for step in range(6)]
        [1.0, 1.0, 0.9, 0.5, 0.2, 0.2]
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    # The stretch that was asked for last: its first step, the step after it, the value there, its rise in how many
    # steps.
    _stretch: tuple[float, float, float, float, float] = field(init=False, repr=False, compare=False)

    def __init__(self, points: Sequence[tuple[int, float]]) -> None:
        if not isinstance(points, Sequence):
            raise TypeError(f"piecewise_linear: points must be a sequence of pairs, got {points!r}")
        if not points:
            raise ValueError("piecewise_linear: there must be at least one point, got none")
        for point in points:
            _check_point(point)
        steps, values = zip(*points, strict=True)
        if list(steps) != sorted(steps):
            raise ValueError(f"piecewise_linear: the steps must increase, got {list(steps)}")
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "values", values)
        self._find(0)

    def __call__(self, step: int) -> float:
        first, stop, start, rise, steps = self._stretch
        if not first <= step < stop:
            first, stop, start, rise, steps = self._find(step)
        return start + rise * (step - first) / steps

    def _find(self, step: int) -> tuple[float, float, float, float, float]:
        steps, values = self.steps, self.values
        right = bisect_right(steps, step)
        if right == 0:
            found = (-sys.maxsize, steps[0], values[0], 0.0, 1)
        elif right == len(steps):
            found = (steps[-1], sys.maxsize, values[-1], 0.0, 1)
        else:
            first, stop, start = steps[right - 1], steps[right], values[right - 1]
            found = (first, stop, start, values[right] - start, stop - first)
        object.__setattr__(self, "_stretch", found)
        return found

    def __reduce__(self) -> Any:
        return piecewise_linear, (list(zip(self.steps, self.values, strict=True)),)


def _check_point(point: Any) -> None:
    if not isinstance(point, tuple) or len(point) != 2:
        raise ValueError(f"piecewise_linear: a point must be a pair (step, value), got {point!r}")
    at, value = point
    if isinstance(at, bool) or not isinstance(at, Integral):
        raise TypeError(f"piecewise_linear: the step of a point must be an integer, got {at!r}")
    number("piecewise_linear", "the value of a point", value)

r"""Curves: the value at each step, as small immutable objects that are called, ``curve(step) -> float``.

Steps are counted from 0. A curve knows neither an optimizer nor an engine: call it in any loop, plot it, compare it,
pickle it. The names are in lower case, since curves are used like functions.

Example:
    >>> rate = chain(linear(0.0, 0.1, steps=2), (2, cosine(0.1, 0.0, steps=4)))
    >>> [round(rate(step), 4) for step in range(7)]
    [0.0, 0.05, 0.1, 0.0854, 0.05, 0.0146, 0.0]
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from ignite_core.handlers._arguments import integer, number
from ignite_core.handlers.schedules.cycles import cyclic, one_cycle, triangular
from ignite_core.handlers.schedules.joins import Curve, chain, repeat, warmup

__all__ = [
    "Curve",
    "chain",
    "constant",
    "cosine",
    "cyclic",
    "exponential",
    "inverse_sqrt",
    "linear",
    "multi_step",
    "one_cycle",
    "piecewise_linear",
    "polynomial",
    "repeat",
    "step",
    "triangular",
    "warmup",
]


@dataclass(frozen=True, slots=True)
class constant:
    r"""The same value at every step: :math:`f(t) = v`.

    Args:
        value: :math:`v`.

    Example:
        >>> constant(0.1)(1000)
        0.1
    """

    value: float

    def __post_init__(self) -> None:
        number("constant", "value", self.value)

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class _Ramp:
    """From ``start`` to ``end`` in ``steps`` steps."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        where = type(self).__name__
        number(where, "start", self.start)
        number(where, "end", self.end)
        integer(where, "steps", self.steps, least=1)


@dataclass(frozen=True, slots=True)
class linear(_Ramp):
    r"""A straight line, flat afterwards: :math:`f(t) = a + (b - a) \min(t / n, 1)`.

    Args:
        start: :math:`a`, at step 0.
        end: :math:`b`, from step ``steps`` on.
        steps: :math:`n`, at least 1.

    Example:
        >>> [linear(1.0, 0.0, steps=4)(step) for step in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * step / self.steps


@dataclass(frozen=True, slots=True)
class cosine(_Ramp):
    r"""Half a cosine wave, flat afterwards: :math:`f(t) = b + (a - b) (1 + \cos(\pi \min(t / n, 1))) / 2`.

    From Loshchilov and Hutter, 2017, "SGDR", equation 5.

    Args:
        start: :math:`a`, at step 0.
        end: :math:`b`, from step ``steps`` on.
        steps: :math:`n`, at least 1.

    Example:
        >>> [round(cosine(1.0, 0.0, steps=4)(step), 4) for step in range(6)]
        [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * step / self.steps)) / 2


@dataclass(frozen=True, slots=True)
class polynomial(_Ramp):
    r"""A power of the remaining share of steps, flat afterwards: :math:`f(t) = b + (a - b) (1 - \min(t / n, 1))^p`.

    Args:
        start: :math:`a`, at step 0.
        end: :math:`b`, from step ``steps`` on.
        steps: :math:`n`, at least 1.
        power: :math:`p`, above 0.

    Example:
        >>> [polynomial(1.0, 0.0, steps=4, power=2)(step) for step in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        _Ramp.__post_init__(self)  # super() does not work in a dataclass with slots
        number("polynomial", "power", self.power, above=0)

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        value: float = self.end + (self.start - self.end) * (1 - step / self.steps) ** self.power
        return value


@dataclass(frozen=True, slots=True)
class _Decay:
    """From ``start``, multiplied by ``gamma`` at some steps."""

    start: float
    gamma: float

    def __post_init__(self) -> None:
        number(type(self).__name__, "start", self.start)
        number(type(self).__name__, "gamma", self.gamma, above=0)


@dataclass(frozen=True, slots=True)
class exponential(_Decay):
    r"""Multiplied by the same factor at every step: :math:`f(t) = a \gamma^t`.

    Args:
        start: :math:`a`, at step 0.
        gamma: :math:`\gamma`, above 0.

    Example:
        >>> [exponential(1.0, gamma=0.5)(step) for step in range(4)]
        [1.0, 0.5, 0.25, 0.125]
    """

    def __call__(self, step: int) -> float:
        return self.start * self.gamma**step


@dataclass(frozen=True, slots=True)
class step(_Decay):
    r"""Multiplied by a factor every ``steps`` steps: :math:`f(t) = a \gamma^{\lfloor t / n \rfloor}`.

    Args:
        start: :math:`a`, at step 0.
        gamma: :math:`\gamma`, above 0.
        steps: :math:`n`, at least 1.

    Example:
        >>> [step(1.0, gamma=0.5, steps=2)(t) for t in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    steps: int

    def __post_init__(self) -> None:
        _Decay.__post_init__(self)
        integer("step", "steps", self.steps, least=1)

    def __call__(self, step: int) -> float:
        return self.start * self.gamma ** (step // self.steps)


@dataclass(frozen=True, slots=True)
class multi_step(_Decay):
    r"""Multiplied by a factor at each milestone: :math:`f(t) = a \gamma^{|\{m : m \le t\}|}`.

    Args:
        start: :math:`a`, at step 0.
        gamma: :math:`\gamma`, above 0.
        milestones: The steps :math:`m`, in increasing order; a repeated milestone counts as often as it is repeated.

    Example:
        >>> [multi_step(1.0, gamma=0.5, milestones=(2, 3))(step) for step in range(5)]
        [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    milestones: Sequence[int]
    # The segment of the last call, as the next call is usually in it too: first step, step after the last, value.
    _segment: tuple[int, int, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _Decay.__post_init__(self)
        for milestone in self.milestones:
            integer("multi_step", "a milestone", milestone, least=0)
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"multi_step: milestones must increase, got {list(self.milestones)}")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        self._find(0)

    def __call__(self, step: int) -> float:
        first, stop, value = self._segment
        return value if first <= step < stop else self._find(step)

    def _find(self, step: int) -> float:
        passed = bisect_right(self.milestones, step)
        ends = (-sys.maxsize, *self.milestones, sys.maxsize)
        value = self.start * self.gamma**passed
        object.__setattr__(self, "_segment", (ends[passed], ends[passed + 1], value))
        return value


@dataclass(frozen=True, slots=True, init=False)
class piecewise_linear:
    r"""Straight lines between points: :math:`f(t) = v_i + (v_{i+1} - v_i) (t - t_i) / (t_{i+1} - t_i)`.

    It is flat before the first point and after the last. Where two points have the same step, the value jumps to the
    second.

    Args:
        points: Pairs of a step and a value, at least one; the steps in increasing order.

    Example:
        >>> curve = piecewise_linear([(1, 1.0), (3, 0.8), (3, 0.5), (4, 0.2)])
        >>> [curve(step) for step in range(6)]
        [1.0, 1.0, 0.9, 0.5, 0.2, 0.2]
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    # The segment of the last call: first step, step after the last, first value, rise, length in steps.
    _segment: tuple[float, float, float, float, float] = field(init=False, repr=False, compare=False)

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
        first, stop, start, rise, steps = self._segment
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
        object.__setattr__(self, "_segment", found)
        return found

    def __reduce__(self) -> Any:
        return piecewise_linear, (list(zip(self.steps, self.values, strict=True)),)


@dataclass(frozen=True, slots=True)
class inverse_sqrt:
    r"""The inverse square root of the steps: :math:`f(t) = a / \sqrt{1 + t / n}`.

    After a :class:`warmup` over the same ``steps`` it is :math:`a \sqrt{n / t}`, with :math:`t` counted from the start
    of the warm-up, as in Vaswani et al., 2017, "Attention is all you need", section 5.3.

    Args:
        start: :math:`a`, at step 0.
        steps: :math:`n`, at least 1; the value is halved at step ``3 * steps``.

    Example:
        >>> [inverse_sqrt(1.0, steps=5)(step) for step in (0, 15, 75)]
        [1.0, 0.5, 0.25]
    """

    start: float
    steps: int

    def __post_init__(self) -> None:
        number("inverse_sqrt", "start", self.start)
        integer("inverse_sqrt", "steps", self.steps, least=1)

    def __call__(self, step: int) -> float:
        return self.start / math.sqrt(1 + step / self.steps)


def _check_point(point: object) -> None:
    if not isinstance(point, tuple) or len(point) != 2:
        raise ValueError(f"piecewise_linear: a point must be a pair (step, value), got {point!r}")
    step, value = point
    if isinstance(step, bool) or not isinstance(step, Integral):
        raise TypeError(f"piecewise_linear: the step of a point must be an integer, got {step!r}")
    number("piecewise_linear", "the value of a point", value)

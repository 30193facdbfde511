"""Curves that combine other curves."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from ignite_core.handlers._arguments import integer, number

__all__ = ["Curve", "chain", "check_curve", "repeat", "warmup"]

_boundary = itemgetter(0)

#: A function of the step, counted from 0, that returns the value.
Curve = Callable[[int], float]


@dataclass(frozen=True, slots=True, init=False)
class chain:
    r"""Curves one after another, each from its step 0: :math:`f(t) = f_i(t - b_i)`, :math:`b_i \le t < b_{i+1}`.

    Args:
        first: :math:`f_0`, from step 0 on.
        rest: Pairs of a boundary :math:`b_i` and the curve :math:`f_i` from that step on; the boundaries increase.

    Example:
        >>> from ignite_core.handlers.schedules.curves import constant, exponential
        >>> curve = chain(constant(1.0), (2, exponential(0.5, gamma=0.1)))
        >>> [round(curve(step), 4) for step in range(4)]
        [1.0, 1.0, 0.5, 0.05]
    """

    first: Curve
    rest: tuple[tuple[int, Curve], ...]

    def __init__(self, first: Curve, *rest: tuple[int, Curve]) -> None:
        check_curve("chain", first)
        boundaries = [0]
        for pair in rest:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TypeError(f"chain: after the first curve come pairs (boundary, curve), got {pair!r}")
            boundary, curve = pair
            check_curve("chain", curve)
            boundaries.append(integer("chain", "a boundary", boundary, least=boundaries[-1] + 1))
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "rest", tuple(rest))

    def __call__(self, step: int) -> float:
        index = bisect_right(self.rest, step, key=_boundary)
        if index == 0:
            return self.first(step)
        boundary, curve = self.rest[index - 1]
        return curve(step - boundary)

    def __reduce__(self) -> Any:
        return chain, (self.first, *self.rest)


@dataclass(frozen=True, slots=True)
class repeat:
    r"""The first steps of a curve, repeated: :math:`f(t) = g(t \bmod n)`.

    With a growth :math:`k > 1` the :math:`i`-th repetition, counted from 0, has :math:`n k^i` steps, and the curve is
    stretched accordingly: with :class:`cosine` these are the warm restarts of Loshchilov and Hutter, 2017, "SGDR".

    Args:
        curve: :math:`g`.
        steps: :math:`n`, at least 1.
        growth: :math:`k`, an integer of at least 1.

    Example:
        >>> from ignite_core.handlers.schedules.curves import linear
        >>> [repeat(linear(1.0, 0.0, steps=2), 2)(step) for step in range(5)]
        [1.0, 0.5, 1.0, 0.5, 1.0]
        >>> [repeat(linear(1.0, 0.0, steps=2), 2, growth=2)(step) for step in range(7)]
        [1.0, 0.5, 1.0, 0.75, 0.5, 0.25, 1.0]
    """

    curve: Curve
    steps: int
    growth: int = 1

    def __post_init__(self) -> None:
        check_curve("repeat", self.curve)
        integer("repeat", "steps", self.steps, least=1)
        integer("repeat", "growth", self.growth, least=1)

    def __call__(self, step: int) -> float:
        if self.growth == 1:
            return self.curve(step % self.steps)
        stretch = 1
        while step >= self.steps * stretch:
            step -= self.steps * stretch
            stretch *= self.growth
        return self.curve(step / stretch)  # type: ignore[arg-type]  # may lie between two steps


@dataclass(frozen=True, slots=True)
class warmup:
    r"""A straight line that leads to a curve, then the curve from its step 0.

    :math:`f(t) = g(0) (s + (e - s) t / n)` for :math:`t < n`, then :math:`f(t) = g(t - n)`.

    Args:
        curve: :math:`g`.
        steps: :math:`n`, at least 1.
        start: :math:`s`, the value at step 0 as a multiple of the curve's first value.
        end: :math:`e`, the value at the end of the line, as such a multiple.

    Example:
        >>> from ignite_core.handlers.schedules.curves import constant
        >>> [warmup(constant(1.0), steps=4)(step) for step in range(6)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    curve: Curve
    steps: int
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        check_curve("warmup", self.curve)
        integer("warmup", "steps", self.steps, least=1)
        number("warmup", "start", self.start)
        number("warmup", "end", self.end)

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.curve(step - self.steps)
        return self.curve(0) * (self.start + (self.end - self.start) * step / self.steps)


def check_curve(where: str, curve: object) -> None:
    """Raise a TypeError if a curve is not callable.

    Example:
        >>> check_curve("chain", 0.1)
        Traceback (most recent call last):
        TypeError: chain: a curve must be callable, f(step) -> float, got 0.1; constant(0.1) is one
    """
    if not callable(curve):
        raise TypeError(
            f"{where}: a curve must be callable, f(step) -> float, got {curve!r}; constant({curve!r}) is one"
        )

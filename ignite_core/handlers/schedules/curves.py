r"""Curves: what a value is at each step, as small immutable values that are called, ``curve(step) -> float``.

Steps are counted from 0. A curve knows no optimizer and no engine: call it in a loop of your own, plot it by calling
it, compare it, pickle it. Those that join others, such as :class:`chain`, and those in cycles come from here too.
They are written in lower case, like the functions that they are used as.

Example:
    >>> rate = chain(linear(0.0, 0.1, steps=2), (2, cosine(0.1, 0.0, steps=4)))
    >>> [round(rate(step), 4) for step in range(7)]
    [0.0, 0.05, 0.1, 0.0854, 0.05, 0.0146, 0.0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ignite_core.handlers._arguments import integer, number
from ignite_core.handlers.schedules.cycles import cyclic, one_cycle, triangular
from ignite_core.handlers.schedules.joins import Curve, chain, repeat, warmup
from ignite_core.handlers.schedules.points import multi_step, piecewise_linear

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
    r"""The same at every step: :math:`f(t) = v`.

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
class linear:
    r"""A straight line, flat afterwards: :math:`f(t) = a + (b - a) \min(t / n, 1)`.

    Args:
        start: :math:`a`, at step 0.
        end: :math:`b`, from step ``steps`` on.
        steps: :math:`n`, at least 1.

    Example:
        >>> [linear(1.0, 0.0, steps=4)(step) for step in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_descent("linear", self.start, self.end, self.steps)

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * step / self.steps


@dataclass(frozen=True, slots=True)
class cosine:
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

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        _check_descent("cosine", self.start, self.end, self.steps)

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * step / self.steps)) / 2


@dataclass(frozen=True, slots=True)
class polynomial:
    r"""A power of what is left, flat afterwards: :math:`f(t) = b + (a - b) (1 - \min(t / n, 1))^p`.

    Args:
        start: :math:`a`, at step 0.
        end: :math:`b`, from step ``steps`` on.
        steps: :math:`n`, at least 1.
        power: :math:`p`, above 0.

    Example:
        >>> [polynomial(1.0, 0.0, steps=4, power=2)(step) for step in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    start: float
    end: float
    steps: int
    power: float = 1.0

    def __post_init__(self) -> None:
        _check_descent("polynomial", self.start, self.end, self.steps)
        number("polynomial", "power", self.power, above=0)

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        value: float = self.end + (self.start - self.end) * (1 - step / self.steps) ** self.power
        return value


@dataclass(frozen=True, slots=True)
class exponential:
    r"""Multiplied by the same factor at every step: :math:`f(t) = a \gamma^t`.

    Args:
        start: :math:`a`, at step 0.
        gamma: :math:`\gamma`, above 0.

    Example:
        >>> [exponential(1.0, gamma=0.5)(step) for step in range(4)]
        [1.0, 0.5, 0.25, 0.125]
    """

    start: float
    gamma: float

    def __post_init__(self) -> None:
        number("exponential", "start", self.start)
        number("exponential", "gamma", self.gamma, above=0)

    def __call__(self, step: int) -> float:
        return self.start * self.gamma**step


@dataclass(frozen=True, slots=True)
class step:
    r"""Multiplied by a factor once in so many steps: :math:`f(t) = a \gamma^{\lfloor t / n \rfloor}`.

    Args:
        start: :math:`a`, at step 0.
        gamma: :math:`\gamma`, above 0.
        steps: :math:`n`, at least 1.

    Example:
        >>> [step(1.0, gamma=0.5, steps=2)(t) for t in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    start: float
    gamma: float
    steps: int

    def __post_init__(self) -> None:
        number("step", "start", self.start)
        number("step", "gamma", self.gamma, above=0)
        integer("step", "steps", self.steps, least=1)

    def __call__(self, step: int) -> float:
        return self.start * self.gamma ** (step // self.steps)


@dataclass(frozen=True, slots=True)
class inverse_sqrt:
    r"""The inverse square root of the steps: :math:`f(t) = a / \sqrt{1 + t / n}`.

    After :class:`warmup` over the same ``steps`` it is :math:`a \sqrt{n / t}` of the step :math:`t` counted from the
    start of the warm-up, as in Vaswani et al., 2017, "Attention is all you need", section 5.3.

    Args:
        start: :math:`a`, at step 0.
        steps: :math:`n`, at least 1: from there to step ``3 * steps`` the value falls to the half.

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


def _check_descent(where: str, start: Any, end: Any, steps: Any) -> None:
    number(where, "start", start)
    number(where, "end", end)
    integer(where, "steps", steps, least=1)

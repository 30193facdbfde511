"""Curves that go up and down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import cos, floor, pi
from typing import Any, Literal, NamedTuple, get_args

from ignite_core.handlers._arguments import choice, integer, number

__all__ = ["Cycle", "Shape", "cyclic", "one_cycle", "triangular"]


#: What a cycle may look like.
Shape = Literal["linear", "cosine", "triangle"]

#: A stretch of a curve: its first step, the step after it, the value there, by how much it rises, in how many steps,
#: and whether it does so along half a cosine wave.
Stretch = tuple[float, float, float, float, float, bool]


class Cycle(NamedTuple):
    """One cycle.

    Attributes:
        number: The first is 0.
        first: Its first step.
        size: Steps of the cycle itself.
        warmup: Steps after it that lead to the start of the next one.
        start: Value at its start.
        end: Value that it goes to.
        next_start: Value at the start of the next one.
    """

    number: int
    first: int
    size: int
    warmup: int
    start: float
    end: float
    next_start: float

    @property
    def stop(self) -> int:
        """The first step of the next cycle."""
        return self.first + self.size + self.warmup

    def stretches(self, shape: Shape) -> Iterator[Stretch]:
        """What it is made of, in order."""
        middle, end = self.first + self.size / 2, self.first + self.size
        rise = self.end - self.start
        if shape == "triangle":
            yield self.first, middle, self.start, rise, self.size / 2, False
            yield middle, end, self.end, -rise, self.size / 2, False
        else:
            yield self.first, end, self.start, rise, self.size, shape == "cosine"
        if self.warmup:
            yield end, self.stop, self.end, self.next_start - self.end, self.warmup, False


@dataclass(frozen=True, slots=True)
class cyclic:
    r"""From a value to another, again and again, where size and values may change from cycle to cycle.

    In cycle :math:`i`, at the position :math:`u` of :math:`n_i` steps, :math:`f = s(a \alpha^i, b \beta^i, u / n_i)`
    with the shape :math:`s`: ``"linear"``, :math:`a + (b - a) p`; ``"cosine"``,
    :math:`a + (b - a) (1 - \cos \pi p) / 2`; ``"triangle"``, :math:`b + (a - b) |2 p - 1|`, there and back again.
    After the cycle a warm-up, a straight line, may lead to the start of the next one. :math:`n_{i+1}` is
    :math:`n_i k` rounded down, at least 1; so with the steps of the warm-up.

    Args:
        start: :math:`a`.
        end: :math:`b`.
        steps: :math:`n_0`, at least 1.
        shape: ``"linear"``, ``"cosine"`` or ``"triangle"``.
        steps_mult: :math:`k`, above 0.
        start_mult: :math:`\alpha`.
        end_mult: :math:`\beta`.
        warmup: Steps of the first warm-up, at least 0.

    Example:
        >>> curve = cyclic(0.0, 1.0, steps=4, shape="triangle", end_mult=0.5)
        >>> [curve(step) for step in range(8)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
        >>> [cyclic(1.0, 0.0, steps=2, warmup=2)(step) for step in range(6)]
        [1.0, 0.5, 0.0, 0.5, 1.0, 0.5]
    """

    start: float
    end: float
    steps: int
    shape: Shape = "linear"
    steps_mult: float = 1.0
    start_mult: float = 1.0
    end_mult: float = 1.0
    warmup: int = 0
    # What was asked for last is mostly what is asked for next.
    _cycle: Cycle = field(init=False, repr=False, compare=False)
    _stretch: Stretch = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        number("cyclic", "start", self.start)
        number("cyclic", "end", self.end)
        integer("cyclic", "steps", self.steps, least=1)
        choice("cyclic", "shape", self.shape, get_args(Shape))
        number("cyclic", "steps_mult", self.steps_mult, above=0)
        number("cyclic", "start_mult", self.start_mult)
        number("cyclic", "end_mult", self.end_mult)
        integer("cyclic", "warmup", self.warmup, least=0)
        object.__setattr__(self, "_cycle", self._first())
        self._find(0)

    def __call__(self, step: int) -> float:
        first, stop, start, rise, steps, is_wave = self._stretch
        if not first <= step < stop:
            first, stop, start, rise, steps, is_wave = self._find(step)
        if is_wave:
            return start + rise / 2 * (1 - cos(pi * (step - first) / steps))
        return start + rise * (step - first) / steps

    def cycle_at(self, step: int) -> Cycle:
        """The cycle that a step lies in."""
        cycle = self._cycle
        if step < cycle.first:
            cycle = self._first()
        if step >= cycle.stop and self._all_alike():
            length = cycle.stop - cycle.first
            skipped = (step - cycle.first) // length
            cycle = cycle._replace(number=cycle.number + skipped, first=cycle.first + skipped * length)
        while step >= cycle.stop:
            cycle = self._after(cycle)
        object.__setattr__(self, "_cycle", cycle)
        return cycle

    def _find(self, step: int) -> Stretch:
        found = next(one for one in self.cycle_at(step).stretches(self.shape) if step < one[1])
        object.__setattr__(self, "_stretch", found)
        return found

    def _first(self) -> Cycle:
        return Cycle(0, 0, self.steps, self.warmup, self.start, self.end, self.start * self.start_mult)

    def _after(self, cycle: Cycle) -> Cycle:
        return Cycle(
            cycle.number + 1,
            cycle.stop,
            max(_rounded_down(cycle.size * self.steps_mult), 1),
            _rounded_down(cycle.warmup * self.steps_mult),
            cycle.next_start,
            cycle.end * self.end_mult,
            cycle.next_start * self.start_mult,
        )

    def _all_alike(self) -> bool:
        return self.steps_mult == self.start_mult == self.end_mult == 1


@dataclass(frozen=True, slots=True)
class triangular:
    r"""Up and down again and again: :math:`f(t) = l + (h - l) s^i p`.

    In cycle :math:`i`, :math:`p` rises from 0 to 1 in ``up`` steps, and falls again in ``down`` steps. From Smith,
    2017, "Cyclical learning rates"; with ``shrink=0.5`` his policy *triangular2*.

    Args:
        low: :math:`l`.
        high: :math:`h`.
        up: Steps, at least 1.
        down: Steps, at least 1; as many as ``up`` by default.
        shrink: :math:`s`, above 0.

    Example:
        >>> [triangular(0.0, 1.0, up=2, shrink=0.5)(step) for step in range(9)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25, 0.0]
    """

    low: float
    high: float
    up: int
    down: int | None = None
    shrink: float = 1.0

    def __post_init__(self) -> None:
        number("triangular", "low", self.low)
        number("triangular", "high", self.high)
        integer("triangular", "up", self.up, least=1)
        if self.down is not None:
            integer("triangular", "down", self.down, least=1)
        number("triangular", "shrink", self.shrink, above=0)

    def __call__(self, step: int) -> float:
        down = self.up if self.down is None else self.down
        cycle, position = divmod(step, self.up + down)
        progress = position / self.up if position <= self.up else (self.up + down - position) / down
        return self.low + (self.high - self.low) * self.shrink**cycle * progress


@dataclass(frozen=True, slots=True)
class one_cycle:
    r"""Up to a peak and further down again than it began, flat afterwards.

    :math:`f` goes from :math:`p / d` at step 0 to the peak :math:`p` at step :math:`w n - 1`, and from there to
    :math:`p / (d e)` at step :math:`n - 1`; both ways along half a cosine wave, or straight. From Smith and Topin,
    2018, "Super-convergence", as torch's OneCycleLR has it.

    Args:
        peak: :math:`p`.
        steps: :math:`n`, at least 2.
        up: :math:`w`, the share of the steps that lead up, between 0 and 1.
        start_div: :math:`d`, above 0.
        end_div: :math:`e`, above 0.
        shape: ``"cosine"`` or ``"linear"``.

    Example:
        >>> curve = one_cycle(1.0, steps=10, up=0.4, start_div=4, end_div=100)
        >>> [round(curve(step), 4) for step in (0, 1, 3, 6, 9, 10)]
        [0.25, 0.4375, 1.0, 0.5012, 0.0025, 0.0025]
    """

    peak: float
    steps: int
    up: float = 0.3
    start_div: float = 25.0
    end_div: float = 1e4
    shape: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        number("one_cycle", "peak", self.peak)
        integer("one_cycle", "steps", self.steps, least=2)
        number("one_cycle", "up", self.up, above=0)
        if self.up >= 1:
            raise ValueError(f"one_cycle: up must be below 1, got {self.up}")
        number("one_cycle", "start_div", self.start_div, above=0)
        number("one_cycle", "end_div", self.end_div, above=0)
        choice("one_cycle", "shape", self.shape, ("cosine", "linear"))

    def __call__(self, step: int) -> float:
        top, last = self.up * self.steps - 1, self.steps - 1
        start = self.peak / self.start_div
        if step >= last:
            return start / self.end_div
        if step <= top:
            return self._between(start, self.peak, step / top if top else 1.0)
        return self._between(self.peak, start / self.end_div, (step - top) / (last - top))

    def _between(self, start: float, end: float, progress: float) -> float:
        if self.shape == "linear":
            return start + (end - start) * progress
        return end + (start - end) / 2 * (1 + cos(pi * progress))


def _rounded_down(size: Any) -> int:
    """As an integer, where a product such as 100 * 1.15, which is 114.99999999999999, counts as 115."""
    return floor(round(float(size), 9))

"""Curves that rise and fall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import cos, floor, pi
from typing import Any, Literal, NamedTuple, get_args

from ignite_core.handlers._arguments import choice, integer, number

__all__ = ["Cycle", "Shape", "cyclic", "one_cycle", "triangular"]

Shape = Literal["linear", "cosine", "triangle"]

#: A segment of a curve: first step, step after the last, first value, rise, length in steps, and whether it has the
#: shape of half a cosine wave.
Segment = tuple[float, float, float, float, float, bool]


class Cycle(NamedTuple):
    """One cycle."""

    number: int  #: the first cycle is 0
    first: int  #: its first step
    size: int  #: steps, without the warm-up
    warmup: int  #: steps after it that lead to the start of the next cycle
    start: float  #: value at its start
    end: float  #: value at its end, or in the middle of a triangle
    next_start: float  #: value at the start of the next cycle

    @property
    def stop(self) -> int:
        """The first step of the next cycle."""
        return self.first + self.size + self.warmup

    def segments(self, shape: Shape) -> Iterator[Segment]:
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
    r"""From one value to another in cycles, whose size and values may change from cycle to cycle.

    In cycle :math:`i`, at position :math:`u` of :math:`n_i` steps, :math:`f = s(a \alpha^i, b \beta^i, u / n_i)` with
    the shape :math:`s`: ``"linear"``, :math:`a + (b - a) p`; ``"cosine"``, :math:`a + (b - a) (1 - \cos \pi p) / 2`;
    ``"triangle"``, to :math:`b` and back, :math:`b + (a - b) |2 p - 1|`. After the cycle a warm-up, a straight line,
    may lead to the start of the next one. :math:`n_{i+1}` is :math:`n_i k` rounded down, at least 1; the number of
    steps in the warm-up changes in the same way.

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
    # The cycle and segment of the last call, as the next call is usually in them too.
    _cycle: Cycle = field(init=False, repr=False, compare=False)
    _segment: Segment = field(init=False, repr=False, compare=False)

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
        first, stop, start, rise, steps, is_wave = self._segment
        if not first <= step < stop:
            first, stop, start, rise, steps, is_wave = self._find(step)
        if is_wave:
            return start + rise / 2 * (1 - cos(pi * (step - first) / steps))
        return start + rise * (step - first) / steps

    def cycle_at(self, step: int) -> Cycle:
        """The cycle of a step."""
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

    def _find(self, step: int) -> Segment:
        found = next(one for one in self.cycle_at(step).segments(self.shape) if step < one[1])
        object.__setattr__(self, "_segment", found)
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
    r"""Up and down on straight lines, in cycles: :math:`f(t) = l + (h - l) s^i p`.

    In cycle :math:`i`, :math:`p` rises from 0 to 1 in ``up`` steps, and falls to 0 in ``down`` steps. From Smith, 2017,
    "Cyclical learning rates"; with ``shrink=0.5`` it is the policy *triangular2* of that paper.

    Args:
        low: :math:`l`.
        high: :math:`h`.
        up: Number of rising steps, at least 1.
        down: Number of falling steps, at least 1; by default ``up``.
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
    r"""Up to a peak, then down below the first value, and flat afterwards.

    :math:`f` goes from :math:`p / d` at step 0 to the peak :math:`p` at step :math:`w n - 1`, and from there to
    :math:`p / (d e)` at step :math:`n - 1`; each part is half a cosine wave or a straight line. From Smith and Topin,
    2018, "Super-convergence", in the form of torch's ``OneCycleLR``.

    Args:
        peak: :math:`p`.
        steps: :math:`n`, at least 2.
        up: :math:`w`, the share of the steps before the peak, between 0 and 1.
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
    """The integer below a size, where 100 * 1.15, which is 114.99999999999999 in floating point, counts as 115."""
    return floor(round(float(size), 9))

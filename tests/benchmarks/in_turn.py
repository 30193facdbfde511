"""How what is compared is measured: in turn, so that the noise of a shared machine meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

__all__ = ["in_turn", "nanoseconds"]


def nanoseconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - began


def in_turn(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    measured: Callable[[Callable[[], object]], float] = nanoseconds,
) -> dict[str, list[float]]:
    """What was measured of each call, by its name; the first time, when much is done once, does not count."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(measured(call))
    return times

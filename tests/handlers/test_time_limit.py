"""A run ends when its time is up, on all ranks after the same iteration."""

import time
from typing import Any

import pytest

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import TimeLimit, vote_of
from ignite_core.testing import run_distributed


class Clock:
    """A clock that a step moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def timed(clock: Clock, seconds: float = 10.0) -> Engine:
    """An engine whose step takes so long."""

    def step(engine: Engine, batch: Any) -> None:
        clock.now += seconds

    return Engine(step)


@pytest.mark.parametrize("attach", [True, False], ids=["attach", "add_event_handler"])
def test_a_run_ends_after_the_iteration_in_which_its_time_is_up(attach: bool) -> None:
    clock = Clock()
    engine = timed(clock)
    limit = TimeLimit(35, clock=clock)
    if attach:
        limit.attach(engine)
    else:
        engine.add_event_handler(Events.ITERATION_COMPLETED, limit)

    # the first look comes after 10 s, of which no clock knows but this one
    assert engine.run(range(100)).iteration == 5


def test_time_counts_from_the_start_of_each_run_also_where_it_is_looked_at_late() -> None:
    engine = Engine(lambda engine, batch: time.sleep(0.06))
    engine.add_event_handler(Events.EPOCH_COMPLETED, TimeLimit(0.05))

    assert engine.run([1], max_epochs=9).epoch == 1
    assert engine.run([1], max_epochs=9).epoch == 2


def test_pauses_are_part_of_a_run() -> None:
    clock = Clock()
    engine = timed(clock)
    TimeLimit(100, clock=clock).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)

    engine.run(range(50))
    clock.now += 500
    assert engine.run(range(50)).iteration == 3


@pytest.mark.parametrize(
    ("limit", "error", "told"),
    [
        (0, ValueError, "limit_sec must be above 0, got 0"),
        (-1.5, ValueError, "limit_sec must be above 0, got -1.5"),
        (float("nan"), ValueError, "limit_sec must be above 0, got nan"),
        (None, TypeError, "limit_sec must be a number, got None"),
        (True, TypeError, "limit_sec must be a number, got True"),
        ("60", TypeError, "limit_sec must be a number, got '60'"),
    ],
)
def test_a_limit_that_is_none_is_refused(limit: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        TimeLimit(limit)


def test_other_arguments_are_checked_too() -> None:
    assert TimeLimit().limit_sec == 28800
    with pytest.raises(TypeError, match="clock must be callable, got 3"):
        TimeLimit(clock=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="engine must be an Engine, got 3"):
        TimeLimit().attach(3)  # type: ignore[arg-type]


def stop_by_the_slow_one() -> int:
    """The clock of one rank runs faster than that of the other."""
    clock = Clock()
    engine = timed(clock, 10.0 * (1 + idist.get_rank()))
    TimeLimit(95, clock=clock).attach(engine)
    vote_of(engine, every=4)
    return engine.run(range(100)).iteration


def test_all_ranks_stop_together_when_the_time_of_one_is_up() -> None:
    one, other = run_distributed(stop_by_the_slow_one)

    assert one == other
    assert 6 <= one <= 6 + 2 * 4

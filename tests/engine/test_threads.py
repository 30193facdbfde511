"""Threads beside a run: handlers come and go without a call lost, and an engine runs once at a time."""

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import nothing


@pytest.fixture(autouse=True)
def _many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("filter", [{"every": 5}, {"after": 0}, {"event_filter": lambda engine, count: count % 2}])
def test_handlers_that_come_and_go_in_other_threads_cost_no_call(filter):
    engine, calls, is_over = Engine(nothing), [0], threading.Event()
    event = Events.ITERATION_COMPLETED

    def count() -> None:
        calls[0] += 1

    def churn() -> None:
        while not is_over.is_set():
            handles = [engine.add_event_handler(event(every=k), lambda: None) for k in (1, 3, 7)]
            for handle in handles:
                handle.remove()

    engine.add_event_handler(event(**filter), count)
    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    engine.run(range(500), max_epochs=10)
    is_over.set()
    for thread in threads:
        thread.join()

    assert calls == [{"every": 1000, "after": 5000, "event_filter": 2500}[next(iter(filter))]]
    assert [one.handler for one in engine.handlers()] == [count]


def test_the_same_handler_removed_by_several_threads_is_removed_once():
    engine = Engine(nothing)
    handles = [engine.add_event_handler(Events.STARTED, nothing, None) for _ in range(200)]
    threads = [threading.Thread(target=lambda: [handle.remove() for handle in handles]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not engine.has_event_handler(nothing)


def test_an_engine_that_another_thread_runs_cannot_be_run():
    inside, may_end, errors = threading.Event(), threading.Event(), []

    def step(engine: Engine, batch: Any) -> None:
        inside.set()
        may_end.wait(60)

    engine = Engine(step)
    thread = threading.Thread(target=engine.run, args=([1],))
    thread.start()
    inside.wait(60)
    with pytest.raises(RuntimeError, match="another thread runs it: make an engine for each thread"):
        engine.run([1, 2])
    may_end.set()
    thread.join()

    assert (engine.state.epoch, engine.state.iteration, errors) == (1, 1, [])
    assert engine.run([1, 2]).iteration == 2


def test_of_many_threads_that_start_an_engine_at_once_one_runs_it():
    barrier, errors = threading.Barrier(4), []
    engine = Engine(lambda engine, batch: barrier.wait(60))

    def start() -> None:
        try:
            engine.run([1])
        except RuntimeError as error:
            errors.append(str(error))
            barrier.wait(60)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(errors) == 3
    assert all("another thread runs it" in error for error in errors)
    assert engine.state.iteration == 1

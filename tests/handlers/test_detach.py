"""Handlers that are detached leave no trace on an engine, also when they are detached during a run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    BasicTimeProfiler,
    EarlyStopping,
    EpochOutputStore,
    FlightRecorder,
    HandlersTimeProfiler,
    StopOnSignal,
    TerminateOnNan,
    TimeLimit,
    Timer,
    TorchProfile,
    find_vote,
    vote_of,
)
from ignite_core.testing import run_distributed

SIGNALS = [signal.SIGTERM, signal.SIGUSR2]


def nothing(engine: Engine, batch: Any) -> None:
    """A step."""


class Detach:
    """As a handle: detaches a timer, whose ``attach`` returns the timer."""

    def __init__(self, timer: Timer, engine: Engine) -> None:
        self.timer = timer.attach(engine, step=Events.ITERATION_COMPLETED)
        self.engine = engine

    def remove(self) -> None:
        self.timer.detach(self.engine)


ATTACH: dict[str, Callable[[Engine, Path], Any]] = {
    "EarlyStopping": lambda e, _: EarlyStopping(2, lambda engine: 1.0, e).attach(e, Events.EPOCH_COMPLETED),
    "TerminateOnNan": lambda e, _: TerminateOnNan(lambda output: 1.0).attach(e),
    "TimeLimit": lambda e, _: TimeLimit(1e-9).attach(e),
    "StopOnSignal": lambda e, _: StopOnSignal(signals=["SIGTERM"]).attach(e),
    "EpochOutputStore": lambda e, _: EpochOutputStore().attach(e, "outputs"),
    "Timer": lambda e, _: Detach(Timer(), e),
    "BasicTimeProfiler": lambda e, _: BasicTimeProfiler().attach(e),
    "HandlersTimeProfiler": lambda e, _: HandlersTimeProfiler().attach(e),
    "FlightRecorder": lambda e, path: FlightRecorder(path, signals=["SIGUSR2"]).attach(e),
    "TorchProfile": lambda e, path: TorchProfile(path, warmup=0, wait=0, repeat=0).attach(e),
    "a request": lambda e, _: vote_of(e).add("nothing", lambda engine, number: None),
    "a check": lambda e, _: vote_of(e).add_check(lambda: None),
}


def trace(engine: Engine) -> tuple[Any, ...]:
    """What is attached to an engine."""
    calls = [(one.number, one.handler, one.event, one.wraps) for one in engine.handlers()]
    vote = getattr(engine, "_vote", None)
    left = (len(vote._actions), len(vote._checks)) if vote is not None else (0, 0)
    return calls, engine.run_contexts(), find_vote(engine), left, [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.filterwarnings("ignore:Profiler:UserWarning", "ignore:Warning. Profiler:UserWarning")
@pytest.mark.parametrize("when", ["before a run", "during a run", "after a run"])
@pytest.mark.parametrize("name", ATTACH)
def test_a_detached_handler_leaves_no_trace(name: str, when: str, tmp_path: Path) -> None:
    engine = Engine(nothing)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: None)
    handle = None
    if when == "during a run":
        engine.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: handle.remove())
    before = trace(engine)

    handle = ATTACH[name](engine, tmp_path)
    assert trace(engine) != before
    if when != "before a run":
        engine.run([0, 1, 2], max_epochs=1)
    handle.remove()
    handle.remove()

    assert trace(engine) == before
    engine.state.max_epochs = None
    assert engine.run([0, 1, 2], max_epochs=3).epoch == 3


@pytest.mark.parametrize(
    "attach",
    [
        lambda e: TerminateOnNan().attach(e, "unknown"),
        lambda e: TimeLimit().attach(e, "unknown"),
        lambda e: EarlyStopping(2, "score", e).attach(e, "unknown"),
        lambda e: EarlyStopping(2, "score", e).attach(e, Events.COMPLETED, reset_event="unknown"),
        lambda e: Timer().attach(e, pause="unknown"),
    ],
)
def test_an_attach_with_an_unknown_event_leaves_nothing_attached(attach: Callable[[Engine], object]) -> None:
    engine = Engine(nothing)
    before = trace(engine)

    with pytest.raises(ValueError, match="unknown"):
        attach(engine)

    assert trace(engine) == before


def test_an_attach_that_is_refused_changes_nothing() -> None:
    trainer, evaluator, stopping = Engine(nothing), Engine(nothing), EarlyStopping(2)
    with pytest.raises(ValueError, match="there is no score"):
        stopping.attach(trainer, evaluator)
    with pytest.raises(ValueError, match="unknown"):
        stopping.attach(trainer, evaluator, metric="first", event="unknown")

    assert stopping.trainer is None
    stopping.attach(evaluator, trainer, metric="second")


def test_a_handler_that_was_detached_can_be_attached_again() -> None:
    trainer, other, evaluator = Engine(nothing), Engine(nothing), Engine(nothing)
    evaluator.add_event_handler(Events.COMPLETED, lambda e: e.state.metrics.update(first=0.5, second=0.5))
    stopping, stop, profiler, limit = EarlyStopping(2, mode="max"), StopOnSignal(), BasicTimeProfiler(), TimeLimit(1e-9)
    handles = [
        stopping.attach(trainer, evaluator, metric="first"),
        stop.attach(trainer),
        profiler.attach(trainer),
        limit.attach(trainer),
    ]
    for handle in handles:
        handle.remove()

    stopping.attach(other, evaluator, metric="second")
    stop.attach(other)
    profiler.attach(other)
    limit.attach(other)

    assert stopping.trainer is other
    assert other.run(range(9)).iteration <= 2
    assert trainer.run(range(9)).iteration == 9


def test_of_two_attachments_one_may_be_detached() -> None:
    """The other one still works."""
    engine = Engine(lambda engine, batch: float("nan"))
    guard = TerminateOnNan()
    first = guard.attach(engine)
    guard.attach(engine, Events.EPOCH_COMPLETED)
    first.remove()

    assert engine.run(range(5), max_epochs=3).epoch == 1


def test_a_profiler_that_is_attached_twice_returns_the_same_handle() -> None:
    engine, profiler = Engine(nothing), HandlersTimeProfiler()

    assert profiler.attach(engine) is profiler.attach(engine)


def test_a_profiler_measures_the_handlers_of_its_next_engine() -> None:
    def first() -> None: ...
    def second() -> None: ...

    profiler = HandlersTimeProfiler()
    for handler in (first, second):
        engine = Engine(nothing)
        engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
        with profiler.attach(engine):
            engine.run([0])
        (name,) = profiler.event_handlers_times[Events.EPOCH_COMPLETED]
        assert name.endswith(handler.__name__)


def test_a_removed_request_does_nothing_and_its_place_is_used_again() -> None:
    engine, done = Engine(nothing), list[str]()
    vote = vote_of(engine)
    first = vote.add("first", lambda engine, number: done.append("first"))
    vote.add_check(lambda: None)
    first.remove()
    second = vote.add("second", lambda engine, number: done.append("second"))

    @engine.on(Events.ITERATION_COMPLETED(once=2))
    def request_both() -> None:
        first()
        assert not done
        second()

    engine.run(range(3))

    assert done == ["second"]


def test_a_detached_engine_keeps_its_spans_in_the_record(tmp_path: Path) -> None:
    engine, other = Engine(nothing), Engine(nothing)
    recorder = FlightRecorder(tmp_path)
    handle = recorder.attach(engine, "first")
    recorder.attach(other, "second")
    engine.run([1])
    handle.remove()
    engine.run([1, 2, 3])
    other.run([1])

    text = recorder.dump().read_text()
    assert text.count('"engine": "first", "iteration": 1') > 0
    assert '"engine": "first", "iteration": 3' not in text
    recorder.attach(engine, "again")


def replace_request() -> list[tuple[str, int]]:
    """Rank 1 requests something that all ranks remove, and replace, while its round is in progress."""
    engine, done = Engine(nothing), list[tuple[str, int]]()
    vote = vote_of(engine, every=4)
    vote.add("other", lambda engine, number: None)

    def add(name: str) -> Any:
        return vote.add(name, lambda engine, number: done.append((name, engine.state.iteration)))

    first = add("first")
    if idist.get_rank() == 1:
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: first())

    @engine.on(Events.ITERATION_COMPLETED(once=6))
    def replace() -> None:
        first.remove()
        second = add("second")
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda: second())

    engine.run(range(30))
    return done


def test_a_request_that_is_removed_on_all_ranks_is_not_taken_for_the_next_one() -> None:
    one, other = run_distributed(replace_request)

    assert one == other == [("second", 12)]


def use_no_vote() -> tuple[int, bool]:
    """After all handlers that vote are detached, the ranks may do different things."""
    engine = Engine(nothing)
    handles = [TimeLimit(1e9).attach(engine), TerminateOnNan(lambda output: 0.0).attach(engine)]
    engine.run(range(4))
    for handle in handles:
        handle.remove()
    engine.run(range(5 + idist.get_rank()))
    assert idist.all_reduce(1) == 2
    iteration = engine.state.iteration
    TimeLimit(1e-9).attach(engine)
    return iteration, engine.run(range(100)).iteration < 50


def test_a_vote_without_requests_is_over() -> None:
    assert run_distributed(use_no_vote) == [(5, True), (6, True)]

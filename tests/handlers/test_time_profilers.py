"""Profilers measure exactly what they say, by the clock they are given."""

from __future__ import annotations

import csv
import gc
import io
import math
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from ignite_core.engine import Engine, EventEnum, Events
from ignite_core.handlers import BasicTimeProfiler, FlightRecorder, HandlersTimeProfiler, TorchProfile

PROFILERS: list[Any] = [BasicTimeProfiler, HandlersTimeProfiler]


class Clock:
    """Stands still unless somebody lets time pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> Any:
        """A handler, or a step, that takes so long."""

        def take(*_: Any) -> None:
            self.now += seconds

        return take

    def data(self, *seconds: float) -> Any:
        """Data whose batches take so long to come."""
        clock = self

        class Slow:
            def __len__(self) -> int:
                return len(seconds)

            def __iter__(self) -> Any:
                for taken in seconds:
                    clock.now += taken
                    yield taken

        return Slow()


def slow_engine(clock: Clock) -> Engine:
    """Each event has a handler that takes 2, 4, … seconds; a step takes 100."""
    engine = Engine(clock.passes(100))
    for power, event in enumerate(
        (
            Events.STARTED,
            Events.EPOCH_STARTED,
            Events.GET_BATCH_STARTED,
            Events.GET_BATCH_COMPLETED,
            Events.ITERATION_STARTED,
            Events.ITERATION_COMPLETED,
            Events.EPOCH_COMPLETED,
            Events.COMPLETED,
        ),
        start=1,
    ):
        engine.add_event_handler(event, clock.passes(2**power))
    return engine


def test_each_time_is_of_its_own_part() -> None:
    clock = Clock()
    engine, profiler = slow_engine(clock), BasicTimeProfiler(clock)
    profiler.attach(engine)

    engine.run(clock.data(1000, 2000), max_epochs=2)

    assert profiler.processing_times.tolist() == [100, 100, 100, 100]
    assert profiler.dataflow_times.tolist() == [1000, 2000, 1000, 2000]
    of_events = {event.name: times.tolist() for event, times in profiler.event_handlers_times.items()}
    assert of_events == {
        "STARTED": [2],
        "COMPLETED": [256],
        "EPOCH_STARTED": [4, 4],
        "EPOCH_COMPLETED": [128, 128],
        "GET_BATCH_STARTED": [8] * 4,
        "GET_BATCH_COMPLETED": [16] * 4,
        "ITERATION_STARTED": [32] * 4,
        "ITERATION_COMPLETED": [64] * 4,
    }


def test_results_have_the_names_of_pytorch_ignite() -> None:
    clock = Clock()
    engine, profiler = slow_engine(clock), BasicTimeProfiler(clock)
    profiler.attach(engine)
    engine.run(clock.data(3, 1, 2))

    results = profiler.get_results()

    assert list(results) == ["processing_stats", "dataflow_stats", "event_handlers_stats", "event_handlers_names"]
    assert results["dataflow_stats"] == {
        "total": 6.0,
        "min/index": (1.0, 1),
        "max/index": (3.0, 0),
        "mean": 2.0,
        "std": 1.0,
    }
    assert results["event_handlers_stats"]["STARTED"] == {"total": 2.0}
    assert results["event_handlers_stats"]["total_time"] == 2 + 4 + 3 * (8 + 16 + 32 + 64) + 128 + 256
    assert results["event_handlers_names"]["STARTED_names"] == ["Clock.passes.<locals>.take"]


def test_without_a_run_nothing_was_triggered() -> None:
    results = BasicTimeProfiler().get_results()

    assert results["processing_stats"] == {"total": "not yet triggered"}
    assert "not yet triggered" in BasicTimeProfiler.print_results(results)


def test_a_table_has_a_line_for_each_iteration(tmp_path: Path) -> None:
    clock = Clock()
    engine, profiler = slow_engine(clock), BasicTimeProfiler(clock)
    profiler.attach(engine)
    engine.run(clock.data(3, 1), max_epochs=2)

    profiler.write_results(tmp_path / "times.csv")

    with (tmp_path / "times.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["iteration"], row["dataflow_stats"]) for row in rows] == [
        ("1", "1", "3.0"),
        ("1", "2", "1.0"),
        ("2", "3", "3.0"),
        ("2", "4", "1.0"),
    ]
    assert {name: float(value) for name, value in rows[3].items() if name.startswith("Event_")} == {
        "Event_STARTED": 2,
        "Event_COMPLETED": 256,
        "Event_EPOCH_STARTED": 4,
        "Event_EPOCH_COMPLETED": 128,
        "Event_ITERATION_STARTED": 32,
        "Event_ITERATION_COMPLETED": 64,
        "Event_GET_BATCH_STARTED": 8,
        "Event_GET_BATCH_COMPLETED": 16,
    }


def test_runs_that_pytorch_ignite_cannot_measure(tmp_path: Path) -> None:
    """By iterations, with another epoch_length than the data has, cut, without data, and resumed."""
    clock = Clock()
    for arguments in ({"max_iters": 5}, {"max_epochs": 2, "epoch_length": 3}):
        engine, profiler = Engine(clock.passes(7)), BasicTimeProfiler(clock)
        profiler.attach(engine)
        engine.run(clock.data(1, 2), **arguments)
        count = engine.state.iteration
        assert profiler.processing_times.tolist() == [7.0] * count
        assert profiler.dataflow_times.tolist() == [[1.0, 2.0][place % 2] for place in range(count)]
        profiler.write_results(tmp_path / "times.csv")

    engine, profiler = Engine(clock.passes(7)), BasicTimeProfiler(clock)
    profiler.attach(engine)
    engine.load_state_dict({"epoch": 3, "epoch_length": 2, "max_epochs": 5})
    engine.run(None)
    assert profiler.processing_times.tolist() == [7.0] * 4
    assert all(map(math.isnan, profiler.dataflow_times.tolist()))
    assert profiler.get_results()["dataflow_stats"] == {"total": "not yet triggered"}


def test_an_epoch_that_is_cut_leaves_its_times_where_they_belong() -> None:
    clock = Clock()
    engine, profiler = Engine(clock.passes(7)), BasicTimeProfiler(clock)
    in_first_epoch = Events.GET_BATCH_COMPLETED(lambda engine, count: (engine.state.epoch, count) == (1, 1))
    engine.add_event_handler(in_first_epoch, engine.terminate_epoch)
    profiler.attach(engine)

    engine.run(clock.data(1, 2, 3), max_epochs=2)

    assert [str(one) for one in profiler.processing_times.tolist()] == ["7.0", "nan", "7.0", "7.0", "7.0"]
    assert profiler.dataflow_times.tolist() == [1, 2, 1, 2, 3]


@pytest.mark.parametrize("event", [Events.ITERATION_STARTED, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED])
def test_a_pause_is_not_counted(event: Any) -> None:
    clock = Clock()
    engine, profiler = Engine(clock.passes(7)), BasicTimeProfiler(clock)
    engine.add_event_handler(event(once=1), engine.interrupt)
    profiler.attach(engine)
    data = clock.data(1, 2)
    engine.run(data)
    clock.now += 10_000

    engine.run(data)

    assert profiler.processing_times.tolist() == [7, 7]
    assert profiler.dataflow_times.tolist() == [1, 2]


def test_the_next_run_begins_anew() -> None:
    clock = Clock()
    for make in PROFILERS:
        engine, profiler = Engine(clock.passes(7)), make(clock)
        profiler.attach(engine)
        engine.run([1, 2, 3])
        engine.run([1, 2])
        assert list(profiler.processing_times) == [7, 7]


def test_each_call_of_each_handler_is_measured() -> None:
    clock = Clock()
    engine, profiler = slow_engine(clock), HandlersTimeProfiler(clock)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), clock.passes(0.5))
    profiler.attach(engine)

    @engine.on(Events.EPOCH_COMPLETED)
    def late() -> None:
        clock.now += 5

    engine.run(clock.data(3, 1), max_epochs=2)

    assert profiler.dataflow_times == [3, 1, 3, 1]
    assert profiler.processing_times == [100] * 4
    take = "Clock.passes.<locals>.take"
    assert profiler.event_handlers_times[Events.ITERATION_COMPLETED] == {take: [64] * 4, f"{take} (2)": [0.5] * 2}
    assert list(profiler.event_handlers_times[Events.EPOCH_COMPLETED].values()) == [[128, 128], [5, 5]]


def test_rows_have_the_form_of_pytorch_ignite() -> None:
    clock = Clock()
    engine, profiler = Engine(clock.passes(7)), HandlersTimeProfiler(clock)
    engine.add_event_handler(Events.EPOCH_COMPLETED, clock.passes(2))
    engine.add_event_handler(Events.INTERRUPT, clock.passes(2))
    profiler.attach(engine)
    engine.run(clock.data(3, 1), max_epochs=2)

    rows = profiler.get_results()

    take = "Clock.passes.<locals>.take"
    assert rows == [
        [take, "EPOCH_COMPLETED", 4.0, (2.0, 0), (2.0, 0), 2.0, 0.0],
        [take, "INTERRUPT", "not triggered", ("None", "None"), ("None", "None"), "None", "None"],
        ["Total", "", 4.0, "", "", "", ""],
        ["Processing", "None", 28.0, (7.0, 0), (7.0, 0), 7.0, 0.0],
        ["Dataflow", "None", 8.0, (1.0, 1), (3.0, 0), 2.0, pytest.approx(math.sqrt(4 / 3))],
    ]


def test_results_can_be_printed_twice(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    engine, profiler = Engine(clock.passes(7)), HandlersTimeProfiler(clock)
    engine.add_event_handler(Events.EPOCH_COMPLETED, clock.passes(2))
    profiler.attach(engine)
    engine.run(clock.data(3, 1))
    results = profiler.get_results()

    HandlersTimeProfiler.print_results(results)
    first = capsys.readouterr().out
    HandlersTimeProfiler.print_results(results)

    assert capsys.readouterr().out == first
    assert "Processing took total 14s [min/index: 7/0, max/index: 7/0, mean: 7s, std: 0s]" in first


def test_a_column_for_each_handler(tmp_path: Path) -> None:
    clock = Clock()
    engine, profiler = Engine(clock.passes(7)), HandlersTimeProfiler(clock)
    engine.add_event_handler(Events.EPOCH_COMPLETED, clock.passes(2))
    profiler.attach(engine)
    engine.run(clock.data(3, 1))

    profiler.write_results(tmp_path / "times.csv")

    with (tmp_path / "times.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["#", "processing_stats", "dataflow_stats", "Clock.passes.<locals>.take (EPOCH_COMPLETED)"],
        ["1", "7.0", "3.0", "2.0"],
        ["2", "7.0", "1.0", ""],
    ]


def test_custom_events_and_nested_firing_are_measured() -> None:
    class Own(EventEnum):
        ONE = "one"

    clock = Clock()
    engine, profiler = Engine(clock.passes(7)), HandlersTimeProfiler(clock)
    engine.register_events(*Own)
    engine.add_event_handler(Own.ONE, clock.passes(2))

    @engine.on(Events.ITERATION_COMPLETED)
    def outer() -> None:
        clock.now += 1
        engine.fire_event(Own.ONE)

    profiler.attach(engine)
    engine.run([0])

    times = {event.name: list(named.values()) for event, named in profiler.event_handlers_times.items()}
    assert times == {"ONE": [[2]], "ITERATION_COMPLETED": [[3]]}


def test_a_handler_that_raises_is_measured_and_still_raises() -> None:
    clock = Clock()
    engine, profiler = Engine(clock.passes(7)), HandlersTimeProfiler(clock)
    suppressed = []

    @engine.on(Events.ITERATION_COMPLETED)
    def fail() -> None:
        clock.now += 3
        raise ValueError("no")

    @engine.on(Events.EXCEPTION_RAISED)
    def suppress(engine: Engine, error: Exception) -> bool:
        clock.now += 4
        suppressed.append(error)
        return True

    profiler.attach(engine)
    engine.run([0])

    times = {event.name: list(named.values()) for event, named in profiler.event_handlers_times.items()}
    assert times == {"ITERATION_COMPLETED": [[3]], "EXCEPTION_RAISED": [[4]]}
    assert len(suppressed) == 1


def test_a_removed_handler_is_not_called_any_more() -> None:
    clock, calls = Clock(), []
    engine, profiler = Engine(clock.passes(7)), HandlersTimeProfiler(clock)
    handle = engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: calls.append(1))
    profiler.attach(engine)
    handle.remove()
    second = HandlersTimeProfiler(clock)
    second.attach(engine)

    engine.run([0])

    assert calls == []


@pytest.mark.parametrize("make", [*PROFILERS, FlightRecorder, TorchProfile])
def test_an_engine_that_is_let_go_is_gone_at_once(make: Any, tmp_path: Path) -> None:
    engine = Engine(lambda engine, batch: None)
    watcher = make(tmp_path) if make in (FlightRecorder, TorchProfile) else make()
    watcher.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: None)
    engine.run([1, 2, 3])
    engine.plan(1, 3)
    gone = weakref.ref(engine)
    gc.collect()
    gc.disable()

    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("make", PROFILERS)
def test_two_profilers_and_twice_the_same(make: Any) -> None:
    clock = Clock()
    engine, profiler, other = Engine(clock.passes(7)), make(clock), make(clock)
    profiler.attach(engine)
    profiler.attach(engine)
    other.attach(engine)
    engine.run([0, 1])

    assert list(profiler.processing_times) == list(other.processing_times) == [7, 7]
    with pytest.raises(ValueError, match="already measures another engine"):
        profiler.attach(Engine(clock.passes(1)))
    with pytest.raises(TypeError, match="engine must be an Engine"):
        make().attach("engine")
    with pytest.raises(TypeError, match="clock must be callable"):
        make(clock=3)


@pytest.mark.parametrize("profiler", [BasicTimeProfiler, HandlersTimeProfiler])
def test_names_that_the_console_cannot_show_are_escaped(profiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def δ() -> None:
        pass

    engine, made = Engine(lambda engine, batch: None), profiler()
    made.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, δ)
    engine.run([1])
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    made.print_results(made.get_results())

    console.seek(0)
    assert r"\u03b4" in console.read()


@pytest.mark.parametrize("make", [*PROFILERS, FlightRecorder])
@pytest.mark.parametrize("event", [Events.EPOCH_STARTED, Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED])
def test_a_profiler_that_is_attached_during_a_run_measures_from_then_on(make: Any, event: Any, tmp_path: Path) -> None:
    """It takes no part of an iteration, epoch or run that had begun before for a whole one."""
    clock = Clock()
    engine = slow_engine(clock)
    profiler = make(tmp_path) if make is FlightRecorder else make(clock)
    engine.add_event_handler(event(once=1), lambda engine: profiler.attach(engine))
    engine.add_event_handler(event, lambda: None)

    assert engine.run(range(3), max_epochs=2).iteration == 6
    if make is BasicTimeProfiler:
        assert profiler.processing_times.tolist()[-4:] == [100] * 4
        profiler.write_results(tmp_path / "times.csv")

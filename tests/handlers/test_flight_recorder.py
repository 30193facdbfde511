"""The recorder writes the last events of a run, and hides no error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ignite_core import distributed as idist
from ignite_core.__main__ import main as package_main
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import RankFailed
from ignite_core.handlers import FlightRecorder
from ignite_core.handlers.profiling._chrome_trace import main, merge
from ignite_core.testing import run_distributed


class Clock:
    """One microsecond passes between two looks."""

    def __init__(self, start: int = 0) -> None:
        self.now = start

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def nothing(engine: Engine, batch: Any) -> None:
    """A step."""


def recorded(folder: Path, **kwargs: Any) -> tuple[Engine, FlightRecorder]:
    recorder = FlightRecorder(folder, clock=Clock(), wall_clock=Clock(10**18), **kwargs)
    engine = Engine(nothing)
    recorder.attach(engine, "trainer")
    return engine, recorder


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a trace, each of which was looked at."""
    trace = json.loads(path.read_text())
    events: list[dict[str, Any]] = trace["traceEvents"]
    for event in events:
        assert set(event) >= {"ph", "name", "pid", "tid", "args"}
        assert event["ph"] in ("M", "X", "i")
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] == "i":
            assert event["s"] == "t"
    moments = [event["ts"] for event in events if event["ph"] != "M"]
    assert moments == sorted(moments)
    return events


def named(events: list[dict[str, Any]], kind: str) -> list[tuple[str, int]]:
    return [(event["name"], event["args"]["iteration"]) for event in events if event.get("cat") == kind]


def check_nesting(events: list[dict[str, Any]]) -> None:
    """Spans of one thread lie inside each other, or apart."""
    open_until: list[float] = []
    for event in events:
        if event["ph"] == "X":
            while open_until and open_until[-1] <= event["ts"]:
                open_until.pop()
            end = event["ts"] + event["dur"]
            assert not open_until or end <= open_until[-1]
            open_until.append(end)


def test_a_run_is_seen_as_spans(tmp_path: Path) -> None:
    engine, recorder = recorded(tmp_path)

    @engine.on(Events.ITERATION_COMPLETED(every=2))
    def log() -> None:
        """Be called."""

    engine.run([1, 2, 3], max_epochs=2)

    events = read(recorder.dump())
    assert named(events, "iteration") == [
        (what, i if what == "step" else i - 1) for i in range(1, 7) for what in ("fetch", "step")
    ]
    assert [(name.rpartition(".")[2], iteration) for name, iteration in named(events, "handler")] == [
        ("log", i) for i in (2, 4, 6)
    ]
    assert [event["args"]["event"] for event in events if event.get("cat") == "handler"] == ["ITERATION_COMPLETED"] * 3
    assert named(events, "epoch") == [("epoch", 3), ("epoch", 6)]
    assert [name for name, _ in named(events, "event")] == [
        "STARTED",
        *("EPOCH_STARTED", "EPOCH_COMPLETED"),
        *("EPOCH_STARTED", "DATALOADER_STOP_ITERATION", "EPOCH_COMPLETED"),
        "COMPLETED",
    ]
    check_nesting(events)


def test_names_of_processes_and_threads(tmp_path: Path) -> None:
    engine, recorder = recorded(tmp_path)
    engine.run([1])

    events = read(recorder.dump())

    metadata = {event["name"]: event for event in events if event["ph"] == "M"}
    assert metadata["process_name"]["pid"] == 0
    assert metadata["process_name"]["args"]["name"].startswith("rank 0 (")
    assert metadata["thread_name"]["args"] == {"name": "MainThread"}
    assert {event["tid"] for event in events if event["ph"] != "M"} == {metadata["thread_name"]["tid"]}


def test_an_error_is_written_and_goes_on_its_way(tmp_path: Path) -> None:
    engine, _ = recorded(tmp_path)
    error = ValueError("bad batch")

    @engine.on(Events.ITERATION_COMPLETED(once=3))
    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="bad batch") as caught:
        engine.run(range(9), max_epochs=2)

    assert caught.value is error
    assert error.__notes__[-1] == f"Flight record: {tmp_path / 'flight_rank0.json'}"
    lines = (tmp_path / "flight_rank0.txt").read_text().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("rank 0 of 1, ")
    assert lines[1] == "why: ValueError: bad batch"
    assert lines[2].startswith("Raised by the handler test_an_error_is_written_and_goes_on_its_way.<locals>.fail")
    assert lines[3] == "trainer: epoch 1 of 2, iteration 3, last event Events.EXCEPTION_RAISED"
    assert "trainer 3: test_an_error_is_written_and_goes_on_its_way.<locals>.fail at ITERATION_COMPLETED" in lines[-1]


def test_a_step_that_raises_is_shown_as_unfinished(tmp_path: Path) -> None:
    recorder = FlightRecorder(tmp_path)
    engine = Engine(lambda engine, batch: 1 / batch)
    recorder.attach(engine)

    with pytest.raises(ZeroDivisionError):
        engine.run([1, 0])

    unfinished = [event for event in read(tmp_path / "flight_rank0.json") if event["args"].get("unfinished")]
    assert [(event["name"], event["args"]["iteration"]) for event in unfinished] == [("step", 2)]
    assert ", in step for " in (tmp_path / "flight_rank0.txt").read_text()


def test_an_error_of_an_evaluator_is_written_once(tmp_path: Path) -> None:
    trainer, recorder = recorded(tmp_path)
    evaluator = Engine(lambda engine, batch: 1 / batch)
    recorder.attach(evaluator, "evaluator")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 0]))

    with pytest.raises(ZeroDivisionError) as caught:
        trainer.run([1])

    assert sum(note.startswith("Flight record") for note in caught.value.__notes__) == 1
    lines = (tmp_path / "flight_rank0.txt").read_text().splitlines()
    assert lines[3].startswith("trainer: epoch 1 of 1, iteration 1")
    assert lines[4].startswith("evaluator: epoch 1 of 1, iteration 2")


def test_a_folder_that_cannot_be_made_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder = FlightRecorder(tmp_path / "file" / "folder")
    engine = Engine(lambda engine, batch: 1 / batch)
    recorder.attach(engine)

    with pytest.raises(ZeroDivisionError) as caught:
        engine.run([0])

    assert caught.value.__notes__[-1].startswith("Flight record: could not be written: NotADirectoryError")
    assert caught.value.__cause__ is None


def test_what_suppresses_an_error_still_does(tmp_path: Path) -> None:
    engine, _ = recorded(tmp_path)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: 1 / 0)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: True)

    engine.run([1])

    assert (tmp_path / "flight_rank0.json").exists()


def test_only_the_last_are_remembered(tmp_path: Path) -> None:
    engine, recorder = recorded(tmp_path, capacity=10)

    engine.run(range(1000))

    spans = [event for event in read(recorder.dump()) if event["ph"] != "M"]
    assert len(spans) == 10
    assert {event["args"]["iteration"] for event in spans} >= {998, 999, 1000}


def test_a_dump_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    engine, recorder = recorded(tmp_path / "made" / "then")
    assert list(tmp_path.iterdir()) == []
    engine.run([1])
    recorder.dump()
    size = recorder.dump("because").stat().st_size

    assert size > 0
    assert sorted(path.name for path in (tmp_path / "made" / "then").iterdir()) == [
        "flight_rank0.json",
        "flight_rank0.txt",
    ]
    assert "why: because" in (tmp_path / "made" / "then" / "flight_rank0.txt").read_text()


@pytest.fixture
def of_others() -> Iterator[list[int]]:
    """What somebody else's handler of SIGTERM got."""
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    default = signal.getsignal(signal.SIGUSR2)
    yield got
    assert signal.getsignal(signal.SIGUSR2) is default
    signal.signal(signal.SIGTERM, before)


def test_a_signal_writes_and_the_run_goes_on(
    tmp_path: Path, of_others: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = FlightRecorder(tmp_path, signals=["SIGUSR2", "SIGTERM"])

    def step(engine: Engine, batch: int) -> None:
        if batch:
            os.kill(os.getpid(), batch)

    engine = Engine(step)
    recorder.attach(engine)

    assert engine.run([0, signal.SIGUSR2, 0, signal.SIGTERM, 0]).iteration == 5

    assert of_others == [signal.SIGTERM]
    lines = (tmp_path / "flight_rank0.txt").read_text().splitlines()
    assert lines[1] == "why: SIGTERM"
    assert lines[2].endswith("in step")
    assert "engine: epoch 1 of 1, iteration 4" in lines[3]
    assert ", in step for " in lines[3]
    assert caplog.text.count(": wrote ") == 2


def test_a_signal_that_ends_the_process_still_does(tmp_path: Path) -> None:
    code = f"""
import os, signal
from ignite_core.engine import Engine
from ignite_core.handlers import FlightRecorder

engine = Engine(lambda engine, batch: os.kill(os.getpid(), signal.SIGTERM))
FlightRecorder({str(tmp_path)!r}, signals=["SIGTERM"]).attach(engine)
engine.run([1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)

    assert done.returncode == -signal.SIGTERM
    assert (tmp_path / "flight_rank0.txt").read_text().splitlines()[1] == "why: SIGTERM"


def test_a_signal_that_comes_while_the_files_are_written_writes_them_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = FlightRecorder(tmp_path, signals=["SIGUSR2"])
    engine = Engine(lambda engine, batch: os.kill(os.getpid(), signal.SIGUSR2))
    recorder.attach(engine)
    replace, interrupt = Path.replace, iter([True])

    def interrupted(self: Path, target: Path) -> Path:
        if next(interrupt, False):
            os.kill(os.getpid(), signal.SIGUSR2)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    engine.run([1])

    assert caplog.text.count("could not be written") == 0
    assert caplog.text.count(": wrote ") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flight_rank0.json", "flight_rank0.txt"]
    read(tmp_path / "flight_rank0.json")


def test_signals_need_the_main_thread(tmp_path: Path) -> None:
    engine, _ = recorded(tmp_path, signals=["SIGUSR2"])
    raised: list[BaseException] = []

    def run() -> None:
        try:
            engine.run([1])
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert "main thread only" in str(raised[0])


def test_an_engine_in_another_thread_has_a_row_of_its_own(tmp_path: Path) -> None:
    trainer, recorder = recorded(tmp_path)
    other = Engine(nothing)
    recorder.attach(other, "other")
    trainer.run([1])
    thread = threading.Thread(target=other.run, args=([1],), name="second")
    thread.start()
    thread.join()

    events = read(recorder.dump())

    rows = {
        event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M" and event["name"] == "thread_name"
    }
    assert sorted(rows.values()) == ["MainThread", "second"]
    assert {rows[event["tid"]] for event in events if event["args"].get("engine") == "other"} == {"second"}


def test_ranks_are_merged_by_the_clock_on_the_wall(tmp_path: Path) -> None:
    for rank, started in enumerate((10**18, 10**18 + 5_000_000)):
        recorder = FlightRecorder(tmp_path / str(rank), clock=Clock(rank * 10**9), wall_clock=Clock(started))
        engine = Engine(nothing)
        recorder.attach(engine)
        engine.run([1])
        path = recorder.dump()
        trace = json.loads(path.read_text())
        trace["otherData"]["rank"] = rank
        for event in trace["traceEvents"]:
            event["pid"] = rank
        seconds = trace["otherData"]["clock_at_end_ns"] - trace["otherData"]["clock_at_start_ns"]
        trace["otherData"]["wall_at_end_ns"] = started + seconds
        path.write_text(json.dumps(trace))

    events = read(merge([tmp_path / "0", tmp_path / "1"]))

    first = {
        rank: min(event["ts"] for event in events if event["pid"] == rank and event["ph"] != "M") for rank in (0, 1)
    }
    assert first[1] - first[0] == pytest.approx(5000)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine, recorder = recorded(tmp_path)
    engine.run([1])
    recorder.dump()

    main(["merge", str(tmp_path), "-o", str(tmp_path / "all.json")])

    assert capsys.readouterr().out.strip() == str(tmp_path / "all.json")
    assert len(read(tmp_path / "all.json")) == len(read(tmp_path / "flight_rank0.json"))
    with pytest.raises(SystemExit):
        main(["merge", str(tmp_path / "nothing")])
    (tmp_path / "copy.json").write_text((tmp_path / "flight_rank0.json").read_text())
    with pytest.raises(ValueError, match="each rank must occur once"):
        merge([tmp_path / "flight_rank0.json", tmp_path / "copy.json"])
    (tmp_path / "flight_rank7.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a trace written by a FlightRecorder"):
        merge([tmp_path])


def fail_on_rank_1(folder: str) -> None:
    engine = Engine(lambda engine, batch: 1 / (batch - idist.get_rank()))
    FlightRecorder(folder).attach(engine)
    with suppress(ZeroDivisionError, RankFailed):
        engine.run([3, 2, 1])


def test_each_rank_writes_its_own(tmp_path: Path) -> None:
    run_distributed(fail_on_rank_1, str(tmp_path), ranks=2)

    assert "ZeroDivisionError" in (tmp_path / "flight_rank1.txt").read_text().splitlines()[1]
    trace = json.loads((tmp_path / "flight_rank1.json").read_text())
    assert {event["pid"] for event in trace["traceEvents"]} == {1}
    assert trace["otherData"]["world_size"] == 2


def test_wrong_arguments(tmp_path: Path) -> None:
    wrong: Any = FlightRecorder
    with pytest.raises(TypeError, match="capacity must be an integer"):
        wrong(tmp_path, capacity=1.5)
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        wrong(tmp_path, capacity=0)
    with pytest.raises(ValueError, match="SIGKILL cannot be caught"):
        wrong(tmp_path, signals=["SIGKILL"])
    with pytest.raises(TypeError, match="engine must be an Engine"):
        wrong(tmp_path).attach("engine")
    engine, recorder = recorded(tmp_path)
    with pytest.raises(ValueError, match="already attached, as 'trainer'"):
        recorder.attach(engine)


def test_the_command_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``python -m ignite_core trace merge`` is the same command; an unknown one is refused with the known ones."""
    engine, recorder = recorded(tmp_path)
    engine.run([1])
    recorder.dump()

    monkeypatch.setattr(sys, "argv", ["ignite_core", "trace", "merge", str(tmp_path)])
    assert package_main() == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "flight.json")

    monkeypatch.setattr(sys, "argv", ["ignite_core", "tarce"])
    assert package_main() == 2
    assert "{checkpoint,trace}" in capsys.readouterr().err

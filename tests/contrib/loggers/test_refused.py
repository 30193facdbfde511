"""A value that a back-end refuses is kept with the reason, and stops no other one."""

from __future__ import annotations

import decimal
import fractions
import json
import logging
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ignite_contrib.loggers import MediaLogger, TensorboardLogger
from ignite_contrib.loggers.delivery.background import BackgroundOutbox
from ignite_contrib.loggers.delivery.deliver import PartlySentError, deliver, each
from ignite_contrib.loggers.delivery.record import Record, as_line, of_line, plain
from ignite_core.engine import Engine, Events
from ignite_core.handlers import GradsHistHandler
from tests.faults.sizes import FULL


class Picky:
    """A back-end that takes all values of a call or none, and refuses some."""

    def __init__(self, refuses: Callable[[Any], BaseException | None]) -> None:
        self.refuses = refuses
        self.values: list[Any] = []
        self.calls = 0

    def __call__(self, records: Sequence[Record]) -> None:
        self.calls += 1
        values = [value for record in records for value in record.values.values()]
        for value in values:
            if (error := self.refuses(value)) is not None:
                raise error
        self.values += values


def records(*values: Any, kind: Any = "scalars") -> list[Record]:
    return [Record(kind, step, 0.0, {("x",): value}) for step, value in enumerate(values)]


def negative(value: Any) -> BaseException | None:
    return ValueError(f"{value} is negative") if value < 0 else None


def broken(value: Any) -> BaseException | None:
    """What a server says that fails on a value, or any error that may pass."""
    return RuntimeError("500") if value < 0 else None


@pytest.mark.parametrize("error", [negative, broken])
@pytest.mark.parametrize("bad", [{0}, {7}, {499}, {0, 1, 2, 3}, {3, 100, 101, 102, 400}, set(range(0, 500, 2))])
def test_all_values_arrive_but_those_that_are_refused(error: Any, bad: set[int]) -> None:
    """Errors that may pass say so only if something comes after: at the end they may mean that the back-end is away."""
    send = Picky(error)
    left, away = deliver(send, records(*(-value if value in bad else value for value in range(1, 501))))

    taken = [value for value in range(1, 501) if value not in bad]
    assert sorted(send.values) == taken
    assert sorted(-record.values["x",] for record in left) == sorted(bad - {0})
    if error is negative:
        assert away is None
        assert send.values == taken, "in their order"
        assert all(record.is_refused and "is negative" in record.reason for record in left)


def test_few_calls_tell_one_refused_value_from_many_others() -> None:
    send = Picky(negative)
    deliver(send, records(*range(250), -1, *range(249)))

    assert send.calls < 25


def test_a_back_end_that_is_away_is_asked_a_few_times_only() -> None:
    send = Picky(lambda value: ConnectionError("refused"))
    left, away = deliver(send, records(*range(500)))

    assert send.calls <= 5
    assert isinstance(away, ConnectionError)
    assert [record.step for record in left] == list(range(500)), "in their order"
    assert not any(record.is_refused for record in left)


def test_one_value_of_a_record_stops_none_of_the_others() -> None:
    send = Picky(negative)
    left, _ = deliver(send, [Record("scalars", 1, 0.0, {("a",): 1, ("b",): -1, ("c",): 2})])

    assert send.values == [1, 2]
    assert [dict(record.values) for record in left] == [{("b",): -1}]


def test_what_was_sent_before_an_error_is_not_sent_again() -> None:
    seen: list[Any] = []

    def send_one(record: Record) -> None:
        (value,) = record.values.values()
        if value < 0:
            raise ValueError("negative")
        seen.append(value)

    left, away = deliver(lambda some: each(send_one, some), records(1, 2, -3, 4, 5, -6, 7))

    assert seen == [1, 2, 4, 5, 7]
    assert [record.step for record in left] == [2, 5]
    assert away is None


def test_each_names_the_rest() -> None:
    some = records(1, 2, -3, 4)
    with pytest.raises(PartlySentError) as caught:
        each(lambda record: 1 / (record.values["x",] + 3), some)

    assert caught.value.rest == some[2:]


def test_a_refused_value_is_told_of_once_kept_with_its_reason_and_not_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, send = tmp_path / "unsent.jsonl", Picky(negative)
    outbox = BackgroundOutbox(send, "server", path)
    for record in records(1, -2, 3, -4, 5):
        outbox.put(record)
    assert outbox.flush()
    calls = send.calls
    outbox.put(Record("scalars", 9, 0.0, {("x",): 6}))
    outbox.close()

    assert send.values == [1, 3, 5, 6]
    assert send.calls == calls + 1
    (message,) = caplog.records
    assert message.levelname == "ERROR"
    assert "server: scalars 'x' of step 1 is refused (ValueError: -2 is negative); it is kept in" in caplog.text
    kept = [of_line(line) for line in path.read_text().splitlines()]
    assert [(one.step, one.reason, one.is_refused) for one in kept] == [
        (1, "ValueError: -2 is negative", True),
        (3, "ValueError: -4 is negative", True),
    ]


def test_a_kind_that_is_not_taken_holds_up_no_other_and_arrives_when_it_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As an artifact store that is away, beside metrics that arrive."""
    seen: list[tuple[str, int]] = []
    is_away, now = True, 0.0

    def send(some: Sequence[Record]) -> None:
        if is_away and some[0].kind == "images":
            raise RuntimeError("the store is away")
        seen.extend((record.kind, record.step) for record in some)

    outbox = BackgroundOutbox(send, "server", tmp_path / "unsent.jsonl", clock=lambda: now)
    for step in range(4):
        for kind in ("scalars", "images"):
            outbox.put(Record(kind, step, 0.0, {("x",): 1}))  # type: ignore[arg-type]
        assert outbox.flush()
    assert seen == [("scalars", step) for step in range(4)]
    assert "accepts no images at present (RuntimeError: the store is away)" in caplog.text
    is_away, now = False, 100.0
    outbox.put(Record("images", 4, 0.0, {("x",): 1}))
    outbox.close()

    assert seen[4:] == [("images", step) for step in range(5)]
    assert len(caplog.records) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_refused_value_at_the_head_of_the_file_blocks_nothing(tmp_path: Path) -> None:
    send, now = Picky(broken), 0.0
    outbox = BackgroundOutbox(send, "server", tmp_path / "unsent.jsonl", clock=lambda: now)
    for value in (-1, 2, 3):
        outbox.put(records(value)[0])
        assert outbox.flush()
    assert send.values == [], "the first one failed alone: the back-end may be away"
    now = 1.0
    outbox.close()

    assert sorted(send.values) == [2, 3]
    (kept,) = (of_line(line) for line in (tmp_path / "unsent.jsonl").read_text().splitlines())
    assert (kept.values["x",], kept.is_refused) == (-1, True)


class Sending(MediaLogger):
    def __init__(self, send: Any, **kwargs: Any) -> None:
        self._picky = send
        super().__init__(list, **kwargs)

    def send(self, records: Sequence[Record]) -> None:
        self._picky(records)


def test_resend_sends_the_others_and_leaves_what_is_refused_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "unsent.jsonl"
    path.write_text("".join(as_line(record) + "\n" for record in records(1, -2, 3, -4)))
    send = Picky(negative)
    Sending(send).resend(path)

    assert send.values == [1, 3]
    assert [message.levelname for message in caplog.records] == ["ERROR"]
    assert "2 records are refused (the first one: ValueError: -2 is negative)" in caplog.text
    more = Picky(lambda value: None)
    Sending(more).resend(path)
    assert more.values == [-2, -4]
    assert not path.exists()


def test_resend_to_a_back_end_that_is_away_raises_and_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "unsent.jsonl"
    path.write_text("".join(as_line(record) + "\n" for record in records(1, 2, 3)))
    with pytest.raises(ConnectionError, match=r"http://\*\*\*@host"):
        Sending(Picky(lambda value: ConnectionError("http://me:secret@host is away"))).resend(path)

    assert [of_line(line).step for line in path.read_text().splitlines()] == [0, 1, 2]
    assert "secret" not in path.read_text()
    with pytest.raises(FileNotFoundError):
        Sending(Picky(negative)).resend(tmp_path / "other.jsonl")


# --- values that nothing knows ---


class Hostile:
    """Raises whatever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __float__(self) -> float:
        raise SystemExit(3)


class Whole(int):
    def __str__(self) -> str:
        raise RuntimeError("no text")


ODD = [
    fractions.Fraction(1, 3),
    decimal.Decimal("0.1"),
    1j,
    torch.tensor(1j),
    torch.ones(2, 3),
    torch.ones(1, device="meta"),
    {1, 2},
    b"bytes",
    object(),
    Hostile(),
    Whole(3),
    None,
    10**5000,
    -(10**400),
    "\udcff",
    np.float32(0.5),
    np.arange(3),
    np.array(1j),
    np.array(["a"], dtype=object),
    np.datetime64("2020-01-01"),
    np.bool_(True),
    [1, 2],
    {"a": 1},
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_no_value_ends_the_thread(tmp_path: Path, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logger = TensorboardLogger(log_dir=str(tmp_path / "run"))
    for step in range(3):
        logger.scalars(step, {("before",): 1.0, ("odd",): value, ("after",): 2.0})
        logger.texts(step, {("text",): value})
    logger.close()

    read = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in read.Scalars("before")] == [0, 1, 2]
    assert [event.step for event in read.Scalars("after")] == [0, 1, 2]
    assert "odd" in read.Tags()["scalars"] or len(list(tmp_path.glob("*unsent*"))) == 1


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_every_value_has_a_line(value: Any) -> None:
    line = as_line(Record("scalars", 1, 0.0, {("x", "\udcff"): value}))

    assert line.isascii()
    assert of_line(line).step == json.loads(line)["step"] == 1


@pytest.mark.filterwarnings("ignore:OutputHandler")
@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_no_output_ends_a_run_that_is_logged(tmp_path: Path, value: Any) -> None:
    engine = Engine(lambda engine, batch: {"odd": value, "loss": 0.5})
    seen: list[tuple[str, ...]] = []
    logger = Sending(lambda some: seen.extend(key for record in some for key in record.values))
    logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="t", output_transform=lambda output: output)
    assert engine.run(range(3)).iteration == 3
    logger.close()

    assert seen.count(("t", "loss")) == 3


def test_half_a_surrogate_pair_is_shown_where_it_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with TensorboardLogger(log_dir="run") as logger:
        logger.scalars(1, {("bad \udcff",): 0.5, ("é",): 1.0})
        logger.texts(1, {("note",): "bad \udcff"})

    tags = EventAccumulator("run").Reload().Tags()
    assert sorted(tags["scalars"]) == ["bad__udcff", "é"]
    assert len(tags["tensors"]) == 1
    assert list(tmp_path.glob("*unsent*")) == []


@pytest.mark.parametrize("key", [(1,), ("a", None), 7, (Hostile(),)], ids=["int", "None", "not a tuple", "hostile"])
def test_no_name_ends_the_thread(tmp_path: Path, key: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with TensorboardLogger(log_dir="run") as logger:
        for step in range(3):
            logger.scalars(step, {key: 1.0})
            logger.scalars(step, {("loss",): 0.5})

    assert [event.step for event in EventAccumulator("run").Reload().Scalars("loss")] == [0, 1, 2]


def test_an_array_is_as_it_was_when_it_was_logged() -> None:
    array = np.zeros(2)
    copy = plain(array)
    array[:] = 1

    assert copy.tolist() == [0, 0]


def test_tensors_on_the_cpu_do_not_reach_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put: list[Record] = []
    monkeypatch.setattr(BackgroundOutbox, "put", lambda self, record: put.append(record))
    logger = TensorboardLogger(log_dir=str(tmp_path / "run"))
    logger.histograms(1, {("h",): torch.ones(2, dtype=torch.bfloat16)})
    logger.images(1, {("i",): torch.ones(1, 2, 2, requires_grad=True)})
    logger.scalars(1, {("s",): torch.tensor(0.5), ("loss",): 0.5})

    values = [value for record in put for value in record.values.values()]
    assert not any(isinstance(value, torch.Tensor) for value in values)


def test_a_diverging_gradient_stops_no_other_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorBoard's writers refuse histograms of values beyond 1e20."""
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Linear(1, 1)

    def step(engine: Engine, loss: float) -> float:
        model.weight.grad = torch.full((1, 1), 1e21 if engine.state.iteration == 2 else 1.0)
        model.bias.grad = torch.ones(1)
        return loss

    trainer = Engine(step)
    with TensorboardLogger(log_dir="run") as logger, caplog.at_level(logging.WARNING):
        logger.attach(trainer, GradsHistHandler(model), Events.ITERATION_COMPLETED)
        logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, tag="t", output_transform=float)
        trainer.run([0.5] * 10)

    read = EventAccumulator("run", size_guidance={"histograms": 0}).Reload()
    assert [event.step for event in read.Scalars("t/output")] == list(range(1, 11))
    assert [event.step for event in read.Histograms("grads/bias")] == list(range(1, 11))
    assert [event.step for event in read.Histograms("grads/weight")] == [1, *range(3, 11)]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (path,) = tmp_path.glob("*unsent*")
    (kept,) = (of_line(line) for line in path.read_text().splitlines())
    assert (kept.step, kept.values["grads", "weight"].tolist()) == (2, [[np.float32(1e21)]])
    assert kept.reason


def test_two_loggers_of_one_second_have_a_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of two processes, and of two hosts on a shared folder."""
    monkeypatch.chdir(tmp_path)
    paths = {Sending(Picky(negative))._outbox.spool.path for _ in range(20)}

    assert len(paths) == 20


# --- the end ---


def test_the_thread_has_ended_when_a_logger_is_closed(tmp_path: Path) -> None:
    outbox = BackgroundOutbox(Picky(negative), "server", tmp_path / "unsent.jsonl")
    outbox.put(records(1)[0])
    (thread,) = (one for one in threading.enumerate() if one.name == "server outbox")
    outbox.close()

    assert not thread.is_alive()


def test_a_process_of_multiprocessing_that_closes_nothing_loses_nothing(tmp_path: Path) -> None:
    """Functions of atexit are not called there."""
    found = tmp_path / "found"

    def work() -> None:
        outbox = BackgroundOutbox(lambda some: found.write_text(f"{len(some)}"), "server", tmp_path / "unsent.jsonl")
        for record in records(1, 2, 3):
            outbox.put(record)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)

    assert process.exitcode == 0
    assert found.read_text() == "3"


ENDS = {"open": "None", "SystemExit": "sys.exit(0)", "exception": "1 / 0"}

SCRIPT = """
import atexit, sys, threading
at_the_end = lambda: print("alive:", [one.name for one in threading.enumerate() if one is not threading.main_thread()])
atexit.register(at_the_end)  # called last
import torch
from ignite_core.engine import Engine, Events
from ignite_core.handlers import WeightsHistHandler
from ignite_contrib.loggers import ProgressBar, TensorboardLogger, VisdomLogger

model = torch.nn.Linear(10, 10)
trainer = Engine(lambda engine, batch: model(torch.rand(2, 10)).sum())
for logger in (TensorboardLogger(log_dir="run"), VisdomLogger(port=9)):
    logger.attach(trainer, WeightsHistHandler(model), Events.ITERATION_COMPLETED)
    logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, tag="t", output_transform=lambda output: output)
ProgressBar().attach(trainer)
trainer.add_event_handler(Events.ITERATION_COMPLETED(once=10), lambda: THE_END)
trainer.run(range(20))
"""


@pytest.mark.parametrize("end", ENDS if FULL else ["exception"])
def test_no_thread_of_a_logger_or_bar_is_alive_when_the_program_has_ended(tmp_path: Path, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("THE_END", ENDS[end])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert "alive: []" in done.stdout, done.stderr
    assert done.returncode == (1 if end == "exception" else 0)
    steps = [event.step for event in EventAccumulator(str(tmp_path / "run")).Reload().Scalars("t/output")]
    assert steps == list(range(1, 21 if end == "open" else 10))

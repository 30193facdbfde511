"""What is logged to a server that is slow, away or broken: nothing waits for it, and nothing is lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from ignite_contrib.loggers.delivery.background import BackgroundOutbox
from ignite_contrib.loggers.delivery.outbox import Outbox
from ignite_contrib.loggers.delivery.record import Record, as_line, of_line
from ignite_contrib.loggers.delivery.spool import Spool


def record(step: int) -> Record:
    return Record("scalars", step, 0.0, {("training", "loss"): step / 2})


class Server:
    """Takes records, unless it is away; and can be made to wait."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.is_away = False
        self.calls = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_asked = threading.Event()

    def __call__(self, records: Sequence[Record]) -> None:
        self.calls += 1
        self.is_asked.set()
        assert self.may_answer.wait(30)
        if self.is_away:
            raise ConnectionError("nobody listens")
        self.steps += [one.step for one in records]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_records_arrive_in_their_order_with_few_calls(tmp_path: Path) -> None:
    server = Server()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl")
    server.may_answer.clear()
    for step in range(1200):
        outbox.put(record(step))
    server.may_answer.set()
    outbox.close()

    assert server.steps == list(range(1200))
    assert server.calls <= 5
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_waited_for_in_the_thread_alone(tmp_path: Path) -> None:
    found = []
    outbox = BackgroundOutbox(found.extend, "server", tmp_path / "unsent.jsonl")
    outbox.put(Record("scalars", 1, 0.0, {("loss",): torch.tensor(0.5), ("epoch",): 1}))
    outbox.close()

    assert dict(found[0].values) == {("loss",): 0.5, ("epoch",): 1}


def test_a_server_that_is_away_is_told_of_once_and_gets_everything_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, clock = Server(), Clock()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl", clock=clock)
    server.is_away = True
    with caplog.at_level(logging.WARNING):
        for step in range(5):
            outbox.put(record(step))
            assert outbox.flush()
        assert server.calls == 1, "it is given a rest"
        assert len((tmp_path / "unsent.jsonl").read_text().splitlines()) == 5
        server.is_away, clock.now = False, 1.0
        outbox.put(record(5))
        assert outbox.flush()

    assert server.steps == [0, 1, 2, 3, 4, 5]
    assert len(caplog.records) == 1
    assert "accepts nothing at present (ConnectionError: nobody listens)" in caplog.text
    outbox.close()
    assert list(tmp_path.iterdir()) == []


def test_the_pauses_grow_while_a_server_stays_away(tmp_path: Path) -> None:
    server, clock = Server(), Clock()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl", clock=clock)
    server.is_away = True
    asked_at = []
    for second in range(130):
        clock.now, before = float(second), server.calls
        outbox.put(record(second))
        assert outbox.flush()
        if server.calls > before:
            asked_at.append(second)
    outbox.close()

    assert asked_at == [0, 1, 3, 7, 15, 31, 63, 123]


def test_the_end_tries_once_more_and_says_where_the_rest_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "unsent.jsonl"
    server = Server()
    server.is_away = True
    outbox = BackgroundOutbox(server, "server", path)
    outbox.put(record(1))
    assert outbox.flush()
    with caplog.at_level(logging.WARNING):
        outbox.close()

    assert server.calls == 2
    assert f"they are in {path}, and resend(path)" in caplog.text
    assert steps_in(path) == [1]


def test_a_server_that_does_not_answer_holds_up_nobody_for_longer_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "unsent.jsonl"
    server = Server()
    server.may_answer.clear()
    outbox = BackgroundOutbox(server, "server", path)
    outbox.put(record(1))
    assert server.is_asked.wait(30)
    for step in (2, 3):
        outbox.put(record(step))

    outbox.close(timeout_s=0.1)

    kept = [of_line(line).step for line in path.read_text().splitlines()]
    assert kept == [1, 2, 3], "the one under way may arrive twice"
    server.may_answer.set()


def test_what_is_put_after_the_end_is_sent_too(tmp_path: Path) -> None:
    server = Server()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl")
    outbox.put(record(1))
    outbox.close()
    outbox.put(record(2))
    outbox.close()

    assert server.steps == [1, 2]


def test_memory_is_bounded(tmp_path: Path) -> None:
    server = Server()
    server.may_answer.clear()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl", capacity=10)
    outbox.put(record(0))
    assert server.is_asked.wait(30)
    for step in range(1, 100):
        outbox.put(record(step))

    assert len(outbox._waiting) <= 10
    server.may_answer.set()
    outbox.close()
    assert sorted(server.steps) == list(range(100))


def test_a_full_disk_loses_nothing_as_long_as_there_is_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, clock = Server(), Clock()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl", clock=clock)
    server.is_away = True

    def full(self: Spool, records: Sequence[Record]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "add", full)
    monkeypatch.setattr("ignite_contrib.loggers.delivery.background._STUCK_S", 0.001)
    for step in range(3):
        outbox.put(record(step))
    server.is_away, clock.now = False, 100.0
    outbox.close()

    assert server.steps == [0, 1, 2]


def test_where_neither_server_nor_disk_takes_anything_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not the end of a run, and not who logs: the thread tries again when a pause is over, not at each record."""
    server, tries = Server(), []

    def full(self: Spool, records: Sequence[Record]) -> None:
        tries.append(len(records))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "add", full)
    monkeypatch.setattr("ignite_contrib.loggers.delivery.background._STUCK_S", 1000.0)
    server.is_away = True
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl")
    outbox.put(record(0))
    assert not outbox.flush(timeout_s=1000.0), "it is over as soon as nothing can be done"
    tried = len(tries)
    for step in range(1, 100):
        outbox.put(record(step))
    assert len(tries) == tried
    assert not outbox.flush(timeout_s=1000.0)
    assert len(tries) == tried + 1
    outbox.close()
    assert "100 records are lost" in caplog.text


def test_more_records_than_the_capacity_are_kept_if_there_is_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, clock, tries = Server(), Clock(), []

    def full(self: Spool, records: Sequence[Record]) -> None:
        tries.append(len(records))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "add", full)
    server.may_answer.clear()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl", capacity=10, clock=clock)
    outbox.put(record(0))
    assert server.is_asked.wait(30)
    for step in range(1, 1000):
        outbox.put(record(step))
    assert len(tries) <= 8, "each time there are twice as many"
    server.may_answer.set()
    outbox.close()

    assert server.steps == list(range(1000))


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "unsent.jsonl")
    spool.add([record(1)])
    whole = spool.path.read_bytes()
    with pytest.raises(OSError, match="File too large"):
        add_with_limit(spool, len(whole) + 10)

    assert spool.path.read_bytes() == whole
    spool.add([record(3)])
    assert steps_in(spool.path) == [1, 3]


def add_with_limit(spool: Spool, limit: int) -> None:
    """The system takes only so many bytes of a file, as if the disk were full."""
    import resource
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        spool.add([record(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_what_a_sweep_could_not_send_stays_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite_contrib.loggers.delivery.spool._BATCH", 2)
    spool = Spool(tmp_path / "unsent.jsonl")
    spool.add([record(step) for step in range(6)])
    seen: list[int] = []

    def deliver(records: list[Record]) -> list[Record]:
        seen.extend(one.step for one in records)
        if records[0].step == 0:
            spool.add([record(6)])  # as other threads do
        return [one for one in records if one.step >= 2]

    spool.sweep(deliver)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert sorted(steps_in(spool.path)) == [2, 3, 4, 5, 6]
    assert spool.pending == {"scalars"}
    spool.sweep(lambda records: [])
    assert not spool.pending
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_breaks_off_leaves_what_it_has_not_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ignite_contrib.loggers.delivery.spool._BATCH", 2)
    spool = Spool(tmp_path / "unsent.jsonl")
    spool.add([record(step) for step in range(5)])

    def deliver(records: list[Record]) -> list[Record]:
        if records[0].step == 2:
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt):
        spool.sweep(deliver)
    assert steps_in(spool.path) == [2, 3, 4]
    assert spool.pending


def steps_in(path: Path) -> list[int]:
    return [of_line(line).step for line in path.read_text().splitlines()]


@pytest.mark.parametrize("value", [0.1, -3, "text", float("inf"), torch.rand(2, 3), torch.arange(4), torch.empty(0)])
def test_a_record_is_the_same_when_it_was_in_a_file(value: object) -> None:
    back = of_line(as_line(Record("images", 7, 1.5, {("a", "b"): value})))

    assert (back.kind, back.step, back.time, list(back.values)) == ("images", 7, 1.5, [("a", "b")])
    found = back.values["a", "b"]
    if isinstance(value, torch.Tensor):
        assert found.dtype == value.numpy().dtype
        assert np.array_equal(found, value.numpy())
    else:
        assert found == value


@pytest.mark.parametrize("line", ["", "3", "{}", '{"kind": "scalars", "step": 1, "time": 0, "values": [1]}'])
def test_what_is_no_record_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="a line must be a record"):
        of_line(line)


def test_records_wait_for_more_of_them_but_not_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite_contrib.loggers.delivery.background._GATHER_S", 600)
    server = Server()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl")
    for step in (1, 2, 3):
        outbox.put(record(step))
    assert outbox.flush(), "a flush does not wait for more"
    assert (server.steps, server.calls) == ([1, 2, 3], 1)
    outbox.close()

    monkeypatch.setattr("ignite_contrib.loggers.delivery.background._GATHER_S", 0.01)
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl")
    server.is_asked.clear()
    outbox.put(record(4))
    assert server.is_asked.wait(30), "it goes without a flush"
    outbox.close()


def test_a_full_batch_does_not_wait_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite_contrib.loggers.delivery.background._GATHER_S", 600)
    server = Server()
    outbox = BackgroundOutbox(server, "server", tmp_path / "unsent.jsonl")
    for step in range(500):
        outbox.put(record(step))

    assert server.is_asked.wait(30)
    outbox.close()


@pytest.mark.parametrize("run", ["", "run 7"])
def test_a_line_tells_to_which_run_it_belongs(run: str) -> None:
    line = as_line(Record("scalars", 1, 0.0, {("loss",): 0.5}, run))

    assert ("run" in line) == bool(run)
    assert of_line(line).run == run


def test_the_thread_computes_a_fiftieth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes turns with the training, in Python."""
    seconds = iter([0.0, 0.2, 1.0, 1.001])
    monkeypatch.setattr("ignite_contrib.loggers.delivery.background.time.thread_time", lambda: next(seconds))
    outbox = BackgroundOutbox(Server(), "server", tmp_path / "unsent.jsonl")
    rests = []
    for step in (1, 2):
        outbox.put(record(step))
        assert outbox.flush()
        rests.append(outbox._gather_s)
    outbox.close()

    assert rests == [pytest.approx(10.0), 0.5]


# --- clients that queue by themselves ---


def test_an_outbox_without_a_thread_sends_at_once(tmp_path: Path) -> None:
    threads = []
    outbox = Outbox(lambda records: threads.append(threading.current_thread()), "server", tmp_path / "unsent.jsonl")
    outbox.put(Record("scalars", 1, 0.0, {("loss",): torch.tensor(0.5)}))

    assert threads == [threading.current_thread()]
    outbox.close()
    assert list(tmp_path.iterdir()) == []


def test_an_outbox_without_a_thread_keeps_what_is_not_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No error of the client ends the run; the values arrive as soon as it accepts them."""
    server, clock, path = Server(), Clock(), tmp_path / "unsent.jsonl"
    outbox = Outbox(server, "server", path, clock=clock)
    server.is_away = True
    for step in range(3):
        outbox.put(record(step))
    assert server.calls == 1, "it is not called during the pause"
    assert steps_in(path) == [0, 1, 2]
    server.is_away, clock.now = False, 1.0
    outbox.put(record(3))

    assert server.steps == [0, 1, 2, 3]
    assert len(caplog.records) == 1
    outbox.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_outbox_without_a_thread_swallows_no_interrupt(error: type[BaseException], tmp_path: Path) -> None:
    """A signal handler may raise it while the client is called."""

    def send(records: Sequence[Record]) -> None:
        raise error

    with pytest.raises(error):
        Outbox(send, "server", tmp_path / "unsent.jsonl").put(record(1))


def test_a_disk_that_is_full_is_reported_by_an_outbox_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Spool, records: Sequence[Record]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spool, "add", full)
    server = Server()
    server.is_away = True
    Outbox(server, "server", tmp_path / "unsent.jsonl").put(record(1))

    assert "1 records are lost" in caplog.text

"""Servers that drip, never end, or are something else: nothing waits for them, and values are kept."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ignite_contrib.loggers import MLflowLogger, VisdomLogger
from ignite_contrib.loggers.delivery.http import call_within, check_responds, read_text
from ignite_contrib.loggers.delivery.record import of_line

pytest.importorskip("mlflow")
pytest.importorskip("visdom")

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"


def page(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEAD + b"Content-Length: 20\r\n\r\n<html>hello</html>\r\n")


def other_json(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEAD + b'Content-Length: 12\r\n\r\n{"ok": true}')


def dripping_body(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while not stop.wait(0.02):
        connection.sendall(b"x")


def dripping_head(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEAD)
    while not stop.wait(0.02):
        connection.sendall(b"X")


def endless(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(HEAD + b"\r\n")
    while not stop.is_set():
        connection.sendall(b"x" * 65536)


@contextmanager
def server(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    stop, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65536)
            answer(connection, stop)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


BAD = [page, other_json, dripping_body, dripping_head, endless]


@pytest.fixture(autouse=True)
def short_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ignite_contrib.loggers.visdom._CHECK_S", 0.3)
    monkeypatch.setattr("ignite_contrib.loggers.visdom._TIMEOUT_S", 0.3)
    monkeypatch.setattr("ignite_contrib.loggers.mlflow._START_S", 1)
    monkeypatch.setattr("ignite_contrib.loggers.mlflow._SEND_S", 1)
    monkeypatch.setattr(MLflowLogger, "wait_s", 3.0)
    monkeypatch.setattr(VisdomLogger, "wait_s", 1.0)


@pytest.mark.parametrize("answer", BAD)
def test_values_for_visdom_are_kept(answer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "unsent.jsonl"
    with server(answer) as port:
        began = time.monotonic()
        with VisdomLogger("http://alice:S3CRET@127.0.0.1", port, unsent=path) as logger:
            logger.scalars(1, {("loss",): 0.5})
        assert time.monotonic() - began < 5

    assert [of_line(line).values["loss",] for line in path.read_text().splitlines()] == [0.5]
    assert "S3CRET" not in caplog.text + path.read_text()
    if answer in (page, other_json):
        assert "there must be a Visdom server at http://***@127.0.0.1" in caplog.text


@pytest.mark.parametrize("answer", BAD)
def test_on_demand_visdom_is_refused_in_time(answer: Any) -> None:
    with server(answer) as port:
        began = time.monotonic()
        with pytest.raises(RuntimeError, match=r"there must be a Visdom server at http://\*\*\*@127") as caught:
            VisdomLogger("http://alice:S3CRET@127.0.0.1", port, raise_exceptions=True)
        assert time.monotonic() - began < 5

    assert "S3CRET" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize("answer", BAD)
def test_a_run_of_mlflow_starts_and_ends_in_time(
    answer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    before, path = mlflow.get_tracking_uri(), tmp_path / "unsent.jsonl"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    try:
        with server(answer) as port:
            began = time.monotonic()
            with MLflowLogger(f"http://alice:S3CRET@127.0.0.1:{port}", unsent=path) as logger:
                logger.scalars(1, {("loss",): 0.5})
            assert time.monotonic() - began < 10
            assert "S3CRET" not in mlflow.get_tracking_uri()
    finally:
        mlflow.set_tracking_uri(before)

    assert mlflow.active_run() is None
    assert [of_line(line).values["loss",] for line in path.read_text().splitlines()] == [0.5]
    assert "S3CRET" not in caplog.text + path.read_text()


def test_what_takes_too_long_is_not_waited_for() -> None:
    may_end = threading.Event()
    with pytest.raises(TimeoutError, match=r"did not respond within 0\.05 s"):
        call_within(0.05, may_end.wait)
    may_end.set()

    assert call_within(10, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        call_within(10, lambda: 1 / 0)


class Answer:
    def __init__(self, size: int) -> None:
        self.size = size

    def iter_content(self, size: int) -> Iterator[bytes]:
        return (b"x" for _ in range(self.size))


def test_an_answer_is_read_up_to_a_limit() -> None:
    assert read_text(Answer(3), time.monotonic() + 10) == "xxx"
    with pytest.raises(OSError, match="longer than 65,536 bytes"):
        read_text(Answer(10**9), time.monotonic() + 100)
    with pytest.raises(TimeoutError, match="does not end"):
        read_text(Answer(3), time.monotonic() - 1)


def test_a_server_that_is_not_there_is_left_to_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    check_responds(f"http://127.0.0.1:{port}", 5)


@pytest.mark.parametrize("kind", [MLflowLogger, VisdomLogger])
def test_a_password_that_would_be_taken_for_a_port_is_refused_and_not_shown(kind: Any) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}: the address must be like .*%2F") as caught:
        kind("http://alice:S3C/RET@127.0.0.1")

    assert "S3C" not in "".join(traceback.format_exception_only(caught.value))

"""Passwords in addresses are neither printed nor kept."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

import pytest

from ignite_contrib.loggers import MediaLogger
from ignite_contrib.loggers._redact import reason_of, redact, redacted
from ignite_contrib.loggers.delivery.record import Record

SECRET = "S3CRET"

TEXTS = [
    f"http://alice:{SECRET}@host:5000/api failed",
    f"GET 'https://{SECRET}@host/'",
    f"postgresql+psycopg2://alice:{SECRET}%2F@db/mlflow",
    f"http://alice:{SECRET}@in/it@host/",
    f"Max retries exceeded with url: /runs?id=1&access_token={SECRET} (Caused by ...)",
    f"https://host/x?sig={SECRET}#part",
    f"{{'Authorization': 'Basic {SECRET}'}}",
    f"Authorization: Bearer {SECRET}",
    f"password={SECRET}, user=alice",
    f'{{"api_key": "{SECRET}"}}',
]


@pytest.mark.parametrize("text", TEXTS)
def test_no_secret_is_left_in_a_text(text: str) -> None:
    assert SECRET not in redacted(text)
    assert SECRET not in reason_of(OSError(text))


@pytest.mark.parametrize("text", ["a@b: 3 of 5", "http://host:5000/api?", "step 3: loss = 0.5; lr=1", "/a/b@2"])
def test_other_texts_are_as_they_were(text: str) -> None:
    assert redacted(text) == text


def test_a_reason_is_one_short_line_that_can_be_printed() -> None:
    reason = reason_of(ValueError("one\n\x1b[2Jtwo " + "x" * 10_000))

    assert reason.isprintable()
    assert reason.startswith("ValueError: one [2Jtwo xxx")
    assert len(reason) < 600


def test_an_error_is_raised_without_secrets_with_all_that_caused_it() -> None:
    class ApiError(Exception):
        def __init__(self, message: str) -> None:
            self.message = message
            super().__init__(message)

    error = ApiError(f"http://alice:{SECRET}@host failed")
    error.__context__ = OSError(ConnectionError(f"/x?token={SECRET}"))
    error.__context__.__context__ = error  # a circle
    redact(error)

    assert SECRET not in "".join(traceback.format_exception(error)) + error.message
    assert str(error) == "http://***@host failed"


class Refusing(MediaLogger):
    def send(self, records: Sequence[Record]) -> None:
        raise (ConnectionError if records[0].kind == "scalars" else ValueError)(f"http://alice:{SECRET}@host says no")


def test_no_secret_is_logged_or_kept_in_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "unsent.jsonl"
    with caplog.at_level(logging.DEBUG), Refusing(list, unsent=path) as logger:
        logger.scalars(1, {("loss",): 0.5})
        logger._put("texts", 1, {("note",): "text"})

    assert "http://***@host says no" in path.read_text()
    assert SECRET not in path.read_text() + caplog.text
    assert len(caplog.records) == 3, "one kind is away, one is refused, and the end says where the rest is"

"""Answers of servers, of which neither the time nor the size is without a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from ignite_core.threads import start_thread

__all__ = ["check_answers", "text_of_answer", "within"]

T = TypeVar("T")

#: Bytes of an answer; those to what is logged are short.
_LONGEST = 1 << 16


def within(timeout_s: float, call: Callable[[], T]) -> T:
    """The value of ``call()``, which is given so many seconds in all; after that it goes on alone.

    A timeout of a connection counts for each read, so a server that sends a byte now and then is waited for forever.

    Raises:
        TimeoutError: If it takes longer.
        Exception: Of ``call``.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    start_thread(run, "waits for an answer", lambda: None, join_s=1.0).join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"the server has not answered within {timeout_s:g} s")
    return results[0]


def text_of_answer(answer: Any, deadline: float) -> str:
    """The text of an answer of requests, made with ``stream=True``.

    Raises:
        OSError: If it is too long, or not there before ``time.monotonic()`` is the deadline.
    """
    content = bytearray()
    for part in answer.iter_content(1):  # a longer part is waited for until it is whole
        content += part
        if len(content) > _LONGEST:
            raise OSError(f"the server answers more than {_LONGEST:,} bytes, which is none of its answers")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer of the server does not end")
    return content.decode("utf-8", "replace")


def check_answers(url: str, timeout_s: float) -> None:
    """Do nothing if a server answers in time, whatever it says, or refuses the connection.

    Raises:
        OSError: If the answer is not there in time, or does not end.
    """
    import requests

    def get() -> None:
        try:
            with requests.get(url, timeout=timeout_s, stream=True) as answer:
                text_of_answer(answer, time.monotonic() + timeout_s)
        except requests.Timeout:
            raise
        except requests.RequestException:
            return

    within(timeout_s, get)

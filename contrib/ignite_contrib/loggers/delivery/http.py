"""HTTP calls that are limited in time and in the size of the response."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from ignite_core.threads import start_thread

__all__ = ["call_within", "check_responds", "read_text"]

T = TypeVar("T")

#: Largest response in bytes; responses to logging calls are short.
_MAX_BYTES = 1 << 16


def call_within(timeout_s: float, call: Callable[[], T]) -> T:
    """Return ``call()``; after ``timeout_s`` seconds stop waiting for it.

    The timeout of a connection counts for each read, so it does not limit a server that sends a byte now and then.

    Raises:
        TimeoutError: If it takes longer.
        Exception: Raised by ``call``.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    start_thread(run, "waits for a response", lambda: None, join_s=1.0).join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"the server did not respond within {timeout_s:g} s")
    return results[0]


def read_text(response: Any, deadline: float) -> str:
    """Read the body of a streamed response of requests.

    Raises:
        OSError: If it is too long, or not complete when ``time.monotonic()`` reaches the deadline.
    """
    content = bytearray()
    for part in response.iter_content(1):  # a larger chunk is returned only when it is complete
        content += part
        if len(content) > _MAX_BYTES:
            raise OSError(f"the response of the server is longer than {_MAX_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("the response of the server does not end")
    return content.decode("utf-8", "replace")


def check_responds(url: str, timeout_s: float) -> None:
    """Return if a server sends any complete response in time, or refuses the connection.

    Raises:
        OSError: If the response is late or does not end.
    """
    import requests

    def get() -> None:
        try:
            with requests.get(url, timeout=timeout_s, stream=True) as response:
                read_text(response, time.monotonic() + timeout_s)
        except requests.Timeout:
            raise
        except requests.RequestException:
            return

    call_within(timeout_s, get)

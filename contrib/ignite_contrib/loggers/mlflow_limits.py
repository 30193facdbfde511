"""What MLflow takes, and what is made of the rest: names, long values, how much at once, how long to wait."""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["MOST_METRICS", "MOST_PARAMS", "Names", "chunks", "cut", "forget_run", "impatient", "without_user"]

T = TypeVar("T")

_logger = logging.getLogger(__name__)

#: Of one call.
MOST_METRICS: Final = 1000
MOST_PARAMS: Final = 100

#: Characters of a name, and of the value of a parameter.
_LONGEST_NAME: Final = 250
_LONGEST_VALUE: Final = 6000


class Names:
    """Names for MLflow: parts joined by spaces, as in pytorch-ignite, and what it refuses replaced, which is said once.

    Two names never become the same one.

    Args:
        allowed: A regular expression for the characters that may stand in a name.

    Example:
        >>> names = Names()
        >>> names(("training", "loss")), names(("recall@5", "0")), names(("recall#5", "0"))
        ('training loss', 'recall_5 0', 'recall_5 0 596187')
    """

    def __init__(self, allowed: str = r"[/\w.\- ]" if os.name == "nt" else r"[/\w.\- :]") -> None:
        self._refused = re.compile(allowed.replace("[", "[^", 1))
        self._known: dict[str, str] = {}  # by the name that was wanted
        self._taken: set[str] = set()

    def __call__(self, key: Sequence[str]) -> str:
        wanted = " ".join(key)
        name = self._known.get(wanted)
        if name is None:
            name = self._known[wanted] = self._new(wanted)
            self._taken.add(name)
        return name

    def _new(self, wanted: str) -> str:
        name = self._refused.sub("_", wanted)
        if _is_no_file(name):
            name = "/".join(part if part.strip(".") else "_" for part in name.split("/"))
        if len(name) > _LONGEST_NAME or name in self._taken:
            digest = hashlib.sha256(wanted.encode()).hexdigest()[:6]
            name = f"{name[: _LONGEST_NAME - 7]} {digest}"
        if name != wanted:
            _logger.warning("MLflowLogger: MLflow does not take the name %.300r; it is logged as %r", wanted, name)
        return name


def _is_no_file(name: str) -> bool:
    """Whether a name would be another one, or in another folder, if it named a file: MLflow refuses these."""
    path = posixpath.normpath(name)
    return path != name or path.startswith(("..", "/")) or path == "."


def cut(name: str, value: object) -> str:
    """The value of a parameter as text; if it is too long, its beginning, which is said.

    Example:
        >>> cut("seed", 12)
        '12'
    """
    text = str(value)
    if len(text) > _LONGEST_VALUE:
        _logger.warning(
            "MLflowLogger: the value of the parameter %r has %d characters, MLflow takes %d; the rest is cut off",
            name,
            len(text),
            _LONGEST_VALUE,
        )
    return text[:_LONGEST_VALUE]


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Items in their order, at most so many at once.

    Example:
        >>> list(chunks([1, 2, 3], 2))
        [[1, 2], [3]]
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]


_RETRIES: Final = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_TIMEOUT: Final = "MLFLOW_HTTP_REQUEST_TIMEOUT"

_lock = threading.Lock()
_waiting: list[int] = []  # seconds that each one who is in `impatient` now wants to wait
_ours: set[str] = set()  # variables that it has set


@contextmanager
def impatient(timeout_s: int) -> Iterator[None]:
    """Have MLflow give up after one try of so many seconds, where it would go on for minutes.

    It reads that from the environment, which is as before when the last one leaves; what the user has set there holds.
    """
    with _lock:
        if not _waiting:
            _ours.update({_RETRIES, _TIMEOUT} - os.environ.keys())
        _waiting.append(timeout_s)
        _set_environment()
    try:
        yield
    finally:
        with _lock:
            _waiting.remove(timeout_s)
            _set_environment()


def _set_environment() -> None:
    if _waiting:
        wanted = {_RETRIES: "0", _TIMEOUT: str(min(_waiting))}
        os.environ.update({name: wanted[name] for name in _ours})
        return
    for name in _ours:
        os.environ.pop(name, None)
    _ours.clear()


def without_user(uri: str) -> str:
    """A URI of a server without its user and password, which go to the variables from which MLflow reads them.

    MLflow would print them with each address that it shows.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.username or not parts.password:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def forget_run(run_id: str) -> None:
    """Have MLflow take a run for one that has ended, without a call of the server."""
    fluent: Any = import_module("mlflow.tracking.fluent")
    runs = fluent._active_run_stack.get()
    runs[:] = [run for run in runs if run.info.run_id != run_id]

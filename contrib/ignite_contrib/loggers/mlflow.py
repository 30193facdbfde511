"""MLflow: metrics, parameters, images, figures and texts of a run."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import posixpath
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

from ignite_contrib._require import require
from ignite_contrib.loggers._media import MediaLogger, as_bytes
from ignite_contrib.loggers._redact import check_address, reason_of, redact, redacted
from ignite_contrib.loggers.delivery.deliver import each, singles
from ignite_contrib.loggers.delivery.http import check_responds
from ignite_contrib.loggers.delivery.record import Record, text_of
from ignite_core.handlers import OptimizerParamsHandler, OutputHandler, global_step_from_engine

__all__ = ["MLflowLogger", "OptimizerParamsHandler", "OutputHandler", "global_step_from_engine"]

_logger = logging.getLogger(__name__)

#: Timeouts in seconds of one call of MLflow: in the constructor, in the thread, and at the end.
_START_S, _SEND_S, _END_S = 5, 30, 1

#: Limits of MLflow: metrics and parameters in one call, characters of a name and of the value of a parameter.
_MAX_METRICS, _MAX_PARAMS, _MAX_NAME, _MAX_VALUE = 1000, 100, 250, 6000


class MLflowLogger(MediaLogger):
    """Logs to `MLflow <https://mlflow.org>`_ in the background, many values in one call.

    It writes to the active run of MLflow, or starts one. If the server is unavailable then, the run is started as soon
    as it is available. Parts of names are joined by spaces: ``"training loss"``; what MLflow refuses in a name is
    replaced, with a warning.

    All functions of the module :mod:`mlflow` are found through the logger, as ``logger.log_artifact("model.pt")`` and
    ``logger.set_tag("kind", "test")``. They are calls of MLflow itself: they wait for the server, and may raise. The
    methods of this class do neither.

    Args:
        tracking_uri: Where to log, ``"http://…"`` or ``"sqlite:///…"``; by default the tracking URI that is set in
            MLflow.
        unsent: The file for what cannot be sent; by default a new one in the working folder.

    Attributes:
        active_run: The run of MLflow; None until it could be started.
        run: Its id; empty until then.

    Raises:
        ModuleNotFoundError: If mlflow is not installed.

    Example:
        >>> import tempfile
        >>> from ignite_core.engine import Engine, Events
        >>> trainer = Engine(lambda engine, batch: {"loss": 1 / batch})
        >>> with tempfile.TemporaryDirectory() as folder, MLflowLogger(f"sqlite:///{folder}/mlflow.db") as logger:
        ...     logger.log_params({"batch size": 1})
        ...     handle = logger.attach_output_handler(
        ...         trainer, Events.ITERATION_COMPLETED, tag="training", output_transform=lambda output: output
        ...     )
        ...     state = trainer.run([1, 2, 4])
        ...     data = logger.get_run(logger.run).data
        >>> data.metrics, data.params
        ({'training loss': 0.25}, {'batch size': '1'})
    """

    wait_s = 10.0 - _END_S

    def __init__(self, tracking_uri: str | None = None, *, unsent: str | os.PathLike[str] | None = None) -> None:
        self.active_run: Any = None
        self._started_late = False
        self._has_ended = False
        self._is_responsive = False  # the last call succeeded
        self._pid = os.getpid()
        super().__init__(lambda: require("mlflow", extra="mlflow", feature="MLflowLogger"), unsent)
        self._names = Names()
        self._file_names = Names(r"[a-zA-Z0-9_\-./ ]")
        if not self.writes:
            return
        try:
            self._open(tracking_uri)
        except Exception as error:
            redact(error)
            raise
        atexit.register(self._end_at_exit)  # runs before the one of MLflow, which tries for minutes

    @property
    def run(self) -> str:
        """The id of the run."""
        return self._run

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> Any:
        """Log numbers by name, in the background; with further arguments, such as ``run_id``, MLflow logs them."""
        if kwargs:
            return self.client.log_metrics(metrics, step=step, **kwargs)
        if self.writes:
            self.scalars(step or 0, {(name,): float(value) for name, value in metrics.items()})
        return None

    def log_metric(self, key: str, value: Any, step: int | None = None, **kwargs: Any) -> Any:
        """Log one number, as :meth:`log_metrics` does."""
        return self.log_metrics({key: value}, step, **kwargs)

    def log_params(self, params: Mapping[str, Any], **kwargs: Any) -> Any:
        """Log parameters by name, in the background; with further arguments, such as ``run_id``, MLflow logs them.

        Values that are too long for MLflow are truncated; a parameter that has a value already keeps it. Both warn.
        """
        if kwargs:
            return self.client.log_params(params, **kwargs)
        if self.writes:
            self._put("params", 0, {(name,): text_of(value) for name, value in params.items()})
        return None

    def log_param(self, key: str, value: Any, **kwargs: Any) -> Any:
        """Log one parameter, as :meth:`log_params` does."""
        return self.log_params({key: value}, **kwargs)

    def close(self) -> None:
        """Send the rest and end the run, as failed if an exception is being handled; in all, at most ten seconds.

        A run that was active before ends too. What the server did not accept is in the file, the final status included.
        """
        super().close()
        self._end_run(is_failed=sys.exc_info()[0] is not None)

    def send(self, records: Sequence[Record]) -> None:
        run, kind = records[0].run, records[0].kind
        if any(record.run != run for record in records):  # a file may have records of several runs
            each(lambda record: self.send([record]), records)
            return
        if not self._is_responsive:
            self._check(_SEND_S)
        self._is_responsive = False
        with short_timeout(_SEND_S):
            getattr(self, f"_send_{kind}")(run or self._late_run(), records)
        self._is_responsive = True

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if self._started_late and not self._has_ended and self.client.active_run() is None:
            self.client.start_run(run_id=self.run)  # so that calls of mlflow in this thread go to this run too
        return found

    def _open(self, tracking_uri: str | None) -> None:
        """Write to the active run, or to a new one if the server is available."""
        uri = self.client.get_tracking_uri() if tracking_uri is None else tracking_uri
        if uri.startswith(("http://", "https://")):
            check_address("MLflowLogger", uri)
        public = _without_user(uri)
        if tracking_uri is not None or public != uri:
            self.client.set_tracking_uri(public)
        self._uri = self.client.get_tracking_uri()
        self._tracking = self.client.MlflowClient(self._uri)
        active = self.client.active_run()
        if active is not None:
            self._write_to(active)
            return
        try:
            self._check(_START_S)
            with short_timeout(_START_S):
                self._start_run()
        except (OSError, self.client.MlflowException) as error:
            if not isinstance(error, OSError) and error.get_http_status_code() < 500:
                raise  # the server is available, and refuses
            _logger.info("MLflowLogger: the run is started later: %s", reason_of(error))  # sending warns, if need be

    def _start_run(self) -> None:
        run = self.client.start_run()
        if not run.info.run_id:  # MLflow takes any JSON for a run
            _forget_run("")
            raise OSError(f"there must be a server of MLflow at {redacted(self._uri)}, but it does not start a run")
        self._write_to(run)

    def _write_to(self, run: Any) -> None:
        self.active_run, self._run = run, run.info.run_id

    def _late_run(self) -> str:
        """Id of the run, which is started if it could not be before."""
        if not self.run:
            self._start_run()
            self._started_late = True
        return self.run

    def _end_at_exit(self) -> None:
        if os.getpid() == self._pid:
            super().close()
            has_raised = getattr(sys, "last_value", None) is not None  # in an interactive session that means nothing
            self._end_run(is_failed=has_raised and not hasattr(sys, "ps1"))

    def _end_run(self, is_failed: bool) -> None:
        atexit.unregister(self._end_at_exit)
        if self._has_ended or not self.run:
            return
        self._has_ended = True
        status = "FAILED" if is_failed else "FINISHED"
        active = self.client.active_run()
        try:
            self._check(_END_S)
            with short_timeout(_END_S):
                if active is not None and active.info.run_id == self.run:
                    self.client.end_run(status)  # also makes mlflow forget it
                else:
                    self._tracking.set_terminated(self.run, status)
        except (OSError, self.client.MlflowException) as error:
            self._outbox.keep(Record("status", 0, time.time(), {("status",): status}, self.run), error)
            _forget_run(self.run)
        except UnicodeEncodeError:  # MLflow prints a link, with an emoji that the console lacks
            os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
            self._tracking.set_terminated(self.run, status)

    def _check(self, timeout_s: float) -> None:
        """Raise OSError if a server starts a response and does not end it: MLflow would wait forever."""
        if self._uri.startswith(("http://", "https://")):
            check_responds(f"{self._uri.rstrip('/')}/health", timeout_s)

    def _send_images(self, run: str, records: Sequence[Record]) -> None:
        def send(record: Record) -> None:
            ((key, image),) = record.values.items()
            self._tracking.log_image(
                run,
                as_bytes(image),
                key=self._file_names(key),
                step=record.step,
                timestamp=_milliseconds(record),
                synchronous=True,
            )

        each(send, singles(records))

    def _send_texts(self, run: str, records: Sequence[Record]) -> None:
        def send(record: Record) -> None:
            ((key, text),) = record.values.items()
            self._tracking.log_text(run, str(text), f"texts/{self._file_names(key)}/{record.step}.txt")

        each(send, singles(records))

    def _send_status(self, run: str, records: Sequence[Record]) -> None:
        for record in singles(records):
            (status,) = record.values.values()
            self._tracking.set_terminated(run, status, _milliseconds(record))

    def _send_scalars(self, run: str, records: Iterable[Record]) -> None:
        metric: Callable[..., Any] = self.client.entities.Metric
        metrics = [
            metric(self._names(key), float(value), _milliseconds(record), record.step)
            for record in sorted(records, key=lambda record: record.time)
            for key, value in record.values.items()
        ]
        for some in _batched(metrics, _MAX_METRICS):
            self._tracking.log_batch(run, metrics=some, synchronous=True)

    def _send_params(self, run: str, records: Iterable[Record]) -> None:
        wanted: dict[str, str] = {}
        for record in records:
            for key, value in record.values.items():
                name = self._names(key)
                _keep_first(wanted, name, _truncated(name, value))
        if not wanted:
            return
        known = dict(self._tracking.get_run(run).data.params)
        for name, value in wanted.items():
            _keep_first(known, name, value)
        params = [self.client.entities.Param(name, known[name]) for name in wanted]
        for some in _batched(params, _MAX_PARAMS):
            self._tracking.log_batch(run, params=some, synchronous=True)


def _batched(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _milliseconds(record: Record) -> int:
    return int(record.time * 1000)


def _keep_first(params: dict[str, str], name: str, value: str) -> None:
    """Set a parameter unless it has a value: MLflow does not let it change."""
    if params.setdefault(name, value) != value:
        _logger.warning(
            "MLflowLogger: the parameter %r of this run is %.100r already; %.100r is not logged",
            name,
            params[name],
            value,
        )


def _truncated(name: str, value: object) -> str:
    text = str(value)
    if len(text) > _MAX_VALUE:
        _logger.warning(
            "MLflowLogger: the value of the parameter %r has %d characters, MLflow takes %d; the rest is cut off",
            name,
            len(text),
            _MAX_VALUE,
        )
    return text[:_MAX_VALUE]


class Names:
    """Makes names that MLflow accepts: parts are joined by spaces, refused characters replaced by ``_``.

    Each change is logged once, and two names never become the same one.

    Args:
        allowed: A regular expression for the characters that a name may have.

    Example:
        >>> names = Names()
        >>> names(("training", "loss")), names(("recall@5", "0")), names(("recall#5", "0"))
        ('training loss', 'recall_5 0', 'recall_5 0 596187')
    """

    def __init__(self, allowed: str = r"[/\w.\- ]" if os.name == "nt" else r"[/\w.\- :]") -> None:
        self._refused = re.compile(allowed.replace("[", "[^", 1))
        self._names: dict[str, str] = {}  # by the name that was asked for

    def __call__(self, key: Sequence[str]) -> str:
        wanted = " ".join(key)
        if wanted not in self._names:
            self._names[wanted] = self._new(wanted)
        return self._names[wanted]

    def _new(self, wanted: str) -> str:
        name = self._refused.sub("_", wanted)
        path = posixpath.normpath(name)
        if (
            path != name or path.startswith(("..", "/")) or path == "."
        ):  # as a file, it would have another name or folder
            name = "/".join(part if part.strip(".") else "_" for part in name.split("/"))
        if len(name) > _MAX_NAME or name in self._names.values():
            digest = hashlib.sha256(wanted.encode()).hexdigest()[:6]
            name = f"{name[: _MAX_NAME - 7]} {digest}"
        if name != wanted:
            _logger.warning("MLflowLogger: MLflow does not take the name %.300r; it is logged as %r", wanted, name)
        return name


_RETRIES: Final = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_TIMEOUT: Final = "MLFLOW_HTTP_REQUEST_TIMEOUT"

_lock = threading.Lock()
_timeouts: list[int] = []  # of the blocks of `short_timeout` that are active
_set_here: set[str] = set()  # variables that the user has not set


@contextmanager
def short_timeout(timeout_s: int) -> Iterator[None]:
    """Make MLflow give up after one try of ``timeout_s`` seconds within the block; by default it tries for minutes.

    MLflow reads this from environment variables. They are as before at the end, and are not changed if the user has
    set them.
    """
    with _lock:
        if not _timeouts:
            _set_here.update({_RETRIES, _TIMEOUT} - os.environ.keys())
        _timeouts.append(timeout_s)
        _set_environment()
    try:
        yield
    finally:
        with _lock:
            _timeouts.remove(timeout_s)
            _set_environment()


def _set_environment() -> None:
    if _timeouts:
        values = {_RETRIES: "0", _TIMEOUT: str(min(_timeouts))}
        os.environ.update({name: values[name] for name in _set_here})
        return
    for name in _set_here:
        os.environ.pop(name, None)
    _set_here.clear()


def _without_user(uri: str) -> str:
    """Move the user and password of a URI to the variables from which MLflow reads them; it would print them."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.username or not parts.password:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _forget_run(run_id: str) -> None:
    """Remove a run from the active runs of MLflow, without a call of the server."""
    fluent: Any = import_module("mlflow.tracking.fluent")
    runs = fluent._active_run_stack.get()
    runs[:] = [run for run in runs if run.info.run_id != run_id]

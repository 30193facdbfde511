"""MLflow: metrics, parameters, images, figures and texts of a run."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ignite_contrib._require import require
from ignite_contrib.loggers._media import TakesFigures, TakesImages, TakesTexts, as_bytes
from ignite_contrib.loggers.delivery.answers import check_answers
from ignite_contrib.loggers.delivery.delivery import each, singles
from ignite_contrib.loggers.delivery.record import Record, text_of
from ignite_contrib.loggers.mlflow_limits import (
    MOST_METRICS,
    MOST_PARAMS,
    Names,
    chunks,
    cut,
    forget_run,
    impatient,
    without_user,
)
from ignite_contrib.loggers.redact import check_address, reason_of, redact, redacted
from ignite_core.handlers import OptimizerParamsHandler, OutputHandler, global_step_from_engine

__all__ = ["MLflowLogger", "OptimizerParamsHandler", "OutputHandler", "global_step_from_engine"]

_logger = logging.getLogger(__name__)

#: Seconds that one call of MLflow waits for an answer: while somebody waits for it, in the thread, and at the end.
_START_S, _SEND_S, _END_S = 5, 30, 1


class MLflowLogger(TakesImages, TakesFigures, TakesTexts):
    """Logs to `MLflow <https://mlflow.org>`_: metrics in the background, many in one call.

    It writes to the active run of MLflow, or starts one. If the server is away then, the run is started when the server
    is there. Names are joined by spaces: ``"training loss"``; what MLflow refuses in a name is
    replaced, with a warning.

    Everything of the module :mod:`mlflow` is found through the logger, as ``logger.log_artifact("model.pt")`` and
    ``logger.set_tag("kind", "test")``. Those are calls of MLflow itself: they wait for the server, and may raise.
    What this class defines does neither.

    Args:
        tracking_uri: Where to log, ``"http://…"`` or ``"sqlite:///…"``; by default what MLflow has been told.
        unsent: As of :class:`~ignite_contrib.loggers.delivery.background.BackgroundLogger`.

    Attributes:
        active_run: The run of MLflow; None as long as the server has not been there.
        run: Its id; empty as long.

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
        self._answers = False  # the server did so last time
        super().__init__(lambda: require("mlflow", extra="mlflow", feature="MLflowLogger"), unsent=unsent)
        self._names = Names()
        self._names_of_files = Names(r"[a-zA-Z0-9_\-./ ]")
        if not self.writes:
            return
        try:
            self._open(tracking_uri)
        except Exception as error:
            redact(error)
            raise
        atexit.register(self._end_at_exit)  # before MLflow does so, which tries for minutes

    @property
    def run(self) -> str:
        """The id of the run."""
        return self._run

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> Any:
        """Log numbers by name, in the background; with other arguments of MLflow, such as ``run_id``, by MLflow."""
        if kwargs:
            return self.client.log_metrics(metrics, step=step, **kwargs)
        if self.writes:
            self.scalars(step or 0, {(name,): float(value) for name, value in metrics.items()})
        return None

    def log_metric(self, key: str, value: Any, step: int | None = None, **kwargs: Any) -> Any:
        """Log one number, as :meth:`log_metrics` does."""
        return self.log_metrics({key: value}, step, **kwargs)

    def log_params(self, params: Mapping[str, Any], **kwargs: Any) -> Any:
        """Log parameters by name, in the background; with other arguments of MLflow, such as ``run_id``, by MLflow.

        Of a value that is too long for MLflow, its beginning is logged; one for a name that has another value already
        is not. Both are warned of.
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
        """Send the rest, and end the run, as failed if an exception is on its way; in all, at most ten seconds.

        A run that was active before ends too. What the server did not take stands in the file, the end of the run too.
        """
        super().close()
        self._end_run(is_failed=sys.exc_info()[0] is not None)

    def send(self, records: Sequence[Record]) -> None:
        run, kind = records[0].run, records[0].kind
        if any(record.run != run for record in records):  # as a file may have them
            each(lambda record: self.send([record]), records)
            return
        if not self._answers:
            self._check(_SEND_S)
        self._answers = False
        with impatient(_SEND_S):
            getattr(self, f"_send_{kind}")(run or self._id(), records)
        self._answers = True

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if self._started_late and not self._has_ended and self.client.active_run() is None:
            self.client.start_run(run_id=self.run)  # what mlflow does in this thread is for this run, too
        return found

    def _open(self, tracking_uri: str | None) -> None:
        """Write to the active run, or to a new one if the server is there."""
        uri = self.client.get_tracking_uri() if tracking_uri is None else tracking_uri
        if uri.startswith(("http://", "https://")):
            check_address("MLflowLogger", uri)
        known = without_user(uri)
        if tracking_uri is not None or known != uri:
            self.client.set_tracking_uri(known)
        self._uri = self.client.get_tracking_uri()
        self._tracking = self.client.MlflowClient(self._uri)
        active = self.client.active_run() or self._start()
        if active is not None:
            self._write_to(active)

    def _start(self) -> Any:
        """A new run, or None if the server is away."""
        try:
            self._check(_START_S)
            with impatient(_START_S):
                return self._started()
        except (OSError, self.client.MlflowException) as error:
            if not isinstance(error, OSError) and error.get_http_status_code() < 500:
                raise  # it is there, and refuses
            _logger.info("MLflowLogger: the run is started later: %s", reason_of(error))  # sending warns, if need be
            return None

    def _started(self) -> Any:
        run = self.client.start_run()
        if not run.info.run_id:  # any JSON is taken for a run
            forget_run("")
            raise OSError(f"there must be a server of MLflow at {redacted(self._uri)}, but what is there starts no run")
        return run

    def _write_to(self, run: Any) -> None:
        self.active_run, self._run = run, run.info.run_id

    def _id(self) -> str:
        """Of the run, which is started if it could not be before."""
        if not self.run:
            self._write_to(self._started())
            self._started_late = True
        return self.run

    def _end_at_exit(self) -> None:
        has_raised = getattr(sys, "last_value", None) is not None  # of a session with a prompt that says nothing
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
            with impatient(_END_S):
                if active is not None and active.info.run_id == self.run:
                    self.client.end_run(status)  # which has mlflow forget it, too
                else:
                    self._tracking.set_terminated(self.run, status)
        except (OSError, self.client.MlflowException) as error:
            self._keep("status", 0, {("status",): status}, error)
            forget_run(self.run)
        except UnicodeEncodeError:  # the console does not take the picture that MLflow prints with a link
            os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
            self._tracking.set_terminated(self.run, status)

    def _check(self, timeout_s: float) -> None:
        """Raise OSError if a server begins an answer and does not end it, for which MLflow would wait forever."""
        if self._uri.startswith(("http://", "https://")):
            check_answers(f"{self._uri.rstrip('/')}/health", timeout_s)

    def _send_images(self, run: str, records: Sequence[Record]) -> None:
        def send(record: Record) -> None:
            ((key, image),) = record.values.items()
            self._tracking.log_image(
                run,
                as_bytes(image),
                key=self._names_of_files(key),
                step=record.step,
                timestamp=_milliseconds(record),
                synchronous=True,
            )

        each(send, singles(records))

    def _send_texts(self, run: str, records: Sequence[Record]) -> None:
        def send(record: Record) -> None:
            ((key, text),) = record.values.items()
            self._tracking.log_text(run, str(text), f"texts/{self._names_of_files(key)}/{record.step}.txt")

        each(send, singles(records))

    def _send_status(self, run: str, records: Sequence[Record]) -> None:
        for record in singles(records):
            (status,) = record.values.values()
            self._tracking.set_terminated(run, status, _milliseconds(record))

    def _send_scalars(self, run: str, records: Iterable[Record]) -> None:
        metric: Callable[..., Any] = self.client.entities.Metric
        metrics = [
            metric(self._names(key), _number(value), _milliseconds(record), record.step)
            for record in sorted(records, key=lambda record: record.time)
            for key, value in record.values.items()
        ]
        for some in chunks(metrics, MOST_METRICS):
            self._tracking.log_batch(run, metrics=some, synchronous=True)

    def _send_params(self, run: str, records: Iterable[Record]) -> None:
        wanted: dict[str, str] = {}
        for record in records:
            for key, value in record.values.items():
                name = self._names(key)
                _keep_first(wanted, name, cut(name, value))
        if not wanted:
            return
        known = dict(self._tracking.get_run(run).data.params)
        for name, value in wanted.items():
            _keep_first(known, name, value)
        params = [self.client.entities.Param(name, known[name]) for name in wanted]
        for some in chunks(params, MOST_PARAMS):
            self._tracking.log_batch(run, params=some, synchronous=True)


def _milliseconds(record: Record) -> int:
    return int(record.time * 1000)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer that is too large
        return float("inf") if value > 0 else float("-inf")


def _keep_first(params: dict[str, str], name: str, value: str) -> None:
    """MLflow lets nobody change a parameter."""
    if params.setdefault(name, value) != value:
        _logger.warning(
            "MLflowLogger: the parameter %r of this run is %.100r already; %.100r is not logged",
            name,
            params[name],
            value,
        )

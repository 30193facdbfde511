"""Visdom: curves, images, figures, histograms and texts on the page of a server."""

from __future__ import annotations

import html
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ignite_contrib._require import require
from ignite_contrib.loggers._media import HistogramLogger, as_bytes, finite
from ignite_contrib.loggers._redact import check_address, redact, redacted
from ignite_contrib.loggers.delivery.deliver import PartlySentError, each, singles
from ignite_contrib.loggers.delivery.http import call_within, read_text
from ignite_contrib.loggers.delivery.record import Record, Values
from ignite_core import handlers
from ignite_core.engine import Engine
from ignite_core.handlers import global_step_from_engine

__all__ = [
    "GradsScalarHandler",
    "OptimizerParamsHandler",
    "OutputHandler",
    "VisdomLogger",
    "WeightsScalarHandler",
    "global_step_from_engine",
]

#: Timeouts in seconds: of the constructor with ``raise_exceptions``, and of one call in the thread.
_CHECK_S, _TIMEOUT_S = 10.0, 10.0

_Transform = Callable[[Engine, Any], Any]


class VisdomLogger(HistogramLogger):
    """Logs to a `Visdom <https://github.com/fossasia/visdom>`_ server: each name is a window with a curve.

    Points are sent in the background, many in one call, and the environment is saved. Each logger has its own windows.
    Images and histograms show the last one of their name; texts are appended.

    All attributes of the ``visdom.Visdom`` client are found through the logger, as ``logger.text("hello")``. Those are
    calls of Visdom itself, which wait for the server.

    Args:
        server: The server; by default the environment variable ``VISDOM_SERVER_URL``, otherwise ``"localhost"``.
        port: Its port; by default ``VISDOM_PORT``, otherwise 8097.
        num_workers: Ignored, for compatibility with pytorch-ignite: one thread sends.
        raise_exceptions: Raise if the server is unavailable at the start. Later it may come and go in any case.
        unsent: The file for what cannot be sent; by default a new one in the working folder.
        kwargs: Arguments of ``visdom.Visdom``: ``env``, ``username`` (default ``VISDOM_USERNAME``), ``password``
            (default ``VISDOM_PASSWORD``), ``proxies``, …; ``use_incoming_socket``, which waits for the server, is off
            by default.

    Raises:
        ModuleNotFoundError: If visdom is not installed.
        RuntimeError: If the server is unavailable, with ``raise_exceptions``.
    """

    def __init__(
        self,
        server: str | None = None,
        port: int | None = None,
        num_workers: int = 1,
        raise_exceptions: bool = False,
        *,
        unsent: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        settings = {
            "server": os.environ.get("VISDOM_SERVER_URL", "localhost") if server is None else server,
            "port": int(os.environ.get("VISDOM_PORT", 8097)) if port is None else port,
            "username": os.environ.get("VISDOM_USERNAME"),
            "password": os.environ.get("VISDOM_PASSWORD"),
            "use_incoming_socket": False,
            **kwargs,
            "raise_exceptions": raise_exceptions,
        }
        if "://" in settings["server"]:
            check_address("VisdomLogger", settings["server"])
        super().__init__(lambda: _open_client(settings), unsent)
        self._run = f"{time.time_ns():x}"  # so that two loggers have two windows for one name
        self._options: dict[tuple[str, ...], dict[str, Any]] = {}
        self._drawn: set[str] = set()
        if self.writes:
            self._sender = _open_sender(settings)
            if raise_exceptions and not self._sender.offline:
                self._check(settings)

    @property
    def vis(self) -> Any:
        """The client, a ``visdom.Visdom``."""
        return self.client

    def scalars(self, step: int, values: Values, *, xlabel: str = "step", show_legend: bool = False) -> None:
        """Append a point to the curve of each name.

        Args:
            step: The place on the x-axis.
            values: Numbers by name. NaN and infinity are gaps.
            xlabel: Label of the x-axis. The first call for a name decides it, and ``show_legend``.
            show_legend: Draw a legend.
        """
        for key in values:
            if key not in self._options:
                self._options[key] = {"xlabel": xlabel, "showlegend": show_legend}
        super().scalars(step, values)

    def send(self, records: Sequence[Record]) -> None:
        if records[0].kind == "scalars":
            self._send_curves(records)
        elif records[0].kind == "texts":
            each(self._append_text, singles(records))
        else:
            latest = {(record.run, *record.values): record for record in singles(records)}
            each(self._show, list(latest.values()))  # only the last one of a name is visible
        with suppress(OSError):  # the next call saves it too
            self._sender.save([self._sender.env])

    def _send_curves(self, records: Sequence[Record]) -> None:
        curves: dict[tuple[str, tuple[str, ...]], list[tuple[float, float]]] = {}
        for record in records:
            for key, value in record.values.items():
                number = float(value) if math.isfinite(float(value)) else math.nan  # a gap: JSON has no infinity
                curves.setdefault((record.run, key), []).append((record.step, number))
        sent: set[tuple[str, tuple[str, ...]]] = set()
        for (run, key), points in curves.items():
            try:
                self._append_points(run, key, points)
            except Exception as error:
                if not sent:
                    raise
                rest = [record for record in singles(records) if (record.run, *record.values) not in sent]
                raise PartlySentError(rest) from error
            sent.add((run, key))

    def _check(self, settings: dict[str, Any]) -> None:
        try:
            call_within(_CHECK_S, lambda: self._sender.win_exists("any"))
        except OSError as error:
            redact(error)
            server = redacted(f"{settings['server']}:{settings['port']}")
            raise RuntimeError(
                f"VisdomLogger: there must be a Visdom server at {server}, got {error}; start it with "
                f"`python -m visdom.server -port {settings['port']}`, or pass raise_exceptions=False to let it start "
                "later"
            ) from error

    def _append_points(self, run: str, key: tuple[str, ...], points: Sequence[tuple[float, float]]) -> None:
        name, window = _window(run, key)
        xs, ys = np.array(points, dtype=np.float64).T
        options = self._options.get(key, {"xlabel": "step", "showlegend": False})
        # Visdom asks the server whether the window exists; offline it cannot
        is_first = self._sender.offline and window not in self._drawn
        opts = {"title": name, "ylabel": name, **options}
        self._sender.line(X=xs, Y=ys, win=window, update=None if is_first else "append", name=name, opts=opts)
        self._drawn.add(window)

    def _append_text(self, record: Record) -> None:
        ((key, text),) = record.values.items()
        name, window = _window(record.run, key)
        exists = window in self._drawn if self._sender.offline else self._sender.win_exists(window)
        line = f"<b>{record.step}</b> {html.escape(str(text))}"
        self._sender.text(line, win=window, append=bool(exists), opts={"title": name})
        self._drawn.add(window)

    def _show(self, record: Record) -> None:
        ((key, value),) = record.values.items()
        name, window = _window(record.run, key)
        opts = {"title": f"{name}, step {record.step}"}
        if record.kind == "images":
            self._sender.image(as_bytes(value).transpose(2, 0, 1), win=window, opts=opts)
        elif (numbers := finite(value)).size:
            shown = numbers if numbers.size > 1 else numbers.repeat(2)  # Visdom refuses a single value
            self._sender.histogram(shown, win=window, opts=opts)

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> OutputHandler:
        return OutputHandler(*args, **kwargs)

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> OptimizerParamsHandler:
        return OptimizerParamsHandler(*args, **kwargs)


def _window(run: str, key: tuple[str, ...]) -> tuple[str, str]:
    """The title and the id of the window of a name."""
    name = "/".join(key)
    return name, f"window_{run}_{name}"


def _open_client(settings: dict[str, Any]) -> Any:
    """A ``visdom.Visdom`` that has not called the server yet, unless it is to listen to it."""
    visdom = require("visdom", extra="visdom", feature="VisdomLogger")
    if settings["use_incoming_socket"] or settings.get("use_polling"):
        return visdom.Visdom(**settings)
    return _without_call(visdom.Visdom, settings)


def _open_sender(settings: dict[str, Any]) -> Any:
    """A ``visdom.Visdom`` for the thread: failed calls raise OSError, and end in time."""
    import requests  # a dependency of visdom
    import visdom

    class Sender(visdom.Visdom):
        server: Any
        port: Any
        base_url: Any
        proxies: Any
        username: Any
        password: Any
        _session: Any
        _is_visdom = False  # whether the server is known to be one of Visdom

        @property
        def session(self) -> Any:
            if not self._session:
                session = requests.Session()
                session.proxies.update(self.proxies or {})
                if self.username:
                    login = {"username": self.username, "password": self.password}
                    self._post(session, f"{self.server}:{self.port}{self.base_url}", json=login)
                self._session = session
            return self._session

        def _handle_post(self, url: str, data: Any = None) -> str:
            is_query = url.endswith("/win_exists")
            if not self._is_visdom and not is_query:
                self.win_exists("any")
            text = self._post(self.session, url, data=data or {})
            self._is_visdom = text in ("true", "false") if is_query else not text.lstrip().startswith("<")
            if not self._is_visdom:
                raise OSError(f"there must be a Visdom server at {url}, but it responds {text[:80]!r}")
            return text

        def _post(self, session: Any, url: str, **content: Any) -> str:
            try:
                with session.post(url, timeout=_TIMEOUT_S, stream=True, **content) as response:
                    response.raise_for_status()
                    return read_text(response, time.monotonic() + _TIMEOUT_S)
            except OSError as error:
                self._is_visdom = False
                failed = OSError(str(error))  # visdom prints other classes instead of raising them
                failed.response = getattr(error, "response", None)  # type: ignore[attr-defined]
                raise failed from error

    return _without_call(Sender, {**settings, "use_incoming_socket": False, "use_polling": False})


def _without_call(client: Any, settings: dict[str, Any]) -> Any:
    opened = client(**{**settings, "send": False})  # with send=True the constructor calls the server
    opened.send = settings.get("send", True)
    return opened


class _Drawn(handlers.LogHandler):
    """Labels the x-axis with the event, and may draw a legend."""

    show_legend = False
    _xlabel = "step"

    def __call__(self, engine: Engine, logger: Any, event_name: Any) -> None:
        self._xlabel = str(event_name)
        super().__call__(engine, logger, event_name)

    def log(self, logger: Any, step: int, values: Values) -> None:
        if isinstance(logger, VisdomLogger):
            logger.scalars(step, values, xlabel=self._xlabel, show_legend=self.show_legend)
        else:
            super().log(logger, step, values)


class OutputHandler(_Drawn, handlers.OutputHandler):
    """An :class:`ignite_core.handlers.OutputHandler`, with the same arguments, and ``show_legend``: draw a legend."""

    def __init__(
        self,
        tag: str,
        metric_names: Iterable[str] | str | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        global_step_transform: _Transform | None = None,
        show_legend: bool = False,
        state_attributes: Iterable[str] | None = None,
    ) -> None:
        super().__init__(tag, metric_names, output_transform, global_step_transform, state_attributes)
        self.show_legend = show_legend


class OptimizerParamsHandler(_Drawn, handlers.OptimizerParamsHandler):
    """An :class:`ignite_core.handlers.OptimizerParamsHandler`, and ``show_legend``: draw a legend."""

    def __init__(
        self,
        optimizer: Any,
        param_name: str = "lr",
        tag: str | None = None,
        show_legend: bool = False,
        *,
        global_step_transform: _Transform | None = None,
    ) -> None:
        super().__init__(optimizer, param_name, tag, global_step_transform)
        self.show_legend = show_legend


class WeightsScalarHandler(_Drawn, handlers.WeightsScalarHandler):
    """An :class:`ignite_core.handlers.WeightsScalarHandler`, and ``show_legend``: draw a legend."""

    def __init__(
        self,
        model: nn.Module,
        reduction: Callable[[Tensor], Any] = torch.norm,
        tag: str | None = None,
        show_legend: bool = False,
        *,
        whitelist: Any = None,
        global_step_transform: _Transform | None = None,
    ) -> None:
        super().__init__(model, reduction, tag, whitelist, global_step_transform)
        self.show_legend = show_legend


class GradsScalarHandler(WeightsScalarHandler):
    """An :class:`ignite_core.handlers.GradsScalarHandler`, and ``show_legend``: draw a legend."""

    kind = "grads"

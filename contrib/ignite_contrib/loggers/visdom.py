"""Visdom: curves, images, figures, histograms and texts on a page of its server."""

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

from ignite_contrib.loggers._media import (
    TakesFigures,
    TakesHistograms,
    TakesImages,
    TakesTexts,
    Values,
    as_bytes,
    finite,
)
from ignite_contrib.loggers.delivery.answers import within
from ignite_contrib.loggers.delivery.delivery import PartlySentError, each, singles
from ignite_contrib.loggers.delivery.record import Record
from ignite_contrib.loggers.redact import check_address, redact, redacted
from ignite_contrib.loggers.visdom_client import open_client, open_sender, settings_of
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

#: Seconds that the constructor waits for the server, with ``raise_exceptions``.
_CHECK_S = 10.0

_Transform = Callable[[Engine, Any], Any]


class VisdomLogger(TakesImages, TakesFigures, TakesHistograms, TakesTexts):
    """Logs to a `Visdom <https://github.com/fossasia/visdom>`_ server: each name is a window with a curve.

    Points are sent in the background, many in one call, and the environment is saved. Each logger has windows of its
    own. Of images and histograms the last one of its name is shown; texts are appended.

    Everything of the ``visdom.Visdom`` client is found through the logger, as ``logger.text("hello")``. Those are calls
    of Visdom itself, which wait for the server.

    Args:
        server: The server; by default that of the environment variable ``VISDOM_SERVER_URL``, else ``"localhost"``.
        port: Its port; by default that of ``VISDOM_PORT``, else 8097.
        num_workers: Taken for the sake of ported code: it is always one thread that sends.
        raise_exceptions: Refuse to start without the server. Later, as without this, it may come and go.
        unsent: As of :class:`~ignite_contrib.loggers.delivery.background.BackgroundLogger`.
        kwargs: For ``visdom.Visdom``: ``env``, ``username`` (else ``VISDOM_USERNAME``), ``password`` (else
            ``VISDOM_PASSWORD``), ``proxies``, …; ``use_incoming_socket``, which waits for the
            server, is off by default.

    Raises:
        ModuleNotFoundError: If visdom is not installed.
        RuntimeError: If there is no server, with ``raise_exceptions``.
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
        settings = settings_of(server, port, {**kwargs, "raise_exceptions": raise_exceptions})
        if "://" in settings["server"]:
            check_address("VisdomLogger", settings["server"])
        super().__init__(lambda: open_client(settings), unsent=unsent)
        self._run = f"{time.time_ns():x}"  # two loggers have two windows for one name
        self._looks: dict[tuple[str, ...], dict[str, Any]] = {}
        self._drawn: set[str] = set()
        if self.writes:
            self._sender = open_sender(settings)
            if raise_exceptions and not self._sender.offline:
                self._check(settings)

    @property
    def vis(self) -> Any:
        """The client, ``visdom.Visdom``."""
        return self.client

    def scalars(self, step: int, values: Values, *, xlabel: str = "step", show_legend: bool = False) -> None:
        """Append a point to the curve of each name.

        Args:
            step: The place on the x-axis.
            values: Numbers by name. NaN and infinity are gaps.
            xlabel: What the steps are. It counts at the first point, as does the next one.
            show_legend: Draw a legend.
        """
        for key in values:
            if key not in self._looks:
                self._looks[key] = {"xlabel": xlabel, "showlegend": show_legend}
        super().scalars(step, values)

    def send(self, records: Sequence[Record]) -> None:
        if records[0].kind == "scalars":
            self._send_curves(records)
        elif records[0].kind == "texts":
            each(self._append_text, singles(records))
        else:
            seen = {(record.run, *record.values): record for record in singles(records)}
            each(self._show, list(seen.values()))  # only the last one of a name is seen
        with suppress(OSError):  # the next call saves it, too
            self._sender.save([self._sender.env])

    def _send_curves(self, records: Sequence[Record]) -> None:
        curves: dict[tuple[str, tuple[str, ...]], list[tuple[float, float]]] = {}
        for record in records:
            for key, value in record.values.items():
                curves.setdefault((record.run, key), []).append((record.step, _finite(value)))
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
            within(_CHECK_S, lambda: self._sender.win_exists("any"))
        except OSError as error:
            redact(error)
            server = redacted(f"{settings['server']}:{settings['port']}")
            raise RuntimeError(
                f"VisdomLogger: there must be a Visdom server at {server}, got {error}; start it with "
                f"`python -m visdom.server -port {settings['port']}`, or let it come later, with raise_exceptions=False"
            ) from error

    def _append_points(self, run: str, key: tuple[str, ...], points: Sequence[tuple[float, float]]) -> None:
        name, window = _named(run, key)
        xs, ys = np.array(points, dtype=np.float64).T
        looks = self._looks.get(key, {"xlabel": "step", "showlegend": False})
        opts = {"title": name, "ylabel": name, **looks}
        # Visdom asks the server whether the window is there; offline it cannot
        is_first = self._sender.offline and window not in self._drawn
        self._sender.line(X=xs, Y=ys, win=window, update=None if is_first else "append", name=name, opts=opts)
        self._drawn.add(window)

    def _append_text(self, record: Record) -> None:
        ((key, text),) = record.values.items()
        name, window = _named(record.run, key)
        is_there = window in self._drawn if self._sender.offline else self._sender.win_exists(window)
        line = f"<b>{record.step}</b> {html.escape(str(text))}"
        self._sender.text(line, win=window, append=bool(is_there), opts={"title": name})
        self._drawn.add(window)

    def _show(self, record: Record) -> None:
        ((key, value),) = record.values.items()
        name, window = _named(record.run, key)
        opts = {"title": f"{name}, step {record.step}"}
        if record.kind == "images":
            self._sender.image(as_bytes(value).transpose(2, 0, 1), win=window, opts=opts)
        elif (numbers := finite(value)).size:
            both = numbers if numbers.size > 1 else numbers.repeat(2)  # Visdom takes no single one
            self._sender.histogram(both, win=window, opts=opts)

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> OutputHandler:
        return OutputHandler(*args, **kwargs)

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> OptimizerParamsHandler:
        return OptimizerParamsHandler(*args, **kwargs)


def _named(run: str, key: tuple[str, ...]) -> tuple[str, str]:
    """The name of a curve, and the id of its window."""
    name = "/".join(key)
    return name, f"window_{run}_{name}"


def _finite(value: Any) -> float:
    """The page's JSON knows no infinity; a gap it does know."""
    try:
        number = float(value)
    except OverflowError:  # an integer that is too large
        return math.nan
    return number if math.isfinite(number) else math.nan


class _Drawn(handlers.LogHandler):
    """Knows at which event it logs, and whether there is to be a legend."""

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
    """Logs metrics, outputs and attributes of the state: :class:`ignite_core.handlers.OutputHandler`, with a legend.

    Args:
        tag: As there, like all others.
        metric_names: As there.
        output_transform: As there.
        global_step_transform: As there.
        show_legend: Draw a legend in the windows.
        state_attributes: As there.
    """

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
    """Logs a parameter of an optimizer: :class:`ignite_core.handlers.OptimizerParamsHandler`, with a legend.

    Args:
        optimizer: As there, like all others.
        param_name: As there.
        tag: As there.
        show_legend: Draw a legend in the windows.
        global_step_transform: As there.
    """

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
    """Logs a number for each parameter of a model: :class:`ignite_core.handlers.WeightsScalarHandler`, with a legend.

    Args:
        model: As there, like all others.
        reduction: As there.
        tag: As there.
        show_legend: Draw a legend in the windows.
        whitelist: As there.
        global_step_transform: As there.
    """

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
    """Logs a number for the gradient of each parameter of a model that has one.

    The arguments are those of :class:`WeightsScalarHandler`.
    """

    kind = "grads"

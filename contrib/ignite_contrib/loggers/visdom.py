"""Visdom: curves, images, figures, histograms and texts on a page of its server."""

from __future__ import annotations

import html
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ignite_contrib.loggers.kinds import (
    TakesFigures,
    TakesHistograms,
    TakesImages,
    TakesTexts,
    Values,
    as_bytes,
    finite,
)
from ignite_contrib.loggers.records import Record
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
        unsent: As of :class:`~ignite_contrib.loggers.background.BackgroundLogger`.
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
        super().__init__(lambda: open_client(settings), unsent=unsent)
        self.run = f"{time.time_ns():x}"  # two loggers have two windows for one name
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
        curves: dict[tuple[str, tuple[str, ...]], list[tuple[float, float]]] = {}
        pictures: dict[tuple[str, tuple[str, ...]], tuple[Record, Any]] = {}
        for record in records:
            for key, value in record.values.items():
                if record.kind == "scalars":
                    curves.setdefault((record.run, key), []).append((record.step, _finite(value)))
                elif record.kind == "texts":
                    self._append_text(record, key, str(value))
                else:
                    pictures[record.run, key] = record, value  # only the last one is seen
        for (run, key), points in curves.items():
            self._append_points(run, key, points)
        for (_, key), (record, value) in pictures.items():
            self._show(record, key, value)
        self._sender.save([self._sender.env])

    def _check(self, settings: dict[str, Any]) -> None:
        try:
            self._sender.win_exists("any")
        except OSError as error:
            raise RuntimeError(
                f"VisdomLogger: there must be a Visdom server at {settings['server']}:{settings['port']}, got "
                f"{error}; start it with `python -m visdom.server -port {settings['port']}`, or let it come later, "
                "with raise_exceptions=False"
            ) from error

    def _append_points(self, run: str, key: tuple[str, ...], points: Sequence[tuple[float, float]]) -> None:
        name, window = _named(run, key)
        xs, ys = torch.tensor(points, dtype=torch.float64).unbind(1)
        looks = self._looks.get(key, {"xlabel": "step", "showlegend": False})
        opts = {"title": name, "ylabel": name, **looks}
        # Visdom asks the server whether the window is there; offline it cannot
        is_first = self._sender.offline and window not in self._drawn
        self._sender.line(
            X=xs.numpy(), Y=ys.numpy(), win=window, update=None if is_first else "append", name=name, opts=opts
        )
        self._drawn.add(window)

    def _append_text(self, record: Record, key: tuple[str, ...], text: str) -> None:
        name, window = _named(record.run, key)
        is_there = window in self._drawn if self._sender.offline else self._sender.win_exists(window)
        line = f"<b>{record.step}</b> {html.escape(text)}"
        self._sender.text(line, win=window, append=bool(is_there), opts={"title": name})
        self._drawn.add(window)

    def _show(self, record: Record, key: tuple[str, ...], value: Tensor) -> None:
        name, window = _named(record.run, key)
        title = f"{name}, step {record.step}"
        if record.kind == "images":
            pixels = as_bytes(value).permute(2, 0, 1).numpy()
            self._sender.image(pixels, win=window, opts={"title": title})
            return
        numbers = finite(value)
        if len(numbers):
            both = numbers if len(numbers) > 1 else numbers.repeat(2)  # Visdom takes no single one
            self._sender.histogram(both.numpy(), win=window, opts={"title": title})

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

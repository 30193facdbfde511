"""A progress bar of a run, on tqdm."""

from __future__ import annotations

import math
import reprlib
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

import ignite_core.distributed as idist
from ignite_contrib._require import require
from ignite_core.engine import CallableEventWithFilter, Engine, Events
from ignite_core.handlers import kept

__all__ = ["ProgressBar"]

#: What ends a bar beside its closing event, so that none is left half drawn.
_ENDS_OF_A_RUN = Events.COMPLETED | Events.TERMINATE | Events.INTERRUPT


class ProgressBar:
    r"""Draws the progress of an engine, with metrics and outputs beside the bar.

    It is refreshed by time: between two refreshes an iteration costs a look at the clock. What stands beside the bar is
    read when it is drawn, and once more at the end. On several ranks attach it on all of them: rank 0 draws. In a
    notebook it is a widget.

    Args:
        persist: Leave a finished bar on the screen.
        bar_format: As of :class:`tqdm.tqdm`.
        refresh_s: Seconds between two refreshes.
        clock: Where the time comes from, in seconds.
        tqdm_kwargs: Anything else that :class:`tqdm.tqdm` takes: ``desc``, ``file``, ``ncols``, …; ``mininterval`` is
            another name of ``refresh_s``, ``total`` and ``initial`` are the bar's own business.

    Raises:
        ModuleNotFoundError: If tqdm is not installed.
        TypeError: If ``tqdm_kwargs`` has what the bar sets itself.

    Example:
        >>> import io
        >>> screen = io.StringIO()
        >>> trainer = Engine(lambda engine, batch: 0.5)
        >>> bar = ProgressBar(persist=True, file=screen, bar_format="{desc}{n_fmt}/{total_fmt}{postfix}")
        >>> bar.attach(trainer, output_transform=lambda loss: {"loss": loss})
        >>> state = trainer.run(range(3))
        >>> screen.getvalue().split("\r")[-1].strip()
        'Iteration: 3/3, loss=0.5'
    """

    def __init__(
        self,
        persist: bool = False,
        bar_format: str
        | None = "{desc}[{n_fmt}/{total_fmt}] {percentage:3.0f}%|{bar}{postfix} [{elapsed}<{remaining}]",
        *,
        refresh_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
        **tqdm_kwargs: Any,
    ) -> None:
        taken = sorted(tqdm_kwargs.keys() & {"total", "initial"})
        if taken:
            raise TypeError(
                f"ProgressBar: the bar sets {', '.join(taken)} itself, from the engine that it is attached to"
            )
        self._tqdm = require("tqdm.auto", extra="tqdm", feature="ProgressBar").tqdm
        self._tqdm_kwargs = {"leave": persist, "bar_format": bar_format, **tqdm_kwargs}
        self._refresh_s = tqdm_kwargs.get("mininterval", refresh_s)
        self._clock = clock

    def attach(
        self,
        engine: Engine,
        metric_names: str | Iterable[str] | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        event_name: CallableEventWithFilter = Events.ITERATION_COMPLETED,
        closing_event_name: CallableEventWithFilter = Events.EPOCH_COMPLETED,
        state_attributes: Iterable[str] | None = None,
    ) -> None:
        """Draw a bar for this engine.

        Args:
            engine: The engine.
            metric_names: Names in ``engine.state.metrics`` to show, or ``"all"``.
            output_transform: Makes a number, or a mapping of numbers by name, of ``engine.state.output``.
            event_name: What moves the bar on.
            closing_event_name: What ends it. With events of an epoch, and ``COMPLETED`` here, the bar counts epochs.
            state_attributes: Names of attributes of ``engine.state`` to show.

        Raises:
            TypeError: If ``output_transform`` is not callable.
            ValueError: If ``metric_names`` is another string than ``"all"``, ``closing_event_name`` has a filter or
                does not come after ``event_name``, or these are not among the events below.

        The events are ``EPOCH_STARTED``, ``ITERATION_STARTED``, ``ITERATION_COMPLETED``, ``EPOCH_COMPLETED`` and, to
        close, ``COMPLETED``.
        """
        if output_transform is not None and not callable(output_transform):
            raise TypeError(
                f"ProgressBar.attach: output_transform must be callable, got {type(output_transform).__name__}"
            )
        if isinstance(metric_names, str) and metric_names != "all":
            raise ValueError(f"ProgressBar.attach: metric_names must be a list of names or 'all', got {metric_names!r}")
        _check_events(event_name, closing_event_name)
        if idist.get_rank() != 0:
            return
        shown = _Shown(metric_names, output_transform, state_attributes)
        bar = _Bar(self._open, _counter(event_name, closing_event_name), shown, self._refresh_s, self._clock)
        if closing_event_name == Events.EPOCH_COMPLETED:  # which a cut epoch may leave out
            engine.add_event_handler(Events.EPOCH_STARTED, bar.drop)
        engine.add_event_handler(event_name, bar.move)
        engine.add_event_handler(closing_event_name | _ENDS_OF_A_RUN, bar.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, bar.close_after_error)

    def _open(self, progress: _Progress, done: int) -> Any:
        """A tqdm bar that counts from ``done`` on."""
        desc = f"{self._tqdm_kwargs.get('desc') or progress.default_desc}{progress.epochs}: "
        file = self._screen(sys.stderr)
        return self._tqdm(**{**self._tqdm_kwargs, "file": file, "desc": desc, "initial": done, "total": progress.total})

    def log_message(self, message: str) -> None:
        """Print a line without breaking the bars."""
        self._tqdm.write(message, file=self._screen(sys.stdout))

    def _screen(self, default: Any) -> _Screen | None:
        """What to draw on; None leaves it to tqdm, where the default stream takes any text already."""
        file = self._tqdm_kwargs.get("file")
        if file is None and getattr(default, "errors", None) != "strict":
            return None
        return _Screen(default if file is None else file)


class _Screen:
    """A stream that takes any text: characters that its encoding lacks are replaced, as on Windows consoles."""

    def __init__(self, stream: Any) -> None:
        self._wrapped = stream  # the name by which tqdm compares streams

    def write(self, text: str) -> Any:
        try:
            return self._wrapped.write(text)
        except UnicodeEncodeError:
            encoding = getattr(self._wrapped, "encoding", None) or "ascii"
            return self._wrapped.write(text.encode(encoding, "replace").decode(encoding))

    def __eq__(self, other: object) -> bool:
        return bool(self._wrapped == getattr(other, "_wrapped", other))

    def __hash__(self) -> int:
        return hash(self._wrapped)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


class _Bar:
    """One bar on one engine: opened by the first event that moves it, drawn when a refresh is due."""

    #: Loggers come late: a bar attached before a metric still shows the value of this very event.
    event_priority = -100

    def __init__(
        self,
        open_bar: Callable[[_Progress, int], Any],
        counter: Callable[[Engine], _Progress],
        shown: _Shown,
        refresh_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._open_bar = open_bar
        self._counter = counter
        self._shown = shown
        self._refresh_s = refresh_s
        self._clock = clock
        self._bar: Any = None
        self._next_refresh = -math.inf
        self._done = 0

    def move(self, engine: Engine) -> None:
        """Take note of the progress, and draw it if a refresh is due."""
        self._done = engine.epoch_iteration
        now = self._clock()
        if now >= self._next_refresh:
            self._next_refresh = now + self._refresh_s
            self._draw(engine)

    def close(self, engine: Engine) -> None:
        """Draw a last time, and end the bar."""
        if self._bar is not None:
            self._draw(engine)
            self._shown.warn_of_missing()
            self._end()

    def close_after_error(self, engine: Engine, error: BaseException) -> None:
        """End the bar without reading what may not be there."""
        self.drop()

    def drop(self) -> None:
        """End a bar that may be open, as it was drawn last."""
        if self._bar is not None:
            self._end()

    def _draw(self, engine: Engine) -> None:
        progress = self._counter(engine)
        done = self._done if progress.done is None else progress.done
        if self._bar is None:
            self._bar = self._open_bar(progress, done - 1)
        bar = self._bar
        bar.set_postfix(self._shown.values(engine), refresh=False)
        bar.n, bar.total = done, progress.total
        bar.refresh()

    def _end(self) -> None:
        self._bar.close()
        self._bar, self._next_refresh = None, -math.inf


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far a run is, in what its bar counts.

    Attributes:
        done: The count; None for the iterations of this epoch, which the bar takes down itself: the engine has left
            them behind when the epoch is completed.
        total: Of the same; None while it is not known.
        epochs: Which epoch it is, of how many.
        default_desc: What it counts, in a word.
    """

    done: int | None
    total: int | None
    epochs: str
    default_desc: str = "Epoch"


_IN_ORDER = (
    Events.EPOCH_STARTED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_COMPLETED,
    Events.COMPLETED,
)


def _check_events(event: CallableEventWithFilter, closing: CallableEventWithFilter) -> None:
    places = [next((place for place, known in enumerate(_IN_ORDER) if known == one), -1) for one in (event, closing)]
    if not 0 <= places[0] < places[1]:
        raise ValueError(
            "ProgressBar.attach: closing_event_name must come after event_name in "
            f"{[known.name for known in _IN_ORDER]}, got event_name={event!r} and closing_event_name={closing!r}"
        )
    if getattr(closing, "filter", None) is not None:
        raise ValueError(f"ProgressBar.attach: closing_event_name must not have a filter, got {closing!r}")


def _counter(event: CallableEventWithFilter, closing: CallableEventWithFilter) -> Callable[[Engine], _Progress]:
    """What a bar between these events counts: epochs, iterations of the run, or those of an epoch."""
    if event in (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED):
        return lambda engine: _Progress(engine.state.epoch, engine.state.max_epochs, "")
    if closing == Events.COMPLETED:
        return lambda engine: _Progress(engine.state.iteration, _iterations(engine), "", "Iteration")
    return _progress_in_epoch


def _progress_in_epoch(engine: Engine) -> _Progress:
    state = engine.state
    epochs = f" [{state.epoch}/{state.max_epochs}]" if (state.max_epochs or 1) > 1 else ""
    return _Progress(None, state.epoch_length, epochs, "Iteration" if state.max_epochs == 1 else "Epoch")


def _iterations(engine: Engine) -> int | None:
    """How many iterations the whole run has, as far as is known."""
    state = engine.state
    if state.max_iters is not None or state.epoch_length is None or state.max_epochs is None:
        return state.max_iters
    return state.epoch_length * state.max_epochs


class _Shown:
    """What stands beside a bar."""

    def __init__(
        self,
        metric_names: str | Iterable[str] | None,
        output_transform: Callable[[Any], Any] | None,
        state_attributes: Iterable[str] | None,
    ) -> None:
        self._all_metrics = metric_names == "all"
        self._metric_names = () if metric_names is None or self._all_metrics else tuple(metric_names)
        self._output_transform = output_transform
        self._state_attributes = tuple(state_attributes or ())
        self._missing: list[str] = []

    def values(self, engine: Engine) -> dict[str, Any]:
        """By name; metrics that were not computed yet are left out."""
        state = engine.state
        names = tuple(state.metrics) if self._all_metrics else self._metric_names
        values = {name: state.metrics[name] for name in names if name in state.metrics}
        self._missing = [name for name in names if name not in values]
        if self._output_transform is not None and state.output is not None:
            output = self._output_transform(state.output)
            values.update(output if isinstance(output, Mapping) else {"output": output})
        values.update({name: getattr(state, name, None) for name in self._state_attributes})
        return {label: number for name, value in values.items() for label, number in _numbers(name, value)}

    def warn_of_missing(self) -> None:
        """A name that is never there is a mistake."""
        if self._missing:
            warnings.warn(
                f"ProgressBar: no metric of this engine is called {', '.join(map(repr, self._missing))}; "
                "check metric_names, or attach the metric",
                stacklevel=2,
            )
            self._metric_names = tuple(name for name in self._metric_names if name not in self._missing)


def _numbers(name: str, value: Any) -> list[tuple[str, Any]]:
    """A value as what tqdm can show: one element as a number, more of them one by one."""
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        number = kept(value)
        return [(name, reprlib.repr(value) if number is None else number)]
    return [labelled for key, one in value.items() for labelled in _numbers(f"{name}_{key}", one)]

"""A progress bar of a run, drawn by tqdm."""

from __future__ import annotations

import math
import reprlib
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

import ignite_core.distributed as idist
from ignite_contrib._require import require
from ignite_core.engine import CallableEventWithFilter, Engine, Events, RemovableEventHandle
from ignite_core.handlers import kept

__all__ = ["ProgressBar"]

#: Events that close a bar besides its closing event, so that no bar is left half drawn.
_ENDS_OF_A_RUN = Events.COMPLETED | Events.TERMINATE | Events.INTERRUPT

_IN_ORDER = (
    Events.EPOCH_STARTED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_COMPLETED,
    Events.COMPLETED,
)


class ProgressBar:
    r"""Draws the progress of an engine, with metrics and outputs beside the bar.

    It is refreshed at time intervals: between two refreshes an iteration costs one reading of the clock. Values beside
    the bar are read when it is drawn, and once more at the end. Attach it on all ranks: rank 0 draws. In a notebook it
    is a widget.

    Args:
        persist: Leave a finished bar on the screen.
        bar_format: Format of the bar, see :class:`tqdm.tqdm`.
        refresh_s: Interval between two refreshes, in seconds.
        clock: Returns the time in seconds.
        tqdm_kwargs: Further arguments of :class:`tqdm.tqdm`: ``desc``, ``file``, ``ncols``, …; ``mininterval`` is
            another name of ``refresh_s``; ``total`` and ``initial`` are set by the bar.

    Raises:
        ModuleNotFoundError: If tqdm is not installed.
        TypeError: If ``tqdm_kwargs`` has ``total`` or ``initial``.

    Example:
        >>> import io
        >>> screen = io.StringIO()
        >>> trainer = Engine(lambda engine, batch: 0.5)
        >>> bar = ProgressBar(persist=True, file=screen, bar_format="{desc}{n_fmt}/{total_fmt}{postfix}")
        >>> handle = bar.attach(trainer, output_transform=lambda loss: {"loss": loss})
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
        reserved = sorted(tqdm_kwargs.keys() & {"total", "initial"})
        if reserved:
            raise TypeError(f"ProgressBar: {', '.join(reserved)} cannot be given: the bar reads it from its engine")
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
    ) -> RemovableEventHandle:
        """Draw a bar for an engine.

        The events are ``EPOCH_STARTED``, ``ITERATION_STARTED``, ``ITERATION_COMPLETED``, ``EPOCH_COMPLETED`` and, to
        close, ``COMPLETED``.

        Args:
            engine: The engine.
            metric_names: Names in ``engine.state.metrics`` to show, or ``"all"``.
            output_transform: Converts ``engine.state.output`` to a number, or a mapping of numbers by name.
            event_name: The event that advances the bar.
            closing_event_name: The event that closes it. With an event of epochs, and ``COMPLETED`` here, the bar
                counts epochs.
            state_attributes: Names of attributes of ``engine.state`` to show.

        Returns:
            A handle that detaches the bar, and closes it.

        Raises:
            TypeError: If ``output_transform`` is not callable.
            ValueError: If ``metric_names`` is a string other than ``"all"``, an event is not one of those above, or
                ``closing_event_name`` has a filter or does not come after ``event_name``.
        """
        if output_transform is not None and not callable(output_transform):
            raise TypeError(
                f"ProgressBar.attach: output_transform must be callable, got {type(output_transform).__name__}"
            )
        if isinstance(metric_names, str) and metric_names != "all":
            raise ValueError(f"ProgressBar.attach: metric_names must be a list of names or 'all', got {metric_names!r}")
        _check_events(event_name, closing_event_name)
        if idist.get_rank() != 0:
            return RemovableEventHandle(event_name)
        names = metric_names if isinstance(metric_names, str) else tuple(metric_names or ())
        values = _Values(names, output_transform, tuple(state_attributes or ()))
        bar = _Bar(self._open, _counter(event_name, closing_event_name), values, self._refresh_s, self._clock)
        handlers: list[tuple[Any, Any]] = [
            (event_name, bar.advance),
            (closing_event_name | _ENDS_OF_A_RUN, bar.close),
            (Events.EXCEPTION_RAISED, bar.close_after_error),
        ]
        if closing_event_name == Events.EPOCH_COMPLETED:  # which is not fired if an epoch is skipped
            handlers.insert(0, (Events.EPOCH_STARTED, bar.drop))
        handles = [engine.add_event_handler(event, handler) for event, handler in handlers]
        return RemovableEventHandle(event_name, bar.drop, *(handle.remove for handle in handles))

    def log_message(self, message: str) -> None:
        """Print a line without breaking the bars."""
        self._tqdm.write(message, file=self._screen(sys.stdout))

    def _open(self, progress: _Progress, done: int) -> Any:
        desc = f"{self._tqdm_kwargs.get('desc') or progress.default_desc}{progress.epochs}: "
        file = self._screen(sys.stderr)
        return self._tqdm(**{**self._tqdm_kwargs, "file": file, "desc": desc, "initial": done, "total": progress.total})

    def _screen(self, default: Any) -> _Screen | None:
        """The stream to draw on; None leaves it to tqdm, if the default stream takes any text."""
        file = self._tqdm_kwargs.get("file")
        if file is None and getattr(default, "errors", None) != "strict":
            return None
        return _Screen(default if file is None else file)


class _Screen:
    """A stream that takes any text: characters that its encoding lacks, as on Windows consoles, are replaced."""

    def __init__(self, stream: Any) -> None:
        self._wrapped = stream  # tqdm compares streams by this name

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


@dataclass(eq=False)
class _Bar:
    """A bar of one engine, opened when it first advances and drawn when a refresh is due."""

    #: Runs late, so that a bar attached before a metric shows the value of the same event.
    event_priority: ClassVar[int] = -100

    open_bar: Callable[[_Progress, int], Any]
    counter: Callable[[Engine], _Progress]
    values: _Values
    refresh_s: float
    clock: Callable[[], float]
    _bar: Any = None
    _next_refresh: float = -math.inf
    _done: int = 0

    def advance(self, engine: Engine) -> None:
        """Record the progress, and draw it if a refresh is due."""
        self._done = engine.epoch_iteration
        now = self.clock()
        if now >= self._next_refresh:
            self._next_refresh = now + self.refresh_s
            self._draw(engine)

    def close(self, engine: Engine) -> None:
        """Draw a last time, and close."""
        if self._bar is not None:
            self._draw(engine)
            self.values.warn_of_missing()
            self.drop()

    def close_after_error(self, engine: Engine, error: BaseException) -> None:
        """Close without reading values, which may not exist."""
        self.drop()

    def drop(self) -> None:
        """Close a bar that may be open, as it was drawn last."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._next_refresh = None, -math.inf

    def _draw(self, engine: Engine) -> None:
        progress = self.counter(engine)
        done = self._done if progress.done is None else progress.done
        if self._bar is None:
            self._bar = self.open_bar(progress, done - 1)
        self._bar.set_postfix(self.values.read(engine), refresh=False)
        self._bar.n, self._bar.total = done, progress.total
        self._bar.refresh()


class _Progress(NamedTuple):
    """Progress of a run, in the unit that its bar counts."""

    done: (
        int | None
    )  # None: iterations of the epoch, which the bar records, since the engine resets them before its end
    total: int | None  # None: unknown
    epochs: str  # the present epoch and the number of epochs
    default_desc: str = "Epoch"  # the unit


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
    """A function that counts epochs, iterations of the run, or iterations of an epoch."""
    if event in (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED):
        return lambda engine: _Progress(engine.state.epoch, engine.state.max_epochs, "")
    if closing == Events.COMPLETED:
        return lambda engine: _Progress(engine.state.iteration, _total_iterations(engine), "", "Iteration")
    return _progress_in_epoch


def _progress_in_epoch(engine: Engine) -> _Progress:
    state = engine.state
    epochs = f" [{state.epoch}/{state.max_epochs}]" if (state.max_epochs or 1) > 1 else ""
    return _Progress(None, state.epoch_length, epochs, "Iteration" if state.max_epochs == 1 else "Epoch")


def _total_iterations(engine: Engine) -> int | None:
    state = engine.state
    if state.max_iters is not None or state.epoch_length is None or state.max_epochs is None:
        return state.max_iters
    return state.epoch_length * state.max_epochs


@dataclass(eq=False)
class _Values:
    """The values beside a bar."""

    metric_names: str | Sequence[str]
    output_transform: Callable[[Any], Any] | None
    state_attributes: Sequence[str]
    _missing: Sequence[str] = ()

    def read(self, engine: Engine) -> dict[str, Any]:
        """Values by name; metrics that were not computed yet are left out."""
        state = engine.state
        names = tuple(state.metrics if self.metric_names == "all" else self.metric_names)
        values = {name: state.metrics[name] for name in names if name in state.metrics}
        self._missing = [name for name in names if name not in values]
        if self.output_transform is not None and state.output is not None:
            output = self.output_transform(state.output)
            values.update(output if isinstance(output, Mapping) else {"output": output})
        values.update({name: getattr(state, name, None) for name in self.state_attributes})
        return {label: number for name, value in values.items() for label, number in _numbers(name, value)}

    def warn_of_missing(self) -> None:
        if self._missing:
            warnings.warn(
                f"ProgressBar: no metric of this engine is called {', '.join(map(repr, self._missing))}; "
                "check metric_names, or attach the metric",
                stacklevel=2,
            )
            self.metric_names = tuple(name for name in self.metric_names if name not in self._missing)


def _numbers(name: str, value: Any) -> list[tuple[str, Any]]:
    """Split a structure or a tensor into the numbers that tqdm can show."""
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        number = kept(value)
        return [(name, reprlib.repr(value) if number is None else number)]
    return [labelled for key, one in value.items() for labelled in _numbers(f"{name}_{key}", one)]

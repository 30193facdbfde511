"""The base class of all schedulers: a value that is a function of how many times the scheduler was called."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from types import MethodType
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine, check_keys, integer
from ignite_core.handlers.schedules.joins import Curve, check_curve
from ignite_core.metrics.plotting import pyplot_for

__all__ = ["BaseParamScheduler", "is_of_pytorch_ignite", "record", "rows_of"]


class BaseParamScheduler(ABC):
    """A handler that writes a value, which depends only on how many times it was called before.

    Args:
        param_name: Name of the parameter that is written.
        save_history: Append what is written to ``engine.state.param_history[param_name]``.
        curve: ``curve(step) -> value``; not needed if a subclass overrides :meth:`get_param`.

    Attributes:
        event_index: Number of calls so far.
        param_name: Name of the parameter that is written.
        save_history: Whether what is written is appended to ``engine.state.param_history``.

    Raises:
        TypeError: If ``param_name`` is not a string, or there is neither a callable curve nor a ``get_param``.
    """

    #: ``event_index`` as :meth:`get_param` sees it in the first call.
    _first_index = 0

    def __init__(self, param_name: str, save_history: bool = False, *, curve: Curve | None = None) -> None:
        where, overrides = type(self).__name__, type(self).get_param is not BaseParamScheduler.get_param
        if not isinstance(param_name, str):
            raise TypeError(f"{where}: param_name must be a string, got {param_name!r}")
        self.param_name = param_name
        self.event_index = 0
        self._is_loaded = False  # from a state, and not called since
        self.save_history = bool(save_history)
        if curve is not None:
            check_curve(where, curve)
        elif not overrides:
            raise TypeError(f"{where}: there is nothing to write; give a curve, or override get_param")
        self._curve = curve
        self._at = None if overrides or curve is None else _bound(curve)  # None: get_param decides
        self._state_attrs = ["event_index"]  # names of the attributes in the state dict; a subclass may add some

    @property
    def is_predictable(self) -> bool:
        """Whether :meth:`next_values` and :meth:`value_at` can be used."""
        return True

    def attach(self, engine: Engine, event: EventName = Events.ITERATION_STARTED) -> RemovableHandle:
        """Write the next value at each ``event`` of an engine.

        Args:
            engine: The engine, usually the trainer.
            event: An event, with or without a filter.

        Returns:
            A handle whose ``remove()`` detaches the scheduler. The last value that it wrote stays.
        """
        check_engine(f"{type(self).__name__}.attach", engine)
        assert callable(self), "a scheduler that is attached has a __call__"
        return RemovableHandle(engine.add_event_handler(event, self).remove)

    def get_param(self) -> Any:
        """The value at ``event_index``: a number, or a list with one for each parameter group."""
        assert self._curve is not None, "the constructor requires a curve, or another get_param"
        return self._curve(self.event_index)

    def value_at(self, event_index: int) -> Any:
        """The value that the call with this number writes; nothing is written, and the scheduler does not advance.

        Args:
            event_index: Number of calls before it: 0 is the first call, ``self.event_index`` the next one.
        """
        return self._values(event_index, 1)[0]

    def next_values(self, count: int) -> list[Any]:
        """The values that the next ``count`` calls write; nothing is written, and the scheduler does not advance.

        Example:
            >>> import torch
            >>> from ignite_core.handlers import LinearCyclicalScheduler
            >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
            >>> scheduler = LinearCyclicalScheduler(optimizer, "lr", 0.0, 1.0, cycle_size=4)
            >>> scheduler.next_values(5), optimizer.param_groups[0]["lr"]
            ([0.0, 0.5, 1.0, 0.5, 0.0], 0.5)
        """
        return self._values(self.event_index, integer(type(self).__name__, "count", count, least=0))

    def _values(self, first: int, count: int) -> list[Any]:
        """The values of ``count`` calls from number ``first`` on; all that is predicted comes from here."""
        steps = range(first + self._first_index, first + self._first_index + count)
        if self._at is not None:
            return [self._at(step) for step in steps]
        twin, values = copy.copy(self), []
        for step in steps:
            twin.event_index = step
            values.append(twin._value())
        return values

    def _value(self) -> Any:
        """The value at ``event_index``, where no curve alone decides."""
        return self.get_param()

    def _is_repeated(self, engine: Engine | None) -> bool:
        """Whether this call was made before the state was saved: a resumed epoch fires its start again."""
        if getattr(engine, "is_resumed", False):
            return True
        self._is_loaded = False
        return False

    def _go_to(self, event_index: int) -> None:
        """Continue as after this many calls; used for states of pytorch-ignite, which counts in other ways."""
        self.event_index = event_index

    def _take_over(self) -> None:  # noqa: B027  # optional
        """Prepare for the next call, after another scheduler has written."""

    @classmethod
    @abstractmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[Any]]:
        """The values that a scheduler with these arguments would write.

        Args:
            num_events: Number of rows, at least 0.
            scheduler_kwargs: Arguments of the scheduler.

        Returns:
            A row is the number of the event and the value, or several values where they differ: ``[[0, value], ...]``.
        """

    @classmethod
    def plot_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[Any]:
        """Plot :meth:`simulate_values` into the current axes of matplotlib.

        Returns:
            The lines.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        rows = cls.simulate_values(num_events, **scheduler_kwargs)
        axes = pyplot_for(f"{cls.__name__}.plot_values").gca()
        columns = list(zip(*rows, strict=True))
        lines = [line for column in columns[1:] for line in axes.plot(columns[0], column)]
        label = scheduler_kwargs.get("param_name", "learning rate")
        for number, line in enumerate(lines):
            line.set_label(label if len(lines) == 1 else f"{label} {number}")
        axes.legend()
        axes.grid(which="both")
        return lines

    def state_dict(self) -> OrderedDict[str, Any]:
        """``event_index``, and the attributes that a subclass has named in ``_state_attrs``."""
        return OrderedDict((name, _state_of(getattr(self, name))) for name in self._state_attrs)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` saved, in this library or in pytorch-ignite.

        Nothing is written before the next call: the value in force is part of the optimizer's state. Arguments are not
        loaded.

        Raises:
            TypeError: If it is not a mapping, or an entry has the wrong type.
            ValueError: If a key is missing, or ``event_index`` is negative.
        """
        where = type(self).__name__
        check_keys(where, state_dict, self._state_attrs)
        event_index = integer(where, "event_index", self._event_index_of(state_dict), least=0)
        for name in self._state_attrs:
            own, saved = getattr(self, name), state_dict[name]
            if hasattr(own, "load_state_dict"):
                check_keys(f"{where}: {name}", saved, [])
                own.load_state_dict(saved)
            else:
                setattr(self, name, saved)
        self.event_index = event_index
        self._is_loaded = True

    def _event_index_of(self, state_dict: Mapping[str, Any]) -> Any:
        """The number of calls in a state; some schedulers of pytorch-ignite count in other ways."""
        return state_dict["event_index"]


def record(engine: Engine, name: str, value: Any) -> None:
    """Append to ``engine.state.param_history[name]``."""
    if getattr(engine.state, "param_history", None) is None:
        engine.state.param_history = {}
    engine.state.param_history.setdefault(name, []).append(value)


def is_of_pytorch_ignite(state_dict: Mapping[str, Any]) -> bool:
    """Whether a state was saved by pytorch-ignite, which saves arguments too."""
    return "save_history" in state_dict


def rows_of(scheduler: BaseParamScheduler, num_events: int) -> list[list[Any]]:
    """The next values as rows, ``[[0, value], ...]``; a list of values is flattened."""
    count = integer(f"{type(scheduler).__name__}.simulate_values", "num_events", num_events, least=0)
    return [[number, *_flat(value)] for number, value in enumerate(scheduler.next_values(count))]


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [inner for one in value for inner in _flat(one)]


def _bound(curve: Any) -> Curve:
    """The curve as a bound method, where it is an object: it is called faster than the object."""
    found: Curve = curve.__call__ if isinstance(curve.__call__, MethodType) else curve
    return found


def _state_of(value: Any) -> Any:
    return value.state_dict() if hasattr(value, "state_dict") else copy.copy(value)

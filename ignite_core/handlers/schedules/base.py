"""What all schedulers share: a count of their calls, which is all that they save, and a look at what comes."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.handlers._arguments import check_keys, integer
from ignite_core.handlers.schedules.joins import Curve, check_curve
from ignite_core.handlers.schedules.plotting import plot

__all__ = ["BaseParamScheduler", "is_of_pytorch_ignite", "record", "rows_of"]


class BaseParamScheduler(ABC):
    """A handler that writes a value, which follows from how often it was called before.

    Args:
        param_name: What is written.
        save_history: Append what is written to ``engine.state.param_history[param_name]``.
        curve: ``curve(step) -> value``; none if a subclass overrides :meth:`get_param`.

    Attributes:
        event_index: How often it was called.
        param_name: What is written.

    Raises:
        TypeError: If ``param_name`` is no string, or there is no callable curve and no ``get_param``.
    """

    #: ``event_index`` as :meth:`get_param` sees it in the first call.
    _first_index = 0

    def __init__(self, param_name: str, save_history: bool = False, *, curve: Curve | None = None) -> None:
        where, has_own = type(self).__name__, type(self).get_param is not BaseParamScheduler.get_param
        if not isinstance(param_name, str):
            raise TypeError(f"{where}: param_name must be a string, got {param_name!r}")
        self.param_name = param_name
        self.event_index = 0
        self._is_loaded = False  # and was not called since
        self._save_history = bool(save_history)
        if curve is not None:
            check_curve(where, curve)
        elif not has_own:
            raise TypeError(f"{where}: there is nothing to write; give a curve, or override get_param")
        self._curve = curve
        # A bound method is called sooner than an object; None if a get_param has the last word.
        self._at = None if has_own or curve is None else _bound(curve)
        self._own: Callable[[Any], Any] = type(self).get_param  # what is called with the scheduler where it has
        self._state_attrs = ["event_index"]  # what is saved; a subclass may add names of its own

    @property
    def is_predictable(self) -> bool:
        """Whether what comes can be told beforehand."""
        return True

    @property
    def save_history(self) -> bool:
        """Whether what is written is appended to ``engine.state.param_history``."""
        return self._save_history

    @save_history.setter
    def save_history(self, value: bool) -> None:
        self._save_history = value

    def get_param(self) -> Any:
        """The value at ``event_index``: a number, or a list with one for each parameter group."""
        assert self._curve is not None, "the constructor wants a curve, or another get_param"
        return self._curve(self.event_index)

    def value_at(self, event_index: int) -> Any:
        """What the call of this number writes; nothing is written, and nothing moves.

        Args:
            event_index: Calls before it: 0 means the first one of all, ``self.event_index`` the next.
        """
        if self._at is not None:
            return self._at(event_index + self._first_index)
        twin = copy.copy(self)
        twin.event_index = event_index + self._first_index
        return twin._own(twin)

    def next_values(self, count: int) -> list[Any]:
        """What the next ``count`` calls write; nothing is written, and nothing moves.

        Example:
            >>> import torch
            >>> from ignite_core.handlers import LinearCyclicalScheduler
            >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
            >>> scheduler = LinearCyclicalScheduler(optimizer, "lr", 0.0, 1.0, cycle_size=4)
            >>> scheduler.next_values(5), optimizer.param_groups[0]["lr"]
            ([0.0, 0.5, 1.0, 0.5, 0.0], 0.5)
        """
        return self._ahead(0, integer(type(self).__name__, "count", count, least=0))

    def _ahead(self, skip: int, count: int) -> list[Any]:
        """What ``count`` calls write, the next ``skip`` ones passed over."""
        first = self.event_index + skip
        return [self.value_at(index) for index in range(first, first + count)]

    def _was_made(self, engine: Engine | None) -> bool:
        """Whether this call was made before, in the run that was saved: an epoch that goes on is announced again."""
        if getattr(engine, "is_resumed", False):
            return True
        self._is_loaded = False
        return False

    def _go_to(self, event_index: int) -> None:
        """Go on as after so many calls, with whatever pytorch-ignite counts otherwise."""
        self.event_index = event_index

    def _take_over(self) -> None:  # noqa: B027  # most have nothing to do
        """Get ready to be called where another scheduler wrote before."""

    @classmethod
    @abstractmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[Any]]:
        """What a scheduler of these arguments would write: ``[[0, value], [1, value], ...]``."""

    @classmethod
    def plot_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[Any]:
        """Draw :meth:`simulate_values` into the present axes of matplotlib.

        Returns:
            The lines.

        Raises:
            ModuleNotFoundError: If matplotlib is not installed.
        """
        rows = cls.simulate_values(num_events, **scheduler_kwargs)
        return plot(f"{cls.__name__}.plot_values", rows, scheduler_kwargs.get("param_name", "learning rate"))

    def state_dict(self) -> OrderedDict[str, Any]:
        """``event_index``, and what a subclass has named in ``_state_attrs``."""
        return OrderedDict((name, _state_of(getattr(self, name))) for name in self._state_attrs)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` saved, here or in pytorch-ignite.

        Nothing is written before the next call: what was in force is in the state of the optimizer. Arguments stay
        those of this scheduler.

        Raises:
            TypeError: If it is not a mapping, or what is in it of another kind than it was.
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
        """How many calls a state tells of; pytorch-ignite counts them in other ways here and there."""
        return state_dict["event_index"]


def record(engine: Engine, name: str, value: Any) -> None:
    """Append to ``engine.state.param_history[name]``."""
    history = getattr(engine.state, "param_history", None)
    if history is None:
        history = engine.state.param_history = {}
    if name not in history:
        history[name] = []
    history[name].append(value)


def is_of_pytorch_ignite(state_dict: Mapping[str, Any]) -> bool:
    """Whether a state comes from there, where arguments are saved too.

    Example:
        >>> is_of_pytorch_ignite({"event_index": 3}), is_of_pytorch_ignite({"event_index": 3, "save_history": False})
        (False, True)
    """
    return "save_history" in state_dict


def rows_of(scheduler: BaseParamScheduler, num_events: int) -> list[list[Any]]:
    """The next values as rows, ``[[0, value], ...]``, where a list of values fills as many places."""
    count = integer(f"{type(scheduler).__name__}.simulate_values", "num_events", num_events, least=0)
    return [[number, *_flat(value)] for number, value in enumerate(scheduler.next_values(count))]


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [inner for one in value for inner in _flat(one)]


def _bound(curve: Any) -> Curve:
    """What calls a curve without looking for its ``__call__`` each time."""
    found: Curve = curve.__call__ if isinstance(curve.__call__, MethodType) else curve
    return found


def _state_of(value: Any) -> Any:
    return value.state_dict() if hasattr(value, "state_dict") else copy.copy(value)

"""A curve written into an attribute of ``engine.state``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.engine.state import State
from ignite_core.handlers._arguments import check_engine
from ignite_core.handlers.schedules.base import BaseParamScheduler, record, rows_of
from ignite_core.handlers.schedules.curves import exponential, multi_step, piecewise_linear, step
from ignite_core.handlers.schedules.joins import Curve

__all__ = [
    "ExpStateScheduler",
    "LambdaStateScheduler",
    "MultiStepStateScheduler",
    "PiecewiseLinearStateScheduler",
    "StateParamScheduler",
    "StepStateScheduler",
]

#: Before other handlers of ``STARTED``, which may read the value.
_FIRST = 1000


class StateParamScheduler(BaseParamScheduler):
    """Writes a curve into an attribute of ``engine.state``, one step further at each call.

    The first call writes step 1, so that at ``EPOCH_COMPLETED`` the step is the epoch. Give a curve, or override
    :meth:`get_param`, which is called with ``event_index`` set.

    Args:
        param_name: Name of the attribute.
        save_history: Append what is written to ``engine.state.param_history[param_name]``.
        create_new: The attribute must not exist yet. Otherwise it is overwritten, with a warning if it does not exist.
        curve: ``curve(step) -> value``.

    Raises:
        TypeError: If there is no callable curve and no ``get_param``.

    Example:
        >>> from ignite_core.engine import Engine, Events
        >>> from ignite_core.handlers.schedules.curves import linear
        >>> trainer = Engine(lambda engine, batch: None)
        >>> scheduler = StateParamScheduler("dropout", create_new=True, curve=linear(0.0, 0.5, steps=5))
        >>> handle = scheduler.attach(trainer, Events.EPOCH_COMPLETED)
        >>> trainer.run([0], max_epochs=3).dropout
        0.3
    """

    _first_index = 1

    def __init__(
        self, param_name: str, save_history: bool = False, create_new: bool = False, *, curve: Curve | None = None
    ) -> None:
        super().__init__(param_name, save_history, curve=curve)
        self.create_new = create_new

    def attach(self, engine: Engine, event: EventName = Events.ITERATION_COMPLETED) -> RemovableHandle:
        """Write the next value at each ``event`` of an engine. A new attribute is None until then.

        Returns:
            A handle whose ``remove()`` detaches the scheduler. The attribute keeps the last value that was written.

        Raises:
            TypeError: If ``engine`` is not an Engine.
            ValueError: If the attribute belongs to the engine, or it exists although ``create_new`` was set.
        """
        check_engine(f"{type(self).__name__}.attach", engine)
        where, name = type(self).__name__, self.param_name
        if hasattr(State, name):
            raise ValueError(f"{where}.attach: param_name={name!r} is an attribute of the engine; choose another name")
        is_new = not hasattr(engine.state, name)
        if self.create_new and not is_new:
            raise ValueError(
                f"{where}.attach: the state has an attribute {name!r} already; choose another name, or overwrite it "
                "with create_new=False"
            )
        if is_new and not self.create_new:
            warnings.warn(
                f"{where}.attach: the state has no attribute {name!r} yet, it is created; create_new=True avoids this "
                "warning",
                stacklevel=2,
            )
        write = engine.add_event_handler(event, self)
        restore = engine.add_event_handler(Events.STARTED(priority=_FIRST), self._restore)
        if is_new:
            setattr(engine.state, name, None)
        return RemovableHandle(partial(_delete_if_unset, engine.state, name, is_new), restore.remove, write.remove)

    def __call__(self, engine: Engine) -> None:
        """Write the next value into the state of an engine."""
        if self._is_loaded and self._is_repeated(engine):
            self._restore(engine)
            return
        index = self.event_index = self.event_index + 1
        at = self._at
        value = self.get_param() if at is None else at(index)
        setattr(engine.state, self.param_name, value)
        if self.save_history:
            record(engine, self.param_name, value)

    def _restore(self, engine: Engine) -> None:
        """Write the value in force, after a state was loaded."""
        if self._is_loaded and self.event_index:
            setattr(engine.state, self.param_name, self.value_at(self.event_index - 1))

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[Any]]:
        """The values that a scheduler with these arguments would write.

        Example:
            >>> ExpStateScheduler.simulate_values(3, param_name="alpha", initial_value=1.0, gamma=0.5)
            [[0, 0.5], [1, 0.25], [2, 0.125]]
        """
        return rows_of(cls(**{**scheduler_kwargs, "save_history": False}), num_events)


class LambdaStateScheduler(StateParamScheduler):
    """Writes the value of a function of the step.

    Args:
        lambda_obj: ``lambda_obj(step) -> value``, where the first step is 1. It should depend on the step alone, as it
            is not saved.
        param_name, save_history, create_new: See :class:`StateParamScheduler`.

    Raises:
        TypeError: If ``lambda_obj`` is not callable.

    Example:
        >>> LambdaStateScheduler(lambda step: 10 * step, "alpha").next_values(3)
        [10, 20, 30]
    """

    def __init__(
        self, lambda_obj: Callable[[int], Any], param_name: str, save_history: bool = False, create_new: bool = False
    ) -> None:
        super().__init__(param_name, save_history, create_new, curve=lambda_obj)
        self.lambda_obj = lambda_obj


class PiecewiseLinearStateScheduler(StateParamScheduler):
    """Writes straight lines between milestones: :class:`~.curves.piecewise_linear`.

    Args:
        milestones_values: Pairs of a step and the value at that step, the steps in increasing order.
        param_name, save_history, create_new: See :class:`StateParamScheduler`.

    Raises:
        ValueError: If the steps do not increase, or there are no milestones.

    Example:
        >>> PiecewiseLinearStateScheduler([(2, 1.0), (4, 0.5)], "alpha").next_values(5)
        [1.0, 1.0, 0.75, 0.5, 0.5]
    """

    def __init__(
        self,
        milestones_values: Sequence[tuple[int, float]],
        param_name: str,
        save_history: bool = False,
        create_new: bool = False,
    ) -> None:
        super().__init__(param_name, save_history, create_new, curve=piecewise_linear(milestones_values))


class ExpStateScheduler(StateParamScheduler):
    """Multiplies the value by a factor at every step: :class:`~.curves.exponential`.

    Args:
        initial_value: The value at step 0, which is never written.
        gamma: The factor, above 0.
        param_name, save_history, create_new: See :class:`StateParamScheduler`.

    Example:
        >>> ExpStateScheduler(1.0, 0.5, "alpha").next_values(3)
        [0.5, 0.25, 0.125]
    """

    def __init__(
        self, initial_value: float, gamma: float, param_name: str, save_history: bool = False, create_new: bool = False
    ) -> None:
        super().__init__(param_name, save_history, create_new, curve=exponential(initial_value, gamma))
        self.initial_value, self.gamma = initial_value, gamma


class StepStateScheduler(StateParamScheduler):
    """Multiplies the value by a factor every ``step_size`` steps: :class:`~.curves.step`.

    Args:
        initial_value: The value at step 0.
        gamma: The factor, above 0.
        step_size: Steps between two changes, at least 1.
        param_name, save_history, create_new: See :class:`StateParamScheduler`.

    Example:
        >>> StepStateScheduler(1.0, 0.5, 2, "alpha").next_values(4)
        [1.0, 0.5, 0.5, 0.25]
    """

    def __init__(
        self,
        initial_value: float,
        gamma: float,
        step_size: int,
        param_name: str,
        save_history: bool = False,
        create_new: bool = False,
    ) -> None:
        super().__init__(param_name, save_history, create_new, curve=step(initial_value, gamma, step_size))
        self.initial_value, self.gamma, self.step_size = initial_value, gamma, step_size


class MultiStepStateScheduler(StateParamScheduler):
    """Multiplies the value by a factor at each milestone: :class:`~.curves.multi_step`.

    Args:
        initial_value: The value at step 0.
        gamma: The factor, above 0.
        milestones: Steps, in increasing order.
        param_name, save_history, create_new: See :class:`StateParamScheduler`.

    Example:
        >>> MultiStepStateScheduler(1.0, 0.5, [2, 3], "alpha").next_values(4)
        [1.0, 0.5, 0.25, 0.25]
    """

    def __init__(
        self,
        initial_value: float,
        gamma: float,
        milestones: Sequence[int],
        param_name: str,
        save_history: bool = False,
        create_new: bool = False,
    ) -> None:
        super().__init__(param_name, save_history, create_new, curve=multi_step(initial_value, gamma, milestones))
        self.initial_value, self.gamma, self.milestones = initial_value, gamma, milestones


def _delete_if_unset(state: State, name: str, is_new: bool) -> None:
    """Delete an attribute that ``attach`` has created, if no call has written it."""
    if is_new and getattr(state, name, 0) is None:
        delattr(state, name)

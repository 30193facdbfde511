"""Lower the learning rate when a metric stops improving."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from torch.optim.lr_scheduler import ReduceLROnPlateau

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.exceptions import few
from ignite_core.handlers._direction import higher_is_better
from ignite_core.handlers.schedules.param_scheduler import HasGroups, ParamScheduler, dummy_optimizer, num_groups

__all__ = ["ReduceLROnPlateauScheduler"]


class ReduceLROnPlateauScheduler(ParamScheduler):
    """Lowers the learning rate when a metric stops improving, as ``torch.optim.lr_scheduler.ReduceLROnPlateau`` does.

    Unlike other schedules, it is not a function of the step: the rate depends on the metrics so far.

    Args:
        optimizer: A torch optimizer.
        metric_name: Name of the metric, in the engine at whose event this handler is called.
        trainer: The engine whose state holds the history.
        save_history: Append the rates to ``trainer.state.param_history["lr"]``.
        param_group_index: Index of the only parameter group that is lowered; by default all are.
        scheduler_kwargs: Arguments of the scheduler of torch: ``mode``, ``factor``, ``patience``, ``threshold``,
            ``threshold_mode``, ``cooldown``, ``min_lr`` (a number, or a list with one for each parameter group),
            ``eps``. Without ``mode``, ``higher_is_better`` of the attached metric decides; ``"min"`` if no metric is
            attached.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> losses = iter([3.0, 2.0, 2.0, 2.0, 1.0])
        >>> evaluator = Engine(lambda engine, batch: None)
        >>> @evaluator.on(Events.COMPLETED)
        ... def measure(engine):
        ...     engine.state.metrics["loss"] = next(losses)
        >>> scheduler = ReduceLROnPlateauScheduler(optimizer, "loss", mode="min", factor=0.5, patience=1)
        >>> handle = scheduler.attach(evaluator)
        >>> for _ in range(5):
        ...     _ = evaluator.run([0])
        ...     print(optimizer.param_groups[0]["lr"], end=",")
        1.0,1.0,1.0,0.5,0.5,
    """

    def __init__(
        self,
        optimizer: Any,
        metric_name: str,
        trainer: Engine | None = None,
        save_history: bool = False,
        param_group_index: int | None = None,
        **scheduler_kwargs: Any,
    ) -> None:
        super().__init__(optimizer, "lr", save_history, param_group_index)
        if not isinstance(metric_name, str):
            raise TypeError(f"ReduceLROnPlateauScheduler: metric_name must be a string, got {metric_name!r}")
        if not isinstance(trainer, Engine | None):
            raise TypeError(f"ReduceLROnPlateauScheduler: trainer must be an Engine, got {trainer!r}")
        self.metric_name = metric_name
        self._trainer = None if trainer is None else weakref.ref(trainer)  # the trainer may hold this handler
        kwargs = {key: value for key, value in scheduler_kwargs.items() if key != "verbose"}
        least = kwargs.pop("min_lr", 0.0)
        self._mode_from_metric = "mode" not in kwargs
        self.scheduler = ReduceLROnPlateau(optimizer, **kwargs)
        if param_group_index is not None:
            self.scheduler.optimizer = _OneGroup(optimizer, param_group_index)  # type: ignore[assignment]
        self.scheduler.min_lrs = _min_lrs(least, len(self.optimizer_param_groups))
        self._state_attrs += ["scheduler"]

    @property
    def is_predictable(self) -> bool:
        """False: the rate depends on the metrics."""
        return False

    @property
    def trainer(self) -> Engine | None:
        """The engine whose state holds the history."""
        return None if self._trainer is None else self._trainer()

    def attach(self, engine: Engine, event: EventName = Events.COMPLETED) -> RemovableHandle:
        """Check the metric at each ``event`` of an engine, usually an evaluator, until ``remove()`` of the handle."""
        return super().attach(engine, event)

    def __call__(self, engine: Engine, name: str | None = None) -> None:  # type: ignore[override]
        """Check the metric of an engine, and lower the rate if it has not improved for long enough."""
        if self.metric_name not in engine.state.metrics:
            raise ValueError(
                f"ReduceLROnPlateauScheduler: the engine has no metric {self.metric_name!r}, its metrics are "
                f"{few(sorted(engine.state.metrics))}; attach the metric and this scheduler to the same engine"
            )
        if self._mode_from_metric and self.event_index == 0 and higher_is_better(engine, self.metric_name):
            self.scheduler.load_state_dict({"mode": "max", "best": -math.inf})
        self.scheduler.step(engine.state.metrics[self.metric_name])
        self.event_index += 1
        trainer = self.trainer
        if self.save_history and trainer is not None:
            self._record(trainer, name)

    def get_param(self) -> Any:
        """The current rate, or a list with that of each parameter group."""
        rates = [group["lr"] for group in self.optimizer_param_groups]
        return rates[0] if len(rates) == 1 else rates

    def _values(self, first: int, count: int) -> NoReturn:
        raise RuntimeError("ReduceLROnPlateauScheduler: the rates depend on the metric, and cannot be predicted")

    @classmethod
    def simulate_values(  # type: ignore[override]
        cls, num_events: int, metric_values: Sequence[float], init_lr: float, **scheduler_kwargs: Any
    ) -> list[list[Any]]:
        """The rates that a scheduler with these arguments would write, ``[[0, rate], [1, rate], ...]``.

        Args:
            num_events: Number of rows, which is that of the metrics.
            metric_values: The metrics.
            init_lr: The initial rate.
            scheduler_kwargs: The other arguments of the class.

        Example:
            >>> ReduceLROnPlateauScheduler.simulate_values(4, [1.0, 1.0, 1.0, 0.5], 0.8, patience=1, factor=0.5)
            [[0, 0.8], [1, 0.8], [2, 0.4], [3, 0.4]]
        """
        if len(metric_values) != num_events:
            raise ValueError(
                f"{cls.__name__}.simulate_values: there must be a metric for each of {num_events} events, got "
                f"{len(metric_values)}"
            )
        ignored = ("optimizer", "metric_name", "trainer", "save_history")
        kwargs = {key: value for key, value in scheduler_kwargs.items() if key not in ignored}
        optimizer = dummy_optimizer("lr", num_groups(kwargs))
        for group in optimizer.param_groups:
            group["lr"] = init_lr
        scheduler, engine, rows = cls(optimizer, "metric", **kwargs), Engine(lambda engine, batch: None), []
        for number, value in enumerate(metric_values):
            engine.state.metrics["metric"] = value
            scheduler(engine)
            rows.append([number, scheduler.optimizer_param_groups[0]["lr"]])
        return rows

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        saved = state_dict.get("scheduler") if isinstance(state_dict, Mapping) else None
        if isinstance(saved, Mapping):  # pytorch-ignite saves a method in it
            state_dict = {**state_dict, "scheduler": {key: saved[key] for key in saved if key != "_reduce_lr"}}
        super().load_state_dict(state_dict)


class _OneGroup:
    """An optimizer with only one of its parameter groups, for a scheduler of torch."""

    def __init__(self, optimizer: HasGroups, index: int) -> None:
        self._optimizer, self._index = optimizer, index

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [self._optimizer.param_groups[self._index]]


def _min_lrs(least: Any, groups: int) -> list[float]:
    each = list(least) if isinstance(least, Sequence) else [least] * groups
    if len(each) != groups:
        raise ValueError(
            f"ReduceLROnPlateauScheduler: min_lr must be a number, or one for each of {groups} parameter groups, got "
            f"{least!r}"
        )
    return each

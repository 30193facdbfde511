"""The batch size of a DataLoader as a function of the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import BatchSampler, DataLoader

from ignite_core.engine.data.position import length_of
from ignite_core.engine.engine import Engine
from ignite_core.engine.events import EventName, Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import integer
from ignite_core.handlers.schedules.base import BaseParamScheduler, record

__all__ = ["BatchSizeScheduler"]


class BatchSizeScheduler(BaseParamScheduler):
    """Sets the batch size of a DataLoader, for its next iteration.

    If an engine runs over this loader and an epoch is one pass over it, ``state.epoch_length`` is updated, so that an
    epoch remains one pass.

    Args:
        dataloader: A DataLoader with a ``BatchSampler``.
        scheduler_fn: ``scheduler_fn(step) -> batch size``, where the first step is 0; an integer of at least 1.
        save_history: Append the batch size to ``engine.state.param_history["batch_size"]``.

    Raises:
        TypeError: If ``dataloader`` is not a DataLoader, or ``scheduler_fn`` is not callable; when it is called, if the
            batch size is not an integer.
        ValueError: If the DataLoader has no ``BatchSampler``; when it is called, if the batch size is below 1.

    Example:
        >>> loader = DataLoader(list(range(12)), batch_size=2)
        >>> trainer = Engine(lambda engine, batch: print(len(batch), end=","))
        >>> handle = BatchSizeScheduler(loader, lambda epoch: 2 + 4 * epoch).attach(trainer)
        >>> epochs = trainer.run(loader, max_epochs=2).epoch
        2,2,2,2,2,2,6,6,
    """

    def __init__(
        self, dataloader: DataLoader[Any], scheduler_fn: Callable[[int], int], save_history: bool = False
    ) -> None:
        if not isinstance(dataloader, DataLoader):
            raise TypeError(f"BatchSizeScheduler: dataloader must be a DataLoader, got {dataloader!r}")
        if not isinstance(dataloader.batch_sampler, BatchSampler):
            raise ValueError(
                "BatchSizeScheduler: the batch_sampler of dataloader must be a BatchSampler, got "
                f"{dataloader.batch_sampler!r}"
            )
        if not callable(scheduler_fn):
            raise TypeError(f"BatchSizeScheduler: scheduler_fn must be callable, got {scheduler_fn!r}")
        super().__init__("batch_size", save_history, curve=scheduler_fn)
        self.dataloader = dataloader
        self._sampler = dataloader.batch_sampler
        self.scheduler_fn = scheduler_fn

    def attach(self, engine: Engine, event: EventName = Events.EPOCH_STARTED) -> RemovableHandle:
        """Set the next batch size at each ``event`` of an engine, until ``remove()`` of the returned handle."""
        return super().attach(engine, event)

    def __call__(self, engine: Engine | None = None) -> None:
        """Set the next batch size."""
        if self._is_loaded and self._is_repeated(engine):
            return
        value = self.get_param()
        before = length_of(self.dataloader)
        self._set(value)
        if engine is not None:
            state = engine.state
            if state.dataloader is self.dataloader and state.epoch_length == before:
                state.epoch_length = length_of(self.dataloader)
            if self.save_history:
                record(engine, self.param_name, value)
        self.event_index += 1

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what :meth:`state_dict` saved, with the batch size that was in force."""
        super().load_state_dict(state_dict)
        if self.event_index:
            self._set(self.value_at(self.event_index - 1))

    @classmethod
    def simulate_values(cls, num_events: int, **scheduler_kwargs: Any) -> list[list[Any]]:
        """The batch sizes that ``scheduler_fn`` would set; other arguments of the class are not used.

        Example:
            >>> BatchSizeScheduler.simulate_values(3, scheduler_fn=lambda epoch: 10 + 5 * epoch)
            [[0, 10], [1, 15], [2, 20]]
        """
        if "scheduler_fn" not in scheduler_kwargs:
            raise ValueError(f"{cls.__name__}.simulate_values: scheduler_fn is missing, got {list(scheduler_kwargs)}")
        scheduler_fn = scheduler_kwargs["scheduler_fn"]
        return [[number, _checked(scheduler_fn(number))] for number in range(num_events)]

    def _set(self, value: Any) -> None:
        self._sampler.batch_size = _checked(value)


def _checked(value: object) -> int:
    return integer("BatchSizeScheduler", "a batch size", value, least=1)

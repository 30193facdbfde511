"""The state of an engine: counters and results of its run, and attributes of the user."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

__all__ = ["MetricValues", "State"]


class MetricValues(MutableMapping[str, Any]):
    """Metric values by name. A one-element tensor on a device is converted to a number when it is first read.

    So storing a value does not wait for the device, and reading it waits once. Tensors on the CPU, and those with more
    elements, are returned unchanged. It is not a ``dict``: ``dict(values)`` and ``**values`` of a dict subclass would
    bypass the conversion.

    Example:
        >>> values = MetricValues({"accuracy": 0.5})
        >>> values["loss"] = 2.0
        >>> dict(values), values
        ({'accuracy': 0.5, 'loss': 2.0}, {'accuracy': 0.5, 'loss': 2.0})
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[str, Any] = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if isinstance(value, torch.Tensor) and value.device.type != "cpu" and value.numel() == 1:
            value = self._values[name] = value.item()
        return value

    def unread(self, name: str) -> Any:
        """A value as it was stored, without waiting for its device."""
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __repr__(self) -> str:
        return repr(dict(self))


class State:
    """Counters, data and results of a run, shared by the step and the handlers.

    Users may add attributes: ``engine.state.alpha = 0.1``.

    Args:
        kwargs: Attributes to set.

    Attributes:
        iteration: Iterations started, over all epochs; the first is 1.
        epoch: Epochs started; the first is 1.
        epoch_length: Iterations of an epoch; None if not known yet. The loop reads it when an epoch starts.
        max_epochs: Epochs to run; None if ``max_iters`` is the limit, or there was no run yet.
        max_iters: Iterations to run; None if ``max_epochs`` is the limit.
        batch: The batch passed to the step. It is released before the next one is fetched.
        output: What the step returned. It is released before the next step, after the next batch was fetched.
        metrics: Values by name; a dict that is assigned is wrapped in :class:`MetricValues`.
        dataloader: The data passed to the run; None if batches are None.
        seed: The seed of a seeded run, else None.
        times: Seconds of the last epoch and of the run so far, at ``"EPOCH_COMPLETED"`` and ``"COMPLETED"``; while
            handlers of that event run, without their time.

    Example:
        >>> state = State(alpha=0.1)
        >>> state.iteration, state.alpha
        (0, 0.1)
    """

    # Slots for the attributes of the loop, a dict for the rest: on Python 3.11, accessing ``state.__dict__`` once slows
    # every later access to the attributes in it by half. Those in slots are not affected.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_metrics",
        "batch",
        "dataloader",
        "epoch",
        "epoch_length",
        "iteration",
        "max_epochs",
        "max_iters",
        "output",
        "seed",
        "times",
    )

    #: The attribute that counts an event, by name of the event. Read-only: ``register_events(..., event_to_attr=...)``
    #: adds to a copy in the state of that engine.
    event_to_attr: Mapping[Any, str] = MappingProxyType(
        {
            "GET_BATCH_STARTED": "iteration",
            "GET_BATCH_COMPLETED": "iteration",
            "ITERATION_STARTED": "iteration",
            "ITERATION_COMPLETED": "iteration",
            "EPOCH_STARTED": "epoch",
            "EPOCH_COMPLETED": "epoch",
            "STARTED": "epoch",
            "COMPLETED": "epoch",
        }
    )

    if TYPE_CHECKING:  # attributes of the user

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, **kwargs: Any) -> None:
        self.iteration: int = 0
        self.epoch: int = 0
        self.epoch_length: int | None = None
        self.max_epochs: int | None = None
        self.max_iters: int | None = None
        self.batch: Any = None
        self.output: Any = None
        self.dataloader: Iterable[Any] | None = None
        self.seed: int | None = None
        self.times: dict[str, float | None] = {"EPOCH_COMPLETED": None, "COMPLETED": None}
        self._metrics = MetricValues()
        for name, value in kwargs.items():
            setattr(self, name, value)

    @property
    def metrics(self) -> MutableMapping[str, Any]:
        return self._metrics

    @metrics.setter
    def metrics(self, values: Mapping[str, Any]) -> None:
        self._metrics = values if isinstance(values, MetricValues) else MetricValues(values)

    def get_event_attrib_value(self, event_name: Any) -> int:
        """The count of an event that is counted by an attribute; a RuntimeError for others."""
        attribute = self.event_to_attr.get(event_name)
        if attribute is None:
            raise RuntimeError(
                f"State: no attribute counts the event {event_name!r}; there are attributes for "
                f"{list(self.event_to_attr)}"
            )
        value: int = getattr(self, attribute)
        return value

    def __repr__(self) -> str:
        names = [name for name in dir(self) if not name.startswith("_") and name not in _NOT_SHOWN]
        lines = []
        for name in names:
            value = getattr(self, name)
            lines.append(f"\t{name}: {value if isinstance(value, numbers.Number | str | None) else type(value)}\n")
        return "State:\n" + "".join(lines)


_NOT_SHOWN = frozenset({"event_to_attr", "get_event_attrib_value"})

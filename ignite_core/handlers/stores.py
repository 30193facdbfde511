"""Keep all outputs of an epoch in a list."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.registration import RemovableHandle
from ignite_core.handlers._arguments import check_engine, check_keys

__all__ = ["EpochOutputStore"]


class EpochOutputStore:
    """Keeps the output of each iteration of an epoch, for example to plot all predictions.

    Outputs are kept as they are: on their device, and with their graph if they have one. Use ``output_transform`` to
    select what is needed, and to detach it or move it to the CPU. On several ranks each keeps its own outputs.

    Args:
        output_transform: Computes what is kept from ``engine.state.output``.

    Attributes:
        data: What was kept in this epoch, in order. Each epoch begins a new list.

    Raises:
        TypeError: If ``output_transform`` is not callable.

    Example:
        >>> evaluator = Engine(lambda engine, batch: (batch, batch**2))
        >>> handle = EpochOutputStore(output_transform=lambda output: output[1]).attach(evaluator, "squares")
        >>> evaluator.run([1, 2, 3]).squares
        [1, 4, 9]
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        if not callable(output_transform):
            raise TypeError(f"EpochOutputStore: output_transform must be callable, got {output_transform!r}")
        self.data: list[Any] = []
        self.output_transform = output_transform
        self.name: str | None = None
        self._is_loaded = False

    def attach(self, engine: Engine, name: str | None = None) -> RemovableHandle:
        """Keep the outputs of an engine.

        Args:
            engine: Usually an evaluator.
            name: If given, ``engine.state`` has the list under this name at the end of each epoch.

        Returns:
            A handle that detaches it.

        Raises:
            TypeError: If ``engine`` is not an Engine, or ``name`` not a string.
        """
        check_engine("EpochOutputStore.attach", engine)
        if not isinstance(name, str | None):
            raise TypeError(f"EpochOutputStore.attach: name must be a string, got {name!r}")
        handles = [
            engine.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch),
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.update),
        ]
        if name is not None:
            self.name = name
            handles.append(engine.add_event_handler(Events.EPOCH_COMPLETED, self.store, name))
        return RemovableHandle(*(handle.remove for handle in handles))

    def reset(self) -> None:
        """Begin a new list."""
        self.data = []

    def update(self, engine: Engine) -> None:
        """Keep the output of an engine."""
        self.data.append(self.output_transform(engine.state.output))

    def store(self, engine: Engine, name: str | None = None) -> None:
        """Set the attribute ``name`` of ``engine.state`` to the list, by default under the name given last."""
        name = self.name if name is None else name
        if name is None:
            raise ValueError("EpochOutputStore.store: there is no name to store under; pass one, or attach with one")
        setattr(engine.state, name, self.data)

    def state_dict(self) -> OrderedDict[str, Any]:
        """``data`` as it is. Save it only to resume inside an epoch, and if the outputs are small."""
        return OrderedDict(data=list(self.data))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict`.

        Raises:
            TypeError: If it is not a mapping with a list.
            ValueError: If the key is missing.
        """
        check_keys("EpochOutputStore", state_dict, ["data"])
        if not isinstance(state_dict["data"], list):
            raise TypeError(f"EpochOutputStore: data must be a list, got {type(state_dict['data']).__name__}")
        self.data = list(state_dict["data"])
        self._is_loaded = True

    def _begin_epoch(self, engine: Engine) -> None:
        is_continued = self._is_loaded and engine.is_resumed
        self._is_loaded = False
        if not is_continued:
            self.reset()

"""What a checkpoint handler would save, found out on a virtual clock: names and moments, and no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ignite_core.engine.engine import Engine
from ignite_core.engine.events import Events
from ignite_core.engine.forecast import Forecast
from ignite_core.handlers.checkpoint.naming import Naming, object_name
from ignite_core.handlers.checkpoint.retention import Item, Kept, Retention

if TYPE_CHECKING:
    from ignite_core.handlers.checkpoint.checkpoint import Checkpoint

__all__ = ["ENDS", "ForeseenSaves"]

#: A run ends with one or several of these; at each the same state would be saved.
ENDS: Final = frozenset({Events.TERMINATE, Events.COMPLETED, Events.INTERRUPT, Events.EXCEPTION_RAISED})


class ForeseenSaves:
    """Stands in for a :class:`~ignite_core.handlers.Checkpoint` in a virtual run.

    With a score function, or steps of the user's own, it cannot be told what is saved under which name: each call is
    then marked as a save that may come.

    Args:
        checkpoint: For whom.
        kept: What it has kept so far.
        retention: Its rules.
        naming: Its names.
        last: Key and event of the save before, if that was in this very run.
        forecast: Where it is said what is saved.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        kept: Kept,
        retention: Retention,
        naming: Naming,
        last: tuple[tuple[Any, ...], Any] | None,
        forecast: Forecast,
    ) -> None:
        self._checkpoint = checkpoint
        self._kept = kept
        self._retention = retention
        self._naming = naming
        self._last = last
        self._forecast = forecast
        self._knows_names = checkpoint.score_function is None and checkpoint.global_step_transform is None

    def __call__(self, engine: Engine, *extras: Any, **named: Any) -> None:
        self._forecast.settle()
        event, step = engine.last_event_name, engine.state.iteration
        filename = self._filename(step, *extras, **named) if self._knows_names else ""
        key = (filename, step, repr(step)) if self._knows_names else (step,)
        if self._last is not None and self._last[0] == key and (event in ENDS or event == self._last[1]):
            return
        is_certain = self._knows_names or self._checkpoint.keep_last is not None
        if self._knows_names:
            if not self._retention.wants(self._kept, step):
                return
            self._kept, _ = self._retention.after(self._kept, Item(step, filename))
        self._last = key, event
        self._forecast.mark("save", filename, is_certain)
        if is_certain:
            engine.fire_event(self._checkpoint.SAVED_CHECKPOINT)
            engine.last_event_name = event

    def _filename(self, step: int, *extras: Any, **named: Any) -> str:
        """The name, of the objects that a :class:`~ignite_core.handlers.ModelCheckpoint` is called with, if it is."""
        objects = named.get("to_save", extras[-1] if extras else None)
        if not isinstance(objects, dict):
            objects = self._checkpoint.to_save
        return self._naming.filename(object_name(objects), step, None)

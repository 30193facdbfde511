"""Python looks for garbage at events, and at no other time while an engine runs."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from ignite_core.handlers import GarbageCollection


class Circle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generation of each collection."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_it_collects_at_the_events_and_nowhere_else(collections: list[int]) -> None:
    trainer = Engine(lambda engine, batch: [Circle() for _ in range(20_000)] and None)
    GarbageCollection().attach(trainer, young=Events.ITERATION_COMPLETED(every=2))
    at: list[Any] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED, lambda: at.append(list(collections)))
    trainer.add_event_handler(Events.STARTED, collections.clear)

    trainer.run([0, 0, 0], max_epochs=1)

    assert at == [[], [1], [1], [1, 2]]


def test_circles_are_freed_at_the_event_not_before() -> None:
    circles: list[Any] = []
    trainer = Engine(lambda engine, batch: circles.append(weakref.ref(Circle())))
    GarbageCollection().attach(trainer, young=Events.ITERATION_COMPLETED(every=2), everything=None)
    alive: list[int] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: alive.append(sum(circle() is not None for circle in circles))
    )

    trainer.run([0, 0, 0, 0])

    assert alive == [1, 0, 1, 0]


@pytest.mark.parametrize("was_enabled", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_collection_is_afterwards_what_it_was(fails: bool, was_enabled: bool) -> None:
    def step(engine: Engine, batch: Any) -> None:
        assert not gc.isenabled()
        if fails:
            raise ValueError("failed")

    trainer = Engine(step)
    GarbageCollection().attach(trainer, young=None)
    try:
        if not was_enabled:
            gc.disable()
        if fails:
            with pytest.raises(ValueError, match="failed"):
                trainer.run([0])
        else:
            trainer.run([0])
        assert gc.isenabled() is was_enabled
    finally:
        gc.enable()


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(TypeError, match="engine must be an Engine, got 3"):
        GarbageCollection().attach(3)  # type: ignore[arg-type]

"""What the engine tests share: traces of a run in short letters, data of several kinds, and one-time actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ignite_core.engine import Engine, EventEnum, Events

#: The letters of the table in the docstring of ``Events``.
LETTERS = {
    Events.STARTED: "S",
    Events.EPOCH_STARTED: "ES",
    Events.GET_BATCH_STARTED: "GS",
    Events.GET_BATCH_COMPLETED: "GC",
    Events.ITERATION_STARTED: "IS",
    Events.ITERATION_COMPLETED: "IC",
    Events.EPOCH_COMPLETED: "EC",
    Events.COMPLETED: "C",
    Events.DATALOADER_STOP_ITERATION: "STOP",
    Events.TERMINATE_SINGLE_EPOCH: "TE",
    Events.TERMINATE: "T",
    Events.INTERRUPT: "I",
    Events.EXCEPTION_RAISED: "X",
}

Trace = list[tuple[str, int, int]]


def nothing(engine: Engine, batch: Any) -> None:
    """Be a step that does nothing."""


def echo(engine: Engine, batch: Any) -> Any:
    """Be a step that hands its batch on."""
    return batch


def watch(engine: Engine) -> Trace:
    """A list that gets (letter, epoch, iteration) of every event the engine reaches from now on."""
    trace: Trace = []
    for event, letter in LETTERS.items():
        engine.add_event_handler(
            event,
            lambda engine, *_, letter: trace.append((letter, engine.state.epoch, engine.state.iteration)),
            letter=letter,
        )
    return trace


def letters(trace: Trace) -> str:
    """The letters of a trace, with iterations shortened as in the table of ``Events``."""
    text = " ".join(letter for letter, _, _ in trace)
    return text.replace("GS GC IS IC", "...").replace("GS STOP GC IS IC", "+++")


def at(engine: Engine, event: Any, k: int, action: Callable[[], Any]) -> None:
    """Do ``action`` when the handlers of ``event`` run for the k-th time (once over all runs of the engine)."""
    seen = 0

    def act(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == k:
            action()

    engine.add_event_handler(event, act)


def raiser(error: BaseException) -> Callable[..., None]:
    """A callable that raises ``error`` whatever it is called with."""

    def throw(*_: Any) -> None:
        raise error

    return throw


class NoLength:
    """Data that can be iterated again and again and does not tell its length."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = list(batches)
        self.passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return iter(self.batches)

    def __repr__(self) -> str:
        return f"NoLength({self.batches})"


class Own(EventEnum):
    """Events of a user."""

    ONE = "one"
    TWO = "two"
    MOVED = "moved"

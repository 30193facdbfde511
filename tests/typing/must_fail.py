"""What a type checker must refuse: each line with a comment ``# error: CODE``, and no other. Never run.

The code is that of mypy. The second comment is for pyright, which is told to complain where there is nothing to ignore.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import Any

from ignite_core import Engine, Events, State
from ignite_core.engine import EventsList, RemovableEventHandle


def events() -> None:
    Events.STARTED(every="2")  # error: arg-type  # pyright: ignore
    Events.STARTED(once=[1.5])  # error: list-item  # pyright: ignore
    Events.STARTED(before=1.0)  # error: arg-type  # pyright: ignore
    Events.STARTED(after="1")  # error: arg-type  # pyright: ignore
    Events.STARTED(priority="high")  # error: arg-type  # pyright: ignore
    Events.STARTED(3)  # error: arg-type  # pyright: ignore
    Events.STARTED(each=2)  # error: call-arg  # pyright: ignore
    Events.STARTED | 3  # error: operator  # pyright: ignore
    Events.STARTED | "COMPLETED"  # error: operator  # pyright: ignore
    (Events.STARTED | Events.COMPLETED) | 3  # error: operator  # pyright: ignore
    EventsList("STARTED")  # error: arg-type  # pyright: ignore
    _ = Events.NEVER  # error: attr-defined  # pyright: ignore
    Events.STARTED.priority = 3  # error: misc  # pyright: ignore


def steps() -> None:
    Engine(1)  # error: arg-type  # pyright: ignore
    Engine(lambda batch: batch)  # error: arg-type, misc  # pyright: ignore
    Engine()  # error: call-arg  # pyright: ignore


def runs(engine: Engine) -> None:
    engine.run([1], max_epochs="3")  # error: arg-type  # pyright: ignore
    engine.run([1], max_iters=2.5)  # error: arg-type  # pyright: ignore
    engine.run([1], epoch_length=[3])  # error: arg-type  # pyright: ignore
    engine.run(5)  # error: arg-type  # pyright: ignore
    engine.run([1], epochs=3)  # error: call-arg  # pyright: ignore
    engine.set_data(5)  # error: arg-type  # pyright: ignore
    engine.terminate(skip="yes")  # error: call-arg  # pyright: ignore
    engine.load_state_dict([1])  # error: arg-type  # pyright: ignore
    engine.run([1]).epoch.upper()  # error: attr-defined  # pyright: ignore


def handlers(engine: Engine, handle: RemovableEventHandle) -> None:
    engine.add_event_handler(Events.STARTED, 3)  # error: arg-type  # pyright: ignore
    engine.add_event_handler(3, print)  # error: arg-type  # pyright: ignore
    engine.on(Events.STARTED)(3)  # error: type-var  # pyright: ignore
    engine.register_events(3)  # error: arg-type  # pyright: ignore
    handle.remove(1)  # error: call-arg  # pyright: ignore

    @engine.on(Events.STARTED)
    def note(text: str) -> int:
        return len(text)

    note(3)  # error: arg-type  # pyright: ignore


def states(state: State, anything: Any) -> None:
    state.epoch = "3"  # error: assignment  # pyright: ignore
    state.max_epochs = 1.5  # error: assignment  # pyright: ignore
    state.metrics = 3  # error: assignment  # pyright: ignore
    state.alpha = anything

"""``print(engine)`` draws the loop with every handler in the order in which it will run."""

import functools
from pathlib import Path
from textwrap import dedent

from ignite_core.engine import Engine, Events
from tests.engine.tracing import Own


def step(engine, batch):
    """Do nothing."""


class Saver:
    """A handler with an early place of its own."""

    event_priority = -5

    def __call__(self, engine):
        """Do nothing."""

    def save(self):
        """Do nothing."""


def log(engine, text):
    """Do nothing."""


def line_of(text: str) -> str:
    """Where a line of this file stands, as the drawing says it."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return f"test_drawing.py:{lines.index(text) + 1}"


def test_an_engine_without_handlers():
    """Events that most runs never reach are left out where nobody listens."""
    assert str(Engine(step)) == dedent(f"""\
        Engine with the step step ({line_of("def step(engine, batch):")})
            Events.STARTED
            for each epoch:
                Events.EPOCH_STARTED
                for each batch:
                    Events.GET_BATCH_STARTED
                    Events.GET_BATCH_COMPLETED
                    Events.ITERATION_STARTED
                    output = step(engine, batch)
                    Events.ITERATION_COMPLETED
                Events.EPOCH_COMPLETED
            Events.COMPLETED""")


def test_handlers_are_drawn_with_filter_priority_and_source_place():
    class Trainer(Engine):
        pass

    engine = Trainer(step)
    engine.register_events(*Own, "plain")
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), Saver())
    engine.add_event_handler(Events.EPOCH_COMPLETED, functools.partial(log, text="x"))
    engine.add_event_handler(Events.EPOCH_COMPLETED(priority=3, once=4), log, "x")
    engine.add_event_handler(Events.TERMINATE | Events.ITERATION_STARTED(before=7, every=3), Saver().save)
    engine.add_event_handler(Own.ONE, print)
    engine.add_event_handler("plain", [].append)

    assert str(engine) == dedent(f"""\
        Trainer with the step step ({line_of("def step(engine, batch):")})
            Events.STARTED
            for each epoch:
                Events.EPOCH_STARTED
                for each batch:
                    Events.GET_BATCH_STARTED
                    Events.GET_BATCH_COMPLETED
                    Events.ITERATION_STARTED
                      - Saver.save ({line_of("    def save(self):")}) [every=3, before=7, priority=-5]
                    output = step(engine, batch)
                    Events.ITERATION_COMPLETED
                Events.EPOCH_COMPLETED
                  - log ({line_of("def log(engine, text):")}) [once=4, priority=3]
                  - log ({line_of("def log(engine, text):")})
                  - Saver ({line_of("    def __call__(self, engine):")}) [every=2, priority=-5]
            Events.TERMINATE
              - Saver.save ({line_of("    def save(self):")}) [priority=-5]
            Events.COMPLETED
        Own.ONE
          - print
        plain
          - list.append""")


def test_rare_events_are_drawn_where_they_are_fired():
    engine = Engine(step)
    rare = [
        Events.DATALOADER_STOP_ITERATION,
        Events.TERMINATE_SINGLE_EPOCH,
        Events.INTERRUPT,
        Events.EXCEPTION_RAISED,
        Events.TERMINATE,
    ]
    for event in rare:
        engine.add_event_handler(event, print)

    lines = [line for line in str(engine).splitlines() if "print" not in line]

    assert [line.strip() for line in lines[1:]] == [
        "Events.STARTED",
        "for each epoch:",
        "Events.EPOCH_STARTED",
        "for each batch:",
        "Events.GET_BATCH_STARTED",
        "Events.DATALOADER_STOP_ITERATION",
        "Events.GET_BATCH_COMPLETED",
        "Events.ITERATION_STARTED",
        "output = step(engine, batch)",
        "Events.ITERATION_COMPLETED",
        "Events.TERMINATE_SINGLE_EPOCH",
        "Events.EPOCH_COMPLETED",
        "Events.INTERRUPT",
        "Events.EXCEPTION_RAISED",
        "Events.TERMINATE",
        "Events.COMPLETED",
    ]


def test_what_was_removed_is_not_drawn():
    engine = Engine(step)
    handle = engine.add_event_handler(Events.TERMINATE | Events.EPOCH_STARTED, print)
    handle.remove()

    assert str(engine) == str(Engine(step))

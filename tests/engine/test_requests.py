"""Requests to stop: the stronger wins, each can be read, one that is made during a pause is answered when it ends."""

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import LETTERS, Trace, at, letters, nothing, watch

# -------------------------------------------------------------------------------------------- stronger requests


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (["terminate_epoch", "interrupt"], "S ES ... I"),
        (["interrupt", "terminate_epoch"], "S ES ... I"),
        (["interrupt", "terminate"], "S ES ... T C"),
        (["terminate", "interrupt", "terminate_epoch"], "S ES ... T C"),
        (["terminate_epoch", "terminate"], "S ES ... T C"),
        (["terminate_epoch", "terminate_epoch"], "S ES ... TE EC C"),
    ],
    ids=" then ".join,
)
def test_the_stronger_request_wins(requests, expected):
    engine = Engine(nothing)
    trace = watch(engine)
    for request in requests:
        at(engine, Events.ITERATION_COMPLETED, 1, getattr(engine, request))

    engine.run([1, 2])

    assert letters(trace) == expected


def test_what_was_asked_can_be_read():
    """Under the names that ported code reads."""
    engine, seen = Engine(nothing), []

    def look():
        seen.append((engine.should_terminate, engine.should_terminate_single_epoch, engine.should_interrupt))

    def ask(engine):
        look()
        for request in (
            engine.terminate_epoch,
            lambda: engine.terminate_epoch(skip_epoch_completed=True),
            engine.interrupt,
            engine.terminate,
            lambda: engine.terminate(skip_completed=True),
        ):
            request()
            look()

    engine.add_event_handler(Events.ITERATION_STARTED, ask)
    engine.run([1])

    assert seen == [
        (False, False, False),
        (False, True, False),
        (False, "skip_epoch_completed", False),
        (False, False, True),
        (True, False, False),
        ("skip_completed", False, False),
    ]


@pytest.mark.parametrize(
    ("request_name", "expected"),
    [("terminate", "S ES ... T C"), ("terminate_epoch", "S ES ... TE EC C"), ("interrupt", "S ES ... I")],
)
def test_a_request_may_be_a_handler_itself(request_name, expected):
    """The engine that a handler gets first is not taken for ``skip_completed``."""
    engine = Engine(nothing)
    trace = watch(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), getattr(engine, request_name))

    engine.run([1, 2])

    assert letters(trace) == expected


def test_a_request_made_before_a_run_is_forgotten():
    engine = Engine(nothing)
    trace = watch(engine)
    for request in (engine.terminate, engine.interrupt, engine.terminate_epoch):
        request()
        engine.run([1])

    assert letters(trace) == "S ES ... EC C " * 2 + "S ES ... EC C"


# --------------------------------------------------------------------------------------- requests during the pause

PAUSES = ["S", "ES", "GS", "GC", "IS", "IC", "EC"]


def paused(letter: str, k: int = 1) -> tuple[Engine, Trace]:
    """An engine, two epochs of two batches, paused at the k-th firing of the event."""
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, next(event for event, name in LETTERS.items() if name == letter), k, engine.interrupt)
    engine.run([1, 2], max_epochs=2)
    return engine, trace


@pytest.mark.parametrize("letter", PAUSES)
@pytest.mark.parametrize("inside", [True, False], ids=["in INTERRUPT", "after run returned"])
def test_terminate_asked_for_during_a_pause_ends_the_run_when_it_goes_on(letter, inside):
    """With the counters where they stood."""
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, next(event for event, name in LETTERS.items() if name == letter), 1, engine.interrupt)
    if inside:
        engine.add_event_handler(Events.INTERRUPT, lambda: engine.terminate())
    engine.run([1, 2], max_epochs=2)
    if not inside:
        engine.terminate()
    stood = trace[-1][1:]

    engine.run([1, 2], max_epochs=2)

    assert trace[-2:] == [("T", *stood), ("C", *stood)]
    assert [name for name, _, _ in trace].count("I") == 1


@pytest.mark.parametrize("letter", ["GS", "GC", "IS", "IC"])
def test_terminate_epoch_asked_for_during_a_pause_ends_the_epoch_and_nothing_of_the_next_is_lost(letter):
    engine, trace = paused(letter)
    pause = len(trace)
    engine.terminate_epoch()

    engine.run([1, 2], max_epochs=2)

    assert letters(trace[pause:]) == "TE EC ES ... ... EC C"


@pytest.mark.parametrize("letter", ["S", "EC"])
def test_terminate_epoch_asked_for_during_a_pause_between_epochs_has_nothing_to_end(letter):
    engine, trace = paused(letter)
    engine.terminate_epoch()

    engine.run([1, 2], max_epochs=2)

    assert letters([entry for entry in trace if entry[0] != "I"]) == "S ES ... ... EC ES +++ ... EC C"


def test_terminate_epoch_asked_for_during_a_pause_at_terminate_single_epoch_has_nothing_to_end():
    """The epoch has been ended; it is not ended a second time."""
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, Events.ITERATION_COMPLETED, 1, engine.terminate_epoch)
    at(engine, Events.TERMINATE_SINGLE_EPOCH, 1, engine.interrupt)
    engine.run([1, 2], max_epochs=2)
    engine.terminate_epoch()

    engine.run([1, 2], max_epochs=2)

    assert letters(trace) == "S ES ... TE I EC ES ... ... EC C"


@pytest.mark.parametrize("letter", PAUSES)
def test_interrupt_asked_for_during_a_pause_changes_nothing(letter):
    engine, trace = paused(letter)
    engine.interrupt()

    engine.run([1, 2], max_epochs=2)

    assert letters([entry for entry in trace if entry[0] != "I"]) == "S ES ... ... EC ES +++ ... EC C"

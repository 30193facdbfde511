"""``interrupt()`` pauses after any event; the next run goes on there, fires nothing twice and leaves nothing out."""

from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import LETTERS, NoLength, Trace, at, letters, nothing, raiser, watch

DATA = [10, 20, 30]

#: The events that an uncut run of 2 epochs of 4 iterations over 3 batches reaches, each with how often it does.
REACHED = {
    Events.STARTED: 1,
    Events.EPOCH_STARTED: 2,
    Events.GET_BATCH_STARTED: 8,
    Events.DATALOADER_STOP_ITERATION: 2,
    Events.GET_BATCH_COMPLETED: 8,
    Events.ITERATION_STARTED: 8,
    Events.ITERATION_COMPLETED: 8,
    Events.EPOCH_COMPLETED: 2,
}
PLACES = [(event, k) for event, times in REACHED.items() for k in range(1, times + 1)]
#: Where a pause that is asked for is not answered.
IGNORED = [Events.COMPLETED, Events.TERMINATE, Events.INTERRUPT, Events.EXCEPTION_RAISED]


class Recorded:
    """An engine, what it fires, and the batches that its step saw."""

    def __init__(self) -> None:
        self.engine = Engine(self.step)
        self.trace: Trace = watch(self.engine)
        self.batches: list[tuple[int, Any]] = []

    def step(self, engine: Engine, batch: Any) -> Any:
        self.batches.append((engine.state.iteration, batch))
        return batch

    def run(self, data: Any = DATA, epoch_length: int | None = 4) -> None:
        self.engine.run(data, max_epochs=2, epoch_length=epoch_length)

    @property
    def without_pauses(self) -> Trace:
        return [entry for entry in self.trace if entry[0] != "I"]


def uncut(**kwargs: Any) -> Recorded:
    recorded = Recorded()
    recorded.run(**kwargs)
    return recorded


def test_the_places_are_all_places_of_the_uncut_run():
    trace = uncut().trace

    assert {LETTERS[event]: times for event, times in REACHED.items()} | {"C": 1} == {
        letter: [name for name, _, _ in trace].count(letter) for letter, _, _ in trace
    }


@pytest.mark.parametrize(("event", "k"), PLACES, ids=lambda value: getattr(value, "name", str(value)))
@pytest.mark.parametrize("again", [{"data": DATA}, {"data": iter([])}], ids=["same data", "other data"])
def test_a_pause_at_any_place_fires_nothing_twice_and_skips_nothing(event, k, again):
    """The live iterator wins over the data passed."""
    recorded = Recorded()
    at(recorded.engine, event, k, recorded.engine.interrupt)

    recorded.run()
    paused_at = len(recorded.trace)
    recorded.run(**again)

    expected = uncut()
    assert recorded.trace[paused_at - 1][0] == "I"
    assert recorded.trace[paused_at - 2][0] == LETTERS[event], "the pause stands right after the event"
    assert len(recorded.trace) == len(expected.trace) + 1
    assert recorded.without_pauses == expected.trace
    assert recorded.batches == expected.batches


def test_a_pause_after_every_single_event():
    """As many runs as events; put together they are the uncut run."""
    recorded = Recorded()
    for event in REACHED:
        recorded.engine.add_event_handler(event, recorded.engine.interrupt)

    runs = sum(REACHED.values())
    for _ in range(runs):
        recorded.run()
        assert recorded.trace[-1][0] == "I"
    recorded.run()

    assert recorded.trace[-1][0] == "C"
    assert recorded.without_pauses == uncut().trace
    assert recorded.batches == uncut().batches


@pytest.mark.parametrize("letter", ["GS", "GC", "IS", "IC", "EC"])
def test_a_pause_at_the_last_batch_of_the_last_epoch(letter):
    """A pending pause beats "done"."""
    recorded = Recorded()
    event = next(event for event, name in LETTERS.items() if name == letter)
    at(recorded.engine, event, REACHED[event], recorded.engine.interrupt)

    recorded.run()
    assert [name for name, _, _ in recorded.trace[-2:]] == [letter, "I"]

    recorded.run()
    assert recorded.without_pauses == uncut().trace


@pytest.mark.parametrize("k", range(1, 5))
def test_a_pause_while_the_length_of_an_epoch_is_unknown(k):
    """At GET_BATCH_STARTED 4 the run does not know yet that there is no fourth batch."""
    recorded = Recorded()
    at(recorded.engine, Events.GET_BATCH_STARTED, k, recorded.engine.interrupt)

    recorded.run(data=NoLength(DATA), epoch_length=None)
    recorded.run(data=NoLength(DATA), epoch_length=None)

    assert letters(recorded.without_pauses) == "S ES ... ... ... GS EC ES +++ ... ... EC C"
    assert recorded.engine.state.epoch_length == 3


def test_a_pause_of_a_run_without_data():
    recorded = Recorded()
    at(recorded.engine, Events.ITERATION_STARTED, 2, recorded.engine.interrupt)

    recorded.run(data=None)
    recorded.run(data=None)

    assert letters(recorded.trace) == "S ES IS IC IS I IC IS IC IS IC EC ES IS IC IS IC IS IC IS IC EC C"


def test_a_pause_asked_for_in_the_step_comes_after_iteration_completed():
    engine = Engine(lambda engine, batch: engine.interrupt() if batch == 20 else None)
    trace = watch(engine)

    engine.run(DATA)

    assert letters(trace) == "S ES ... ... I"
    assert (engine.state.epoch, engine.state.iteration, engine.state.batch) == (1, 2, 20)


@pytest.mark.parametrize("event", IGNORED, ids=lambda event: event.name)
def test_a_pause_asked_for_where_the_run_is_ending_is_ignored(event):
    """The next run is a new one, or goes on as after what ended this one."""
    engine = Engine(raiser(ValueError("step")) if event is Events.EXCEPTION_RAISED else nothing)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
    trace = watch(engine)
    ends = {Events.TERMINATE: engine.terminate, Events.INTERRUPT: engine.interrupt}
    at(engine, Events.ITERATION_COMPLETED, 1, ends.get(event, lambda: None))
    at(engine, event, 1, engine.interrupt)
    engine.add_event_handler(event, lambda *_: engine.interrupt())

    engine.run([1, 2], max_epochs=2)

    first = {"C": "S ES ... ... EC ES +++ ... EC C", "T": "S ES ... T C", "I": "S ES ... I", "X": "S ES GS GC IS X"}
    assert letters(trace) == first[LETTERS[event]]

    trace.clear()
    engine.run([1, 2], max_epochs=2)

    again = {"C": first["C"], "T": "S ES ... ... EC C", "I": "... EC ES +++ ... EC C", "X": "S ES GS GC IS X"}
    assert letters(trace) == again[LETTERS[event]]


def test_a_pause_at_terminate_single_epoch_comes_before_epoch_completed():
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, Events.ITERATION_COMPLETED, 2, engine.terminate_epoch)
    at(engine, Events.TERMINATE_SINGLE_EPOCH, 1, engine.interrupt)

    engine.run(DATA, max_epochs=2)
    engine.run(DATA, max_epochs=2)

    assert letters(trace) == "S ES ... ... TE I EC ES ... ... ... EC C"


# -------------------------------------------------------------------------------------------------- leaving a pause

PAUSES = ["S", "ES", "GS", "GC", "IS", "IC", "EC"]


def paused(letter: str, k: int = 1) -> tuple[Engine, Trace]:
    """An engine, two epochs of two batches, paused at the k-th firing of the event."""
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, next(event for event, name in LETTERS.items() if name == letter), k, engine.interrupt)
    engine.run([1, 2], max_epochs=2)
    return engine, trace


@pytest.mark.parametrize("letter", PAUSES)
def test_max_epochs_none_drops_a_pause(letter):
    """The next run starts from zero, with the data passed."""
    engine, trace = paused(letter)
    trace.clear()
    engine.state.max_epochs = None

    engine.run([1, 2], max_epochs=2)

    assert letters(trace) == "S ES ... ... EC ES +++ ... EC C"
    assert trace[0] == ("S", 0, 0)


def test_max_iters_none_drops_a_pause_of_a_run_by_iterations():
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, Events.ITERATION_COMPLETED, 1, engine.interrupt)
    engine.run([1, 2], max_iters=4)
    trace.clear()
    engine.state.max_iters = None

    engine.run([1, 2])

    assert letters(trace) == "S ES ... ... EC C"


def test_more_epochs_may_be_asked_for_when_a_paused_run_goes_on():
    engine, trace = paused("EC", 2)

    engine.run([1, 2], max_epochs=3)

    assert letters(trace) == "S ES ... ... EC ES +++ ... EC I ES +++ ... EC C"


def test_wrong_arguments_leave_the_pause_as_it_is():
    engine, trace = paused("IS", 3)

    with pytest.raises(ValueError, match="max_epochs=1 is below the 2 epochs already begun"):
        engine.run([1, 2], max_epochs=1)
    engine.run([1, 2], max_epochs=2)

    assert letters(trace) == "S ES ... ... EC ES GS STOP GC IS I IC ... EC C"


def test_an_exception_in_a_handler_of_interrupt_ends_the_pause():
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, Events.ITERATION_COMPLETED, 1, engine.interrupt)
    at(engine, Events.INTERRUPT, 1, raiser(ValueError("no pause")))

    with pytest.raises(ValueError, match="no pause"):
        engine.run([1, 2], max_epochs=2)
    engine.run([1, 2], max_epochs=2)

    assert letters(trace) == "S ES ... I X S ES ... ... EC C"


def test_an_epoch_length_cannot_be_named_inside_an_epoch_of_unknown_length():
    """That epoch has begun; nothing could say where in it the run stands."""
    engine = Engine(nothing)
    at(engine, Events.GET_BATCH_STARTED, 2, engine.interrupt)
    engine.run(NoLength([1]), max_epochs=2)

    with pytest.raises(ValueError, match="epoch_length=1 differs"):
        engine.run(NoLength([1]), max_epochs=2, epoch_length=1)


def test_data_set_during_a_pause_is_taken_from_the_next_batch_on():
    """The batch that was fetched before the pause is still run; a later run asks for data of its own."""
    seen: list[Any] = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    at(engine, Events.GET_BATCH_COMPLETED, 2, engine.interrupt)
    engine.run(DATA, max_epochs=2)
    engine.set_data([7, 8, 9, 10])

    engine.run(max_epochs=2)

    assert seen == [10, 20, 7, 8, 9, 10]

    seen.clear()
    engine.run(max_epochs=3)

    assert seen == [None, None, None]


@pytest.mark.parametrize("letter", ["GS", "STOP", "GC"])
def test_a_run_paused_before_an_iteration_may_go_on_to_fewer_iterations(letter):
    """All that are asked for are done, so the batch at hand is not run."""
    engine = Engine(nothing)
    trace = watch(engine)
    at(
        engine,
        next(event for event, name in LETTERS.items() if name == letter),
        1 if letter == "STOP" else 2,
        engine.interrupt,
    )
    engine.run([1], max_iters=2)
    pause = len(trace)

    engine.run([1], max_iters=1)

    assert trace[pause:] == [("T", 2, 1), ("C", 2, 1)]

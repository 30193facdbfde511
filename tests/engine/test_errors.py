"""No exception is swallowed, none is changed, each says where it came from, and the engine is fit to run again."""

import re
import threading
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import Own, at, letters, nothing, raiser, watch

RAISED = Events.EXCEPTION_RAISED


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def bad_step(engine: Engine, batch: Any) -> None:
    """Raise in iteration 2."""
    if engine.state.iteration == 2:
        raise ValueError("bad batch")


def bad_handler(engine: Engine) -> None:
    raise ValueError("bad handler")


# -------------------------------------------------------------------------------------------- where it came from


def test_the_step():
    """The same object propagates, with one note."""
    error = ValueError("step")
    engine = Engine(raiser(error))

    with pytest.raises(ValueError, match="step") as raised:
        engine.run([1])

    assert raised.value is error
    assert len(notes(error)) == 1
    assert re.fullmatch(
        r"Raised by the step raiser.<locals>.throw \(tracing.py:\d+\), epoch 1, iteration 1, rank 0.", notes(error)[0]
    )


def test_a_handler():
    engine = Engine(nothing)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), bad_handler)

    with pytest.raises(ValueError, match="bad handler") as raised:
        engine.run([1, 2], max_epochs=3)

    line = bad_handler.__code__.co_firstlineno
    assert notes(raised.value) == [
        f"Raised by the handler bad_handler (test_errors.py:{line}) of Events.EPOCH_COMPLETED(every=2), "
        "epoch 2, iteration 4, rank 0."
    ]


def test_a_filter_function():
    engine = Engine(nothing)
    engine.add_event_handler(Events.STARTED(raiser(ValueError("filter"))), lambda: None)

    with pytest.raises(ValueError, match="filter") as raised:
        engine.run([1])

    assert len(notes(raised.value)) == 1
    assert "Events.STARTED(event_filter=throw), epoch 0, iteration 0" in notes(raised.value)[0]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_data(k):
    def data():
        yield from range(k - 1)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk") as raised:
        Engine(nothing).run(data(), epoch_length=5)

    assert notes(raised.value) == [f"Raised by the data, epoch 1, iteration {k - 1}, rank 0."]


def test_the_second_pass_over_the_data():
    class Data:
        passes = 0

        def __iter__(self):
            self.passes += 1
            if self.passes == 2:
                raise OSError("disk")
            return iter([1, 2])

    with pytest.raises(OSError, match="disk") as raised:
        Engine(nothing).run(Data(), epoch_length=3)

    assert notes(raised.value) == ["Raised by the data, epoch 1, iteration 2, rank 0."]


def test_a_request_that_cannot_be_answered():
    engine = Engine(nothing)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: engine.terminate_epoch())

    with pytest.raises(RuntimeError, match=r"terminate_epoch\(\) was called at Events.EPOCH_STARTED") as raised:
        engine.run([1])

    assert len(notes(raised.value)) == 1


def test_the_rank_is_that_of_torch_distributed(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 8)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 5)

    with pytest.raises(ValueError, match="bad batch") as raised:
        Engine(bad_step).run([1, 2])

    assert notes(raised.value)[0].endswith("rank 5.")


def test_an_exception_through_several_handlers_is_noted_by_the_nearest():
    """A custom event fired by a handler: the inner handler is to blame, and nobody else adds a note."""
    engine = Engine(nothing)
    engine.register_events(*Own)
    engine.add_event_handler(Events.STARTED, lambda: engine.fire_event(Own.ONE))
    engine.add_event_handler(Own.ONE, bad_handler)

    with pytest.raises(ValueError, match="bad handler") as raised:
        engine.run([1])

    assert len(notes(raised.value)) == 1
    assert "of Own.ONE, epoch 0" in notes(raised.value)[0]


def test_a_handler_may_catch_what_another_raised_and_raise_something_else():
    engine = Engine(nothing)
    engine.register_events(*Own)
    engine.add_event_handler(Own.ONE, bad_handler)

    @engine.on(Events.STARTED)
    def translate():
        try:
            engine.fire_event(Own.ONE)
        except ValueError as error:
            raise KeyError("translated") from error

    with pytest.raises(KeyError) as raised:
        engine.run([1])

    assert len(notes(raised.value)) == 1
    assert "of Events.STARTED" in notes(raised.value)[0]


def test_nested_engines_add_a_note_each():
    inner = Engine(bad_step)
    outer = Engine(lambda engine, batch: inner.run([1, 2, 3]))

    with pytest.raises(ValueError, match="bad batch") as raised:
        outer.run([1])

    assert [note.partition(" (")[0] for note in notes(raised.value)] == [
        "Raised by the step bad_step",
        "Raised by the step test_nested_engines_add_a_note_each.<locals>.<lambda>",
    ]
    assert "epoch 1, iteration 2" in notes(raised.value)[0]
    assert "epoch 1, iteration 1" in notes(raised.value)[1]


def test_the_same_exception_in_two_runs_is_noted_in_both():
    error = ValueError("again")
    engine = Engine(raiser(error))

    for _ in range(2):
        with pytest.raises(ValueError, match="again"):
            engine.run([1], max_epochs=1)

    assert len(notes(error)) == 2


# --------------------------------------------------------------------------------------------- EXCEPTION_RAISED


def test_all_handlers_run_once_each_even_when_one_raises():
    """The first other exception propagates, chained; the second is noted on it."""
    first, second, original = KeyError("first"), KeyError("second"), ValueError("original")
    engine, seen = Engine(raiser(original)), []
    for error in (None, first, None, second, original):

        def react(engine, raised, error=error):
            seen.append(raised)
            if error is not None:
                raise error

        engine.add_event_handler(RAISED, react)

    with pytest.raises(KeyError) as raised:
        engine.run([1])

    assert raised.value is first
    assert first.__context__ is original
    assert seen == [original] * 5
    assert len(notes(original)) == 1
    assert len(notes(first)) == 2
    assert "of Events.EXCEPTION_RAISED, epoch 1, iteration 1" in notes(first)[0]
    assert "raised KeyError('second')" in notes(first)[1]


def test_raising_the_same_object_again_is_no_error():
    """As a handler of pytorch-ignite does it to let the exception through."""
    error = ValueError("step")
    engine = Engine(raiser(error))

    @engine.on(RAISED)
    def raise_again(engine, raised):
        raise raised

    with pytest.raises(ValueError, match="step") as raised:
        engine.run([1])

    assert raised.value is error
    assert error.__context__ is None
    assert len(notes(error)) == 1


def test_handlers_that_return_nothing_let_it_through():
    """Nor does anything else but True suppress."""
    engine = Engine(bad_step)
    for answer in (None, False, 1, "True"):
        engine.add_event_handler(RAISED, lambda error, answer: answer, answer)

    with pytest.raises(ValueError, match="bad batch"):
        engine.run([1, 2])


def test_a_handler_that_returns_true_suppresses():
    """run() returns the state at once, with no EPOCH_COMPLETED and no COMPLETED; the other handlers run too."""
    engine, seen = Engine(bad_step), []
    engine.add_event_handler(RAISED, lambda error: True)
    engine.add_event_handler(RAISED, lambda error: seen.append(error))
    trace = watch(engine)

    state = engine.run([1, 2, 3], max_epochs=2)

    assert state is engine.state
    assert letters(trace) == "S ES ... GS GC IS X"
    assert len(seen) == 1


def test_a_handler_that_raises_beats_one_that_suppresses():
    engine = Engine(bad_step)
    engine.add_event_handler(RAISED, lambda error: True)
    engine.add_event_handler(RAISED, raiser(KeyError("other")))

    with pytest.raises(KeyError, match="other"):
        engine.run([1, 2])


def test_a_filter_of_exception_raised_counts_exceptions():
    engine = Engine(bad_step)
    engine.add_event_handler(RAISED(once=2), lambda error: True)

    with pytest.raises(ValueError, match="bad batch"):
        engine.run([1, 2, 3], max_epochs=9)
    engine.state.iteration = 1
    engine.run([1, 2, 3], max_epochs=9)

    assert engine.state_dict()["event_counts"] == {"Events.EXCEPTION_RAISED": 2}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_keyboard_interrupt_and_system_exit_are_shown_but_never_suppressed(error):
    engine, seen = Engine(raiser(error)), []
    engine.add_event_handler(RAISED, lambda raised: seen.append(raised) or True)

    with pytest.raises(type(error)) as raised:
        engine.run([1])

    assert raised.value is error
    assert seen == [error]


def test_suppressing_belongs_to_one_run():
    engine = Engine(raiser(ValueError("step")))
    with engine.add_event_handler(RAISED, lambda error: True):
        engine.run([1])

    with pytest.raises(ValueError, match="step"):
        engine.run([1])


def test_requests_made_in_exception_raised_change_nothing():
    for request in ("terminate", "terminate_epoch", "interrupt"):
        engine = Engine(bad_step)
        engine.add_event_handler(RAISED, lambda error, request, engine: getattr(engine, request)(), request, engine)
        engine.add_event_handler(RAISED, lambda error: True)
        trace = watch(engine)

        engine.run([1, 2, 3], max_epochs=2)
        engine.run([1, 2, 3], max_epochs=2)

        assert letters(trace) == "S ES ... GS GC IS X S ES ... ... ... EC C"


# ------------------------------------------------------------------------------------------------- no false endings


def test_a_stop_iteration_of_the_step_is_not_the_end_of_the_data():
    error = StopIteration("mine")

    with pytest.raises(StopIteration) as raised:
        Engine(raiser(error)).run([1, 2])

    assert raised.value is error
    assert len(notes(error)) == 1


@pytest.mark.parametrize(
    "event", [event for event in Events if event.name.startswith(("GET", "ITER", "DATA"))], ids=lambda e: e.name
)
def test_nor_is_that_of_a_handler(event):
    error = StopIteration("mine")
    engine = Engine(nothing)
    engine.add_event_handler(event, raiser(error))

    with pytest.raises(StopIteration) as raised:
        engine.run([1, 2], epoch_length=3)

    assert raised.value is error


# ------------------------------------------------------------------------------------------------------- running again


@pytest.mark.parametrize(
    "event",
    [Events.STARTED, Events.EPOCH_STARTED, Events.GET_BATCH_STARTED, Events.ITERATION_COMPLETED],
    ids=lambda e: e.name,
)
def test_the_next_run_goes_on_with_the_next_epoch(event):
    """Next epoch, full length, counters monotonic."""
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, event, 1, raiser(ValueError("once")))
    with pytest.raises(ValueError, match="once"):
        engine.run([1, 2], max_epochs=3)
    epoch, iteration = trace[-1][1:]
    trace.clear()

    engine.run([1, 2], max_epochs=3)

    assert trace[:2] == [("S", epoch, iteration), ("ES", epoch + 1, iteration)]
    assert trace[-1] == ("C", 3, iteration + 2 * (3 - epoch))


def test_an_exception_at_completed_leaves_a_run_that_is_done():
    engine = Engine(nothing)
    at(engine, Events.COMPLETED, 1, raiser(ValueError("once")))
    with pytest.raises(ValueError, match="once"):
        engine.run([1, 2], max_epochs=1)
    trace = watch(engine)

    engine.run([1, 2], max_epochs=1)

    assert trace[0] == ("S", 0, 0)


def test_an_exception_of_a_handler_that_watches_many_events_ends_only_its_run():
    """After any exception, at any event, a run started anew is whole."""
    for event in Events:
        engine = Engine(nothing)
        at(engine, Events.ITERATION_COMPLETED, 1, lambda: engine.terminate_epoch())  # noqa: B023
        at(engine, Events.EPOCH_COMPLETED, 1, lambda: engine.interrupt())  # noqa: B023
        at(engine, event, 1, raiser(ValueError("once")))
        for _ in range(2):
            try:
                engine.run([1, 2], max_epochs=2)
            except ValueError as error:
                assert "once" in str(error)  # noqa: PT017
        engine.state.max_epochs = None
        trace = watch(engine)

        engine.run([1, 2])

        assert [letter for letter, _, _ in trace if letter not in ("TE", "I", "T")][:2] == ["S", "ES"]
        assert engine.parent is None


def test_a_run_in_another_thread_raises_there_and_nowhere_else():
    caught: list[BaseException] = []

    def run():
        try:
            Engine(bad_step).run([1, 2])
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert len(caught) == 1
    assert len(notes(caught[0])) == 1

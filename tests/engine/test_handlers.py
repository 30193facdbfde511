"""Any callable is a handler, called with the engine where its signature has a place for it."""

import functools
import re
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import Own, nothing, raiser

EPOCHS = Events.EPOCH_COMPLETED


class Noting:
    """Handlers of several kinds that note what they were called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, engine: Engine, *args: Any) -> None:
        self.calls.append((engine, *args))

    def method(self, engine: Engine) -> None:
        self.calls.append(engine)

    def method_without_engine(self) -> None:
        self.calls.append("called")

    @classmethod
    def of_class(cls, engine: Engine) -> None:
        engine.state.heard = cls

    @staticmethod
    def static(engine: Engine) -> None:
        engine.state.heard = "static"


def fired(handler: Any, *args: Any, event: Any = EPOCHS, **kwargs: Any) -> Engine:
    """An engine that has called ``handler`` once, at the end of its one epoch."""
    engine = Engine(nothing)
    engine.add_event_handler(event, handler, *args, **kwargs)
    engine.run([1])
    return engine


# ------------------------------------------------------------------------------------------------- kinds of handlers


def test_functions_and_lambdas_with_and_without_the_engine():
    seen: list[Any] = []

    def wants(engine):
        seen.append(engine)

    def wants_not():
        seen.append("called")

    assert fired(wants) is seen.pop()
    fired(wants_not)
    assert fired(lambda e: seen.append(e)) is seen.pop()
    fired(lambda: seen.append("lambda"))

    assert seen == ["called", "lambda"]


def test_methods_and_callable_objects():
    noting = Noting()

    engines = [fired(noting.method), fired(noting), fired(noting, 1, 2)]
    fired(noting.method_without_engine)

    assert noting.calls == [engines[0], (engines[1],), (engines[2], 1, 2), "called"]
    assert fired(Noting.of_class).state.heard is Noting
    assert fired(noting.static).state.heard == "static"


def test_partials():
    seen: list[Any] = []

    def note(engine, *values, name="none"):
        seen.append((engine, values, name))

    engine = fired(functools.partial(note, name="given"), 1)
    bound = fired(functools.partial(note, "not the engine", 2, 3))
    fired(functools.partial(lambda a, b: seen.append((a, b)), 4, 5))

    assert seen == [(engine, (1,), "given"), ("not the engine", (2, 3, bound), "none"), (4, 5)]


def test_builtins():
    """``list.append`` has a place for one thing, and that is the engine; ``list.clear`` has none."""
    seen: list[Any] = []

    engine = fired(seen.append)

    assert seen == [engine]

    fired(seen.clear)

    assert seen == []


def test_a_builtin_that_does_not_tell_its_signature_must_be_wrapped():
    with pytest.raises(ValueError, match=r"signature of the handler .* cannot be read .* wrap it in a function"):
        Engine(nothing).add_event_handler(EPOCHS, dict.fromkeys(["a"]).update)


def test_a_handler_may_be_registered_twice_and_runs_twice():
    seen: list[int] = []

    def note(engine, value=0):
        seen.append(value)

    engine = Engine(nothing)
    engine.add_event_handler(EPOCHS, note)
    engine.add_event_handler(EPOCHS, note, 5)
    engine.add_event_handler(EPOCHS | EPOCHS, note, value=7)
    engine.run([1])

    assert seen == [0, 5, 7, 7]


def test_extra_arguments_come_after_the_engine_and_are_handed_over_as_they_are():
    """The very objects, each time; neither copied nor changed."""
    seen: list[Any] = []
    first, named = [1], {"a": 1}

    def note(engine, first, *, named):
        seen.append((first, named))

    def note_without_engine(first, named):
        seen.append((first, named))

    engine = Engine(nothing)
    engine.add_event_handler(EPOCHS, note, first, named=named)
    engine.add_event_handler(EPOCHS, note_without_engine, first, named=named)
    engine.run([1], max_epochs=2)

    assert len(seen) == 4
    assert all(one is first and other is named for one, other in seen)
    assert (first, named) == ([1], {"a": 1})


def test_the_decorator_gives_the_function_back():
    engine = Engine(nothing)

    def note(engine, value):
        engine.state.value = value

    assert engine.on(EPOCHS(every=2) | Events.STARTED, 5)(note) is note

    assert engine.has_event_handler(note, Events.STARTED)
    assert engine.run([1]).value == 5


# ------------------------------------------------------------------------------------------- what events hand over


def test_exception_raised_hands_over_the_exception():
    seen: list[Any] = []
    error = ValueError("step")
    engine = Engine(raiser(error))
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: seen.append((engine, error)))
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: seen.append(error))
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error, text: seen.append(text), "text")
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error, *, text: seen.append(text), text="named")

    with pytest.raises(ValueError, match="step"):
        engine.run([1])

    assert seen == [(engine, error), error, "text", "named"]


def test_terminate_single_epoch_hands_over_how_many_batches_were_begun():
    seen: list[Any] = []
    engine = Engine(nothing)
    for event, epoch in ((Events.GET_BATCH_STARTED, 1), (Events.ITERATION_STARTED, 2), (Events.ITERATION_COMPLETED, 3)):
        engine.add_event_handler(event, cut_in_epoch, epoch)
    engine.add_event_handler(Events.TERMINATE_SINGLE_EPOCH, lambda engine, iter_counter: seen.append(iter_counter))
    engine.add_event_handler(Events.TERMINATE_SINGLE_EPOCH, lambda iter_counter: seen.append(iter_counter))
    engine.add_event_handler(Events.TERMINATE_SINGLE_EPOCH, lambda engine, n, more: seen.append(more), "more")

    engine.run([1, 2, 3], max_epochs=3)

    assert seen == [1, 1, "more", 2, 2, "more", 2, 2, "more"]


def cut_in_epoch(engine, epoch):
    """End that epoch where its second batch is at hand."""
    if engine.state.epoch == epoch and engine.epoch_iteration == 2:
        engine.terminate_epoch()


@pytest.mark.parametrize(
    ("event", "handler", "args", "shown"),
    [
        (EPOCHS, lambda a, b: None, (), ["(a, b)", "(engine)"]),
        (EPOCHS, lambda a, b: None, (1, 2, 3), ["(a, b)", "(engine, 1, 2, 3)"]),
        (EPOCHS, lambda a, *, b: None, (), ["(a, *, b)", "(engine)"]),
        (Events.EXCEPTION_RAISED, lambda: None, (), ["()", "(engine, the exception)"]),
        (Events.EXCEPTION_RAISED, lambda engine: None, (), ["(engine)", "(engine, exception)"]),
        (Events.TERMINATE_SINGLE_EPOCH, lambda: None, (), ["()", "(engine, iter_counter)"]),
    ],
)
def test_a_handler_that_cannot_take_what_it_will_get_is_refused_at_registration(event, handler, args, shown):
    """The message shows the signature and the call; nothing was registered."""
    engine = Engine(nothing)

    with pytest.raises(ValueError, match=re.escape(event.name)) as raised:
        engine.add_event_handler(event, handler, *args)

    for text in shown:
        assert text in str(raised.value)
    assert not engine.has_event_handler(handler)


def test_of_several_events_one_that_is_wrong_keeps_all_from_being_registered():
    engine = Engine(nothing)

    def note(engine):
        raise AssertionError

    with pytest.raises(ValueError, match="EXCEPTION_RAISED"):
        engine.add_event_handler(Events.STARTED | Events.EXCEPTION_RAISED, note)

    assert not engine.has_event_handler(note)
    engine.run([1])


def test_what_is_no_handler():
    with pytest.raises(TypeError, match="must be callable, got 3 of type int"):
        Engine(nothing).add_event_handler(EPOCHS, 3)


# --------------------------------------------------------------------------------------------------- unknown events


@pytest.mark.parametrize(
    ("event", "near"),
    [
        (Own.ONE, "Own.ONE"),
        ("EPOCH_COMPLETE", "Events.EPOCH_COMPLETED"),
        ("epoch_completed", "Events.EPOCH_COMPLETED"),
        ("ITERATION_END", "Events.ITERATION_"),
        ("own_events", "own_event"),
    ],
)
def test_an_unknown_event_is_answered_with_the_nearest_names(event, near):
    engine = Engine(nothing)
    engine.register_events("own_event")

    for use in (
        lambda: engine.add_event_handler(event, lambda: None),
        lambda: engine.fire_event(event),
        lambda: engine.remove_event_handler(nothing, event),
    ):
        with pytest.raises(ValueError, match="unknown event") as raised:
            use()

        assert near in str(raised.value)
        assert f"register_events({event!r})" in str(raised.value)


def test_a_filtered_event_that_is_unknown_is_named_without_its_filter():
    with pytest.raises(ValueError, match=r"unknown event Own.ONE; .*register_events\(Own.ONE\)"):
        Engine(nothing).add_event_handler(Own.ONE(every=2), lambda: None)


def test_events_are_also_known_by_their_names():
    """As strings that were registered, or the names of the engine's own."""
    engine, seen = Engine(nothing), []
    engine.register_events("own_event", Own.ONE)
    engine.add_event_handler("own_event", lambda: seen.append("string"))
    engine.add_event_handler("STARTED", lambda: seen.append("started"))
    engine.add_event_handler("ONE", lambda: seen.append("one"))

    for event in ("own_event", Events.STARTED, Own.ONE):
        engine.fire_event(event)

    assert seen == ["string", "started", "one"]
    assert engine.has_registered_events("own_event")
    assert engine.has_registered_events(Own.ONE)
    assert not engine.has_registered_events(Own.TWO)
    assert not engine.has_registered_events(3)


@pytest.mark.parametrize("event", [3, None, Own, Own.ONE(every=2)])
def test_what_cannot_be_registered_as_an_event(event):
    with pytest.raises(TypeError, match="must be a str or a member of an EventEnum, got"):
        Engine(nothing).register_events("good", event)


def test_event_to_attr_must_be_a_mapping():
    with pytest.raises(TypeError, match="must be a mapping, got list"):
        Engine(nothing).register_events("good", event_to_attr=["good"])


# ------------------------------------------------------------------------------------------------------- the engine


def test_a_step_must_be_callable_with_engine_and_batch():
    with pytest.raises(TypeError, match="got 1 of int"):
        Engine(1)
    with pytest.raises(ValueError, match=r"must take \(engine, batch\), got .*with the signature \(batch\)"):
        Engine(lambda batch: batch)
    with pytest.raises(ValueError, match=r"signature \(a, b, c\)"):
        Engine(lambda a, b, c: a)

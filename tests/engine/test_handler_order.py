"""Who runs when: priority, registration, removal and addition in mid-firing, nested firing, and who sees the events."""

from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import Own, nothing, watch

EPOCHS = Events.EPOCH_COMPLETED


class Late:
    """A handler whose class wants to run after the others."""

    event_priority = -100

    def __init__(self, seen: list[Any], name: str) -> None:
        self.seen, self.name = seen, name

    def __call__(self, engine: Engine) -> None:
        self.seen.append(self.name)

    def method(self) -> None:
        self.seen.append(f"{self.name}.method")


def own_engine() -> Engine:
    engine = Engine(nothing)
    engine.register_events(*Own)
    return engine


# ------------------------------------------------------------------------------------------------------------- order


def test_higher_priorities_run_first_then_the_order_of_registration():
    """Filtered or not."""
    engine, seen = Engine(nothing), []
    for name, event in [
        ("a", EPOCHS),
        ("b", EPOCHS(priority=-1)),
        ("c", EPOCHS(every=1, priority=2)),
        ("d", EPOCHS(every=2, priority=1)),
        ("e", EPOCHS(priority=1)),
        ("f", EPOCHS(every=2)),
        ("g", EPOCHS(priority=0)),
        ("h", EPOCHS(once=2, priority=3)),
        ("i", EPOCHS(lambda engine, epoch: epoch == 2, priority=1)),
    ]:
        engine.add_event_handler(event, lambda name: seen.append(name), name)

    engine.run([1])
    assert "".join(seen) == "ceagb"

    seen.clear()
    engine.run([1], max_epochs=2)
    assert "".join(seen) == "hcdeiafgb"


def test_a_class_may_name_its_priority_and_an_event_overrules_it():
    engine, seen = Engine(nothing), []
    engine.add_event_handler(EPOCHS, Late(seen, "late"))
    engine.add_event_handler(EPOCHS, Late(seen, "late").method)
    engine.add_event_handler(EPOCHS(priority=0), Late(seen, "overruled"))
    engine.add_event_handler(EPOCHS, lambda: seen.append("plain"))
    engine.add_event_handler(EPOCHS(priority=-200), lambda: seen.append("last"))

    engine.run([1])

    assert seen == ["overruled", "plain", "late", "late.method", "last"]


def test_each_event_of_a_union_keeps_its_own_filter_and_priority():
    engine, seen = Engine(nothing), []
    engine.add_event_handler(EPOCHS, lambda engine: seen.append(("plain", engine.state.epoch)))
    engine.add_event_handler(
        EPOCHS(every=2, priority=1) | Events.STARTED, lambda engine: seen.append(("union", engine.state.epoch))
    )

    engine.run([1], max_epochs=2)

    assert seen == [("union", 0), ("plain", 1), ("union", 2), ("plain", 2)]


# ----------------------------------------------------------------------------------------------- handles and removal


def test_a_handle_removes_exactly_its_own_registrations():
    engine, seen = Engine(nothing), []

    def note(engine, name):
        seen.append(name)

    engine.add_event_handler(EPOCHS, note, "a")
    handle = engine.add_event_handler(EPOCHS | Events.STARTED | EPOCHS(every=1), note, "b")
    engine.add_event_handler(EPOCHS, note, "c")
    engine.run([1])
    handle.remove()
    handle.remove()
    engine.run([1])

    assert "".join(seen) == "babbc" + "ac"
    assert not engine.has_event_handler(note, Events.STARTED)
    assert engine.has_event_handler(note, EPOCHS)


def test_a_handle_of_a_bound_method_removes_it():
    """Each access makes a new bound method; the registration is meant, not the object."""
    seen: list[Any] = []
    late, twin = Late(seen, "late"), Late(seen, "twin")
    engine = Engine(nothing)
    handle = engine.add_event_handler(EPOCHS, late.method)
    engine.add_event_handler(EPOCHS, twin.method)

    handle.remove()
    engine.run([1])

    assert seen == ["twin.method"]

    engine.remove_event_handler(twin.method, EPOCHS)

    assert not engine.has_event_handler(twin.method)


def test_a_handle_is_a_context_manager():
    engine, seen = Engine(nothing), []

    with engine.add_event_handler(EPOCHS, lambda: seen.append("inside")) as handle:
        engine.run([1])
    engine.run([1])
    handle.remove()

    assert seen == ["inside"]


def test_a_handle_outlives_its_engine():
    engine = Engine(nothing)
    handle = engine.add_event_handler(EPOCHS, lambda: None)
    del engine

    handle.remove()


def test_a_bare_event_stands_for_all_its_filters_and_a_filtered_one_for_itself():
    engine = Engine(nothing)

    def note(engine):
        pass

    def register():
        for event in (EPOCHS, EPOCHS(every=2), EPOCHS(every=3, priority=1), Events.STARTED(once=1)):
            engine.add_event_handler(event, note)

    register()
    assert engine.has_event_handler(note)
    assert engine.has_event_handler(note, EPOCHS)
    assert engine.has_event_handler(note, EPOCHS(every=2))
    assert engine.has_event_handler(note, EPOCHS(every=3)), "the priority does not count"
    assert not engine.has_event_handler(note, EPOCHS(every=4)), "the bare registration is none for every=4"
    assert engine.has_event_handler(note, Events.STARTED)
    assert not engine.has_event_handler(note, Events.COMPLETED)

    engine.remove_event_handler(note, EPOCHS(every=2))
    assert not engine.has_event_handler(note, EPOCHS(every=2))
    assert engine.has_event_handler(note, EPOCHS(every=3))

    engine.remove_event_handler(note, EPOCHS)
    assert not engine.has_event_handler(note, EPOCHS)
    assert engine.has_event_handler(note, Events.STARTED)

    register()
    engine.remove_event_handler(note, EPOCHS(every=2) | Events.STARTED)
    assert engine.has_event_handler(note, EPOCHS(every=3))
    assert not engine.has_event_handler(note, Events.STARTED)


def test_removing_what_is_not_there_is_an_error():
    engine = Engine(nothing)
    engine.add_event_handler(EPOCHS, nothing_much)

    with pytest.raises(ValueError, match=r"nothing_much .*is not a handler of Events.STARTED"):
        engine.remove_event_handler(nothing_much, Events.STARTED)
    with pytest.raises(ValueError, match=r"is not a handler of Events.EPOCH_COMPLETED\(every=2\)"):
        engine.remove_event_handler(nothing_much, EPOCHS(every=2))


def nothing_much(engine):
    """Do nothing."""


# ------------------------------------------------------------------------------------------------- changes in firing


@pytest.mark.parametrize("filters", [{}, {"every": 1, "after": 0}], ids=["bare", "filtered"])
def test_a_handler_removed_in_mid_firing_does_not_run_any_more(filters):
    engine, seen = Engine(nothing), []
    handles = {}

    def note(engine, name):
        seen.append(name)
        if name == "a":
            handles["a"].remove()
            handles["c"].remove()

    for name in "abc":
        handles[name] = engine.add_event_handler(EPOCHS(**filters, priority=0), note, name)
    engine.run([1], max_epochs=2)

    assert "".join(seen) == "ab" + "b"


@pytest.mark.parametrize("filters", [{}, {"every": 1, "after": 0}], ids=["bare", "filtered"])
def test_a_handler_added_in_mid_firing_runs_once_after_those_present(filters):
    """Whatever its priority, and those that it adds itself too; at the next firing it stands in its place."""
    engine, seen = Engine(nothing), []

    def note(engine, name):
        seen.append(name)
        if name == "a" and len(seen) == 1:
            engine.add_event_handler(EPOCHS(**filters, priority=5), note, "c")
            engine.add_event_handler(EPOCHS(once=2), note, "never this time")
        if name == "c" and seen.count("d") == 0:
            engine.add_event_handler(EPOCHS(priority=9), note, "d")

    engine.add_event_handler(EPOCHS, note, "a")
    engine.add_event_handler(EPOCHS, note, "b")
    engine.run([1], max_epochs=2)

    assert seen == ["a", "b", "c", "d", "d", "c", "a", "b", "never this time"]


def test_a_handler_added_and_removed_in_one_firing_does_not_run():
    engine, seen = Engine(nothing), []

    @engine.on(EPOCHS)
    def add_and_remove():
        engine.add_event_handler(EPOCHS, lambda: seen.append("ran")).remove()

    engine.run([1])

    assert seen == []


def test_an_event_fired_by_its_own_handler():
    """The inner firing is a whole one: it has the next count and all handlers; then the outer one goes on."""
    engine, seen = own_engine(), []

    def note(engine, name):
        seen.append(name)
        if seen == ["a"]:
            engine.fire_event(Own.ONE)

    engine.add_event_handler(Own.ONE, note, "a")
    engine.add_event_handler(Own.ONE(once=1), note, "b")
    engine.add_event_handler(Own.ONE(once=2), note, "c")
    engine.add_event_handler(Own.ONE, note, "d")
    engine.fire_event(Own.ONE)

    assert "".join(seen) == "a" + "acd" + "bd"


def test_an_event_of_the_loop_fired_by_hand_has_the_count_of_the_moment():
    engine, seen = Engine(nothing), []
    engine.add_event_handler(EPOCHS(every=2), lambda: seen.append(engine.state.iteration))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=[4, 5]), lambda: engine.fire_event(EPOCHS))

    engine.run([1, 2, 3], max_epochs=2)

    assert seen == [4, 5, 6]


# ----------------------------------------------------------------------------------------------- who sees the events


class Seeing(Engine):
    """An engine that notes all that is fired."""

    def __init__(self, step: Any) -> None:
        super().__init__(step)
        self.fired: list[str] = []

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        self.fired.append(event_name.name)
        super()._fire_event(event_name, *event_args, **event_kwargs)


def test_an_overridden_fire_event_sees_every_event_that_handlers_see():
    engine = Seeing(lambda engine, batch: engine.fire_event(Own.ONE))
    engine.register_events(Own.ONE)
    trace = watch(engine)

    engine.run([1, 2], max_epochs=2, epoch_length=3)

    in_epoch = ["GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED", "ONE", "ITERATION_COMPLETED"]
    restarts = ["GET_BATCH_STARTED", "DATALOADER_STOP_ITERATION", *in_epoch[1:]]
    assert engine.fired == [
        "STARTED",
        *["EPOCH_STARTED", *in_epoch, *in_epoch, *restarts, "EPOCH_COMPLETED"],
        *["EPOCH_STARTED", *in_epoch, *restarts, *in_epoch, "EPOCH_COMPLETED"],
        "COMPLETED",
    ]
    assert len(trace) == len(engine.fired) - 6


def test_an_overridden_fire_event_may_swallow_an_event():
    class Deaf(Engine):
        def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
            if event_name is not Events.ITERATION_STARTED:
                super()._fire_event(event_name, *event_args, **event_kwargs)

    engine = Deaf(nothing)
    trace = watch(engine)

    engine.run([1])

    assert [letter for letter, _, _ in trace] == ["S", "ES", "GS", "GC", "IC", "EC", "C"]


def test_fire_event_replaced_on_one_engine_is_used_from_its_next_run_on():
    engine, seen = Engine(nothing), []
    inherited = engine._fire_event

    def fire(event, *args, **kwargs):
        seen.append(event.name)
        inherited(event, *args, **kwargs)

    engine._fire_event = fire
    engine.run([1])
    del engine._fire_event
    engine.run([1])

    assert len(seen) == 8


@pytest.mark.parametrize(
    "event", [event for event in Events if event.name.startswith(("GET", "ITER"))], ids=lambda e: e.name
)
def test_an_overridden_fire_event_does_not_see_twice_what_was_fired_before_a_pause(event):
    uncut = Seeing(nothing)
    uncut.run([1, 2], max_epochs=2)
    engine = Seeing(nothing)
    engine.add_event_handler(event, lambda: engine.fired.count(event.name) == 2 and engine.interrupt())

    engine.run([1, 2], max_epochs=2)
    engine.run([1, 2])

    assert engine.fired.count("INTERRUPT") == 1
    assert [name for name in engine.fired if name != "INTERRUPT"] == uncut.fired


def test_last_event_name_is_the_event_reached_last():
    """With or without handlers."""
    seen: list[Any] = []
    engine = Engine(lambda engine, batch: seen.append(engine.last_event_name))
    engine.register_events(*Own)
    assert engine.last_event_name is None

    class Data:
        def __iter__(self):
            seen.append(engine.last_event_name)
            yield 1

    engine.add_event_handler(EPOCHS, lambda: engine.fire_event(Own.ONE(every=2)))
    engine.add_event_handler(EPOCHS, lambda: seen.append(engine.last_event_name))
    engine.run(Data())

    assert seen == [Events.GET_BATCH_STARTED, Events.ITERATION_STARTED, Own.ONE]
    assert engine.last_event_name is Events.COMPLETED


def test_listens_to_says_whether_anyone_listens_to_an_enum():
    engine = own_engine()
    engine.add_event_handler(EPOCHS, lambda: None)
    assert engine.listens_to(Events)
    assert not engine.listens_to(Own)

    handles = [engine.add_event_handler(Own.ONE | Own.TWO(every=2), lambda: None) for _ in range(2)]
    handles[0].remove()
    handles[0].remove()
    assert engine.listens_to(Own)

    handles[1].remove()
    assert not engine.listens_to(Own)


def test_event_counts_count_each_firing_of_what_nothing_else_counts():
    """Heard or not; events of the loop are counted by the state and those with an attribute by that."""
    engine = Engine(lambda engine, batch: engine.fire_event(Own.ONE))
    engine.register_events(*Own, "plain", event_to_attr={Own.MOVED: "moved"})
    engine.add_event_handler(EPOCHS, lambda: [engine.fire_event(event) for event in ("plain", Own.MOVED)])

    engine.run([1, 2, 3])

    assert engine.state_dict()["event_counts"] == {"Own.ONE": 3, "plain": 1}


def test_nobody_listens_to_an_unknown_event():
    """As in pytorch-ignite, asking is no error; adding and removing are."""
    engine = Engine(nothing)

    assert not engine.has_event_handler(nothing_much, "unheard of")
    with pytest.raises(ValueError, match="unknown event 'unheard of'"):
        engine.remove_event_handler(nothing_much, "unheard of")

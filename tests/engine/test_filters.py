"""Filters let through the counts that their formulas name, whatever is counted and however the count moves."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ignite_core.engine import Engine, Events
from tests.engine.tracing import Own, nothing


def holds(count: int, every: Any = None, once: Any = None, before: Any = None, after: Any = None) -> bool:
    """The formulas, one by one."""
    if once is not None:
        return count in (once if isinstance(once, list) else [once])
    return (
        (every is None or count % every == 0)
        and (after is None or count > after)
        and (before is None or count < before)
    )


periods = st.none() | st.integers(1, 12)
bounds = st.none() | st.integers(0, 70)
once = st.integers(1, 70) | st.lists(st.integers(1, 70), min_size=1, max_size=6)
windows = st.fixed_dictionaries({"every": periods, "after": bounds, "before": bounds}).filter(
    lambda window: (
        any(value is not None for value in window.values()) and any(holds(k, **window) for k in range(1, 200))
    )
)
filters = windows | st.fixed_dictionaries({"once": once})

few = settings(max_examples=60, derandomize=True, deadline=None, database=None)


class Counting:
    """An engine for one epoch of 60 iterations, or 60 epochs of one; notes the counts at which its handlers ran."""

    def __init__(self) -> None:
        self.engine = Engine(nothing)
        self.engine.register_events(*Own, event_to_attr={Own.MOVED: "moved"})

    def note(self, event: Any, attribute: str) -> list[int]:
        seen: list[int] = []
        self.engine.add_event_handler(event, lambda engine: seen.append(getattr(engine.state, attribute)))
        return seen


@few
@given(filters)
def test_filters_of_iteration_events(filter):
    """ITERATION_* of batch k have the count k; GET_BATCH_* of batch k have the count k - 1."""
    counting = Counting()
    names = ["GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED", "ITERATION_COMPLETED"]
    seen = {name: counting.note(Events[name](**filter), "iteration") for name in names}

    counting.engine.run(range(60))

    fetched = [count for count in range(60) if holds(count, **filter)]
    run = [count for count in range(1, 61) if holds(count, **filter)]
    assert seen == dict(zip(names, [fetched, fetched, run, run], strict=True))


@few
@given(filters)
def test_filters_of_epoch_events(filter):
    counting = Counting()
    names = ["EPOCH_STARTED", "EPOCH_COMPLETED"]
    seen = {name: counting.note(Events[name](**filter), "epoch") for name in names}

    counting.engine.run([None], max_epochs=60)

    due = [count for count in range(1, 61) if holds(count, **filter)]
    assert seen == {"EPOCH_STARTED": due, "EPOCH_COMPLETED": due}


def test_started_has_the_count_of_epochs_done():
    """0 in a new run; where a run goes on, the epochs that were done."""
    counting = Counting()
    at_0 = counting.note(Events.STARTED(before=1), "epoch")
    later = counting.note(Events.STARTED(after=0), "epoch")
    even = counting.note(Events.STARTED(every=2), "epoch")
    completed = counting.note(Events.COMPLETED(once=3), "epoch")

    counting.engine.run([None], max_epochs=2)
    counting.engine.run([None], max_epochs=3)

    assert (at_0, later, even, completed) == ([0], [2], [0, 2], [3])


@few
@given(filters)
def test_filters_of_a_custom_event_count_its_own_firings(filter):
    """With no set-up at all, and from 1."""
    engine = Engine(nothing)
    engine.register_events(*Own)
    fired, seen = 0, []
    engine.add_event_handler(Own.ONE(**filter), lambda: seen.append(fired))

    for fired in range(1, 61):  # noqa: B007
        engine.fire_event(Own.ONE)
        engine.fire_event(Own.TWO)

    assert seen == [count for count in range(1, 61) if holds(count, **filter)]


def crosses(earlier, count, /, every=None, after=None, once=None, **window):
    """Whether a counter that has moved from ``earlier`` to ``count`` has passed what a filter names."""
    passed = range(min(earlier + 1, count), count + 1)
    if once is not None:
        return any(holds(one, once=once) for one in passed)
    return holds(count, after=after, **window) and any(holds(one, every=every) for one in passed)


@few
@given(st.lists(filters, min_size=1, max_size=8), st.lists(st.integers(-3, 60), max_size=60))
def test_any_number_of_filters_at_any_move_of_the_count(filters, counts):
    """Forward, backward, standing still and below zero; forward, what was passed on the way counts too."""
    counting = Counting()
    seen = [counting.note(Own.MOVED(**filter), "moved") for filter in filters]

    for counting.engine.state.moved in counts:
        counting.engine.fire_event(Own.MOVED)

    moves = list(zip([0, *counts], counts, strict=False))
    assert seen == [[count for earlier, count in moves if crosses(earlier, count, **filter)] for filter in filters]


class Tokens:
    """A trainer whose steps count tokens by hundreds, and fire an event after each."""

    def __init__(self, *filters: Any, resets_at: Any = None) -> None:
        self.engine = Engine(self.step)
        self.engine.register_events(*Own, event_to_attr={Own.MOVED: "tokens"})
        self.engine.state_dict_user_keys.append("tokens")
        self.heard: list[list[int]] = []
        for event in filters:
            self.heard.append([])
            self.engine.add_event_handler(event, lambda heard: heard.append(self.engine.state.tokens), self.heard[-1])
        if resets_at is not None:
            self.engine.add_event_handler(resets_at, lambda: setattr(self.engine.state, "tokens", 0))

    def step(self, engine: Engine, batch: int) -> None:
        engine.state.tokens += batch
        if engine.state.iteration % 2 == 0 or batch > 100:
            engine.fire_event(Own.MOVED)


def test_a_counter_that_jumps_is_heard_at_each_crossing():
    run = Tokens(
        Own.MOVED(every=1000),
        Own.MOVED(once=[700, 2000]),
        Own.MOVED(every=1000, after=2000, before=4000),
        Own.MOVED(every=1000) | Own.MOVED(once=300),
        Own.MOVED(lambda engine, count: count % 200, every=1000),
    )
    run.engine.run([300] * 14)

    assert run.heard == [[1200, 2100, 3000, 4200], [900, 2100], [2100, 3000], [300, 1200, 2100, 3000, 4200], [2100]]


def test_a_jump_over_many_counts_is_one_call():
    run = Tokens(Own.MOVED(every=1000), Own.MOVED(once=[1, 2, 3]), Own.MOVED(every=7))
    run.engine.run([5500, 300, 300])

    assert run.heard == [[5500, 6100], [5500], [5500, 5800, 6100]]


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_counter_that_jumps_goes_on_after_a_resume(cut):
    """Also where the counter has moved since its event was fired."""
    whole, first, rest = (Tokens(Own.MOVED(every=1000), Own.MOVED(once=[700, 1500])) for _ in range(3))
    data = [100, 250, 90, 80, 1100, 60, 50, 40, 300, 90, 600, 100, 90, 800]
    whole.engine.run(data, seed=0)
    saved: list[Any] = []
    first.engine.add_event_handler(
        Events.ITERATION_COMPLETED(once=cut), lambda engine: saved.append(engine.state_dict()) or engine.terminate()
    )
    first.engine.run(data, seed=0)
    rest.engine.load_state_dict(saved[0])
    rest.engine.run(data)

    assert [one + other for one, other in zip(first.heard, rest.heard, strict=True)] == whole.heard


@pytest.mark.parametrize("event", [Events.STARTED, Events.EPOCH_STARTED], ids=repr)
def test_a_counter_that_begins_again_is_crossed_from_there(event):
    run = Tokens(Own.MOVED(every=1000), resets_at=event)
    for _ in range(2):
        run.engine.run([1500, 400, 300], max_epochs=1)
    run.engine.run([1500, 400, 300], max_epochs=3)

    again = [1500, 2200] if event is Events.EPOCH_STARTED else [3700, 4100]
    assert run.heard == [[1500, 2200, 1500, 2200, 1500, 2200, *again]]


def test_a_counter_that_counts_on_in_a_new_run_is_not_crossed_again():
    run = Tokens(Own.MOVED(every=1000))
    run.engine.run([900, 300])
    run.engine.run([200, 300])
    run.engine.run([300, 300])

    assert run.heard == [[1200, 2000]]


def test_a_handler_that_is_added_at_a_crossing_hears_it():
    run, heard = Tokens(), []

    @run.engine.on(Own.MOVED(once=1000))
    def add(engine):
        engine.add_event_handler(Own.MOVED(every=500), lambda: heard.append(engine.state.tokens))

    run.engine.run([400] * 4)

    assert heard == [1200, 1600]


@few
@given(st.lists(filters, min_size=1, max_size=4), filters, st.integers(1, 59))
def test_filters_that_come_and_go_in_mid_run(filters, late, when):
    """A handler added at iteration k, outside its event, hears of the due counts from k on; one removed, of none."""
    counting = Counting()
    seen = [counting.note(Events.ITERATION_COMPLETED(**filter), "iteration") for filter in filters]
    gone: list[int] = []
    handle = counting.engine.add_event_handler(
        Events.ITERATION_COMPLETED(**late), lambda engine: gone.append(engine.state.iteration)
    )
    came: list[int] = []

    @counting.engine.on(Events.ITERATION_STARTED(once=when))
    def swap(engine):
        handle.remove()
        engine.add_event_handler(Events.ITERATION_COMPLETED(**late), lambda: came.append(engine.state.iteration))

    counting.engine.run(range(60))

    assert seen == [[count for count in range(1, 61) if holds(count, **filter)] for filter in filters]
    assert gone == [count for count in range(1, when) if holds(count, **late)]
    assert came == [count for count in range(when, 61) if holds(count, **late)]


def test_a_thousand_handlers_of_many_periods():
    """More periods than anything small could hide."""
    counting = Counting()
    seen = {period: counting.note(Events.ITERATION_COMPLETED(every=period), "iteration") for period in range(1, 1001)}

    counting.engine.run(range(2000))

    assert all(seen[period] == list(range(period, 2001, period)) for period in seen)


def test_a_handler_that_moves_the_count_back_is_heard_again():
    """The state is the user's: a step back in ``state.iteration`` makes the same counts due again."""
    engine = Engine(nothing)
    seen: list[int] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=3), lambda: seen.append(engine.state.iteration))

    @engine.on(Events.ITERATION_STARTED(once=7))
    def move_back_once(engine):
        if len(seen) == 2:
            engine.state.iteration = 2

    @engine.on(Events.ITERATION_STARTED(once=10))
    def leap(engine):
        engine.state.iteration = 20

    engine.run(range(16))

    # started at 1..6, 7 -> 2, 3..9, 10 -> 20, 21
    assert seen == [3, 6, 3, 6, 9, 21]


def test_every_with_after_and_before_counts_from_zero():
    counting = Counting()
    seen = counting.note(Events.ITERATION_COMPLETED(every=5, after=8, before=22), "iteration")

    counting.engine.run(range(60))

    assert seen == [10, 15, 20]


def test_a_function_is_asked_with_engine_and_count_where_the_numeric_part_holds():
    counting = Counting()
    asked: list[tuple[Engine, int]] = []

    def even(engine: Engine, count: int) -> bool:
        asked.append((engine, count))
        return count % 2 == 0

    seen = counting.note(Events.ITERATION_COMPLETED(even, every=3, before=15), "iteration")
    once = counting.note(Events.ITERATION_COMPLETED(event_filter=even, once=[20, 21]), "iteration")
    plain = counting.note(Events.EPOCH_COMPLETED(even), "epoch")

    counting.engine.run(range(30))

    assert seen == [6, 12]
    assert once == [20]
    assert plain == []
    assert asked == [(counting.engine, count) for count in (3, 6, 9, 12, 20, 21, 1)]


def test_a_function_is_asked_at_every_firing_of_a_bare_event():
    """What it answers may change; nobody remembers an answer."""
    engine, answers, seen = Engine(nothing), iter([True, False, 1, 0, "yes", None]), []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(lambda engine, count: next(answers)), lambda e: seen.append(e.state.iteration)
    )

    engine.run(range(6))

    assert seen == [1, 3, 5]


def test_a_function_sees_the_count_at_which_its_event_was_fired():
    """An earlier handler of the same firing may move the count or fire the event again; this firing keeps its own."""
    engine = Engine(nothing)
    engine.register_events(*Own)
    asked: list[int] = []
    again = iter([True])
    engine.add_event_handler(Own.ONE, lambda: next(again, False) and engine.fire_event(Own.ONE))
    engine.add_event_handler(Own.ONE(lambda engine, count: asked.append(count)), lambda: None)
    moved: list[int] = []
    engine.add_event_handler(Events.STARTED, lambda: setattr(engine.state, "epoch", 5))
    engine.add_event_handler(Events.STARTED(lambda engine, count: moved.append(count)), lambda: None)

    engine.fire_event(Own.ONE)
    engine.run([1], max_epochs=6)

    assert asked == [2, 1]
    assert moved == [0]


def test_event_to_attr_reads_the_attribute_that_the_user_moves():
    """It starts at 0 where it does not exist, and keeps its value where it does."""
    engine = Engine(nothing)
    engine.state.seen = 7
    engine.register_events(*Own, event_to_attr={Own.MOVED: "moved", Own.TWO: "seen"})
    seen: list[int] = []
    engine.add_event_handler(Own.MOVED(every=10), lambda: seen.append(engine.state.moved))

    for engine.state.moved in (5, 10, 10, 15, 30, 20):
        engine.fire_event(Own.MOVED)

    assert seen == [10, 10, 30, 20]
    assert engine.state.seen == 7
    assert engine.state.get_event_attrib_value(Own.MOVED) == 20
    assert engine.state.event_to_attr[Own.MOVED] == "moved"
    assert Engine(nothing).state.event_to_attr.get(Own.MOVED) is None


def test_own_counts_belong_to_one_engine_and_start_again_with_a_new_run():
    first, second = Engine(lambda engine, batch: engine.fire_event(Own.ONE)), Engine(nothing)
    seen: list[int] = []
    for engine in (first, second):
        engine.register_events(Own.ONE)
        engine.add_event_handler(Own.ONE(once=2), lambda: seen.append(first.state.iteration))

    first.run(range(3))
    second.fire_event(Own.ONE)
    first.run(range(3))

    assert seen == [2, 2]

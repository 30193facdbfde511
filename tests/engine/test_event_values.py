"""Events are immutable values: calls and ``|`` make new ones; equality, hash, pickle, repr follow from the content."""

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ignite_core.engine import CallableEventWithFilter, EventEnum, Events, EventsList
from tests.engine.tracing import Own


def third(engine, count):
    return count % 3 == 0


class Twin(EventEnum):
    """An enum with a name that the engine has too."""

    STARTED = "started"


FILTERED = [
    Events.STARTED,
    Events.EPOCH_COMPLETED,
    Events.EPOCH_COMPLETED(every=2),
    Events.EPOCH_COMPLETED(every=2, after=3),
    Events.EPOCH_COMPLETED(once=[3, 5]),
    Events.EPOCH_COMPLETED(third),
    Events.EPOCH_COMPLETED(third, every=2, priority=4),
    Own.ONE,
    Own.ONE(before=4),
]

events = st.sampled_from(FILTERED)
lists = st.lists(events, min_size=2, max_size=5).map(lambda many: EventsList(*many))


@settings(derandomize=True, database=None, max_examples=50)
@given(events | lists, events | lists)
def test_or_makes_a_new_list_and_leaves_its_operands_alone(a, b):
    """In order, duplicates included."""

    def items(one):
        return list(one) if isinstance(one, EventsList) else [one]

    before = repr(a), repr(b)
    joined = a | b

    assert isinstance(joined, EventsList)
    assert [id(event) for event in joined] == [id(event) for event in items(a) + items(b)]
    assert len(joined) == len(items(a)) + len(items(b))
    assert (repr(a), repr(b)) == before
    assert joined is not a


def test_or_takes_events_only():
    for join in (lambda: Events.STARTED | 3, lambda: (Events.STARTED | Events.COMPLETED) | "COMPLETED"):
        with pytest.raises(TypeError, match="must come from an EventEnum, got"):
            join()
    with pytest.raises(TypeError, match=r"got \[Events.STARTED\]"):
        EventsList([Events.STARTED])


def test_calling_an_event_leaves_it_alone():
    bare, filtered = Events.EPOCH_STARTED, Events.EPOCH_STARTED(every=2)
    other = filtered(priority=5)

    assert bare.filter is None
    assert bare.priority is None
    assert filtered.priority is None
    assert other.filter == filtered.filter
    assert other is not filtered


def test_what_is_equal():
    every = Events.EPOCH_COMPLETED(every=2)

    assert every == Events.EPOCH_COMPLETED(every=2)
    assert every == Events.EPOCH_COMPLETED(every=2, priority=7), "the priority does not count"
    assert Events.EPOCH_COMPLETED(third) == Events.EPOCH_COMPLETED(third)
    assert Events.EPOCH_COMPLETED(once=[5, 3, 3]) == Events.EPOCH_COMPLETED(once=[3, 5])
    assert every == Events.EPOCH_COMPLETED, "a bare event equals every filter of it"
    assert every == Events.EPOCH_COMPLETED
    assert Events.EPOCH_COMPLETED == "EPOCH_COMPLETED"
    assert every == "EPOCH_COMPLETED"


def test_what_is_not_equal():
    every = Events.EPOCH_COMPLETED(every=2)

    assert every != Events.EPOCH_COMPLETED(every=3)
    assert every != Events.EPOCH_COMPLETED(every=2, before=9)
    assert every != Events.EPOCH_COMPLETED(third, every=2)
    assert every != Events.EPOCH_STARTED(every=2)
    assert Events.EPOCH_COMPLETED(third) != Events.EPOCH_COMPLETED(lambda engine, count: True)
    assert Events.STARTED != Twin.STARTED, "the same name in another enum is another event"
    assert Events.STARTED(every=2) != Twin.STARTED(every=2)
    assert Events.STARTED != "epoch_started"
    assert Events.STARTED != 3


def test_equal_events_hash_alike_by_name():
    """So a bare event finds a filtered one in a dict, and a string finds both."""
    every = Events.EPOCH_COMPLETED(every=2)

    assert hash(every) == hash(Events.EPOCH_COMPLETED) == hash("EPOCH_COMPLETED")
    assert {Events.EPOCH_COMPLETED: 1}[every] == 1
    assert {every: 2}["EPOCH_COMPLETED"] == 2
    assert len({Events.STARTED, Twin.STARTED}) == 2


@pytest.mark.parametrize("event", [*FILTERED, Events.STARTED | Events.EPOCH_COMPLETED(every=2)], ids=repr)
@pytest.mark.parametrize(
    "clone",
    [
        copy.copy,
        copy.deepcopy,
        *[lambda event, p=p: pickle.loads(pickle.dumps(event, p)) for p in range(2, pickle.HIGHEST_PROTOCOL + 1)],
    ],
)
def test_copies_and_pickles_are_equal(event, clone):
    """Members stay the one member, filters keep their function, the priority stays."""
    cloned = clone(event)

    assert repr(cloned) == repr(event)
    assert type(cloned) is type(event)
    if isinstance(event, EventsList):
        assert list(cloned) == list(event)
    else:
        assert cloned == event
        assert cloned.bare is event.bare
        assert (cloned.filter, cloned.priority) == (event.filter, event.priority)


def test_repr_says_how_the_event_was_written():
    assert repr(Events.EPOCH_COMPLETED) == "Events.EPOCH_COMPLETED"
    assert (
        repr(Events.EPOCH_COMPLETED(every=2, after=1, before=9)) == "Events.EPOCH_COMPLETED(every=2, after=1, before=9)"
    )
    assert repr(Events.EPOCH_COMPLETED(once=3, priority=-1)) == "Events.EPOCH_COMPLETED(once=3, priority=-1)"
    assert repr(Own.ONE(third, every=2)) == "Own.ONE(every=2, event_filter=third)"
    assert repr(Events.STARTED | Own.ONE) == "EventsList([Events.STARTED, Own.ONE])"


def test_name_value_and_iteration_of_members():
    assert Events.STARTED.name == "STARTED"
    assert Events.STARTED.value == "started"
    assert Events.STARTED(every=2).value == "started"
    assert Events("started") is Events.STARTED
    assert isinstance(Events.STARTED, CallableEventWithFilter)
    assert [event.name for event in Own] == ["ONE", "TWO", "MOVED"]

"""A filter that cannot be meant is refused where it is written, and the message shows what was received."""

import re

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import Own, nothing

IC = Events.ITERATION_COMPLETED


@pytest.mark.parametrize(
    ("kwargs", "error", "received"),
    [
        ({}, ValueError, "got none"),
        ({"every": 2, "once": 3}, ValueError, "once=3, every=2"),
        ({"once": 3, "before": 5}, ValueError, "before=5"),
        ({"once": 3, "after": 1}, ValueError, "after=1"),
        ({"once": [1], "every": 2, "before": 3, "after": 4}, ValueError, "once=[1], every=2, before=3, after=4"),
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"every": -3}, ValueError, "every must be at least 1, got -3"),
        ({"every": True}, TypeError, "every must be an integer, got True"),
        ({"every": 2.0}, TypeError, "every must be an integer, got 2.0"),
        ({"every": "2"}, TypeError, "every must be an integer, got '2'"),
        ({"once": 0}, ValueError, "once must be at least 1, got 0"),
        ({"once": -1}, ValueError, "once must be at least 1, got -1"),
        ({"once": False}, TypeError, "got False"),
        ({"once": 1.5}, TypeError, "got 1.5"),
        ({"once": "12"}, TypeError, "once must be an integer or a list of integers, got '12'"),
        ({"once": []}, ValueError, "got []"),
        ({"once": [1, 0]}, ValueError, "once must be at least 1, got 0"),
        ({"once": [1, True]}, TypeError, "got True"),
        ({"once": [1, 2.0]}, TypeError, "got 2.0"),
        ({"before": -1}, ValueError, "before must be at least 0, got -1"),
        ({"before": True}, TypeError, "before must be an integer, got True"),
        ({"before": 1.0}, TypeError, "before must be an integer, got 1.0"),
        ({"after": -1}, ValueError, "after must be at least 0, got -1"),
        ({"after": False}, TypeError, "after must be an integer, got False"),
        ({"after": 1.0}, TypeError, "after must be an integer, got 1.0"),
        ({"event_filter": 3}, TypeError, "event_filter must be callable, got int"),
        ({"priority": 1.0}, TypeError, "priority must be an integer, got 1.0"),
        ({"priority": True}, TypeError, "priority must be an integer, got True"),
        # windows in which no count of an iteration lies: there is none below 1
        ({"before": 0}, ValueError, "before=0"),
        ({"before": 1}, ValueError, "before=1"),
        ({"after": 3, "before": 4}, ValueError, "after=3, before=4"),
        ({"after": 5, "before": 2}, ValueError, "after=5, before=2"),
        ({"every": 5, "before": 5}, ValueError, "every=5, before=5"),
        ({"every": 5, "after": 5, "before": 10}, ValueError, "every=5, after=5, before=10"),
    ],
    ids=str,
)
def test_an_impossible_filter(kwargs, error, received):
    with pytest.raises(error, match=re.escape(received)) as raised:
        IC(**kwargs)

    assert "ITERATION_COMPLETED" in str(raised.value), "the message names the event"


@pytest.mark.parametrize(
    ("event", "first", "due"),
    [
        (Events.STARTED(before=1), 0, 0),
        (Events.GET_BATCH_STARTED(before=1), 0, 0),
        (Events.GET_BATCH_COMPLETED(every=5, before=5), 0, 0),
        (Events.COMPLETED(before=1), 0, 0),
        (Own.ONE(before=1), 0, 0),
        (IC(before=2), 1, 1),
        (IC(after=3, before=5), 1, 4),
        (IC(every=5, before=6), 1, 5),
        (IC(every=5, after=4, before=6), 1, 5),
    ],
    ids=repr,
)
def test_the_narrowest_windows_that_can_hold(event, first, due):
    """STARTED, COMPLETED, GET_BATCH_* and custom events may have the count 0, the others start at 1."""
    assert event.filter is not None
    assert [k for k in range(first, 20) if event.filter(None, k)] == [due]


def test_a_filtered_event_takes_no_second_filter():
    with pytest.raises(ValueError, match=r"ITERATION_COMPLETED\(every=2\) already has a filter .*after=3"):
        IC(every=2)(after=3)
    with pytest.raises(ValueError, match="already has a filter"):
        IC(lambda engine, count: True)(lambda engine, count: True)
    with pytest.raises(ValueError, match="already has a filter"):
        IC(once=2, priority=1)(once=2)


def test_a_filtered_event_takes_a_priority_and_an_event_with_a_priority_takes_a_filter():
    assert IC(every=2)(priority=3).priority == 3
    assert IC(every=2)(priority=3) == IC(every=2)
    assert IC(priority=3)(every=2).priority == 3
    assert IC(priority=3)(every=2, priority=4).priority == 4
    assert IC(priority=3)(priority=-1).priority == -1


def test_every_1_is_no_filter():
    assert IC(every=1).filter is None
    assert IC(every=1, priority=2)(every=3) == IC(every=3)


def test_numbers_of_other_integer_types_are_integers():
    """As numpy and torch users hand them over."""
    import numpy as np

    assert IC(every=np.int64(3), after=np.int32(2)) == IC(every=3, after=2)
    assert IC(once=[np.int64(4)]) == IC(once=4)
    assert IC(once=range(1, 4)) == IC(once=[3, 2, 1, 1])
    assert IC(once=(2,)) == IC(once=2)


@pytest.mark.parametrize("event", [3, None, ["EPOCH_COMPLETED"], Events])
def test_no_event_at_all(event):
    with pytest.raises(TypeError, match="event"):
        Engine(nothing).add_event_handler(event, lambda: None)

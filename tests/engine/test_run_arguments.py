"""The rules for the arguments of ``run``, as a table: ``resolve`` changes nothing and needs no engine."""

from typing import Any

import pytest

from ignite_core.engine import State
from ignite_core.engine.run_arguments import Arguments, Resolved, is_done, resolve
from tests.engine.tracing import NoLength

NEW, ON = True, False
DATA = [1, 2, 3]
UNKNOWN = NoLength(DATA)


def resolved(state: dict[str, Any], arguments: dict[str, Any]) -> Resolved:
    """``resolve`` with defaults for what is left out, from a state with these attributes."""
    others = {"paused": False, "known_length": state.get("epoch_length"), **arguments}
    names = ("paused", "known_length", "loaded")
    own = Arguments(**{"data": DATA, **{key: value for key, value in arguments.items() if key not in names}})
    return resolve(State(**state), own, **{key: value for key, value in others.items() if key in names})


TABLE: list[tuple[dict[str, Any], dict[str, Any], tuple[bool, int | None, int | None, int | None]]] = [
    # state, arguments -> is it a new run, max_epochs, max_iters, epoch_length
    # --- nothing was asked for before
    ({}, {}, (NEW, 1, None, 3)),
    ({}, {"max_epochs": 5}, (NEW, 5, None, 3)),
    ({}, {"max_iters": 5}, (NEW, None, 5, 3)),
    ({}, {"epoch_length": 7}, (NEW, 1, None, 7)),
    ({}, {"data": UNKNOWN}, (NEW, 1, None, None)),
    ({}, {"data": UNKNOWN, "epoch_length": 7}, (NEW, 1, None, 7)),
    ({}, {"data": None, "epoch_length": 7}, (NEW, 1, None, 7)),
    ({}, {"data": None, "max_iters": 4}, (NEW, None, 4, 4)),
    ({}, {"data": None, "max_iters": 4, "epoch_length": 3}, (NEW, None, 4, 3)),
    # --- done: restart
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 3}, {}, (NEW, 1, None, 3)),
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 3}, {"max_epochs": 2}, (NEW, 2, None, 3)),
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 5}, {}, (NEW, 1, None, 3)),
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 5}, {"data": UNKNOWN}, (NEW, 1, None, 5)),
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 5}, {"data": UNKNOWN, "known_length": None}, (NEW, 1, None, None)),
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 5}, {"data": None}, (NEW, 1, None, 5)),
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 5}, {"epoch_length": 4}, (NEW, 1, None, 4)),
    ({"iteration": 5, "max_iters": 5, "epoch_length": 3}, {}, (NEW, 1, None, 3)),
    ({"iteration": 5, "max_iters": 5, "epoch_length": 3}, {"max_iters": 5}, (NEW, None, 5, 3)),
    # --- done: more
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 3}, {"max_epochs": 3}, (ON, 3, None, 3)),
    ({"iteration": 5, "max_iters": 5, "epoch_length": 3}, {"max_iters": 6}, (ON, None, 6, 3)),
    # --- not done: ended early, or loaded
    ({"epoch": 1, "max_epochs": 3, "epoch_length": 3}, {}, (ON, 3, None, 3)),
    ({"epoch": 1, "max_epochs": 3, "epoch_length": 3}, {"max_epochs": 2}, (ON, 2, None, 3)),
    ({"epoch": 1, "max_epochs": 3, "epoch_length": 3}, {"max_epochs": 1}, (NEW, 1, None, 3)),
    ({"epoch": 1, "max_epochs": 3, "epoch_length": 5}, {"epoch_length": 5}, (ON, 3, None, 5)),
    ({"epoch": 1, "max_epochs": 3, "epoch_length": 5}, {"data": None}, (ON, 3, None, 5)),
    ({"epoch": 1, "max_epochs": 3}, {}, (ON, 3, None, 3)),
    ({"epoch": 1, "max_epochs": 3}, {"data": UNKNOWN}, (ON, 3, None, None)),
    ({"epoch": 1, "max_epochs": 3}, {"data": None, "epoch_length": 4}, (ON, 3, None, 4)),
    # --- paused: it goes on even where all was begun that was asked for
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 3}, {"paused": True}, (ON, 2, None, 3)),
    ({"epoch": 2, "max_epochs": 2, "epoch_length": 3}, {"paused": True, "max_epochs": 2}, (ON, 2, None, 3)),
    ({"epoch": 1, "max_epochs": 2}, {"paused": True, "data": UNKNOWN}, (ON, 2, None, None)),
    ({"epoch": 1, "max_epochs": 2}, {"paused": True, "data": None}, (ON, 2, None, None)),
    # --- dropped by the user
    ({"epoch": 2, "iteration": 6, "epoch_length": 3}, {}, (NEW, 1, None, 3)),
    ({"epoch": 2, "iteration": 6, "epoch_length": 3}, {"max_epochs": 1}, (NEW, 1, None, 3)),
    ({"epoch": 2, "iteration": 6, "epoch_length": 3}, {"max_iters": 2}, (NEW, None, 2, 3)),
]


@pytest.mark.parametrize(("state", "arguments", "expected"), TABLE, ids=str)
def test_what_is_resolved(state, arguments, expected):
    assert resolved(state, arguments) == Resolved(*expected)


@pytest.mark.parametrize(
    ("state", "arguments", "message"),
    [
        ({}, {"max_epochs": 0}, "max_epochs must be at least 1, got 0"),
        ({}, {"max_iters": 0}, "max_iters must be at least 1, got 0"),
        ({}, {"epoch_length": -1}, "epoch_length must be at least 1, got -1"),
        ({}, {"max_epochs": 1, "max_iters": 2}, "max_epochs=1 and max_iters=2"),
        ({}, {"data": None}, "data=None and epoch_length=None"),
        ({}, {"data": []}, "data of length 0"),
        ({"epoch": 3, "max_epochs": 3, "epoch_length": 3}, {"max_epochs": 2}, "max_epochs=2 is below the 3 epochs"),
        ({"iteration": 3, "max_iters": 3}, {"max_iters": 2}, "max_iters=2 is below the 3 iterations"),
        ({"epoch": 1, "max_epochs": 3}, {"max_iters": 9}, "goes by max_epochs=3"),
        ({"iteration": 1, "max_iters": 3}, {"max_epochs": 9}, "goes by max_iters=3"),
        ({"epoch": 1, "max_epochs": 3, "epoch_length": 3}, {"epoch_length": 4}, "epoch_length=4 differs from"),
        ({"epoch": 1, "max_epochs": 3}, {"paused": True, "epoch_length": 4}, "epoch_length=4 differs from"),
        ({"epoch": 1, "max_epochs": 3}, {"data": None}, "data=None and epoch_length=None"),
    ],
    ids=str,
)
def test_what_cannot_be_planned(state, arguments, message):
    with pytest.raises(ValueError, match=f"Engine.run: .*{message}"):
        resolved(state, arguments)


@pytest.mark.parametrize("name", ["max_epochs", "max_iters", "epoch_length"])
@pytest.mark.parametrize("value", [True, 1.0, "1", [1]], ids=repr)
def test_numbers_must_be_integers(name, value):
    with pytest.raises(TypeError, match=f"Engine.run: {name} must be an integer, got "):
        resolved({}, {name: value})


def test_data_must_be_iterable():
    with pytest.raises(TypeError, match="data must be iterable, got int"):
        resolved({}, {"data": 3})


@pytest.mark.parametrize(("state", "arguments", "expected"), TABLE, ids=str)
def test_planning_changes_neither_state_nor_data(state, arguments, expected):
    before = State(**state)

    resolved(state, arguments)

    assert repr(State(**state)) == repr(before)
    assert UNKNOWN.passes == 0


@pytest.mark.parametrize(
    ("state", "done"),
    [
        ({}, False),
        ({"epoch": 1, "max_epochs": 2}, False),
        ({"epoch": 2, "max_epochs": 2}, True),
        ({"epoch": 3, "max_epochs": 2}, True),
        ({"iteration": 4, "max_iters": 5}, False),
        ({"iteration": 5, "max_iters": 5}, True),
        ({"epoch": 9, "iteration": 9}, False),
    ],
    ids=str,
)
def test_what_is_done(state, done):
    assert is_done(State(**state)) is done

"""What a second ``run()`` does: it starts anew, goes on, or says why it cannot."""

import contextlib
import re
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import NoLength, at, letters, nothing, raiser, watch

DATA = [1, 2, 3]


class DataFrame(list[int]):
    """Named as that of pandas, polars and others."""


def progress(engine: Engine) -> tuple[int, int]:
    return engine.state.epoch, engine.state.iteration


# -------------------------------------------------------------------------------------------------- after completion


def test_the_same_number_of_epochs_restarts():
    """It is how every evaluator is run again."""
    engine = Engine(nothing)
    trace = watch(engine)

    for _ in range(3):
        engine.run(DATA, max_epochs=1)

    assert letters(trace) == " ".join(["S ES ... ... ... EC C"] * 3)
    assert [entry for entry in trace if entry[0] == "S"] == [("S", 0, 0)] * 3
    assert progress(engine) == (1, 3)


def test_no_number_of_epochs_restarts_with_one():
    engine = Engine(nothing)

    engine.run(DATA, max_epochs=2)
    engine.run(DATA)

    assert progress(engine) == (1, 3)
    assert engine.state.max_epochs == 1


def test_more_epochs_go_on():
    """Counters, own counts and the state go on; the data is iterated anew."""
    engine = Engine(lambda engine, batch: engine.fire_event("own"))
    engine.register_events("own")
    trace = watch(engine)

    engine.run(DATA, max_epochs=1)
    engine.run(DATA, max_epochs=2)

    assert letters(trace) == "S ES ... ... ... EC C S ES ... ... ... EC C"
    assert trace[15] == ("C", 1, 3)
    assert trace[16] == ("S", 1, 3)
    assert progress(engine) == (2, 6)
    assert engine.state_dict()["event_counts"] == {"own": 6}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"max_epochs": 3}, {"max_epochs": 2}, "max_epochs=2 is below the 3 epochs already begun"),
        ({"max_iters": 5}, {"max_iters": 4}, "max_iters=4 is below the 5 iterations already begun"),
        ({"max_epochs": 2}, {"max_iters": 9}, "max_iters=9, but this run goes by max_epochs=2"),
        ({"max_iters": 5}, {"max_epochs": 9}, "max_epochs=9, but this run goes by max_iters=5"),
        ({}, {"max_epochs": 2, "max_iters": 2}, "max_epochs=2 and max_iters=2"),
        ({}, {"max_epochs": 0}, "max_epochs must be at least 1, got 0"),
        ({}, {"max_iters": -1}, "max_iters must be at least 1, got -1"),
        ({}, {"epoch_length": 0}, "epoch_length must be at least 1, got 0"),
        ({"max_epochs": 1}, {"max_epochs": 2, "epoch_length": 4}, "epoch_length=4 differs from"),
        ({}, {"data": []}, "at least one batch, got data of length 0"),
        ({}, {"data": None, "max_epochs": 2, "state": None}, "data=None and epoch_length=None"),
    ],
    ids=str,
)
def test_what_cannot_be_is_an_error_and_changes_nothing(first, second, message):
    engine = Engine(nothing)
    trace = watch(engine)
    if second.pop("state", "some"):
        engine.run(DATA, **first)
    before, seen = dict(engine.state_dict()), len(trace)

    with pytest.raises(ValueError, match=re.escape(message)):
        engine.run(**{"data": DATA, **second})

    assert dict(engine.state_dict()) == before
    assert len(trace) == seen, "no event was fired, EXCEPTION_RAISED neither"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"data": 5}, "data must be iterable, got int"),
        ({"data": {"train": [1]}}, "got dict, which iterates over its names; pass one of its values"),
        ({"data": "abc"}, "got str, which iterates over characters"),
        ({"data": DataFrame([1])}, "got DataFrame, which iterates over column names; pass a DataLoader"),
        ({"max_epochs": "3"}, "max_epochs must be an integer, got '3'"),
        ({"max_epochs": 2.0}, "max_epochs must be an integer, got 2.0"),
        ({"max_epochs": True}, "max_epochs must be an integer, got True"),
        ({"max_iters": 2.5}, "max_iters must be an integer, got 2.5"),
        ({"epoch_length": False}, "epoch_length must be an integer, got False"),
    ],
    ids=str,
)
def test_arguments_of_a_wrong_kind(kwargs, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        Engine(nothing).run(**{"data": DATA, **kwargs})


@pytest.mark.parametrize(("limit", "other"), [("max_epochs", {"max_iters": 4}), ("max_iters", {"max_epochs": 2})])
def test_a_limit_set_to_none_makes_the_next_run_start_from_zero(limit, other):
    """So the mode can be switched, and fewer epochs can be run."""
    engine = Engine(nothing)
    engine.run(DATA, **{limit: 5})
    setattr(engine.state, limit, None)
    trace = watch(engine)

    engine.run(DATA, **other)

    assert trace[0] == ("S", 0, 0)
    assert progress(engine) == (2, 4 if "max_iters" in other else 6)
    assert getattr(engine.state, limit) is None


# ------------------------------------------------------------------------------------- after terminate or an exception


def terminated(engine: Engine) -> None:
    at(engine, Events.ITERATION_COMPLETED, 2, lambda: engine.terminate())


def raising(engine: Engine) -> None:
    at(engine, Events.ITERATION_COMPLETED, 2, raiser(ValueError("once")))
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)


@pytest.mark.parametrize("cut", [terminated, raising])
def test_a_cut_run_goes_on_with_the_next_epoch(cut):
    """At full length, from the start of the data; counters are monotonic."""
    seen: list[Any] = []
    engine = Engine(lambda engine, batch: seen.append((engine.state.epoch, engine.state.iteration, batch)))
    cut(engine)

    engine.run(DATA, max_epochs=3)
    engine.run(DATA, max_epochs=3)

    assert seen == [(1, 1, 1), (1, 2, 2), (2, 3, 1), (2, 4, 2), (2, 5, 3), (3, 6, 1), (3, 7, 2), (3, 8, 3)]


@pytest.mark.parametrize("cut", [terminated, raising])
def test_a_run_cut_in_its_last_epoch_starts_anew(cut):
    engine = Engine(nothing)
    cut(engine)

    engine.run(DATA)
    assert progress(engine) == (1, 2)

    trace = watch(engine)
    engine.run(DATA, max_epochs=1)
    assert trace[0] == ("S", 0, 0)
    assert progress(engine) == (1, 3)


def test_a_run_by_iterations_goes_on_with_the_next_epoch():
    engine = Engine(nothing)
    engine.run(DATA, max_iters=5)
    trace = watch(engine)

    engine.run(DATA, max_iters=9)

    assert letters(trace) == "S ES ... ... ... EC ES +++ T C"
    assert progress(engine) == (4, 9)


def test_no_event_is_lost_to_an_earlier_terminate_at_started():
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, Events.STARTED, 1, lambda: engine.terminate())

    engine.run(DATA)
    engine.run(DATA)

    assert letters(trace) == "S T C S ES ... ... ... EC C"


# ------------------------------------------------------------------------------------------------------ epoch_length


def test_the_length_of_a_new_run_is_that_of_its_own_data():
    engine = Engine(nothing)

    lengths = []
    for data in ([1, 2, 3], [1, 2], NoLength([1, 2, 3, 4]), [1], NoLength([1, 2])):
        engine.run(data)
        lengths.append((engine.state.epoch_length, engine.state.iteration))

    assert lengths == [(3, 3), (2, 2), (4, 4), (1, 1), (2, 2)]


def test_a_length_that_was_named_is_kept_where_the_data_tells_none():
    engine = Engine(nothing)

    engine.run(NoLength([1, 2, 3]), epoch_length=2)
    assert engine.run(NoLength([1, 2, 3])).iteration == 2
    assert engine.run([1, 2, 3]).iteration == 3


def test_a_run_that_goes_on_keeps_the_length_of_its_epochs():
    """Also with longer data; the same length may be named again."""
    engine = Engine(nothing)

    engine.run([1, 2, 3], epoch_length=2)
    engine.run(range(10), max_epochs=2)
    engine.run(NoLength([1]), max_epochs=3, epoch_length=2)

    assert engine.state.epoch_length == 2
    assert progress(engine) == (3, 6)


def test_epochs_longer_and_shorter_than_the_data_take_up_where_the_last_one_ended():
    seen: list[Any] = []
    engine = Engine(lambda engine, batch: seen.append(batch))

    engine.run(DATA, epoch_length=2, max_epochs=4)

    assert seen == [1, 2, 3, 1, 2, 3, 1, 2]


# --------------------------------------------------------------------------------------------------------- max_iters


@pytest.mark.parametrize(
    ("max_iters", "expected"),
    [
        (1, "S ES ... T C"),
        (3, "S ES ... ... ... EC C"),
        (4, "S ES ... ... ... EC ES +++ T C"),
    ],
)
def test_max_iters_ends_at_the_iteration_in_mid_epoch_or_at_its_end(max_iters, expected):
    """In mid-epoch by TERMINATE and COMPLETED, with no EPOCH_COMPLETED."""
    engine = Engine(nothing)
    trace = watch(engine)

    engine.run(DATA, max_iters=max_iters)

    assert letters(trace) == expected
    assert engine.state.iteration == max_iters
    assert engine.state.max_epochs is None


def test_max_iters_alone_tells_the_length_of_an_epoch_without_data():
    engine = Engine(nothing)
    trace = watch(engine)

    engine.run(max_iters=2)

    assert letters(trace) == "S ES IS IC IS IC EC C"


def test_max_iters_with_a_length_that_is_not_known():
    engine = Engine(nothing)
    trace = watch(engine)

    engine.run(NoLength([1, 2]), max_iters=5)

    assert letters(trace) == "S ES ... ... GS EC ES +++ ... EC ES +++ T C"


def test_an_epoch_ended_early_at_max_iters_completes():
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, Events.ITERATION_COMPLETED, 2, lambda: engine.terminate_epoch())

    engine.run(DATA, max_iters=2)

    assert letters(trace) == "S ES ... ... TE EC C"


# --------------------------------------------------------------------------------------- a run inside its own run


@pytest.mark.parametrize("event", [Events.STARTED, Events.ITERATION_STARTED, Events.COMPLETED], ids=lambda e: e.name)
def test_run_inside_its_own_run_is_an_error(event):
    """The outer run is none the worse for it."""
    engine = Engine(nothing)
    trace = watch(engine)

    @engine.on(event(once=1) if event is not Events.STARTED else event)
    def run_again():
        with pytest.raises(RuntimeError, match=r"is running already \(epoch \d, iteration \d\)"):
            engine.run(DATA)

    engine.run(DATA)

    assert letters(trace) == "S ES ... ... ... EC C"


def test_run_inside_its_own_step_propagates():
    engine = Engine(lambda engine, batch: engine.run(DATA))

    with pytest.raises(RuntimeError, match=r"is running already \(epoch 1, iteration 1\)"):
        engine.run(DATA)


def test_run_inside_a_nested_run_of_another_engine_is_an_error_too():
    outer = Engine(nothing)
    inner = Engine(lambda engine, batch: outer.run(DATA))
    outer.add_event_handler(Events.EPOCH_COMPLETED, lambda: inner.run(DATA))

    with pytest.raises(RuntimeError, match=r"is running already \(epoch 1, iteration 3\)"):
        outer.run(DATA)


# ----------------------------------------------------------------------------------------------------- after loading


def test_a_loaded_run_at_the_end_of_an_epoch_goes_on():
    engine = Engine(nothing)
    trace = watch(engine)
    engine.load_state_dict({"iteration": 6, "epoch_length": 3, "max_epochs": 3})

    engine.run(DATA)

    assert letters(trace) == "S ES ... ... ... EC C"
    assert trace[:2] == [("S", 2, 6), ("ES", 3, 6)]
    assert progress(engine) == (3, 9)


def test_a_loaded_run_inside_an_epoch_runs_it_again_from_its_start_and_warns_once():
    """Nobody knows which batches it has had. The iterations are counted on, as the weights have had them."""
    engine = Engine(nothing)
    trace = watch(engine)
    engine.load_state_dict({"iteration": 4, "epoch_length": 3, "max_epochs": 3})

    with pytest.warns(UserWarning, match="goes on inside an epoch, after 1 of its 3 iterations") as caught:
        engine.run(DATA)

    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert letters(trace) == "S ES ... ... ... EC ES +++ ... ... EC C"
    assert trace[:2] == [("S", 1, 4), ("ES", 2, 4)]
    assert progress(engine) == (3, 10)


def test_a_loaded_run_with_a_seed_does_the_rest_of_the_epoch():
    engine = Engine(nothing)
    trace = watch(engine)
    engine.load_state_dict({"iteration": 4, "epoch_length": 3, "max_epochs": 3})

    engine.run(DATA, seed=0)

    assert letters(trace) == "S ES ... ... EC ES +++ ... ... EC C"
    assert progress(engine) == (3, 9)


def test_a_loaded_run_that_had_all_batches_of_an_epoch_completes_it():
    """What listens to EPOCH_COMPLETED has not heard of it; no batch is run twice, whether there is a seed or not."""
    engine = Engine(nothing)
    at(engine, Events.ITERATION_COMPLETED, 3, lambda: saved.append(engine.state_dict()))
    saved: list[Any] = []
    engine.run(DATA, max_epochs=2)
    other = Engine(nothing)
    trace = watch(other)
    other.load_state_dict(saved[0])

    other.run(DATA)

    assert letters(trace) == "S ES EC ES ... ... ... EC C"
    assert progress(other) == (2, 6)


@pytest.mark.parametrize("seed", [None, 0])
def test_a_state_dict_loaded_inside_an_epoch_at_started_is_where_the_run_begins(seed):
    engine = Engine(nothing)
    trace = watch(engine)
    saved = {"iteration": 4, "epoch_length": 3, "max_epochs": 2}
    engine.add_event_handler(Events.STARTED, lambda: engine.load_state_dict(saved))

    with contextlib.nullcontext() if seed is not None else pytest.warns(UserWarning, match="run again from its start"):
        engine.run(DATA, max_epochs=2, seed=seed)

    assert letters(trace) == ("S ES ... ... EC C" if seed is not None else "S ES ... ... ... EC C")


def test_a_loaded_run_without_data_is_exact_and_does_not_warn():
    engine = Engine(nothing)
    engine.load_state_dict({"iteration": 4, "epoch_length": 3, "max_epochs": 2})

    engine.run()

    assert progress(engine) == (2, 6)


def test_a_loaded_run_over_data_that_finds_its_own_place_does_not_warn():
    """A loader with a ``load_state_dict`` of its own goes on where it was."""

    class Loader(NoLength):
        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            """Find the place."""

    engine = Engine(nothing)
    engine.load_state_dict({"iteration": 4, "epoch_length": 3, "max_epochs": 2})

    engine.run(Loader(DATA))

    assert progress(engine) == (2, 6)


def test_a_state_dict_loaded_at_started_is_where_the_run_begins():
    """As a checkpoint handler does it."""
    engine = Engine(nothing)
    trace = watch(engine)
    engine.add_event_handler(
        Events.STARTED, lambda: engine.load_state_dict({"iteration": 3, "epoch_length": 3, "max_epochs": 2})
    )

    engine.run(DATA, max_epochs=2)

    assert letters(trace) == "S ES ... ... ... EC C"
    assert trace[1] == ("ES", 2, 3)


def test_loading_drops_a_pause():
    engine = Engine(nothing)
    trace = watch(engine)
    at(engine, Events.ITERATION_STARTED, 2, engine.interrupt)
    engine.run(DATA, max_epochs=2)
    trace.clear()
    engine.load_state_dict({"epoch": 1, "epoch_length": 3, "max_epochs": 2})

    engine.run(DATA)

    assert letters(trace) == "S ES ... ... ... EC C"
    assert trace[1] == ("ES", 2, 3)


def test_an_epoch_of_unknown_length_that_was_resumed_inside_teaches_no_wrong_length():
    """Two iterations were done and the data gives three from its start: that is its length."""
    engine = Engine(nothing)
    engine.load_state_dict(
        {"iteration": 2, "epochs_done": 0, "epoch_iteration": 2, "epoch_length": None, "max_epochs": 3}
    )
    with pytest.warns(UserWarning, match="after 2 of its yet unknown number of iterations"):
        engine.run(NoLength(DATA))

    assert engine.state.epoch_length == 3
    assert progress(engine) == (3, 2 + 3 + 3 + 3)

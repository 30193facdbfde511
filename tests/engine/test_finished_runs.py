"""A loaded run that is over stays over: no event is fired, whatever ended it, until the limit is larger."""

import copy
import logging
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from ignite_core.handlers import EarlyStopping, TimeLimit
from tests.engine.tracing import at, letters, nothing, watch

DATA = [1, 2, 3]


def loaded(saved: Any) -> tuple[Engine, Any]:
    engine = Engine(nothing)
    engine.load_state_dict(saved)
    return engine, watch(engine)


def saved_by(limit: dict[str, int], *, at_event: Any = Events.COMPLETED, end: Any = None) -> dict[str, Any]:
    """What the last handler of an event saves in a run that may be ended in epoch 2."""
    engine, saved = Engine(nothing), []
    if end is not None:
        end(engine)
    engine.add_event_handler(at_event, lambda: saved.append(copy.deepcopy(engine.state_dict())))
    engine.run(DATA, **limit, seed=1)
    return saved[-1]


def terminate_finally(engine: Engine) -> None:
    at(engine, Events.EPOCH_COMPLETED, 2, lambda: engine.terminate(final=True))


def stop_early(engine: Engine) -> None:
    engine.add_event_handler(Events.EPOCH_COMPLETED, EarlyStopping(1, lambda engine: 0.5, engine))


ENDS = {
    "max_epochs": ({"max_epochs": 2}, None),
    "max_iters": ({"max_iters": 6}, None),
    "max_iters inside an epoch": ({"max_iters": 5}, None),
    "terminate(final=True)": ({"max_epochs": 5}, terminate_finally),
    "early stopping": ({"max_epochs": 5}, stop_early),
}


@pytest.mark.parametrize(("limit", "end"), ENDS.values(), ids=list(ENDS))
@pytest.mark.parametrize("repeats_limit", [True, False])
def test_nothing_is_run_and_the_log_says_so(limit, end, repeats_limit, caplog):
    engine, trace = loaded(saved_by(limit, end=end))
    before = engine.state_dict()
    with caplog.at_level(logging.WARNING):
        state = engine.run(DATA, **(limit if repeats_limit else {}), seed=1)

    assert trace == []
    assert state.iteration == limit.get("max_iters", 6)
    assert engine.state_dict() == before
    assert "nothing is run: the loaded run is over" in caplog.text

    more = {name: number + 1 for name, number in limit.items()}
    assert engine.run(DATA, **more).iteration > before["iteration"]


@pytest.mark.parametrize("end", [None, terminate_finally, stop_early])
def test_a_save_before_its_last_event_is_of_a_run_that_is_over(end):
    """A checkpoint is usually written at EPOCH_COMPLETED, where the last one belongs to the end of the run."""
    limit = {"max_epochs": 2 if end is None else 5}
    engine, trace = loaded(saved_by(limit, at_event=Events.EPOCH_COMPLETED(once=2), end=end))
    engine.run(DATA, **limit)

    assert trace == []


def test_it_stays_over_in_a_state_that_is_saved_again():
    saved = saved_by({"max_epochs": 5}, end=terminate_finally)
    engine, trace = loaded(loaded(saved)[0].state_dict())
    engine.run(DATA)

    assert trace == []


def test_dropping_the_limit_starts_from_zero():
    engine, trace = loaded(saved_by({"max_epochs": 2}))
    engine.state.max_epochs = None
    engine.run(DATA, max_epochs=1)

    assert letters(trace) == "S ES ... ... ... EC C"


def time_limit(engine: Engine) -> None:
    TimeLimit(10, clock=lambda: 2.5 * engine.state.iteration).attach(engine)


@pytest.mark.parametrize(
    "end",
    [
        lambda engine: at(engine, Events.EPOCH_COMPLETED, 2, engine.terminate),
        lambda engine: at(engine, Events.EPOCH_COMPLETED, 2, engine.interrupt),
        time_limit,
    ],
    ids=["terminate", "interrupt", "TimeLimit"],
)
def test_what_only_stopped_the_run_lets_it_go_on(end):
    events = Events.TERMINATE | Events.INTERRUPT
    engine, _ = loaded(saved_by({"max_epochs": 5}, at_event=events, end=end))

    assert engine.run(DATA, max_epochs=5).epoch == 5


def test_numbers_written_by_hand_that_are_over_are_over():
    """As in a file of pytorch-ignite."""
    engine, trace = loaded({"epoch": 2, "epoch_length": 3, "max_epochs": 2})
    engine.run(DATA, max_epochs=2)

    assert trace == []


def test_with_max_iters_an_epoch_that_was_run_through_is_still_completed():
    saved = saved_by({"max_iters": 6}, at_event=Events.ITERATION_COMPLETED(once=6))
    engine, trace = loaded(saved)
    engine.run(DATA)

    assert letters(trace) == "S ES EC C"


def test_a_loaded_evaluator_evaluates():
    """Inside another run and by itself: an evaluator is over each time it is saved."""
    saved: list[Any] = []
    for _ in range(2):
        trainer, evaluator, seen = Engine(nothing), Engine(nothing), []
        evaluator.add_event_handler(Events.COMPLETED, seen.append, "evaluated")
        if saved:
            evaluator.load_state_dict(saved[-1])
            evaluator.run(DATA)
            evaluator.load_state_dict(saved[-1])
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DATA))  # noqa: B023
        trainer.run([1], max_epochs=2)
        saved.append(evaluator.state_dict())

    assert len(seen) == 3


def test_an_evaluator_loaded_from_plain_numbers_evaluates_inside_another_run():
    trainer, (evaluator, trace) = Engine(nothing), loaded({"iteration": 3, "epoch_length": 3, "max_epochs": 1})
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DATA))
    trainer.run([1])

    assert letters(trace) == "S ES ... ... ... EC C"


def test_a_plan_of_a_run_that_is_over_is_empty():
    engine, _ = loaded(saved_by({"max_epochs": 2}))

    assert len(engine.plan(max_epochs=2).epochs) == 0
    assert len(engine.plan(max_epochs=3).epochs) == 1

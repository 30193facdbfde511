"""Which engine numbers what an evaluator does."""

from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from ignite_core.handlers import clock_of, global_step_from_engine


def nothing(engine: Any, batch: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("event", "max_epochs", "expected"),
    [
        (Events.EPOCH_STARTED, 1, "trainer"),
        (Events.EPOCH_COMPLETED, 1, "trainer"),
        (Events.COMPLETED, 1, "trainer"),
        (Events.COMPLETED(every=1, priority=3), 1, "trainer"),
        (Events.STARTED, 1, "evaluator"),
        (Events.ITERATION_COMPLETED(once=1), 1, "evaluator"),
        (Events.GET_BATCH_STARTED(once=1), 1, "evaluator"),
        (Events.EPOCH_COMPLETED(once=1), 2, "evaluator"),
        (Events.COMPLETED, 2, "evaluator"),
    ],
    ids=repr,
)
def test_what_is_done_at_the_end_of_an_evaluation_is_numbered_by_the_trainer(
    event: Any, max_epochs: int, expected: str
) -> None:
    seen = []
    trainer, evaluator = Engine(nothing), Engine(nothing)
    evaluator.add_event_handler(event, lambda engine: seen.append(clock_of(engine)))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2], max_epochs=max_epochs))
    trainer.run([1, 2, 3])

    assert seen == [trainer if expected == "trainer" else evaluator]


def test_an_engine_that_nobody_runs_numbers_itself() -> None:
    engine = Engine(nothing)
    seen = []
    engine.add_event_handler(Events.COMPLETED, lambda engine: seen.append(clock_of(engine)))
    engine.run([1])

    assert seen == [engine]
    assert clock_of(engine) is engine


def test_the_step_of_another_engine_follows_the_event_or_the_one_that_is_named() -> None:
    trainer = Engine(nothing)
    trainer.run(range(5), max_epochs=3)
    by_event = global_step_from_engine(trainer)

    assert by_event(None, Events.EPOCH_COMPLETED) == 3
    assert by_event(None, Events.ITERATION_COMPLETED(every=2)) == 15
    assert by_event(None, "an event of one's own") == 3
    assert global_step_from_engine(trainer, Events.ITERATION_STARTED)(None, Events.EPOCH_COMPLETED) == 15
    assert global_step_from_engine(trainer, fallback_attr="iteration")(None, "an event of one's own") == 15

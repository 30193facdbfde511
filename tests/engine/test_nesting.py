"""An engine that runs inside the run of another one knows it, for as long as it does."""

import threading
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import at, nothing, raiser


def engines(*names: str) -> tuple[Engine, ...]:
    """Engines that note, at each event of interest, who runs them."""
    made = tuple(Engine(nothing) for _ in names)
    for engine in made:
        engine.state.parents = []
        for event in (Events.STARTED, Events.ITERATION_COMPLETED, Events.COMPLETED):
            engine.add_event_handler(event, lambda engine: engine.state.parents.append(engine.parent))
    return made


def test_an_engine_on_its_own_has_no_parent():
    (engine,) = engines("trainer")

    engine.run([1])

    assert engine.state.parents == [None] * 3
    assert engine.parent is None


@pytest.mark.parametrize(
    "event", [event for event in Events if event.name.endswith(("STARTED", "COMPLETED"))], ids=lambda e: e.name
)
def test_run_in_a_handler(event):
    trainer, evaluator = engines("trainer", "evaluator")
    trainer.add_event_handler(event, lambda: evaluator.run([1]))

    trainer.run([1])

    assert evaluator.state.parents == [trainer] * 3
    assert trainer.state.parents == [None] * 3
    assert evaluator.parent is None, "the run is over"


def test_run_in_the_step():
    (evaluator,) = engines("evaluator")
    trainer = Engine(lambda engine, batch: evaluator.run([1]))

    trainer.run([1])

    assert evaluator.state.parents == [trainer] * 3


def test_run_in_the_data():
    """While a batch is fetched."""
    trainer, reader = engines("trainer", "reader")

    def data():
        yield reader.run([1])

    trainer.run(data(), epoch_length=1)

    assert reader.state.parents == [trainer] * 3


def test_two_levels():
    """The nearest running one is the parent, again so after the inner run."""
    folds, trainer, evaluator = engines("folds", "trainer", "evaluator")
    folds.add_event_handler(Events.ITERATION_STARTED, lambda: trainer.run([1]))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
    folds.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))

    folds.run([1])

    assert trainer.state.parents == [folds] * 3
    assert evaluator.state.parents == [trainer] * 3 + [folds] * 3
    assert folds.state.parents == [None] * 3


def test_a_thread_sees_nothing_of_the_run_that_started_it():
    trainer, evaluator = engines("trainer", "evaluator")

    @trainer.on(Events.EPOCH_COMPLETED)
    def run_in_a_thread():
        thread = threading.Thread(target=evaluator.run, args=([1],))
        thread.start()
        thread.join()

    trainer.run([1])

    assert evaluator.state.parents == [None] * 3


@pytest.mark.parametrize("end", ["terminate", "interrupt", "raise"])
def test_however_the_inner_run_ends_the_next_one_finds_its_own_parent(end):
    trainer, inner, evaluator = engines("trainer", "inner", "evaluator")
    endings: dict[str, Any] = {
        "terminate": inner.terminate,
        "interrupt": inner.interrupt,
        "raise": raiser(ValueError("x")),
    }
    at(inner, Events.ITERATION_COMPLETED, 1, endings[end])
    inner.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: inner.run([1, 2]))
    trainer.add_event_handler(Events.COMPLETED, lambda: evaluator.run([1]))

    trainer.run([1])
    evaluator.run([1])

    assert evaluator.state.parents == [trainer] * 3 + [None] * 3
    assert (inner.parent, trainer.parent) == (None, None)


def test_an_exception_through_two_runs_leaves_no_parent():
    inner = Engine(raiser(ValueError("x")))
    outer = Engine(lambda engine, batch: inner.run([1]))

    with pytest.raises(ValueError, match="x"):
        outer.run([1])

    assert (inner.parent, outer.parent) == (None, None)
    (engine,) = engines("engine")
    engine.run([1])
    assert engine.state.parents == [None] * 3


def test_a_paused_engine_is_nobodys_parent_and_may_find_another_one():
    trainer, inner = engines("trainer", "inner")
    at(inner, Events.ITERATION_COMPLETED, 1, inner.interrupt)
    inner.run([1, 2])
    trainer.add_event_handler(Events.STARTED, lambda: inner.run([1, 2]))

    trainer.run([1])

    assert inner.state.parents == [None, None, trainer, trainer]
    assert trainer.state.parents == [None] * 3


def test_events_fired_outside_a_run_have_no_parent():
    trainer, other = engines("trainer", "other")

    trainer.fire_event(Events.STARTED)
    other.run([1])

    assert other.state.parents == [None] * 3

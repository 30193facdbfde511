"""A method of the engine as a handler: it has its engine already."""

import pytest

from ignite_core.engine import Engine, Events


@pytest.fixture
def heard():
    return []


@pytest.fixture
def engine(heard):
    engine = Engine(lambda engine, batch: None)
    for event in (Events.EPOCH_COMPLETED, Events.COMPLETED):
        engine.add_event_handler(event, heard.append, event.name)
    return engine


def test_terminate_does_not_take_the_engine_for_skip_completed(engine, heard):
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.terminate)
    engine.run([1, 2])

    assert heard == ["COMPLETED"]


def test_terminate_epoch_does_not_take_the_engine_for_skip_epoch_completed(engine, heard):
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.terminate_epoch)
    engine.run([1, 2])

    assert heard == ["EPOCH_COMPLETED", "COMPLETED"]


def test_arguments_that_are_given_are_handed_over(engine, heard):
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.terminate, skip_completed=True)
    engine.run([1, 2])

    assert heard == []


def test_a_method_of_a_subclass_that_asks_for_the_engine_gets_it():
    """Libraries that build their engine on this one register methods of their own in either way."""

    class Own(Engine):
        def __init__(self):
            super().__init__(lambda engine, batch: None)
            self.seen = []
            self.add_event_handler(Events.STARTED, self.begin)
            self.add_event_handler(Events.COMPLETED, self.end)

        def begin(self):
            self.seen.append("begin")

        def end(self, engine):
            self.seen.append(engine is self)

    engine = Own()
    engine.run([1])

    assert engine.seen == ["begin", True]


def test_a_method_of_another_engine_is_called_by_its_signature(engine):
    other = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.COMPLETED, lambda: other.run([1, 2]))
    engine.run([1])

    assert other.state.iteration == 2

"""What lets tools look at an engine and stand around its calls and runs: handlers, instrument, add_run_context."""

import functools
import gc
import weakref
from contextlib import contextmanager

import pytest

from ignite_core.engine import Engine, Events, RemovableHandle
from tests.engine.tracing import Own


def nothing(engine, batch=None):
    """Do nothing."""


@pytest.fixture
def engine():
    return Engine(nothing)


@pytest.fixture
def log():
    return []


# ------------------------------------------------------------------------------------------------------------- handlers


def test_handlers_in_the_order_in_which_they_run(engine):
    engine.register_events(*Own)
    last = engine.add_event_handler(next(iter(Own)), nothing)
    engine.add_event_handler(Events.COMPLETED, nothing, 1)
    engine.add_event_handler(Events.COMPLETED(priority=3), nothing, 2)
    engine.add_event_handler(Events.STARTED, nothing, batch=3)

    found = engine.handlers()

    assert [one.event for one in found] == [Events.STARTED, Events.COMPLETED, Events.COMPLETED, next(iter(Own))]
    assert [(one.args, one.kwargs) for one in found] == [((), {"batch": 3}), ((2,), {}), ((1,), {}), ((), {})]
    assert [one.priority for one in found] == [0, 3, 0, 0]
    assert [one.number for one in found] == [4, 3, 2, 1]
    last.remove()
    assert len(engine.handlers()) == 3
    assert len(found) == 4


def test_handlers_of_some_events(engine):
    for event in (Events.STARTED, Events.COMPLETED(every=2), Events.COMPLETED):
        engine.add_event_handler(event, nothing)

    assert [one.event for one in engine.handlers(Events.COMPLETED(once=1))] == [
        Events.COMPLETED(every=2),
        Events.COMPLETED,
    ]
    assert len(engine.handlers(Events.STARTED | Events.COMPLETED)) == 3
    assert engine.handlers("EPOCH_STARTED") == ()
    with pytest.raises(ValueError, match="unknown event 'other'"):
        engine.handlers("other")


def test_a_registration_names_its_handler_and_place(engine):
    engine.add_event_handler(Events.STARTED, functools.partial(engine.terminate, final=True))
    engine.add_event_handler(Events.COMPLETED, nothing)
    first, last = engine.handlers()

    assert first.owner is engine
    assert last.owner is last.handler is nothing
    assert last.where == f"test_doors.py:{nothing.__code__.co_firstlineno}"
    assert repr(last) == f"Registration(Events.COMPLETED, nothing ({last.where}))"
    assert last.bare_event is Events.COMPLETED


# ----------------------------------------------------------------------------------------------------------- instrument


def noting(log, name):
    def wrap(registration, call):
        def noted(engine):
            log.append((name, registration.args[0]))
            return call(engine)

        return noted

    return wrap


def test_instruments_run_around_each_call_also_of_handlers_added_later(engine, log):
    engine.add_event_handler(Events.STARTED, log.append, "a")
    inner, outer = engine.instrument(noting(log, "inner")), engine.instrument(noting(log, "outer"))
    engine.add_event_handler(Events.COMPLETED, log.append, "b")
    engine.run([1])

    assert log == [("outer", "a"), ("inner", "a"), "a", ("outer", "b"), ("inner", "b"), "b"]
    log.clear()
    inner.remove()
    inner.remove()
    engine.run([1])
    assert log == [("outer", "a"), "a", ("outer", "b"), "b"]
    log.clear()
    outer.remove()
    engine.run([1])
    assert log == ["a", "b"]


def test_one_wrap_twice_is_removed_once_for_each_handle(engine, log):
    wrap = noting(log, "wrap")
    engine.add_event_handler(Events.STARTED, log.append, "a")
    first, _ = engine.instrument(wrap), engine.instrument(wrap)
    first.remove()
    first.remove()
    engine.run([1])

    assert log == [("wrap", "a"), "a"]


def test_handlers_of_events_with_arguments_are_instrumented(log):
    def fail(engine, batch):
        raise RuntimeError("bad batch")

    engine = Engine(fail)
    engine.add_event_handler(
        Events.EXCEPTION_RAISED, lambda engine, error, name: log.append(str(error)) or True, "name"
    )
    engine.instrument(noting(log, "wrap"))
    engine.run([1])

    assert log == [("wrap", "name"), "bad batch"]


def test_an_instrument_may_open_numeric_filters_and_closes_them_when_it_is_removed(engine, log):
    for name, event in (
        ("every", Events.ITERATION_COMPLETED(every=3)),
        ("kept", Events.ITERATION_COMPLETED(once=2)),
        ("function", Events.ITERATION_COMPLETED(lambda engine, count: count == 1, every=9)),
    ):
        engine.add_event_handler(event, log.append, name)
    with engine.instrument(lambda registration, call: call, opens_filter=lambda one: one.args != ("kept",)):
        engine.run([1, 2, 3])
        assert log == ["every", "function", "every", "kept", "every"]
        assert engine.has_event_handler(log.append, Events.ITERATION_COMPLETED(every=3))
    log.clear()
    engine.run([1, 2, 3])
    assert log == ["kept", "every"]


# --------------------------------------------------------------------------------------------------------- run contexts


def around(log, name):
    @contextmanager
    def context(engine):
        log.append(f"enter {name}")
        try:
            yield
        finally:
            log.append(f"exit {name}")

    return context


def test_run_contexts_are_entered_around_each_run_and_exited_in_reverse_order(engine, log):
    first, second = around(log, "first"), around(log, "second")
    handle = engine.add_run_context(first)
    engine.add_run_context(second)
    engine.add_event_handler(Events.STARTED, log.append, "started")
    engine.run([1])

    assert log == ["enter first", "enter second", "started", "exit second", "exit first"]
    assert engine.run_contexts() == (first, second)
    handle.remove()
    handle.remove()
    log.clear()
    engine.run([1])
    assert log == ["enter second", "started", "exit second"]


def test_a_run_context_is_entered_again_after_a_pause_and_exited_after_an_error(engine, log):
    engine.add_run_context(around(log, "run"))
    with engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.interrupt):
        engine.run([1, 2])
    engine.run([1, 2])
    assert log == ["enter run", "exit run"] * 2

    @engine.on(Events.STARTED)
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        engine.run([1])
    assert log == ["enter run", "exit run"] * 3


def test_a_run_context_that_is_removed_during_a_run_is_exited_at_once(engine, log):
    handle = engine.add_run_context(around(log, "run"))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), handle.remove)
    engine.add_event_handler(Events.COMPLETED, log.append, "completed")
    engine.run([1, 2])

    assert log == ["enter run", "exit run", "completed"]


# -------------------------------------------------------------------------------------------------------------- handles


def test_handles_keep_nothing_alive(engine):
    class Tool:
        def __init__(self, engine):
            self.handle = RemovableHandle(
                engine.instrument(self.wrap).remove,
                engine.add_run_context(self.context).remove,
                engine.add_event_handler(Events.STARTED, self.start).remove,
            )

        def wrap(self, registration, call):
            return call

        @contextmanager
        def context(self, engine):
            yield

        def start(self):
            """Do nothing."""

    tool = Tool(engine)
    gc.disable()
    try:
        reference = weakref.ref(tool)
        tool.handle.remove()
        del tool
        assert reference() is None
        other = Engine(nothing)
        handle = Tool(other).handle
        reference = weakref.ref(other)
        del other
        assert reference() is None
        handle.remove()
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------- the state of the run


def test_an_engine_tells_whether_it_runs_or_is_paused(engine):
    seen = []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append((engine.is_running, engine.iterations_done)))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    before = engine.run_started_at
    engine.run([1, 2, 3])

    assert seen == [(True, 0), (True, 1)]
    assert (engine.is_running, engine.is_paused, engine.iterations_done) == (False, True, 2)
    started = engine.run_started_at
    assert started > before
    engine.run([1, 2, 3])
    assert (engine.is_paused, engine.iterations_done, engine.run_started_at) == (False, 3, started)
    engine.state.max_epochs = None
    engine.run([1])
    assert engine.run_started_at > started


def test_a_loaded_run_that_is_over_can_be_reopened(engine):
    with engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), engine.terminate, final=True):
        engine.run([1], max_epochs=5)
    saved = engine.state_dict()
    other = Engine(nothing)
    other.load_state_dict(saved)
    assert other.run([1]).epoch == 2
    other.reopen()
    assert other.run([1]).epoch == 5

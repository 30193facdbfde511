"""A plan is what the run then does, and making it changes nothing."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ignite_core import distributed as idist
from ignite_core.debug.plan.calendar import Calendar
from ignite_core.debug.plan.stand_ins import schedule_stand_in
from ignite_core.engine import DeterministicEngine, Engine, EventEnum, Events
from ignite_core.handlers import Checkpoint, ModelCheckpoint, TimeLimit, TorchProfile
from ignite_core.testing import run_distributed
from tests.engine.tracing import NoLength

LOOP = [
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.GET_BATCH_STARTED,
    Events.GET_BATCH_COMPLETED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_COMPLETED,
    Events.COMPLETED,
]
RARE = [Events.DATALOADER_STOP_ITERATION, Events.TERMINATE, Events.TERMINATE_SINGLE_EPOCH, Events.INTERRUPT]
SECONDS = 2


class Clock:
    """Each step takes two seconds, and nothing else takes any time."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Halving:
    """A schedule that halves a value at each call, with the interface of the library's own."""

    param_name = "lr"

    def __init__(self) -> None:
        self.event_index = 0
        self.group = {"lr": 1.0}
        self.optimizer = None
        self.optimizer_param_groups = [self.group]

    def next_values(self, count: int) -> list[float]:
        return [0.5 ** (self.event_index + place + 1) for place in range(count)]

    def __call__(self, engine: Engine) -> None:
        self.group["lr"] = self.next_values(1)[0]
        self.event_index += 1

    def foresee(self, dry_run: Any) -> Any:
        return schedule_stand_in(self, dry_run)


def stop_at_third_call(calls: list[int], engine: Engine) -> None:
    """A stop rule of a user, which counts epochs by the state it is given."""
    if engine.state.epoch >= 3:
        engine.terminate()


class SetUp:
    """An engine with handlers, all of which keep a record, as drawn by hypothesis."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.clock, self.lrs, self.saved = Clock(), {}, []
        self.records: list[list[tuple[int, int]]] = []
        self.schedule = Halving()
        self.engine = Engine(self.step)
        self.data, self.arguments = draw_arguments(draw)
        self.rule = partial(stop_at_third_call, [])
        self.uses_rule = draw(st.booleans())
        for _ in range(draw(st.integers(0, 5))):
            self.record(draw_event(draw, LOOP + RARE))
        for _ in range(draw(st.integers(0, 2))):
            self.engine.add_event_handler(*draw_request(draw, self.engine))
        if self.uses_rule:
            self.engine.add_event_handler(Events.EPOCH_COMPLETED, self.rule)
        if draw(st.booleans()):
            limit = TimeLimit(draw(st.integers(0, 10)) * SECONDS + 1, clock=self.clock)
            limit.attach(self.engine, draw_event(draw, LOOP[:7]))
        if draw(st.booleans()):
            self.engine.add_event_handler(draw_event(draw, LOOP[:7]), self.schedule)
        if draw(st.booleans()):
            self.attach_checkpoint(draw)

    def step(self, engine: Engine, batch: Any) -> None:
        self.lrs[engine.state.iteration] = self.schedule.group["lr"]
        self.clock.now += SECONDS

    def record(self, event: Any) -> None:
        seen: list[tuple[int, int]] = []
        self.records.append(seen)
        self.engine.add_event_handler(
            event, lambda engine, *_: seen.append((engine.state.epoch, engine.state.iteration))
        )

    def attach_checkpoint(self, draw: Callable[..., Any]) -> None:
        n_saved = draw(st.sampled_from([1, 2, None]))

        def note(state: Any, filename: str) -> None:
            self.saved.append((self.engine.state.iteration, filename))

        checkpoint = Checkpoint({"trainer": self.engine}, note, n_saved=n_saved)
        every_s = draw(st.sampled_from([None, 3.0, 5.0]))
        event = draw_event(draw, LOOP + RARE[1:3])
        checkpoint.attach(self.engine, event | Events.COMPLETED, every_s=every_s, clock=self.clock)
        self.record(Checkpoint.SAVED_CHECKPOINT)

    def plan(self) -> Calendar:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = [self.rule] if self.uses_rule else []
            return self.engine.plan(data=self.data, **self.arguments, run=run, seconds_per_iteration=SECONDS)

    def run(self) -> None:
        time = SimpleNamespace(perf_counter=self.clock)
        with (
            warnings.catch_warnings(),
            mock.patch("ignite_core.engine.data.position.time", time),
            mock.patch("ignite_core.engine.loop.time", time),
            mock.patch("ignite_core.handlers.stopping.time_limit.time", time),
        ):
            warnings.simplefilter("ignore")
            self.engine.run(self.data, **self.arguments)

    def forget(self) -> None:
        self.saved.clear()
        self.lrs.clear()
        for record in self.records:
            record.clear()


def draw_arguments(draw: Callable[..., Any]) -> tuple[Any, dict[str, int]]:
    length = draw(st.integers(1, 6))
    arguments = draw(
        st.sampled_from([{"max_epochs": draw(st.integers(1, 5))}, {"max_iters": draw(st.integers(1, 20))}])
    )
    kind = draw(st.sampled_from(["sized", "sized", "none", "endless"]))
    if kind != "sized" or draw(st.booleans()):
        arguments["epoch_length"] = draw(st.integers(1, 8))
    return {"sized": range(length), "none": None, "endless": NoLength(range(1000))}[kind], arguments


def draw_event(draw: Callable[..., Any], events: list[Any]) -> Any:
    event = draw(st.sampled_from(events))
    kind = draw(st.sampled_from(["bare", "every", "once", "window", "own"]))
    number = draw(st.integers(1, 7))
    if kind == "every":
        event = event(every=number)
    elif kind == "once":
        event = event(once=[number, number + 3])
    elif kind == "window":
        event = event(after=number - 1, before=number + 4)
    elif kind == "own":
        event = event(lambda engine, count: (count + engine.state.epoch) % number == 0)
    return event(priority=draw(st.integers(-2, 2)))


def draw_request(draw: Callable[..., Any], engine: Engine) -> tuple[Any, Any]:
    # not GET_BATCH_*, whose count stands still where an epoch is cut there: by max_iters such a run would never end
    event = draw(st.sampled_from(LOOP[4:]))(once=draw(st.integers(1, 12)))
    requests = [
        engine.terminate,
        partial(engine.terminate, True),
        engine.terminate_epoch,
        partial(engine.terminate_epoch, True),
        engine.interrupt,
    ]
    return event, draw(st.sampled_from(requests))


def of_engine(engine: Engine) -> tuple[Any, ...]:
    """All that a plan might change."""
    run = engine._run
    position = {name: getattr(run.position, name) for name in type(run.position).__slots__ if name != "__weakref__"}
    state = {
        name: getattr(engine.state, name) for name in ("iteration", "epoch", "epoch_length", "max_epochs", "times")
    }
    listeners = [(one.number, one.handler, one.filter, one.wraps) for channel in engine._dispatch for one in channel]
    own = [getattr(run, name) for name in run.__slots__ if name != "position"]
    own += [engine.parent, engine.last_event_name]
    return dict(engine.state_dict()), position, state, listeners, own, random.getstate(), torch.get_rng_state().tolist()


def check(set_up: SetUp) -> None:
    """The plan of the next run equals its trace."""
    set_up.forget()
    before = copy.copy(of_engine(set_up.engine))
    saved = len(set_up.saved)
    calendar = set_up.plan()
    assert of_engine(set_up.engine) == before
    assert (len(set_up.saved), set_up.lrs) == (saved, {})
    steps_before = set_up.engine.state_dict()["iteration"]

    set_up.run()

    engine = set_up.engine
    recorded = iter(set_up.records)
    planned = [list(one.firings) for one in calendar.handlers if "SetUp.record" in one.name]
    assert planned == list(recorded)
    assert [(mark.iteration, mark.what) for mark in calendar.saves] == set_up.saved
    lr = calendar.lr
    if lr is not None:
        assert {iteration: lr.at(iteration) for iteration in set_up.lrs} == set_up.lrs
    assert (calendar.end == "INTERRUPT") == engine.is_paused
    last = calendar.iterations.stop - 1 if calendar.epochs else steps_before
    assert last == engine.state.iteration
    assert not calendar.epochs or calendar.epochs[-1].number == engine.state.epoch


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_a_plan_is_the_trace_of_the_run(data: st.DataObject) -> None:
    """Also where the run goes on: after a pause, after terminate(), or from what was loaded."""
    set_up = SetUp(data.draw)
    check(set_up)
    if data.draw(st.booleans()):  # the same engine runs on, or again: paused, terminated or done
        set_up.schedule.event_index, set_up.schedule.group["lr"] = 0, 1.0
        check(set_up)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("done", [2, 4, 5, 8, 11])
def test_plan_of_a_loaded_run(seed: int | None, done: int) -> None:
    """The plan starts where the loaded run continues."""
    first = Engine(lambda engine, batch: None)
    first.add_event_handler(Events.ITERATION_COMPLETED(once=done), first.terminate)
    first.run(range(4), max_epochs=3, seed=seed)
    second, seen = Engine(lambda engine, batch: None), []
    second.load_state_dict(first.state_dict())
    for event in (*LOOP, *RARE):
        second.add_event_handler(
            event, lambda engine, *_: seen.append((engine.last_event_name.name, engine.state.iteration))
        )

    calendar = second.plan(data=range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a seed the epoch is run again
        second.run(range(4))

    planned = [(one.event, iteration) for one in calendar.handlers for _, iteration in one.firings]
    assert sorted(planned) == sorted(seen)


def test_plan_of_a_run_loaded_at_its_last_iteration() -> None:
    first = Engine(lambda engine, batch: None)
    saved: list[Any] = []
    first.add_event_handler(Events.ITERATION_COMPLETED(once=8), lambda: saved.append(first.state_dict()))
    first.run(range(4), max_iters=8, seed=1)
    second, seen = Engine(lambda engine, batch: None), []
    second.load_state_dict(saved[0])
    for event in LOOP:
        second.add_event_handler(event, lambda engine: seen.append((engine.last_event_name.name, engine.is_resumed)))

    with pytest.warns(UserWarning, match="never"):
        calendar = second.plan(data=range(4))
    assert seen == []
    second.run(range(4))

    assert [one.event for one in calendar.handlers if len(one.firings)] == [name for name, _ in seen]
    assert [name for name, _ in seen] == ["STARTED", "EPOCH_STARTED", "EPOCH_COMPLETED", "COMPLETED"]


class Loud(DeterministicEngine):
    """An engine whose class does more wherever an event is fired or a run starts."""

    def __init__(self, *args: Any) -> None:
        self.heard: list[Any] = []
        super().__init__(*args)

    def _fire_event(self, event_name: Any, *args: Any, **kwargs: Any) -> None:
        self.heard.append(event_name)
        super()._fire_event(event_name, *args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self.heard.append("run")
        return super().run(*args, **kwargs)


def test_plan_calls_no_method_of_a_subclass() -> None:
    engine = Loud(lambda engine, batch: engine.heard.append(batch))
    TorchProfile("nowhere").attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, print)
    before = of_engine(engine)

    assert len(engine.plan(2, 5).iterations) == 10
    assert (engine.heard, engine.state.seed, of_engine(engine)) == ([], None, before)

    engine.run([7])
    assert (engine.heard[0], engine.heard.count(7)) == ("run", 1)


def test_handlers_added_during_plan_are_removed() -> None:
    engine = Engine(lambda engine, batch: None)
    called = []

    def add(engine: Engine) -> None:
        engine.state.period = 2
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda: called.append(engine.state.period))

    engine.add_event_handler(Events.STARTED, add)

    engine.plan(1, 4, run=[add])

    assert called == [2, 2]
    assert len([one for channel in engine._dispatch for one in channel]) == 1
    assert not hasattr(engine.state, "period")


def test_filters_may_read_their_engine() -> None:
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.ITERATION_COMPLETED(lambda _, count: engine.state.epoch == 2), print)

    assert list(engine.plan(3, 2).handlers[0].firings) == [(2, 3), (2, 4)]


def plan_on_first_rank() -> int:
    engine = DeterministicEngine(lambda engine, batch: None)
    TimeLimit(3).attach(engine)
    count = len(engine.plan(2, 5).iterations) if idist.get_rank() == 0 else 10
    engine.run(range(2))
    return count


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs the gloo backend")
def test_plan_on_one_rank() -> None:
    """A plan on one of several ranks does not wait for the others."""
    assert run_distributed(plan_on_first_rank) == [10, 10]


def test_warns_of_handlers_that_never_run() -> None:
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=1000), print)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=100), print)
    engine.add_event_handler(Events.EXCEPTION_RAISED, print)

    with pytest.warns(UserWarning, match=r"ITERATION_COMPLETED\(every=1000\): .*never in 300 iterations and 3 epochs"):
        calendar = engine.plan(3, 100)

    assert [one.filter for one in calendar.never] == ["every=1000"]


def test_no_warning_for_events_of_the_step() -> None:
    """Whether the step fires a custom event is unknown."""

    class Own(EventEnum):
        ONE = "one"

    engine = Engine(lambda engine, batch: engine.fire_event(Own.ONE))
    engine.register_events(*Own)
    engine.add_event_handler(Own.ONE(every=2), print)

    calendar = engine.plan(1, 3)

    assert not calendar.never
    assert str(calendar.handlers[0]).endswith("not known")


def test_validations_are_marked_and_not_called() -> None:
    engine = Engine(lambda engine, batch: None)
    called = []

    def validate(engine: Engine) -> None:
        called.append(engine)

    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), validate)

    calendar = engine.plan(4, 10, validations=[validate])

    assert [(mark.epoch, mark.iteration) for mark in calendar.validations] == [(2, 20), (4, 40)]
    assert called == []


def test_filters_see_the_planned_state() -> None:
    """Filters see the counters of the dry run and custom attributes of the state."""
    engine = Engine(lambda engine, batch: None)
    engine.state.period = 3
    engine.add_event_handler(Events.ITERATION_COMPLETED(lambda engine, count: count % engine.state.period == 0), print)

    assert list(engine.plan(1, 7).handlers[0].firings) == [(1, 3), (1, 6)]


def test_checkpoint_with_score() -> None:
    """A checkpoint with a score is shown as one that may save."""
    engine = Engine(lambda engine, batch: None)
    checkpoint = Checkpoint({"trainer": engine}, print, score_function=lambda engine: 1.0)
    engine.add_event_handler(Events.EPOCH_COMPLETED | Events.COMPLETED, checkpoint)

    calendar = engine.plan(2, 10)

    assert [(mark.iteration, mark.certain) for mark in calendar.saves] == [(10, False), (20, False)]
    assert "10?" in str(calendar)


def test_file_names_of_model_checkpoint(tmp_path: Any) -> None:
    """The plan shows the names of the files."""
    engine = Engine(lambda engine, batch: None)
    handler = ModelCheckpoint(tmp_path, "run", n_saved=None)
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler, {"model": torch.nn.Linear(1, 1)})

    calendar = engine.plan(2, 5)

    assert [mark.what for mark in calendar.saves] == ["run_model_5.pt", "run_model_10.pt"]
    assert list(tmp_path.iterdir()) == []


def test_time_limit_without_iteration_time() -> None:
    """A time limit is only noted if the time of an iteration is not given."""
    engine = Engine(lambda engine, batch: None)
    TimeLimit(10).attach(engine)

    assert len(engine.plan(1, 100).iterations) == 100
    assert len(engine.plan(1, 100, seconds_per_iteration=1).iterations) == 11


def test_arguments_are_those_of_run() -> None:
    engine = Engine(lambda engine, batch: None)

    with pytest.raises(ValueError, match="exclude each other"):
        engine.plan(1, 2, max_iters=3)
    with pytest.raises(TypeError, match="epoch_length must be an integer"):
        engine.plan(1, 2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data must be iterable"):
        engine.plan(1, data=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="without data the length of an epoch must be given"):
        engine.plan(1)
    with pytest.raises(ValueError, match="has no length; pass epoch_length"):
        engine.plan(1, data=NoLength([1, 2]))
    with pytest.raises(ValueError, match="must be a handler of this engine"):
        engine.plan(1, 2, run=[print])


def test_epoch_length_of_the_previous_run() -> None:
    engine = Engine(lambda engine, batch: None)
    engine.run(range(5), max_epochs=2)

    assert len(engine.plan(4).iterations) == 10  # two epochs are left
    assert len(engine.plan(2).epochs) == 2  # as much is done: a new run


def test_plan_uses_data_that_was_set() -> None:
    engine = Engine(lambda engine, batch: None)
    engine.set_data(range(7))

    assert len(engine.plan(1, data=None).iterations) == len(engine.plan(1).iterations) == 7
    assert engine.run(max_epochs=1).iteration == 7


def test_an_array_may_be_the_data() -> None:
    numpy = pytest.importorskip("numpy")
    engine = Engine(lambda engine, batch: None)

    assert len(engine.plan(2, data=numpy.arange(4)).iterations) == 8


def test_no_data_has_no_batches_to_get() -> None:
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.GET_BATCH_STARTED, print)

    assert len(engine.plan(1, 5).handlers[0].firings) == 5
    with pytest.warns(UserWarning, match="GET_BATCH_STARTED: .* never in 5 iterations"):
        engine.plan(1, 5, data=None)


def test_a_running_engine_makes_no_plan() -> None:
    engine = Engine(lambda engine, batch: engine.plan(1, 1))

    with pytest.raises(RuntimeError, match="is running"):
        engine.run([1])


def test_what_a_filter_raises_is_raised() -> None:
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.EPOCH_STARTED(lambda engine, count: 1 / 0), print)

    with pytest.raises(ZeroDivisionError):
        engine.plan(1, 1)


class Several(Halving):
    """A schedule of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizer_param_groups = [{"lr": 4.0}, {"lr": 8.0}]

    def next_values(self, count: int) -> list[Any]:
        return [[one, 2 * one] for one in super().next_values(count)]


class OneForAll(Halving):
    """A schedule that gives all groups one value, where they had different ones before."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizer_param_groups = [{"lr": 4.0}, {"lr": 8.0}]


class OfState(Halving):
    """A schedule that writes into the state of the engine."""

    param_name = "period"

    def __init__(self) -> None:
        super().__init__()
        del self.optimizer, self.optimizer_param_groups

    def next_values(self, count: int) -> list[Any]:
        return [2 + self.event_index + place for place in range(count)]


class Unknown(Halving):
    """A schedule that looks at a metric."""

    is_predictable = False


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Halving(), {"lr": [(1, 1.0), (2, 0.5), (3, 0.25)]}),
        (Several(), {"lr[0]": [(1, 4.0), (2, 0.5), (3, 0.25)], "lr[1]": [(1, 8.0), (2, 1.0), (3, 0.5)]}),
        (OneForAll(), {"lr": [(2, 0.5), (3, 0.25)]}),
        (OfState(), {"period": [(2, 2.0), (3, 3.0)]}),
        (Unknown(), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_values_of_schedules_by_name(schedule: Any, expected: dict[str, Any]) -> None:
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.ITERATION_COMPLETED, schedule)

    calendar = engine.plan(1, 2)

    assert {name: list(series) for name, series in calendar.values.items()} == expected


def test_filters_see_scheduled_state() -> None:
    """Filters see values that schedules write into the state."""
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.STARTED, OfState())
    engine.add_event_handler(Events.ITERATION_COMPLETED(lambda engine, count: count % engine.state.period == 0), print)

    assert list(engine.plan(1, 5).handlers[1].firings) == [(1, 2), (1, 4)]
    assert not hasattr(engine.state, "period")


def test_long_plan_is_small() -> None:
    """A plan of a million iterations keeps a few spans."""
    engine = Engine(lambda engine, batch: None)
    for period in (1, 7, 100):
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=period), print)

    calendar = engine.plan(10, 20_000)

    assert [len(one.firings) for one in calendar.handlers] == [200_000, 28_571, 2_000]
    assert [len(one.firings.spans) for one in calendar.handlers] == [10, 10, 10]


def test_a_calendar_shows_a_table_by_epoch() -> None:
    engine = Engine(lambda engine, batch: None)
    schedule = Halving()
    engine.add_event_handler(Events.EPOCH_COMPLETED, schedule)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), Checkpoint({"trainer": engine}, print))

    lines = str(engine.plan(2, 10)).splitlines()

    assert lines[0] == "2 epochs with 20 iterations in all, ends with COMPLETED"
    assert [line.split() for line in lines[2:5]] == [
        ["epoch", "iterations", "saves", "lr"],
        ["1", "1-10", "-", "1"],
        ["2", "11-20", "20", "0.5"],
    ]

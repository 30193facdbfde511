"""No reference cycles by design, one batch alive at a time, and workers that end with the run.

Objects are watched through weak references with the garbage collector off: what is alive is what somebody holds.
"""

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from ignite_core.engine import Engine, Events
from tests.engine.tracing import Own, at, nothing, raiser


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """So that only reference counts free anything."""
    gc.disable()
    yield
    gc.enable()


class Thing:
    """A model, an optimizer, a batch: something large that can be watched."""

    def use(self, *_: Any) -> None:
        """Do nothing."""


# -------------------------------------------------------------------------------------------- the engine and its users


class Mean:
    """As a metric attaches itself: with bound methods, on several events."""

    def __init__(self, model: Thing) -> None:
        self.model = model
        self.total = 0

    def started(self, engine: Engine) -> None:
        self.total = 0

    def update(self, engine: Engine) -> None:
        self.total += 1

    def completed(self, engine: Engine, name: str) -> None:
        engine.state.metrics[name] = self.total


def with_handlers(engine: Engine, model: Thing) -> None:
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: model.use())
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: model.use() or True)


def with_filters(engine: Engine, model: Thing) -> None:
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), model.use)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(lambda engine, count: model.use() is None, once=[1, 3]), model.use
    )
    engine.add_event_handler(Events.EXCEPTION_RAISED(once=1), lambda engine, error: model.use() or True)


def with_priorities_and_handles(engine: Engine, model: Thing) -> None:
    engine.state.handle = engine.add_event_handler(
        Events.ITERATION_STARTED(priority=5) | Events.EPOCH_COMPLETED, model.use, model
    )
    engine.add_event_handler(Events.TERMINATE | Events.INTERRUPT, model.use)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)


def with_a_metric(engine: Engine, model: Thing) -> None:
    mean = Mean(model)
    engine.add_event_handler(Events.EPOCH_STARTED, mean.started)
    engine.add_event_handler(Events.ITERATION_COMPLETED, mean.update)
    engine.add_event_handler(Events.EPOCH_COMPLETED, mean.completed, "mean")
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)


def with_changes_in_mid_run(engine: Engine, model: Thing) -> None:
    engine.register_events(*Own, event_to_attr={Own.MOVED: "moved"})
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: engine.add_event_handler(Own.ONE, model.use).remove()
    )
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: engine.fire_event(Own.ONE))
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)


ENDS: dict[str, Callable[[Engine], None]] = {
    "never ran": lambda engine: None,
    "done": lambda engine: engine.run([1, 2, 3], max_epochs=2),
    "terminated": lambda engine: cut(engine, "terminate"),
    "epoch terminated": lambda engine: cut(engine, "terminate_epoch"),
    "interrupted": lambda engine: cut(engine, "interrupt"),
    "interrupted and resumed": lambda engine: (cut(engine, "interrupt"), engine.run([1, 2, 3], max_epochs=2)),
    "raised": lambda engine: cut(engine, "does not exist"),
}


def cut(engine: Engine, request: str) -> None:
    """Run, and do that at iteration 2; what is no request raises, which a handler suppresses."""
    engine.add_event_handler(Events.GET_BATCH_COMPLETED(once=1), lambda engine: getattr(engine, request)())
    engine.run([1, 2, 3], max_epochs=2)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "attach", [with_handlers, with_filters, with_priorities_and_handles, with_a_metric, with_changes_in_mid_run]
)
def test_deleting_the_engine_frees_what_its_step_and_handlers_held(attach, end):
    model, optimizer = Thing(), Thing()
    engine = Engine(lambda engine, batch, model=model, optimizer=optimizer: model.use() or optimizer.use())
    attach(engine, model)
    ENDS[end](engine)
    dead = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(engine), weakref.ref(engine.state)]

    del model, optimizer, engine

    assert [ref() for ref in dead] == [None] * 4


def test_an_exception_that_was_handled_keeps_nothing_alive():
    model = Thing()

    def step(engine: Engine, batch: Any, model: Thing = model) -> None:
        raise ValueError("step")

    engine = Engine(step)
    with contextlib.suppress(ValueError):
        engine.run([1, 2])
    dead = weakref.ref(model)

    del model, engine, step

    assert dead() is None


def test_nested_engines_keep_nothing_alive():
    model = Thing()
    inner = Engine(lambda engine, batch, model=model: model.use())
    outer = Engine(lambda engine, batch, inner=inner: inner.run([1, 2]))
    outer.run([1])
    dead = [weakref.ref(model), weakref.ref(inner), weakref.ref(outer)]

    del model, inner, outer

    assert [ref() for ref in dead] == [None] * 3


def test_a_removed_handler_is_freed():
    model, engine = Thing(), Engine(nothing)
    handle = engine.add_event_handler(Events.EPOCH_COMPLETED(every=2) | Events.STARTED, model.use)
    engine.run([1], max_epochs=3)
    dead = weakref.ref(model)

    del model
    assert dead() is not None
    handle.remove()
    engine.run([1])

    assert dead() is None


def test_adding_and_removing_leaves_nothing_behind():
    engine = Engine(nothing)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=7), nothing_at_all)

    def change() -> None:
        for k in range(10_000):
            event = Events.ITERATION_COMPLETED if k % 2 else Events.ITERATION_COMPLETED(every=k + 2)
            engine.add_event_handler(event, nothing_at_all).remove()
        engine.run([1, 2])

    change()
    before = len(gc.get_objects())
    change()

    assert len(gc.get_objects()) - before < 50


def nothing_at_all() -> None:
    """Do nothing."""


# ---------------------------------------------------------------------------------------------------------- batches


class Watched:
    """Data that makes batches, and knows how many of them are alive when it is asked for one, and at most."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.alive: weakref.WeakSet[Thing] = weakref.WeakSet()
        self.before_fetch: list[int] = []
        self.peak = 0

    def __iter__(self) -> Iterator[Thing]:
        for _ in range(self.length):
            self.before_fetch.append(len(self.alive))
            batch = Thing()
            self.alive.add(batch)
            self.peak = max(self.peak, len(self.alive))
            yield batch
            del batch


def bare_loop(data: Watched, epochs: int) -> None:
    for _ in range(epochs):
        for batch in data:
            batch.use()
            del batch


@pytest.mark.parametrize("seed", [None, 1])
def test_the_previous_batch_is_released_before_the_next_is_fetched(seed):
    """So at most one is alive, as in a loop that deletes its batch."""
    bare, data = Watched(3), Watched(3)
    bare_loop(bare, 2)
    engine = Engine(lambda engine, batch: batch.use())
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: engine.state.batch.use())

    engine.run(data, max_epochs=2, epoch_length=3, seed=seed)

    assert data.before_fetch == bare.before_fetch == [0] * 6
    assert data.peak == bare.peak == 1


@pytest.mark.parametrize(
    "event", [event for event in Events if event.name.startswith(("GET", "ITER"))], ids=lambda e: e.name
)
def test_a_pause_keeps_no_second_batch_alive(event):
    data = Watched(4)
    engine = Engine(lambda engine, batch: batch.use())
    at(engine, event, 2, engine.interrupt)

    engine.run(data, epoch_length=4)
    engine.run(data)

    assert data.before_fetch == [0] * 4
    assert engine.state.iteration == 4


def test_the_previous_output_is_released_after_the_fetch_and_before_the_step():
    outputs: list[weakref.ref[Thing]] = []
    seen: list[tuple[str, bool]] = []

    def look(where: str) -> None:
        if outputs:
            seen.append((where, outputs[-1]() is not None))

    def data() -> Iterator[int]:
        for batch in range(3):
            look("fetch")
            yield batch

    def step(engine: Engine, batch: int) -> Thing:
        look("step")
        output = Thing()
        outputs.append(weakref.ref(output))
        return output

    engine = Engine(step)
    engine.add_event_handler(Events.GET_BATCH_STARTED, lambda: look("get batch"))
    engine.run(data(), epoch_length=3)

    assert seen == [("get batch", True), ("fetch", True), ("step", False)] * 2
    assert engine.state.output is outputs[-1](), "the last output stays"


def test_the_output_survives_a_fetch_that_finds_the_data_exhausted():
    """At the end of an epoch of unknown length, handlers of EPOCH_COMPLETED still see the last output."""
    engine, seen = Engine(lambda engine, batch: batch), []
    for event in (Events.EPOCH_COMPLETED, Events.DATALOADER_STOP_ITERATION):
        engine.add_event_handler(event, lambda: seen.append((engine.last_event_name.name, engine.state.output)))

    engine.run((batch for batch in "ab"), epoch_length=None)
    with pytest.warns(UserWarning, match="has no more"):
        engine.run(iter("xy"), epoch_length=3)

    assert seen == [("EPOCH_COMPLETED", "b"), ("DATALOADER_STOP_ITERATION", "y"), ("EPOCH_COMPLETED", "y")]


# ---------------------------------------------------------------------------------------------------------- workers


class Pids(Dataset[int]):
    """Its items say which process made them."""

    def __getitem__(self, index: int) -> int:
        worker = torch.utils.data.get_worker_info()
        assert worker is not None
        return int(worker.id)

    def __len__(self) -> int:
        return 20


@pytest.mark.parametrize("end", ["done", "terminate", "raise"])
def test_the_workers_of_a_data_loader_end_with_the_run(end):
    """Although the engine and the loader stay alive."""
    import multiprocessing

    before = set(multiprocessing.active_children())
    engine = Engine(nothing)
    workers: list[Any] = []
    at(engine, Events.ITERATION_COMPLETED, 2, lambda: workers.extend(set(multiprocessing.active_children()) - before))
    if end == "terminate":
        at(engine, Events.ITERATION_COMPLETED, 2, lambda: engine.terminate())
    if end == "raise":
        at(engine, Events.ITERATION_COMPLETED, 2, raiser(ValueError("step")))
    loader = DataLoader(Pids(), num_workers=2, batch_size=4)

    with contextlib.suppress(ValueError):
        engine.run(loader)

    assert len(workers) == 2
    assert set(multiprocessing.active_children()) - before == set()

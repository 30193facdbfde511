"""Each way to end fires what the table in the docstring of ``Events`` says: the rows are read from there."""

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from tests.engine.tracing import LETTERS, NoLength, Trace, at, letters, nothing, raiser, watch

DATA = ["a", "b", "c"]


def read_table() -> dict[str, str]:
    """The rows between the second and the third rule of the table: way to end, events."""
    assert Events.__doc__ is not None
    body = re.split(r"^ *=+ +=+$", Events.__doc__, flags=re.MULTILINE)
    assert len(body) == 4, "the docstring of Events holds one table of two columns"
    rows = [re.split(r"\s{2,}", line.strip()) for line in body[2].strip().splitlines()]
    return dict(rows)


TABLE = read_table()


class Scenario:
    """An engine whose step does nothing, three batches an epoch, two epochs; what it fires and what it raised."""

    def __init__(self) -> None:
        self.steps: Iterator[Callable[..., Any]] = iter([])  # what the step does, one after the other
        self.engine = Engine(lambda engine, batch: next(self.steps, nothing)(engine, batch))
        self.trace: Trace = watch(self.engine)
        self.raised: BaseException | None = None
        self.data: Any = DATA

    def run(self, **kwargs: Any) -> None:
        kwargs = {"data": self.data, "max_epochs": 2} | kwargs
        if "max_iters" in kwargs:
            del kwargs["max_epochs"]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                self.engine.run(**kwargs)
        except Exception as error:
            self.raised = error

    def at(self, event: Events, k: int, action: Callable[[], Any], runs: int = 1) -> None:
        """Run with ``action`` at the k-th firing of ``event``."""
        at(self.engine, event, k, action)
        for _ in range(runs):
            self.run()

    def raising(self, *, runs: int = 1, suppressed: bool = False) -> None:
        """Run with a step that raises once, in iteration 2."""
        self.steps = iter([nothing, raiser(ValueError("step 2"))])
        if suppressed:
            self.engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
        for _ in range(runs):
            self.run()


def iterating(data: Any) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        scenario.data = data()
        scenario.run()

    return run


IC, EC = Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED

SCENARIOS: dict[str, Callable[[Scenario], None]] = {
    "done": Scenario.run,
    "terminate() at iteration 2 completed": lambda s: s.at(IC, 2, s.engine.terminate),
    "terminate() at epoch 1 completed": lambda s: s.at(EC, 1, s.engine.terminate),
    "terminate() at STARTED": lambda s: s.at(Events.STARTED, 1, s.engine.terminate),
    "terminate(skip_completed=True) at iteration 2": lambda s: s.at(
        IC, 2, lambda: s.engine.terminate(skip_completed=True)
    ),
    "terminate_epoch() at iteration 2 completed": lambda s: s.at(IC, 2, s.engine.terminate_epoch),
    "terminate_epoch(skip_epoch_completed=True), same": lambda s: s.at(
        IC, 2, lambda: s.engine.terminate_epoch(skip_epoch_completed=True)
    ),
    "terminate_epoch() at GET_BATCH_COMPLETED 2": lambda s: s.at(
        Events.GET_BATCH_COMPLETED, 2, s.engine.terminate_epoch
    ),
    "terminate_epoch() at epoch 1 completed": lambda s: s.at(EC, 1, s.engine.terminate_epoch),
    "terminate_epoch() at STARTED": lambda s: s.at(Events.STARTED, 1, s.engine.terminate_epoch),
    "terminate_epoch() at EPOCH_STARTED": lambda s: s.at(Events.EPOCH_STARTED, 1, s.engine.terminate_epoch),
    "interrupt() at iteration 2 completed": lambda s: s.at(IC, 2, s.engine.interrupt),
    "interrupt() at iteration 2 completed, run again": lambda s: s.at(IC, 2, s.engine.interrupt, runs=2),
    "interrupt() at ITERATION_STARTED 2, run again": lambda s: s.at(
        Events.ITERATION_STARTED, 2, s.engine.interrupt, runs=2
    ),
    "interrupt() at epoch 2 completed, run again": lambda s: s.at(EC, 2, s.engine.interrupt, runs=2),
    "exception in step 2": Scenario.raising,
    "exception in step 2, suppressed": lambda s: s.raising(suppressed=True),
    "exception in step 2, run again": lambda s: s.raising(runs=2),
    "max_iters=5": lambda s: s.run(max_iters=5),
    "max_iters=6": lambda s: s.run(max_iters=6),
    "epoch_length=4": lambda s: s.run(epoch_length=4),
    "epoch_length=2": lambda s: s.run(epoch_length=2),
    "data=None": lambda s: s.run(data=None, epoch_length=3),
    "length unknown": iterating(lambda: NoLength(DATA)),
    "one-shot iterator": iterating(lambda: iter(DATA)),
}

#: The rows in which run() raises, and what.
RAISES = {
    "terminate_epoch() at STARTED": RuntimeError,
    "terminate_epoch() at EPOCH_STARTED": RuntimeError,
    "exception in step 2": ValueError,
    "exception in step 2, run again": ValueError,
}


def test_every_row_has_a_scenario_and_every_scenario_a_row():
    assert sorted(TABLE) == sorted(SCENARIOS)


def test_the_table_explains_every_letter_of_every_event():
    """No event is left out of the legend, so no row can hide one."""
    used = {letter for row in TABLE.values() for letter in row.split()} - {"...", "+++"}

    assert used | {"GS", "GC", "IS", "IC", "STOP"} == set(LETTERS.values())
    assert set(LETTERS) == set(Events)


@pytest.mark.parametrize("name", TABLE)
def test_a_row_of_the_table(name):
    scenario = Scenario()

    SCENARIOS[name](scenario)

    assert letters(scenario.trace) == TABLE[name]
    assert type(scenario.raised) is RAISES.get(name, type(None))


def run_traced(name: str) -> Trace:
    scenario = Scenario()
    SCENARIOS[name](scenario)
    return scenario.trace


def test_trace_of_a_run_that_is_done():
    """Two epochs of three batches; the data is asked again only where the second epoch needs a batch."""
    assert run_traced("done") == [
        ("S", 0, 0),
        ("ES", 1, 0),
        *[("GS", 1, 0), ("GC", 1, 0), ("IS", 1, 1), ("IC", 1, 1)],
        *[("GS", 1, 1), ("GC", 1, 1), ("IS", 1, 2), ("IC", 1, 2)],
        *[("GS", 1, 2), ("GC", 1, 2), ("IS", 1, 3), ("IC", 1, 3)],
        ("EC", 1, 3),
        ("ES", 2, 3),
        *[("GS", 2, 3), ("STOP", 2, 3), ("GC", 2, 3), ("IS", 2, 4), ("IC", 2, 4)],
        *[("GS", 2, 4), ("GC", 2, 4), ("IS", 2, 5), ("IC", 2, 5)],
        *[("GS", 2, 5), ("GC", 2, 5), ("IS", 2, 6), ("IC", 2, 6)],
        ("EC", 2, 6),
        ("C", 2, 6),
    ]


def test_trace_of_a_run_that_is_terminated():
    """The epoch that was cut does not complete."""
    assert run_traced("terminate() at iteration 2 completed") == [
        ("S", 0, 0),
        ("ES", 1, 0),
        *[("GS", 1, 0), ("GC", 1, 0), ("IS", 1, 1), ("IC", 1, 1)],
        *[("GS", 1, 1), ("GC", 1, 1), ("IS", 1, 2), ("IC", 1, 2)],
        ("T", 1, 2),
        ("C", 1, 2),
    ]


def test_trace_of_a_run_that_is_interrupted_in_mid_iteration_and_goes_on():
    """The pause stands between ITERATION_STARTED and the step of batch 2, and nothing is fired twice."""
    assert run_traced("interrupt() at ITERATION_STARTED 2, run again") == [
        ("S", 0, 0),
        ("ES", 1, 0),
        *[("GS", 1, 0), ("GC", 1, 0), ("IS", 1, 1), ("IC", 1, 1)],
        *[("GS", 1, 1), ("GC", 1, 1), ("IS", 1, 2), ("I", 1, 2), ("IC", 1, 2)],
        *[("GS", 1, 2), ("GC", 1, 2), ("IS", 1, 3), ("IC", 1, 3)],
        ("EC", 1, 3),
        ("ES", 2, 3),
        *[("GS", 2, 3), ("STOP", 2, 3), ("GC", 2, 3), ("IS", 2, 4), ("IC", 2, 4)],
        *[("GS", 2, 4), ("GC", 2, 4), ("IS", 2, 5), ("IC", 2, 5)],
        *[("GS", 2, 5), ("GC", 2, 5), ("IS", 2, 6), ("IC", 2, 6)],
        ("EC", 2, 6),
        ("C", 2, 6),
    ]


def test_trace_of_a_run_that_raises_and_is_run_again():
    """Neither EPOCH_COMPLETED nor COMPLETED; the next run takes the next epoch at full length and counts on."""
    assert run_traced("exception in step 2, run again") == [
        ("S", 0, 0),
        ("ES", 1, 0),
        *[("GS", 1, 0), ("GC", 1, 0), ("IS", 1, 1), ("IC", 1, 1)],
        *[("GS", 1, 1), ("GC", 1, 1), ("IS", 1, 2)],
        ("X", 1, 2),
        ("S", 1, 2),
        ("ES", 2, 2),
        *[("GS", 2, 2), ("GC", 2, 2), ("IS", 2, 3), ("IC", 2, 3)],
        *[("GS", 2, 3), ("GC", 2, 3), ("IS", 2, 4), ("IC", 2, 4)],
        *[("GS", 2, 4), ("GC", 2, 4), ("IS", 2, 5), ("IC", 2, 5)],
        ("EC", 2, 5),
        ("C", 2, 5),
    ]


def test_trace_of_a_run_that_reaches_max_iters_inside_an_epoch():
    assert run_traced("max_iters=5") == [
        ("S", 0, 0),
        ("ES", 1, 0),
        *[("GS", 1, 0), ("GC", 1, 0), ("IS", 1, 1), ("IC", 1, 1)],
        *[("GS", 1, 1), ("GC", 1, 1), ("IS", 1, 2), ("IC", 1, 2)],
        *[("GS", 1, 2), ("GC", 1, 2), ("IS", 1, 3), ("IC", 1, 3)],
        ("EC", 1, 3),
        ("ES", 2, 3),
        *[("GS", 2, 3), ("STOP", 2, 3), ("GC", 2, 3), ("IS", 2, 4), ("IC", 2, 4)],
        *[("GS", 2, 4), ("GC", 2, 4), ("IS", 2, 5), ("IC", 2, 5)],
        ("T", 2, 5),
        ("C", 2, 5),
    ]


def test_a_request_made_in_the_step_is_answered_after_iteration_completed():
    engine = Engine(lambda engine, batch: engine.terminate_epoch() if batch == "b" else None)
    trace = watch(engine)

    engine.run(DATA)

    assert letters(trace) == "S ES ... ... TE EC C"

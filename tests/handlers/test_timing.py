"""A timer measures what pytorch-ignite's does, between the same events, on whatever clock it is given."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import ignite_core.engine
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Timer

theirs = pytest.importorskip("ignite.handlers.timing")
their_engine = pytest.importorskip("ignite.engine")


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_runs_from_the_moment_it_is_made_and_measures_no_pause() -> None:
    clock = Clock()
    timer = Timer(clock=clock)
    clock.now += 2
    assert (timer.value(), timer.running, timer.total) == (2.0, True, 0.0)

    timer.pause()
    clock.now += 50
    timer.pause()
    assert (timer.value(), timer.running, timer.total) == (2.0, False, 2.0)

    timer.resume()
    clock.now += 3
    timer.resume()
    assert timer.value() == 5.0

    assert timer.reset() is timer
    assert (timer.value(), timer.step_count, timer.running) == (0.0, 0, True)


def test_an_average_is_that_of_the_steps_or_the_total_where_there_was_none() -> None:
    clock = Clock()
    timer = Timer(average=True, clock=clock)
    clock.now += 6
    assert timer.value() == 6.0

    timer.step()
    timer.step()
    assert timer.value() == 3.0
    assert Timer(clock=clock).step_count == 0


#: Which events drive a timer, by argument of `attach`.
DRIVES: dict[str, dict[str, str]] = {
    "default": {},
    "batches": {"resume": "ITERATION_STARTED", "pause": "ITERATION_COMPLETED", "step": "ITERATION_COMPLETED"},
    "data": {
        "start": "EPOCH_STARTED",
        "resume": "GET_BATCH_STARTED",
        "pause": "GET_BATCH_COMPLETED",
        "step": "GET_BATCH_COMPLETED",
    },
    "one event": {
        "start": "STARTED",
        "pause": "ITERATION_STARTED",
        "resume": "ITERATION_STARTED",
        "step": "EPOCH_COMPLETED",
    },
}


def values(engines: Any, timer: Any, clock: Clock, drive: dict[str, str]) -> list[Any]:
    """What the timer says at each event of a run in which every event takes its time."""

    def step(engine: Any, batch: float) -> None:
        clock.now += batch

    engine = engines.Engine(step)
    assert timer.attach(engine, **{name: engines.Events[event] for name, event in drive.items()}) is timer
    seen = []

    def look() -> None:
        seen.append((timer.value(), timer.total, timer.step_count, timer.running))
        clock.now += 0.25

    for event in ("STARTED", "EPOCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_COMPLETED", "EPOCH_COMPLETED"):
        engine.add_event_handler(engines.Events[event], look)
    engine.run([1.0, 2.0, 4.0], max_epochs=2)
    clock.now += 8
    look()
    return seen


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("drive", DRIVES)
def test_it_says_at_each_event_what_that_of_pytorch_ignite_says(
    drive: str, average: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, other_clock = Clock(), Clock()
    monkeypatch.setattr(theirs, "perf_counter", other_clock)

    ours = values(ignite_core.engine, Timer(average, clock=clock), clock, DRIVES[drive])

    assert ours == values(their_engine, theirs.Timer(average), other_clock, DRIVES[drive])


def test_it_waits_for_the_accelerator_before_each_look_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    clock = Clock()
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waits.append(clock.now))

    timer = Timer(synchronize=True, clock=clock)
    clock.now += 1
    timer.pause()
    assert waits == [100.0, 101.0]

    Timer(clock=clock).value()
    assert len(waits) == 2


def test_without_an_accelerator_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)

    assert Timer(synchronize=True, clock=lambda: 1.0).value() == 0.0


@pytest.mark.gpu
def test_work_that_was_only_launched_is_measured_with_synchronize() -> None:
    device = torch.accelerator.current_accelerator()
    matrix = torch.ones(4096, 4096, device=device)
    (matrix @ matrix).sum().item()

    def seconds(synchronize: bool) -> float:
        timer = Timer(synchronize=synchronize)
        for _ in range(20):
            matrix @ matrix
        return timer.value()

    launched = seconds(False)
    torch.accelerator.synchronize()
    assert seconds(True) > 2 * launched


def timed(clock: Callable[[], float] | None = None) -> tuple[Engine, Timer]:
    trainer = Engine(lambda engine, batch: None)
    timer = Timer(average=True, clock=clock or (lambda: 2.0 * trainer.state.iteration))
    return trainer, timer.attach(trainer, step=Events.ITERATION_COMPLETED)


def test_a_timer_that_is_loaded_goes_on_where_the_run_does_and_begins_anew_with_the_next_run() -> None:
    trainer, timer = timed()
    trainer.run(range(6), max_epochs=1, seed=0)

    resumed, other = timed()
    other.load_state_dict({"total": 8.0, "step_count": 4, "running": True})
    resumed.load_state_dict({"iteration": 4, "epoch_length": 6, "max_epochs": 1, "seed": 0})
    resumed.run(range(6), max_epochs=1)
    assert other.state_dict() == timer.state_dict() == {"total": 12.0, "step_count": 6, "running": False}

    resumed.run(range(6), max_epochs=1)
    assert other.step_count == 6


def test_what_is_saved_holds_the_time_that_is_being_measured() -> None:
    clock = Clock()
    timer = Timer(clock=clock)
    clock.now += 5

    assert timer.state_dict() == {"total": 5.0, "step_count": 0, "running": True}
    assert timer.total == 0.0


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: Timer(clock=3), TypeError, "Timer: clock must be callable, got 3"),
        (lambda: Timer().attach(3), TypeError, "engine must be an Engine, got 3"),
        (lambda: Timer().load_state_dict([]), TypeError, "state_dict must be a mapping, got list"),
        (lambda: Timer().load_state_dict({"total": 1.0}), ValueError, r"'step_count' is missing, got \['total'\]"),
        (
            lambda: Timer().load_state_dict({"total": -1, "step_count": 0, "running": True}),
            ValueError,
            "total must be at least 0, got -1",
        ),
    ],
)
def test_wrong_arguments_are_told(call: Callable[[], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        call()

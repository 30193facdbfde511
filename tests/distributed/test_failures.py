"""R17: a rank fails in a user function, in any handler, and all ranks leave; what each of them raises and runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import ignite_core.distributed as idist
from ignite_core.distributed.failures import api as failures
from ignite_core.distributed.models.native import TorchModel
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import RankFailed
from ignite_core.handlers import AsyncDiskSaver, Checkpoint
from ignite_core.handlers.checkpoint.storage import fs as files
from ignite_core.metrics import Accuracy
from ignite_core.testing import run_distributed
from tests.distributed.launching import by_hand, launch
from tests.faults.sizes import FULL
from tests.handlers.checkpoint.newest import load_newest

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")

#: What may pass, at most, from the failure to the moment when the last rank has left its run.
LIMIT_S = 5.0


class OwnError(Exception):
    """That a user raises."""


@dataclass
class Left:
    """How a rank left its run, and what its handlers of EXCEPTION_RAISED have seen."""

    error: str = ""
    message: str = ""
    ranks: tuple[int, ...] = ()
    handled: list[str] = field(default_factory=list)
    raised_at: float = 0.0
    left_at: float = 0.0


def with_library_collective(engine: Engine, batch: Any) -> Any:
    return idist.all_reduce(1)


def with_no_collective(engine: Engine, batch: Any) -> Any:
    time.sleep(0.01)


def with_collective_of_torch(engine: Engine, batch: Any) -> Any:
    """It is not freed before the failing process has left the group."""
    dist.all_reduce(torch.ones(2))


STEPS: dict[str, Callable[[Engine, Any], Any]] = {
    "library": with_library_collective,
    "none": with_no_collective,
    "torch": with_collective_of_torch,
}


class FailingData:
    """Fails where its third batch is asked for."""

    def __init__(self, fail: Callable[[], None]) -> None:
        self.fail = fail

    def __iter__(self) -> Iterator[int]:
        yield from (1, 2)
        self.fail()
        yield 3


def run_and_leave(trainer: Engine, data: Any, left: Left) -> Left:
    def note(engine: Engine, error: BaseException) -> None:
        left.handled.append(type(error).__name__)

    handle = trainer.add_event_handler(Events.EXCEPTION_RAISED, note)
    try:
        trainer.run(data, max_epochs=1000, epoch_length=4)
    except Exception as error:
        left.error, left.message = type(error).__name__, str(error)
        left.ranks = getattr(error, "ranks", ())
    handle.remove()
    left.left_at = time.monotonic()
    return left


def fail_at(place: str, guilty: int, step: str) -> Left:
    """Run until rank ``guilty`` fails at a place: an event, the step or the data."""
    left, began = Left(), time.monotonic()

    def fail(*arguments: Any) -> None:
        if idist.get_rank() == guilty:
            left.raised_at = time.monotonic()
            raise OwnError(f"at {place}")

    def step_and_fail(engine: Engine, batch: Any) -> Any:
        if place == "step" and engine.state.iteration == 3:
            fail()
        return STEPS[step](engine, batch)

    trainer = Engine(step_and_fail)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), trainer.terminate_epoch)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=8), trainer.interrupt)
    if place in ("TERMINATE", "COMPLETED"):
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=7), trainer.terminate)
    if place in Events.__members__:
        trainer.add_event_handler(Events[place], fail)
    run_and_leave(trainer, FailingData(fail if place == "data" else int), left)
    while not left.error and left.left_at < began + 30:  # it has ended, or was interrupted, before it heard of it
        run_and_leave(trainer, FailingData(int), left)
    return left


PLACES = [event.name for event in Events if event is not Events.EXCEPTION_RAISED] + ["step", "data"]


@pytest.mark.parametrize("step", STEPS if FULL else ["library"])
@pytest.mark.parametrize("guilty", [0, 1, 2, 3] if FULL else [0, 1])
@pytest.mark.parametrize("place", PLACES)
def test_all_ranks_raise(place: str, guilty: int, step: str) -> None:
    """The failed rank raises the original error, the others one that quotes it."""
    ranks = 4 if FULL else 2

    found: list[Left] = run_distributed(fail_at, place, guilty, step, ranks=ranks)

    assert max(left.left_at for left in found) - found[guilty].raised_at < LIMIT_S
    for rank, left in enumerate(found):
        if rank == guilty:
            assert (left.error, left.message, left.handled) == ("OwnError", f"at {place}", ["OwnError"])
        else:
            assert (left.error, left.ranks, left.handled) == ("RankFailed", (guilty,), ["RankFailed"])
            assert left.message.startswith(
                f"rank {guilty} of {ranks} has failed:\n\nTraceback (most recent call last):"
            )
            assert "in fail\n" in left.message
            assert f"OwnError: at {place}\nRaised by " in left.message


SAVING_PLACES = ["step", "ITERATION_STARTED", "ITERATION_COMPLETED", "EPOCH_COMPLETED"]


def fail_while_saving(folder: str, guilty: int, place: str) -> tuple[Left, bool]:
    """Fail while a checkpoint is being written, which goes on where the error is handled; whether it was, then."""
    saver, left = AsyncDiskSaver(folder), Left()
    sync, goes_on = files.fsync, threading.Event()
    is_writing = False

    def sync_later(fd: int) -> None:
        assert goes_on.wait(30)
        sync(fd)

    def hold() -> None:
        saver.flush()
        files.fsync = sync_later

    def go_on(engine: Engine) -> None:
        nonlocal is_writing
        is_writing = not saver._writes.is_idle
        goes_on.set()

    def fail(*arguments: Any) -> None:
        if idist.get_rank() == guilty:
            left.raised_at = time.monotonic()
            raise OwnError(f"at {place}")

    def step(engine: Engine, batch: Any) -> Any:
        if place == "step" and engine.state.iteration == 4:
            fail()
        return idist.all_reduce(1)

    trainer = Engine(step)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2, priority=1), hold)
    checkpoint = Checkpoint({"trainer": trainer, "model": torch.nn.Linear(2, 1)}, saver, n_saved=None)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(before=3), checkpoint)
    trainer.add_event_handler(Events.EXCEPTION_RAISED(priority=1), lambda engine, error: go_on(engine))
    if place in Events.__members__:
        trainer.add_event_handler(Events[place](once=1 if "EPOCH" in place else 4), fail)
    run_and_leave(trainer, range(4), left)
    files.fsync = sync
    return left, is_writing


@pytest.mark.parametrize("place", SAVING_PLACES if FULL else ["step"])
@pytest.mark.parametrize("guilty", [0, 1])
def test_running_writes_complete_when_a_rank_fails(guilty: int, place: str, tmp_path: Path) -> None:
    """What is being saved when a rank fails is complete when all have left."""
    found = run_distributed(fail_while_saving, str(tmp_path), guilty, place, ranks=2)

    lefts = [left for left, _ in found]
    assert max(left.left_at for left in lefts) - lefts[guilty].raised_at < LIMIT_S
    assert [left.error for left in lefts] == ["OwnError" if rank == guilty else "RankFailed" for rank in range(2)]
    assert [is_writing for _, is_writing in found] == [True, False], "rank 0 writes"
    assert load_newest(tmp_path)[1].step == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"checkpoint_{step}.pt{suffix}" for step in (1, 2) for suffix in ("", ".json")
    ]


# ------------------------------------------------------------------------------------- handlers of EXCEPTION_RAISED


def exchange_in_handler(agreed: bool) -> list[str]:
    """Rank 1 fails, or both do together; both try a collective in their handlers."""
    seen = []

    def step(engine: Engine, batch: Any) -> Any:
        if agreed:
            raise failures.agreed(OwnError("together"))
        if idist.get_rank() == 1:
            raise OwnError("alone")
        return idist.all_reduce(1)

    def exchange(engine: Engine, error: BaseException) -> None:
        seen.append(type(error).__name__)
        try:
            seen.append(str(idist.all_reduce(1)))
        except RankFailed as found:
            seen.append(f"{found.ranks} {str(found).splitlines()[0]}")

    trainer = Engine(step)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, exchange)
    with pytest.raises((OwnError, RankFailed)) as caught:
        trainer.run([1])
    return [*seen, type(caught.value).__name__]


def test_collective_in_a_handler_of_a_failure() -> None:
    """It raises at once, since the other ranks do not take part."""
    other, own = run_distributed(exchange_in_handler, False)

    assert other == ["RankFailed", "(1,) rank 1 of 2 has failed:", "RankFailed"]
    assert own[0] == own[2] == "OwnError"
    assert own[1] == (
        "(1,) idist.all_reduce: rank 1 of 2, this one, has failed and the others raise RankFailed, so its handlers of "
        "EXCEPTION_RAISED cannot use collectives. The failure: OwnError: alone"
    )


def test_collective_in_a_handler_of_a_common_error() -> None:
    """If all ranks raise the same error, handlers may call collectives."""
    assert run_distributed(exchange_in_handler, True) == [["OwnError", "2", "OwnError"]] * 2


def attach_to_rank(guilty: int) -> tuple[str, bool, int]:
    """Metrics that are not the same on all ranks: all raise the same, and it is over with that."""
    evaluator = Engine(lambda engine, batch: (torch.eye(2), torch.tensor([0, 1])))
    if idist.get_rank() == guilty:
        Accuracy().attach(evaluator, "mine")
    else:
        Accuracy().attach(evaluator, "other")
    with pytest.raises(RuntimeError) as caught:
        evaluator.run([1])
    known = failures.has_failed()
    return str(caught.value), known, idist.all_reduce(1)


def test_common_errors_are_not_reported() -> None:
    """An error that the library raises on all ranks is not reported again."""
    for message, known, total in run_distributed(attach_to_rank, 1):
        assert "all ranks must compute the same metrics" in message
        assert (known, total) == (False, 2)


def disagree(how: str) -> tuple[str, bool, int]:
    def step(engine: Engine, batch: Any) -> Any:
        if how == "agree":
            return idist.agree(idist.get_rank())
        with idist.one_rank_first():
            if idist.get_rank() == 0:
                raise OwnError("first")
        return None

    with pytest.raises((RuntimeError, OwnError)) as caught:
        Engine(step).run([1])
    return type(caught.value).__name__, failures.has_failed(), idist.all_reduce(1)


@pytest.mark.parametrize("how", ["agree", "one_rank_first"])
def test_failed_common_decision(how: str) -> None:
    """It fails on all ranks, and the next collective works."""
    first = "RuntimeError" if how == "agree" else "OwnError"

    assert run_distributed(disagree, how) == [(first, False, 2), ("RuntimeError", False, 2)]


# --------------------------------------------------------------------------------------------- which errors are told


def exit_with(kind: str, code: Any) -> str:
    def step(engine: Engine, batch: Any) -> Any:
        if idist.get_rank() == 1 and engine.state.iteration == 2:
            if kind == "agreed exit":
                raise failures.agreed(SystemExit(code))
            raise KeyboardInterrupt if kind == "interrupt" else SystemExit(code)
        time.sleep(0.005)

    try:
        Engine(step).run(range(100))
    except BaseException as error:
        return type(error).__name__
    return "done"


@pytest.mark.parametrize(
    ("kind", "code", "other", "own"),
    [
        ("interrupt", None, "RankFailed", "KeyboardInterrupt"),
        ("exit", 3, "RankFailed", "SystemExit"),
        ("exit", 0, "done", "SystemExit"),
        ("agreed exit", 143, "done", "SystemExit"),
    ],
)
def test_interrupt_and_exit_are_reported(kind: str, code: Any, other: str, own: str) -> None:
    """KeyboardInterrupt and a SystemExit with an error code are failures."""
    assert run_distributed(exit_with, kind, code) == [other, own]


def fail_in_nested_run() -> list[str]:
    """The evaluator fails on rank 1, in a handler of the trainer; on rank 0 it runs, or the trainer does."""
    order = []

    def validate(engine: Engine, batch: Any) -> None:
        if idist.get_rank() == 1 and trainer.state.epoch == 2:
            raise OwnError("in the evaluator")
        time.sleep(0.01)

    evaluator = Engine(validate)
    trainer = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(range(5)))
    evaluator.add_event_handler(
        Events.EXCEPTION_RAISED, lambda error: order.append(f"evaluator {type(error).__name__}")
    )
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: order.append(f"trainer {type(error).__name__}"))
    with pytest.raises((OwnError, RankFailed)):
        trainer.run([1], max_epochs=1000)
    watcher = failures._watcher
    assert watcher is not None
    return [*order, str(watcher._call(lambda store: store._writer.add("entries", 0)))]


def test_failure_in_nested_runs() -> None:
    """All nested runs end, and the failure is reported once."""
    other, own = run_distributed(fail_in_nested_run)

    assert other == ["evaluator RankFailed", "trainer RankFailed", "1"]
    assert own == ["evaluator OwnError", "trainer OwnError", "1"]


# ---------------------------------------------------------------------------------------------- ranks that go on


def fail_together_and_go_on(how: str) -> tuple[str, int, list[int]]:
    """All ranks raise at the same step, and each goes on by itself, for longer than a report may stand."""
    idist.finalize()
    idist.initialize("gloo", abort_grace=1.5)

    def step(engine: Engine, batch: Any) -> Any:
        idist.barrier()
        if engine.state.iteration == 2:
            raise OwnError("together")
        return idist.all_reduce(1)

    trainer = Engine(step)
    error = ""
    if how == "suppressed":
        trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
        trainer.run(range(3))
    else:
        try:
            trainer.run(range(3))
        except OwnError as caught:
            error = str(caught)
    outputs: list[int] = []

    def step_again(engine: Engine, batch: Any) -> None:
        time.sleep(0.8)
        outputs.append(idist.all_reduce(batch))

    again = Engine(step_again)
    if how == "collective":
        assert idist.all_reduce(1) == 2
    again.run([1, 2, 3])
    return error, idist.all_reduce(idist.get_rank()), outputs


@pytest.mark.parametrize("how", ["suppressed", "caught", "collective"])
def test_all_ranks_fail_and_continue(how: str) -> None:
    """They do not wait because of the failures that they have reported."""
    error = "" if how == "suppressed" else "together"

    assert run_distributed(fail_together_and_go_on, how) == [(error, 1, [2, 4, 6])] * 2


def go_on_alone(given_up: bool) -> tuple[str, Any]:
    """Rank 1 fails and goes on; rank 0 has heard of it in a collective, or in its own steps, and goes on too."""

    def step(engine: Engine, batch: Any) -> Any:
        if idist.get_rank() == 1 and engine.state.iteration == 2:
            raise OwnError
        return idist.all_reduce(1) if given_up else time.sleep(0.01)

    trainer = Engine(step)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
    trainer.run(range(1000))
    store = failures._watcher._store._writer  # type: ignore[union-attr]
    if idist.get_rank() == 1:
        store.wait(["other has left its run"])
    else:
        store.set("other has left its run", "")
    try:
        found: Any = idist.all_reduce(1)
    except RuntimeError as error:
        found = f"{type(error).__name__}: {error}"
        idist.finalize()
        idist.initialize("gloo")
    return found, idist.all_reduce(1)


def test_ranks_continue_after_a_handled_failure() -> None:
    """Ranks can continue if no collective was abandoned."""
    assert run_distributed(go_on_alone, False) == [(2, 2), (2, 2)]


def test_ranks_out_of_step() -> None:
    """The error says so, and the ranks can initialize again."""
    (first, total), (second, _) = run_distributed(go_on_alone, True, timeout_s=40.0)

    advice = "so the ranks are out of step; call idist.finalize() and then idist.initialize() on all of them"
    assert first == (
        "RuntimeError: idist.all_reduce: rank 0 left a collective (idist.all_reduce) because of another rank's "
        f"failure, {advice}"
    )
    assert second == (
        "RuntimeError: idist.all_reduce: rank 1 went on after its failure (OwnError: ), but another rank had left a "
        f"collective because of it, {advice}"
    )
    assert total == 2


def fail_for_good() -> tuple[str, float]:
    """Rank 1 fails and does not go on; rank 0 catches it and does."""

    def step(engine: Engine, batch: Any) -> Any:
        if idist.get_rank() == 1:
            raise OwnError
        time.sleep(0.01)

    idist.finalize()
    idist.initialize("gloo", abort_grace=0.5)
    with pytest.raises((OwnError, RankFailed)):
        Engine(step).run(range(1000))
    store = failures._watcher._store._writer  # type: ignore[union-attr]
    if idist.get_rank() == 1:
        store.wait(["told"])
        return "", 0.0
    began = time.monotonic()
    with pytest.raises(RankFailed) as caught:
        idist.barrier()
    store.set("told", "")
    return str(caught.value), time.monotonic() - began


def test_continuing_without_the_failed_rank() -> None:
    """The failure is reported again after the grace period."""
    (message, waited_s), _ = run_distributed(fail_for_good)

    assert message.startswith("rank 1 of 2 has failed:")
    assert 0.4 < waited_s < LIMIT_S


# --------------------------------------------------------------------------------------------- without an engine


def work(local_rank: int) -> None:
    if local_rank == 1:
        raise OwnError("of the function")
    for _ in range(10**6):
        idist.all_reduce(1)


def work_in_parallel() -> None:
    with idist.Parallel("gloo") as parallel:
        parallel.run(work)


def test_error_inside_parallel_is_reported() -> None:
    with TorchModel.meeting_point() as told:
        first, second = launch(work_in_parallel, [environment | told for environment in by_hand(2, 1)])

    assert first.error.startswith("RankFailed: rank 1 of 2 has failed:\n\nTraceback (most recent call last):")
    assert "OwnError: of the function" in first.error
    assert second.error == "OwnError: of the function"
    assert max(first.seconds, second.seconds) < 30


def test_error_of_a_spawned_process() -> None:
    """It is reported to the other processes and raised by the caller."""
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="OwnError: of the function") as caught:
        idist.spawn("gloo", work, nproc_per_node=2, start_method="forkserver")

    assert "in work\n" in str(caught.value)


def fail_slowly() -> None:
    """Rank 0 has left long before rank 1 is ready to say what went wrong."""

    def step(engine: Engine, batch: Any) -> Any:
        if idist.get_rank() == 1:
            raise OwnError("the first one")
        return idist.all_reduce(1)

    def wait_for_the_other(engine: Engine, error: BaseException) -> None:
        own = failures._watcher
        assert own is not None
        deadline = time.monotonic() + 20
        while idist.get_rank() == 1 and own.departed() != [0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    trainer = Engine(step)
    trainer.add_event_handler(Events.EXCEPTION_RAISED, wait_for_the_other)
    trainer.run([1])


def test_run_distributed_raises_the_original_error() -> None:
    with pytest.raises(OwnError, match=r"^the first one\n"):
        run_distributed(fail_slowly)

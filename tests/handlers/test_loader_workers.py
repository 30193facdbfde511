"""A signal to the process group is one to the run: workers of loaders outlive it, and the run saves and leaves."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ignite_core.engine import Engine, Events
from ignite_core.handlers import StopOnSignal
from ignite_core.handlers.stopping import loader_workers, stop_on_signal
from ignite_core.testing import run_distributed

SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # that it forks
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # of a worker that dies while it sends
]


class Numbers(Dataset[int]):
    """As many as are wanted."""

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> int:
        return index


@pytest.fixture(autouse=True)
def no_workers_of_other_tests() -> Iterator[None]:
    """A loader that a traceback holds keeps its workers, which tests count and send signals to."""
    yield
    gc.collect()
    for worker in multiprocessing.active_children():
        worker.terminate()
        worker.join(20)


def loader(data: Any = None, context: str = "fork", **options: Any) -> DataLoader[Any]:
    return DataLoader(data or Numbers(), batch_size=1, num_workers=2, multiprocessing_context=context, **options)


def send_to_workers(number: int) -> None:
    for process in multiprocessing.active_children():
        assert process.pid is not None
        os.kill(process.pid, number)


def run_until_signal(data: Iterable[Any], number: int, seed: int | None = None, later: int = 12) -> list[int]:
    """Workers get a signal at iteration 3, and the run later, when all that was fetched by then is used up."""
    trainer = Engine(lambda engine, batch: None)
    saved: list[int] = []
    StopOnSignal(lambda engine: saved.append(engine.state.iteration)).attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: send_to_workers(number))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=later), lambda: signal.raise_signal(number))
    with pytest.raises(SystemExit):
        trainer.run(data, epoch_length=100, seed=seed)
    return saved


def passes(data: Iterable[Any]) -> Iterator[Any]:
    """Around a loader, as prefetchers are."""
    yield from data


def used_before(data: DataLoader[Any]) -> DataLoader[Any]:
    """Its persistent workers have been started without protection."""
    next(iter(data))
    return data


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("seed", [None, 1])
def test_workers_outlive_a_signal_to_the_group_which_the_run_answers(number: int, seed: int | None) -> None:
    assert run_until_signal(loader(), number, seed) == [12]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("around", [passes, used_before])
def test_so_do_workers_of_a_loader_that_is_wrapped_or_was_used_before(around: Callable[[Any], Any]) -> None:
    assert run_until_signal(around(loader(persistent_workers=True)), signal.SIGTERM) == [12]


def test_so_do_workers_of_a_validation() -> None:
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    StopOnSignal().attach(trainer)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: send_to_workers(signal.SIGTERM))
    trainer.add_event_handler(Events.COMPLETED, lambda: evaluator.run(loader(), epoch_length=12))
    trainer.run([1])

    assert evaluator.state.iteration == 12


def test_after_the_run_workers_can_be_terminated() -> None:
    trainer = Engine(lambda engine, batch: None)
    StopOnSignal().attach(trainer)
    data = loader(persistent_workers=True)
    trainer.run(data, epoch_length=2)
    workers = multiprocessing.active_children()
    for worker in workers:
        worker.terminate()
        worker.join(20)

    assert [worker.exitcode for worker in workers] == [0, 0]


def test_the_worker_init_fn_and_the_loader_stay_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    before = DataLoader.__iter__
    data = loader(worker_init_fn=lambda number: os.write(1, f"worker {number}\n".encode()))
    init = data.worker_init_fn
    run_until_signal(data, signal.SIGTERM)

    assert sorted(capfd.readouterr().out.split("\n")) == ["", "worker 0", "worker 1"]
    assert (data.worker_init_fn, DataLoader.__iter__) == (init, before)


class Starting(IterableDataset[int]):
    """Gets a signal before the worker that unpickles it has begun."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def iterate_while_starting() -> list[int]:
    counts = []
    for context in ("spawn", "forkserver"):
        trainer = Engine(lambda engine, batch: None)
        StopOnSignal().attach(trainer)
        counts.append(
            trainer.run(DataLoader(Starting(), None, num_workers=1, multiprocessing_context=context)).iteration
        )
    return counts


def test_workers_outlive_a_signal_that_comes_before_they_have_started() -> None:
    [counts] = run_distributed(iterate_while_starting, ranks=1, timeout_s=120)

    assert counts == [3, 3]


@pytest.mark.parametrize("is_signalled", [True, False])
def test_a_worker_that_dies_of_a_signal_is_no_error_if_the_run_gets_it_too(
    is_signalled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a loader which has nothing to do with the run; torch raises wherever the main thread is."""
    monkeypatch.setattr(stop_on_signal, "_DELAY_S", 0.0 if not is_signalled else 20.0)
    other = iter(loader())
    next(other)

    worker = other._workers[0]  # type: ignore[attr-defined]

    def end_worker() -> None:
        worker.kill()
        with suppress(ChildProcessError):  # torch's handler of SIGCHLD may have collected it already
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # it is gone before the run gets its signal
        if is_signalled:
            os.kill(os.getpid(), signal.SIGTERM)

    def die(engine: Engine) -> None:
        thread = threading.Thread(target=end_worker)
        thread.start()
        thread.join()

    trainer = Engine(lambda engine, batch: None)
    saved: list[int] = []
    StopOnSignal(lambda engine: saved.append(engine.state.iteration)).attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), die)
    with pytest.raises(SystemExit if is_signalled else RuntimeError):
        trainer.run(range(5))

    assert saved == [2] * is_signalled


class Dying(Numbers):
    """One worker tells the run to end and is gone, as if the signal had killed it."""

    def __getitem__(self, index: int) -> int:
        if index == 7:
            os.kill(os.getppid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.parametrize("exit_code", ["auto", None])
def test_a_batch_that_never_comes_because_a_worker_died_of_the_signal_is_the_signal(exit_code: Any) -> None:
    trainer = Engine(lambda engine, batch: None)
    saved: list[int] = []
    StopOnSignal(lambda engine: saved.append(engine.state.iteration), exit_code=exit_code).attach(trainer)
    data = loader(Dying(), timeout=5.0)  # long enough for the signal to come first on a busy machine
    if exit_code is None:
        trainer.run(data, max_epochs=2)
    else:
        with pytest.raises(SystemExit):
            trainer.run(data, max_epochs=2)

    assert saved == [trainer.state.iteration]
    assert trainer.state.iteration <= 7


class Unreachable:
    """A batch whose memory cannot be fetched, as its worker is about to die of the signal that the run gets, too."""

    def __reduce__(self) -> Any:
        return unreachable, ()


def unreachable() -> None:
    signal.raise_signal(signal.SIGTERM)
    raise ConnectionResetError


def test_a_worker_whose_death_is_seen_only_after_the_run_raises_nothing_then() -> None:
    trainer = Engine(lambda engine, batch: None)
    StopOnSignal().attach(trainer)
    with pytest.raises(SystemExit) as left:  # its traceback keeps the iterator over the loader
        trainer.run(DataLoader(Numbers(), None, num_workers=1, collate_fn=lambda _: Unreachable()))

    assert left.value.code == 143
    assert not multiprocessing.active_children()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch raises in __del__, too
def test_without_a_signal_the_death_of_a_worker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_on_signal, "_DELAY_S", 0.0)
    trainer = Engine(lambda engine, batch: None)
    StopOnSignal(lambda engine: pytest.fail("it saves")).attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: send_to_workers(signal.SIGKILL))
    with pytest.raises((RuntimeError, EOFError, OSError)):
        trainer.run(loader(timeout=0.2), epoch_length=100)


def be_stuck() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Event().wait()


def test_workers_that_are_stuck_are_killed_when_the_program_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_workers, "_TERMINATE_S", 0.01)
    before = signal.getsignal(signal.SIGCHLD)
    worker = multiprocessing.get_context("fork").Process(target=be_stuck)
    worker.start()
    loader_workers._workers.add(worker)
    try:
        loader_workers._end_workers()
        worker.join(20)
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert worker.exitcode in (-signal.SIGKILL, -signal.SIGTERM)

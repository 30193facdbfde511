"""A signal lets the step finish, saves once and leaves; what was there before is put back (R12, one process)."""

import gc
import logging
import multiprocessing
import os
import signal
import stat
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, FlightRecorder, StopOnSignal, TerminateOnNan, resume

STOP: Any = StopOnSignal  # called wrongly
SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]


@pytest.fixture(autouse=True)
def handlers_of_others() -> Iterator[list[int]]:
    """Somebody else's handlers of the signals, and what they got; they are there again after each test."""
    got: list[int] = []
    before = {number: signal.signal(number, lambda number, frame: got.append(number)) for number in SIGNALS}
    ours = {number: signal.getsignal(number) for number in SIGNALS}
    yield got
    assert {number: signal.getsignal(number) for number in SIGNALS} == ours, "all are put back"
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


def nothing(engine: Engine, batch: Any) -> None:
    """A step."""


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


class Ends:
    """What happens at the end of a run of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.saved: list[int] = []
        self.cleaned: list[str] = []
        self.engine = engine
        ends = Events.COMPLETED | Events.EXCEPTION_RAISED
        engine.add_event_handler(ends, lambda *_: self.cleaned.append(engine.last_event_name.name))

    def save(self, engine: Engine) -> None:
        assert engine is self.engine
        self.saved.append(engine.state.iteration)

    def leave(self, *arguments: Any, **named: Any) -> Any:
        """Run until it leaves; the exit code."""
        with pytest.raises(SystemExit) as caught:
            self.engine.run(*arguments, **named)
        return caught.value.code


@pytest.mark.parametrize(
    ("event", "iteration"),
    [
        (Events.STARTED, 1),
        (Events.EPOCH_STARTED, 1),
        (Events.GET_BATCH_STARTED(once=2), 3),
        (Events.GET_BATCH_COMPLETED(once=2), 3),
        (Events.ITERATION_STARTED(once=3), 3),
        (Events.ITERATION_COMPLETED(once=3), 3),
        (Events.ITERATION_COMPLETED(once=4), 4),
        (Events.EPOCH_COMPLETED(once=1), 4),
        (Events.EPOCH_COMPLETED(once=2), 8),
        (Events.DATALOADER_STOP_ITERATION, 3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("number", SIGNALS)
def test_whenever_a_signal_comes_the_step_is_finished_saved_once_and_cleaned_up_once(
    event: Any, iteration: int, number: int, handlers_of_others: list[int]
) -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)
    engine.add_event_handler(event, lambda: send(number))

    code = ends.leave([1, 2], epoch_length=4, max_epochs=2)

    assert (code, ends.saved, ends.cleaned) == (143, [iteration], ["EXCEPTION_RAISED"])
    assert handlers_of_others == [number], "the handler that was there before is called, once"
    send(number)
    assert handlers_of_others == [number] * 2, "and is there again"


@pytest.mark.parametrize("where", ["step", "data", "save"])
def test_what_goes_on_when_a_signal_comes_is_finished(where: str) -> None:
    done: list[str] = []

    def step(engine: Engine, batch: int) -> None:
        if where == "step" and batch == 2:
            send()
        done.append(f"step {batch}")

    def data() -> Iterator[int]:
        for number in range(1, 9):
            if where == "data" and number == 2:
                send()
            yield number

    def save(engine: Engine) -> None:
        if where == "save":
            send()
        done.append(f"save {engine.state.iteration}")

    engine = Engine(step)
    ends = Ends(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), save)
    StopOnSignal(ends.save).attach(engine)

    assert ends.leave(data()) == 143
    assert done == ["step 1", "step 2", "save 2"]
    assert ends.saved == [2]


def test_a_signal_that_comes_before_anything_of_the_run_has_begun_is_answered_after_the_first_step() -> None:
    """The vote forgets what it was asked for where a run begins, but the signal is caught by then."""
    trainer = Engine(nothing)
    ends = Ends(trainer)
    StopOnSignal(ends.save).attach(trainer)
    trainer.add_event_handler(Events.STARTED(priority=10**9), lambda: send())

    assert ends.leave(range(100)) == 143
    assert (ends.saved, ends.cleaned, trainer.state.iteration) == ([1], ["EXCEPTION_RAISED"], 1)


def test_a_signal_at_the_very_end_is_answered_when_all_handlers_of_completed_have_run_once() -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)
    engine.add_event_handler(Events.COMPLETED, lambda: send())
    late = []
    engine.add_event_handler(Events.COMPLETED(priority=-1), lambda: late.append(1))

    assert ends.leave([1, 2]) == 143
    assert (ends.saved, ends.cleaned, late) == ([2], ["COMPLETED"], [1])


def test_a_signal_too_late_to_be_answered_is_as_one_after_the_run(handlers_of_others: list[int]) -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)
    engine.add_event_handler(Events.COMPLETED(priority=-(10**7)), lambda: send())

    engine.run([1, 2])

    assert (ends.saved, ends.cleaned, handlers_of_others) == ([], ["COMPLETED"], [signal.SIGTERM])


def test_a_second_signal_acts_at_once(handlers_of_others: list[int]) -> None:
    engine = Engine(nothing)

    def act(number: int, frame: Any) -> None:
        raise KeyError("at once")

    went_on: list[int] = []

    def save(engine: Engine) -> None:
        send()
        went_on.append(1)

    StopOnSignal(save).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())
    before = signal.signal(signal.SIGTERM, act)
    try:
        with pytest.raises(KeyError, match="at once"):
            engine.run([1, 2, 3])
        assert signal.getsignal(signal.SIGTERM) is act
        assert not went_on
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_anything_to_save_it_just_leaves() -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal().attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())

    assert ends.leave([1, 2, 3]) == 143
    assert ends.cleaned == ["EXCEPTION_RAISED"]


def test_the_exit_code_is_143_but_0_under_torchrun_or_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def code(**arguments: Any) -> Any:
        engine = Engine(nothing)
        StopOnSignal(**arguments).attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())
        return Ends(engine).leave([1, 2, 3])

    assert (code(), code(exit_code=7), code(exit_code=0)) == (143, 7, 0)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert (code(), code(exit_code=7)) == (0, 7)


def test_with_no_exit_code_the_run_ends_as_by_terminate() -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save, exit_code=None).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())

    assert engine.run([1, 2, 3]).iteration == 2
    assert (ends.saved, ends.cleaned) == ([2], ["COMPLETED"])


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    """As in a job that a shell has put into the background."""
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert engine.run([1, 2, 3]).iteration == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert not ends.saved


def test_python_s_own_handler_of_ctrl_c_does_not_raise_after_the_save() -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert ends.leave([1, 2, 3]) == 143
    finally:
        signal.signal(signal.SIGINT, before)


def test_only_the_signals_that_were_named_are_caught(handlers_of_others: list[int]) -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save, signals=["SIGUSR1"]).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send(signal.SIGTERM))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda: send(signal.SIGUSR1))

    ends.leave(range(9))

    assert ends.saved == [4]
    assert handlers_of_others == [signal.SIGTERM, signal.SIGUSR1]


def test_signals_are_left_alone_while_a_run_is_paused_and_caught_when_it_goes_on(handlers_of_others: list[int]) -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda: send())

    engine.run(range(9))
    send()
    assert handlers_of_others == [signal.SIGTERM]
    assert ends.leave(range(9)) == 143
    assert ends.saved == [4]


def test_an_error_of_the_run_is_not_hidden_by_a_signal() -> None:
    def step(engine: Engine, batch: int) -> None:
        if batch == 2:
            send()
            raise ValueError("the step")

    engine = Engine(step)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)

    with pytest.raises(ValueError, match="the step"):
        engine.run([1, 2, 3])
    assert (ends.saved, ends.cleaned) == ([], ["EXCEPTION_RAISED"])


def test_a_save_that_fails_is_the_error_that_is_raised() -> None:
    def save(engine: Engine) -> None:
        raise OSError("no space left")

    engine = Engine(nothing)
    StopOnSignal(save).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())

    with pytest.raises(OSError, match="no space left"):
        engine.run([1, 2, 3])


def test_a_run_that_has_met_a_nan_is_not_saved(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(lambda engine, batch: batch)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)
    TerminateOnNan().attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())

    with caplog.at_level(logging.WARNING):
        assert ends.leave([0.5, float("nan"), 0.5]) == 143
    assert not ends.saved
    assert "nothing is saved: output is NaN or infinite, first in iteration 2" in caplog.text


def test_what_it_does_is_logged_with_what_happens_if_the_process_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(nothing)
    StopOnSignal(lambda engine: None).attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())
    with caplog.at_level(logging.WARNING):
        Ends(engine).leave([1, 2, 3])

    assert [record.getMessage() for record in caplog.records] == [
        "StopOnSignal: SIGTERM: the run ends after iteration 2; saving. If the process is killed before the save is "
        "complete, the previous checkpoint is kept; a second signal takes effect immediately",
        "StopOnSignal: SIGTERM: saved",
    ]


def test_a_checkpoint_of_the_step_is_written_once_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    def trained(send_at: int | None) -> tuple[Engine, nn.Linear]:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)

        def step(engine: Engine, batch: torch.Tensor) -> float:
            with torch.no_grad():
                model.weight += batch.sum() * torch.rand(1)
            return model.weight.sum().item()

        trainer = Engine(step)
        checkpoint = Checkpoint({"model": model, "trainer": trainer}, tmp_path, n_saved=2, require_empty=False)
        checkpoint.attach(trainer, Events.EPOCH_COMPLETED | Events.COMPLETED, every=5)
        StopOnSignal(checkpoint).attach(trainer)
        if send_at is not None:
            trainer.add_event_handler(Events.ITERATION_STARTED(once=send_at), lambda: send())
        return trainer, model

    data: Any = DataLoader(torch.arange(24.0).reshape(12, 2), batch_size=2, shuffle=True)  # type: ignore[arg-type]
    whole, expected = trained(None)
    whole.run(data, max_epochs=3, seed=1)
    for path in tmp_path.iterdir():
        path.unlink()

    for send_at in (4, 5, 12, 16):  # inside an epoch, where one is due, at the end of an epoch
        trainer, model = trained(send_at)
        if send_at > 4:
            resume(trainer, {"model": model}, tmp_path)
        assert Ends(trainer).leave(data, max_epochs=3, seed=1) == 143
        assert f"checkpoint_{send_at}.pt" in os.listdir(tmp_path)
    trainer, model = trained(None)
    resume(trainer, {"model": model}, tmp_path)
    trainer.run(data, max_epochs=3, seed=1)

    assert trainer.state.iteration == 18
    assert torch.equal(model.weight, expected.weight)


# ---------------------------------------------------------------------------------------------------- evaluators


def validated(takes_part: bool) -> tuple[Engine, Engine, Ends, list[str]]:
    """A trainer that runs an evaluator at the end of each epoch."""
    trainer, evaluator = Engine(nothing), Engine(nothing)
    ends, seen = Ends(trainer), list[str]()
    evaluator.add_event_handler(Events.COMPLETED, lambda: seen.append("metrics"))
    evaluator.add_event_handler(Events.TERMINATE, lambda: seen.append(f"cut at {evaluator.state.iteration}"))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(range(50)))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append("epoch"))
    StopOnSignal(ends.save).attach(trainer, *([evaluator] if takes_part else []))
    return trainer, evaluator, ends, seen


@pytest.mark.parametrize("epochs", [1, 3], ids=["in the last epoch", "in the first"])
def test_a_signal_in_a_validation_ends_it_then_the_trainer_saves_and_leaves(epochs: int) -> None:
    _, evaluator, ends, seen = validated(takes_part=True)
    evaluator.add_event_handler(Events.ITERATION_STARTED(once=3), lambda: send())

    assert ends.leave(range(4), max_epochs=epochs) == 143
    assert (seen, ends.saved, ends.cleaned) == (["cut at 3", "epoch"], [4], ["EXCEPTION_RAISED"])


def test_an_evaluator_that_was_not_named_is_finished_first() -> None:
    _, evaluator, ends, seen = validated(takes_part=False)
    evaluator.add_event_handler(Events.ITERATION_STARTED(once=3), lambda: send())

    assert ends.leave(range(4), max_epochs=3) == 143
    assert (seen, ends.saved) == (["metrics", "epoch"], [4])


def test_a_validation_that_begins_after_the_signal_ends_with_its_first_step() -> None:
    trainer, _, ends, seen = validated(takes_part=True)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(priority=1), lambda: send())

    assert ends.leave(range(4), max_epochs=3) == 143
    assert (seen, ends.saved) == (["cut at 1", "epoch"], [4])


def test_an_evaluator_by_itself_takes_no_part() -> None:
    trainer, evaluator, ends, _ = validated(takes_part=True)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())
    ends.leave(range(4))

    assert evaluator.run(range(5)).iteration == 5


# ------------------------------------------------------------------------------------------- where it cannot act


def test_it_cannot_be_attached_to_an_evaluator() -> None:
    trainer, evaluator = Engine(nothing), Engine(nothing)
    StopOnSignal().attach(evaluator)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))

    with pytest.raises(
        RuntimeError, match=r"attached to an engine that another one runs.*attach\(trainer, evaluator\)"
    ):
        trainer.run([1])


def test_outside_the_main_thread_it_says_so() -> None:
    engine, errors = Engine(nothing), list[str]()
    StopOnSignal().attach(engine)

    def run() -> None:
        try:
            engine.run([1])
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run, name="background")
    thread.start()
    thread.join()

    assert len(errors) == 1
    assert "in the main thread only, but the run is in the thread 'background'; run it in the main" in errors[0]


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda t: STOP(save=3), TypeError, "save must be callable with the trainer, got 3"),
        (
            lambda t: StopOnSignal(signals=["SIGFOO"]),
            ValueError,
            "a signal must be a name or number such as .* got 'SIGFOO'",
        ),
        (lambda t: StopOnSignal(signals=[9999]), ValueError, "a signal must be a name or number such as .* got 9999"),
        (lambda t: StopOnSignal(signals=["SIGKILL"]), ValueError, "SIGKILL cannot be caught"),
        (lambda t: StopOnSignal(exit_code=256), ValueError, r"exit_code must be in \[0, 255\], .* got 256"),
        (lambda t: StopOnSignal(exit_code=True), ValueError, r"exit_code must be in \[0, 255\], .* got True"),
        (lambda t: STOP().attach(3), TypeError, "engine must be an Engine, got 3"),
        (lambda t: StopOnSignal().attach(t, t), ValueError, "the trainer must not be among the evaluators"),
        (lambda t: [STOP().attach(t) for _ in "ab"], RuntimeError, "a handler serves one trainer, and a"),
        (lambda t: StopOnSignal(requeue=True).attach(t), RuntimeError, "for SLURM jobs, but SLURM_JOB_ID is not"),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[Any], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        make(Engine(nothing))


def test_it_dies_with_its_trainer() -> None:
    gc.collect()
    gc.disable()
    try:
        trainer, evaluator = Engine(nothing), Engine(nothing)
        stop = StopOnSignal(lambda engine: None)
        stop.attach(trainer, evaluator)
        trainer.run([1])
        watched: list[weakref.ref[Any]] = [weakref.ref(one) for one in (trainer, evaluator, stop)]
        del trainer, evaluator, stop

        assert [one() for one in watched] == [None] * 3
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------ other processes


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake ``scontrol`` that notes how it was called."""
    program, noted = tmp_path / "scontrol", tmp_path / "called"
    program.write_text(f'#!/bin/sh\necho "$@" >> {noted}\n[ "$2" != 13 ] || {{ echo "Invalid job id" >&2; exit 1; }}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return noted


def leave_job(**variables: str) -> list[int]:
    engine = Engine(nothing)
    ends = Ends(engine)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        StopOnSignal(ends.save, requeue=True).attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send(signal.SIGUSR1))
        assert ends.leave([1, 2, 3]) == 143
    return ends.saved


def test_a_job_of_slurm_is_started_again_after_the_save(scontrol: Path) -> None:
    assert leave_job(SLURM_JOB_ID="12") == [2]
    assert leave_job(SLURM_JOB_ID="15", SLURM_ARRAY_JOB_ID="14", SLURM_ARRAY_TASK_ID="3") == [2]
    assert scontrol.read_text().splitlines() == ["requeue 12", "requeue 14_3"]


def test_a_job_that_cannot_be_started_again_leaves_as_well_and_says_so(
    scontrol: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert leave_job(SLURM_JOB_ID="13") == [2]
    assert "scontrol requeue 13 failed, the job is not requeued: Invalid job id" in caplog.text
    monkeypatch.setenv("PATH", "")
    assert leave_job(SLURM_JOB_ID="12") == [2]
    assert "scontrol requeue 12 failed, the job is not requeued: " in caplog.text


class Signalling(Dataset[int]):
    """One item sends a signal to the process that loads it."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        if index == 3:
            send(signal.SIGINT)
        return index


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that it forks
def test_a_ctrl_c_that_reaches_a_worker_of_the_loader_is_not_for_it() -> None:
    engine = Engine(nothing)
    ends = Ends(engine)
    StopOnSignal(ends.save).attach(engine)
    loader = DataLoader(Signalling(), batch_size=1, num_workers=1, multiprocessing_context="fork")

    assert engine.run(loader).iteration == 6
    assert not ends.saved


def wait_for_ever(ready: Any) -> None:
    ready.set()
    threading.Event().wait()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_is_forked_in_a_run_can_be_terminated() -> None:
    context = multiprocessing.get_context("fork")
    exits = []

    def step(engine: Engine, batch: int) -> None:
        ready = context.Event()
        process = context.Process(target=wait_for_ever, args=(ready,))
        process.start()
        ready.wait()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGUSR1)  # is passed over
        process.terminate()
        process.join(20)
        exits.append(process.exitcode)
        process.kill()

    engine = Engine(step)
    StopOnSignal().attach(engine)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        engine.run([1])
    finally:
        signal.signal(signal.SIGTERM, before)

    assert exits == [-signal.SIGTERM]


@pytest.mark.parametrize("order", ["recorder first", "recorder last"])
def test_a_recorder_of_the_same_signal_writes_at_once_and_does_not_end_the_process(order: str, tmp_path: Path) -> None:
    """Whichever was attached first; its previous handler, which would end the process, is not called after the run."""
    engine = Engine(nothing)
    ends = Ends(engine)
    attach = [
        lambda: FlightRecorder(tmp_path, signals=["SIGTERM"]).attach(engine),
        lambda: StopOnSignal(ends.save).attach(engine),
    ]
    for one in attach if order == "recorder first" else reversed(attach):
        one()
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: send())
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda *_: (tmp_path / "flight_rank0.txt").unlink())
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert ends.leave([1, 2, 3]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)

    assert ends.saved == [2]
    assert not (tmp_path / "flight_rank0.txt").exists(), "it was written once, before the run ended"

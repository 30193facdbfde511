"""A signal to any rank, or to the launcher, stops all ranks after the same step with one checkpoint (R12, R13)."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from torch import nn

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, StopOnSignal, vote_of
from ignite_core.testing import run_distributed
from tests.distributed.launching import own_environment, torchrun
from tests.faults.sizes import FULL
from tests.handlers.checkpoint.newest import load_newest

SCRIPT = Path(__file__).with_name("signalled.py")
EVERY = 3
PLACES = ["step", "data", "handler", "late", "save", "validation", "before the validation", "epoch's end", "completed"]

Outcome = tuple[Any, int, list[str], list[str], bool]


def stop(folder: Path, place: str, who: tuple[int, ...], number: int) -> Outcome:
    """Train until a signal comes to some ranks: exit code, iteration, files, clean-ups, and whether all is put back."""
    is_hit = idist.get_rank() in who
    got: list[int] = []
    before = signal.signal(number, lambda number, frame: got.append(number))
    others = signal.getsignal(number)

    sent: list[int] = []
    early: list[int] = []

    def send() -> None:
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    def hit() -> None:
        if is_hit:
            send()

    def data() -> Iterator[int]:
        while True:
            yield from range(4)
            if place == "data":
                hit()

    def step(engine: Engine, batch: int) -> float:
        if place == "step" and engine.state.iteration == 5:
            hit()
        return idist.all_reduce(1.0)

    def save(engine: Engine) -> None:
        if place == "save" and engine.state.iteration > 4:
            hit()

    trainer, evaluator = Engine(step), Engine(step)
    checkpoint = Checkpoint({"model": nn.Linear(1, 1), "trainer": trainer}, folder, n_saved=None)

    def save_last(engine: Engine) -> None:
        if place == "late":  # who has not got it has heard of it by the vote, and gets it now
            send()
        checkpoint(engine)
        early.extend(got)

    StopOnSignal(save_last).attach(trainer, evaluator)
    vote_of(trainer, every=EVERY)
    vote_of(evaluator, every=EVERY)
    cleaned: list[str] = []
    ends = Events.COMPLETED | Events.EXCEPTION_RAISED
    trainer.add_event_handler(ends, lambda *_: cleaned.append(trainer.last_event_name.name))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, save)
    if place in ("handler", "late"):
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), hit)
    if place == "before the validation":
        trainer.add_event_handler(Events.EPOCH_COMPLETED, hit)
    validated: list[int] = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: validated.append(evaluator.run(range(40)).iteration))
    if place == "validation":
        evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=5), hit)
    if place == "epoch's end":
        trainer.add_event_handler(Events.EPOCH_COMPLETED, hit)
    if place == "completed":
        trainer.add_event_handler(Events.COMPLETED, hit)
    code: Any = "none"
    try:
        trainer.run(data(), epoch_length=10, max_epochs=2)
    except SystemExit as error:
        code = error.code
    if "validation" in place:
        assert validated[0] < 40
    idist.barrier()
    is_restored = signal.getsignal(number) is others and got == sent and not early
    signal.signal(number, before)
    return code, trainer.state.iteration, sorted(path.name for path in folder.glob("*.pt")), cleaned, is_restored


def stops(folder: str, cases: list[tuple[str, tuple[int, ...], int]]) -> list[Outcome]:
    return [stop(Path(folder) / str(place), *case) for place, case in enumerate(cases)]


def cases(ranks: int) -> list[tuple[str, tuple[int, ...], int]]:
    everyone = [*((rank,) for rank in range(ranks)), tuple(range(ranks))]
    numbers = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]
    if FULL:
        return [(place, who, number) for place in PLACES for who in everyone for number in numbers]
    return [(place, everyone[i % len(everyone)], numbers[i % len(numbers)]) for i, place in enumerate(PLACES)]


@pytest.mark.parametrize("ranks", [2, 4] if FULL else [2])
def test_whoever_gets_a_signal_wherever_it_is_all_ranks_stop_after_one_step_with_one_checkpoint(
    ranks: int, tmp_path: Path
) -> None:
    """R12: each rank and all of them; in the step, the data, a handler, a save, a validation, at the end."""
    tried = cases(ranks)
    results = run_distributed(stops, str(tmp_path), tried, ranks=ranks)

    for case, *outcomes in zip(tried, *results, strict=True):
        code, iteration, files, cleaned, _ = outcomes[0]
        assert all(outcome[:4] == outcomes[0][:4] for outcome in outcomes), case
        assert all(outcome[4] for outcome in outcomes), f"{case}: what was there before is called and put back"
        assert code == 143, case
        assert files == [f"checkpoint_{iteration}.pt"], case
        assert cleaned == ["COMPLETED" if case[0] == "completed" else "EXCEPTION_RAISED"], case
        assert iteration <= {"data": 4, "completed": 20}.get(case[0], 5) + 2 * EVERY, case
        payload, manifest = load_newest(tmp_path / str(tried.index(case)))
        assert (payload["trainer"]["iteration"], manifest.step) == (iteration, iteration)


# ---------------------------------------------------------------------------------------------------- torchrun


class Launched:
    """A launched script, of which lines and errors can be read; none of its processes outlives it."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.process = process
        self._errors = errors

    def lines(self, first: str, number: int) -> list[list[str]]:
        """Wait for so many lines that begin with a word; the words after it."""
        assert self.process.stdout is not None
        found = []
        for line in self.process.stdout:
            if line.split()[:1] == [first]:
                found.append(line.split()[1:])
                if len(found) == number:
                    return found
        raise AssertionError(f"it ended after {found} of {number} lines {first!r}: {self.errors()}")

    def rest(self, limit_s: float = 60.0) -> list[list[str]]:
        """Wait for its end; the words of what lines are left."""
        output, _ = self.process.communicate(timeout=limit_s)
        return [line.split() for line in output.splitlines()]

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()


@contextmanager
def launched(command: list[str], folder: Path, what: str) -> Iterator[Launched]:
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*command, str(SCRIPT), str(folder), what],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=own_environment() | {"OMP_NUM_THREADS": "1"},
            text=True,
            start_new_session=True,
        )
        limit = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))  # then who reads its lines reads no more
        limit.start()
        try:
            yield Launched(process, errors)
        finally:
            limit.cancel()
            process.terminate()  # torchrun ends its ranks
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def saved_steps(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("_")[1]) for path in folder.glob("*.pt"))


@pytest.mark.skipif(not FULL, reason="takes seconds to launch: part of `make faults`")
@pytest.mark.parametrize("ranks", [2, 4])
def test_torchrun_that_is_terminated_lets_all_ranks_save_one_checkpoint(ranks: int, tmp_path: Path) -> None:
    """R12: SIGTERM to the launcher, which hands it to all ranks."""
    with launched(torchrun("--standalone", "--nproc-per-node", str(ranks)), tmp_path, "trains") as run:
        run.lines("ready", ranks)
        began = time.monotonic()
        run.process.send_signal(signal.SIGTERM)
        cleaned = run.lines("cleaned", ranks)
        rest = run.rest()

        assert time.monotonic() - began < 30
        assert len({iteration for _, iteration, _ in cleaned}) == 1
        assert sorted(rank for rank, _, _ in cleaned) == [str(rank) for rank in range(ranks)]
        assert not [words for words in rest if words[:1] == ["cleaned"]], "each cleans up once"
        assert saved_steps(tmp_path) == [int(cleaned[0][1])]
        payload, _ = load_newest(tmp_path)
        assert payload["trainer"]["iteration"] == int(cleaned[0][1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1] if FULL else [signal.SIGUSR1])
@pytest.mark.parametrize("hit", [0, 1] if FULL else [1])
def test_under_torchrun_a_signal_to_one_rank_ends_the_job_with_success(number: int, hit: int, tmp_path: Path) -> None:
    """R12: exit code 0, which torchrun takes for the end of the work; with any other one it would end the others."""
    with launched(torchrun("--standalone", "--nproc-per-node", "2"), tmp_path, "trains") as run:
        pids = {int(rank): int(pid) for rank, pid in run.lines("ready", 2)}
        os.kill(pids[hit], number)
        cleaned = run.lines("cleaned", 2)
        run.rest()

        assert run.process.returncode == 0, run.errors()
        assert len({iteration for _, iteration, _ in cleaned}) == 1
        assert saved_steps(tmp_path) == [int(cleaned[0][1])]


def test_a_sigterm_of_torchrun_for_the_death_of_a_peer_starts_no_save(tmp_path: Path) -> None:
    """R12: the vote cannot complete with a dead rank; the other one leaves without a save, and soon."""
    with launched(torchrun("--standalone", "--nproc-per-node", "2"), tmp_path, "dies") as run:
        died = float(run.lines("dies", 1)[0][0])
        run.rest()

        assert time.monotonic() - died < 30
        assert run.process.returncode != 0
        assert saved_steps(tmp_path) == []


def test_a_process_that_is_killed_in_its_last_save_leaves_the_checkpoint_before_it_and_has_said_so(
    tmp_path: Path,
) -> None:
    """R13: the grace after SIGTERM was too short for a slow disk."""
    with launched([sys.executable], tmp_path, "slow") as run:
        run.lines("ready", 1)
        run.process.send_signal(signal.SIGTERM)
        run.lines("saving", 1)
        run.process.kill()
        run.rest()

        assert (
            "saving. If the process is killed before the save is complete, the previous checkpoint is kept"
            in run.errors()
        )
        payload, manifest = load_newest(tmp_path)
        assert (payload["trainer"]["iteration"], manifest.step) == (10, 10)
        assert isinstance(payload["model"]["weight"], torch.Tensor)


def test_a_second_signal_ends_a_process_in_its_last_save_at_once(tmp_path: Path) -> None:
    """R12, R14: twice in a row; within two seconds."""
    with launched([sys.executable], tmp_path, "slow") as run:
        run.lines("ready", 1)
        run.process.send_signal(signal.SIGINT)
        run.lines("saving", 1)
        began = time.monotonic()
        run.process.send_signal(signal.SIGINT)
        run.lines("cleaned", 1)
        run.rest()

        assert time.monotonic() - began < 10  # two seconds where nothing else runs
        assert run.process.returncode != 0
        assert load_newest(tmp_path)[1].step == 10

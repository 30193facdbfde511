"""Signals at random moments: what cleans up runs exactly once, and nothing is left behind (R14)."""

import gc
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, StopOnSignal, vote_of
from ignite_core.handlers.stopping.loader_workers import shielded
from ignite_core.testing import run_distributed
from tests.faults.sizes import sized
from tests.handlers.checkpoint.newest import load_newest

#: How a run ended, its clean-ups, the iteration and the steps of its checkpoints.
Outcome = tuple[str, list[str], int, list[int]]


class Numbers(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index)])


def left_open() -> dict[str, Any]:
    """What a process may leak."""
    gc.collect()
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text().split(),
        "files": len(os.listdir("/proc/self/fd")),
        "shared memory": [name for name in os.listdir("/dev/shm") if f"_{os.getpid()}_" in name],
    }


def train(
    folder: Path, delay_s: float | None, workers: int, send: Callable[[int, int], None] = os.kill, number: int = 2
) -> Outcome:
    """A training without end, and a signal after a while (None: to another rank)."""
    model = nn.Linear(1, 1)
    trainer = Engine(lambda engine, batch: idist.all_reduce(float(model(batch).detach().sum())))
    checkpoint = Checkpoint({"model": model, "trainer": trainer}, folder, n_saved=2)
    checkpoint.attach(trainer, every=25)
    StopOnSignal(checkpoint).attach(trainer)
    vote_of(trainer, every=4)
    cleaned: list[str] = []
    ends = Events.COMPLETED | Events.EXCEPTION_RAISED
    trainer.add_event_handler(ends, lambda *_: cleaned.append(trainer.last_event_name.name))
    loader = DataLoader(
        Numbers(), batch_size=8, shuffle=True, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    ended = "it did not end"
    timer = threading.Timer(delay_s or 0.0, send, (os.getpid(), number if delay_s is not None else 0))
    is_alone = idist.get_world_size() == 1
    if not is_alone:  # a rank that left before it has begun would leave the others alone
        trainer.add_event_handler(Events.STARTED, timer.start)
    try:
        if is_alone:
            timer.start()
        trainer.run(loader, max_epochs=10**6, seed=1)
    except SystemExit as error:
        ended = f"exit {error.code}"
    except KeyboardInterrupt:
        ended = "Ctrl-C"
    try:
        timer.join()
    except KeyboardInterrupt:  # the other rank had got its own before
        timer.join()
    return ended, cleaned, trainer.state.iteration, sorted(int(one.stem.split("_")[1]) for one in folder.glob("*.pt"))


def train_again_and_again(
    folder: str, seeds: range, workers: int, number: int
) -> tuple[list[Outcome], list[dict[str, Any]]]:
    """Runs one after the other in one process; what was open after the first and after the last."""
    os.setpgid(0, 0)
    signal.signal(number, signal.default_int_handler)
    send = os.kill if number == signal.SIGINT else os.killpg
    torch.set_num_threads(1)
    with shielded((), lambda: False):
        pass  # what it keeps open is there before the first run, which may end before it begins
    outcomes, opens = [], []
    for seed in seeds:
        outcomes.append(train(Path(folder) / str(seed), random.Random(seed).uniform(0, 0.25), workers, send, number))
        if seed in (seeds[0], seeds[-1]):
            opens.append(left_open())
    return outcomes, opens


def check(outcome: Outcome, folder: Path) -> None:
    ended, cleaned, iteration, steps = outcome
    if ended == "Ctrl-C":  # it came before the run had begun
        assert (iteration, len(cleaned) <= 1, steps) == (0, True, [])
        return
    assert (ended, cleaned) == ("exit 143", ["EXCEPTION_RAISED"])
    assert steps == sorted({iteration, *([(iteration - 1) // 25 * 25] if iteration > 25 else [])})
    assert load_newest(folder)[1].step == iteration


@pytest.mark.parametrize(("workers", "number"), [(0, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_signal_at_any_moment_saves_cleans_up_once_and_leaves_nothing_open(
    workers: int, number: int, tmp_path: Path
) -> None:
    """R14: one process, with and without workers of the loader; SIGTERM goes to the whole process group (R36)."""
    seeds = range(sized(5, 250))
    [(outcomes, (first, last))] = run_distributed(
        train_again_and_again, str(tmp_path), seeds, workers, int(number), ranks=1, timeout_s=sized(120, 900)
    )

    for seed, outcome in zip(seeds, outcomes, strict=True):
        check(outcome, tmp_path / str(seed))
    assert sum(outcome[0] == "exit 143" for outcome in outcomes) > len(seeds) // 2
    assert first == last


def train_on_ranks(folder: str, seeds: range) -> list[Outcome]:
    """One rank, or each of them, gets the Ctrl-C, at its own moment."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outcomes = []
    for seed in seeds:
        drawn = random.Random(f"{seed} {idist.get_rank()}")
        is_hit = seed % 3 in (idist.get_rank(), 2)
        outcomes.append(train(Path(folder) / str(seed), drawn.uniform(0.0, 0.2) if is_hit else None, 0))
    return outcomes


def test_ranks_that_get_a_ctrl_c_at_any_moment_leave_together(tmp_path: Path) -> None:
    """R14: two ranks; either of them, or both."""
    seeds = range(sized(6, 60))
    results = run_distributed(train_on_ranks, str(tmp_path), seeds)

    for seed, *outcomes in zip(seeds, *results, strict=True):
        assert outcomes[0] == outcomes[1], seed
        check(outcomes[0], tmp_path / str(seed))

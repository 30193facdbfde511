"""R1, R4, R5, R8 of the handler: whichever operation of a save is the last one, the run is resumed and ends the same.

A disk that does nothing more from some operation on is what a process leaves that ended there, clean-up included; in
test_disk_faults.py processes really end.
"""

import copy
import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import CheckpointError
from ignite_core.handlers import Checkpoint, DiskSaver, resume
from ignite_core.handlers.checkpoint.storage.scan import scan
from ignite_core.testing import run_distributed
from tests.faults import io_shim
from tests.faults.sizes import FULL
from tests.handlers.checkpoint.comparing import same

#: What is saved, and when the disk dies: in the save after this step.
SCENARIOS: dict[str, tuple[dict[str, Any], int]] = {
    "first save": ({"n_saved": 1}, 0),
    "retention": ({"n_saved": 1}, 2),
    "best and last": ({"score_function": lambda engine: -engine.state.iteration, "n_saved": 1, "keep_last": 1}, 2),
    "one name for all": ({"filename_pattern": "latest.pt"}, 2),
}
STEPS = 4


class Dead(BaseException):
    """The process has ended."""


@contextmanager
def dead_from(number: int) -> Iterator[None]:
    """Nothing is done any more from this operation on."""

    def refuse(at: int, op: io_shim.Op) -> None:
        if at >= number:
            raise Dead(str(op))

    with io_shim.calling(refuse):
        yield


class Run:
    def __init__(self, folder: Path, **options: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.trainer = Engine(self.step)
        self.objects = {"model": self.model, "trainer": self.trainer}
        self.checkpoint = Checkpoint(self.objects, DiskSaver(folder, require_empty=False), **options)
        self.checkpoint.attach(self.trainer, Events.EPOCH_COMPLETED)

    def step(self, engine: Engine, batch: torch.Tensor) -> None:
        """By hand: in a new process the first step of an optimizer takes a second."""
        self.model.zero_grad()
        self.model(batch).square().mean().backward()
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter -= 0.1 * parameter.grad

    def train(self, epochs: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.trainer.run([torch.randn(4, 3, generator=generator)], max_epochs=epochs)

    def states(self) -> dict[str, Any]:
        states = {name: copy.deepcopy(obj.state_dict()) for name, obj in self.objects.items()}
        states["trainer"] = self.trainer.state.iteration
        return states


def undisturbed(folder: Path, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    whole = Run(folder, **options)
    whole.train(STEPS)
    return whole.states(), sorted(os.listdir(folder))


def operations(folder: Path, options: dict[str, Any], before: int) -> int:
    """How many a save takes."""
    run = Run(folder, **options)
    if before:
        run.train(before)
    with io_shim.recording() as ops:
        run.train(before + 1)
    return len(ops)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cut_at_any_operation_the_run_is_resumed_and_ends_the_same(scenario: str, tmp_path: Path) -> None:
    """R1: every k."""
    options, before = SCENARIOS[scenario]
    expected, files = undisturbed(tmp_path / "whole", options)
    count = operations(tmp_path / "count", options, before)
    assert count >= 10

    for number in range(1, count + 1):
        folder = tmp_path / str(number)
        run = Run(folder, **options)
        if before:
            run.train(before)
        with dead_from(number), pytest.raises(Dead):
            run.train(before + 1)
        again = Run(folder, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what a process that ended leaves is no damage
            resumed = resume(again.trainer, again.objects, folder)

        assert resumed.iteration in (before, before + 1), f"operation {number}"
        again.train(STEPS)
        assert same(again.states(), expected), f"operation {number}"
        assert sorted(os.listdir(folder)) == files, f"operation {number}"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_if_any_operation_fails_what_was_saved_stands_and_the_next_save_succeeds(
    scenario: str, error: int, tmp_path: Path
) -> None:
    """R4, R5: every k."""
    options, before = SCENARIOS[scenario]
    count = operations(tmp_path / "count", options, before)

    for number in range(1, count + 1):
        folder = tmp_path / str(number)
        run = Run(folder, **options)
        if before:
            run.train(before)
        told = None
        with io_shim.failing(number, error=error):
            try:
                run.train(before + 1)
            except CheckpointError as failure:
                told = str(failure)
        newest = [manifest.step for manifest in scan(folder).manifests][:1]
        assert newest in (([before] if before else []), [before + 1]), f"operation {number}"
        assert newest == [before + 1] if told is None else os.strerror(error) in told, f"operation {number}"
        run.train(STEPS)

        resumed = Run(folder, **options)
        assert resume(resumed.trainer, resumed.objects, folder).iteration == STEPS, f"operation {number}"
        assert same(resumed.states(), run.states()), f"operation {number}"
        assert not [name for name in os.listdir(folder) if name.startswith(".")], f"operation {number}"


def save_until_killed(folder: str, number: int) -> int:
    run = Run(Path(folder), n_saved=1)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: idist.barrier())
    run.train(2)
    if idist.get_rank() == 0 and number:
        with io_shim.killing(number):
            run.train(3)
    else:
        run.train(3)
    return 0


def count_on_ranks(folder: str) -> int:
    run = Run(Path(folder), n_saved=1)
    run.train(2)
    with io_shim.recording() as ops:
        run.train(3)
    return len(ops)


def resume_on_ranks(folder: str) -> tuple[int, dict[str, Any]]:
    run = Run(Path(folder), n_saved=1)
    resumed = resume(run.trainer, run.objects, folder)
    run.train(STEPS)
    return resumed.iteration, run.states()


def test_two_ranks_of_which_the_one_that_saves_is_killed_go_on_from_the_same_step(tmp_path: Path) -> None:
    """R1 on 2 ranks: on each change one k, else every one."""
    expected, files = undisturbed(tmp_path / "whole", {"n_saved": 1})
    counts = run_distributed(count_on_ranks, str(tmp_path / "count"), ranks=2)
    assert counts[1] == 0
    every = range(1, counts[0] + 1)

    for number in every if FULL else (counts[0] // 2,):
        folder = tmp_path / str(number)
        with pytest.raises(Exception, match=r"rank 0|137|lost|Connection"):
            run_distributed(save_until_killed, str(folder), number, ranks=2, timeout_s=30)
        results = run_distributed(resume_on_ranks, str(folder), ranks=2)

        assert {iteration for iteration, _ in results} <= {2, 3}
        assert all(same(states, expected) for _, states in results)
        assert sorted(os.listdir(folder)) == files

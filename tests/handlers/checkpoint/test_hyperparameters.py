"""A resume brings back the saved hyperparameters; it says so where the script sets others, or keeps those."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from ignite_core.engine import Engine, Events
from ignite_core.handlers import Checkpoint, LinearCyclicalScheduler, resume
from ignite_core.handlers.checkpoint.hyperparameters import built_of
from ignite_core.testing import run_distributed

Schedule = Callable[[torch.optim.Optimizer], Any]


class Start:
    """One start of a script that trains for so many epochs, saves, and resumes."""

    def __init__(self, folder: Path, max_epochs: int, *, schedule: Schedule | None = None, **options: Any) -> None:
        keep, calls_resume = options.pop("keep", ()), options.pop("calls_resume", True)
        groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "weight_decay": 0.5}]
        self.optimizer = torch.optim.SGD(groups, **{"lr": 0.1, **options})
        self.trainer = Engine(lambda engine, batch: self.optimizer.step())
        self.objects: dict[str, Any] = {"trainer": self.trainer, "optimizers": [self.optimizer]}
        early = Checkpoint(self.objects, folder, require_empty=False)
        if schedule is not None:
            self.objects["scheduler"] = schedule(self.optimizer)
            if isinstance(self.objects["scheduler"], lr_scheduler.LRScheduler):
                self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.objects["scheduler"].step())
            early = Checkpoint(self.objects, early.save_handler)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, early)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if calls_resume:
                resume(self.trainer, self.objects, folder, keep=keep)
        self.told = [str(one.message) for one in caught]
        self.trainer.run([0], max_epochs=max_epochs)

    def rates(self, key: str = "lr") -> list[Any]:
        return [group[key] for group in self.optimizer.param_groups]


@pytest.mark.parametrize("calls_resume", [True, False])
def test_what_the_script_sets_in_vain_is_told_once_with_both_values(calls_resume: bool, tmp_path: Path) -> None:
    Start(tmp_path, 1, calls_resume=calls_resume)
    second = Start(tmp_path, 2, lr=0.001, momentum=0.9)
    third = Start(tmp_path, 3, lr=0.001, momentum=0.9)  # still the old values, so it is still told
    fourth = Start(tmp_path, 4)

    for start in (second, third):
        assert start.told == [
            "resume: saved hyperparameters are used where this script sets others: optimizers[0] lr=0.1 (this script: "
            "0.001), optimizers[0] momentum=0 (this script: 0.9); pass keep=('lr',) or the like to use those of the "
            "script"
        ]
        assert start.rates() == [0.1, 0.1]
    assert fourth.told == []


def test_what_is_kept_is_used_and_no_longer_told(tmp_path: Path) -> None:
    Start(tmp_path, 1)
    second = Start(tmp_path, 2, lr=0.001, weight_decay=0.25, keep=("lr", "weight_decay"))
    third = Start(tmp_path, 3, lr=0.001, weight_decay=0.25)

    assert second.told == third.told == []
    for start in (second, third):
        assert (start.rates(), start.rates("weight_decay")) == ([0.001, 0.001], [0.25, 0.5])
    assert "lr=0.001 (this script: 0.1)" in Start(tmp_path, 4).told[0]


SCHEDULES: dict[str, Schedule] = {
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, 1, 0.5),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 8),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10),
    "warm-up": lambda optimizer: lr_scheduler.LinearLR(optimizer, total_iters=5),
    "sequence": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [lr_scheduler.LinearLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.5)], [1]
    ),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer),
    "ours": lambda optimizer: LinearCyclicalScheduler(optimizer, "lr", 0.1, 0.01, 10),
}


@pytest.mark.parametrize("calls_resume", [True, False])
@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "plateau"])
def test_a_rate_that_a_schedule_has_moved_is_not_told(name: str, calls_resume: bool, tmp_path: Path) -> None:
    Start(tmp_path, 2, schedule=SCHEDULES[name], calls_resume=calls_resume, momentum=0.9)
    assert Start(tmp_path, 4, schedule=SCHEDULES[name], momentum=0.9).told == []


def test_a_rate_that_a_handler_has_moved_is_not_told(tmp_path: Path) -> None:
    first = Start(tmp_path, 1)
    first.optimizer.param_groups[0]["lr"] = 0.025
    first.trainer.run([0], max_epochs=2)
    assert (second := Start(tmp_path, 3)).told == []
    assert second.rates() == [0.025, 0.1]
    assert Start(tmp_path, 4, lr=1.0, keep=["lr"]).rates() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["step", "lambda", "cosine", "sequence"])
def test_a_rate_that_is_kept_goes_on_with_its_schedule(name: str, tmp_path: Path) -> None:
    Start(tmp_path / "whole", 6, lr=0.4, schedule=SCHEDULES[name])
    whole = Start(tmp_path / "whole", 6, lr=0.4, schedule=SCHEDULES[name])
    Start(tmp_path / "cut", 3, lr=0.1, schedule=SCHEDULES[name])
    cut = Start(tmp_path / "cut", 6, lr=0.4, schedule=SCHEDULES[name], keep=("lr",))

    assert cut.rates() == pytest.approx(whole.rates())


def test_settings_of_a_scheduler_are_told_and_kept(tmp_path: Path) -> None:
    def build(gamma: float) -> Schedule:
        return lambda optimizer: lr_scheduler.ExponentialLR(optimizer, gamma)

    Start(tmp_path, 1, schedule=build(0.5))
    second = Start(tmp_path, 2, schedule=build(0.1))
    third = Start(tmp_path, 3, schedule=build(0.1), keep=("gamma",))

    assert "sets others: scheduler gamma=0.5 (this script: 0.1);" in second.told[0]
    assert second.rates()[0] == pytest.approx(0.025)
    assert third.rates()[0] == pytest.approx(0.0025)


def test_a_file_without_a_manifest_tells_the_rate_that_a_scheduler_began_with(tmp_path: Path) -> None:
    Start(tmp_path, 2, schedule=SCHEDULES["step"])
    (tmp_path / "checkpoint_2.pt.json").unlink()
    again = Start(tmp_path / "new", 1, lr=0.4, schedule=SCHEDULES["step"])
    objects = {"trainer": again.trainer, "scheduler": again.objects["scheduler"], "optimizers": [again.optimizer]}
    with pytest.warns(UserWarning, match=r"optimizers\[0\] lr=0.1 \(this script: 0.4\)"):
        resume(again.trainer, objects, tmp_path / "checkpoint_2.pt")


def test_values_are_plain_and_of_each_group() -> None:
    parameters = [{"params": [torch.zeros(1)], "lr": torch.tensor(0.5)}, {"params": [torch.zeros(1)]}]
    built = built_of({"nested": {"adam": torch.optim.Adam(parameters, lr=torch.tensor(0.25))}, "none": [Engine]})

    assert list(built) == ["nested['adam']"]
    assert built["nested['adam']"]["lr"] == [0.5, 0.25]
    assert built["nested['adam']"]["betas"] == [[0.9, 0.999]]


@pytest.mark.parametrize(("keep", "kind"), [("lr", TypeError), (("rate",), ValueError)])
def test_what_cannot_be_kept_is_refused(keep: Any, kind: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(kind, match="resume: keep must"):
        Start(tmp_path, 1, keep=keep)


def told_on_ranks(folder: str) -> list[str]:
    Start(Path(folder), 1)
    return Start(Path(folder), 2, lr=0.5).told


def test_one_rank_tells_of_them(tmp_path: Path) -> None:
    first, second = run_distributed(told_on_ranks, str(tmp_path), ranks=2)
    assert (len(first), second) == (1, [])

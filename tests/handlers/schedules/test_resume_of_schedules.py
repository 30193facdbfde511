"""A run with schedulers that is cut, saved, and resumed in a fresh build is the run that was not cut."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    Checkpoint,
    ConcatScheduler,
    CosineAnnealingScheduler,
    ExpStateScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    OneCycle,
    ParamGroupScheduler,
    PiecewiseLinear,
    ReduceLROnPlateauScheduler,
    create_lr_scheduler_with_warmup,
    resume,
)
from ignite_core.testing import assert_resumable


class Build:
    """A training with every kind of scheduler, and what it has written at each iteration."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        groups = [{"params": part.parameters()} for part in self.model]
        self.optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.1)
        other = torch.optim.SGD([torch.zeros(1)], lr=0.8)
        self.others = [other, torch.optim.SGD([torch.zeros(1)], lr=0.8), torch.optim.SGD([torch.zeros(1)], lr=0.8)]
        self.seen: list[Any] = []
        self.trainer = Engine(self.step)
        schedulers = self.schedulers()
        state = ExpStateScheduler(1.0, 0.5, "alpha", create_new=True)
        of_epoch = ExpStateScheduler(1.0, 0.5, "beta", create_new=True)
        schedulers["warm-up"].attach(self.trainer)
        schedulers["group"].attach(self.trainer, Events.ITERATION_STARTED(every=2))
        schedulers["decay"].attach(self.trainer, Events.EPOCH_STARTED)
        schedulers["torch"].attach(self.trainer, Events.EPOCH_STARTED)
        schedulers["plateau"].attach(self.trainer, Events.ITERATION_COMPLETED)
        schedulers["one cycle"].attach(self.trainer)
        state.attach(self.trainer, Events.EPOCH_COMPLETED)
        of_epoch.attach(self.trainer, Events.EPOCH_STARTED)
        self.to_save = {
            "trainer": self.trainer,
            "model": self.model,
            "optimizer": self.optimizer,
            **{f"other {number}": one for number, one in enumerate(self.others)},
            **schedulers,
            "state": state,
            "state of epoch": of_epoch,
        }

    def schedulers(self) -> dict[str, Any]:
        optimizer, (first, second, third) = self.optimizer, self.others
        concat = ConcatScheduler(
            [
                CosineAnnealingScheduler(optimizer, "weight_decay", 0.1, 0.0, 3, 1.5),
                LinearCyclicalScheduler(optimizer, "weight_decay", 0.1, 0.0, 4),
            ],
            [2],
        )
        return {
            "warm-up": create_lr_scheduler_with_warmup(lr_scheduler.ExponentialLR(optimizer, 0.9), 0.0, 4, 0.05),
            "group": ParamGroupScheduler(
                [
                    PiecewiseLinear(optimizer, "eps", [(0, 1e-8), (5, 1e-6)], param_group_index=0),
                    PiecewiseLinear(optimizer, "eps", [(0, 1e-8), (5, 1e-7)], param_group_index=1),
                ]
            ),
            "decay": concat,
            "torch": LRScheduler(lr_scheduler.CosineAnnealingWarmRestarts(first, 2)),
            "plateau": ReduceLROnPlateauScheduler(second, "loss", patience=0, factor=0.9, min_lr=0.1),
            "one cycle": OneCycle(third, 1.0, 9, momentum=None),
        }

    def step(self, engine: Engine, batch: torch.Tensor) -> None:
        loss = (self.model(batch) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        engine.state.metrics["loss"] = loss.item()
        keys = ("lr", "weight_decay", "eps")
        mine = [[group[key] for key in keys] for group in self.optimizer.param_groups]
        theirs = [one.param_groups[0]["lr"] for one in self.others]
        self.seen.append((mine, theirs, engine.state.alpha, engine.state.beta))


DATA = [torch.tensor([[float(index), 1.0]]) for index in range(3)]


@pytest.mark.parametrize("cut", range(1, 12))
def test_saved_after_any_iteration_and_resumed_it_writes_what_the_whole_run_writes(cut: int, tmp_path: Path) -> None:
    whole = Build()
    whole.trainer.run(DATA, max_epochs=4, seed=0)

    first = Build()
    Checkpoint(first.to_save, tmp_path).attach(first.trainer, Events.ITERATION_COMPLETED(once=cut))
    first.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=cut), first.trainer.terminate)
    first.trainer.run(DATA, max_epochs=4, seed=0)
    second = Build()
    resumed = resume(second.trainer, second.to_save, tmp_path)
    second.trainer.run(DATA)

    assert resumed.iteration == cut
    assert first.seen + second.seen == whole.seen
    for parameter, same in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(parameter, same)


def test_it_is_resumable_by_our_own_measure() -> None:
    def build() -> tuple[Engine, dict[str, Any]]:
        made = Build()
        return made.trainer, made.to_save

    assert_resumable(build, DATA, max_epochs=2)


def test_without_the_state_of_a_scheduler_the_comparison_fails() -> None:
    def build() -> tuple[Engine, dict[str, Any]]:
        made = Build()
        return made.trainer, {name: one for name, one in made.to_save.items() if name != "warm-up"}

    with pytest.raises(AssertionError, match="cut after iteration 2 and resumed, after iteration 3"):
        assert_resumable(build, DATA, cut_at=[2], max_epochs=2)

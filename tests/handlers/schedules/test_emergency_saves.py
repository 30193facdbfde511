"""A save inside an iteration that is not done: it is run again, with the values that it had."""

import contextlib
import copy
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader

from ignite_core.engine import Engine, Events
from ignite_core.handlers import (
    BatchSizeScheduler,
    Checkpoint,
    ConcatScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    ParamGroupScheduler,
    StateParamScheduler,
)
from ignite_core.handlers.schedules.curves import linear

KINDS = {
    "ParamScheduler": lambda script: LinearCyclicalScheduler(script.optimizer, "lr", 1.0, 0.0, 40),
    "LRScheduler": lambda script: LRScheduler(ExponentialLR(script.optimizer, 0.9)),
    "ParamGroupScheduler": lambda script: ParamGroupScheduler([KINDS["ParamScheduler"](script)]),
    "ConcatScheduler": lambda script: ConcatScheduler([KINDS["ParamScheduler"](script) for _ in range(2)], [4]),
    "StateParamScheduler": lambda script: StateParamScheduler("rate", create_new=True, curve=linear(0.0, 1.0, 40)),
}
BEFORE_STEP = [Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED, Events.ITERATION_STARTED]


class Script:
    """A trainer that notes the rate of each step, three steps an epoch."""

    def __init__(self, kind: str, moves_at: Any, fail_at: int | None = None) -> None:
        self.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        self.rates: dict[int, float] = {}
        self.trainer = Engine(self.step)
        self.schedule = KINDS[kind](self)
        self.schedule.attach(self.trainer, moves_at)
        self.fail_at = fail_at

    def step(self, engine: Engine, batch: Any) -> None:
        iteration = engine.state.iteration
        self.rates[iteration] = getattr(engine.state, "rate", self.optimizer.param_groups[0]["lr"])
        if iteration == self.fail_at:
            raise MemoryError

    def objects(self) -> dict[str, Any]:
        return {"trainer": self.trainer, "optimizer": self.optimizer, "schedule": self.schedule}


def resumed_rates(kind: str, moves_at: Any, save_at: Any, fail_at: int | None) -> tuple[dict[int, float], ...]:
    whole, cut, resumed = Script(kind, moves_at), Script(kind, moves_at, fail_at), Script(kind, moves_at)
    whole.trainer.run(range(3), max_epochs=3, seed=0)
    saved: dict[str, Any] = {}
    save = Checkpoint(cut.objects(), lambda state, name: saved.update(copy.deepcopy(state)))
    cut.trainer.add_event_handler(save_at, save)
    with contextlib.suppress(MemoryError):
        cut.trainer.run(range(3), max_epochs=3, seed=0)
    Checkpoint.load_objects(resumed.objects(), saved)
    resumed.trainer.run(range(3))
    return resumed.rates, {iteration: whole.rates[iteration] for iteration in resumed.rates}


@pytest.mark.parametrize("fail_at", [1, 4, 5], ids="iteration {}".format)
@pytest.mark.parametrize("moves_at", [Events.EPOCH_STARTED, *BEFORE_STEP, Events.ITERATION_COMPLETED], ids=repr)
@pytest.mark.parametrize("kind", list(KINDS))
def test_after_the_step_raised(kind, moves_at, fail_at):
    rates, expected = resumed_rates(kind, moves_at, Events.EXCEPTION_RAISED, fail_at)

    assert rates == expected
    assert min(rates) == fail_at


@pytest.mark.parametrize("count", [1, 4, 5])
@pytest.mark.parametrize("moves_at", [Events.EPOCH_STARTED, *BEFORE_STEP], ids=repr)
@pytest.mark.parametrize("save_at", [Events.EPOCH_STARTED, *BEFORE_STEP, Events.ITERATION_COMPLETED], ids=repr)
def test_saved_at_any_event(save_at, moves_at, count):
    at_count = save_at(once=2) if save_at is Events.EPOCH_STARTED else save_at(once=count)
    rates, expected = resumed_rates("ParamScheduler", moves_at, at_count, None)

    assert rates == expected


def test_what_was_loaded_and_saved_again_before_the_step_still_counts_once():
    script = Script("ParamScheduler", Events.ITERATION_STARTED, fail_at=5)
    for _ in range(3):
        saved: dict[str, Any] = {}
        save = Checkpoint(script.objects(), lambda state, name: saved.update(copy.deepcopy(state)))  # noqa: B023
        script.trainer.add_event_handler(Events.EPOCH_STARTED, save)
        script.trainer.add_event_handler(Events.EXCEPTION_RAISED, save)
        script.trainer.add_event_handler(Events.GET_BATCH_STARTED, save)
        with pytest.raises(MemoryError):
            script.trainer.run(range(3), max_epochs=3, seed=0)
        script = Script("ParamScheduler", Events.ITERATION_STARTED, fail_at=5)
        Checkpoint.load_objects(script.objects(), saved)

    assert saved["schedule"]["event_index"] == 5


def test_the_batch_size_of_an_epoch_that_begins_again():
    def build(fail: bool) -> tuple[Engine, dict[str, Any], list[int]]:
        sizes: list[int] = []
        trainer = Engine(lambda engine, batch: 1 / 0 if fail and engine.state.epoch == 2 else sizes.append(len(batch)))
        loader = DataLoader(list(range(12)), batch_size=2)
        schedule = BatchSizeScheduler(loader, lambda epoch: 2 + epoch)
        schedule.attach(trainer)
        return trainer, {"trainer": trainer, "schedule": schedule}, sizes

    trainer, objects, sizes = build(fail=True)
    with pytest.raises(ZeroDivisionError):
        trainer.run(objects["schedule"].dataloader, max_epochs=2)
    saved = {name: copy.deepcopy(one.state_dict()) for name, one in objects.items()}
    trainer, objects, sizes = build(fail=False)
    for name, state in saved.items():
        objects[name].load_state_dict(state)
    trainer.run(objects["schedule"].dataloader)

    assert sizes == [3, 3, 3, 3]

"""The plain mean of the weights at chosen moments, with BatchNorm computed anew for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.handlers import SWA
from ignite_core.rng import rng_state
from ignite_core.testing import run_distributed

GENERATOR = torch.Generator().manual_seed(3)
DATA = [(torch.randn(4, 3, generator=GENERATOR), torch.randn(4, 1, generator=GENERATOR)) for _ in range(5)]


def make() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5), nn.Linear(4, 1))


def training(model: nn.Module, data: Any = None) -> Engine:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return create_supervised_trainer(model, optimizer, nn.functional.mse_loss)


def assert_same(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_it_is_what_swa_utils_make_in_a_loop() -> None:
    model = make()
    swa, trainer = SWA(model), training(model)
    reference = AveragedModel(model)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(after=2), lambda: reference.update_parameters(model))
    swa.attach(trainer, Events.EPOCH_COMPLETED(after=2))
    trainer.run(DATA, max_epochs=5, seed=1)
    torch.manual_seed(2)
    update_bn(DATA, reference)

    assert swa.swa_model.n_averaged == 3
    parameters = dict(reference.named_parameters())
    assert_same(dict(swa.swa_model.named_parameters()), parameters)
    norm, other = swa.swa_model.module[1], reference.module[1]
    torch.testing.assert_close(norm.running_mean, other.running_mean)  # no Dropout lies before it
    torch.testing.assert_close(norm.running_var, other.running_var)
    assert norm.num_batches_tracked == 5


def test_the_mean_of_three_epochs_is_their_mean() -> None:
    model = nn.Linear(2, 1)
    swa, trainer = SWA(model), training(model)
    seen: list[Tensor] = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED(after=1), lambda: seen.append(model.weight.detach().clone()))
    swa.attach(trainer, Events.EPOCH_COMPLETED(after=1))

    trainer.run([(torch.ones(4, 2), torch.ones(4, 1))], max_epochs=4)

    assert len(seen) == 3
    torch.testing.assert_close(swa.swa_model.module.weight, torch.stack(seen).mean(0))
    assert not swa.swa_model.module.weight.requires_grad


def test_updating_batch_norm_changes_nothing_else() -> None:
    model = make()
    swa, trainer = SWA(model), training(model)
    swa.attach(trainer, bn_event=None)
    trainer.run(DATA, seed=0)
    momentum = swa.swa_model.module[1].momentum
    before, random = copy.deepcopy(model.state_dict()), rng_state()

    swa.update_bn(DATA)

    assert_same(model.state_dict(), before)
    assert torch.equal(random["torch"], rng_state()["torch"])
    assert not swa.swa_model.training
    assert swa.swa_model.module[1].momentum == momentum == 0.3


def test_a_batch_that_raises_leaves_the_settings_as_they_were() -> None:
    swa = SWA(make())

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        swa.update_bn([*DATA, torch.ones(2, 7)])

    assert swa.swa_model.module[1].momentum == 0.3
    assert not swa.swa_model.training


def test_what_the_model_is_called_with_may_be_made_of_the_batch() -> None:
    one, other = SWA(make()), SWA(make(), input_transform=lambda batch: batch["x"])

    one.update_bn(DATA)
    other.update_bn([{"x": x} for x, _ in DATA])

    assert_same(one.state_dict(), other.state_dict())


def test_a_model_without_batch_norm_asks_for_no_data() -> None:
    model = nn.Linear(3, 1)
    swa, trainer = SWA(model), training(model)
    swa.attach(trainer)

    trainer.run(iter(DATA), max_epochs=1, epoch_length=5)

    assert swa.swa_model.n_averaged == 1


def test_data_that_are_used_up_are_told_and_batch_norm_is_left_as_it_is() -> None:
    model = make()
    swa, trainer = SWA(model), training(model)
    swa.attach(trainer)

    with pytest.raises(ValueError, match="the data must have a batch, got none; give bn_data"):
        trainer.run(iter(DATA), epoch_length=5)

    assert_same(dict(swa.swa_model.module.named_buffers()), dict(model.named_buffers()))


def test_other_data_may_be_named() -> None:
    model = make()
    swa, trainer = SWA(model), training(model)
    swa.attach(trainer, bn_data=DATA[:2])

    trainer.run(iter(DATA), epoch_length=5)

    assert swa.swa_model.module[1].num_batches_tracked == 2


def test_an_evaluator_sees_the_model_itself_before_there_is_an_average_then_the_average() -> None:
    model = nn.Linear(1, 1, bias=False)
    trainer = Engine(lambda engine, batch: nn.init.constant_(model.weight, engine.state.epoch))
    evaluator = create_supervised_evaluator(model)
    swa = SWA(model)
    swa.attach(trainer, Events.EPOCH_COMPLETED(after=1))
    swa.swap_in_during(evaluator)
    seen = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate() -> None:
        seen.append(float(evaluator.run([(torch.ones(1, 1), torch.ones(1, 1))]).output[0]))

    trainer.run([0], max_epochs=4)

    assert seen == [1.0, 2.0, 2.5, 3.0]
    assert model.weight.item() == 4.0
    with swa.swapped_in():
        with pytest.raises(RuntimeError, match=r"SWA.state_dict: .* swapped in"):
            swa.state_dict()
        with pytest.raises(RuntimeError, match=r"SWA.update: .* swapped in"):
            trainer.run([0], max_epochs=5)


def test_what_was_saved_goes_on() -> None:
    model = nn.Linear(1, 1, bias=False)
    swa = SWA(model)
    trainer = Engine(lambda engine, batch: nn.init.constant_(model.weight, batch))
    swa.attach(trainer, Events.ITERATION_COMPLETED)
    trainer.run([1.0, 2.0])

    other = SWA(model)
    other.load_state_dict(copy.deepcopy(swa.state_dict()))
    trainer = Engine(lambda engine, batch: nn.init.constant_(model.weight, batch))
    other.attach(trainer, Events.ITERATION_COMPLETED)
    trainer.run([6.0])

    assert other.swa_model.module.weight.item() == 3.0


def batch_norm_on_ranks() -> dict[str, Tensor]:
    swa = SWA(make())
    swa.update_bn(DATA[:3] if idist.get_rank() == 0 else DATA[3:])
    return {name: value.clone() for name, value in swa.swa_model.module[1].named_buffers()}


def test_batch_norm_on_two_ranks_is_that_of_the_batches_of_both() -> None:
    alone = SWA(make())
    alone.update_bn(DATA)

    for found in run_distributed(batch_norm_on_ranks):
        for name, value in alone.swa_model.module[1].named_buffers():
            torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: SWA(3), TypeError, "model must be a torch.nn.Module, got 3"),
        (lambda: SWA(nn.Linear(1, 1), input_transform=3), TypeError, "input_transform must be callable, got 3"),
        (lambda: SWA(nn.Linear(1, 1)).attach(3), TypeError, "engine must be an Engine, got 3"),
        (
            lambda: SWA(nn.Linear(1, 1)).swap_in_during(3),
            TypeError,
            "SWA.swap_in_during: evaluator must be an Engine, got 3",
        ),
    ],
)
def test_wrong_arguments_are_told(call: Callable[[], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        call()

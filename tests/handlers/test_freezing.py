"""A frozen module is not trained in any way, until its event; and a run that was cut knows which of the two it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.handlers import Freeze, Unfreeze
from ignite_core.testing import run_distributed

GENERATOR = torch.Generator().manual_seed(3)
DATA = [(torch.randn(4, 3, generator=GENERATOR), torch.randn(4, 1, generator=GENERATOR)) for _ in range(2)]
THIRD_EPOCH = Events.EPOCH_STARTED(once=3)


def make() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(4, 1)})


def call(model: Any, x: Tensor) -> Tensor:
    return model["head"](model["backbone"](x))


def training(model: nn.Module, **options: Any) -> Engine:
    """The optimizer has a momentum and a weight decay, which move weights whose gradient is 0."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    return create_supervised_trainer(model, optimizer, nn.functional.mse_loss, model_fn=call, **options)


def state_of(module: Any) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    return [name for name in one if torch.equal(one[name], other[name])]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_nothing_of_a_module_moves_until_the_event_and_all_of_it_does_after_it(accumulation: int) -> None:
    model = make()
    trainer = training(model, gradient_accumulation_steps=accumulation)
    trainer.run(DATA)  # there is a momentum to go on with
    trainer.state.max_epochs = None
    before, head = state_of(model["backbone"]), state_of(model["head"])
    assert all(one.grad is not None for one in model["backbone"].parameters())
    Freeze(model["backbone"], until=THIRD_EPOCH).attach(trainer)
    assert all(one.grad is None for one in model["backbone"].parameters())
    at_end: list[dict[str, Tensor]] = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: at_end.append(state_of(model["backbone"])))

    trainer.run(DATA, max_epochs=3)

    assert same(at_end[1], before) == list(before)
    assert same(at_end[2], before) == []
    assert same(state_of(model["head"]), head) == []


@pytest.mark.parametrize("keep_eval", [True, False])
def test_it_stays_in_evaluation_mode_whoever_switches_the_model_unless_that_is_not_wanted(keep_eval: bool) -> None:
    model = make()
    trainer, evaluator = training(model), create_supervised_evaluator(model, model_fn=call)
    Freeze(model["backbone"], until=THIRD_EPOCH, keep_eval=keep_eval).attach(trainer)
    modes: list[bool] = []
    model["backbone"][1].register_forward_hook(lambda module, args, output: modes.append(module.training))
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: model.train())
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DATA[:1]))

    trainer.run(DATA, max_epochs=3)

    frozen = [not keep_eval, not keep_eval, False]
    assert modes == [*frozen, *frozen, True, True, False]
    assert model["backbone"][1].num_batches_tracked == (2 if keep_eval else 6)


def test_parts_of_it_that_are_called_by_themselves_stay_in_evaluation_mode_too() -> None:
    model = make()
    Freeze(model["backbone"]).attach(training(model))
    model.train()

    model["backbone"][1](torch.ones(4, 4))

    assert not model["backbone"][1].training
    assert model["backbone"][1].num_batches_tracked == 0


def test_only_what_was_trained_before_is_trained_after_it() -> None:
    model = make()
    model["backbone"][0].bias.requires_grad_(False)
    freeze = Freeze(model["backbone"])
    freeze.attach(training(model))
    assert [one.requires_grad for one in model["backbone"].parameters()] == [False] * 4

    freeze.unfreeze()
    freeze.unfreeze()

    assert [one.requires_grad for one in model["backbone"].parameters()] == [True, False, True, True]
    assert not freeze.is_frozen


def test_blocks_are_let_go_one_after_the_other() -> None:
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(3)))
    trainer = Engine(lambda engine, batch: [block.weight.requires_grad for block in model])
    Freeze(model[1], until=Events.EPOCH_STARTED(once=2)).attach(trainer)
    Freeze(model[0], until=Events.EPOCH_STARTED(once=3)).attach(trainer)
    seen: list[Any] = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(trainer.state.output))

    trainer.run([0], max_epochs=3)

    assert seen == [[False, False, True], [False, True, True], [True, True, True]]


def test_copies_of_a_frozen_model_can_be_made_and_saved(tmp_path: Any) -> None:
    model = make()
    Freeze(model["backbone"]).attach(training(model))

    torch.save(copy.deepcopy(model), tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    loaded.train()
    call(loaded, DATA[0][0])

    assert loaded["backbone"][1].num_batches_tracked == 0


def test_unfreeze_lets_all_parameters_be_trained() -> None:
    model = make()
    model["backbone"].requires_grad_(False)
    trainer = training(model)
    handler = Unfreeze(model["backbone"], at=THIRD_EPOCH)
    handler.attach(trainer)
    before = state_of(model["backbone"])
    weights: list[Tensor] = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: weights.append(model["backbone"][0].weight.detach().clone())
    )

    trainer.run(DATA, max_epochs=3)

    assert torch.equal(weights[1], before["0.weight"])
    assert not torch.equal(weights[2], before["0.weight"])
    assert handler.state_dict() == {"is_frozen": False}


# --------------------------------------------------------------------------------------------------- save and resume


def build(kind: str) -> tuple[Engine, Any, nn.Module]:
    model = make()
    trainer = training(model)
    handler: Any = Freeze(model["backbone"], until=THIRD_EPOCH)
    if kind == "unfreeze":
        model["backbone"].requires_grad_(False)
        handler = Unfreeze(model["backbone"], at=THIRD_EPOCH)
    return trainer, handler, model


@pytest.mark.parametrize("loaded_first", [True, False], ids=["load, attach", "attach, load"])
@pytest.mark.parametrize("done", [1, 2, 3])
@pytest.mark.parametrize("kind", ["freeze", "unfreeze"])
def test_a_run_that_goes_on_knows_whether_the_event_has_passed(kind: str, done: int, loaded_first: bool) -> None:
    trainer, handler, _ = build(kind)
    handler.attach(trainer)
    trainer.run(DATA, max_epochs=done)
    saved = handler.state_dict()
    assert saved == {"is_frozen": done < 3}

    trainer, handler, model = build(kind)
    if loaded_first:
        handler.load_state_dict(saved)
        handler.attach(trainer)
    else:
        handler.attach(trainer)
        handler.load_state_dict(saved)
    assert model["backbone"][0].weight.requires_grad is (done == 3)
    trainer.load_state_dict({"epoch": done, "epoch_length": 2, "max_epochs": 4})
    trainer.run(DATA)

    assert model["backbone"][0].weight.requires_grad


@pytest.mark.parametrize("kind", ["freeze", "unfreeze"])
def test_a_state_that_was_forgotten_is_told(kind: str) -> None:
    trainer, handler, _ = build(kind)
    handler.attach(trainer)
    trainer.load_state_dict({"epoch": 3, "epoch_length": 2, "max_epochs": 4})

    with pytest.warns(UserWarning, match="continues from iteration 6, but the state of this handler was not loaded"):
        trainer.run(DATA)


# ------------------------------------------------------------------------------------------------------------- ranks


def freeze_on_ranks() -> list[Tensor]:
    model = DistributedDataParallel(nn.Sequential(*make().values()), find_unused_parameters=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss)
    Freeze(model.module[0], until=Events.EPOCH_STARTED(once=2)).attach(trainer)
    before = model.module[0][0].weight.detach().clone()
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=1), lambda: torch.testing.assert_close(model.module[0][0].weight, before)
    )
    trainer.run(DATA[idist.get_rank() :], max_epochs=3, epoch_length=1)
    assert not torch.equal(model.module[0][0].weight, before)
    return [one.detach() for one in model.parameters()]


def test_ranks_stay_alike_when_a_module_of_a_ddp_model_is_frozen_and_let_go() -> None:
    one, other = run_distributed(freeze_on_ranks)

    assert all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: Freeze(3), TypeError, "Freeze: module must be a torch.nn.Module, got 3"),
        (lambda: Freeze(nn.ReLU()).attach(3), TypeError, "Freeze.attach: engine must be an Engine, got 3"),
        (lambda: Freeze(nn.ReLU()).load_state_dict({}), ValueError, r"'is_frozen' is missing, got \[\]"),
        (lambda: Unfreeze(3, at=THIRD_EPOCH), TypeError, "Unfreeze: module must be a torch.nn.Module, got 3"),
        (lambda: Unfreeze(nn.ReLU(), THIRD_EPOCH).attach(3), TypeError, "Unfreeze.attach: engine must be an Engine"),
        (lambda: Unfreeze(nn.ReLU(), THIRD_EPOCH).load_state_dict(3), TypeError, "must be a mapping, got int"),
    ],
)
def test_wrong_arguments_are_told(call: Callable[[], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        call()

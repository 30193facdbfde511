"""A supervised trainer does what the plain loop does, with the arguments of pytorch-ignite."""

import dataclasses
import gc
import inspect
import warnings
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from ignite_core.engine import (
    DeterministicEngine,
    Engine,
    create_supervised_evaluator,
    create_supervised_trainer,
    supervised_evaluation_step,
    supervised_evaluation_step_amp,
    supervised_training_step,
    supervised_training_step_amp,
)
from tests.engine.training import gradients, make_batches, make_model, make_optimizer, train_by_hand, weights


def test_weights_equal_those_of_the_plain_loop_bit_for_bit() -> None:
    batches = make_batches(5, torch.float32)
    model = make_model(torch.float32)

    create_supervised_trainer(model, make_optimizer(model), mse_loss).run(batches, max_epochs=3)

    assert torch.equal(weights(model), weights(train_by_hand(3 * batches, torch.float32)))


def test_a_step_in_an_engine_of_your_own_trains_alike() -> None:
    batches = make_batches(5)
    model = make_model()

    Engine(supervised_training_step(model, make_optimizer(model), mse_loss)).run(batches, max_epochs=3)

    assert torch.equal(weights(model), weights(train_by_hand(3 * batches)))


def test_the_output_is_the_detached_loss_of_the_batch() -> None:
    (x, y), model = make_batches(1)[0], make_model()
    expected = mse_loss(model(x), y).detach()

    output = create_supervised_trainer(model, make_optimizer(model), mse_loss).run([(x, y)]).output

    assert torch.equal(output, expected)
    assert not output.requires_grad


def test_each_function_gets_what_it_is_promised() -> None:
    model = make_model()
    calls: list[Any] = []

    def prepare_batch(batch: Any, device: Any, non_blocking: bool) -> Any:
        calls.append(("prepare_batch", device, non_blocking))
        return batch["x"], batch["y"]

    def model_fn(given: nn.Module, x: Any) -> Any:
        calls.append(("model_fn", given is model))
        return {"logits": given(x)}

    def model_transform(output: Any) -> Any:
        calls.append(("model_transform", sorted(output)))
        return output["logits"]

    def output_transform(x: Any, y: Any, y_pred: Any, loss: Any) -> Any:
        return {"shapes": (x.shape, y.shape, y_pred.shape), "loss": loss.item()}

    trainer = create_supervised_trainer(
        model,
        make_optimizer(model),
        mse_loss,
        device="cpu",
        non_blocking=True,
        prepare_batch=prepare_batch,
        model_transform=model_transform,
        output_transform=output_transform,
        model_fn=model_fn,
    )
    (x, y) = make_batches(1)[0]
    output = trainer.run([{"x": x, "y": y}]).output

    assert calls == [("prepare_batch", "cpu", True), ("model_fn", True), ("model_transform", ["logits"])]
    assert output["shapes"] == ((4, 3), (4, 1), (4, 1))
    assert isinstance(output["loss"], float)


def test_batches_are_moved_to_the_device_in_whatever_structure() -> None:
    seen: list[str] = []

    def loss_fn(y_pred: Any, y: Any) -> torch.Tensor:
        seen.append(y["target"].device.type)
        return y_pred.sum()

    model = nn.Linear(3, 1, device="meta")
    trainer = create_supervised_trainer(
        model, make_optimizer(model), loss_fn, device="meta", model_fn=lambda model, x: model(x[0])
    )
    trainer.run([([torch.zeros(2, 3)], {"target": torch.zeros(2), "name": "a"})])

    assert seen == ["meta"]


def test_a_module_frozen_after_the_model_was_set_to_train_stays_frozen() -> None:
    model = nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1)).double()
    model.train()
    model[1].eval()
    trainer = create_supervised_trainer(model, make_optimizer(model), mse_loss)

    trainer.run(make_batches(2))
    frozen_while_training = not model[1].training
    model.eval()
    trainer.run(make_batches(2))

    assert frozen_while_training
    assert model[1].training


def test_deterministic_makes_a_deterministic_engine() -> None:
    model = make_model()
    trainer = create_supervised_trainer(model, make_optimizer(model), mse_loss, deterministic=True)

    assert isinstance(trainer, DeterministicEngine)


@pytest.mark.parametrize("largest", [0.001, 1000.0])
def test_clipping_by_norm_equals_torch(largest: float) -> None:
    model, reference, batches = make_model(), make_model(), make_batches(3)
    optimizer = make_optimizer(reference)
    for x, y in batches:
        optimizer.zero_grad()
        mse_loss(reference(x), y).backward()
        nn.utils.clip_grad_norm_(reference.parameters(), largest)
        optimizer.step()

    create_supervised_trainer(model, make_optimizer(model), mse_loss, clip_grad_norm=largest).run(batches)

    assert torch.equal(weights(model), weights(reference))


def test_clipping_by_value_bounds_each_gradient() -> None:
    model = make_model()

    create_supervised_trainer(model, make_optimizer(model), mse_loss, clip_grad_value=1e-3).run(make_batches(1))

    assert gradients(model).abs().max().item() == 1e-3


def test_nothing_of_a_batch_stays_alive_after_its_iteration() -> None:
    model = make_model()
    alive: list[weakref.ref[torch.Tensor]] = []

    def model_fn(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y_pred = model(x)
        alive.append(weakref.ref(y_pred))
        return y_pred

    def is_alive() -> bool:
        return alive[-1]() is not None

    trainer = create_supervised_trainer(model, make_optimizer(model), mse_loss, model_fn=model_fn)
    gc.disable()
    try:
        trainer.run(make_batches(1))
        assert not is_alive()
    finally:
        gc.enable()


TRAINING = [
    "model",
    "optimizer",
    "loss_fn",
    "device=None",
    "non_blocking=False",
    "prepare_batch",
    "model_transform",
    "output_transform",
]
EVALUATION = ["device=None", "non_blocking=False", "prepare_batch", "model_transform", "output_transform"]
ACCUMULATION = ["gradient_accumulation_steps=1", "model_fn"]
CLIPPING = ["*clip_grad_norm=None", "*clip_grad_value=None"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            create_supervised_trainer,
            [
                *TRAINING,
                "deterministic=False",
                "amp_mode=None",
                "scaler=False",
                *ACCUMULATION,
                "*amp_dtype=None",
                *CLIPPING,
            ],
        ),
        (supervised_training_step, [*TRAINING, *ACCUMULATION, *CLIPPING]),
        (supervised_training_step_amp, [*TRAINING, "scaler=None", *ACCUMULATION, "*amp_dtype=None", *CLIPPING]),
        (
            create_supervised_evaluator,
            ["model", "metrics=None", *EVALUATION, "amp_mode=None", "model_fn", "*amp_dtype=None"],
        ),
        (supervised_evaluation_step, ["model", *EVALUATION, "model_fn"]),
        (supervised_evaluation_step_amp, ["model", *EVALUATION, "model_fn", "*amp_dtype=None"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_arguments_are_those_of_pytorch_ignite_in_its_order(function: Any, expected: list[str]) -> None:
    found = [
        ("*" if parameter.kind is parameter.KEYWORD_ONLY else "")
        + name
        + ("" if parameter.default is parameter.empty or callable(parameter.default) else f"={parameter.default}")
        for name, parameter in inspect.signature(function).parameters.items()
    ]

    assert found == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss_fn": 3}, TypeError, "loss_fn must be callable, got 3 of type int"),
        ({"prepare_batch": None}, TypeError, "prepare_batch must be callable, got None of type NoneType"),
        ({"model_transform": "x"}, TypeError, "model_transform must be callable, got 'x'"),
        ({"output_transform": 1}, TypeError, "output_transform must be callable, got 1"),
        ({"model_fn": 1}, TypeError, "model_fn must be callable, got 1"),
        ({"gradient_accumulation_steps": 0}, ValueError, "gradient_accumulation_steps must be at least 1, got 0"),
        ({"gradient_accumulation_steps": 2.0}, TypeError, "gradient_accumulation_steps must be an integer, got 2.0"),
        ({"gradient_accumulation_steps": True}, TypeError, "gradient_accumulation_steps must be an integer, got True"),
        ({"clip_grad_norm": 0}, ValueError, "clip_grad_norm must be above 0, got 0"),
        ({"clip_grad_norm": float("nan")}, ValueError, "clip_grad_norm must be above 0, got nan"),
        ({"clip_grad_value": -1.0}, ValueError, "clip_grad_value must be above 0, got -1.0"),
        ({"clip_grad_value": True}, TypeError, "clip_grad_value must be a number, got True"),
        ({"clip_grad_norm": 1.0, "clip_grad_value": 2.0}, ValueError, "exclude each other, got 1.0 and 2.0"),
        ({"amp_mode": "apex"}, ValueError, "got 'apex'; apex.amp is retired .* use amp_mode='amp'"),
        ({"amp_mode": "bf16"}, ValueError, "amp_mode must be 'amp' or None, got 'bf16'"),
        ({"amp_dtype": torch.bfloat16}, ValueError, "amp_dtype needs amp_mode='amp', got amp_dtype=torch.bfloat16"),
        ({"amp_mode": "amp", "amp_dtype": torch.float32}, ValueError, "or torch.bfloat16, got torch.float32"),
        ({"scaler": True}, ValueError, "scaler needs amp_mode='amp', got scaler=True, amp_mode=None"),
        ({"amp_mode": "amp", "scaler": 2.0}, TypeError, "scaler must be a torch.amp.GradScaler, got 2.0"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_told_at_once(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    model = make_model()

    with pytest.raises(error, match=message):
        create_supervised_trainer(
            **{"model": model, "optimizer": make_optimizer(model), "loss_fn": mse_loss, **arguments}
        )


@pytest.mark.parametrize("scaler", [False, True])
def test_a_trainer_tells_what_a_checkpoint_should_hold_beside_it(scaler: bool) -> None:
    """So that who saves need not be handed the model once more."""
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some builds warn of a scaler where there is nothing to scale
        trainer = create_supervised_trainer(
            model, optimizer, mse_loss, amp_mode="amp" if scaler else None, scaler=scaler
        )
    step: Any = trainer.process_function

    expected = {"model": model, "optimizer": optimizer} | ({"scaler": trainer.state.scaler} if scaler else {})
    assert step.to_save == expected


@dataclasses.dataclass
class Pairs:
    x: torch.Tensor
    y: torch.Tensor


@pytest.mark.parametrize("kind", [dict, Pairs], ids=lambda kind: kind.__name__)
def test_a_batch_that_is_no_sequence_is_handed_on_as_a_whole(kind: Any) -> None:
    """The model gets it, moved, and the loss too; ``model_fn`` unpacks it where the model takes its entries."""
    model, seen = torch.nn.Linear(1, 1), []

    def entry(batch: Any, name: str) -> Any:
        return batch[name] if kind is dict else getattr(batch, name)

    def model_fn(model: torch.nn.Module, batch: Any) -> Any:
        seen.append(type(batch))
        return model(entry(batch, "x"))

    def loss_fn(y_pred: Any, batch: Any) -> torch.Tensor:
        return (y_pred - entry(batch, "y")).square().mean()

    batch = kind(x=torch.ones(2, 1), y=torch.ones(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, loss_fn, device="cpu", model_fn=model_fn)
    first = trainer.run([batch]).output
    evaluator = create_supervised_evaluator(model, device="cpu", model_fn=model_fn)
    y_pred, y = evaluator.run([batch]).output

    assert trainer.run([batch]).output < first
    assert seen == [kind] * 3
    assert (type(y), y_pred.shape) == (kind, (2, 1))


@pytest.mark.parametrize(("batch", "got"), [((1, 2, 3), "a tuple of 3"), (torch.ones(4, 1), "a Tensor of 4")])
def test_a_batch_that_is_no_pair_names_the_remedy(batch: Any, got: str) -> None:
    model = torch.nn.Linear(1, 1)
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters()), torch.nn.functional.mse_loss)

    with pytest.raises(ValueError, match=rf"a batch must be a pair \(x, y\), got {got}; pass prepare_batch="):
        trainer.run([batch])

"""Handlers see every moment of a training step, and change what comes next."""

import gc
import weakref
from typing import Any

import pytest
import torch
from torch.nn.functional import l1_loss, mse_loss

from ignite_core.engine import Engine, Events, StepEvents, create_supervised_trainer, supervised_training_step
from tests.engine.training import (
    Unsized,
    gradients,
    make_batches,
    make_model,
    make_optimizer,
    merge,
    train_by_hand,
    weights,
)

BATCHES = make_batches(5)

FORWARD_TO_BACKWARD = [
    "FORWARD_STARTED",
    "FORWARD_COMPLETED",
    "LOSS_STARTED",
    "LOSS_COMPLETED",
    "BACKWARD_STARTED",
    "BACKWARD_COMPLETED",
]
OPTIM_STEP = ["OPTIM_STEP_STARTED", "OPTIM_STEP_COMPLETED"]


def make_trainer(**arguments: Any) -> tuple[torch.nn.Module, Engine]:
    model = make_model()
    return model, create_supervised_trainer(model, make_optimizer(model), mse_loss, **arguments)


def trace(trainer: Engine) -> list[str]:
    names: list[str] = []
    for event in [*StepEvents, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED]:
        trainer.add_event_handler(event, names.append, event.name)
    return names


def test_events_come_in_their_order() -> None:
    _, trainer = make_trainer()
    names = trace(trainer)

    trainer.run(BATCHES[:2])

    assert names == 2 * [*FORWARD_TO_BACKWARD, *OPTIM_STEP, "ITERATION_COMPLETED"] + ["EPOCH_COMPLETED"]


def test_while_gradients_are_accumulated_there_is_no_optimizer_step() -> None:
    _, trainer = make_trainer(gradient_accumulation_steps=2)
    names = trace(trainer)

    trainer.run(BATCHES[:3])

    assert names == [
        *[*FORWARD_TO_BACKWARD, "ITERATION_COMPLETED"],
        *[*FORWARD_TO_BACKWARD, *OPTIM_STEP, "ITERATION_COMPLETED"],
        *[*FORWARD_TO_BACKWARD, *OPTIM_STEP, "ITERATION_COMPLETED"],
        "EPOCH_COMPLETED",
    ]


def test_the_optimizer_step_that_ends_a_cut_epoch_is_told_too() -> None:
    _, trainer = make_trainer(gradient_accumulation_steps=2)
    names = trace(trainer)

    trainer.run(Unsized(BATCHES[:1]))

    assert names == [*FORWARD_TO_BACKWARD, "ITERATION_COMPLETED", *OPTIM_STEP, "EPOCH_COMPLETED"]


def test_handlers_find_what_is_there_so_far() -> None:
    model, trainer = make_trainer()
    seen: list[tuple[str, bool, bool, bool]] = []

    def look(name: str) -> None:
        step = trainer.state.step
        seen.append((name, step.y_pred is not None, step.loss is not None, model[0].weight.grad is not None))

    for event in StepEvents:
        trainer.add_event_handler(event, look, event.name)
    trainer.run(BATCHES[:1])

    assert seen == [
        ("FORWARD_STARTED", False, False, False),
        ("FORWARD_COMPLETED", True, False, False),
        ("LOSS_STARTED", True, False, False),
        ("LOSS_COMPLETED", True, True, False),
        ("BACKWARD_STARTED", True, True, False),
        ("BACKWARD_COMPLETED", True, True, True),
        ("OPTIM_STEP_STARTED", True, True, True),
        ("OPTIM_STEP_COMPLETED", True, True, True),
    ]


def test_input_and_target_may_be_replaced() -> None:
    model, trainer = make_trainer()

    @trainer.on(StepEvents.FORWARD_STARTED)
    def swap() -> None:
        trainer.state.step.x, trainer.state.step.y = BATCHES[1]

    trainer.run(BATCHES[:1])

    assert torch.equal(weights(model), weights(train_by_hand(BATCHES[1:2])))


def test_the_prediction_may_be_replaced() -> None:
    model, trainer = make_trainer(output_transform=lambda x, y, y_pred, loss: y_pred.detach())
    before = weights(model).clone()

    @trainer.on(StepEvents.FORWARD_COMPLETED)
    def forget() -> None:
        trainer.state.step.y_pred = trainer.state.step.y_pred * 0

    trainer.run(BATCHES[:1])

    assert torch.equal(trainer.state.output, torch.zeros_like(trainer.state.output))
    assert torch.equal(weights(model), before)


def test_the_loss_may_be_replaced() -> None:
    model, trainer = make_trainer()
    x, y = BATCHES[0]
    reference = make_model()
    optimizer = make_optimizer(reference)
    expected = l1_loss(reference(x), y)
    expected.backward()
    optimizer.step()

    @trainer.on(StepEvents.LOSS_COMPLETED)
    def replace() -> None:
        step = trainer.state.step
        step.loss = l1_loss(step.y_pred, step.y)

    trainer.run(BATCHES[:1])

    assert torch.equal(weights(model), weights(reference))
    assert torch.equal(trainer.state.output, expected.detach())


def test_handlers_see_the_whole_loss_while_gradients_are_accumulated() -> None:
    model, trainer = make_trainer(gradient_accumulation_steps=2)
    x, y = BATCHES[0]
    expected = mse_loss(model(x), y).detach()
    losses: list[torch.Tensor] = []
    trainer.add_event_handler(StepEvents.LOSS_COMPLETED, lambda: losses.append(trainer.state.step.loss.detach()))

    trainer.run(BATCHES[:2])

    assert torch.equal(losses[0], expected)


@pytest.mark.parametrize("event", [StepEvents.BACKWARD_COMPLETED, StepEvents.OPTIM_STEP_STARTED])
def test_gradients_may_be_replaced(event: StepEvents) -> None:
    model, trainer = make_trainer()
    before = weights(model).clone()

    @trainer.on(event)
    def replace() -> None:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)

    trainer.run(BATCHES[:1])

    torch.testing.assert_close(weights(model), before - 0.1)


def test_gradients_are_clipped_between_the_backward_pass_and_the_optimizer_step() -> None:
    model, trainer = make_trainer(clip_grad_norm=1e-3)
    norms: list[bool] = []

    def look() -> None:
        norm = gradients(model).norm().item()
        norms.append(norm <= 1e-3)

    trainer.add_event_handler(StepEvents.BACKWARD_COMPLETED, look)
    trainer.add_event_handler(StepEvents.OPTIM_STEP_STARTED, look)
    trainer.run(BATCHES[:1])

    assert norms == [False, True]


@pytest.mark.parametrize("event", list(StepEvents)[:-1], ids=lambda event: event.name)
def test_the_optimizer_step_may_be_skipped(event: StepEvents) -> None:
    model, trainer = make_trainer()
    names = trace(trainer)

    @trainer.on(event(once=2))
    def skip() -> None:
        trainer.state.step.skip_optimizer_step = True

    trainer.run(BATCHES[:3])

    assert torch.equal(weights(model), weights(train_by_hand([BATCHES[0], BATCHES[2]])))
    assert names.count("OPTIM_STEP_COMPLETED") == 2


@pytest.mark.parametrize("data", [BATCHES[:5], Unsized(BATCHES)], ids=["length known", "length unknown"])
@pytest.mark.parametrize(
    ("iteration", "windows"),
    [(1, [[2, 3], [4]]), (2, [[2, 3], [4]]), (3, [[0, 1], [4]]), (5, [[0, 1], [2, 3]])],
)
def test_skipping_in_any_batch_leaves_out_the_step_of_its_window(iteration: int, windows: Any, data: Any) -> None:
    model, trainer = make_trainer(gradient_accumulation_steps=2)

    @trainer.on(StepEvents.LOSS_COMPLETED(once=iteration))
    def skip() -> None:
        trainer.state.step.skip_optimizer_step = True

    trainer.run(data)

    expected = train_by_hand(merge([BATCHES[i] for i in window]) for window in windows)
    torch.testing.assert_close(weights(model), weights(expected))


def test_without_handlers_nothing_is_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    _, trainer = make_trainer(gradient_accumulation_steps=2)
    fired: list[Any] = []
    monkeypatch.setattr(trainer, "fire_event", fired.append)

    trainer.run(Unsized(BATCHES))
    without_handlers = list(fired)
    trainer.add_event_handler(StepEvents.LOSS_COMPLETED, lambda: None)
    trainer.run(BATCHES[:1])

    assert without_handlers == []
    assert fired == [StepEvents[name] for name in FORWARD_TO_BACKWARD + OPTIM_STEP]


def test_an_engine_that_does_not_know_the_events_trains_without_them() -> None:
    model = make_model()

    engine = Engine(supervised_training_step(model, make_optimizer(model), mse_loss))
    engine.run(BATCHES)

    assert not engine.has_registered_events(StepEvents.FORWARD_STARTED)
    assert torch.equal(weights(model), weights(train_by_hand(BATCHES)))


def test_handlers_that_change_nothing_change_no_bit() -> None:
    model, trainer = make_trainer()
    trace(trainer)

    trainer.run(BATCHES)

    assert torch.equal(weights(model), weights(train_by_hand(BATCHES)))


@pytest.mark.parametrize("fails", [False, True], ids=["done", "raised"])
def test_no_graph_stays_alive_after_an_iteration(fails: bool) -> None:
    _, trainer = make_trainer()
    graphs: list[weakref.ref[torch.Tensor]] = []

    @trainer.on(StepEvents.LOSS_COMPLETED)
    def look() -> None:
        graphs.append(weakref.ref(trainer.state.step.loss))
        if fails:
            raise ArithmeticError

    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
    gc.disable()
    try:
        trainer.run(BATCHES[:1])
        assert trainer.state.step is None
        assert graphs[0]() is None
    finally:
        gc.enable()

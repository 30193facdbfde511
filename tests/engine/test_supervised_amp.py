"""Autocast and gradient scaling, on the CPU; where there is a CUDA device, on that too."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.nn.functional import mse_loss

from ignite_core.engine import (
    Engine,
    StepEvents,
    create_supervised_evaluator,
    create_supervised_trainer,
    supervised_evaluation_step_amp,
    supervised_training_step_amp,
)
from tests.engine.training import Unsized, gradients, make_batches, make_model, make_optimizer, train_by_hand, weights

BATCHES = make_batches(5, torch.float32)
NOT_FINITE = (torch.full((4, 3), torch.inf), torch.zeros(4, 1))


class Recording(nn.Module):
    """Notes which autocast it runs under."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.dtypes: list[torch.dtype | None] = []

    def note(self) -> None:
        self.dtypes.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)

    def forward(self, x: torch.Tensor) -> Any:
        self.note()
        return self.linear(x)


DTYPES = [(None, torch.bfloat16), (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float16)]


@pytest.mark.parametrize(("asked", "expected"), DTYPES)
def test_model_and_loss_run_under_autocast_and_the_backward_pass_does_not(asked: Any, expected: torch.dtype) -> None:
    model = Recording()

    def loss_fn(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        model.note()
        return mse_loss(y_pred.float(), y)

    trainer = create_supervised_trainer(model, make_optimizer(model), loss_fn, amp_mode="amp", amp_dtype=asked)
    trainer.add_event_handler(StepEvents.LOSS_COMPLETED, model.note)
    trainer.add_event_handler(StepEvents.BACKWARD_COMPLETED, model.note)
    trainer.run(BATCHES[:1])

    assert model.dtypes == [expected, expected, None, None]


@pytest.mark.parametrize(("asked", "expected"), DTYPES)
def test_an_evaluator_runs_the_model_under_autocast(asked: Any, expected: torch.dtype) -> None:
    model = Recording()

    create_supervised_evaluator(model, amp_mode="amp", amp_dtype=asked).run(BATCHES[:1])
    Engine(supervised_evaluation_step_amp(model, amp_dtype=asked)).run(BATCHES[:1])
    create_supervised_evaluator(model).run(BATCHES[:1])

    assert model.dtypes == [expected, expected, None]


def test_bfloat16_training_equals_the_plain_loop_under_autocast_bit_for_bit() -> None:
    model, reference = make_model(torch.float32), make_model(torch.float32)
    optimizer = make_optimizer(reference)
    for x, y in BATCHES:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = mse_loss(reference(x), y)
        loss.backward()
        optimizer.step()

    create_supervised_trainer(model, make_optimizer(model), mse_loss, amp_mode="amp", amp_dtype=torch.bfloat16).run(
        BATCHES
    )

    assert torch.equal(weights(model), weights(reference))


def test_the_device_of_autocast_is_that_of_the_batches_else_that_of_the_model() -> None:
    seen: list[bool] = []

    def model_fn(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return x

    for model in (nn.Linear(1, 1), nn.Identity()):
        create_supervised_evaluator(model, amp_mode="amp", model_fn=model_fn).run(BATCHES[:1])
    create_supervised_evaluator(nn.Identity(), device="cpu", amp_mode="amp", model_fn=model_fn).run(BATCHES[:1])

    assert seen == [True, True, True]


def scaled_trainer(scaler: bool | GradScaler, **arguments: Any) -> tuple[nn.Module, Engine]:
    """Autocast does not touch float64, so scaling by a power of two changes no bit."""
    model = make_model()
    trainer = create_supervised_trainer(
        model, make_optimizer(model), mse_loss, amp_mode="amp", scaler=scaler, **arguments
    )
    return model, trainer


def make_scaler() -> GradScaler:
    return GradScaler("cpu", init_scale=1024.0)


def test_scaling_by_a_power_of_two_changes_no_bit() -> None:
    batches = make_batches(5)
    model, trainer = scaled_trainer(make_scaler())

    trainer.run(batches)

    assert torch.equal(weights(model), weights(train_by_hand(batches)))


def test_a_scaler_that_is_made_for_you_is_on_the_state() -> None:
    _, trainer = scaled_trainer(True)

    trainer.run(make_batches(1))

    assert isinstance(trainer.state.scaler, GradScaler)
    assert trainer.state.scaler.state_dict()["_growth_tracker"] == 1


def test_your_own_scaler_is_used_and_left_where_it_is() -> None:
    scaler = make_scaler()
    model, trainer = scaled_trainer(scaler)

    trainer.run(make_batches(2))
    Engine(supervised_training_step_amp(model, make_optimizer(model), mse_loss, scaler=scaler)).run(make_batches(1))

    assert not hasattr(trainer.state, "scaler")
    assert scaler.state_dict()["_growth_tracker"] == 3


def test_a_step_with_infinite_gradients_is_left_out_and_lowers_the_factor() -> None:
    scaler = make_scaler()
    model = nn.Linear(3, 1)
    trainer = create_supervised_trainer(model, make_optimizer(model), mse_loss, amp_mode="amp", scaler=scaler)

    trainer.run(BATCHES[:1])
    before = weights(model).clone()
    trainer.run([NOT_FINITE])

    assert torch.equal(weights(model), before)
    assert scaler.get_scale() == 512.0


@pytest.mark.parametrize("event", [StepEvents.BACKWARD_COMPLETED, StepEvents.OPTIM_STEP_STARTED])
def test_skipping_a_step_leaves_the_scaler_ready_for_the_next(event: StepEvents) -> None:
    batches = make_batches(2)
    model, trainer = scaled_trainer(make_scaler())

    @trainer.on(event(once=1))
    def skip() -> None:
        trainer.state.step.skip_optimizer_step = True

    trainer.run(batches)

    assert torch.equal(weights(model), weights(train_by_hand(batches[1:])))


def test_an_exception_between_unscaling_and_the_step_leaves_the_scaler_ready() -> None:
    _, trainer = scaled_trainer(make_scaler())
    handle = trainer.add_event_handler(StepEvents.OPTIM_STEP_STARTED, lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        trainer.run(make_batches(1))
    handle.remove()
    trainer.run(make_batches(1), max_epochs=2)

    assert trainer.state.epoch == 2


def gradient_norms(trainer: Engine, model: nn.Module, event: StepEvents) -> list[float]:
    norms: list[float] = []

    def note() -> None:
        norms.append(gradients(model).norm().item())

    trainer.add_event_handler(event, note)
    return norms


@pytest.mark.parametrize("steps", [1, 2])
def test_handlers_and_clipping_see_gradients_without_the_factor(steps: int) -> None:
    batches = make_batches(2)
    found = []
    for scaler in (False, make_scaler()):
        model, trainer = scaled_trainer(scaler, gradient_accumulation_steps=steps, clip_grad_norm=0.1)
        whole = gradient_norms(trainer, model, StepEvents.BACKWARD_COMPLETED)
        clipped = gradient_norms(trainer, model, StepEvents.OPTIM_STEP_STARTED)
        trainer.run(batches)
        found.append((whole[-1], clipped[-1]))

    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=0)
    assert found[1][1] <= 0.1 < found[1][0]


def test_a_cut_epoch_steps_with_the_scaler_too() -> None:
    scaler = make_scaler()
    _, trainer = scaled_trainer(scaler, gradient_accumulation_steps=2)

    trainer.run(Unsized(make_batches(3)))

    assert scaler.state_dict()["_growth_tracker"] == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, this machine has none")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_with_a_scaler_on_cuda_comes_close_to_full_precision(dtype: torch.dtype) -> None:
    model = make_model(torch.float32).cuda()
    seen: list[torch.dtype] = []
    trainer = create_supervised_trainer(
        model,
        make_optimizer(model),
        mse_loss,
        device="cuda",
        non_blocking=True,
        amp_mode="amp",
        amp_dtype=dtype,
        scaler=GradScaler("cuda", init_scale=1024.0),
        clip_grad_norm=1e3,
    )
    trainer.add_event_handler(StepEvents.FORWARD_COMPLETED, lambda: seen.append(trainer.state.step.y_pred.dtype))

    state = trainer.run(BATCHES)

    assert set(seen) == {dtype}
    assert state.output.device.type == "cuda"
    torch.testing.assert_close(
        weights(model).cpu(), weights(train_by_hand(BATCHES, torch.float32)), rtol=0.1, atol=0.02
    )

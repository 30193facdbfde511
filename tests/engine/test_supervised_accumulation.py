"""Accumulated batches make the step that one big batch of them would make, wherever an epoch or a run ends."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn.functional import mse_loss

from ignite_core.engine import Engine, Events, create_supervised_trainer, supervised_training_step
from tests.engine.training import (
    Batch,
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


def expected_weights(*windows: list[Batch]) -> torch.Tensor:
    """The weights after one step on each window, merged into a big batch."""
    return weights(train_by_hand(merge(window) for window in windows))


def accumulate(steps: int = 2, **arguments: Any) -> tuple[torch.nn.Module, Engine]:
    model = make_model()
    trainer = create_supervised_trainer(
        model, make_optimizer(model), mse_loss, gradient_accumulation_steps=steps, **arguments
    )
    return model, trainer


@pytest.mark.parametrize("data", [BATCHES, Unsized(BATCHES)], ids=["length known", "length unknown"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7])
def test_equals_the_big_batches_in_every_epoch(steps: int, data: Any) -> None:
    model, trainer = accumulate(steps)
    windows = [BATCHES[start : start + steps] for start in range(0, 5, steps)]

    trainer.run(data, max_epochs=2)

    torch.testing.assert_close(weights(model), expected_weights(*windows, *windows))


def test_the_short_last_window_equals_the_hand_written_loop_bit_for_bit() -> None:
    model, trainer = accumulate(2)
    reference = make_model()
    optimizer = make_optimizer(reference)
    for window in (BATCHES[:2], BATCHES[2:4], BATCHES[4:]):
        optimizer.zero_grad()
        for x, y in window:
            (mse_loss(reference(x), y) / len(window)).backward()
        optimizer.step()

    trainer.run(BATCHES)

    assert torch.equal(weights(model), weights(reference))


@pytest.mark.parametrize("steps", [2, 3])
def test_an_epoch_that_is_cut_takes_its_last_step_with_the_true_size(steps: int) -> None:
    model, trainer = accumulate(steps)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda: trainer.terminate_epoch())
    first = [BATCHES[:2], BATCHES[2:4]] if steps == 2 else [BATCHES[:3], BATCHES[3:4]]
    second = [BATCHES[start : start + steps] for start in range(0, 5, steps)]

    trainer.run(BATCHES, max_epochs=2)

    torch.testing.assert_close(weights(model), expected_weights(*first, *second))


def test_data_that_ends_too_early_takes_its_last_step_with_the_true_size() -> None:
    model, trainer = accumulate(3)

    with pytest.warns(UserWarning, match="the data gave 5 of the 6 batches"):
        trainer.run(iter(BATCHES), epoch_length=6)

    torch.testing.assert_close(weights(model), expected_weights(BATCHES[:3], BATCHES[3:]))


@pytest.mark.parametrize("max_iters", [3, 7])
def test_a_run_that_ends_by_max_iters_takes_its_last_step_with_the_true_size(max_iters: int) -> None:
    model, trainer = accumulate(2)
    windows = {3: [[0, 1], [2]], 7: [[0, 1], [2, 3], [4], [0, 1]]}[max_iters]

    trainer.run(BATCHES, max_iters=max_iters)

    torch.testing.assert_close(weights(model), expected_weights(*([BATCHES[i] for i in window] for window in windows)))


def test_windows_begin_anew_with_each_epoch_that_ends_inside_the_data() -> None:
    model, trainer = accumulate(2)

    trainer.run(BATCHES, max_epochs=2, epoch_length=3)

    torch.testing.assert_close(weights(model), expected_weights(BATCHES[:2], BATCHES[2:3], BATCHES[3:], BATCHES[:1]))


def test_a_pause_inside_a_window_changes_nothing() -> None:
    model, trainer = accumulate(3)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=[1, 2, 4]), trainer.interrupt)

    for _ in range(4):
        trainer.run(BATCHES)

    torch.testing.assert_close(weights(model), expected_weights(BATCHES[:3], BATCHES[3:]))


@pytest.mark.parametrize("end", ["terminate", "exception"])
def test_an_open_window_is_dropped_when_the_run_breaks_off(end: str) -> None:
    model, trainer = accumulate(2)
    once = Events.ITERATION_COMPLETED(once=3)

    if end == "terminate":
        trainer.add_event_handler(once, lambda: trainer.terminate())
        trainer.run(BATCHES)
    else:
        trainer.add_event_handler(once, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.run(BATCHES)
    trainer.run(BATCHES, max_epochs=2)

    torch.testing.assert_close(weights(model), expected_weights(BATCHES[:2], BATCHES[:2], BATCHES[2:4], BATCHES[4:]))


def test_a_run_loaded_inside_a_window_takes_a_step_with_the_batches_left_of_it() -> None:
    model, trainer = accumulate(3)
    trainer.load_state_dict({"iteration": 1, "epoch_length": 5, "max_epochs": 1})

    trainer.run(BATCHES, seed=0)

    torch.testing.assert_close(weights(model), expected_weights(BATCHES[1:3], BATCHES[3:5]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "a saved window must have positive integers and a flag, got {'last': 2, 'size': 0"),
        ({"done": "2"}, "a saved window must have positive integers"),
        ({"skip": None}, "a saved window must have positive integers and a flag"),
        ({"gradients": []}, "4 gradients must have been saved, got 0"),
        ({"gradients": None}, "4 gradients must have been saved, got NoneType"),
        (
            {"gradients": [torch.zeros(7), None, None, None]},
            "a saved gradient must have shape (4, 3), got torch.Size([7])",
        ),
    ],
    ids=str,
)
def test_a_damaged_window_is_refused(change: dict[str, Any], message: str) -> None:
    _, trainer = accumulate(2)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), trainer.terminate)
    trainer.run(BATCHES, seed=1)
    saved = trainer.state_dict()
    saved["by_rank"][0]["step"].update(change)
    _, other = accumulate(2)
    other.load_state_dict(saved)

    with pytest.raises(ValueError, match=re.escape(message)):
        other.run(BATCHES)


def test_an_epoch_shortened_under_way_still_trains_on_every_batch() -> None:
    model, trainer = accumulate(2)

    @trainer.on(Events.ITERATION_COMPLETED(once=2))
    def shorten() -> None:
        trainer.state.epoch_length = 2

    trainer.run(BATCHES, max_epochs=1)

    torch.testing.assert_close(weights(model), expected_weights(BATCHES[:2], BATCHES[2:3], BATCHES[3:4], BATCHES[4:]))


def test_the_last_step_of_a_cut_epoch_precedes_the_handlers_of_epoch_completed() -> None:
    model, trainer = accumulate(5)
    seen: list[torch.Tensor] = []

    def look() -> None:
        seen.append(weights(model).clone())

    trainer.add_event_handler(Events.EPOCH_COMPLETED(priority=100), look)
    trainer.run(Unsized(BATCHES[:2]))

    torch.testing.assert_close(seen[0], expected_weights(BATCHES[:2]))


def test_the_output_is_the_whole_loss_of_the_batch() -> None:
    model, trainer = accumulate(2)
    x, y = BATCHES[0]
    expected = mse_loss(model(x), y).detach()
    outputs: list[torch.Tensor] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: outputs.append(trainer.state.output))

    trainer.run(BATCHES)

    assert torch.equal(outputs[0], expected)


def test_clipping_is_of_the_whole_step_and_after_accumulation() -> None:
    model, trainer = accumulate(2, clip_grad_norm=1e-3)

    trainer.run(BATCHES[:2])

    norm = gradients(model).norm()
    torch.testing.assert_close(norm.item(), 1e-3, rtol=1e-2, atol=0)


def test_without_accumulation_a_trainer_has_no_handler_of_its_own() -> None:
    _, trainer = accumulate(1)

    assert "flush" not in str(trainer)


class Counting(torch.optim.SGD):
    """Counts its steps."""

    steps = 0

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        self.steps += 1
        super().step()


def test_a_step_called_with_batches_left_out_trains_on_the_others() -> None:
    model = make_model()
    optimizer = Counting(model.parameters(), lr=0.1)
    update = supervised_training_step(model, optimizer, mse_loss, gradient_accumulation_steps=2)
    used = [0, 2, 3, 5]
    batches = make_batches(6)

    trainer = Engine(lambda engine, batch: update(engine, batch) if engine.state.iteration - 1 in used else None)
    trainer.run(batches)

    reference = make_model()
    plain = torch.optim.SGD(reference.parameters(), lr=0.1)
    for window in ([2, 3], [5]):  # nobody could know at batch 0 that 1 would be left out: its window never ends
        plain.zero_grad()
        x, y = merge([batches[i] for i in window])
        mse_loss(reference(x), y).backward()
        plain.step()
    assert optimizer.steps == 2
    torch.testing.assert_close(weights(model), weights(reference))


def test_a_cut_epoch_without_an_open_window_takes_no_further_step() -> None:
    model = make_model()
    optimizer = Counting(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, mse_loss, gradient_accumulation_steps=2)

    def four() -> Iterator[Batch]:
        yield from BATCHES[:4]

    trainer.run(four())

    assert optimizer.steps == 2

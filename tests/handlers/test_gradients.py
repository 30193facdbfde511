"""Gradients are clipped, and measured, at the moment an optimizer moves the weights, in any step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from ignite_core import distributed as idist
from ignite_core.engine import Engine, Events, StepEvents, create_supervised_trainer
from ignite_core.handlers import SWA, EMAHandler, GradientClipping, GradientStats, TerminateOnNan
from ignite_core.testing import run_distributed

#: The gradient of `weight` in a step on one of these is the batch itself.
BATCH = torch.tensor([3.0, -4.0, 0.0])


class Linear:
    """A loss whose gradient is the batch, and an optimizer that subtracts the gradient; in a step of the user's."""

    def __init__(self, scaler: GradScaler | None = None, accumulation: int = 1, **options: Any) -> None:
        self.weight = nn.Parameter(torch.zeros(3))
        self.optimizer: Any = torch.optim.SGD([self.weight], lr=1.0, **options)
        self.scaler = scaler
        self.accumulation = accumulation
        self.trainer = Engine(self.step)

    def step(self, engine: Engine, batch: Tensor) -> None:
        loss = (self.weight * batch).sum() / self.accumulation
        if self.scaler is None:
            loss.backward()
        else:
            self.scaler.scale(loss).backward()
        if engine.state.iteration % self.accumulation:
            return
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad()

    def moved(self, *batches: Tensor) -> Tensor:
        """By how much a run has moved the weights, down."""
        self.trainer.run(list(batches))
        return -self.weight.detach()


def scaler(factor: float = 1024.0) -> GradScaler:
    return GradScaler("cpu", init_scale=factor)


# --------------------------------------------------------------------------------------------------------- clipping


def test_a_large_norm_is_scaled_down_and_a_small_one_left_alone() -> None:
    run = Linear()
    clipping = GradientClipping(run.optimizer, max_norm=1.0)
    clipping.attach(run.trainer)

    torch.testing.assert_close(run.moved(BATCH), BATCH / 5)
    assert clipping.norm == 5.0

    torch.testing.assert_close(run.moved(BATCH / 10), BATCH / 5 + BATCH / 10)
    assert clipping.norm == 0.5


def test_another_norm_may_be_meant() -> None:
    run = Linear()
    GradientClipping(run.optimizer, max_norm=1.0, norm_type=math.inf).attach(run.trainer)

    torch.testing.assert_close(run.moved(BATCH), BATCH / 4)


def test_elements_may_be_cut_one_by_one() -> None:
    run = Linear()
    clipping = GradientClipping(run.optimizer, max_value=3.5)
    clipping.attach(run.trainer)

    torch.testing.assert_close(run.moved(BATCH), torch.tensor([3.0, -3.5, 0.0]))
    assert clipping.norm is None


@pytest.mark.parametrize("fused", [False, True], ids=["unscaled by the scaler", "scaled until the fused step"])
@pytest.mark.parametrize("limit", [{"max_norm": 1.0}, {"max_value": 3.5}], ids=str)
def test_the_factor_of_a_scaler_is_taken_out_before(limit: dict[str, float], fused: bool) -> None:
    plain, scaled = Linear(), Linear(scaler(), fused=fused)
    for run in (plain, scaled):
        GradientClipping(run.optimizer, **limit).attach(run.trainer)

    assert torch.equal(scaled.moved(BATCH, 2 * BATCH), plain.moved(BATCH, 2 * BATCH))


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_leaves_out_stays_left_out(fused: bool) -> None:
    run = Linear(scaler(), fused=fused)
    GradientClipping(run.optimizer, max_norm=1.0).attach(run.trainer)
    GradientStats(run.optimizer).attach(run.trainer)

    moved = run.moved(torch.tensor([torch.inf, 0.0, 0.0]), BATCH)

    torch.testing.assert_close(moved, BATCH / 5)
    assert run.scaler is not None
    assert run.scaler.get_scale() == 512.0


def test_accumulated_gradients_are_clipped_once_as_a_whole() -> None:
    run = Linear(accumulation=2)
    clipping = GradientClipping(run.optimizer, max_norm=1.0)
    clipping.attach(run.trainer)

    torch.testing.assert_close(run.moved(BATCH, 3 * BATCH), BATCH / 5)
    assert clipping.norm == 10.0


def test_several_optimizers_are_clipped_each_by_its_own_limit_or_not_at_all() -> None:
    weights = [nn.Parameter(torch.zeros(3)) for _ in range(3)]
    optimizers = [torch.optim.SGD([weight], lr=1.0) for weight in weights]

    def step(engine: Engine, batch: Tensor) -> None:
        for weight, optimizer in zip(weights, optimizers, strict=True):
            (weight * batch).sum().backward()
            optimizer.step()

    trainer = Engine(step)
    GradientClipping(optimizers[0], max_norm=1.0).attach(trainer)
    GradientClipping(optimizers[2], max_value=2.0).attach(trainer)
    trainer.run([BATCH])

    torch.testing.assert_close(weights[0].detach(), -BATCH / 5)
    torch.testing.assert_close(weights[1].detach(), -BATCH)
    torch.testing.assert_close(weights[2].detach(), torch.tensor([-2.0, 2.0, 0.0]))


@pytest.mark.parametrize("as_keyword", [False, True])
def test_gradients_that_a_closure_makes_are_clipped_each_time_it_is_called(as_keyword: bool) -> None:
    weight = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([weight], lr=1.0)

    def step(engine: Engine, batch: Tensor) -> Any:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (weight * batch).sum() + 7
            loss.backward()
            return loss.detach()

        return optimizer.step(closure=closure) if as_keyword else optimizer.step(closure)

    trainer = Engine(step)
    GradientClipping(optimizer, max_norm=1.0).attach(trainer)
    state = trainer.run([BATCH])

    assert state.output == 7
    torch.testing.assert_close(weight.detach(), -BATCH / 5)


def test_lbfgs_which_calls_its_closure_many_times_sees_clipped_gradients_only() -> None:
    weight = nn.Parameter(torch.full((3,), 10.0))
    optimizer = torch.optim.LBFGS([weight], lr=1.0, max_iter=5)
    largest = []

    def closure() -> Tensor:
        if weight.grad is not None:
            largest.append(float(weight.grad.norm()))
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.detach()

    trainer = Engine(lambda engine, batch: optimizer.step(closure))
    GradientClipping(optimizer, max_norm=0.5).attach(trainer)
    trainer.run([0])

    assert len(largest) > 1
    assert max(largest) <= 0.5 + 1e-6


def test_steps_outside_the_run_are_left_alone_also_after_one_that_raised() -> None:
    run = Linear()
    GradientClipping(run.optimizer, max_norm=1.0).attach(run.trainer)
    with pytest.raises(TypeError):
        run.trainer.run([BATCH, None])
    run.weight.data.zero_()

    torch.testing.assert_close(-run.weight.detach(), torch.zeros(3))
    run.step(run.trainer, BATCH)
    torch.testing.assert_close(-run.weight.detach(), BATCH)


def test_a_step_without_gradients_is_no_error() -> None:
    run = Linear()
    GradientClipping(run.optimizer, max_norm=1.0).attach(run.trainer)
    GradientStats(run.optimizer).attach(run.trainer)
    trainer_that_only_steps = Engine(lambda engine, batch: run.optimizer.step())
    GradientClipping(run.optimizer, max_value=1.0).attach(trainer_that_only_steps)

    trainer_that_only_steps.run([0])

    assert not run.weight.detach().any()


def test_in_a_supervised_trainer_it_comes_after_the_last_event_before_the_step() -> None:
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trainer = create_supervised_trainer(model, optimizer, lambda y_pred, y: 10 * y_pred.sum())
    GradientClipping(optimizer, max_norm=1.0).attach(trainer)
    seen = []
    gradient = lambda: seen.append(float(model.weight.grad))  # noqa: E731
    trainer.add_event_handler(StepEvents.OPTIM_STEP_STARTED, gradient)
    trainer.add_event_handler(StepEvents.OPTIM_STEP_COMPLETED, gradient)

    trainer.run([(torch.ones(1, 1), torch.ones(1, 1))])

    assert seen == [10.0, pytest.approx(1.0, abs=1e-6)]


# ------------------------------------------------------------------------------------------------------- statistics


def two_layers() -> tuple[nn.Module, Any, Engine]:
    """Gradients of the first layer are (3, -4), that of the second is 12, in a step on 1."""
    model = nn.ModuleDict({"one": nn.Linear(2, 1, bias=False), "two": nn.Linear(1, 1, bias=False), "none": nn.ReLU()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine: Engine, batch: float) -> None:
        first, second = model["one"].weight, model["two"].weight
        (batch * ((first * torch.tensor([3.0, -4.0])).sum() + 12 * second.sum())).backward()
        optimizer.step()
        optimizer.zero_grad()

    return model, optimizer, Engine(step)


def test_norms_of_all_and_of_each_layer_are_among_the_metrics() -> None:
    model, optimizer, trainer = two_layers()
    GradientStats(optimizer, model).attach(trainer)

    metrics = dict(trainer.run([1.0, -2.0]).metrics)

    assert metrics == {"grad_norm": 26.0, "grad_max": 24.0, "grad_norm/one": 10.0, "grad_norm/two": 24.0}


def test_the_name_may_be_another_and_wrappers_are_looked_into() -> None:
    model, optimizer, trainer = two_layers()
    GradientStats(optimizer, nn.DataParallel(model), name="generator").attach(trainer)

    assert list(trainer.run([1.0]).metrics) == [
        "generator_norm",
        "generator_max",
        "generator_norm/one",
        "generator_norm/two",
    ]


@pytest.mark.parametrize(("first", "expected"), [("stats", 13.0), ("clipping", 1.0)])
def test_they_are_those_before_or_after_clipping_by_the_order_of_attachment(first: str, expected: float) -> None:
    _, optimizer, trainer = two_layers()
    stats, clipping = GradientStats(optimizer), GradientClipping(optimizer, max_norm=1.0)
    for handler in (stats, clipping) if first == "stats" else (clipping, stats):
        handler.attach(trainer)

    assert trainer.run([1.0]).metrics["grad_norm"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_the_factor_of_a_scaler_is_not_in_them(fused: bool) -> None:
    run = Linear(scaler(), fused=fused)
    GradientStats(run.optimizer).attach(run.trainer)

    moved = run.moved(BATCH)

    assert dict(run.trainer.state.metrics) == {"grad_norm": 5.0, "grad_max": 4.0}
    torch.testing.assert_close(moved, BATCH)


def test_every_counts_the_steps_of_the_optimizer_and_goes_on_after_a_resume() -> None:
    run = Linear(accumulation=2)
    stats = GradientStats(run.optimizer, every=3)
    stats.attach(run.trainer)
    seen: list[Any] = []
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: seen.append(engine.state.metrics.get("grad_max"))
    )

    run.moved(*(torch.full((3,), float(number)) for number in range(1, 9)))
    assert seen == [None] * 5 + [5.5] * 3
    assert stats.state_dict() == {"steps": 4}

    other = GradientStats(run.optimizer, every=3)
    other.load_state_dict({"steps": 4})
    assert other.state_dict() == {"steps": 4}


@pytest.mark.gpu
def test_neither_waits_for_the_device() -> None:
    device = torch.accelerator.current_accelerator()
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine: Engine, batch: Tensor) -> None:
        optimizer.zero_grad()
        model(batch).sum().backward()
        optimizer.step()

    trainer = Engine(step)
    GradientStats(optimizer, model).attach(trainer)
    GradientClipping(optimizer, max_norm=0.1).attach(trainer)
    batches = [torch.ones(4, 8, device=device) for _ in range(3)]
    trainer.run(batches)

    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.run(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert isinstance(trainer.state.metrics["grad_norm"], float)


@pytest.mark.gpu
@pytest.mark.parametrize("fused", [False, True])
def test_clipping_with_a_scaler_on_the_device_equals_clipping_without(fused: bool) -> None:
    device = torch.accelerator.current_accelerator()
    results = []
    for with_scaler in (False, True):
        weight = nn.Parameter(torch.zeros(3, device=device))
        optimizer = torch.optim.Adam([weight], lr=0.1, fused=fused)
        grad_scaler = GradScaler(device.type, enabled=with_scaler, init_scale=1024.0)

        def step(engine: Engine, batch: Tensor, weight: Any = weight, optimizer: Any = optimizer, s: Any = grad_scaler):
            optimizer.zero_grad()
            s.scale((weight * batch).sum()).backward()
            s.step(optimizer)
            s.update()

        trainer = Engine(step)
        GradientClipping(optimizer, max_norm=1.0).attach(trainer)
        trainer.run([BATCH.to(device), 2 * BATCH.to(device)])
        results.append(weight.detach().cpu())
    torch.testing.assert_close(results[0], results[1])


# ---------------------------------------------------------------------------------------------------------- sharded


def gradients_of(rows: int, shard: bool) -> list[float]:
    """Of a model whose last bias has fewer rows than there are ranks, where ``rows`` is 1."""
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, rows))
    model = idist.auto_model(model, shard=True) if shard else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss)
    GradientStats(optimizer, model).attach(trainer)
    clipping = GradientClipping(optimizer, max_norm=0.1, norm_type=math.inf)
    clipping.attach(trainer)
    TerminateOnNan(output_transform=lambda _: [one.grad for one in model.parameters()]).attach(trainer)
    trainer.run([(torch.ones(2, 3), torch.ones(2, rows))] * 2)
    largest = GradientStats(optimizer, name="clipped")
    largest._measure(trainer, list(model.parameters()))
    assert trainer.state.iteration == 2
    assert clipping.norm is not None
    return [*trainer.state.metrics.values(), clipping.norm.item()]


@pytest.mark.parametrize("rows", [1, 2])
def test_sharded_gradients_are_measured_and_clipped_as_whole_ones(rows: int) -> None:
    whole = gradients_of(rows, shard=False)
    for sharded in run_distributed(gradients_of, rows, True, ranks=2):
        assert sharded == pytest.approx(whole, rel=1e-5)


def average_a_sharded_model(make: Any) -> str:
    model = nn.Linear(2, 1)
    made = make(model)  # before it is sharded
    sharded = idist.auto_model(model, shard=True)
    with pytest.raises(TypeError, match="must not be sharded"):
        made._current_pairs()
    with pytest.raises(TypeError) as caught:
        make(sharded)
    return str(caught.value)


@pytest.mark.parametrize("make", [EMAHandler, SWA])
def test_an_average_of_a_sharded_model_is_refused_at_construction(make: Any) -> None:
    for told in run_distributed(average_a_sharded_model, make, ranks=2):
        assert told.startswith(f"{make.__name__}: model must not be sharded by fully_shard (FSDP2)")


# ----------------------------------------------------------------------------------------------------------- errors

OPTIMIZER = Linear().optimizer


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: GradientClipping(3, max_norm=1), TypeError, "optimizer must be a torch.optim.Optimizer, got 3"),
        (lambda: GradientClipping(OPTIMIZER), ValueError, "one of max_norm and max_value, got max_norm=None"),
        (lambda: GradientClipping(OPTIMIZER, 1.0, 1.0), ValueError, "got max_norm=1.0, max_value=1.0"),
        (lambda: GradientClipping(OPTIMIZER, 0.0), ValueError, "max_norm must be above 0, got 0.0"),
        (lambda: GradientClipping(OPTIMIZER, math.nan), ValueError, "max_norm must be above 0, got nan"),
        (lambda: GradientClipping(OPTIMIZER, True), TypeError, "max_norm must be a number, got True"),
        (lambda: GradientClipping(OPTIMIZER, max_value=-1), ValueError, "max_value must be above 0, got -1"),
        (lambda: GradientClipping(OPTIMIZER, 1, norm_type=0), ValueError, "norm_type must be above 0, got 0"),
        (lambda: GradientClipping(OPTIMIZER, 1).attach(3), TypeError, "engine must be an Engine, got 3"),
        (lambda: GradientStats(3), TypeError, "optimizer must be a torch.optim.Optimizer, got 3"),
        (lambda: GradientStats(OPTIMIZER, 3), TypeError, "model must be a torch.nn.Module, got 3"),
        (lambda: GradientStats(OPTIMIZER, every=0), ValueError, "every must be at least 1, got 0"),
        (lambda: GradientStats(OPTIMIZER, name=3), TypeError, "name must be a string, got 3"),
        (lambda: GradientStats(OPTIMIZER).attach(3), TypeError, "engine must be an Engine, got 3"),
        (lambda: GradientStats(OPTIMIZER).load_state_dict({}), ValueError, r"'steps' is missing, got \[\]"),
        (lambda: GradientStats(OPTIMIZER).load_state_dict(3), TypeError, "must be a mapping, got int"),
    ],
)
def test_wrong_arguments_are_told(call: Callable[[], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        call()

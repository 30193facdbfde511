"""Handlers together: accumulation, precision, clipping and averages in every combination equal the plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, StepEvents, create_supervised_trainer
from ignite_core.handlers import (
    SWA,
    DetectAnomaly,
    EMAHandler,
    EpochOutputStore,
    Freeze,
    GarbageCollection,
    GradientClipping,
    GradientStats,
    Timer,
)
from ignite_core.testing import assert_resumable, run_distributed
from tests.engine.scripts import Samples, one_thread

one_thread = pytest.fixture(autouse=True)(one_thread)

Batch = tuple[Tensor, Tensor]
MOMENTUM = 0.25


def make_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.05)


def make_data(batches: int, dyadic: bool = False) -> list[Batch]:
    """Batches of 4; ``dyadic``: of numbers whose products and means bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(1)
    if dyadic:
        x = torch.randint(-1, 2, (4 * batches, 3), generator=generator).float()
        y = torch.randint(0, 2, (4 * batches, 1), generator=generator).float() * 2 - 1
    else:
        x, y = (torch.randn(4 * batches, size, generator=generator) for size in (3, 1))
    return list(zip(x.split(4), y.split(4), strict=True))


def merge(batches: Sequence[Batch]) -> Batch:
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


def windows(batches: list[Batch], size: int) -> list[list[Batch]]:
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def flat(model: nn.Module) -> Tensor:
    return torch.cat([one.detach().reshape(-1) for one in model.parameters()])


# -------------------------------------------------------------- k batches of b are one batch of k b, with everything


def train(batches: list[Batch], steps: int, loss_fn: Any = mse_loss, model: Any = None, **options: Any) -> list[Tensor]:
    """Weights, their average, and the norms before clipping, after two epochs with a clipping that bites."""
    model = make_model() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125, momentum=0.5)
    trainer = create_supervised_trainer(model, optimizer, loss_fn, gradient_accumulation_steps=steps, **options)
    clipping, ema, norms = GradientClipping(optimizer, max_norm=0.25), EMAHandler(model, MOMENTUM), []
    clipping.attach(trainer)
    ema.attach(trainer, event=StepEvents.OPTIM_STEP_COMPLETED)
    trainer.add_event_handler(StepEvents.OPTIM_STEP_COMPLETED, lambda: norms.append(clipping.norm))
    trainer.run(batches, max_epochs=2)
    assert max(norms) > 0.25
    return [flat(ema.model), flat(ema.ema_model), torch.stack(norms)]


def assert_close(one: list[Tensor], other: list[Tensor]) -> None:
    for mine, yours in zip(one, other, strict=True):
        torch.testing.assert_close(mine, yours, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [2, 3, 4, 7])
def test_accumulation_equals_the_big_batches_also_in_the_short_last_window(steps: int) -> None:
    data = make_data(5)

    assert_close(train(data, steps), train([merge(window) for window in windows(data, steps)], 1))


def product_loss(y_pred: Tensor, y: Tensor) -> Tensor:
    """Its gradient does not depend on the prediction."""
    return (y_pred.float() * y).mean()


def test_accumulation_equals_the_big_batches_in_bfloat16_where_that_can_hold_the_sums() -> None:
    data = make_data(5, dyadic=True)
    results = []
    for batches, steps in ((data, 2), ([merge(window) for window in windows(data, 2)], 1)):
        model = nn.Linear(3, 1, bias=False)
        nn.init.ones_(model.weight)
        dtypes: list[torch.dtype] = []
        model.register_forward_hook(lambda module, args, output, dtypes=dtypes: dtypes.append(output.dtype))
        results.append(train(batches, steps, product_loss, model, amp_mode="amp", amp_dtype=torch.bfloat16))
        assert set(dtypes) == {torch.bfloat16}

    assert_close(*results)


def accumulate_on_ranks() -> list[Tensor]:
    shard = make_data(10)[idist.get_rank() :: 2]
    return train(shard, 2, model=DistributedDataParallel(make_model()))


def test_accumulation_on_two_ranks_equals_the_big_batches_of_both() -> None:
    alone = train([merge(window) for window in windows(make_data(10), 4)], 1)

    for found in run_distributed(accumulate_on_ranks):
        assert_close(found, alone)


# ------------------------------------------------------------------------- clip, then move, then average: always


@dataclass(frozen=True)
class Recipe:
    """One combination."""

    steps: int
    precision: str
    clip: str
    average: str
    own_step: bool

    def __str__(self) -> str:
        step = "own" if self.own_step else "supervised"
        return f"{step}-{self.steps}-{self.precision}-{self.clip}-{self.average}"


RECIPES = [
    Recipe(*values)
    for values in product(
        (1, 3),
        ("float32", "bfloat16", "scaled", "scaled, fused"),
        ("none", "trainer", "norm", "value"),
        ("each iteration", "each step"),
        (False, True),
    )
    if not (values[-1] and values[2] == "trainer")
]
DATA = make_data(5)


class Trained:
    """The parts that the library's trainer and the plain loop share."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = make_model()
        fused = {"fused": True} if recipe.precision == "scaled, fused" else {}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05, **fused)
        self.scaler = GradScaler("cpu", init_scale=1024.0, enabled=recipe.precision.startswith("scaled"))

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.recipe.precision == "float32" else torch.autocast("cpu", torch.bfloat16)

    def backward(self, batch: Batch, size: int) -> None:
        with self.autocast():
            loss = mse_loss(self.model(batch[0]).float(), batch[1])
        self.scaler.scale(loss / size).backward()

    def step(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


def in_a_plain_loop(recipe: Recipe) -> tuple[Tensor, Tensor]:
    one = Trained(recipe)
    average = flat(one.model)
    for window in windows(DATA, recipe.steps) * 2:
        for place, batch in enumerate(window, start=1):
            one.backward(batch, len(window))
            if place < len(window):
                if recipe.average == "each iteration":
                    average = torch.lerp(average, flat(one.model), MOMENTUM)
                continue
            one.scaler.unscale_(one.optimizer)
            if recipe.clip in ("trainer", "norm"):
                clip_grad_norm_(one.model.parameters(), 0.1)
            elif recipe.clip == "value":
                clip_grad_value_(one.model.parameters(), 0.05)
            one.step()
            average = torch.lerp(average, flat(one.model), MOMENTUM)
    return flat(one.model), average


def own_step(one: Trained) -> Engine:
    """A step as users write it, with its own accumulation."""

    def step(engine: Engine, batch: Batch) -> None:
        place, steps, length = engine.epoch_iteration, one.recipe.steps, len(DATA)
        first = place - (place - 1) % steps
        last = min(first + steps - 1, length)
        one.backward(batch, last - first + 1)
        if place == last:
            one.step()
            engine.fire_event("stepped")

    engine = Engine(step)
    engine.register_events("stepped")
    return engine


def supervised(one: Trained) -> Engine:
    recipe = one.recipe
    amp: dict[str, Any] = {} if recipe.precision == "float32" else {"amp_mode": "amp", "amp_dtype": torch.bfloat16}
    if recipe.precision.startswith("scaled"):
        amp["scaler"] = one.scaler
    clip = {"clip_grad_norm": 0.1} if recipe.clip == "trainer" else {}
    return create_supervised_trainer(
        one.model,
        one.optimizer,
        lambda y_pred, y: mse_loss(y_pred.float(), y),
        gradient_accumulation_steps=recipe.steps,
        **amp,
        **clip,
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_combination_equals_the_plain_loop(recipe: Recipe) -> None:
    one = Trained(recipe)
    trainer = own_step(one) if recipe.own_step else supervised(one)
    ema = EMAHandler(one.model, MOMENTUM)
    stepped: Any = "stepped" if recipe.own_step else StepEvents.OPTIM_STEP_COMPLETED
    ema.attach(trainer, event=Events.ITERATION_COMPLETED if recipe.average == "each iteration" else stepped)
    if recipe.clip in ("norm", "value"):
        limit = {"max_norm": 0.1} if recipe.clip == "norm" else {"max_value": 0.05}
        GradientClipping(one.optimizer, **limit).attach(trainer)

    trainer.run(DATA, max_epochs=2)

    weights, average = in_a_plain_loop(recipe)
    torch.testing.assert_close(flat(one.model), weights, rtol=0, atol=1e-6)
    torch.testing.assert_close(flat(ema.ema_model), average, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------- all of them go on after any cut


def build() -> tuple[Engine, dict[str, Any]]:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    model = nn.Sequential(backbone, nn.Linear(4, 1))
    optimizer = make_optimizer(model)
    trainer = create_supervised_trainer(model, optimizer, mse_loss, gradient_accumulation_steps=2)
    stats = GradientStats(optimizer, model, every=3)
    ema = EMAHandler(model, 0.1, momentum_warmup=0.9, warmup_iters=4, handle_buffers="update")
    swa = SWA(model)
    freeze = Freeze(backbone, until=Events.EPOCH_STARTED(once=2))
    timer = Timer(average=True, clock=lambda: 0.5 * trainer.state.iteration)
    store = EpochOutputStore()

    stats.attach(trainer)
    GradientClipping(optimizer, max_norm=0.5).attach(trainer)
    ema.attach(trainer, event=StepEvents.OPTIM_STEP_COMPLETED)
    swa.attach(trainer, Events.EPOCH_COMPLETED(after=1))
    freeze.attach(trainer)
    timer.attach(trainer, start=Events.EPOCH_STARTED, step=Events.ITERATION_COMPLETED)
    store.attach(trainer, "losses")
    DetectAnomaly().attach(trainer)
    GarbageCollection().attach(trainer, young=Events.ITERATION_COMPLETED(every=2), everything=None)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: trainer.state.metrics.update(momentum=trainer.state.ema_momentum)
    )
    to_save = {"trainer": trainer, "model": model, "optimizer": optimizer, "stats": stats, "ema": ema, "swa": swa}
    return trainer, {**to_save, "freeze": freeze, "timer": timer, "store": store}


def loader() -> DataLoader[Any]:
    return DataLoader(Samples(20), batch_size=4, shuffle=True)


@pytest.mark.parametrize(
    ("forgotten", "told"),
    [
        (None, ""),
        ("ema", r"metrics\.momentum is|ema\.ema_model"),
        ("swa", r"swa\.(n_averaged|module)"),
        ("freeze", r"output is|model\.|freeze\.is_frozen"),
        ("stats", r"stats\.steps"),
        ("timer", r"timer\.total"),
        ("store", r"store\.data"),
    ],
    ids=["none", "ema", "swa", "freeze", "stats", "timer", "store"],
)
def test_all_together_go_on_exactly_after_any_cut_unless_one_is_forgotten(forgotten: str | None, told: str) -> None:
    def without() -> tuple[Engine, dict[str, Any]]:
        trainer, to_save = build()
        shown = dict(to_save)
        if forgotten is not None:
            shown[forgotten] = Forgetful(shown[forgotten])
        return trainer, shown

    if forgotten is None:
        assert_resumable(without, loader(), max_epochs=3)
    else:
        with pytest.raises(AssertionError, match=told):
            assert_resumable(without, loader(), [8, 13], max_epochs=3)


class Forgetful:
    """Shows the state of something, and does not load it."""

    def __init__(self, one: Any) -> None:
        self.one = one

    def state_dict(self) -> Any:
        return self.one.state_dict()

    def load_state_dict(self, state: Any) -> None:
        """Forget it."""

"""The range test finds a learning rate on real data, stops where it should, and leaves no trace."""

from __future__ import annotations

import copy
import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite_core.handlers import EMAHandler, FastaiLRFinder, Freeze
from ignite_core.metrics import Accuracy
from ignite_core.rng import rng_state
from ignite_core.testing import run_distributed
from tests.engine.scripts import one_thread
from tests.faults.sizes import FULL

one_thread = pytest.fixture(autouse=True)(one_thread)
theirs = pytest.importorskip("ignite.handlers.lr_finder")

NOT_DIVERGED = "ignore:FastaiLRFinder. the run has ended and the loss has not diverged"


# ------------------------------------------------------------------------------------------------- the digits


def digits() -> TensorDataset:
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    return TensorDataset(torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target))


class Digits:
    """A script with all that a finder must leave alone: momenta, running means, Dropout, shuffling, a schedule."""

    def __init__(self, **options: Any) -> None:
        torch.manual_seed(0)
        random.seed(0)
        self.model = nn.Sequential(
            *(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2)), nn.Linear(32, 10)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-4, momentum=0.9)
        self.schedule = StepLR(self.optimizer, 1, 0.5)
        self.loader = DataLoader(digits(), batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(5))
        self.trainer = create_supervised_trainer(self.model, self.optimizer, nn.functional.cross_entropy, **options)
        self.ema = EMAHandler(self.model, 0.1, momentum_warmup=0.5, warmup_iters=50)
        self.ema.attach(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.schedule.step())
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: random.random())

    @property
    def to_save(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "ema": self.ema}

    def everything(self) -> dict[str, Any]:
        """All that can be seen of the script, copied."""
        state, trainer = self.trainer.state, self.trainer
        counters = {name: getattr(state, name) for name in type(state).__slots__ if not name.startswith("_")}
        gradients = [None if one.grad is None else one.grad.clone() for one in self.model.parameters()]
        seen = {name: one.state_dict() for name, one in self.to_save.items()}
        own = {name: value for name, value in vars(state).items() if not hasattr(value, "state_dict")}
        return copy.deepcopy(
            {
                **seen,
                "modes": [one.training for one in self.model.modules()],
                "gradients": gradients,
                "random": rng_state(),
                "shuffling": self.loader.generator.get_state(),
                "counters": {name: value for name, value in counters.items() if name != "dataloader"},
                "own": own,
                "metrics": dict(state.metrics),
                "engine": trainer.state_dict(),
                "last event": str(trainer.last_event_name),
                "handlers": str(trainer),
            }
        )


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """The places where two nestings are not equal bit for bit."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in {**one, **other}:
            yield from differences(one.get(key, "nothing"), other.get(key, "nothing"), f"{path}.{key}")
    elif isinstance(one, list | tuple) and type(one) is type(other) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.dtype != other.dtype or not torch.equal(one, other):
            yield path
    elif one != other:
        yield f"{path}: {one!r}, {other!r}"


def fail_at_30(engine: Engine) -> None:
    if engine.state.iteration == 30:
        raise ValueError("in iteration 30")


ENDS: dict[str, dict[str, Any]] = {
    "success": {"num_iter": 40, "end_lr": 0.01},
    "divergence": {"num_iter": 90, "end_lr": 1e4},
    "NaN": {"num_iter": 90, "end_lr": 1e30, "diverge_th": 1e30},
    "exception in the run": {"num_iter": 90},
    "exception in the block": {"num_iter": 20},
    "interrupt": {"num_iter": 90},
}


def search(script: Digits, end: str) -> FastaiLRFinder:
    finder = FastaiLRFinder()
    handlers = []
    if end == "exception in the run":
        handlers.append(script.trainer.add_event_handler(Events.ITERATION_COMPLETED, fail_at_30))
    if end == "interrupt":
        handlers.append(script.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=5), script.trainer.interrupt))
    raises = pytest.raises(ValueError, match=r"in iteration 30|in the block")
    with (
        raises if end.startswith("exception") else nullcontext(),
        finder.attach(script.trainer, script.to_save, **ENDS[end]) as trainer,
    ):
        trainer.run(script.loader)
        if end == "exception in the block":
            raise ValueError("in the block")
    for handler in handlers:
        handler.remove()
    return finder


@pytest.mark.filterwarnings(NOT_DIVERGED)
@pytest.mark.parametrize("before", ["new", "trained", "paused inside a window"] if FULL else ["paused inside a window"])
@pytest.mark.parametrize("end", ENDS)
def test_everything_is_put_back_bit_for_bit_however_it_ends(end: str, before: str) -> None:
    script = Digits(gradient_accumulation_steps=2, amp_mode="amp", scaler=True)
    if before != "new":
        cut = Events.ITERATION_COMPLETED(
            once=37
        )  # 29 batches an epoch: after the 8th of the second, or inside a window
        stop = script.trainer.terminate
        if before == "paused inside a window":
            cut, stop = Events.ITERATION_COMPLETED(once=38), script.trainer.interrupt
        with script.trainer.add_event_handler(cut, stop):
            script.trainer.run(script.loader, max_epochs=3)
    remembered = script.everything()

    search(script, end)

    assert list(differences(script.everything(), remembered)) == []


@pytest.mark.filterwarnings(NOT_DIVERGED)
@pytest.mark.parametrize("end", ["success", "divergence", "exception in the run"])
@pytest.mark.parametrize("before", ["new", "paused inside a window"])
def test_training_goes_on_as_if_there_had_been_no_search(end: str, before: str) -> None:
    results = []
    for with_search in (False, True):
        script = Digits(gradient_accumulation_steps=2)
        if before == "paused inside a window":
            with script.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=38), script.trainer.interrupt):
                script.trainer.run(script.loader, max_epochs=2)
        if with_search:
            search(script, end)
        script.trainer.run(script.loader, max_epochs=2)
        seen = script.everything()
        del seen["counters"]["times"]
        results.append(seen)

    assert list(differences(*results)) == []


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_a_run_that_was_loaded_goes_on_exactly_after_a_search() -> None:
    whole, cut, resumed = (Digits(gradient_accumulation_steps=2) for _ in range(3))
    saved: dict[str, Any] = {}

    @cut.trainer.on(Events.ITERATION_COMPLETED(once=34))
    def save() -> None:
        for name, one in {**cut.to_save, "trainer": cut.trainer}.items():
            saved[name] = copy.deepcopy(one.state_dict())
        cut.trainer.terminate()

    for script in (whole, cut):
        script.trainer.run(script.loader, max_epochs=2, seed=3)
    for name, one in {**resumed.to_save, "trainer": resumed.trainer}.items():
        one.load_state_dict(saved[name])
    search(resumed, "success")
    resumed.trainer.run(resumed.loader)

    results = [{name: one.state_dict() for name, one in script.to_save.items()} for script in (whole, resumed)]
    assert list(differences(*results)) == []


def test_on_digits_the_suggestion_is_a_learning_rate_that_trains_and_the_curve_is_a_valley() -> None:
    script = Digits()
    finder = FastaiLRFinder()
    with finder.attach(script.trainer, script.to_save, num_iter=120, end_lr=100.0) as trainer:
        trainer.run(script.loader)
    lrs, losses = finder.get_results()["lr"], finder.get_results()["loss"]
    lowest = losses.index(min(losses))

    assert len(lrs) == len(losses) < 120  # it has diverged before the end
    assert lrs[0] == 1e-4
    assert all(abs(later / lr - (100 / 1e-4) ** (1 / 119)) < 1e-9 for lr, later in pairwise(lrs))
    assert losses[0] > 2.2  # ten classes by chance: ln 10
    assert losses[lowest] < 1.5
    assert losses[-1] > 5 * losses[lowest]
    assert lrs[0] < finder.lr_suggestion() < lrs[lowest]
    assert 0.005 < finder.lr_suggestion() < 2

    finder.apply_suggested_lr(script.optimizer)
    script.optimizer.param_groups[0]["initial_lr"] = finder.lr_suggestion()
    script.trainer.run(script.loader, max_epochs=3)
    evaluator = create_supervised_evaluator(script.model, {"accuracy": Accuracy()})
    assert evaluator.run(script.loader).metrics["accuracy"] > 0.93


def test_the_plot_shows_the_curve_and_the_suggestion(tmp_path: Any) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    script = Digits()
    finder = FastaiLRFinder()
    with finder.attach(script.trainer, script.to_save, num_iter=120, end_lr=100.0) as trainer:
        trainer.run(script.loader)

    axes = finder.plot(skip_start=3, skip_end=2, figsize=(4, 3))

    lrs, losses = finder.get_results()["lr"], finder.get_results()["loss"]
    line = axes.lines[0]
    assert list(line.get_xdata()) == lrs[3:-2]
    assert list(line.get_ydata()) == losses[3:-2]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (lrs[3], lrs[-3])
    (point,) = axes.collections[0].get_offsets()
    assert list(point) == [finder.lr_suggestion(), losses[lrs.index(finder.lr_suggestion())]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "loss",
        f"suggested lr: {finder.lr_suggestion():.3g}",
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Learning rate", "Loss")
    axes.figure.savefig(tmp_path / "lr.png")

    plain = finder.plot(skip_start=0, skip_end=0, log_lr=False, display_suggestion=False, ax=axes.figure.add_subplot())
    assert plain.get_xscale() == "linear"
    assert len(plain.collections) == 0
    with pytest.warns(UserWarning, match="is not among the plotted iterations"):
        finder.plot(skip_start=len(lrs) - 3, skip_end=0)
    with pytest.raises(ValueError, match="at least two iterations must remain"):
        finder.plot(skip_start=len(lrs) - 1, skip_end=0)
    matplotlib.pyplot.close("all")


# ------------------------------------------------------------------------------------------------ losses by hand


class Losses:
    """A trainer whose step returns given losses, and an optimizer of which only the learning rate counts."""

    def __init__(self, losses: Any, groups: int = 1, lr: Any = 0.1) -> None:
        self.parameters = [nn.Parameter(torch.zeros(1)) for _ in range(groups)]
        self.optimizer = torch.optim.SGD([{"params": [one]} for one in self.parameters], lr=lr)
        self.lrs: list[Any] = []
        self.trainer = Engine(self.step)
        self.data = list(losses)

    def step(self, engine: Engine, batch: Any) -> Any:
        self.lrs.append([float(group["lr"]) for group in self.optimizer.param_groups])
        return batch

    def find(self, **options: Any) -> FastaiLRFinder:
        finder = FastaiLRFinder()
        run = options.pop("run", {})
        with finder.attach(self.trainer, {"optimizer": self.optimizer}, **options) as trainer:
            trainer.run(self.data, **run)
        return finder


@pytest.mark.filterwarnings(NOT_DIVERGED)
@pytest.mark.parametrize("kind", [float, torch.tensor, lambda loss: torch.tensor([loss])])
def test_learning_rates_grow_by_the_formula_from_the_first_to_the_last(kind: Any) -> None:
    run = Losses([kind(1.0)] * 5)
    finder = run.find(start_lr=0.01, end_lr=100.0)
    assert [lr for (lr,) in run.lrs] == pytest.approx([0.01, 0.1, 1, 10, 100], rel=1e-12)
    assert finder.get_results() == {"lr": [lr for (lr,) in run.lrs], "loss": [1.0] * 5}

    run = Losses([1.0] * 5)
    run.find(start_lr=1.0, end_lr=3.0, step_mode="linear")
    assert [lr for (lr,) in run.lrs] == [1.0, 1.5, 2.0, 2.5, 3.0]


@pytest.mark.filterwarnings(NOT_DIVERGED)
@pytest.mark.parametrize(
    ("options", "iterations"),
    [
        ({}, 6),
        ({"run": {"max_epochs": 2}}, 12),
        ({"run": {"max_iters": 4}}, 4),
        ({"num_iter": 3, "run": {"max_epochs": 2}}, 3),
        ({"num_iter": 20}, 20),
        ({"num_iter": 1}, 1),
    ],
)
def test_the_test_has_as_many_iterations_as_it_is_given_else_as_the_run(options: Any, iterations: int) -> None:
    run = Losses([1.0] * 6)
    run.find(**options)

    assert len(run.lrs) == iterations
    assert run.lrs[0] == [0.1]
    assert run.lrs[-1] == [10.0 if iterations > 1 else 0.1]


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_data_without_a_length_need_a_number_of_iterations() -> None:
    run = Losses([])
    finder = FastaiLRFinder()

    with finder.attach(run.trainer, {"optimizer": run.optimizer}, num_iter=7) as trainer:
        trainer.run(iter([1.0] * 50))
    assert len(run.lrs) == 7

    with (
        pytest.raises(ValueError, match="the length of an epoch is not known; give num_iter"),
        finder.attach(run.trainer, {"optimizer": run.optimizer}) as trainer,
    ):
        trainer.run(iter([1.0] * 50))


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_groups_grow_side_by_side_also_where_their_learning_rates_are_tensors() -> None:
    run = Losses([1.0] * 3, groups=2, lr=torch.tensor(0.5))
    rates = [group["lr"] for group in run.optimizer.param_groups]

    finder = run.find(start_lr=[0.25, 1.0], end_lr=[4.0, 16.0])

    assert run.lrs == [[0.25, 1.0], [1.0, 4.0], [4.0, 16.0]]
    assert finder.get_results()["lr"] == [[0.25, 1.0], [1.0, 4.0], [4.0, 16.0]]
    for group, rate in zip(run.optimizer.param_groups, rates, strict=True):
        assert group["lr"] is rate
        assert rate == 0.5


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_another_handler_that_writes_the_learning_rate_does_not_count() -> None:
    run = Losses([1.0] * 3)

    def write() -> None:
        run.optimizer.param_groups[0]["lr"] = 7.0

    late = Events.ITERATION_STARTED(priority=-100)
    run.trainer.add_event_handler(late | Events.ITERATION_COMPLETED | Events.STARTED, write)
    run.find(end_lr=10.0)

    assert run.lrs == [[0.1], [1.0], [10.0]]


def test_the_loss_is_smoothed_and_the_run_ends_when_it_has_diverged() -> None:
    run = Losses([4.0, 2.0, 1.0, 3.0, 20.0, 5.0, 5.0])
    finder = run.find(smooth_f=0.5, diverge_th=4.0)

    assert finder.get_results()["loss"] == [4.0, 3.0, 2.0, 2.5, 11.25]

    run = Losses([4.0, 2.0, 1.0, 3.0, 20.0, 5.0, 5.0])
    assert run.find(smooth_f=0, diverge_th=4.0).get_results()["loss"] == [4.0, 2.0, 1.0, 3.0, 20.0]


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_losses_below_zero_diverge_upwards_too() -> None:
    assert len(Losses([-1.0, -2.0, -3.0, -2.0, 8.9, 9.1, 0.0]).find(smooth_f=0).get_results()["loss"]) == 6
    assert len(Losses([-1.0, -2.0, -3.0, -4.0]).find(smooth_f=0).get_results()["loss"]) == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("smooth_f", [0.0, 0.05])
def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_recorded(bad: float, smooth_f: float) -> None:
    run = Losses([3.0, 2.0, bad, 1.0])
    finder = run.find(smooth_f=smooth_f)

    assert len(run.lrs) == 3
    assert len(finder.get_results()["loss"]) == len(finder.get_results()["lr"]) == 2


def test_a_run_that_has_not_diverged_is_told() -> None:
    with pytest.warns(UserWarning, match="the loss has not diverged; give a larger end_lr or a smaller diverge_th"):
        Losses([1.0, 1.0]).find()


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_the_loss_may_be_taken_out_of_the_output_and_each_run_has_its_own_results() -> None:
    run = Losses([{"loss": loss} for loss in (3.0, 2.0)])
    finder = FastaiLRFinder()
    options: Any = {"output_transform": lambda output: output["loss"], "smooth_f": 0.0}
    with finder.attach(run.trainer, {"optimizer": run.optimizer}, **options) as trainer:
        trainer.run(run.data)
        assert finder.get_results()["loss"] == [3.0, 2.0]
        trainer.run([{"loss": 7.0}] * 3, max_epochs=1)
        assert finder.get_results()["loss"] == [7.0] * 3

    assert run.trainer.state.iteration == 0


@pytest.mark.parametrize("output", [None, "loss", True, {"loss": 1.0}, torch.ones(2)])
def test_a_loss_that_is_no_number_is_told(output: Any) -> None:
    with pytest.raises(TypeError, match="the loss must be a number, or a tensor with one element, got"):
        Losses([output]).find()


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_the_suggestion_is_that_of_pytorch_ignite_for_the_same_curve() -> None:
    generator = random.Random(0)
    for _ in range(50):
        losses = [generator.uniform(0.5, 3) for _ in range(generator.randint(4, 30))]
        losses[generator.randrange(2, len(losses))] = 0.25
        finder, other = Losses(losses).find(smooth_f=0, diverge_th=100), theirs.FastaiLRFinder()
        other._history = finder.get_results()

        assert finder.lr_suggestion() == other.lr_suggestion()


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_the_suggestion_is_where_the_loss_falls_fastest() -> None:
    finder = Losses([9.0, 8.0, 5.0, 3.0, 2.0, 4.0]).find(start_lr=1.0, end_lr=32.0, smooth_f=0)

    assert finder.lr_suggestion() == pytest.approx(4.0)  # (3 - 8) / 2 is smallest, at the third


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_a_suggestion_is_written_into_each_group_after_the_block() -> None:
    run = Losses([9.0, 8.0, 3.0, 2.0, 2.5], groups=2)
    finder = FastaiLRFinder()
    with finder.attach(run.trainer, {"optimizer": run.optimizer}, smooth_f=0, start_lr=[0.1, 1.0]) as trainer:
        trainer.run(run.data)
        with pytest.raises(RuntimeError, match="leave the block"):
            finder.apply_suggested_lr(run.optimizer)

    finder.apply_suggested_lr(run.optimizer)

    assert [group["lr"] for group in run.optimizer.param_groups] == finder.lr_suggestion() == run.lrs[1]
    with pytest.raises(RuntimeError, match="as many parameter groups as the one of the run, got 1 instead of 2"):
        finder.apply_suggested_lr(Losses([]).optimizer)


@pytest.mark.filterwarnings(NOT_DIVERGED)
@pytest.mark.parametrize("losses", [[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [math.nan]])
def test_a_curve_that_does_not_fall_has_no_suggestion(losses: list[float]) -> None:
    with pytest.raises(RuntimeError, match="the loss must decrease at first"):
        Losses(losses).find(smooth_f=0).lr_suggestion()


def test_before_a_run_there_is_nothing_to_see() -> None:
    assert FastaiLRFinder().get_results() == {}
    for look in (FastaiLRFinder().lr_suggestion, FastaiLRFinder().plot):
        with pytest.raises(RuntimeError, match="nothing was recorded yet"):
            look()


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_the_plot_of_several_groups_has_a_line_for_each() -> None:
    pytest.importorskip("matplotlib").use("agg")
    finder = Losses([9.0, 8.0, 3.0, 2.0, 2.5], groups=2).find(smooth_f=0, start_lr=[0.1, 1.0])

    axes = finder.plot(skip_start=0, skip_end=0)

    assert [line.get_label() for line in axes.lines] == ["parameter group 0", "parameter group 1"]
    assert len(axes.collections) == 2
    pytest.importorskip("matplotlib.pyplot").close("all")


def test_without_matplotlib_the_plot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    finder = FastaiLRFinder()
    finder._history = {"lr": [1.0, 2.0, 3.0, 4.0], "loss": [9.0, 5.0, 1.0, 4.0]}

    with pytest.raises(ModuleNotFoundError, match=r"FastaiLRFinder.plot needs .* pip install 'ignite-core\[plot\]'"):
        finder.plot(skip_start=0, skip_end=0)


# ------------------------------------------------------------------------------------------- what else is put back


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_events_are_counted_from_zero_inside_and_afterwards_as_before() -> None:
    def step(engine: Engine, batch: float) -> float:
        engine.fire_event("mine")
        return batch

    trainer = Engine(step)
    trainer.register_events("mine")
    trainer.run([1.0] * 4)
    counts = {"mine": 4, "not registered yet": 7}
    trainer.load_state_dict({"epoch": 1, "epoch_length": 4, "max_epochs": 1, "event_counts": counts})
    seen = []
    trainer.add_event_handler("mine", lambda: seen.append(trainer.state_dict()["event_counts"]))

    with FastaiLRFinder().attach(trainer, {"optimizer": Losses([]).optimizer}):
        trainer.run([1.0] * 2)

    assert seen == [{"mine": 1}, {"mine": 2}]
    assert trainer.state_dict()["event_counts"] == counts


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_what_needs_a_gradient_needs_one_afterwards() -> None:
    run = Losses([1.0, 1.0])
    (parameter,) = run.parameters
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: parameter.requires_grad_(False))

    run.find()

    assert parameter.requires_grad


class Meddling:
    """Something whose loading changes an optimizer."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.loaded = 0

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loaded += 1
        self.optimizer.param_groups[0]["lr"] = 5.0


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_objects_may_be_nested_and_the_optimizer_comes_last() -> None:
    run = Losses([1.0, 1.0])
    others = [Meddling(run.optimizer), Meddling(run.optimizer)]
    to_save = {"optimizer": run.optimizer, "others": others, "trainer": run.trainer}

    with FastaiLRFinder().attach(run.trainer, to_save) as trainer:
        trainer.run(run.data)

    assert [one.loaded for one in others] == [1, 1]
    assert run.optimizer.param_groups[0]["lr"] == 0.1
    assert run.trainer.state.iteration == 0


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_who_holds_a_parameter_group_or_the_state_of_the_trainer_holds_the_right_one_afterwards() -> None:
    run = Losses([1.0, 1.0])
    group, state, defaults = run.optimizer.param_groups[0], run.trainer.state, run.optimizer.state
    run.trainer.state.mine = [1]

    run.find()

    assert run.optimizer.param_groups[0] is group
    assert run.optimizer.state is defaults
    assert run.trainer.state is state
    assert state.mine == [1]


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_attributes_that_appear_in_the_run_are_gone_and_those_of_the_user_are_there_inside() -> None:
    run = Losses([1.0, 1.0])
    run.trainer.state.alpha = 0.5
    seen = []

    @run.trainer.on(Events.ITERATION_COMPLETED)
    def change(engine: Engine) -> None:
        seen.append(engine.state.alpha)
        engine.state.alpha += 1
        engine.state.found = True

    run.find()

    assert seen == [0.5, 1.5]
    assert run.trainer.state.alpha == 0.5
    assert not hasattr(run.trainer.state, "found")


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_what_is_frozen_stays_frozen() -> None:
    layer = nn.Linear(1, 1)
    run = Losses([1.0, 1.0])
    freeze = Freeze(layer, until=Events.EPOCH_COMPLETED(once=1))
    freeze.attach(run.trainer)
    finder = FastaiLRFinder()

    with finder.attach(run.trainer, {"optimizer": run.optimizer, "freeze": freeze}) as trainer:
        trainer.run(run.data)
        assert not freeze.is_frozen

    assert freeze.is_frozen
    assert not layer.weight.requires_grad


class Streaming:
    """Data that know their own place."""

    def __init__(self) -> None:
        self.place = 0

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[float]:
        for _ in range(3):
            self.place += 1
            yield 1.0

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


@pytest.mark.filterwarnings(NOT_DIVERGED)
def test_data_that_know_their_place_stand_where_they_stood() -> None:
    run, data = Losses([]), Streaming()
    data.place = 17
    with FastaiLRFinder().attach(run.trainer, {"optimizer": run.optimizer}) as trainer:
        trainer.run(data)
        assert data.place > 17

    assert data.place == 17


def test_a_module_with_state_of_its_own_kind_and_buffers_that_are_not_saved_are_put_back() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.register_buffer("hidden", torch.ones(1), persistent=False)
            self.extra = {"scale": 1.0}

        def get_extra_state(self) -> Any:
            return self.extra

        def set_extra_state(self, state: Any) -> None:
            self.extra = state

    model = Odd().eval()
    model.weight.grad = torch.full((1,), 3.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine: Engine, batch: float) -> float:
        model.train()
        model.hidden = model.hidden + 1
        model.extra["scale"] += 1
        optimizer.zero_grad()
        model.weight.sum().backward()
        optimizer.step()
        return batch

    gradient = model.weight.grad
    with (
        pytest.warns(UserWarning, match="not diverged"),
        FastaiLRFinder().attach(Engine(step), {"optimizer": optimizer, "model": model}) as trainer,
    ):
        trainer.run([1.0, 1.0])

    assert (model.weight.item(), model.hidden.item(), model.extra, model.training) == (1.0, 1.0, {"scale": 1.0}, False)
    assert model.weight.grad is gradient
    assert gradient.item() == 3.0


# ------------------------------------------------------------------------------------------------------ ranks, errors


def find_on_ranks() -> tuple[list[float], int]:
    losses = [4.0, 2.0, 1.0, 9.0, 1.0] if idist.get_rank() == 0 else [2.0, 2.0, 1.0, 30.0, 1.0]
    run = Losses(losses)
    finder = run.find(smooth_f=0, diverge_th=10.0)
    return finder.get_results()["loss"], len(run.lrs)


def test_the_loss_is_the_mean_over_the_ranks_and_they_stop_together() -> None:
    assert run_distributed(find_on_ranks) == [([3.0, 2.0, 1.0, 19.5], 4)] * 2


RUN = Losses([1.0])
OPTIMIZER = {"optimizer": RUN.optimizer}


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"trainer": 3}, TypeError, "trainer must be an Engine, got 3"),
        ({"to_save": 3}, TypeError, "must be a mapping of names to them, got int"),
        ({"to_save": {**OPTIMIZER, "model": 3}}, TypeError, r"'model' must have a method state_dict\(\), got int"),
        ({"to_save": {"model": nn.Linear(1, 1)}}, ValueError, r"must have the key 'optimizer', got \['model'\]"),
        ({"to_save": {"optimizer": nn.Linear(1, 1)}}, TypeError, "optimizer must be a torch.optim.Optimizer, got"),
        ({"output_transform": 3}, TypeError, "output_transform must be callable, got 3"),
        ({"num_iter": 0}, ValueError, "num_iter must be at least 1, got 0"),
        ({"num_iter": 1.5}, TypeError, "num_iter must be an integer, got 1.5"),
        ({"start_lr": "1"}, TypeError, "start_lr must be a number, got '1'"),
        ({"start_lr": 0.0}, ValueError, "start_lr must be above 0, got 0.0"),
        ({"start_lr": [1.0, 2.0]}, ValueError, r"a value for each of 1 parameter groups, got \[1.0, 2.0\]"),
        ({"end_lr": 0.1}, ValueError, "start_lr must be below end_lr, got 0.1 and 0.1"),
        ({"step_mode": "log"}, ValueError, r"step_mode must be one of \['exp', 'linear'\], got 'log'"),
        ({"smooth_f": 1.0}, ValueError, "smooth_f must be below 1, got 1.0"),
        ({"smooth_f": -0.1}, ValueError, "smooth_f must be at least 0, got -0.1"),
        ({"diverge_th": 0.5}, ValueError, "diverge_th must be at least 1, got 0.5"),
    ],
)
def test_wrong_arguments_are_told_and_nothing_is_attached(
    arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    before = str(RUN.trainer)
    with (
        pytest.raises(error, match=told),
        FastaiLRFinder().attach(**{"trainer": RUN.trainer, "to_save": OPTIMIZER, **arguments}),
    ):
        pytest.fail("it was attached")

    assert str(RUN.trainer) == before


def test_a_finder_serves_one_block_at_a_time_and_no_trainer_that_runs() -> None:
    finder = FastaiLRFinder()
    nested: Callable[[], Any] = lambda: finder.attach(RUN.trainer, OPTIMIZER).__enter__()  # noqa: E731
    with finder.attach(RUN.trainer, OPTIMIZER), pytest.raises(RuntimeError, match="already attached, or the trainer"):
        nested()
    run = Losses([1.0])
    run.trainer.add_event_handler(Events.STARTED, lambda: run.find())
    with pytest.raises(RuntimeError, match="or the trainer is running"):
        run.trainer.run(run.data)

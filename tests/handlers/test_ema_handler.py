"""The average follows the model by the formula, whatever the model is made of, and is swapped in and out exactly."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events, StepEvents, create_supervised_evaluator, create_supervised_trainer
from ignite_core.handlers import SWA, EMAHandler
from ignite_core.handlers.averaging._pairs import Pairs
from ignite_core.handlers.averaging.ema_handler import EMAWarmUp
from ignite_core.testing import run_distributed

theirs = pytest.importorskip("ignite.handlers")
their_engine = pytest.importorskip("ignite.engine")


class Model(nn.Module):
    """Parameters that are shared, frozen, of two dtypes; buffers of three kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.tied = self.one
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.wide = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("hidden", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.one(x)) + self.wide.float()


def make() -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model()


def walk(model: nn.Module, number: int) -> None:
    """Move all parameters and buffers of a model somewhere else."""
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor += torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
            else:
                tensor += number


def walking(model: nn.Module, engines: Any = None) -> Any:
    made = Engine if engines is None else engines.Engine
    return made(lambda engine, batch: walk(model, batch))


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in [*model.named_parameters(), *model.named_buffers()]}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# --------------------------------------------------------------------------------------------------------- updating


def test_parameters_follow_by_the_formula() -> None:
    model = make()
    ema = EMAHandler(model, momentum=0.25)
    expected = tensors(model)
    trainer = walking(model)
    ema.attach(trainer)

    @trainer.on(Events.ITERATION_COMPLETED)
    def follow() -> None:
        for name, parameter in model.named_parameters():
            expected[name] = 0.75 * expected[name] + 0.25 * parameter.detach()

    trainer.run(range(1, 6))

    for name, parameter in ema.ema_model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-6, atol=1e-6)
        assert not parameter.requires_grad
    assert ema.ema_model.tied is ema.ema_model.one
    assert model.one.weight.requires_grad


@pytest.mark.parametrize("mode", ["copy", "update", "ema_train"])
def test_buffers_are_copied_averaged_or_left_alone(mode: Any) -> None:
    model = make()
    ema = EMAHandler(model, momentum=0.25, handle_buffers=mode)
    before = tensors(model)
    trainer = walking(model)
    ema.attach(trainer)
    trainer.run([1])
    after = tensors(model)

    mean, hidden, count = (getattr(*place) for place in _buffers_of(ema.ema_model))

    share = {"copy": 1.0, "update": 0.25, "ema_train": 0.0}[mode]
    for value, name in ((mean, "norm.running_mean"), (hidden, "hidden")):
        torch.testing.assert_close(value, (1 - share) * before[name] + share * after[name])
    assert count == (0 if mode == "ema_train" else 1)
    assert ema.ema_model.training is (mode == "ema_train")
    assert mean.data_ptr() != model.norm.running_mean.data_ptr()


def _buffers_of(model: Any) -> list[tuple[Any, str]]:
    return [(model.norm, "running_mean"), (model, "hidden"), (model.norm, "num_batches_tracked")]


@pytest.mark.parametrize("mode", ["copy", "update", "ema_train"])
@pytest.mark.parametrize(
    "warm_up", [{}, {"momentum_warmup": 0.5, "warmup_iters": 4}, {"momentum_warmup": 0.01, "warmup_iters": 1}]
)
def test_the_average_is_that_of_pytorch_ignite(mode: Any, warm_up: dict[str, Any]) -> None:
    averages, momenta = [], []
    for engines, handlers in ((None, None), (their_engine, theirs)):
        model = make()
        handler: Any = EMAHandler if handlers is None else handlers.EMAHandler
        ema = handler(model, momentum=0.1, handle_buffers=mode, **warm_up)
        trainer = walking(model, engines)
        ema.attach(trainer)
        seen: list[float] = []
        events = Events if engines is None else engines.Events
        trainer.add_event_handler(
            events.ITERATION_COMPLETED, lambda engine, seen=seen: seen.append(engine.state.ema_momentum)
        )
        trainer.run(range(1, 7))
        averages.append(tensors(ema.ema_model))
        momenta.append(seen)

    assert momenta[0] == pytest.approx(momenta[1], rel=1e-12)
    for name, value in averages[0].items():
        torch.testing.assert_close(value, averages[1][name], rtol=1e-6, atol=1e-6)


def test_two_averages_with_warm_up_have_their_own_momentum() -> None:
    """In pytorch-ignite the warm-up writes to ``ema_momentum`` whatever name was given."""
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    trainer = Engine(lambda engine, batch: None)
    EMAHandler(one, 0.1, momentum_warmup=0.5, warmup_iters=3).attach(trainer, "one")
    EMAHandler(other, 0.2, momentum_warmup=0.9, warmup_iters=2).attach(trainer, "other", event=Events.EPOCH_COMPLETED)

    assert (trainer.state.one, trainer.state.other) == (0.5, 0.9)
    trainer.run([0, 0])

    assert (trainer.state.one, trainer.state.other) == (pytest.approx(0.3), 0.9)
    assert not hasattr(trainer.state, "ema_momentum")


def test_the_momentum_on_the_state_rules_where_there_is_no_warm_up() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = EMAHandler(model, momentum=0.5)
    trainer = Engine(lambda engine, batch: nn.init.constant_(model.weight, 1.0))
    ema.attach(trainer)
    nn.init.constant_(ema.ema_model.weight, 0.0)
    trainer.state.ema_momentum = 0.125

    trainer.run([0])

    assert ema.ema_model.weight.item() == 0.125


def test_an_attribute_that_is_there_already_is_told_and_used() -> None:
    trainer = Engine(lambda engine, batch: None)
    trainer.state.ema_momentum = 0.5

    with pytest.warns(UserWarning, match="already has an attribute 'ema_momentum'"):
        EMAHandler(nn.Linear(1, 1)).attach(trainer)
    EMAHandler(nn.Linear(1, 1)).attach(trainer, warn_if_exists=False)

    assert trainer.state.ema_momentum == 0.5


@pytest.mark.parametrize("change", ["parameter", "submodule", "dtype", "buffer", "larger buffer", "assigned average"])
def test_tensors_that_were_replaced_are_found(change: str) -> None:
    model = make()
    ema = EMAHandler(model, momentum=0.25, handle_buffers="update")
    trainer = walking(model)
    ema.attach(trainer)
    trainer.run([1])

    if change == "parameter":
        model.one.weight = nn.Parameter(torch.full((2, 2), 7.0))
    elif change == "submodule":
        model.tied = model.one = nn.Linear(2, 2)
    elif change == "dtype":
        model.wide = nn.Parameter(model.wide.detach().to(torch.float32))
    elif change == "buffer":
        model.hidden = torch.full((2,), 5.0)
    elif change == "larger buffer":
        model.hidden = torch.full((3,), 5.0)
    else:
        ema.ema_model.load_state_dict(copy.deepcopy(ema.ema_model.state_dict()), assign=True)
    before = tensors(ema.ema_model)
    trainer.run([2])

    after, online = tensors(ema.ema_model), tensors(model)
    for name in after:
        if change == "larger buffer" and name == "hidden":
            torch.testing.assert_close(after[name], online[name])
        elif after[name].is_floating_point():
            expected = 0.75 * before[name] + 0.25 * online[name].to(before[name])
            torch.testing.assert_close(after[name], expected, rtol=1e-6, atol=1e-6)


def test_a_tensor_that_is_the_last_of_all_is_missed_too() -> None:
    model, average = nn.Sequential(nn.Linear(1, 1)), nn.Sequential(nn.Linear(1, 1))
    pairs = Pairs("here", model, average)
    assert pairs.are_current()

    average[0].more = nn.Sequential()  # comes after everything
    assert not pairs.are_current()
    del average[0].more
    assert pairs.are_current()


def test_a_model_that_has_other_parameters_than_its_average_is_refused() -> None:
    model = nn.Linear(2, 1)
    trainer = walking(model)
    EMAHandler(model).attach(trainer)
    model.more = nn.Linear(1, 1)

    with pytest.raises(ValueError, match=r"differ in \['more.weight', 'more.bias'\]: make a new EMAHandler"):
        trainer.run([1])


def test_wrappers_are_taken_off_but_for_data_parallel_as_in_pytorch_ignite() -> None:
    model = nn.Linear(2, 1)

    assert EMAHandler(torch.compile(model, backend="eager")).model is model
    parallel = EMAHandler(nn.DataParallel(model))
    assert isinstance(parallel.ema_model, nn.DataParallel)
    assert list(parallel.state_dict()["ema_model"]) == ["weight", "bias"]


def test_an_update_makes_no_copy_of_the_weights() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    ema = EMAHandler(model, momentum=0.5)
    trainer = walking(model)
    ema.attach(trainer)
    places = [parameter.data_ptr() for parameter in ema.ema_model.parameters()]

    trainer.run([1, 2, 3])

    assert places == [parameter.data_ptr() for parameter in ema.ema_model.parameters()]


# ------------------------------------------------------------------------------------------------------- swapping in


def averaged(**options: Any) -> tuple[Model, EMAHandler, Engine]:
    model = make()
    ema = EMAHandler(model, momentum=0.25, **options)
    trainer = walking(model)
    ema.attach(trainer)
    trainer.run([1, 2, 3])
    return model, ema, trainer


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("mode", ["copy", "update", "ema_train"])
def test_weights_and_buffers_are_swapped_in_and_back_bit_for_bit(mode: Any, raises: bool) -> None:
    model, ema, _ = averaged(handle_buffers=mode)
    own, average = tensors(model), tensors(ema.ema_model)

    try:
        with ema.swapped_in() as inside:
            assert inside is model
            assert_same(tensors(model), average)
            if raises:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert raises

    assert_same(tensors(model), own)
    assert_same(tensors(ema.ema_model), average)
    assert model.one.weight.requires_grad


@pytest.mark.parametrize("raises", [False, True])
def test_an_evaluator_sees_the_average_and_the_trainer_does_not(raises: bool) -> None:
    model, ema, _ = averaged()
    own, average = tensors(model), tensors(ema.ema_model)
    evaluator = create_supervised_evaluator(model)
    ema.swap_in_during(evaluator)
    seen = []

    @evaluator.on(Events.STARTED | Events.COMPLETED)
    def look() -> None:
        seen.append(tensors(model))
        if raises and len(seen) == 2:
            raise ValueError("at the end")

    for run in range(2):
        if raises and run == 0:
            with pytest.raises(ValueError, match="at the end"):
                evaluator.run([(torch.ones(2, 2), torch.ones(2))])
        else:
            evaluator.run([(torch.ones(2, 2), torch.ones(2))])
        assert_same(tensors(model), own)

    assert len(seen) == 4
    for one in seen:
        assert_same(one, average)


@pytest.mark.parametrize("kind", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("at", range(8))
def test_an_exchange_that_fails_half_way_is_undone(
    kind: type[BaseException], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ema, _ = averaged()
    own, average = tensors(model), tensors(ema.ema_model)
    copy_, calls = Tensor.copy_, itertools.count()

    def failing(one: Tensor, other: Tensor) -> Tensor:
        """Ctrl-C comes before or after the call."""
        if at % 2:
            copy_(one, other)
        if next(calls) == at // 2:
            raise kind
        return one if at % 2 else copy_(one, other)

    with monkeypatch.context() as patched:
        patched.setattr(Tensor, "copy_", failing)
        with pytest.raises(kind), ema.swapped_in():
            pass

    assert_same(tensors(model), own)
    assert_same(tensors(ema.ema_model), average)
    with ema.swapped_in():
        assert_same(tensors(model), average)


def test_ctrl_c_while_they_are_swapped_back_leaves_the_model_its_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ema, _ = averaged()
    own, average = tensors(model), tensors(ema.ema_model)
    copy_, pressed = Tensor.copy_, iter([False, True])

    def press(one: Tensor, other: Tensor) -> Tensor:
        if next(pressed, False):
            raise KeyboardInterrupt
        return copy_(one, other)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt), ema.swapped_in():
        patched.setattr(Tensor, "copy_", press)

    assert_same(tensors(model), own)
    assert_same(tensors(ema.ema_model), average)


def test_what_would_go_wrong_while_they_are_swapped_in_is_refused() -> None:
    model, ema, trainer = averaged()

    with ema.swapped_in():
        with pytest.raises(RuntimeError, match=r"EMAHandler.update: the averaged weights are swapped in"):
            trainer.run([4])
        with pytest.raises(RuntimeError, match=r"EMAHandler.state_dict: the averaged weights are swapped in"):
            ema.state_dict()
        with pytest.raises(RuntimeError, match=r"EMAHandler.load_state_dict"):
            ema.load_state_dict({})
        with pytest.raises(RuntimeError, match=r"EMAHandler.swapped_in"), ema.swapped_in():
            pass
    model.half()
    with (
        pytest.raises(TypeError, match=r"float32 cannot be swapped in for weights of torch\.float16"),
        ema.swapped_in(),
    ):
        pass


# --------------------------------------------------------------------------------------------------- save and resume


def test_what_was_saved_goes_on_with_the_momentum_of_the_warm_up() -> None:
    options = {"momentum_warmup": 0.9, "warmup_iters": 6}
    model, ema, _ = averaged(**options)
    saved = copy.deepcopy(ema.state_dict())
    assert saved["event_index"] == 3

    other = EMAHandler(model, momentum=0.25, **options)
    other.load_state_dict(saved)
    assert_same(tensors(other.ema_model), {**tensors(ema.ema_model), "hidden": tensors(other.ema_model)["hidden"]})
    for handler in (ema, other):
        trainer = walking(model)
        handler.attach(trainer, "momentum")
        assert trainer.state.momentum == pytest.approx(0.9 - 0.65 * 2 / 5)
    assert isinstance(ema.momentum_scheduler, EMAWarmUp)
    assert ema.momentum_scheduler.state_dict() == {"event_index": 3}


def test_without_warm_up_there_are_the_model_and_the_updates() -> None:
    _, ema, _ = averaged()

    assert list(ema.state_dict()) == ["ema_model", "updates"]
    assert ema.momentum_scheduler is None


# ------------------------------------------------------------------------------------------------- where it begins


def scalar(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def weighing(model: nn.Linear) -> Engine:
    """An evaluator that returns the weight."""
    return Engine(lambda engine, batch: model.weight.item())


def test_before_the_first_update_the_model_itself_is_evaluated() -> None:
    model = scalar(0.0)
    ema = EMAHandler(model, momentum=0.5)
    trainer, evaluator = Engine(lambda engine, batch: nn.init.constant_(model.weight, batch)), weighing(model)
    ema.attach(trainer, event=Events.ITERATION_COMPLETED(after=2))
    ema.swap_in_during(evaluator)

    assert evaluator.run([0]).output == 0
    trainer.run([4.0, 5.0])
    assert evaluator.run([0]).output == 5
    trainer.run([6.0, 7.0], max_epochs=2)  # it begins with 6, not with 0
    assert evaluator.run([0]).output == ema.ema_model.weight.item() == 6.5


@pytest.mark.parametrize("loads_at", ["once", Events.STARTED])
def test_weights_that_are_loaded_after_it_was_made_are_what_it_begins_with(loads_at: Any) -> None:
    model = scalar(0.0)
    ema = EMAHandler(model, momentum=0.5)
    trainer = Engine(lambda engine, batch: nn.init.constant_(model.weight, batch))
    ema.attach(trainer)
    if loads_at == "once":
        model.load_state_dict(scalar(4.0).state_dict())
    else:
        trainer.add_event_handler(loads_at, lambda: model.load_state_dict(scalar(4.0).state_dict()))
    trainer.run([8.0])

    assert ema.ema_model.weight.item() == 6  # of the weights before the first step and after it


@pytest.mark.parametrize("assign", [True, False])
def test_an_average_that_was_loaded_by_itself_is_not_forgotten(assign: bool) -> None:
    """As programs for pytorch-ignite save it: ``{"model": model, "ema_model": ema.ema_model}``."""
    model = scalar(4.0)
    ema = EMAHandler(model, momentum=0.5)
    ema.ema_model.load_state_dict(scalar(2.0).state_dict(), assign=assign)
    trainer, evaluator = Engine(lambda engine, batch: None), weighing(model)
    ema.attach(trainer)
    ema.swap_in_during(evaluator)

    assert evaluator.run([0]).output == 2
    trainer.run([0])
    assert ema.ema_model.weight.item() == 3


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_it_is_the_same_if_it_is_cut_before_or_after_its_first_update(cut: int) -> None:
    def build() -> tuple[nn.Linear, EMAHandler, Engine, Engine]:
        model = scalar(0.0)
        ema = EMAHandler(model, momentum=0.5)
        trainer = Engine(lambda engine, batch: nn.init.constant_(model.weight, batch))
        evaluator = weighing(model)
        ema.attach(trainer, event=Events.ITERATION_COMPLETED(every=2))
        ema.swap_in_during(evaluator)
        return model, ema, trainer, evaluator

    data = [1.0, 2.0, 4.0, 8.0]
    _, _, trainer, evaluator = build()
    trainer.run(data, seed=0)
    whole = evaluator.run([0]).output
    model, ema, trainer, evaluator = build()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=cut), trainer.terminate)
    trainer.run(data, seed=0)
    at_cut = evaluator.run([0]).output
    saved = [copy.deepcopy(one.state_dict()) for one in (model, ema, trainer)]
    model, ema, trainer, evaluator = build()
    for one, state in zip((model, ema, trainer), saved, strict=True):
        one.load_state_dict(state)

    assert evaluator.run([0]).output == at_cut
    trainer.run(data)
    assert evaluator.run([0]).output == whole


@pytest.mark.parametrize("averages", ["ema", "swa"])
def test_the_copy_holds_what_the_model_does_until_there_is_an_average(averages: str) -> None:
    """As an evaluator of ``ema_model`` sees it."""
    model, seen = scalar(0.0), []
    trainer = Engine(lambda engine, batch: nn.init.constant_(model.weight, engine.state.epoch))
    handler: Any = EMAHandler(model, momentum=0.5) if averages == "ema" else SWA(model)
    handler.attach(trainer, event=Events.EPOCH_COMPLETED(after=2))
    held = handler.ema_model if averages == "ema" else handler.swa_model.module
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(held.weight.item()))
    nn.init.constant_(model.weight, 9.0)
    trainer.add_event_handler(Events.EPOCH_STARTED(once=1), lambda: seen.append(held.weight.item()))
    trainer.run([0], max_epochs=4)

    assert seen == [9, 1, 2, 3, 3.5]


def test_a_state_without_the_count_of_updates_is_an_average() -> None:
    model = scalar(4.0)
    ema = EMAHandler(model)
    ema.load_state_dict({"ema_model": scalar(2.0).state_dict()})
    with ema.swapped_in():
        assert model.weight.item() == 2


@pytest.mark.parametrize(
    ("make", "dtype", "warns"),
    [
        (EMAHandler, torch.bfloat16, True),
        (EMAHandler, torch.float16, True),
        (EMAHandler, torch.float32, False),
        (lambda model: EMAHandler(model, momentum=0.5), torch.bfloat16, False),
        (SWA, torch.bfloat16, True),
        (SWA, torch.float32, False),
    ],
)
def test_an_average_that_rounding_holds_is_told(make: Any, dtype: torch.dtype, warns: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(nn.Linear(1, 1).to(dtype))
    told = [str(one.message) for one in caught]
    assert len(told) == warns
    assert all(f"{dtype} rounds most small updates to zero; keep the weights in float32" in one for one in told)


# ------------------------------------------------------------------------------------------------ accumulation, ranks


def test_accumulated_batches_make_one_update_at_the_event_of_the_optimizer_step() -> None:
    def train(accumulation: int, batches: list[Any]) -> Tensor:
        model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        nn.init.constant_(model.weight, 0.5)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = create_supervised_trainer(
            model, optimizer, nn.functional.mse_loss, gradient_accumulation_steps=accumulation
        )
        ema = EMAHandler(model, momentum=0.25)
        ema.attach(trainer, event=StepEvents.OPTIM_STEP_COMPLETED)
        trainer.run(batches)
        return ema.ema_model.weight.detach()

    x = torch.arange(1.0, 11.0, dtype=torch.float64).reshape(10, 1)
    small = [(part, -part) for part in x.split(2)]
    large = [(part, -part) for part in x.split(4)]

    torch.testing.assert_close(train(2, small), train(1, large), rtol=0, atol=1e-12)


def average_on_ranks() -> tuple[list[Tensor], bool]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inner = nn.Linear(3, 1)
    model = DistributedDataParallel(inner)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss)
    ema = EMAHandler(model, momentum=0.25)
    ema.attach(trainer)
    generator = torch.Generator().manual_seed(idist.get_rank())
    batch = [(torch.randn(4, 3, generator=generator), torch.randn(4, 1, generator=generator)) for _ in range(4)]
    trainer.run(batch)
    return [one.detach() for one in ema.ema_model.parameters()], type(ema.ema_model) is nn.Linear


def test_all_ranks_have_the_same_average_of_the_model_inside_ddp() -> None:
    (one, is_inner), (other, _) = run_distributed(average_on_ranks)

    assert is_inner
    assert all(map(torch.equal, one, other))


# ----------------------------------------------------------------------------------------------------------- errors

LINEAR = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: EMAHandler(3), TypeError, "model must be a torch.nn.Module, got 3"),
        (lambda: EMAHandler(LINEAR, momentum=0), ValueError, "momentum must be above 0, got 0"),
        (lambda: EMAHandler(LINEAR, momentum=1), ValueError, "momentum must be below 1, got 1"),
        (lambda: EMAHandler(LINEAR, momentum=True), TypeError, "momentum must be a number, got True"),
        (lambda: EMAHandler(LINEAR, momentum_warmup=0.5), ValueError, "go together, got 0.5 and None"),
        (lambda: EMAHandler(LINEAR, 0.5, 1.5, 3), ValueError, "momentum_warmup must be below 1, got 1.5"),
        (lambda: EMAHandler(LINEAR, 0.5, 0.5, 0), ValueError, "warmup_iters must be at least 1, got 0"),
        (lambda: EMAHandler(LINEAR, handle_buffers="no"), ValueError, r"one of \['copy', 'update', 'ema_train'\]"),
        (lambda: EMAHandler(LINEAR).attach(3), TypeError, "engine must be an Engine, got 3"),
        (lambda: EMAHandler(LINEAR).attach(Engine(print), 3), TypeError, "name must be a string, got 3"),
        (lambda: EMAHandler(LINEAR).swap_in_during(3), TypeError, "evaluator must be an Engine, got 3"),
        (lambda: EMAHandler(LINEAR).load_state_dict({}), ValueError, r"'ema_model' is missing, got \[\]"),
        (lambda: EMAHandler(LINEAR).load_state_dict(3), TypeError, "must be a mapping, got int"),
        (lambda: EMAWarmUp(0.1, 2, 0.2).load_state_dict({}), ValueError, "'event_index' is missing"),
    ],
)
def test_wrong_arguments_are_told(call: Callable[[], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        call()

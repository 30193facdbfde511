"""What is logged, and at which step: the same for every back-end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from ignite_core.engine import Engine, EventEnum, Events
from ignite_core.handlers import (
    BaseLogger,
    FigureHandler,
    GradsHistHandler,
    GradsScalarHandler,
    ImageHandler,
    LogHandler,
    OptimizerParamsHandler,
    OutputHandler,
    TextHandler,
    WeightsHistHandler,
    WeightsScalarHandler,
    global_step_from_engine,
)
from ignite_core.metrics import RunningAverage


class Book(BaseLogger):
    """Writes everything down."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, Any]]] = []

    def scalars(self, step: int, values: Mapping[tuple[str, ...], Any]) -> None:
        self.rows.append((step, {"/".join(key): value for key, value in values.items()}))

    histograms = images = figures = texts = scalars


class TextBook(Book):
    takes_text = True


def logged(handler: LogHandler, output: Any = None, book: Book | None = None, **state: Any) -> dict[str, Any]:
    """What a handler logs at the end of an iteration with this output and state."""
    engine, book = Engine(lambda engine, batch: output), book or Book()
    for name, value in state.items():
        setattr(engine.state, name, value)
    book.attach(engine, handler, Events.ITERATION_COMPLETED)
    engine.run([0])
    return book.rows[0][1] if book.rows else {}


def metrics(**values: Any) -> dict[str, Any]:
    return {"metrics": values}


# --- OutputHandler ---


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (0.5, {"tag/output": 0.5}),
        (3, {"tag/output": 3}),
        (torch.tensor(0.5), {"tag/output": 0.5}),
        (torch.tensor([[0.5]]), {"tag/output": 0.5}),
        (torch.tensor([0.5, 0.25]), {"tag/output/0": 0.5, "tag/output/1": 0.25}),
        ((1, 2.5), {"tag/output/0": 1, "tag/output/1": 2.5}),
        ({"loss": {"d": 1, "g": [2, 3]}}, {"tag/loss/d": 1, "tag/loss/g/0": 2, "tag/loss/g/1": 3}),
        ({3: 1.0}, {"tag/3": 1.0}),
        (torch.tensor(0.5, requires_grad=True), {"tag/output": 0.5}),
        (torch.tensor(2.5, dtype=torch.bfloat16), {"tag/output": 2.5}),
        (True, {"tag/output": True}),
        (torch.empty(0), {}),
        ({}, {}),
    ],
    ids=repr,
)
def test_an_output_is_logged_number_by_number(output: Any, expected: dict[str, Any]) -> None:
    assert logged(OutputHandler("tag", output_transform=lambda output: output), output) == expected


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_numbers(number: float) -> None:
    found = logged(OutputHandler("tag", output_transform=lambda output: output), torch.tensor(number))

    assert str(found["tag/output"]) == str(number)


def test_arrays_of_numpy_are_logged_as_tensors_are() -> None:
    numpy = pytest.importorskip("numpy")
    output = {"vector": numpy.array([0.5, 0.25]), "number": numpy.float32(0.125), "whole": numpy.int64(3)}

    found = logged(OutputHandler("tag", output_transform=lambda output: output), output)

    assert found == {"tag/vector/0": 0.5, "tag/vector/1": 0.25, "tag/number": 0.125, "tag/whole": 3}
    assert {type(value) for value in found.values()} == {float, int}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(torch.ones(2, 2), "a tensor of shape (2, 2)"), (object, "of type type"), (None, "None of type NoneType")],
    ids=["matrix", "class", "None"],
)
def test_what_is_no_number_is_warned_of_once_and_the_rest_is_logged(value: Any, shown: str) -> None:
    engine, book = Engine(lambda engine, batch: {"bad": value, "good": batch}), Book()
    handler = OutputHandler("tag", output_transform=lambda output: output)
    book.attach(engine, handler, Events.ITERATION_COMPLETED)

    with pytest.warns(
        UserWarning, match=r"OutputHandler: 'tag/bad' must be a number or a tensor with one element, got"
    ) as warned:
        engine.run([1, 2])
    assert len(warned) == 1
    assert shown in str(warned[0].message)
    assert book.rows == [(1, {"tag/good": 1}), (2, {"tag/good": 2})]


def test_text_goes_where_text_is_taken() -> None:
    handler = OutputHandler("tag", output_transform=lambda output: output)

    assert logged(handler, {"note": "a", "loss": 1}, TextBook()) == {"tag/note": "a", "tag/loss": 1}
    with pytest.warns(UserWarning, match="'tag/note' must be a number"):
        assert logged(handler, {"note": "a", "loss": 1}) == {"tag/loss": 1}


def test_metrics_are_logged_by_name() -> None:
    state = metrics(loss=0.5, recall=torch.tensor([0.25, 0.75]), rest=1)

    assert logged(OutputHandler("tag", ["loss", "recall"]), **state) == {
        "tag/loss": 0.5,
        "tag/recall/0": 0.25,
        "tag/recall/1": 0.75,
    }
    assert list(logged(OutputHandler("tag", "all"), **state)) == [
        "tag/loss",
        "tag/recall/0",
        "tag/recall/1",
        "tag/rest",
    ]


def test_a_missing_metric_is_warned_of_once() -> None:
    engine, book = Engine(lambda engine, batch: batch), Book()
    engine.state.metrics["loss"] = 0.5
    book.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="tag", metric_names=["los", "loss"])

    with pytest.warns(UserWarning, match=r"the engine has no metric 'los', its metrics are \['loss'\]") as warned:
        engine.run([1, 2])
    assert len(warned) == 1
    assert book.rows == [(1, {"tag/loss": 0.5}), (2, {"tag/loss": 0.5})]


def test_attributes_of_the_state_are_logged() -> None:
    handler = OutputHandler("tag", state_attributes=["alpha", "pair"])

    assert logged(handler, alpha=0.5, pair=(1, 2)) == {"tag/alpha": 0.5, "tag/pair/0": 1, "tag/pair/1": 2}


@pytest.mark.parametrize("tag", ["", None])
def test_without_a_tag_names_stand_alone(tag: Any) -> None:
    assert logged(OutputHandler(tag, output_transform=lambda output: {"loss": 1})) == {"loss": 1}


def test_a_metric_that_is_attached_later_is_there_already() -> None:
    engine, book = Engine(lambda engine, batch: batch), Book()
    book.attach_output_handler(engine, Events.ITERATION_COMPLETED, tag="tag", metric_names=["loss"])
    RunningAverage(alpha=0.5, output_transform=lambda output: output).attach(engine, "loss")
    engine.run([4.0, 2.0])

    assert book.rows == [(1, {"tag/loss": 4.0}), (2, {"tag/loss": 3.0})]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tag": 3, "metric_names": "all"}, TypeError, "OutputHandler: tag must be a string, got 3"),
        ({"tag": "a"}, ValueError, "give metric_names, output_transform or state_attributes, got none of them"),
        ({"tag": "a", "metric_names": "loss"}, TypeError, "metric_names must be a list of names, or 'all', got 'loss'"),
        ({"tag": "a", "output_transform": 3}, TypeError, "output_transform must be callable, got 3"),
        (
            {"tag": "a", "metric_names": "all", "global_step_transform": 3},
            TypeError,
            "global_step_transform must be callable, got 3",
        ),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        OutputHandler(**arguments)


# --- values on a device ---


class Away(torch.Tensor):
    """A tensor that stands for one on a device, and tells whoever reads it that this takes time."""

    reads: list[str]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.Tensor.is_cpu.__get__:
            return False
        if func in (torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.__float__, torch.Tensor.__bool__):
            Away.reads.append(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.fixture
def reads() -> list[str]:
    Away.reads = []
    return Away.reads


def test_a_value_on_a_device_is_handed_over_unread(reads: list[str]) -> None:
    value = torch.tensor(0.5).as_subclass(Away)
    found = logged(OutputHandler("tag", output_transform=lambda output: output), {"loss": value, "pair": [value, 1]})

    assert reads == []
    assert isinstance(found["tag/loss"], torch.Tensor)
    assert found["tag/pair/1"] == 1
    assert found["tag/loss"].item() == 0.5
    assert reads == ["item"], "the count counts"


def test_what_is_handed_over_does_not_change_with_the_tensor(reads: list[str]) -> None:
    value = torch.tensor(0.5).as_subclass(Away)
    found = logged(OutputHandler("tag", output_transform=lambda output: output), value)
    value.fill_(7.0)

    assert found["tag/output"].item() == 0.5


def test_a_reduction_on_a_device_is_not_read_either() -> None:
    model = nn.Linear(2, 1, device="meta")

    found = logged(WeightsScalarHandler(model))

    assert {name: value.device.type for name, value in found.items()} == {
        "weights_norm/weight": "meta",
        "weights_norm/bias": "meta",
    }


# --- optimizers ---


def two_groups() -> torch.optim.Optimizer:
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    return torch.optim.Adam([{"params": [first], "lr": 0.5}, {"params": [second], "lr": 0.25}], betas=(0.5, 0.75))


def test_parameters_of_optimizers_are_logged_by_group() -> None:
    assert logged(OptimizerParamsHandler(two_groups())) == {"lr/group_0": 0.5, "lr/group_1": 0.25}
    assert logged(OptimizerParamsHandler(two_groups(), "lr", tag="g")) == {"g/lr/group_0": 0.5, "g/lr/group_1": 0.25}
    assert logged(OptimizerParamsHandler(two_groups(), "betas"))["betas/group_1/1"] == 0.75


def test_a_learning_rate_that_is_a_tensor_is_a_number() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=torch.tensor(0.5))

    assert logged(OptimizerParamsHandler(optimizer)) == {"lr/group_0": 0.5}


def test_optimizers_are_checked_at_once() -> None:
    with pytest.raises(TypeError, match="optimizer must have param_groups, got int"):
        OptimizerParamsHandler(3)
    with pytest.raises(ValueError, match=r"param_name must be one of \[.*'lr'.*\], got 'learning_rate'"):
        OptimizerParamsHandler(two_groups(), "learning_rate")


# --- weights and gradients ---


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Linear(2, 2)
        self.fc = nn.Linear(2, 1)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 2.0)
        self.fc.weight.grad = torch.full((1, 2), 3.0)


NAMES = ["conv/weight", "conv/bias", "fc/weight", "fc/bias"]


def test_norms_of_weights_are_logged_by_the_name_of_the_parameter() -> None:
    found = logged(WeightsScalarHandler(Net(), tag="model"))

    assert list(found) == [f"model/weights_norm/{name}" for name in NAMES]
    assert found["model/weights_norm/conv/weight"] == 4.0


def test_gradients_are_logged_where_there_are_some() -> None:
    assert logged(GradsScalarHandler(Net(), reduction=torch.max)) == {"grads_max/fc/weight": 3.0}
    assert list(logged(GradsHistHandler(Net(), tag="model"))) == ["model/grads/fc/weight"]


def test_histograms_get_the_tensors() -> None:
    found = logged(WeightsHistHandler(Net()))

    assert list(found) == [f"weights/{name}" for name in NAMES]
    assert torch.equal(found["weights/conv/weight"], torch.full((2, 2), 2.0))
    assert not any(tensor.requires_grad for tensor in found.values())


@pytest.mark.parametrize(
    ("whitelist", "expected"),
    [
        (None, NAMES),
        (["fc"], ["fc/weight", "fc/bias"]),
        (["conv.bias", "fc.weight"], ["conv/bias", "fc/weight"]),
        ([], []),
        (lambda name, parameter: "bias" in name, ["conv/bias", "fc/bias"]),
        (lambda name, parameter: parameter.dim() == 2, ["conv/weight", "fc/weight"]),
    ],
    ids=["all", "prefix", "names", "nothing", "by name", "by parameter"],
)
@pytest.mark.parametrize("kind", [WeightsScalarHandler, WeightsHistHandler])
def test_a_whitelist_chooses_parameters(kind: Any, whitelist: Any, expected: list[str]) -> None:
    found = logged(kind(Net(), whitelist=whitelist))

    assert [name.partition("/")[2] for name in found] == expected


@pytest.mark.parametrize("kind", [WeightsScalarHandler, GradsScalarHandler, WeightsHistHandler, GradsHistHandler])
def test_models_and_whitelists_are_checked_at_once(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__}: model must be a torch.nn.Module, got int"):
        kind(3)
    with pytest.raises(TypeError, match="whitelist must be a list of names, or a function, got a string"):
        kind(Net(), whitelist="fc")


def test_a_reduction_must_make_a_number() -> None:
    with pytest.raises(TypeError, match="reduction must be callable, got 3"):
        WeightsScalarHandler(Net(), reduction=3)
    with pytest.raises(TypeError, match=r"reduction must return a number, got a tensor of shape \(4, 2\)"):
        WeightsScalarHandler(Net(), reduction=lambda tensor: tensor)
    with pytest.raises(TypeError, match="reduction must return a number, got 'a'"):
        GradsScalarHandler(Net(), reduction=lambda tensor: "a")


# --- images, figures, text ---


@pytest.mark.parametrize("kind", [ImageHandler, FigureHandler, TextHandler])
def test_what_a_function_makes_is_logged_one_or_by_name(kind: Any) -> None:
    assert logged(kind("tag", lambda engine: "x")) == {"tag": "x"}
    assert logged(kind("tag", lambda engine: {"a": "x", ("b", "c"): "y"})) == {"tag/a": "x", "tag/b/c": "y"}
    assert logged(kind("tag", lambda engine: None)) == {}
    with pytest.raises(TypeError, match=f"{kind.__name__}: make must be callable with the engine, got 3"):
        kind("tag", 3)


def test_figures_are_closed_when_they_are_logged() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    before = pyplot.get_fignums()

    assert list(logged(FigureHandler("tag", lambda engine: pyplot.figure()))) == ["tag"]
    assert pyplot.get_fignums() == before


# --- steps ---


def steps_of(event: Any, on: str = "trainer", transform: Callable[..., Any] | None = None) -> list[int]:
    """The steps of what is logged in two epochs of three iterations, an evaluation of two batches after each."""
    trainer, evaluator, book = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None), Book()
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0, 0]))
    handler = OutputHandler("tag", output_transform=lambda output: 1, global_step_transform=transform)
    book.attach(trainer if on == "trainer" else evaluator, handler, event)
    trainer.run([0, 0, 0], max_epochs=2)
    return [step for step, _ in book.rows]


@pytest.mark.parametrize(
    ("event", "on", "expected"),
    [
        (Events.ITERATION_COMPLETED, "trainer", [1, 2, 3, 4, 5, 6]),
        (Events.ITERATION_COMPLETED(every=4), "trainer", [4]),
        (Events.ITERATION_STARTED(once=2), "trainer", [2]),
        (Events.EPOCH_COMPLETED, "trainer", [1, 2]),
        (Events.STARTED, "trainer", [0]),
        (Events.COMPLETED, "trainer", [2]),
        (Events.COMPLETED, "evaluator", [1, 2]),
        (Events.EPOCH_COMPLETED, "evaluator", [1, 2]),
        (Events.ITERATION_COMPLETED, "evaluator", [1, 2, 1, 2]),
        (Events.EPOCH_COMPLETED | Events.ITERATION_COMPLETED(once=1), "trainer", [1, 1, 2]),
    ],
    ids=repr,
)
def test_a_step_counts_what_the_event_counts(event: Any, on: str, expected: list[int]) -> None:
    assert steps_of(event, on) == expected


def test_an_evaluation_in_the_middle_of_an_epoch_is_logged_at_the_iteration() -> None:
    trainer, evaluator, book = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None), Book()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda: evaluator.run([0]))
    book.attach_output_handler(evaluator, Events.COMPLETED, tag="tag", output_transform=lambda output: 1)
    trainer.run([0, 0, 0, 0])

    assert [step for step, _ in book.rows] == [2, 4]


def test_an_evaluator_that_nobody_runs_counts_itself() -> None:
    evaluator, book = Engine(lambda engine, batch: None), Book()
    book.attach_output_handler(evaluator, Events.COMPLETED, tag="tag", output_transform=lambda output: 1)
    evaluator.run([0, 0])

    assert [step for step, _ in book.rows] == [1]


class Own(EventEnum):
    SAVED = "saved"


def test_at_an_event_of_ones_own_the_step_is_the_iteration() -> None:
    trainer, book = Engine(lambda engine, batch: None), Book()
    trainer.register_events(*Own)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), lambda: trainer.fire_event(Own.SAVED))
    book.attach_output_handler(trainer, Own.SAVED, tag="tag", output_transform=lambda output: 1)
    trainer.run([0, 0, 0, 0])

    assert [step for step, _ in book.rows] == [2, 4]


def test_ones_own_step_always_wins() -> None:
    counter = iter(range(10, 100))

    assert steps_of(Events.COMPLETED, "evaluator", lambda engine, event: next(counter)) == [10, 11]
    other = Engine(lambda engine, batch: None)
    other.run([0] * 7)
    assert steps_of(Events.ITERATION_COMPLETED(once=1), transform=global_step_from_engine(other)) == [7]


@pytest.mark.parametrize("handler", [OptimizerParamsHandler, WeightsScalarHandler])
def test_every_handler_takes_a_step_of_ones_own(handler: Any) -> None:
    what = two_groups() if handler is OptimizerParamsHandler else Net()
    engine, book = Engine(lambda engine, batch: None), Book()
    book.attach(engine, handler(what, global_step_transform=lambda engine, event: 42), Events.ITERATION_STARTED)
    engine.run([0])

    assert [step for step, _ in book.rows] == [42]


def test_a_step_must_be_an_integer() -> None:
    with pytest.raises(TypeError, match=r"OutputHandler: global_step_transform must return an integer, got 0.5"):
        steps_of(Events.EPOCH_COMPLETED, transform=lambda engine, event: 0.5)


def test_the_step_gets_the_event_that_was_fired() -> None:
    events = []
    steps_of(
        Events.EPOCH_COMPLETED(every=2) | Events.STARTED, transform=lambda engine, event: events.append(event) or 1
    )

    assert events == [Events.STARTED, Events.EPOCH_COMPLETED]
    assert all(getattr(event, "filter", None) is None for event in events)

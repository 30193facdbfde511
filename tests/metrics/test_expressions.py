"""Arithmetic on metrics, functions of them, groups of them, and the events they are attached to."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ignite_core.engine import Engine, Events
from ignite_core.metrics import (
    Accuracy,
    Average,
    Metric,
    MetricGroup,
    MetricsLambda,
    MetricUsage,
    RunningAverage,
    total,
)


class Sum(Metric):
    """The sum of the outputs; it writes down each update."""

    required_output_keys = None
    seen = total()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.updates: list[Any] = []
        super().__init__(*args, **kwargs)

    def update(self, output: Any) -> None:
        self.updates.append(output)
        self.seen += output

    def compute(self) -> Any:
        return self.seen if isinstance(self.seen, torch.Tensor) else float(self.seen)


def of(value: Any) -> Sum:
    metric = Sum()
    metric.update(value)
    return metric


def echo() -> Engine:
    return Engine(lambda engine, batch: batch)


# ----------------------------------------------------------------------------------------------------------- operators

BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
]


@pytest.mark.parametrize("operate", BINARY, ids=lambda operate: operate.__name__)
@pytest.mark.parametrize("value", [7.0, torch.tensor([7.0, -2.0], dtype=torch.float64)], ids=["number", "tensor"])
def test_an_operator_on_metrics_is_that_on_their_values(operate: Callable[..., Any], value: Any) -> None:
    metric, other = of(value), of(2.0)
    found = [operate(metric, 2), operate(metric, 2.0), operate(metric, other), operate(2.0, other)]
    expected = [operate(value, 2), operate(value, 2.0), operate(value, 2.0), operate(2.0, 2.0)]

    assert all(isinstance(one, MetricsLambda) for one in found)
    assert all(
        torch.equal(torch.as_tensor(one.compute()), torch.as_tensor(wanted))
        for one, wanted in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("operate", BINARY, ids=lambda operate: operate.__name__)
@pytest.mark.parametrize(
    "left", [3, 3.0, torch.tensor(3.0, dtype=torch.float64), np.float64(3.0)], ids=["int", "float", "tensor", "numpy"]
)
def test_a_metric_may_stand_on_the_right(operate: Callable[..., Any], left: Any) -> None:
    found = operate(left, of(2.0))

    assert isinstance(found, MetricsLambda)
    assert float(found.compute()) == operate(3.0, 2.0)


def test_vectors_are_multiplied_as_matrices_from_both_sides() -> None:
    vector, matrix = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    metric = of(vector)

    assert (metric @ matrix).compute().tolist() == [7.0, 10.0]
    assert (metric @ metric).compute() == 5.0
    assert operator.matmul(matrix, metric).compute().tolist() == [5.0, 11.0]


def test_signs_and_absolute_values() -> None:
    metric = of(-1.5)

    assert ((-metric).compute(), abs(metric).compute(), abs(-metric - 2).compute()) == (1.5, 1.5, 0.5)


def test_operators_bind_as_in_arithmetic() -> None:
    """2 * 0.5 * 0.25 / (0.5 + 0.25) = 1/3."""
    precision, recall = of(0.5), of(0.25)
    f1 = 2 * precision * recall / (precision + recall)

    assert f1.compute() == pytest.approx(1 / 3)
    assert repr(f1) == "divide(mul(mul(2, Sum()), Sum()), add(Sum(), Sum()))"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda zero: 1 / zero, math.inf),
        (lambda zero: -1 / zero, -math.inf),
        (lambda zero: zero / zero, math.nan),
        (lambda zero: 1 // zero, math.inf),
        (lambda zero: of(5.0) % zero, math.nan),
    ],
)
def test_a_division_by_zero_is_infinite_or_undefined_and_never_an_error(make: Any, expected: float) -> None:
    """As where the values are tensors."""
    assert make(of(0.0)).compute() == pytest.approx(expected, nan_ok=True)
    assert make(of(torch.tensor(0.0))).compute() == pytest.approx(expected, nan_ok=True)


def test_indexing() -> None:
    metric = of(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

    assert metric[0].compute().tolist() == [1.0, 2.0]
    assert metric[1, 0].compute() == 3.0
    assert metric[:, 1].compute().tolist() == [2.0, 4.0]
    assert metric[metric[0, 0].long()].compute().tolist() == [3.0, 4.0]
    assert MetricGroup({"a": metric})["a"].compute() is metric.compute()


def test_a_metric_is_no_sequence() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(of(1.0))
    with pytest.raises(TypeError, match="not iterable"):
        operator.contains(of(1.0), 1.0)


# ----------------------------------------------------------------------------------------------------- tensor methods


def test_methods_of_tensors_are_called_on_the_value() -> None:
    metric = of(torch.tensor([1.0, 4.0, 4.0]))

    assert metric.mean().compute() == 3.0
    assert metric.sqrt().compute().tolist() == [1.0, 2.0, 2.0]
    assert metric.std(correction=0).compute() == pytest.approx(math.sqrt(2))
    assert metric.clamp(max=2.0).sum().item().compute() == 5.0
    assert metric.topk(1).compute().values.tolist() == [4.0]
    assert metric.max(dim=0)[1].compute() in (1, 2)
    assert metric.add(of(1.0)).compute().tolist() == [2.0, 5.0, 5.0], "an argument may be a metric"
    assert repr(metric.mean()) == "mean(Sum())"


@pytest.mark.parametrize("value", [1 / 3, [1 / 3, 2 / 3], np.array([1 / 3])])
def test_numbers_keep_their_digits_in_methods_of_tensors(value: Any) -> None:
    metric = MetricsLambda(lambda ignored: value, Sum())

    assert metric.sum().compute().item() == float(np.sum(value))


@pytest.mark.parametrize("name", ["meen", "T", "shape", "grad", "_fields", "__array__", "compute_all"])
def test_a_misspelt_attribute_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'Sum' object has no attribute '{name}'"):
        getattr(Sum(), name)
    assert not hasattr(1 - Sum(), name)


def test_expressions_are_pickled_and_copied_with_their_leaves() -> None:
    metric = of(3.0)
    expression = (2 * metric + metric).mean()
    for again in (pickle.loads(pickle.dumps(expression)), copy.deepcopy(expression)):
        again.update(1.0)
        assert again.compute() == 12.0
        assert len(again._leaves()) == 1
    assert expression.compute() == 9.0


# ----------------------------------------------------------------------------------------------------------- functions


def test_a_function_takes_metrics_and_constants_by_place_and_by_name() -> None:
    def weighted(a: float, b: float, *, share: float, scale: float = 1.0) -> float:
        return scale * (share * a + (1 - share) * b)

    metric = MetricsLambda(weighted, of(1.0), of(5.0), share=of(0.25), scale=10.0)

    assert metric.compute() == 40.0
    assert repr(metric) == "weighted(Sum(), Sum(), share=Sum(), scale=10.0)"


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(TypeError, match="MetricsLambda: f must be callable, got float"):
        MetricsLambda(1.0, Sum())  # type: ignore[arg-type]


def test_an_expression_in_a_loop_updates_and_resets_each_leaf_once() -> None:
    metric = Sum()
    expression = metric * metric + MetricsLambda(lambda a, *, b: a + b, metric, b=metric)
    expression.update(3.0)

    assert metric.updates == [3.0]
    assert expression.compute() == 15.0
    expression.reset()
    assert expression.compute() == 0.0


def test_making_an_expression_forgets_nothing() -> None:
    metric = of(3.0)

    assert (metric + 1).compute() == 4.0


def test_expressions_are_saved_and_merged_by_their_leaves() -> None:
    one, other = of(1.0), of(10.0)
    first, second = one + 2 * other, of(2.0) + 2 * of(20.0)
    restored = Sum() + 2 * Sum()
    restored.load_state_dict(first.state_dict())

    assert first.merged(second).compute() == 63.0
    assert restored.compute() == first.compute() == 21.0
    with pytest.raises(ValueError, match=r"a state for each of 2 metrics, got \['0'\]"):
        restored.load_state_dict(one.state_dict() and {"0": one.state_dict()})
    with pytest.raises(TypeError, match="made of other metrics"):
        first.merged(one + 1)


def test_a_wrong_state_of_one_leaf_changes_no_leaf() -> None:
    expression = of(1.0) + of(2.0)
    state = (of(5.0) + of(6.0)).state_dict()
    state["1"] = {"unknown": torch.tensor(1.0)}

    with pytest.raises(ValueError, match="the states must be"):
        expression.load_state_dict(state)
    assert expression.compute() == 3.0


# ----------------------------------------------------------------------------------------------- attached and detached


def test_a_shared_leaf_is_updated_once_a_batch() -> None:
    engine, leaf = echo(), Sum()
    (leaf + leaf).attach(engine, "twice")
    (leaf * leaf).attach(engine, "square")
    leaf.attach(engine, "leaf")
    MetricGroup({"in a group": leaf, "negative": -leaf}).attach(engine, "group")
    metrics = engine.run([1.0, 2.0]).metrics

    assert leaf.updates == [1.0, 2.0]
    assert {name: metrics[name] for name in metrics if name != "group"} == {
        "twice": 6.0,
        "square": 9.0,
        "leaf": 3.0,
        "in a group": 3.0,
        "negative": -3.0,
    }


def test_an_expression_is_attached_and_its_leaf_is_not() -> None:
    engine, leaf = echo(), Sum()
    expression = leaf + 1
    expression.attach(engine, "more")

    assert expression.is_attached(engine)
    assert not leaf.is_attached(engine)
    assert not (leaf + 1).is_attached(engine)
    assert not expression.is_attached(engine, "batch_wise")
    assert not expression.is_attached(echo())


@pytest.mark.parametrize("gone", ["one", "other", "leaf", "group"])
def test_detaching_one_leaves_the_others_working(gone: str) -> None:
    engine, leaf = echo(), Sum()
    values = {"one": leaf + 1, "other": leaf + 2, "leaf": leaf, "group": MetricGroup({"inner": leaf + 3})}
    for name, metric in values.items():
        metric.attach(engine, name)
    values[gone].detach(engine)
    metrics = engine.run([1.0]).metrics

    expected = {"one": 2.0, "other": 3.0, "leaf": 1.0, "group": {"inner": 4.0}}
    assert {name: metrics.get(name) for name in values} == {**expected, gone: None}
    assert [metric.is_attached(engine) for metric in values.values()] == [name != gone for name in values]
    assert leaf.updates == [1.0]


def test_with_the_last_expression_goes_its_leaf() -> None:
    engine, leaf = echo(), Sum()
    expressions = [leaf + 1, leaf + 2]
    for number, expression in enumerate(expressions):
        expression.attach(engine, str(number))
    for expression in expressions:
        expression.detach(engine)
    engine.run([1.0])

    assert leaf.updates == []
    assert not engine.state.metrics
    assert not engine.has_event_handler(leaf.started)
    expressions[0].attach(engine, "again")
    assert engine.run([1.0], max_epochs=2).metrics == {"again": 2.0}


def test_one_expression_at_two_times_keeps_two_states() -> None:
    engine, leaf = echo(), Sum()
    expression = leaf + leaf
    expression.attach(engine, "epoch")
    expression.attach(engine, "batch", "batch_wise")
    expression.detach(engine, "epoch_wise")
    expression.attach(engine, "epoch")

    assert engine.run([1.0, 2.0]).metrics == {"batch": 4.0, "epoch": 6.0}


def test_one_expression_on_two_engines_keeps_two_states() -> None:
    train, valid, expression = echo(), echo(), Sum() * 10
    for engine in (train, valid):
        expression.attach(engine, "value")
    train.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: valid.run([5.0]))

    assert train.run([1.0, 2.0]).metrics == {"value": 30.0}
    assert valid.state.metrics == {"value": 50.0}


def test_an_expression_of_each_iteration_makes_no_device_wait() -> None:
    """``meta`` tensors have no values: reading one raises."""
    engine, leaf = echo(), Sum()
    (100 * leaf).attach(engine, "of the batch", "batch_wise")
    (leaf / 3).mean().attach(engine, "of the run", "running_batch_wise")
    MetricGroup({"inner": 1 - leaf}).attach(engine, "group", "single_epoch_running_batch_wise")
    RunningAverage(leaf * 2).attach(engine, "average")
    engine.run([torch.zeros((), device="meta")] * 3)

    assert set(engine.state.metrics) == {"of the batch", "of the run", "inner", "group", "average"}


def test_an_average_of_an_expression_is_that_of_its_batches() -> None:
    engine = echo()
    RunningAverage(2 * Sum(), alpha=0.5).attach(engine, "average")

    assert engine.run([1.0, 3.0]).metrics == {"average": 4.0}


# -------------------------------------------------------------------------------------------------------------- groups


def test_a_group_stores_each_value_under_its_own_name_too() -> None:
    engine = echo()
    MetricGroup({"sum": Sum(), "mean": Average()}).attach(engine, "all")
    metrics = engine.run([1.0, 3.0]).metrics

    assert dict(metrics) == {"sum": 4.0, "mean": 2.0, "all": {"sum": 4.0, "mean": 2.0}}


def test_a_group_may_not_bear_the_name_of_one_in_it() -> None:
    engine = echo()
    MetricGroup({"sum": Sum()}).attach(engine, "sum")

    with pytest.raises(ValueError, match=r"MetricGroup: the name 'sum' is also one of its values, \['sum'\]"):
        engine.run([1.0])


def test_what_is_no_metric_is_refused_in_a_group() -> None:
    with pytest.raises(TypeError, match="MetricGroup: 'b' must be a Metric, got int"):
        MetricGroup({"a": Sum(), "b": 1})  # type: ignore[dict-item]


def test_transforms_of_groups_come_before_those_of_their_metrics() -> None:
    """By an engine and in a loop: of 5, the outer group makes 50, the inner one 51, the metrics 51 and 102."""

    def make() -> MetricGroup:
        inner = MetricGroup(
            {"plain": Sum(), "doubled": Sum(output_transform=lambda output: 2 * output)},
            output_transform=lambda output: output + 1,
        )
        return MetricGroup({"inner": inner, "outer": Sum()}, output_transform=lambda output: 10 * output)

    engine, expected = echo(), {"inner": {"plain": 51.0, "doubled": 102.0}, "outer": 50.0}
    make().attach(engine, "all")
    group = make()
    group.update(group._output_transform(5.0))

    assert engine.run([5.0]).metrics["all"] == expected
    assert group.compute() == expected


def test_nested_groups_without_transforms() -> None:
    leaf = Sum()
    group = MetricGroup({"a": leaf, "deep": MetricGroup({"b": leaf * 2, "c": Sum(output_transform=abs)})})
    group.update(-2.0)
    engine = echo()
    group.attach(engine, "all")

    assert group.compute() == {"a": -2.0, "deep": {"b": -4.0, "c": 2.0}}
    assert engine.run([-3.0]).metrics["all"] == {"a": -3.0, "deep": {"b": -6.0, "c": 3.0}}
    assert leaf.updates == [-2.0, -3.0]


def test_a_metric_in_a_group_with_a_transform_is_left_as_it_is_outside() -> None:
    engine, leaf = echo(), Sum()
    MetricGroup({"first": leaf, "negative": -leaf}, output_transform=lambda output: output[0]).attach(engine, "group")
    Sum(output_transform=1).attach(engine, "second")
    metrics = engine.run([(1.0, 10.0), (2.0, 20.0)]).metrics

    assert (metrics["first"], metrics["negative"], metrics["second"]) == (3.0, -3.0, 30.0)
    assert leaf.compute() == 0.0


def test_lists_of_samples_reach_the_metrics_of_a_group_one_by_one_unless_asked_otherwise() -> None:
    samples = [torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8])], [0, 0]
    engine = echo()
    MetricGroup({"accuracy": Accuracy(), "error": 1 - Accuracy()}).attach(engine, "unrolled")
    taken: list[Any] = []
    whole = Sum(output_transform=lambda output: taken.append(output) or 0.0)
    MetricGroup({"whole": whole}, skip_unrolling=True).attach(engine, "rolled")
    metrics = engine.run([samples]).metrics

    assert (metrics["accuracy"], metrics["error"]) == (0.5, 0.5)
    assert taken == [samples]


def test_a_group_is_saved_and_restored() -> None:
    group = MetricGroup({"a": of(1.0), "deep": MetricGroup({"b": of(2.0)})})
    other = MetricGroup({"a": Sum(), "deep": MetricGroup({"b": Sum()})})
    other.load_state_dict(group.state_dict())

    assert other.compute() == group.compute() == {"a": 1.0, "deep": {"b": 2.0}}


# ----------------------------------------------------------------------------------------------------- events by name


def test_events_may_be_given_one_by_one() -> None:
    """Of 8 iterations every second is taken in, and the sum stored at each fourth; it is never reset."""
    engine, seen = echo(), []
    metric = Sum()
    metric.attach(
        engine,
        "sum",
        reset=Events.STARTED,
        update=Events.ITERATION_COMPLETED(every=2),
        compute=Events.ITERATION_COMPLETED(every=4),
    )
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(priority=-1), lambda: seen.append(engine.state.metrics.get("sum"))
    )
    engine.run([1.0, 2.0, 3.0, 4.0], max_epochs=2)

    assert metric.updates == [2.0, 4.0, 2.0, 4.0]
    assert seen == [None] * 3 + [6.0] * 4 + [12.0]


def test_an_event_that_is_not_given_is_that_of_the_usage() -> None:
    engine, metric = echo(), Sum()
    metric.attach(engine, "run", "running_batch_wise", update=Events.ITERATION_COMPLETED(before=3))
    metric.attach(engine, "last", update=Events.EPOCH_COMPLETED)

    assert engine.run([1.0, 2.0, 4.0]).metrics == {"run": 3.0, "last": 4.0}


def test_a_filtered_usage_is_detached_by_its_events_alone() -> None:
    engine, expression = echo(), Sum() + 0
    often, seldom = Events.ITERATION_COMPLETED(every=2), Events.ITERATION_COMPLETED(every=3)
    expression.attach(engine, "often", update=often)
    expression.attach(engine, "seldom", update=seldom)
    expression.detach(engine)
    both = expression.is_attached(engine, update=often), expression.is_attached(engine, update=seldom)
    expression.detach(engine, update=often)

    assert both == (True, True)
    assert not expression.is_attached(engine, update=often)
    assert engine.run([1.0] * 6).metrics == {"seldom": 2.0}


def test_a_custom_filter_decides_when_to_compute() -> None:
    engine, metric = echo(), Sum()
    powers = Events.ITERATION_COMPLETED(event_filter=lambda engine, count: count in (1, 4))
    metric.attach(engine, "sum", compute=powers)

    assert engine.run([1.0] * 6).metrics == {"sum": 4.0}


def test_values_of_an_event_are_computed_after_all_its_updates_whoever_came_first() -> None:
    engine, late = echo(), Sum()
    (late + 0).attach(engine, "early name", reset=Events.STARTED, update=Events.EPOCH_COMPLETED)
    late.attach(engine, "late name", reset=Events.STARTED, update=Events.EPOCH_COMPLETED)

    assert engine.run([1.0, 2.0], max_epochs=2).metrics == {"early name": 4.0, "late name": 4.0}


def test_a_union_of_events_computes_at_each_of_them() -> None:
    engine, seen = echo(), []
    metric = Sum()
    union = Events.ITERATION_COMPLETED(every=2) | Events.EPOCH_COMPLETED
    metric.attach(engine, "sum", compute=union)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(priority=-1) | Events.EPOCH_COMPLETED(priority=-1),
        lambda: seen.append(engine.state.metrics.get("sum")),
    )
    engine.run([1.0, 2.0, 4.0])

    assert seen == [None, 3.0, 3.0, 7.0]
    same = Events.ITERATION_COMPLETED(every=2) | Events.EPOCH_COMPLETED
    assert metric.is_attached(engine, compute=same)
    metric.detach(engine, compute=same)
    assert not metric.is_attached(engine, compute=union)
    with pytest.raises(ValueError, match="must be updated before it is computed"):
        MetricUsage(
            Events.STARTED, Events.COMPLETED | Events.ITERATION_COMPLETED(priority=1), Events.ITERATION_COMPLETED
        )  # type: ignore[arg-type]

"""A metric on an engine: when it is reset, updated and computed, and under which name its value lies."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from ignite_core.engine import Engine, Events, create_supervised_evaluator
from ignite_core.metrics import Accuracy, BatchFiltered, EpochWise, Loss, Metric, MetricUsage, RunningAverage, total


class Mean(Metric):
    """The mean of the outputs; an output may also be a mapping with the key ``value``."""

    required_output_keys = ("value",)
    value_sum = total()
    count = total(dtype=torch.int64)

    def update(self, output: Any) -> None:
        self.value_sum += output[0] if isinstance(output, tuple) else output
        self.count += 1

    def compute(self) -> Any:
        return self.value_sum / self.count


def echo() -> Engine:
    """Its output is the batch."""
    return Engine(lambda engine, batch: batch)


def test_a_value_is_that_of_the_epoch_and_a_python_number() -> None:
    engine, seen = echo(), []
    Mean().attach(engine, "mean")
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(engine.state.metrics["mean"]))
    engine.run([torch.tensor(1.0), torch.tensor(2.0)], max_epochs=2)

    assert seen == [1.5, 1.5]
    assert all(type(value) is float for value in seen)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ("epoch_wise", [None, None, 1.5, 1.5, 1.5, 3.5]),
        ("batch_wise", [1, 2, 2, 3, 4, 4]),
        ("running_batch_wise", [1, 1.5, 1.5, 2, 2.5, 2.5]),
        ("single_epoch_running_batch_wise", [1, 1.5, 1.5, 3, 3.5, 3.5]),
        ("running_epoch_wise", [None, None, 2, 2, 2, 3]),
        (
            MetricUsage(Events.STARTED, Events.ITERATION_COMPLETED(every=2), Events.ITERATION_COMPLETED(every=2)),
            [None, 2, 2, 2, 3, 3],
        ),
        (BatchFiltered(every=2), [None, None, 2, 2, 2, 4]),
    ],
    ids=str,
)
def test_a_usage_says_when(usage: Any, expected: list[Any]) -> None:
    """The value after each of two iterations and the end of the epoch, in two epochs."""
    engine, seen = echo(), []
    Mean().attach(engine, "mean", usage)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(priority=-1) | Events.EPOCH_COMPLETED(priority=-1),
        lambda: seen.append(engine.state.metrics.get("mean")),
    )
    engine.run([1, 2, 3, 4], epoch_length=2, max_epochs=2)

    assert seen == expected


def test_one_metric_on_two_engines_keeps_two_states() -> None:
    """One dict of metrics for two evaluators is how it is usually written."""
    metric = Mean()
    train, valid = echo(), echo()
    metric.attach(train, "mean")
    metric.attach(valid, "mean")
    train.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: valid.run([10.0, 20.0]))

    assert train.run([1.0, 3.0]).metrics == {"mean": 2.0}
    assert valid.state.metrics == {"mean": 15.0}
    assert metric.compute() == 2.0


def test_one_metric_twice_on_one_engine_at_one_time_is_updated_once() -> None:
    updates = []
    metric = Mean(output_transform=lambda output: updates.append(output) or output)
    engine = echo()
    metric.attach(engine, "one")
    metric.attach(engine, "two")

    assert engine.run([1.0, 3.0]).metrics == {"one": 2.0, "two": 2.0}
    assert updates == [1.0, 3.0]


def test_one_metric_at_two_times_of_one_engine_keeps_two_states() -> None:
    engine, metric = echo(), Mean()
    metric.attach(engine, "epoch")
    metric.attach(engine, "batch", "batch_wise")

    assert engine.run([1.0, 3.0]).metrics == {"batch": 3.0, "epoch": 2.0}


def test_a_taken_name_is_refused_until_it_is_free() -> None:
    engine, first, second = echo(), Mean(), Mean()
    first.attach(engine, "mean")

    with pytest.raises(ValueError, match=r"the name 'mean' is taken by Mean\(\) on this engine"):
        second.attach(engine, "mean")
    with pytest.raises(ValueError, match="'mean' is taken"):
        first.attach(engine, "mean", "batch_wise")
    first.detach(engine)
    second.attach(engine, "mean")
    assert engine.run([5.0]).metrics == {"mean": 5.0}


def test_a_detached_metric_is_not_computed_any_more() -> None:
    engine, metric = echo(), Mean()
    metric.attach(engine, "mean")
    attached = metric.is_attached(engine), metric.is_attached(engine, "batch_wise"), metric.is_attached(echo())
    metric.detach(engine)

    assert attached == (True, False, False)
    assert not metric.is_attached(engine)
    assert dict(engine.run([1.0]).metrics) == {}


def test_detaching_what_is_not_attached_does_no_harm() -> None:
    engine, metric = echo(), Mean()
    metric.attach(engine, "mean")
    metric.detach(engine, "batch_wise")
    Mean().detach(engine)

    assert metric.is_attached(engine)


def test_an_unknown_usage_is_refused_with_those_known() -> None:
    with pytest.raises(ValueError, match=r"one of \['epoch_wise', .*, got 'epochwise'"):
        Mean().attach(echo(), "mean", "epochwise")


def test_metrics_reset_and_update_in_the_order_they_were_attached() -> None:
    calls = []

    class Telling(Mean):
        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

        def started(self, engine: Any) -> None:
            calls.append(f"reset {self.name}")
            super().started(engine)

        def update(self, output: Any) -> None:
            calls.append(f"update {self.name}")
            super().update(output)

    engine = echo()
    Telling("one").attach(engine, "one")
    Telling("two").attach(engine, "two")
    engine.run([1.0])

    assert calls == ["reset one", "reset two", "update one", "update two"]


def test_outputs_may_be_mappings() -> None:
    engine = Engine(lambda engine, batch: {"value": batch, "more": None})
    Mean().attach(engine, "mean")

    assert engine.run([2.0, 4.0]).metrics == {"mean": 3.0}


def test_a_mapping_without_the_keys_is_refused_with_what_it_has() -> None:
    engine = Engine(lambda engine, batch: {"values": batch})
    Mean().attach(engine, "mean")

    with pytest.raises(ValueError, match=r"must have the keys \['value'\], got \['values'\]"):
        engine.run([2.0])


def test_values_that_are_mappings_are_stored_by_their_keys_too() -> None:
    class Both(Mean):
        def compute(self) -> Any:
            return {"half": super().compute() / 2, "whole": super().compute()}

    engine = echo()
    Both().attach(engine, "mean")
    metrics = engine.run([torch.tensor(2.0)]).metrics

    assert (metrics["half"], metrics["whole"], list(metrics["mean"])) == (1.0, 2.0, ["half", "whole"])


def test_lists_of_samples_are_taken_one_by_one() -> None:
    """Predictions of different sizes cannot be stacked."""
    engine = echo()
    Accuracy().attach(engine, "accuracy")
    samples = [torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8])]

    assert engine.run([(samples, [0, 0])]).metrics == {"accuracy": 0.5}


def test_lists_are_handed_over_as_they_are_if_asked_for() -> None:
    seen = []
    engine = echo()
    metric = Mean(skip_unrolling=True, output_transform=lambda output: seen.append(output) or 1.0)
    metric.attach(engine, "mean")
    engine.run([([1, 2], [3, 4])])

    assert seen == [([1, 2], [3, 4])]


def test_an_engine_that_is_dropped_is_gone_and_so_are_its_metrics() -> None:
    gc.disable()
    try:
        engine, metric = echo(), Mean()
        metric.attach(engine, "mean")
        engine.run([1.0])
        gone = weakref.ref(engine), weakref.ref(metric)
        del engine
        first = gone[0]()
        del metric
        second = gone[1]()
    finally:
        gc.enable()

    assert first is None
    assert second is None


def test_evaluators_take_metrics_by_name() -> None:
    model = torch.nn.Identity()
    loss = Loss(torch.nn.functional.cross_entropy)
    evaluator = create_supervised_evaluator(model, metrics={"accuracy": Accuracy(), "loss": loss})
    metrics = evaluator.run([(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1]))]).metrics

    assert dict(metrics) == {"accuracy": 0.75, "loss": pytest.approx(0.6931471805599453, abs=1e-7)}


def test_a_loss_weighs_batches_by_their_size() -> None:
    metric = Loss(lambda y_pred, y, scale=1.0: (y_pred - y).abs().mean() * scale)
    metric.update((torch.tensor([2.0]), torch.tensor([0.0])))
    metric.update((torch.tensor([1.0, 1.0, 1.0]), torch.zeros(3), {"scale": 2.0}))

    assert metric.compute() == 2.0


def test_a_loss_that_is_no_mean_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must return a scalar, .* shape \(2,\)"):
        Loss(torch.nn.L1Loss(reduction="none")).update((torch.zeros(2), torch.zeros(2)))


def test_a_running_average_follows_its_formula() -> None:
    """v = 4; v = 0.75 * 4 + 0.25 * 8 = 5; v = 0.75 * 5 + 0.25 * 1 = 4."""
    engine, seen = echo(), []
    RunningAverage(alpha=0.75, output_transform=lambda output: output).attach(engine, "average")
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(priority=-1), lambda: seen.append(engine.state.metrics["average"])
    )
    engine.run([4.0, torch.tensor(8.0), 1.0])

    assert seen == [4.0, 5.0, 4.0]


def test_a_running_average_of_a_metric_takes_its_value_of_each_batch() -> None:
    engine = echo()
    RunningAverage(Accuracy(), alpha=0.5).attach(engine, "average")
    right, wrong = (torch.eye(2), torch.tensor([0, 1])), (torch.eye(2), torch.tensor([1, 0]))

    assert engine.run([right, wrong, right]).metrics == {"average": 0.75}


@pytest.mark.parametrize(("epoch_bound", "expected"), [(None, 0.375), (False, 0.375), (True, 0.5)])
def test_a_running_average_goes_on_over_epochs_unless_bound_to_one(epoch_bound: bool | None, expected: float) -> None:
    """1, 0.5, then 0.75, 0.375 if it goes on, and 1, 0.5 again if it does not."""
    engine = echo()
    average = RunningAverage(alpha=0.5, output_transform=lambda output: output, epoch_bound=epoch_bound)
    average.attach(engine, "average")

    assert engine.run([1.0, 0.0], max_epochs=2).metrics == {"average": expected}


def test_a_running_average_is_saved_with_its_source() -> None:
    average = RunningAverage(Accuracy(), alpha=0.5)
    for y in ([0, 1], [1, 0]):
        average.src.update((torch.eye(2), torch.tensor(y)))  # type: ignore[union-attr]
        average.update(None)
    other = RunningAverage(Accuracy(), alpha=0.5)
    other.load_state_dict(average.state_dict())

    assert other.compute() == average.compute() == 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"src": "loss"}, TypeError, "src must be a Metric or None, got str"),
        ({"output_transform": float, "alpha": 0.0}, ValueError, r"alpha must be in \(0, 1\], got 0.0"),
        ({}, ValueError, "exactly one of src and output_transform"),
        ({"src": Accuracy(), "output_transform": float}, ValueError, "exactly one of src and output_transform"),
    ],
)
def test_a_running_average_refuses_what_it_cannot_average(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RunningAverage(**arguments)


def test_a_metric_of_a_training_step_keeps_no_graph() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    engine, metric = Engine(lambda engine, batch: (weight * batch).sum()), Mean()
    metric.attach(engine, "mean")
    engine.run([1.0, 2.0, 3.0])

    assert not metric.value_sum.requires_grad


def test_a_running_average_leaves_its_source_alone() -> None:
    """Both are right, attached in either order: 2 of 3 batches, and ((1 + 0) / 2 + 1) / 2."""
    right, wrong = (torch.eye(2), torch.tensor([0, 1])), (torch.eye(2), torch.tensor([1, 0]))
    for average_first in (True, False):
        engine, accuracy = echo(), Accuracy()
        attachments = [(RunningAverage(accuracy, alpha=0.5), "average"), (accuracy, "accuracy")]
        for metric, name in attachments if average_first else reversed(attachments):
            metric.attach(engine, name)

        assert dict(engine.run([right, wrong, right]).metrics) == {"average": 0.75, "accuracy": 2 / 3}


def test_what_is_computed_at_each_iteration_is_not_waited_for() -> None:
    """``meta`` tensors have no values: reading one raises."""
    engine = echo()
    RunningAverage(Accuracy()).attach(engine, "average")
    Accuracy().attach(engine, "accuracy", "batch_wise")
    Loss(torch.nn.functional.cross_entropy).attach(engine, "loss", "running_batch_wise")
    RunningAverage(output_transform=lambda output: output[0].mean()).attach(engine, "output")
    batch = torch.zeros(4, 3, device="meta"), torch.zeros(4, dtype=torch.long, device="meta")
    engine.run([batch, batch], max_epochs=2)

    assert set(engine.state.metrics) == {"average", "accuracy", "loss", "output"}
    with pytest.raises(RuntimeError):
        engine.state.metrics["average"]


def test_an_event_the_engine_does_not_know_leaves_nothing_behind() -> None:
    engine, metric = echo(), Mean()
    usage = MetricUsage(Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, "batch done")  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="'batch done' is not an event of this engine"):
        metric.attach(engine, "mean", usage)
    assert not engine.has_event_handler(metric.started)
    metric.attach(engine, "mean")


def test_a_running_average_refuses_what_is_no_number() -> None:
    with pytest.raises(TypeError, match="needs a number or a tensor, got tuple"):
        RunningAverage(output_transform=lambda output: output).update((1.0, 2.0))


def test_a_usage_is_written_as_in_pytorch_ignite() -> None:
    events = Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, Events.ITERATION_COMPLETED
    usage = MetricUsage(*events)

    assert events == (usage.STARTED, usage.COMPLETED, usage.ITERATION_COMPLETED)
    metric, engine = Mean(), echo()
    metric.attach(engine, "mean", usage)
    assert metric.is_attached(engine, EpochWise())
    assert not metric.is_attached(engine, BatchFiltered(every=2))


def test_a_usage_that_computes_before_it_updates_is_refused() -> None:
    early = Events.ITERATION_COMPLETED(priority=1)

    with pytest.raises(ValueError, match="must be updated before it is computed"):
        MetricUsage(Events.STARTED, early, Events.ITERATION_COMPLETED)
    MetricUsage(Events.STARTED, Events.EPOCH_COMPLETED(priority=1), Events.ITERATION_COMPLETED)


def test_a_usage_may_go_by_events_of_your_own() -> None:
    engine, metric = Engine(lambda engine, batch: engine.fire_event("half") or batch), Mean()
    engine.register_events("half")
    usage = MetricUsage(Events.STARTED, Events.COMPLETED, "half")  # type: ignore[arg-type]
    metric.attach(engine, "mean", usage)
    attached = metric.is_attached(engine, usage)
    metric.detach(engine, usage)

    assert attached
    assert not metric.is_attached(engine, usage)


def test_a_handler_between_two_metrics_runs_between_their_updates() -> None:
    """Metrics that follow each other are updated by one handler; what stands between them stays there."""
    engine = Engine(lambda engine, batch: (torch.tensor(batch), torch.tensor(0.0)))
    seen: list[Any] = []

    class Noting(Metric):
        def __init__(self, name: str) -> None:
            self.name = name
            super().__init__()

        def reset(self) -> None:
            """Nothing to forget."""

        def update(self, output: Any) -> None:
            seen.append((self.name, float(output[0])))

        def compute(self) -> float:
            return 0.0

    def double(engine: Engine) -> None:
        engine.state.output = (2 * engine.state.output[0], engine.state.output[1])

    metrics = {name: Noting(name) for name in "abc"}
    metrics["a"].attach(engine, "a")
    metrics["b"].attach(engine, "b")
    engine.add_event_handler(Events.ITERATION_COMPLETED, double)
    metrics["c"].attach(engine, "c")
    engine.run([1.0])
    metrics["a"].detach(engine)
    engine.run([1.0])

    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0), ("b", 1.0), ("c", 2.0)]

"""All metrics of an event are reduced over the ranks together: exact, in two collectives at most, nobody left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import (
    ROC_AUC,
    Accuracy,
    Average,
    ConfusionMatrix,
    EpochMetric,
    Fbeta,
    GeometricAverage,
    Loss,
    Metric,
    MetricGroup,
    Precision,
    Recall,
    RunningAverage,
    SpearmanRankCorrelation,
    gathered,
    maximum,
    minimum,
    sync_all_reduce,
    total,
)
from ignite_core.testing import run_distributed


class Kinds(Metric):
    """A state of each kind."""

    required_output_keys = None
    summed = total()
    counted = total(dtype=torch.int64)
    largest = maximum()
    smallest = minimum(dtype=torch.int64)
    seen = gathered()

    def update(self, output: Any) -> None:
        self.summed += output
        self.counted += output.shape[0]
        self.largest = torch.maximum(self.largest, output.max())
        self.smallest = torch.minimum(self.smallest, output.min().long())
        self.seen.append(output)

    def compute(self) -> list[Any]:
        if self.counted == 0:
            raise NotComputableError("Kinds.compute: nothing was seen")
        summed = self.summed.tolist() if isinstance(self.summed, torch.Tensor) else self.summed
        return [summed, int(self.counted), float(self.largest), int(self.smallest), torch.cat(self.seen).tolist()]


class Ported(Metric):
    """As one writes it for pytorch-ignite."""

    def reset(self) -> None:
        self._sum, self._count, self._best = torch.zeros(2, device=self._device), 0, -1.0

    def update(self, output: Any) -> None:
        self._sum += output
        self._count += 1
        self._best = max(self._best, float(output.max()))

    @sync_all_reduce("_sum", "_count:SUM", "_best:MAX")
    def compute(self) -> Any:
        return [*(self._sum / self._count).tolist(), self._count, self._best]


def counting(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call gives, and how many collectives it makes."""
    asked = 0
    originals = {name: getattr(dist, name) for name in ("all_reduce", "all_gather", "broadcast", "barrier")}

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call_it(*args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            return original(*args, **kwargs)

        return call_it

    for name, original in originals.items():
        setattr(dist, name, counted(original))
    try:
        return call(), asked
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def batches(rank: int) -> list[torch.Tensor]:
    """Rank 0 has none, rank 1 one, rank 2 two."""
    return [torch.tensor([[1.0, 2.0]]) * (rank + number) for number in range(rank)]


# ----------------------------------------------------------------------------------------------------------- exactness


def kinds_alone() -> Any:
    metric = Kinds()
    for batch in batches(idist.get_rank()):
        metric.update(batch)
    own = int(metric.counted)
    return counting(metric.compute), own


def test_states_of_every_kind_are_those_of_all_ranks_and_the_own_ones_stay() -> None:
    found = run_distributed(kinds_alone, ranks=3)
    seen = [[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]

    assert [value for (value, _), _ in found] == [[[[6.0, 12.0]], 3, 6.0, 1, seen]] * 3
    assert [own for _, own in found] == [0, 1, 2]
    assert [collectives for (_, collectives), _ in found] == [1, 1, 1]


def ported() -> Any:
    metric = Ported()
    for batch in batches(idist.get_rank()):
        metric.update(batch[0])
    return counting(metric.compute)


def test_a_metric_written_for_pytorch_ignite_is_reduced_as_it_declares() -> None:
    assert run_distributed(ported, ranks=3) == [([2.0, 4.0, 3, 6.0], 1)] * 3


class Confusion(Metric):
    """A state of more than 1 MiB."""

    matrix = total(dtype=torch.int64)
    largest = maximum()

    def update(self, output: Any) -> None:
        self.matrix += output
        self.largest = torch.maximum(self.largest, output.double())

    def compute(self) -> Any:
        return self.matrix


def large() -> Any:
    metric = Confusion()
    rank = idist.get_rank()
    if rank != 1:
        metric.update(torch.full((400, 400), rank + 1))
    value, collectives = counting(metric.compute)
    return value.unique().tolist(), tuple(value.shape), collectives


def test_large_states_go_by_the_backend_also_where_a_rank_has_none() -> None:
    """One for what is small, one all_reduce of the sums, one all_gather of the maxima of floats."""
    assert run_distributed(large, ranks=3) == [([4], (400, 400), 3)] * 3


# ------------------------------------------------------------------------------------------------ all of them together


def positive_scores(output: Any) -> Any:
    y_pred, y = output
    return y_pred[:, 0].double(), (y == 0).double()


def precision_recall_and_f1() -> Any:
    engine = Engine(lambda engine, batch: batch)
    precision, recall = Precision(average=False), Recall(average=False)
    precision.attach(engine, "precision")
    recall.attach(engine, "recall")
    (2 * precision * recall / (precision + recall)).mean().attach(engine, "f1")
    y_pred, y = torch.eye(3), torch.tensor([0, 1 + idist.get_rank(), 2])
    state, collectives = counting(lambda: engine.run([(y_pred, y)]))
    return float(state.metrics["f1"]), collectives


def test_precision_recall_and_f1_by_arithmetic_take_one_collective() -> None:
    """By hand, of classes 0, 1, 2 on six samples: precision 2/2, 1/2, 2/2; recall 2/2, 1/1, 2/3; F1 1, 2/3, 4/5."""
    expected = (pytest.approx((1 + 2 / 3 + 4 / 5) / 3), 1)

    assert run_distributed(precision_recall_and_f1) == [expected, expected]


def many_metrics(count: int) -> dict[str, Metric]:
    makers: list[Callable[[], Metric]] = [
        Accuracy,
        lambda: ROC_AUC(output_transform=positive_scores),
        lambda: SpearmanRankCorrelation(output_transform=positive_scores),
        lambda: ConfusionMatrix(3),
        lambda: Fbeta(1, precision=Precision(), recall=Recall()),
        lambda: Loss(torch.nn.functional.cross_entropy),
        lambda: EpochMetric(lambda y_pred, y: (y_pred.argmax(1) == y).double().mean()),
        lambda: 1 - Accuracy(),
        lambda: MetricGroup({"inner": Accuracy(), "other": 2 * Accuracy()}),
    ]
    return {f"metric_{number}": makers[number % len(makers)]() for number in range(count)}


def evaluate(count: int, rank_without_data: int | None) -> Any:
    engine = Engine(lambda engine, batch: batch)
    for name, metric in many_metrics(count).items():
        metric.attach(engine, name)
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(12, 3, generator=generator), torch.randint(3, (12,), generator=generator)
    ranks = [rank for rank in range(idist.get_world_size()) if rank != rank_without_data]
    mine = [] if idist.get_rank() not in ranks else range(12)[ranks.index(idist.get_rank()) :: len(ranks)]
    data = [(scores[[number]], labels[[number]]) for number in mine]
    state, collectives = counting(lambda: engine.run(data))
    return dict(state.metrics), collectives


@pytest.mark.parametrize(("ranks", "empty"), [(2, None), (2, 0), (4, 2)])
def test_fifty_metrics_take_two_collectives_and_are_those_of_one_process(ranks: int, empty: int | None) -> None:
    alone, without = run_distributed(evaluate, 50, None, ranks=1)[0]
    for values, collectives in run_distributed(evaluate, 50, empty, ranks=ranks):
        assert collectives == 2, "one for the first 4 KiB, and one for the rest"
        for name, value in values.items():
            assert value == pytest.approx(alone[name], abs=1e-12)
    assert without == 0


def expression() -> Any:
    engine = Engine(lambda engine, batch: batch)
    accuracy = Accuracy()
    harmonic = 2 * accuracy * accuracy / (accuracy + accuracy)
    harmonic.attach(engine, "harmonic")
    accuracy.attach(engine, "accuracy")
    updates = []
    original = Accuracy.update
    Accuracy.update = lambda self, output: (updates.append(1), original(self, output))[1]  # type: ignore[method-assign]
    try:
        state, collectives = counting(lambda: engine.run([(torch.eye(2), torch.tensor([0, idist.get_rank()]))] * 3))
    finally:
        Accuracy.update = original  # type: ignore[method-assign]
    return dict(state.metrics), collectives, len(updates)


def test_a_leaf_is_updated_once_a_batch_and_reduced_once() -> None:
    expected = {"harmonic": 0.75, "accuracy": 0.75}

    assert run_distributed(expression) == [(expected, 1, 3)] * 2


def running() -> Any:
    engine = Engine(lambda engine, batch: batch)
    average = RunningAverage(output_transform=lambda output: output, alpha=0.5)
    average.attach(engine, "running")
    RunningAverage(Average(), alpha=0.5).attach(engine, "of a metric")
    state, collectives = counting(lambda: engine.run([float(idist.get_rank())] * 5))
    return dict(state.metrics), collectives, average.compute()


def test_a_running_average_asks_nobody_at_an_iteration_and_all_when_it_is_computed() -> None:
    assert run_distributed(running) == [
        ({"running": float(rank), "of a metric": float(rank)}, 0, 0.5) for rank in range(2)
    ]


def batch_wise() -> Any:
    engine = Engine(lambda engine, batch: batch)
    Average().attach(engine, "average", usage="batch_wise")
    seen: list[Any] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(engine.state.metrics["average"]))
    engine.run([float(idist.get_rank()), 10.0 + idist.get_rank()])
    return seen


def test_the_value_of_a_batch_is_that_of_the_batch_of_all_ranks() -> None:
    assert run_distributed(batch_wise) == [[0.5, 10.5]] * 2


# ------------------------------------------------------------------------------------------------------ when it fails


class Broken(Metric):
    def reset(self) -> None:
        """Nothing to forget."""

    def update(self, output: Any) -> None:
        """Nothing to take in."""

    def compute(self) -> float:
        return 0.0

    def _export(self) -> dict[str, Any]:
        raise ValueError("this state is damaged")


def broken_on_rank_1() -> str:
    engine = Engine(lambda engine, batch: batch)
    metric: Metric = Broken() if idist.get_rank() == 1 else Average()
    Broken.__qualname__ = "Average"  # the same metrics by name, so that what is told is the failure
    metric.attach(engine, "value")
    try:
        engine.run([1.0])
    except (ValueError, RuntimeError) as error:
        idist.barrier()  # the ranks are in step
        return f"{type(error).__name__}: {error}"
    return "no error"


def test_a_rank_that_fails_is_told_to_all() -> None:
    first, second = run_distributed(broken_on_rank_1)

    assert first == "RuntimeError: metrics: the metrics of rank 1 could not be read: ValueError: this state is damaged"
    assert second == "ValueError: this state is damaged"


def other_metrics() -> str:
    engine = Engine(lambda engine, batch: batch)
    Average().attach(engine, "loss" if idist.get_rank() == 0 else "lass")
    with pytest.raises(RuntimeError) as error:
        engine.run([1.0])
    idist.barrier()
    return str(error.value)


def test_a_rank_with_other_metrics_is_named_on_all() -> None:
    for message in run_distributed(other_metrics, ranks=3):
        assert message.startswith("metrics: all ranks must compute the same metrics at the same event, but ")
        assert "rank 0 has ['loss (Average)']" in message
        assert "ranks 1, 2 have ['lass (Average)']" in message


def function_that_fails() -> str:
    metric = EpochMetric(lambda y_pred, y: 1 / 0)
    if idist.get_rank() == 0:
        metric.update((torch.ones(2), torch.ones(2)))
    with pytest.raises(ZeroDivisionError):
        metric.compute()
    idist.barrier()
    return "raised"


def test_what_a_function_raises_is_raised_on_all_ranks() -> None:
    assert run_distributed(function_that_fails, ranks=3) == ["raised"] * 3


# -------------------------------------------------------------------------------------------------- saved and restored


def saved() -> Any:
    metrics = {"kinds": Kinds(), "average": GeometricAverage(), "running": RunningAverage(output_transform=float)}
    for number in range(idist.get_rank() + 1):
        metrics["kinds"].update(torch.tensor([[number + 1.0, 2.0]]))
        metrics["average"].update(number + 1.0)
        metrics["running"].update(float(idist.get_rank()))
    return {name: metric.state_dict() for name, metric in metrics.items()}, [
        metric.compute() for metric in metrics.values()
    ]


def restored(states: dict[str, Any]) -> Any:
    metrics = {"kinds": Kinds(), "average": GeometricAverage(), "running": RunningAverage(output_transform=float)}
    for name, metric in metrics.items():
        metric.load_state_dict(states[name])
    return [metric.compute() for metric in metrics.values()]


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_is_saved_comes_back_on_another_number_of_ranks(ranks: int) -> None:
    found = run_distributed(saved, ranks=2)
    states, values = found[0]

    assert found[1][1] == values
    for computed in run_distributed(restored, states, ranks=ranks):
        assert computed == [values[0], pytest.approx(values[1]), values[2]]

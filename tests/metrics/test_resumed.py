"""Metrics of a run that is cut inside an epoch and resumed."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from ignite_core.engine import Engine, Events
from ignite_core.metrics import Average, Frequency, Metric, MetricGroup, RunningAverage

DATA = [float(number) for number in range(10)]


def trainer(**metrics: Metric) -> Engine:
    engine = Engine(lambda engine, batch: batch)
    for name, metric in metrics.items():
        metric.attach(engine, name)
    return engine


def cut(engine: Engine, at: int) -> dict[str, Any]:
    """The state of a run that ends after an iteration, or after the first epoch for 0."""
    event = Events.ITERATION_COMPLETED(once=at) if at else Events.EPOCH_COMPLETED(once=1)
    engine.add_event_handler(event, engine.terminate)
    engine.run(DATA, max_epochs=2, seed=0)
    return dict(engine.state_dict())


def test_a_metric_that_was_not_saved_is_named_once() -> None:
    state = cut(trainer(mean=Average()), 6)
    running = RunningAverage(output_transform=lambda output: output, epoch_bound=True)
    again = trainer(mean=Average(), twice=2 * Average(), running=running)
    again.load_state_dict(state)
    with pytest.warns(
        UserWarning, match=r"metrics \['mean', 'twice', 'running'\]: .* what follows iteration 6\. Save"
    ) as found:
        again.run(DATA)

    assert len(found) == 1
    assert again.state.metrics["mean"] == 4.5, "the second epoch is whole"


def test_what_needs_no_past_or_has_it_is_not_named() -> None:
    saved = Average()
    state = cut(trainer(mean=saved), 6)
    mean, group = Average(), MetricGroup({"inner": Average()})
    again = trainer(
        mean=mean,
        group=group,
        rate=Frequency(lambda output: 1),
        running=RunningAverage(Average()),
    )
    again.load_state_dict(state)
    mean.load_state_dict(saved.state_dict())
    group.load_state_dict({"0": saved.state_dict()})
    values = []
    again.add_event_handler(Events.EPOCH_COMPLETED, lambda: values.append(again.state.metrics["mean"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.run(DATA)

    assert values == [4.5, 4.5]


@pytest.mark.parametrize("at", [0, 3])
def test_metrics_of_each_batch_and_cuts_between_epochs_are_silent(at: int) -> None:
    state = cut(trainer(), at)
    again = Engine(lambda engine, batch: batch)
    Average().attach(again, "mean", "batch_wise" if at else "epoch_wise")
    again.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.run(DATA)


def test_a_metric_of_the_whole_run_is_named_between_epochs_too() -> None:
    state = cut(trainer(), 0)
    again = Engine(lambda engine, batch: batch)
    Average().attach(again, "mean", "running_epoch_wise")
    again.load_state_dict(state)
    with pytest.warns(UserWarning, match=r"metrics \['mean'\]: .* what follows iteration 10\."):
        again.run(DATA)


def test_a_metric_that_was_not_saved_has_no_value_where_nothing_is_left_of_the_epoch() -> None:
    again = trainer(mean=Average())
    again.load_state_dict(cut(trainer(), 10))
    values = []
    again.add_event_handler(Events.EPOCH_COMPLETED, lambda: values.append(dict(again.state.metrics)))
    with pytest.warns(UserWarning, match="what follows iteration 10"):
        again.run(DATA)

    assert values == [{}, {"mean": 4.5}]

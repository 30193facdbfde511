"""Metrics as people write them for pytorch-ignite, and engines that use them; only the import says which library.

`test_ported.py` runs this file as it is, and once more with the name of the other library in the imports.
"""

from __future__ import annotations

import torch

import ignite_core.distributed as idist
from ignite_core.engine import Engine, Events
from ignite_core.exceptions import NotComputableError
from ignite_core.metrics import (
    BatchFiltered,
    EpochWise,
    Metric,
    MetricsLambda,
    MetricUsage,
    reinit__is_reduced,
    sync_all_reduce,
)


class AccuracyWithoutClass(Metric):
    """The one of the tutorial: a class is left out, by a mask."""

    _state_dict_all_req_keys = ("_num_correct", "_num_examples")

    def __init__(self, ignored_class, output_transform=lambda x: x, device="cpu"):
        self.ignored_class = ignored_class
        self._num_correct = None
        self._num_examples = None
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced
    def reset(self):
        self._num_correct = torch.tensor(0, device=self._device)
        self._num_examples = 0
        super().reset()

    @reinit__is_reduced
    def update(self, output):
        y_pred, y = output[0].detach(), output[1].detach()
        indices = torch.argmax(y_pred, dim=1)
        mask = y != self.ignored_class
        correct = torch.eq(indices[mask], y[mask]).view(-1)
        self._num_correct += torch.sum(correct).to(self._device)
        self._num_examples += correct.shape[0]

    @sync_all_reduce("_num_examples", "_num_correct:SUM")
    def compute(self):
        if self._num_examples == 0:
            raise NotComputableError("AccuracyWithoutClass must have at least one example before it can be computed.")
        return self._num_correct.item() / self._num_examples


class ErrorRange(Metric):
    """Largest and smallest error, as a mapping, of an output that is a mapping; with weights."""

    required_output_keys = ("y_pred", "y", "weights")
    _required_output_keys = required_output_keys

    @reinit__is_reduced
    def reset(self):
        self._largest = torch.tensor(-float("inf"), device=self._device, dtype=self._double_dtype)
        self._smallest = float("inf")
        self._total = torch.zeros(2, device=self._device)

    @reinit__is_reduced
    def update(self, output):
        y_pred, y, weights = output
        errors = (y_pred.max(dim=1).values - y).abs() * weights
        self._largest = torch.max(self._largest, errors.max().to(self._largest))
        self._smallest = min(self._smallest, errors.min().item())
        self._total = self._total + torch.stack([errors.sum(), weights.sum()]).to(self._device)

    @sync_all_reduce("_largest:MAX", "_smallest:MIN", "_total")
    def compute(self):
        return {"largest": self._largest, "smallest": self._smallest, "mean": self._total[0] / self._total[1]}


class History(Metric):
    """Takes the hooks into its own hands, and remembers what was computed."""

    def __init__(self, *args, **kwargs):
        self.values, self.best, self.begun = [], 0.0, 0
        super().__init__(*args, **kwargs)

    def reset(self):
        self._sum = 0.0
        self._count = 0

    def update(self, output):
        self._sum += float(output)
        self._count += 1

    @sync_all_reduce("_sum", "_count")
    def compute(self):
        return self._sum / self._count

    def started(self, engine):
        self.begun += 1
        super().started(engine)

    @torch.no_grad()
    def iteration_completed(self, engine):
        y_pred, y = self._output_transform((engine.state.output["y_pred"], engine.state.output["y"]))
        self.update(y_pred[:, 0].sum() + y.sum())

    def completed(self, engine, name):
        value = self.compute()
        self.values.append(value)
        self.best = max(self.best, value)
        engine.state.metrics[name] = value
        engine.state.metrics[f"best_{name}"] = self.best


class Median(Metric):
    """Gathers by itself, where others declare; a helper is reduced, not `compute`."""

    def reset(self):
        self._values = []
        self._count = 0

    def update(self, output):
        self._values.append(output[0].detach().amax(dim=1).to(self._device))
        self._count += output[0].shape[0]

    @sync_all_reduce("_count")
    def _number(self):
        return self._count

    def compute(self):
        values = torch.cat(self._values)
        if idist.get_world_size() > 1:
            values = idist.all_gather(values)
        return values.sort().values[(len(values) - 1) // 2].item() + self._number()


class Doubled(AccuracyWithoutClass):
    """Inherits, and adds one more state."""

    @reinit__is_reduced
    def reset(self):
        super().reset()
        self._batches = 0

    @reinit__is_reduced
    def update(self, output):
        super().update(output)
        self._batches += 1

    @sync_all_reduce("_batches")
    def _all_batches(self):
        return self._batches

    @sync_all_reduce("_num_examples", "_num_correct", "_batches")
    def compute(self):
        return 2 * self._num_correct.item() / self._num_examples + self._batches


def pair(output):
    return output["y_pred"], output["y"]


def metrics():
    return {
        "accuracy": AccuracyWithoutClass(2, output_transform=pair),
        "range": ErrorRange(),
        "history": History(),
        "median": Median(),
        "doubled": Doubled(0, pair, "cpu"),
    }


def batches(rank, world_size, count=6):
    """Those of a rank, of `count` in all."""
    generator = torch.Generator().manual_seed(3)
    everything = [
        {
            "y_pred": torch.randn(5, 4, generator=generator),
            "y": torch.randint(4, (5,), generator=generator),
            "weights": torch.rand(5, generator=generator),
        }
        for _ in range(count)
    ]
    return everything[rank::world_size]


def in_a_loop(rank=0, world_size=1):
    """Values without an engine."""
    found = {}
    for name, metric in metrics().items():
        if name == "history":
            continue  # takes what its own hook makes
        metric.reset()
        for batch in batches(rank, world_size):
            metric.update(tuple(batch.values()) if name == "range" else pair(batch))
        found[name] = metric.compute()
        assert metric._device == torch.device("cpu")
    return found


def on_an_engine(rank=0, world_size=1):
    """Values of two epochs, with all sorts of usages, and what the metrics remember afterwards."""
    engine = Engine(lambda engine, batch: batch)
    all_of_them = metrics()
    for name, metric in all_of_them.items():
        metric.attach(engine, name)
    filtered = AccuracyWithoutClass(1, output_transform=pair)
    filtered.attach(engine, "filtered", usage=BatchFiltered(every=2))
    over_the_run = AccuracyWithoutClass(1, output_transform=pair)
    over_the_run.attach(
        engine, "over_the_run", MetricUsage(Events.STARTED, Events.COMPLETED, Events.ITERATION_COMPLETED(every=3))
    )
    of_batches = AccuracyWithoutClass(0, output_transform=pair)
    of_batches.attach(engine, "of_batches", usage="running_batch_wise")
    accuracy, doubled = all_of_them["accuracy"], all_of_them["doubled"]
    (100 * (1 - accuracy) / (accuracy + 1e-9)).attach(engine, "ratio", usage=EpochWise())
    MetricsLambda(lambda a, b, *, share: share * a + (1 - share) * b, accuracy, doubled, share=0.25).attach(engine, "m")
    MetricsLambda(lambda values, key: values[key], all_of_them["range"], key="mean").attach(engine, "picked")
    all_of_them["range"]["largest"].attach(engine, "indexed")

    seen = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    engine.run(batches(rank, world_size), max_epochs=2)
    seen.append(dict(engine.state.metrics))
    history = all_of_them["history"]
    attached = [accuracy.is_attached(engine), filtered.is_attached(engine, usage=BatchFiltered(every=2))]
    return seen, (history.values, history.best, history.begun), attached


def by_hand_on_events(rank=0, world_size=1):
    """Hooks that are registered by hand, as an `attach` of one's own does it."""
    engine = Engine(lambda engine, batch: batch)
    metric = AccuracyWithoutClass(2, output_transform=pair)
    engine.add_event_handler(Events.EPOCH_STARTED, metric.started)
    engine.add_event_handler(Events.ITERATION_COMPLETED, metric.iteration_completed)
    engine.add_event_handler(Events.EPOCH_COMPLETED(every=2), metric.completed, "value")
    engine.run(batches(rank, world_size), max_epochs=2)
    return dict(engine.state.metrics)


def on_this_rank(name):
    return globals()[name](idist.get_rank(), idist.get_world_size())

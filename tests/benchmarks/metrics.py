"""What metrics cost beside pytorch-ignite, torchmetrics and the bare tensor operations, in turn.

python tests/benchmarks/metrics.py [--rounds 9] [--only updates|set|ranks]
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

import ignite_core.distributed as idist
import ignite_core.engine
import ignite_core.metrics as ours
from ignite_core.testing import run_distributed

SIZES = ((32, 10), (256, 1000))
RANKS = (2, 4)
COUNTS = (1, 10, 50)


def found(module: str) -> Any:
    """A peer, if it is installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        return None


def classification_data(samples: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, classes, generator=generator), torch.randint(classes, (samples,), generator=generator)


def updates(samples: int, classes: int) -> dict[str, dict[str, Callable[[], object]]]:
    """By metric and library: a call that takes in one batch."""
    batches = [classification_data(samples, classes, seed) for seed in range(4)]
    pairs = [(y_pred[:, 0].clone(), y_pred[:, 1].clone()) for y_pred, _ in batches]
    turn = itertools.cycle(batches)
    bare_state = torch.tensor(0)

    def bare() -> None:
        nonlocal bare_state
        y_pred, y = next(turn)
        bare_state += (y_pred.argmax(1) == y).sum()

    rows: dict[str, dict[str, Callable[[], object]]] = {"Accuracy": {"bare operations": bare}}
    ignite, torchmetrics = found("ignite.metrics"), found("torchmetrics")
    for name, library in (("ours", ours), ("pytorch-ignite", ignite)):
        if library is None:
            continue
        for row, metrics in {
            "Accuracy": [library.Accuracy()],
            "Precision": [library.Precision()],
            "F1": [library.MetricGroup({"precision": library.Precision(), "recall": library.Recall()})],
            "ConfusionMatrix": [library.ConfusionMatrix(classes)],
            "TopKCategoricalAccuracy": [library.TopKCategoricalAccuracy(5)],
            "Loss": [library.Loss(F.cross_entropy)],
        }.items():
            rows.setdefault(row, {})[name] = updating([metric.update for metric in metrics], batches)
        rows.setdefault("MeanSquaredError", {})[name] = updating([library.MeanSquaredError().update], pairs)
    if torchmetrics is not None:
        kinds = torchmetrics.classification
        options: dict[str, Any] = {"num_classes": classes, "validate_args": False}
        for row, metric in {
            "Accuracy": kinds.MulticlassAccuracy(average="micro", **options),
            "Precision": kinds.MulticlassPrecision(average="macro", **options),
            "F1": kinds.MulticlassF1Score(average="macro", **options),
            "ConfusionMatrix": kinds.MulticlassConfusionMatrix(**options),
            "TopKCategoricalAccuracy": kinds.MulticlassAccuracy(average="micro", top_k=5, **options),
        }.items():
            rows[row]["torchmetrics"] = updating([lambda batch, metric=metric: metric.update(*batch)], batches)
        error = torchmetrics.MeanSquaredError()
        rows["MeanSquaredError"]["torchmetrics"] = updating([lambda pair: error.update(*pair)], pairs)
    return rows


def updating(takers: list[Callable[[Any], object]], batches: list[Any]) -> Callable[[], None]:
    """Hands one batch after the other to all; no two calls see the same tensors, as in an epoch."""
    turn = itertools.cycle(batches)

    def update() -> None:
        batch = next(turn)
        for take in takers:
            take(batch)

    return update


def seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # what is done once is not measured
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, repeats) * 1e6)
    return times


def report(row: str, times: Mapping[str, list[float]]) -> None:
    best_peer = min((min(taken) for name, taken in times.items() if name not in ("ours", "bare operations")), default=0)
    for name, taken in times.items():
        ratio = f"{best_peer / min(taken):.2f}" if name == "ours" and best_peer else ""
        print(f"| {row} | {name} | {min(taken):,.1f} ({statistics.median(taken):,.1f}) | {ratio} |")


HEAD = "| {} | by | µs, minimum (median) | best peer / ours |\n|---|---|---|---|"


def report_updates(rounds: int) -> None:
    print(HEAD.format("one `update`"))
    for samples, classes in SIZES:
        for name, calls in updates(samples, classes).items():
            report(f"{name} {samples}×{classes}", in_turn(calls, rounds, 500 if classes < 100 else 100))


def ten_metrics(library: Any) -> dict[str, Any]:
    """What an evaluation of a classifier may want to know."""
    precision, recall = library.Precision(average=False), library.Recall(average=False)
    matrix = library.ConfusionMatrix(10)
    return {
        "accuracy": library.Accuracy(),
        "loss": library.Loss(F.cross_entropy),
        "top 5": library.TopKCategoricalAccuracy(5),
        "precision": precision,
        "recall": recall,
        "f1": (precision * recall * 2 / (precision + recall + 1e-20)).mean(),
        "macro precision": library.Precision(average="macro"),
        "macro recall": library.Recall(average="macro"),
        "matrix": matrix,
        "iou": library.IoU(matrix),
    }


def evaluation(engine_module: Any, metrics: Mapping[str, Any], data: list[Any]) -> Callable[[], object]:
    engine = engine_module.Engine(lambda engine, batch: batch)
    for name, metric in metrics.items():
        metric.attach(engine, name)
    return lambda: engine.run(data)


def report_set(rounds: int) -> None:
    print("\n" + HEAD.format("10 metrics on one engine, an iteration"))
    data = [classification_data(32, 10, seed) for seed in range(100)]
    calls = {"ours": evaluation(ignite_core.engine, ten_metrics(ours), data)}
    if found("ignite.metrics") is not None:
        calls["pytorch-ignite"] = evaluation(found("ignite.engine"), ten_metrics(found("ignite.metrics")), data)
    times = in_turn(calls, rounds, 1)
    report("32×10", {name: [one / len(data) for one in taken] for name, taken in times.items()})


def many_metrics(library: Any, count: int) -> dict[str, Any]:
    kinds = [
        library.Accuracy,
        lambda: library.Loss(F.cross_entropy),
        lambda: library.Precision(average="macro"),
        lambda: library.ConfusionMatrix(10),
        lambda: library.TopKCategoricalAccuracy(5),
    ]
    return {f"metric {number}": kinds[number % len(kinds)]() for number in range(count)}


def computing(count: int, rounds: int) -> dict[str, list[float]]:
    """The end of an evaluation on several ranks: all values are computed, again and again."""
    data = [classification_data(32, 10)]
    calls: dict[str, Callable[[], object]] = {}
    for name, engines, library in (
        ("ours", ignite_core.engine, ours),
        ("pytorch-ignite", found("ignite.engine"), found("ignite.metrics")),
    ):
        if library is not None:
            engine = engines.Engine(lambda engine, batch: batch)
            for label, metric in many_metrics(library, count).items():
                metric.attach(engine, label)
            engine.run(data)
            calls[name] = lambda engine=engine, events=engines.Events: engine.fire_event(events.EPOCH_COMPLETED)
    torchmetrics = found("torchmetrics")
    if torchmetrics is not None:
        calls["torchmetrics"] = of_torchmetrics(torchmetrics, count, data)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(rounds + 1):
        for name, call in calls.items():
            idist.barrier()
            taken = seconds(call, 3) * 1e6
            if round_number:
                times[name].append(taken)
    return times


def of_torchmetrics(torchmetrics: Any, count: int, data: list[Any]) -> Callable[[], None]:
    kinds = torchmetrics.classification
    options: dict[str, Any] = {"num_classes": 10, "validate_args": False}
    makers = [
        lambda: kinds.MulticlassAccuracy(average="micro", **options),
        lambda: kinds.MulticlassAccuracy(average="weighted", **options),  # it has no metric of a loss function
        lambda: kinds.MulticlassPrecision(average="macro", **options),
        lambda: kinds.MulticlassConfusionMatrix(**options),
        lambda: kinds.MulticlassAccuracy(average="micro", top_k=5, **options),
    ]
    metrics = [makers[number % len(makers)]() for number in range(count)]
    for metric in metrics:
        metric.update(*data[0])

    def compute() -> None:
        for metric in metrics:
            metric._computed = None  # it would keep the value
            metric.compute()

    return compute


def report_ranks(rounds: int) -> None:
    print("\n" + HEAD.format("`compute` of metrics on several ranks"))
    for ranks in RANKS:
        for count in COUNTS:
            times = run_distributed(computing, count, rounds, ranks=ranks, timeout_s=600)[0]
            report(f"{count} on {ranks} ranks", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=["updates", "set", "ranks"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, run in (("updates", report_updates), ("set", report_set), ("ranks", report_ranks)):
        if options.only in (None, name):
            run(options.rounds)


if __name__ == "__main__":
    main()

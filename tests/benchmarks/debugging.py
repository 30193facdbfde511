"""What profilers and the recorder cost at each iteration, in turn with pytorch-ignite's and with none.

python tests/benchmarks/debugging.py [--rounds 9] [--iterations 5000]
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from in_turn import in_turn, nanoseconds
from torch import nn

import ignite_core.engine
import ignite_core.handlers as ours
from ignite_core.handlers import FlightRecorder


def libraries() -> dict[str, tuple[Any, Any]]:
    """Modules of engines and of handlers, by the name of the library."""
    found: dict[str, tuple[Any, Any]] = {"ours": (ignite_core.engine, ours)}
    with suppress(ModuleNotFoundError):
        found["pytorch-ignite"] = importlib.import_module("ignite.engine"), importlib.import_module("ignite.handlers")
    return found


def run_of(engines: Any, iterations: int, handlers: int, attach: Callable[[Any], object]) -> Callable[[], object]:
    """A run of an empty step, with so many handlers on each iteration."""
    engine = engines.Engine(lambda engine, batch: None)
    for _ in range(handlers):
        engine.add_event_handler(engines.Events.ITERATION_COMPLETED, lambda engine: None)
    attach(engine)
    data = range(iterations)
    return lambda: engine.run(data, max_epochs=1)


def training_of(attach: Callable[[Any], object]) -> Callable[[], object]:
    """A small but real training: a perceptron on batches of 64, with a handler."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = [(torch.rand(64, 128), torch.randint(10, (64,))) for _ in range(100)]
    engine = ignite_core.engine.create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    engine.add_event_handler(ignite_core.engine.Events.ITERATION_COMPLETED, lambda engine: None)
    attach(engine)
    return lambda: engine.run(data, max_epochs=1)


def report(title: str, rows: dict[str, dict[str, Callable[[], object]]], rounds: int, per: int) -> None:
    """A line a row: minimum (median) of nanoseconds an iteration, for each column, taken in turn."""
    columns = list(dict.fromkeys(name for calls in rows.values() for name in calls))
    print(f"\n| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for row, calls in rows.items():
        times = in_turn(calls, rounds, lambda call: nanoseconds(call) / per)
        cells = [
            f"{min(times[name]):,.0f} ({statistics.median(times[name]):,.0f})" if name in times else ""
            for name in columns
        ]
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=5000)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = tempfile.mkdtemp()

    rows: dict[str, dict[str, Callable[[], object]]] = {}
    for library, (engines, handlers) in libraries().items():
        for count in (1, 10):
            for name in ("no profiler", "BasicTimeProfiler", "HandlersTimeProfiler"):

                def attach(engine: Any, name: str = name, handlers: Any = handlers) -> None:
                    if name != "no profiler":
                        getattr(handlers, name)().attach(engine)

                run = run_of(engines, asked.iterations, count, attach)
                rows.setdefault(f"{name}, {count} handlers", {})[library] = run
    report("ns an iteration", rows, asked.rounds, asked.iterations)

    def record(engine: Any) -> None:
        FlightRecorder(folder).attach(engine)

    engines = ignite_core.engine
    rows = {
        f"empty step, {count} handlers": {
            "without": run_of(engines, asked.iterations, count, lambda engine: None),
            "with a recorder": run_of(engines, asked.iterations, count, record),
        }
        for count in (0, 1, 10)
    }
    report("ns an iteration", rows, asked.rounds, asked.iterations)
    rows = {
        "training of a small perceptron": {
            "without": training_of(lambda engine: None),
            "with a recorder": training_of(record),
        }
    }
    report("ns an iteration", rows, asked.rounds, 100)

    engine = engines.Engine(lambda engine, batch: None)
    for period in (1, 1, 10, 100, 1000, 777):
        engine.add_event_handler(engines.Events.ITERATION_COMPLETED(every=period), lambda: None)
    report(
        "ns an iteration", {"engine.plan, a million iterations": {"ours": lambda: engine.plan(10, 100_000)}}, 3, 10**6
    )


if __name__ == "__main__":
    main()

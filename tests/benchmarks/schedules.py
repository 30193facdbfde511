"""What schedulers cost, beside those of pytorch-ignite, in turn: a call alone, and a whole iteration.

python tests/benchmarks/schedules.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import timeit
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch.optim import lr_scheduler

import ignite_core.engine
import ignite_core.handlers as ours

#: Longer than any measurement here: no curve comes to its end.
LONG = 10**7


def libraries() -> dict[str, tuple[Any, Any]]:
    """Modules of engines and of handlers, by the name of the library."""
    found = {"ours": (ignite_core.engine, ours)}
    with suppress(ModuleNotFoundError):
        found["pytorch-ignite"] = importlib.import_module("ignite.engine"), importlib.import_module("ignite.handlers")
    return found


def optimizer(groups: int = 1) -> torch.optim.Optimizer:
    parameters = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(groups)]
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1)


def schedulers(lib: Any) -> dict[str, Any]:
    """One of each kind."""

    def linear(opt: Any, **kwargs: Any) -> Any:
        return lib.LinearCyclicalScheduler(opt, "lr", 0.0, 1.0, 1000, **kwargs)

    def cosine(opt: Any, **kwargs: Any) -> Any:
        return lib.CosineAnnealingScheduler(opt, "lr", 1.0, 0.0, 1000, **kwargs)

    def points(opt: Any, **kwargs: Any) -> Any:
        return lib.PiecewiseLinear(opt, "lr", [(0, 0.0), (1000, 1.0), (LONG, 0.0)], **kwargs)

    class Own(lib.ParamScheduler):  # type: ignore[misc]
        def get_param(self) -> float:
            return 0.5 / (1 + self.event_index)

    class OwnCycle(lib.CyclicalScheduler):  # type: ignore[misc]
        def get_param(self) -> float:
            progress: float = self.event_index / self.cycle_size
            return progress

    one, two = optimizer(), optimizer(2)
    return {
        "LinearCyclicalScheduler": linear(optimizer()),
        "LinearCyclicalScheduler, history": linear(optimizer(), save_history=True),
        "LinearCyclicalScheduler, 4 groups": linear(optimizer(4)),
        "CosineAnnealingScheduler": cosine(optimizer()),
        "CosineAnnealingScheduler, multipliers": lib.CosineAnnealingScheduler(
            optimizer(), "lr", 1.0, 0.0, 100, 1.1, 0.99, 0.99, 10
        ),
        "PiecewiseLinear": points(optimizer()),
        "a subclass with get_param": Own(optimizer(), "lr"),
        "a subclass of CyclicalScheduler": OwnCycle(optimizer(), "lr", 0.0, 1.0, 1000),
        "ConcatScheduler of 2": lib.ConcatScheduler([linear(one), cosine(one)], [500]),
        "ParamGroupScheduler of 2": lib.ParamGroupScheduler(
            [points(two, param_group_index=0), points(two, param_group_index=1)]
        ),
        "LRScheduler of StepLR": lib.LRScheduler(lr_scheduler.StepLR(optimizer(), LONG)),
        "LRScheduler of ExponentialLR": lib.LRScheduler(lr_scheduler.ExponentialLR(optimizer(), 1 - 1e-7)),
        "LRScheduler of CosineAnnealingLR": lib.LRScheduler(lr_scheduler.CosineAnnealingLR(optimizer(), LONG)),
        "LambdaStateScheduler": lib.LambdaStateScheduler(_double, "alpha"),
        "PiecewiseLinearStateScheduler": lib.PiecewiseLinearStateScheduler([(0, 0.0), (LONG, 1.0)], "alpha"),
        "ExpStateScheduler": lib.ExpStateScheduler(1.0, 1 - 1e-7, "alpha"),
        "StepStateScheduler": lib.StepStateScheduler(1.0, 1 - 1e-7, 10, "alpha"),
        "MultiStepStateScheduler": lib.MultiStepStateScheduler(1.0, 0.5, [10, 100, LONG], "alpha"),
    }


def _double(step: int) -> float:
    return 2.0 * step


def measured(rows: dict[str, dict[str, Callable[[], object]]], rounds: int, repeats: int, per: int = 1) -> Any:
    """Nanoseconds of each round, by row and library, the libraries in turn."""
    times: dict[str, dict[str, list[float]]] = {row: {name: [] for name in calls} for row, calls in rows.items()}
    for calls in rows.values():
        for call in calls.values():
            call()  # what is done once is not measured
    for _ in range(rounds):
        for row, calls in rows.items():
            for name, call in calls.items():
                times[row][name].append(timeit.timeit(call, number=repeats) / repeats / per * 1e9)
    return times


def calls() -> dict[str, dict[str, Callable[[], object]]]:
    """A call of each scheduler, alone."""
    rows: dict[str, dict[str, Callable[[], object]]] = {}
    for name, (engines, handlers) in libraries().items():
        for kind, scheduler in schedulers(handlers).items():
            engine = engines.Engine(lambda engine, batch: None)
            engine.state.alpha = 0.0
            rows.setdefault(kind, {})[name] = partial(scheduler, engine)
    return rows


def runs(iterations: int) -> dict[str, dict[str, Callable[[], object]]]:
    """Whole runs of an empty step, the first of them without any handler."""
    rows: dict[str, dict[str, Callable[[], object]]] = {}
    data = range(iterations)
    for name, (engines, handlers) in libraries().items():
        for kind, scheduler in {"nothing": None, **schedulers(handlers)}.items():
            engine = engines.Engine(lambda engine, batch: None)
            engine.state.alpha = 0.0
            if scheduler is not None:
                engine.add_event_handler(engines.Events.ITERATION_STARTED, scheduler)
            rows.setdefault(kind, {})[name] = partial(engine.run, data)
    return rows


def show(title: str, rows: dict[str, dict[str, list[float]]]) -> None:
    """One line a row: minimum (median) for each library, and how many times as fast ours is, by the minimum."""
    names = list(next(iter(rows.values())))
    print(f"\n| {title} | {' | '.join(names)} | times as fast |\n|---|{'---|' * (len(names) + 1)}")
    for row, times in rows.items():
        cells = [f"{min(taken):,.0f} ({statistics.median(taken):,.0f})" for taken in times.values()]
        ratio = f"{min(times['pytorch-ignite']) / min(times['ours']):.1f}" if len(names) > 1 else ""
        print(f"| {row} | {' | '.join(cells)} | {ratio} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")  # of torch, as no optimizer makes a step
    show("a scheduler is called, ns", measured(calls(), rounds, 500))
    show("an iteration with, ns", measured(runs(2000), rounds, 1, per=2000))


if __name__ == "__main__":
    main()

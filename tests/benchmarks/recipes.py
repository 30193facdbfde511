"""What handlers of training recipes cost at each iteration, beside those of pytorch-ignite in turn; a large average.

python tests/benchmarks/recipes.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import importlib
import logging
import statistics
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from in_turn import in_turn, nanoseconds
from torch import nn

import ignite_core.engine
import ignite_core.handlers as ours

#: One row: seconds of a run of so many iterations, by library.
Calls = dict[str, Callable[[], object]]

ITERATIONS = 2000


def libraries() -> dict[str, tuple[Any, Any]]:
    """Modules of engines and of handlers, by the name of the library."""
    found = {"ours": (ignite_core.engine, ours)}
    with suppress(ModuleNotFoundError):
        found["pytorch-ignite"] = importlib.import_module("ignite.engine"), importlib.import_module("ignite.handlers")
    return found


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


def deep() -> nn.Module:
    """As many parameters, buffers and modules as a ResNet-50, all of them small."""
    return nn.Sequential(*(nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8)) for _ in range(53)))


def millions(number: int) -> nn.Module:
    """A transformer's worth of matrices: so many million parameters, in tensors of 1024 x 1024."""
    return nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(round(number / 1.05))))


def report(rows: dict[str, Calls], rounds: int, per: int) -> None:
    """One line a row: minimum (median) of microseconds for each library, taken in turn."""
    for row, calls in rows.items():
        times = in_turn(calls, rounds, lambda call: nanoseconds(call) / per / 1e3)
        cells = [f"{min(taken):,.2f} ({statistics.median(taken):,.2f})" for taken in times.values()]
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def runs() -> dict[str, Calls]:
    """Whole runs of an empty step."""
    rows: dict[str, Calls] = {}
    data = range(ITERATIONS)
    for name, (engines, handlers) in libraries().items():
        events = engines.Events

        def run_with(attach: Callable[[Any], object], engines: Any = engines) -> Callable[[], object]:
            engine = engines.Engine(lambda engine, batch: 0.5)
            attach(engine)
            return lambda: engine.run(data)

        drive = {"resume": events.ITERATION_STARTED, "pause": events.ITERATION_COMPLETED}
        timer = handlers.Timer(average=True)
        rows.setdefault("nothing", {})[name] = run_with(lambda engine: None)
        rows.setdefault("Timer", {})[name] = run_with(
            lambda engine, timer=timer, drive=drive, events=events: timer.attach(
                engine, step=events.ITERATION_COMPLETED, **drive
            )
        )
        rows.setdefault("EpochOutputStore", {})[name] = run_with(handlers.EpochOutputStore().attach)
        for kind, make in (("3 layers", small), ("106 layers", deep)):
            for mode in ("copy", "update", "ema_train"):
                average = handlers.EMAHandler(make(), handle_buffers=mode)
                rows.setdefault(f"EMAHandler, {kind}, {mode}", {})[name] = run_with(average.attach)
            average = handlers.EMAHandler(make(), momentum_warmup=0.5, warmup_iters=100)
            rows.setdefault(f"EMAHandler, {kind}, warm-up", {})[name] = run_with(
                lambda engine, average=average: average.attach(engine, warn_if_exists=False)
            )
        rows.setdefault("FastaiLRFinder", {})[name] = finder_run(engines, handlers)
    return rows


def finder_run(engines: Any, handlers: Any) -> Callable[[], object]:
    """A search, with what is done before and after it."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    engine = engines.Engine(lambda engine, batch: 0.5)
    data = [0] * ITERATIONS

    def search() -> None:
        with handlers.FastaiLRFinder().attach(engine, {"optimizer": optimizer}) as trainer:
            trainer.run(data)

    return search


def large_average(number: int) -> Calls:
    """The update of a large average, beside the bare operation on the same tensors."""
    model = millions(number)
    engine = ignite_core.engine.Engine(lambda engine, batch: None)
    average = ours.EMAHandler(model)
    average.attach(engine)
    mine, yours = list(average.ema_model.parameters()), [one.detach() for one in model.parameters()]
    calls: Calls = {
        "torch._foreach_lerp_": lambda: torch._foreach_lerp_(mine, yours, 0.0002),
        "ours": lambda: average._update(engine, "ema_momentum"),
    }
    with suppress(ModuleNotFoundError):
        theirs = importlib.import_module("ignite.handlers").EMAHandler(model)
        calls["pytorch-ignite"] = torch.no_grad()(lambda: theirs._update_ema_model(engine, "ema_momentum"))
    return calls


def optimizer_step() -> dict[str, Calls]:
    """One step of an optimizer: alone, clipped by hand, and with the handlers' hooks."""
    rows: dict[str, Calls] = {}
    for kind, make in (("3 layers", small), ("106 layers", deep)):
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)

        def by_hand(model: nn.Module = model, optimizer: Any = optimizer) -> None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        def hooked(handler: Any, optimizer: Any = optimizer) -> Callable[[], object]:
            engine = ignite_core.engine.Engine(lambda engine, batch: optimizer.step())
            handler.attach(engine)
            return lambda: engine.run(range(100))

        rows[f"optimizer.step(), {kind}"] = {
            "alone": lambda optimizer=optimizer: [optimizer.step() for _ in range(100)],
            "clipped by hand": lambda by_hand=by_hand: [by_hand() for _ in range(100)],
            "GradientClipping": hooked(ours.GradientClipping(optimizer, max_norm=1.0)),
            "GradientStats": hooked(ours.GradientStats(optimizer)),
            "GradientStats(every=100)": hooked(ours.GradientStats(optimizer, every=100)),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--millions", type=int, default=50, help="parameters of the large average")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    names = list(libraries())
    print(f"| an iteration with, µs | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    report(runs(), options.rounds, ITERATIONS)
    steps = optimizer_step()
    print(f"\n| µs | {' | '.join(next(iter(steps.values())))} |\n|---|{'---|' * 5}")
    report(steps, options.rounds, 100)
    calls = large_average(options.millions)
    print(f"\n| an update, µs | {' | '.join(calls)} |\n|---|{'---|' * len(calls)}")
    report({f"EMAHandler, {options.millions} million parameters": calls}, options.rounds, 1)


if __name__ == "__main__":
    main()

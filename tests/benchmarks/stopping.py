"""What stop rules cost at each iteration, beside those of pytorch-ignite, in turn; and a vote on several ranks.

python tests/benchmarks/stopping.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import importlib
import logging
import statistics
import time
import timeit
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from in_turn import in_turn

import ignite_core.distributed as idist
import ignite_core.engine
import ignite_core.handlers as ours
from ignite_core.handlers import vote_of
from ignite_core.testing import run_distributed

RANKS = (2, 4)

#: What a step returns, for the search for NaN.
OUTPUTS: dict[str, Any] = {
    "a float": 0.5,
    "a scalar tensor": torch.tensor(0.5),
    "a tensor of 32×10": torch.rand(32, 10),
    "y_pred, y, loss": (torch.rand(32, 10), torch.randint(10, (32,)), torch.tensor(0.5)),
    "a tensor of 100,000": torch.rand(100_000),
}


def libraries() -> dict[str, tuple[Any, Any]]:
    """Modules of engines and of handlers, by the name of the library."""
    found = {"ours": (ignite_core.engine, ours)}
    with suppress(ModuleNotFoundError):
        found["pytorch-ignite"] = importlib.import_module("ignite.engine"), importlib.import_module("ignite.handlers")
    return found


def nanoseconds(call: Callable[[], object], repeats: int) -> float:
    return timeit.timeit(call, number=repeats) / repeats * 1e9


def report(rows: dict[str, dict[str, Callable[[], object]]], rounds: int, repeats: int, per: int = 1) -> None:
    """One line a row: minimum (median) for each library, taken in turn."""
    for row, calls in rows.items():
        times = in_turn(calls, rounds, lambda call: nanoseconds(call, repeats) / per)
        cells = [f"{min(taken):,.0f} ({statistics.median(taken):,.0f})" for taken in times.values()]
        print(f"| {row} | {' | '.join(cells)} |")


def handler_calls() -> dict[str, dict[str, Callable[[], object]]]:
    """The call of a handler alone, where nothing is to be stopped."""
    rows: dict[str, dict[str, Callable[[], object]]] = {}
    for name, (engines, handlers) in libraries().items():
        for kind, output in OUTPUTS.items():
            engine = engines.Engine(lambda engine, batch: None)
            engine.state.output = output
            guard = handlers.TerminateOnNan()
            rows.setdefault(f"TerminateOnNan, {kind}", {})[name] = partial(guard, engine)
        engine = engines.Engine(lambda engine, batch: None)
        limit = handlers.TimeLimit(10**6)
        rows.setdefault("TimeLimit", {})[name] = partial(limit, engine)
        stopping = handlers.EarlyStopping(10, lambda engine: 0.5, engine, mode="min")
        stopping.best_score = 0.4  # it has been better: each evaluation counts, and none is one too many

        def evaluate(stopping: Any = stopping, engine: Any = engine) -> None:
            stopping.counter = 0
            stopping(engine)

        rows.setdefault("EarlyStopping, an evaluation", {})[name] = evaluate
    engine = ignite_core.engine.Engine(lambda engine, batch: None)
    vote = vote_of(engine)
    rows["the vote at the end of an iteration, alone"] = {"ours": lambda: vote._end_iteration(engine)}
    return rows


def runs() -> dict[str, dict[str, Callable[[], object]]]:
    """Whole runs of an empty step."""
    rows: dict[str, dict[str, Callable[[], object]]] = {}
    data = range(10_000)
    for name, (engines, handlers) in libraries().items():

        def run_with(*rules: Any, engines: Any = engines) -> Callable[[], object]:
            engine = engines.Engine(lambda engine, batch: 0.5)
            for rule in rules:
                engine.add_event_handler(engines.Events.ITERATION_COMPLETED, rule)
            return lambda: engine.run(data)

        rows.setdefault("nothing", {})[name] = run_with()
        rows.setdefault("TimeLimit", {})[name] = run_with(handlers.TimeLimit(10**6))
        rows.setdefault("TerminateOnNan", {})[name] = run_with(handlers.TerminateOnNan())
        rows.setdefault("both", {})[name] = run_with(handlers.TimeLimit(10**6), handlers.TerminateOnNan())
    engine = ignite_core.engine.Engine(lambda engine, batch: 0.5)
    ours.StopOnSignal().attach(engine)
    rows["StopOnSignal"] = {"ours": lambda: engine.run(data)}
    return rows


def vote_on_ranks(rounds: int) -> dict[str, float]:
    """Microseconds of an iteration without and with a vote, and of a round that waits."""
    best: dict[str, float] = {}
    torch.set_num_threads(1)
    for _ in range(rounds):
        for name, every in (("no vote", None), ("every=10", 10), ("every=1", 1)):
            engine = ignite_core.engine.Engine(lambda engine, batch: None)
            if every is not None:
                vote_of(engine, every=every)
            idist.barrier()
            start = time.perf_counter()
            engine.run(range(2000))
            best[name] = min(best.get(name, 1e9), (time.perf_counter() - start) / 2000 * 1e6)
        engine = ignite_core.engine.Engine(lambda engine, batch: None)
        vote = vote_of(engine)
        vote.settle()
        start = time.perf_counter()
        for _ in range(100):
            vote.settle()
        best["settle"] = min(best.get("settle", 1e9), (time.perf_counter() - start) / 100 * 1e6)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    logging.disable(logging.INFO)
    names = list(libraries())
    print(f"| a handler is called, ns | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    report(handler_calls(), rounds, 300)
    print(f"\n| an iteration with, ns | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    report(runs(), rounds, 1, per=10_000)
    print("\n| ranks: an iteration, µs | no vote | every=10 | every=1 | a round that waits |\n|---|---|---|---|---|")
    for ranks in RANKS:
        best = run_distributed(vote_on_ranks, rounds, ranks=ranks)[0]
        print(f"| {ranks} | {' | '.join(f'{taken:,.1f}' for taken in best.values())} |")


if __name__ == "__main__":
    main()

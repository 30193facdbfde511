"""What it costs to go on inside an epoch of 10^7 samples, and what a seed costs an item.

    python tests/benchmarks/resume.py [--rounds 3] [--samples 10000000]

Prints the tables of docs/performance.md: seconds from ``run()`` to the first batch of a run that was saved after 0 %
and after 90 % of an epoch (the permutation of the samples included, in both), and microseconds an item that a seed adds
to a DataLoader over a dataset that does nothing.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader

from ignite_core.distributed import ShardSampler
from ignite_core.engine import Engine, Events

Make = Callable[[int], DataLoader[Any]]


def shuffling(samples: int, batch_size: int = 32) -> DataLoader[Any]:
    return DataLoader(range(samples), batch_size, shuffle=True)  # type: ignore[arg-type]


def sharded(samples: int) -> DataLoader[Any]:
    data: Any = range(samples)
    return DataLoader(data, 32, sampler=ShardSampler(data, 4, 0, shuffle=True))


class Batches:
    """A batch sampler of the user's, which has to be iterated."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples // 32

    def __iter__(self) -> Any:
        order = torch.randperm(self.samples).tolist()
        return (order[start : start + 32] for start in range(0, self.samples, 32))


def own_batches(samples: int) -> DataLoader[Any]:
    return DataLoader(range(samples), batch_sampler=Batches(samples))  # type: ignore[arg-type]


ROWS: dict[str, Make] = {
    "shuffle=True, batches of 32": shuffling,
    "shuffle=True, batches of 1": lambda samples: shuffling(samples, 1),
    "ShardSampler, one of 4 ranks": sharded,
    "a batch sampler of one's own": own_batches,
}


def seconds_to_first_batch(data: DataLoader[Any], done: float) -> float:
    """Of a run that goes on after a part of the epoch."""
    engine = Engine(lambda engine, batch: None)
    length = len(data)
    engine.load_state_dict({"iteration": int(done * length), "epoch_length": length, "max_epochs": 1})
    engine.add_event_handler(Events.ITERATION_COMPLETED, engine.terminate)
    began = time.perf_counter()
    engine.run(data, seed=0)
    return time.perf_counter() - began


def microseconds_an_item(batch_size: int, seed: int | None) -> float:
    items = 64_000
    data = DataLoader(range(items), batch_size, shuffle=True, collate_fn=len)  # type: ignore[arg-type]
    began = time.perf_counter()
    Engine(lambda engine, batch: None).run(data, seed=seed)
    return (time.perf_counter() - began) / items * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=10_000_000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(f"| to the first batch of {options.samples:,} samples, s | at 0 % | at 90 % | more |\n|---|---|---|---|")
    for name, make in ROWS.items():
        data = make(options.samples)
        rounds = [[seconds_to_first_batch(data, done) for done in (0.0, 0.9)] for _ in range(options.rounds)]
        start, inside = (min(times) for times in zip(*rounds, strict=True))
        print(f"| {name} | {start:.2f} | {inside:.2f} | {inside - start:+.2f} |")
    print("\n| a DataLoader without workers, µs an item | no seed | with a seed | added |\n|---|---|---|---|")
    for batch_size in (32, 256):
        pairs = [[microseconds_an_item(batch_size, seed) for seed in (None, 0)] for _ in range(2 * options.rounds)]
        without, seeded = (min(times) for times in zip(*pairs, strict=True))
        print(f"| batches of {batch_size} | {without:.1f} | {seeded:.1f} | {seeded - without:.1f} |")


if __name__ == "__main__":
    main()

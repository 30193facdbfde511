"""What one update of Accuracy costs beside the bare tensor operations, pytorch-ignite and torchmetrics, in turn.

python tests/benchmarks/metrics.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from ignite_core.metrics import Accuracy


def updates(y_pred: torch.Tensor, y: torch.Tensor) -> dict[str, Callable[[], object]]:
    """One update each, by who does it; peers that are not installed are left out."""
    correct = torch.tensor(0)

    def bare() -> None:
        nonlocal correct
        correct += (y_pred.argmax(1) == y).sum()

    ours = Accuracy()
    found: dict[str, Callable[[], object]] = {"bare operations": bare, "ours": lambda: ours.update((y_pred, y))}
    try:
        import ignite.metrics

        peer = ignite.metrics.Accuracy()
        found["pytorch-ignite"] = lambda: peer.update((y_pred, y))
    except ModuleNotFoundError:
        pass
    try:
        import torchmetrics.classification

        other = torchmetrics.classification.MulticlassAccuracy(y_pred.shape[1], average="micro")
        found["torchmetrics"] = lambda: other.update(y_pred, y)
    except ModuleNotFoundError:
        pass
    return found


def microseconds(update: Callable[[], object], repeats: int = 2000) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        update()
    return (time.perf_counter() - start) / repeats * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    torch.set_num_threads(1)
    candidates = updates(torch.randn(32, 10), torch.randint(10, (32,)))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, update in candidates.items():
            times[name].append(microseconds(update))
    print("| `Accuracy.update`, 32×10, µs | minimum | median | of bare |\n|---|---|---|---|")
    least = min(times["bare operations"])
    for name, taken in times.items():
        print(f"| {name} | {min(taken):.1f} | {statistics.median(taken):.1f} | {min(taken) / least:.2f} |")


if __name__ == "__main__":
    main()

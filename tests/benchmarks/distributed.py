"""What idist costs: its calls in a serial run, and many small reductions packed against one by one.

python tests/benchmarks/distributed.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import statistics
import time
import timeit
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

import ignite_core.distributed as idist
from ignite_core.testing import run_distributed

COUNTS = (1, 10, 50)
RANKS = (2, 4)


def calls(library: Any) -> dict[str, Callable[[], object]]:
    """What scripts and metrics call all the time."""
    tensor = torch.zeros(3)
    return {
        "get_rank()": library.get_rank,
        "get_world_size()": library.get_world_size,
        "device()": library.device,
        "backend()": library.backend,
        "all_reduce(tensor)": lambda: library.all_reduce(tensor),
        "all_reduce(1.0)": lambda: library.all_reduce(1.0),
        "all_gather(tensor)": lambda: library.all_gather(tensor),
        "broadcast(1.0)": lambda: library.broadcast(1.0),
        "barrier()": library.barrier,
    }


def nanoseconds(call: Callable[[], object], repeats: int = 20_000) -> float:
    return timeit.timeit(call, number=repeats) / repeats * 1e9


def report_serial_calls(rounds: int) -> None:
    libraries = {"ours": calls(idist)}
    try:
        import ignite.distributed

        libraries["pytorch-ignite"] = calls(ignite.distributed)
    except ModuleNotFoundError:
        pass
    print(f"| a call in a serial run, ns | {' | '.join(libraries)} |\n|---|{'---|' * len(libraries)}")
    for name in libraries["ours"]:
        times: dict[str, list[float]] = {library: [] for library in libraries}
        for _ in range(rounds):
            for library, found in libraries.items():
                times[library].append(nanoseconds(found[name]))
        cells = " | ".join(f"{min(taken):,.0f} ({statistics.median(taken):,.0f})" for taken in times.values())
        print(f"| `{name}` | {cells} |")


def small_tensors(count: int) -> list[tuple[torch.Tensor, str]]:
    """As metrics have them: float sums, integer counts, here and there a maximum."""
    kinds = [(torch.float64, "SUM"), (torch.int64, "SUM"), (torch.int64, "MAX")]
    return [(torch.ones(number % 4 + 1, dtype=kinds[number % 3][0]), kinds[number % 3][1]) for number in range(count)]


def one_by_one(tensors: list[tuple[torch.Tensor, str]]) -> None:
    for tensor, op in tensors:
        idist.all_reduce(tensor, op)


def of_torch(tensors: list[tuple[torch.Tensor, str]]) -> None:
    for tensor, op in tensors:
        dist.all_reduce(tensor, getattr(dist.ReduceOp, op))


def count_collectives(call: Callable[[], object]) -> int:
    """How often torch is asked to exchange something."""
    asked = 0
    originals = {name: getattr(dist, name) for name in ("all_reduce", "all_gather", "broadcast", "barrier")}

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            return original(*args, **kwargs)

        return counted

    for name, original in originals.items():
        setattr(dist, name, counting(original))
    try:
        call()
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)
    return asked


def measure_packing(count: int, rounds: int, repeats: int) -> dict[str, tuple[int, list[float]]]:
    """Collectives and seconds a call, of each way, in turn."""
    tensors = small_tensors(count)
    ways = {
        "packed": lambda: idist.all_reduce_packed(tensors),
        "one by one": lambda: one_by_one(tensors),
        "one by one, torch alone": lambda: of_torch(tensors),
    }
    found: dict[str, tuple[int, list[float]]] = {name: (count_collectives(way), []) for name, way in ways.items()}
    for _ in range(rounds):
        for name, way in ways.items():
            idist.barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                way()
            found[name][1].append((time.perf_counter() - start) / repeats)
    return found


def report_packing(rounds: int) -> None:
    print(
        "\n| ranks | small tensors | way | collectives | µs, minimum (median) | of packed |\n|---|---|---|---|---|---|"
    )
    for ranks in RANKS:
        for count in COUNTS:
            found = run_distributed(measure_packing, count, rounds, 20, ranks=ranks, timeout_s=600)[0]
            least = min(found["packed"][1])
            for way, (collectives, taken) in found.items():
                figures = f"{min(taken) * 1e6:,.0f} ({statistics.median(taken) * 1e6:,.0f})"
                print(f"| {ranks} | {count} | {way} | {collectives} | {figures} | {min(taken) / least:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    report_serial_calls(rounds)
    report_packing(rounds)


if __name__ == "__main__":
    main()

"""What saving in the background costs: how long a save holds up the loop, and how much slower training is meanwhile.

python tests/benchmarks/checkpoint_async.py [--sizes 200,1000] [--rounds 5] [--folder FOLDER]

Beside ours stand pytorch-ignite's DiskSaver, which writes while the loop waits, and torch.distributed.checkpoint's
async_save. All take their turn in each round; torch computes on one thread less than there are cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import ignite_core.distributed as idist
from ignite_core.handlers import AsyncDiskSaver

__all__ = ["report_stall", "report_training"]

#: Layers of the model that is saved; each has a weight and two tensors of Adam, and a counter.
LAYERS = 160

#: The window in which training is timed, in times that a write takes.
WINDOW = 10


@dataclass(frozen=True)
class Way:
    """A way to save: ``save`` returns when the loop may go on, ``finish`` when the file is there."""

    save: Callable[[Any, str], object]
    finish: Callable[[], object] = lambda: None


def state_of(megabytes: int) -> dict[str, Any]:
    """The state dicts of a model and of Adam."""
    length = megabytes * 10**6 // (4 * 3 * LAYERS)
    names = [f"layers.{number}.weight" for number in range(LAYERS)]
    moments = {
        number: {"step": torch.tensor(1.0), "exp_avg": torch.randn(length), "exp_avg_sq": torch.randn(length)}
        for number in range(LAYERS)
    }
    groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "params": list(range(LAYERS))}]
    return {
        "model": {name: torch.randn(length) for name in names},
        "optimizer": {"state": moments, "param_groups": groups},
    }


def tensors_in(state: Any) -> Iterator[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors_in(value)


def copy_of(state: Any) -> Way:
    """What no snapshot can do without: a copy of each tensor into a buffer that was used before."""
    sources = list(tensors_in(state))
    buffers = [torch.empty_like(source) for source in sources]

    def copy(state: Any, name: str) -> None:
        for buffer, source in zip(buffers, sources, strict=True):
            buffer.copy_(source)

    return Way(copy)


@contextmanager
def ours(folder: Path) -> Iterator[Way]:
    with AsyncDiskSaver(folder / "ours") as saver:

        def save(state: Any, name: str) -> None:
            saver(state, name)

        yield Way(save, saver.flush)


def of_ignite(folder: Path) -> Way | None:
    try:
        from ignite.handlers import DiskSaver
    except ModuleNotFoundError:
        return None
    saver = DiskSaver(str(folder / "ignite"), require_empty=False)
    return Way(lambda state, name: saver(state, name))


@contextmanager
def of_torch(folder: Path) -> Iterator[Way]:
    """async_save, whose buffers are kept too."""
    from torch.distributed.checkpoint import FileSystemWriter, async_save

    pending: list[Any] = []

    def save(state: Any, name: str) -> None:
        pending.append(async_save(state, storage_writer=FileSystemWriter(folder / "torch" / name)))

    def finish() -> None:
        while pending:
            pending.pop().result()

    idist.initialize("gloo")
    try:
        yield Way(save, finish)
    finally:
        finish()
        idist.finalize()


@contextmanager
def ways(folder: Path) -> Iterator[dict[str, Way]]:
    with ours(folder) as way, of_torch(folder) as official:
        found = {"AsyncDiskSaver": way, "torch's async_save": official}
        ignite = of_ignite(folder)
        if ignite is not None:
            found["pytorch-ignite's DiskSaver"] = ignite
        yield found


def timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def clear(folder: Path) -> None:
    """Leave the disk with nothing to do."""
    for place in folder.glob("*/*"):
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    os.sync()


def report_stall(sizes: list[int], rounds: int, folder: Path) -> None:
    """How long the loop stands still in a save, from the second one on."""
    print("| MB | way | the loop waits, ms, minimum (median) | of the copy | until it is on disk, ms |")
    print("|---|---|---|---|---|")
    for size in sizes:
        state = state_of(size)
        with ways(folder) as found:
            found = {"copy_ into kept buffers": copy_of(state), **found}
            stalls: dict[str, list[float]] = {name: [] for name in found}
            wholes: dict[str, list[float]] = {name: [] for name in found}
            for number in range(rounds + 1):
                for name, way in found.items():
                    clear(folder)
                    begin = time.perf_counter()
                    stall = timed(partial(way.save, state, f"{number}.pt"))
                    way.finish()
                    if number:  # the first one makes the buffers
                        stalls[name].append(stall * 1e3)
                        wholes[name].append((time.perf_counter() - begin) * 1e3)
        least = min(stalls["copy_ into kept buffers"])
        for name, taken in stalls.items():
            cells = f"{min(taken):,.1f} ({statistics.median(taken):,.1f}) | {min(taken) / least:.2f}"
            print(f"| {size} | {name} | {cells} | {min(wholes[name]):,.0f} |", flush=True)


class Training:
    """Steps of about 10 ms."""

    def __init__(self) -> None:
        self.x = torch.randn(384, 384)
        self.repeats = max(1, round(0.01 / min(timed(self.once) for _ in range(20))))
        self.step_s = min(timed(self.step) for _ in range(20))

    def once(self) -> None:
        torch.mm(self.x, self.x).relu_()

    def step(self) -> None:
        for _ in range(self.repeats):
            self.once()

    def run(self, steps: int, save: Callable[[], object] | None = None) -> tuple[float, float]:
        """Seconds of all steps, and of the longest; a save before the first counts as a part of it."""
        longest, begin = 0.0, time.perf_counter()
        for number in range(steps):
            before = time.perf_counter()
            if number == 0 and save is not None:
                save()
            self.step()
            longest = max(longest, time.perf_counter() - before)
        return time.perf_counter() - begin, longest


def report_training(sizes: list[int], rounds: int, folder: Path) -> None:
    """How much longer training takes with one save in ten times what a write takes."""
    training = Training()
    print(f"\nsteps of {training.step_s * 1e3:.1f} ms, one save in {WINDOW} times what a write takes")
    print("| MB | way | s of training, without and with | ratio, minimum (median) | longest step, ms |")
    print("|---|---|---|---|---|")
    for size in sizes:
        state = state_of(size)
        with ways(folder) as found:
            writes = {}
            for name, way in found.items():
                for number in range(2):
                    clear(folder)
                    writes[name] = timed(partial(way.save, state, f"{number}.pt")) + timed(way.finish)
            for name, way in found.items():
                steps = max(10, round(WINDOW * writes[name] / training.step_s))
                results = []
                for number in range(rounds):
                    clear(folder)
                    without, _ = training.run(steps)
                    with_save, longest = training.run(steps, partial(way.save, state, f"window_{number}.pt"))
                    way.finish()
                    results.append((with_save / without, without, with_save, longest))
                ratio, without, with_save, _ = min(results)
                median = statistics.median(result[0] for result in results)
                longest = min(result[3] for result in results) * 1e3
                cells = f"{without:.2f}, {with_save:.2f} | {ratio:.3f} ({median:.3f}) | {longest:,.0f}"
                print(f"| {size} | {name} | {cells} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="200,1000", help="megabytes, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="on the disk to measure; by default that of temporary files")
    asked = parser.parse_args()
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    sizes = [int(size) for size in asked.sizes.split(",")]
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        report_stall(sizes, asked.rounds, Path(folder))
        report_training(sizes, min(asked.rounds, 3), Path(folder))


if __name__ == "__main__":
    main()

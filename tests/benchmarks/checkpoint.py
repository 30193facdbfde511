"""What checkpoints cost: to save one until it is safe on the disk, and to load one, verified, into a model.

python tests/benchmarks/checkpoint.py [--sizes 200,1000] [--rounds 5] [--folder FOLDER] [--only save|load]

Each way takes its turn in each round, on the same disk; "of the floor" compares the minima with what nobody can do
without: torch.save and fsync; or a SHA-256 of the file with the same threads, torch.load and load_state_dict.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ignite_core.handlers import DiskSaver
from ignite_core.handlers.checkpoint.storage.hashing import digest
from ignite_core.handlers.checkpoint.storage.load import load

#: Layers of the model that is saved; each has a weight and two tensors of Adam, and a counter.
LAYERS = 160

Ways = dict[str, Callable[[Path], object]]


def training(megabytes: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model and its optimizer, whose states have so many megabytes together."""
    length = megabytes * 10**6 // (4 * 3 * LAYERS)
    model = nn.ParameterList([nn.Parameter(torch.randn(length)) for _ in range(LAYERS)])
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def saves(state: dict[str, Any], folder: Path) -> Ways:
    """Each is given a path that is free."""

    def bare(path: Path) -> None:
        torch.save(state, path)
        sync(path)
        sync(path.parent)

    saver = DiskSaver(folder, require_empty=False)
    found: Ways = {"torch.save and fsync": bare, "ours": lambda path: saver(state, path.name, {"step": 1})}
    if importlib.util.find_spec("ignite") is not None:
        import ignite.handlers

        theirs = ignite.handlers.DiskSaver(str(folder), require_empty=False)

        def ignite_and_sync(path: Path) -> None:
            theirs(state, path.name)
            sync(path)
            sync(path.parent)

        found["pytorch-ignite, which does not sync"] = lambda path: theirs(state, path.name)
        found["pytorch-ignite and fsync"] = ignite_and_sync
    return found


def loads(model: nn.Module, optimizer: torch.optim.Optimizer) -> Ways:
    """Each is given a file that one of ours has written."""

    def put(state: dict[str, Any]) -> None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    def floor(path: Path) -> None:
        with open(path, "rb") as file:
            digest(file.fileno())
        put(torch.load(path, weights_only=True, mmap=True))

    return {
        "SHA-256 and torch.load(mmap=True)": floor,
        "ours": lambda path: put(load(path)),
        'ours, verify="size"': lambda path: put(load(path, verify="size")),
        "torch.load(mmap=True), nothing verified": lambda path: put(torch.load(path, weights_only=True, mmap=True)),
        "torch.load, nothing verified": lambda path: put(torch.load(path, weights_only=True)),
    }


def in_turn(ways: Ways, rounds: int, prepare: Callable[[], Path]) -> dict[str, list[float]]:
    """Seconds of each; in every second round the other way round, as one may have to wait for what another has left."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in list(ways.items())[:: 1 if number % 2 else -1]:
            path = prepare()
            os.sync()
            begin = time.perf_counter()
            way(path)
            if number:  # the first one is to warm up
                times[name].append(time.perf_counter() - begin)
    return times


def report(title: str, row: str, times: dict[str, list[float]]) -> None:
    floor = min(next(iter(times.values())))
    for name, taken in times.items():
        cells = f"{min(taken):.3f} ({statistics.median(taken):.3f}) | {min(taken) / floor:.2f}"
        print(f"| {title} {row} | {name} | {cells} |", flush=True)


HEAD = "\n| {} | by | s, minimum (median) | of the floor |\n|---|---|---|---|"


def emptied(folder: Path) -> Path:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder / "run.pt"


def report_saves(sizes: list[int], rounds: int, folder: Path) -> None:
    print(HEAD.format("save"))
    for megabytes in sizes:
        model, optimizer = training(megabytes)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        times = in_turn(saves(state, folder), rounds, lambda: emptied(folder))
        report("save", f"{megabytes} MB", times)


def report_loads(sizes: list[int], rounds: int, folder: Path) -> None:
    print(HEAD.format("load"))
    for megabytes in sizes:
        model, optimizer = training(megabytes)
        path = emptied(folder)
        DiskSaver(folder, require_empty=False)(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "run.pt"
        )
        report("load", f"{megabytes} MB", in_turn(loads(model, optimizer), rounds, lambda path=path: path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="200,1000", help="megabytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--only", choices=("save", "load"))
    told = parser.parse_args()
    sizes = [int(size) for size in told.sizes.split(",")]
    with tempfile.TemporaryDirectory(dir=told.folder) as name:
        folder = Path(name)
        rows: dict[str, Callable[[], None]] = {
            "save": lambda: report_saves(sizes, told.rounds, folder),
            "load": lambda: report_loads(sizes, told.rounds, folder),
        }
        for row, run in rows.items():
            if told.only in (None, row):
                run()


if __name__ == "__main__":
    main()

"""What the engine adds to a bare loop, beside pytorch-ignite and Lightning, in one process and alternating rounds.

    python tests/benchmarks/engine.py [--rounds 7] [--iterations 20000]

Prints the tables of docs/performance.md: nanoseconds an iteration that each adds to ``for batch in data: step(batch)``,
as minimum (and median) over the rounds, the ratio to pytorch-ignite, and the time of imports in fresh processes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

import ignite_core.engine
import ignite_core.metrics
from ignite_contrib.loggers import ProgressBar

try:
    import ignite.engine
    import ignite.handlers
    import ignite.metrics
except ModuleNotFoundError:
    ignite = None  # type: ignore[assignment]
try:
    import lightning
except ModuleNotFoundError:
    lightning = None  # type: ignore[assignment]

Run = Callable[[], Any]
random.seed(0)
PERIODS = [random.randint(50, 2000) for _ in range(1000)]


def step(engine: Any, batch: Any) -> Any:
    return batch


def handler(engine: Any) -> None:
    """Do nothing, as cheaply as a function can."""


def bare(data: list[Any]) -> Run:
    def run() -> None:
        for batch in data:
            step(None, batch)

    return run


def with_handlers(library: Any, data: list[Any], filters: list[dict[str, int]]) -> Run:
    """A run with one handler on ITERATION_COMPLETED for each filter; an empty filter is none."""
    engine = library.engine.Engine(step)
    completed = library.engine.Events.ITERATION_COMPLETED
    for chosen in filters:
        engine.add_event_handler(completed(**chosen) if chosen else completed, handler)
    return lambda: engine.run(data)


def with_progress_bar(library: Any, data: list[Any]) -> Run:
    engine = library.engine.Engine(step)
    if library is ignite_core:
        ProgressBar(file=io.StringIO()).attach(engine)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library.handlers.ProgressBar(file=io.StringIO()).attach(engine)
    return lambda: engine.run(data)


def with_running_average(library: Any, data: list[Any]) -> Run:
    loss = torch.tensor(0.5)
    engine = library.engine.Engine(lambda engine, batch: loss)
    library.metrics.RunningAverage(output_transform=lambda output: output).attach(engine, "loss")
    return lambda: engine.run(data)


def with_lightning(data: list[Any], callbacks: int) -> Run:
    """Lightning without everything that can be switched off, and as many callbacks at the end of a batch.

    It takes a good part of a second to set up a fit, so the time is taken from the first batch to the last.
    """
    times: list[float] = []

    class Batches:
        def __len__(self) -> int:
            return len(data)

        def __iter__(self) -> Any:
            return iter(data)

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            times.append(time.perf_counter())
            step(None, batch)

        def configure_optimizers(self) -> None:
            return None

    class Callback(lightning.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, *args: Any) -> None:
            handler(None)

    def run() -> float:
        times.clear()
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Callback() for _ in range(callbacks)],
        )
        trainer.fit(Module(), Batches())
        return (times[-1] - times[0]) * len(data) / (len(data) - 1)

    return run


def cases(data: list[Any]) -> dict[str, dict[str, Run]]:
    """By row of the table: what to run, by library. Slow peers get no more handlers than they bear."""
    short = data[: len(data) // 40]  # for rows in which a peer takes minutes
    rows: dict[str, dict[str, Run]] = {}

    def row(name: str, make: Callable[..., Run], *args: Any, peer_data: list[Any] = data) -> dict[str, Run]:
        rows[name] = {"ours": make(ignite_core, data, *args)}
        if ignite is not None:
            rows[name]["ignite"] = make(ignite, peer_data, *args)
        return rows[name]

    none = row("no handler", with_handlers, [])
    row("1 handler", with_handlers, [{}])
    ten = row("10 handlers", with_handlers, [{}] * 10)
    row("100 handlers", with_handlers, [{}] * 100, peer_data=short)
    row("1000 handlers", with_handlers, [{}] * 1000, peer_data=short)
    row("1 handler `every=100`", with_handlers, [{"every": 100}])
    row("10 handlers `every=100`", with_handlers, [{"every": 100}] * 10)
    row("100 handlers `every=1000`", with_handlers, [{"every": 1000}] * 100, peer_data=short)
    row("1000 handlers `every=1000`", with_handlers, [{"every": 1000}] * 1000, peer_data=short)
    row("1000 handlers, periods 50 to 2000", with_handlers, [{"every": n} for n in PERIODS], peer_data=short)
    row("progress bar", with_progress_bar, peer_data=short)
    row("RunningAverage", with_running_average, peer_data=short)
    if lightning is not None:
        none["lightning"] = with_lightning(short, 0)
        ten["lightning"] = with_lightning(short, 10)
    return rows


def nanoseconds(run: Run, iterations: int) -> float:
    """Of one iteration, by the time of a whole run, or by what the run says that it took."""
    start = time.perf_counter()
    taken = run()
    seconds = taken if isinstance(taken, float) else time.perf_counter() - start
    return seconds / iterations * 1e9


def measure(rounds: int, iterations: int) -> None:
    data = [0] * iterations
    size = {"ours": iterations, "ignite": iterations, "lightning": iterations // 40}
    bare_run = bare(data)
    print(
        "| added to a bare loop, ns an iteration | ours | pytorch-ignite | ratio | lightning |\n|---|---|---|---|---|"
    )
    for name, runs in cases(data).items():
        shortened = not name.startswith(("no", "1 ", "10 "))
        times: dict[str, list[float]] = {library: [] for library in ("bare", *runs)}
        for _ in range(rounds):
            times["bare"].append(nanoseconds(bare_run, iterations))
            for library, run in runs.items():
                batches = iterations // 40 if library == "ignite" and shortened else size[library]
                times[library].append(nanoseconds(run, batches))
        added = {one: added_to(times["bare"], taken) for one, taken in times.items() if one != "bare"}
        ratio = f"{added['ignite'][0] / added['ours'][0]:.0f}" if "ignite" in added else ""
        print(f"| {name} | {show(added, 'ours')} | {show(added, 'ignite')} | {ratio} | {show(added, 'lightning')} |")
    print(f"\nBare loop: {min(times['bare']):.0f} ns an iteration.\n")


def added_to(bare_times: list[float], times: list[float]) -> tuple[float, float]:
    """Minimum and median of what a library adds."""
    return min(times) - min(bare_times), statistics.median(times) - statistics.median(bare_times)


def show(added: dict[str, tuple[float, float]], library: str) -> str:
    if library not in added:
        return ""
    least, median = added[library]
    return f"{least:,.0f} ({median:,.0f})"


def import_times(rounds: int) -> None:
    modules = ["ignite_core", "ignite_core.engine", "ignite_core.metrics", "ignite.engine", "torchmetrics", "lightning"]
    found = [name for name in modules if importlib.util.find_spec(name.partition(".")[0]) is not None]
    times: dict[str, list[float]] = {name: [] for name in found}
    code = "import time, torch; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(rounds):
        for name in found:
            answer = subprocess.run(
                [sys.executable, "-c", code.format(name)], capture_output=True, check=True, env=environment
            )
            times[name].append(float(answer.stdout.split()[-1]))
    print("| import on top of torch, ms in a fresh process | minimum | median |\n|---|---|---|")
    for name, taken in times.items():
        print(f"| `{name}` | {min(taken) * 1e3:,.1f} | {statistics.median(taken) * 1e3:,.1f} |")


def versions() -> str:
    found = []
    for name in ("ignite-core", "pytorch-ignite", "lightning", "torch", "tqdm"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return f"Python {platform.python_version()}, {', '.join(found)}; {platform.system()} {platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=20_000)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print(versions(), end="\n\n")
    measure(options.rounds, options.iterations)
    import_times(options.rounds)


if __name__ == "__main__":
    main()

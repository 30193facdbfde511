"""What logging to MLflow and to Visdom costs, beside pytorch-ignite, in turn; the servers are real, on this machine.

python tests/benchmarks/logger_servers.py [--rounds 5] [--iterations 300]
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.contrib.loggers.servers import Server, mlflow_server, visdom_server

#: Modules of engines and of loggers, by the name of the library.
LIBRARIES = {
    "ours": ("ignite_core.engine", "ignite_contrib.loggers.{}"),
    "pytorch-ignite": ("ignite.engine", "ignite.handlers.{}_logger"),
}

EVERY = (1, 100)


def libraries(back_end: str) -> dict[str, tuple[ModuleType, ModuleType]]:
    found = {}
    for name, (engines, loggers) in LIBRARIES.items():
        with suppress(ModuleNotFoundError):
            found[name] = importlib.import_module(engines), importlib.import_module(loggers.format(back_end))
    return found


def work() -> Callable[[Any, Any], float]:
    """A step of about a millisecond."""
    matrix = torch.rand(300, 300)

    def step(engine: Any, batch: int) -> float:
        (matrix @ matrix @ matrix).sum()
        return 1 / (1 + batch)

    return step


def open_logger(back_end: str, module: ModuleType, server: Server) -> Any:
    if back_end == "mlflow":
        return module.MLflowLogger(server.url)
    return module.VisdomLogger(server="http://127.0.0.1", port=server.port, env=f"env {time.time_ns()}")


def run(engines: ModuleType, iterations: int, open_: Callable[[], Any] | None, every: int) -> tuple[float, float]:
    """Seconds of the loop, and until all has arrived."""
    engine = engines.Engine(work())
    logger = open_() if open_ is not None else None
    if logger is not None:
        event = engines.Events.ITERATION_COMPLETED(every=every)
        logger.attach_output_handler(
            engine, event_name=event, tag="training", output_transform=lambda loss: {"l": loss}
        )
    ends: list[float] = []
    engine.add_event_handler(engines.Events.EPOCH_COMPLETED, lambda: ends.append(time.perf_counter()))
    start = time.perf_counter()
    engine.run(range(iterations))
    if logger is not None:
        logger.close()
    return ends[0] - start, time.perf_counter() - start


def measure(back_end: str, server: Server, rounds: int, iterations: int) -> list[str]:
    rows: list[str] = []
    for every in EVERY:
        loops: dict[str, list[float]] = {}
        wholes: dict[str, list[float]] = {}
        bare: dict[str, list[float]] = {}
        for _ in range(rounds + 1):
            for name, (engines, loggers) in libraries(back_end).items():
                bare.setdefault(name, []).append(run(engines, iterations, None, every)[0])
                loop, whole = run(
                    engines, iterations, lambda module=loggers: open_logger(back_end, module, server), every
                )
                loops.setdefault(name, []).append(loop)
                wholes.setdefault(name, []).append(whole)
        for name in loops:
            # the first round warms up
            alone, loop = bare[name][1:], loops[name][1:]
            least = (min(loop) - min(alone)) / iterations * 1e6
            usual = (statistics.median(loop) - statistics.median(alone)) / iterations * 1e6
            step = statistics.median(alone) / iterations * 1e6
            rows.append(
                f"| {back_end}, every={every} | {name} | {step:,.0f} | {least:,.0f} ({usual:,.0f}) "
                f"| {100 * usual / step:,.1f} % | {statistics.median(wholes[name][1:]):.2f} |"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=300)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    torch.set_num_threads(1)
    print("| | | a step alone, µs | logging adds, µs: best (median) | of the step | until all has arrived, s |")
    print("|---|---|---|---|---|---|")
    for back_end, make in (("mlflow", mlflow_server), ("visdom", visdom_server)):
        with tempfile.TemporaryDirectory() as folder:
            server = make(Path(folder))
            server.start()
            try:
                with redirect_stdout(io.StringIO()):  # MLflow prints where each run is to be seen
                    rows = measure(back_end, server, arguments.rounds, arguments.iterations)
            finally:
                server.stop()
        print("\n".join(rows))


if __name__ == "__main__":
    main()

"""R2: runs that are killed at any moment, again and again, and resumed; each must end as the one that nobody killed.

A process that has imported everything and run one training step forks a child for each run, so that a kill costs
a third of a second. It prints what it saw as one line of JSON::

    OMP_NUM_THREADS=1 python -m tests.faults.kill_runs --kills 50 --seed 1

Every second run is killed at a random time, the others at a random file operation of a save.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from ignite_core.engine import Engine, Events, create_supervised_trainer
from ignite_core.handlers import Checkpoint, DiskSaver, resume
from tests.faults import io_shim
from tests.handlers.checkpoint.comparing import manifests

SAVE_EVERY, EPOCHS, BATCH, SAMPLES, SEED = 3, 2, 4, 40, 11
ITERATIONS = EPOCHS * SAMPLES // BATCH

#: Times that one run is killed before it may end.
MOST_KILLS = 5


class Samples(TensorDataset):
    """Each with its number, so that what was consumed can be told."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(SAMPLES, 6, generator=generator)
        super().__init__(x, (x.sum(1, keepdim=True) > 0).float(), torch.arange(SAMPLES))


@dataclass
class Setup:
    trainer: Engine
    objects: dict[str, Any]
    loader: DataLoader[Any]


def build(workers: int = 0) -> Setup:
    """What has a state, all of it: dropout, Adam, a schedule, EMA, shuffled data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.9)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))

    def prepare(batch: Any, device: Any, non_blocking: bool) -> Any:
        trainer.state.ids = batch[2].tolist()
        return batch[0], batch[1]

    loss_fn = nn.functional.binary_cross_entropy_with_logits
    trainer = create_supervised_trainer(model, optimizer, loss_fn, prepare_batch=prepare)

    @trainer.on(Events.ITERATION_COMPLETED(priority=10))
    def follow() -> None:
        scheduler.step()
        ema.update_parameters(model)

    objects = {"trainer": trainer, "model": model, "optimizer": optimizer, "scheduler": scheduler, "ema": ema}
    return Setup(trainer, objects, DataLoader(Samples(), batch_size=BATCH, shuffle=True, num_workers=workers))


def digest(setup: Setup) -> str:
    """Of everything that the run has changed, bit for bit."""
    found = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(str((value.dtype, tuple(value.shape))).encode() + value.detach().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                found.update(repr(key).encode())
                take(value[key])
        elif isinstance(value, list | tuple):
            for one in value:
                take(one)
        else:
            found.update(repr(value).encode())

    for name in ("model", "optimizer", "scheduler", "ema"):
        take(setup.objects[name].state_dict())
    take(torch.get_rng_state())
    take(random.getstate())
    return found.hexdigest()


def run(folder: Path, workers: int, note: Callable[[str], None]) -> str:
    """Train from where the folder has a run, to the end; ``note`` tells each batch and each save that returned."""
    setup = build(workers)
    saver = DiskSaver(folder, require_empty=False)
    checkpoint = Checkpoint(setup.objects, saver, n_saved=2)

    def save(engine: Engine) -> None:
        note(f"saving {engine.state.iteration}")
        checkpoint(engine)
        note(f"saved {engine.state.iteration}")

    setup.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: note(f"batch {engine.state.iteration} {engine.state.ids}")
    )
    setup.trainer.add_event_handler(Events.ITERATION_COMPLETED(every=SAVE_EVERY), save)
    resume(setup.trainer, setup.objects, folder)
    setup.trainer.run(setup.loader, max_epochs=EPOCHS, seed=SEED)
    return digest(setup)


def in_a_child(
    folder: Path, workers: int, log: Path, shim: str = "", kill_after_s: float | None = None
) -> tuple[int, str]:
    """Run in a forked process; how it ended (as :class:`subprocess.Popen` tells it), and the digest at its end."""
    assert threading.active_count() == 1, "a process with threads must not be forked"
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            os.close(reader)
            lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.environ["IGNITE_IO_SHIM"] = shim
            io_shim.install_from_environment()
            told = run(folder, workers, lambda line: os.write(lines, f"{line}\n".encode()) and None)
            os.write(writer, told.encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    if kill_after_s is not None and not select.select([reader], [], [], kill_after_s)[0]:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # a worker that was just started when the run was killed does not notice that
    with os.fdopen(reader) as result:
        digest_told = result.read()
    return os.waitstatus_to_exitcode(status), digest_told


@dataclass
class Report:
    """What became of all runs."""

    cases: int = 0
    kills: int = 0
    kills_in_a_save: int = 0
    faults: list[str] = field(default_factory=list)  #: what should not have happened, with what reproduces it


@dataclass
class Reference:
    """The run that nobody killed."""

    digest: str
    batches: dict[int, str]
    operations: int
    seconds: float


def reference(folder: Path, workers: int) -> Reference:
    log, counted = folder / "log", folder / "operations"
    folder.mkdir()
    in_a_child(folder / "run", workers, log, shim=f"count:{counted}")
    log.unlink()
    shutil.rmtree(folder / "run")
    began = time.monotonic()
    status, told = in_a_child(folder / "run", workers, log)
    assert status == 0, "the run failed without being killed"
    events = read_log(log)
    batches = {int(number): ids for kind, number, ids in events if kind == "batch"}
    assert sorted(batches) == list(range(1, ITERATIONS + 1))
    return Reference(told, batches, len(counted.read_text().splitlines()), time.monotonic() - began)


def read_log(log: Path) -> list[tuple[str, str, str]]:
    """Kind, iteration and the rest of each whole line: a kill may have torn the last one."""
    text = log.read_text() if log.exists() else ""
    parts = (line.split(" ", 2) for line in text.splitlines(keepends=True) if line.endswith("\n"))
    return [(kind, number.strip(), "".join(rest).strip()) for kind, number, *rest in parts]


def one_case(case: int, folder: Path, expected: Reference, chance: random.Random, report: Report) -> None:
    """Kill one run up to five times, then let it end."""
    workers = 2 if case % 10 == 0 else 0
    log, history = folder / "log", []
    for _ in range(chance.randint(1, MOST_KILLS)):
        if case % 2:
            operation = chance.randint(1, expected.operations)
            history.append(f"operation {operation}")
            status, _ = in_a_child(folder / "run", workers, log, shim=f"kill:{operation}")
        else:
            after_s = chance.uniform(0.0, expected.seconds)
            history.append(f"{after_s:.4f} s")
            status, _ = in_a_child(folder / "run", workers, log, kill_after_s=after_s)
        if status == 0:  # it was through before that
            break
        if status not in (-signal.SIGKILL, io_shim.KILLED):
            report.faults.append(f"case {case}, killed at {history}: a resumed run failed with status {status}")
            return
        report.kills += 1
        report.kills_in_a_save += _is_in_a_save(log)
        _check_newest(case, folder / "run", log, history, report)
    status, told = in_a_child(folder / "run", workers, log)
    batches = {(int(number), ids) for kind, number, ids in read_log(log) if kind == "batch"}
    if status != 0:
        report.faults.append(f"case {case}, killed at {history}: the last run failed with status {status}")
    elif told and told != expected.digest:
        report.faults.append(f"case {case}, killed at {history}: the final state differs")
    elif batches != set(expected.batches.items()):
        report.faults.append(f"case {case}, killed at {history}: other samples were consumed")
    leftovers = [path.name for path in (folder / "run").iterdir() if path.name.startswith(".")]
    if leftovers:
        report.faults.append(f"case {case}, killed at {history}: left behind {leftovers}")


def _is_in_a_save(log: Path) -> bool:
    events = [(kind, number) for kind, number, _ in read_log(log) if kind in ("saving", "saved")]
    return bool(events) and events[-1][0] == "saving"


def _check_newest(case: int, folder: Path, log: Path, history: list[str], report: Report) -> None:
    """Nothing that a save promised is lost: at most one interval, and the save under way."""
    saved = max((int(number) for kind, number, _ in read_log(log) if kind == "saved"), default=0)
    steps = [found.step or 0 for found in manifests(folder)] if folder.exists() else []
    if max(steps, default=0) < saved:
        report.faults.append(f"case {case}, killed at {history}: step {saved} was saved, what is there are {steps}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many to reach")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    assert torch.get_num_threads() == 1, "set OMP_NUM_THREADS=1: a process with a pool of threads must not be forked"
    chance = random.Random(arguments.seed)
    report = Report()
    with tempfile.TemporaryDirectory(prefix="kill_runs_") as root:
        warm = build()
        warm.trainer.run(warm.loader, max_epochs=1, epoch_length=1, seed=SEED)  # what is loaded late is loaded now
        expected = reference(Path(root) / "reference", 0)
        while report.kills < arguments.kills and len(report.faults) < 3:
            report.cases += 1
            folder = Path(root) / f"case_{report.cases}"
            folder.mkdir()
            one_case(report.cases, folder, expected, chance, report)
            shutil.rmtree(folder)
    print(json.dumps(asdict(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

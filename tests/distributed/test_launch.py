"""The same code alone, spawned, under torchrun and under SLURM; and restarts by torchrun."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

import ignite_core.distributed as idist
from ignite_core.distributed.launch.environment import Place, read_launch
from tests.distributed.launching import by_hand, free_port, launch, node, run_commands, torchrun
from tests.distributed.test_rendezvous import join

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")

#: Trains a line on 64 points, with nothing that tells how it was started. The data are spread over the ranks.
TRAIN = """
import sys

import torch
from torch import nn

import ignite_core.distributed as idist
from ignite_core.engine import create_supervised_evaluator, create_supervised_trainer
from ignite_core.metrics import Loss


def training(local_rank):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    x = torch.linspace(-1, 1, 67).unsqueeze(1)
    data = torch.utils.data.TensorDataset(x, 3 * x + 0.5 + 0.1 * torch.sin(20 * x))
    model = idist.auto_model(nn.Linear(1, 1))
    optimizer = idist.auto_optim(torch.optim.SGD(model.parameters(), lr=0.2))
    loader = idist.auto_dataloader(data, batch_size=8, shuffle=True, drop_last=True)
    create_supervised_trainer(model, optimizer, nn.functional.mse_loss).run(loader, max_epochs=3)
    evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(nn.functional.mse_loss)})
    loss = evaluator.run(idist.auto_dataloader(data, batch_size=16, pad=False)).metrics["loss"]
    if idist.get_rank() == 0:
        print(f"{idist.get_world_size()} ranks, validation loss {loss:.9f}", flush=True)


if __name__ == "__main__":
    options = {"nproc_per_node": 2} if "spawn" in sys.argv else {}
    with idist.Parallel("gloo", **options) as parallel:
        parallel.run(training)
"""


def test_one_script_with_all_launchers(tmp_path: Path) -> None:
    """The validation metric is the same alone, spawned and under torchrun."""
    script = tmp_path / "train.py"
    script.write_text(TRAIN)

    [alone] = run_commands([sys.executable, str(script)])
    [spawned] = run_commands([sys.executable, str(script), "spawn"])
    [launched] = run_commands(torchrun("--standalone", "--nproc-per-node", "2", str(script)))

    found = re.fullmatch(r"1 ranks, validation loss (0\.\d{9})\n", alone)
    assert found
    assert float(found[1]) < 0.1
    assert spawned == launched == f"2 ranks, validation loss {found[1]}\n"


# ------------------------------------------------------------------------------------------------- torchrun's restarts

#: Rank 3 (or the last one) kills itself the first time, while the ranks of the first node are busy.
RESTARTED = """
import os
import signal
import sys
import threading
from pathlib import Path

import ignite_core.distributed as idist

marker = Path(sys.argv[1])
first_time = not marker.exists()
idist.initialize("gloo")
if first_time and idist.get_rank() == idist.get_world_size() - 1:
    marker.touch()
    os.kill(os.getpid(), signal.SIGKILL)
if first_time and idist.get_node_rank() == 0 and idist.get_nnodes() == 2:
    threading.Event().wait()  # until torchrun ends it, for the other node has restarted
total = idist.all_reduce(idist.get_rank() + 1)
line = f"rank {idist.get_rank()} of {idist.get_world_size()}: {total}, restarts: "
print(line + os.environ["TORCHELASTIC_RESTART_COUNT"] + "\\n", end="", flush=True)
idist.finalize()
"""


def test_torchrun_restarts_after_a_killed_rank(tmp_path: Path) -> None:
    """The job then ends successfully."""
    script = tmp_path / "restarted.py"
    script.write_text(RESTARTED)

    command = torchrun("--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    [printed] = run_commands([*command, str(script), str(tmp_path / "marker")])

    assert sorted(printed.splitlines()) == [f"rank {rank} of 2: 3, restarts: 1" for rank in range(2)]


def test_torchrun_restarts_two_nodes(tmp_path: Path) -> None:
    """A rank of one node was killed.

    The node on which nobody failed counts no restart, yet its ranks find those of the other one.
    """
    script = tmp_path / "restarted.py"
    script.write_text(RESTARTED)
    endpoint = f"127.0.0.1:{free_port()}"
    options = ("--max-restarts", "1", "--local-addr", "127.0.0.1", str(script), str(tmp_path / "marker"))

    printed = run_commands(node(0, endpoint, *options), node(1, endpoint, *options))

    lines = sorted("".join(printed).splitlines())
    assert [line.partition(",")[0] for line in lines] == [f"rank {rank} of 4: 10" for rank in range(4)]
    assert sorted(line[-1] for line in lines) == ["0", "0", "1", "1"]


# --------------------------------------------------------------------------------------------------------------- SLURM


def of_srun(nodelist: str, nodes: list[int]) -> list[dict[str, str]]:
    """The variables of each task of a job step, in which ``nodes`` tells on which node each task is."""
    job = next(number for number in range(10_000) if is_free(20_000 + number))
    return [
        {
            "SLURM_JOB_ID": str(job),
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": str(len(nodes)),
            "SLURM_NTASKS": str(len(nodes)),
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(nodes[:rank].count(number)),
            "SLURM_NODEID": str(number),
            "SLURM_STEP_NODELIST": nodelist,
        }
        for rank, number in enumerate(nodes)
    ]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_tasks_of_srun_find_each_other() -> None:
    tasks = of_srun("localhost", [0, 0])

    outcomes = launch(join, tasks)

    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert [outcome.value for outcome in outcomes] == [(Place(rank, 2, rank, 2, 1, 0), 1) for rank in range(2)]


def test_srun_on_several_nodes() -> None:
    """Tasks meet on the first node. That one is this machine; the name of the other is never looked up."""
    outcomes = launch(join, of_srun("localhost,nowhere[08-09]", [0, 1, 0]))

    assert [outcome.error for outcome in outcomes] == ["", "", ""]
    assert [outcome.value[0] for outcome in outcomes] == [
        Place(0, 3, 0, 2, 2, 0),
        Place(1, 3, 0, 2, 2, 1),
        Place(2, 3, 1, 2, 2, 0),
    ]


# --------------------------------------------------------------------------------------------------------------- spawn


def write_place(local_rank: int, folder: str, *, factor: int) -> None:
    total = idist.all_reduce(idist.get_rank() + 1) * factor
    found = [local_rank, idist.get_local_rank(), idist.get_world_size(), idist.get_nnodes(), total]
    Path(folder, str(idist.get_rank())).write_text(json.dumps(found))


def written(folder: Path) -> dict[str, list[int]]:
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.iterdir())}


def test_spawn(tmp_path: Path) -> None:
    """Processes are initialized and get the arguments."""
    assert idist.spawn("gloo", write_place, (str(tmp_path),), {"factor": 10}, nproc_per_node=2) is None

    assert written(tmp_path) == {"0": [0, 0, 2, 1, 30], "1": [1, 1, 2, 1, 30]}
    assert read_launch(os.environ) is None  # it is the processes that were told, not this one


def test_spawn_without_join(tmp_path: Path) -> None:
    context = idist.spawn("gloo", write_place, (str(tmp_path),), {"factor": 1}, nproc_per_node=2, join=False)
    while not context.join(timeout=60):
        pass

    assert written(tmp_path) == {"0": [0, 0, 2, 1, 3], "1": [1, 1, 2, 1, 3]}


def fail_on_rank_1(local_rank: int) -> None:
    if local_rank == 1:
        raise ArithmeticError("one rank gives up")
    idist.barrier()


def test_spawn_error_has_traceback() -> None:
    with pytest.raises(mp.ProcessRaisedException, match=r"in fail_on_rank_1[\s\S]*ArithmeticError: one rank gives up"):
        idist.spawn("gloo", fail_on_rank_1, nproc_per_node=2)


def spawn_a_node(folder: str, port: int) -> None:
    number = int(os.environ["NODE"])
    place = {"nnodes": 2, "node_rank": number, "master_addr": "127.0.0.1", "master_port": port}
    idist.spawn("gloo", write_place, (folder,), {"factor": 1}, nproc_per_node=1, start_method="forkserver", **place)


def test_spawn_on_two_nodes(tmp_path: Path) -> None:
    outcomes = launch(spawn_a_node, [{"NODE": "0"}, {"NODE": "1"}], str(tmp_path), free_port())

    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert written(tmp_path) == {"0": [0, 0, 2, 2, 3], "1": [0, 0, 2, 2, 3]}


def spawn_within_a_task(folder: str) -> Any:
    return idist.spawn("gloo", write_place, (folder,), {"factor": 1}, nproc_per_node=2, start_method="forkserver")


def test_the_only_task_of_srun_can_spawn(tmp_path: Path) -> None:
    [outcome] = launch(spawn_within_a_task, of_srun("localhost", [0]), str(tmp_path))

    assert outcome.error == ""
    assert written(tmp_path) == {"0": [0, 0, 2, 1, 3], "1": [1, 1, 2, 1, 3]}


def test_launched_process_spawns_no_others(tmp_path: Path) -> None:
    [outcome] = launch(spawn_within_a_task, by_hand(2, 29500)[1:], str(tmp_path))

    assert outcome.error.startswith("ValueError: nproc_per_node=2, but RANK='1' and WORLD_SIZE='2' say that this")

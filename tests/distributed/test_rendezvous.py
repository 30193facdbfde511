"""How processes find each other, and what they say, in time, when they were told different things."""

from __future__ import annotations

import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore, Store, TCPStore  # type: ignore[attr-defined]

import ignite_core.distributed as idist
from ignite_core.distributed.launch import rendezvous
from ignite_core.distributed.launch.environment import Launch, Place
from ignite_core.distributed.models.native import TorchModel
from ignite_core.testing import run_distributed
from tests.distributed.launching import Outcome, by_hand, free_port, launch

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="needs the gloo backend, this torch has none")

#: What may pass, at most, until a process that was told wrong says so.
LIMIT_S = 30.0


def join(timeout_s: float | None = None, connect_s: float | None = None, taken_s: float | None = None) -> Any:
    if connect_s is not None:
        rendezvous.CONNECT_TIMEOUT = timedelta(seconds=connect_s)
    if taken_s is not None:
        rendezvous._TAKEN_TIMEOUT = timedelta(seconds=taken_s)
    idist.initialize("gloo", **({} if timeout_s is None else {"timeout": timedelta(seconds=timeout_s)}))
    result = place(), idist.all_reduce(torch.tensor(idist.get_rank())).item()
    idist.finalize()
    return result


def place() -> Place:
    return Place(
        idist.get_rank(),
        idist.get_world_size(),
        idist.get_local_rank(),
        idist.get_nproc_per_node(),
        idist.get_nnodes(),
        idist.get_node_rank(),
    )


def errors(outcomes: list[Outcome]) -> list[str]:
    assert all(outcome.seconds < LIMIT_S for outcome in outcomes)
    return [outcome.error for outcome in outcomes]


def who(rank: int, world_size: int) -> str:
    return f"RuntimeError: idist.initialize (backend gloo, rank {rank} of {world_size}): "


# ------------------------------------------------------------------------------------------------- they find each other


def test_store_of_rank_0() -> None:
    """Processes find each other."""
    outcomes = launch(join, by_hand(3, free_port()))

    assert errors(outcomes) == ["", "", ""]
    assert [outcome.value for outcome in outcomes] == [(Place(rank, 3, rank, 3, 1, 0), 3) for rank in range(3)]


def test_node_ranks_of_the_launcher() -> None:
    """Nodes are numbered by their lowest ranks.

    Ranks may be assigned to nodes in turn, and nodes may differ in size.
    """
    nodes = ["b", "a", "b"]
    local = ["0", "0", "1"]
    environments = by_hand(3, free_port())
    told = [e | {"GROUP_RANK": nodes[i], "LOCAL_RANK": local[i]} for i, e in enumerate(environments)]

    outcomes = launch(join, told)

    assert [outcome.value and outcome.value[0] for outcome in outcomes] == [
        Place(0, 3, 0, 2, 2, 0),
        Place(1, 3, 0, 2, 2, 1),
        Place(2, 3, 1, 2, 2, 0),
    ], errors(outcomes)


# -------------------------------------------------------------------------------------- they were told different things


def test_different_world_sizes() -> None:
    """Both ranks raise."""
    first, second = by_hand(2, free_port())

    outcomes = launch(join, [first, second | {"WORLD_SIZE": "3"}])

    for (rank, world_size), error in zip([(0, 2), (1, 3)], errors(outcomes), strict=True):
        assert error.startswith(who(rank, world_size) + "WORLD_SIZE must be the same on all ranks, but is ")
        assert "'2' on rank 0" in error
        assert "'3' on rank 1" in error


def test_duplicate_rank() -> None:
    """All ranks raise. Also where it is rank 0, which two processes want to run the store."""
    first, _ = by_hand(2, free_port())

    outcomes = launch(join, [first, first])

    node = repr(socket.gethostname())
    reason = f"two processes have RANK='0', on the nodes {node} and {node}; each needs its own"
    assert errors(outcomes) == [who(0, 2) + reason] * 2


def test_duplicate_rank_of_three() -> None:
    """All ranks raise, also those that are unique."""
    first, second, third = by_hand(3, free_port())

    outcomes = launch(join, [first, second, third | {"RANK": "1", "LOCAL_RANK": "1"}])

    for rank, error in zip([0, 1, 1], errors(outcomes), strict=True):
        assert error.startswith(who(rank, 3) + "two processes have RANK='1', on the nodes ")


def test_duplicate_local_rank() -> None:
    """Both ranks raise. As two processes that would take the same GPU."""
    first, second = by_hand(2, free_port())

    outcomes = launch(join, [first, second | {"LOCAL_RANK": "0"}])

    node = repr(socket.gethostname())
    reason = f"ranks [0, 1] have LOCAL_RANK='0' on the node {node}; each needs its own"
    assert errors(outcomes) == [who(rank, 2) + reason for rank in (0, 1)]


def test_different_ports() -> None:
    """Both ranks report it."""
    first, second = by_hand(2, free_port())
    elsewhere = str(free_port())

    outcomes = launch(join, [first, second | {"MASTER_PORT": elsewhere}], 1.0)

    waited, lost = errors(outcomes)
    assert re.fullmatch(
        re.escape(who(0, 2)) + r"waited 1\.\d s for ranks \[1\] of 2, which have not arrived; "
        r"were WORLD_SIZE='2' processes started\?",
        waited,
    )
    assert lost.startswith(
        f"{who(1, 2)}no store at MASTER_ADDR='127.0.0.1' MASTER_PORT='{elsewhere}' (from the environment): "
        "no answer in 1 s: is it the same on all ranks, and does rank 0 run?"
    )


def test_default_time_limit() -> None:
    """A rank that finds no other rank gives up, also if no time limit is given."""
    _, second = by_hand(2, free_port())

    [outcome] = launch(join, [second], None, 0.5)

    assert "no answer in 0.5 s" in outcome.error
    assert "If rank 0 starts later than that, pass timeout=timedelta(...)" in outcome.error


def test_store_timeout_is_below_the_limit() -> None:
    """Rank 0 may look for a store twice: its own, and one that stands in its place."""
    looks_s = [limit.total_seconds() for limit in (rendezvous.CONNECT_TIMEOUT, rendezvous._TAKEN_TIMEOUT)]

    assert sum(looks_s) + 2 * rendezvous._ANSWER_S <= LIMIT_S - 3
    assert rendezvous._LINGER_S <= 5


def test_unknown_host() -> None:
    """The error is raised at once."""
    outcomes = launch(join, [e | {"MASTER_ADDR": "no.such.host.invalid"} for e in by_hand(2, 29500)])

    for rank, error in enumerate(errors(outcomes)):
        assert error.startswith(
            f"{who(rank, 2)}the host of MASTER_ADDR='no.such.host.invalid' MASTER_PORT='29500' "
            "(from the environment) is not known here: "
        )


def test_port_of_another_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        outcomes = launch(join, by_hand(2, port), None, 1.0, 1.0)

    first, second = errors(outcomes)
    store = f"no store at MASTER_ADDR='127.0.0.1' MASTER_PORT='{port}' (from the environment): "
    assert first == f"{who(0, 2)}{store}rank 0 must run on that host, and the port must be free"
    assert second.startswith(f"{who(1, 2)}{store}no answer in 1 s")


def test_missing_rank_is_named() -> None:
    first, _, third = by_hand(3, free_port())

    outcomes = launch(join, [first, third], 1.0)

    for rank, error in zip([0, 2], errors(outcomes), strict=True):
        assert error.startswith(who(rank, 3))
        assert "for ranks [1] of 3, which have not arrived; were WORLD_SIZE='3' processes started?" in error


def end_while_the_others_come() -> None:
    """Rank 0 up to the moment when it runs the store and somebody has come."""
    store = TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), is_master=True, wait_for_workers=False)
    store.wait(["ignite_core/start_1/arrival_1"], timedelta(seconds=20))


def join_or_end() -> Any:
    return end_while_the_others_come() if os.environ["RANK"] == "0" else join()


def test_store_ends_during_rendezvous() -> None:
    environments = by_hand(2, free_port())

    _, error = errors(launch(join_or_end, environments))

    port = environments[0]["MASTER_PORT"]
    assert error.startswith(
        f"{who(1, 2)}the store at MASTER_ADDR='127.0.0.1' MASTER_PORT='{port}' was closed while the ranks met: "
    )


def test_incomplete_variables_fail_early() -> None:
    """Before a connection is tried."""
    _, second = by_hand(2, free_port())
    del second["MASTER_PORT"]

    [outcome] = launch(join, [second])

    assert outcome.seconds < 5
    assert outcome.error.startswith("ValueError: idist.initialize (backend gloo, rank 1): set are RANK='1', ")


# ------------------------------------------------------------------------- the same, between threads and an early store


def meet_in_threads(store: Store, *told: tuple[Launch, str], timeout_s: float = 20.0) -> list[Any]:
    def meet(launch: Launch, backend: str) -> Any:
        try:
            return rendezvous.join(store, launch, backend, timedelta(seconds=timeout_s))[1]
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(len(told)) as pool:
        return list(pool.map(meet, *zip(*told, strict=True)))


def test_different_backends() -> None:
    """All ranks raise."""
    found = meet_in_threads(HashStore(), (Launch(0, 2, 0), "gloo"), (Launch(1, 2, 1), "nccl"))

    for rank, (backend, error) in enumerate(zip(["gloo", "nccl"], found, strict=True)):
        who_and_what = f"idist.initialize (backend {backend}, rank {rank} of 2): the backend must be the same "
        assert error.startswith(who_and_what + "on all ranks, but is ")
        assert "'gloo' on rank 0" in error
        assert "'nccl' on rank 1" in error


def test_one_process_too_many() -> None:
    """It raises; the others are not affected."""
    store = HashStore()

    assert meet_in_threads(store, (Launch(0, 2, 0), "gloo"), (Launch(1, 2, 1), "gloo")) == [
        Place(0, 2, 0, 2, 1, 0),
        Place(1, 2, 1, 2, 1, 0),
    ]
    assert meet_in_threads(store, (Launch(1, 2, 1), "gloo")) == [
        "idist.initialize (backend gloo, rank 1 of 2): 3 processes arrived, but WORLD_SIZE='2'"
    ]


def restarted(rank: int, world_size: int) -> tuple[Launch, str]:
    return Launch(rank, world_size, rank, node="0", launcher_runs_store=True, may_restart=True), "gloo"


def test_entries_before_a_restart_are_ignored() -> None:
    """Before it, the ranks may have met, or only some have arrived; their number may differ after it."""
    store = HashStore()
    for world_size in (3, 2):
        assert meet_in_threads(store, *(restarted(rank, world_size) for rank in range(world_size))) == [
            Place(rank, world_size, rank, world_size, 1, 0) for rank in range(world_size)
        ]
        meet_in_threads(store, restarted(1, 3), timeout_s=0.1)
        meet_in_threads(store, restarted(0, 3), timeout_s=0.1)


@pytest.mark.parametrize(("there", "missing"), [(0, 1), (1, 0)])
def test_rank_missing_from_a_round(there: int, missing: int) -> None:
    """It is named."""
    [error] = meet_in_threads(HashStore(), restarted(there, 2), timeout_s=0.1)

    assert re.match(
        rf"idist\.initialize \(backend gloo, rank {there} of 2\): waited 0\.\d s for ranks \[{missing}\] of 2", error
    )


def test_rank_that_died_in_a_round() -> None:
    """It is named."""
    store = HashStore()
    meet_in_threads(store, restarted(1, 2), timeout_s=0.1)

    [error] = meet_in_threads(store, restarted(0, 2), timeout_s=0.1)

    assert "for ranks [1] of 2, which have not arrived" in error


# ------------------------------------------------------------------------------------------------------ again and again


def join_twice() -> str:
    idist.initialize("gloo")
    with pytest.raises(RuntimeError) as caught:
        idist.initialize("gloo")
    idist.finalize()
    return str(caught.value)


def test_who_has_joined_cannot_join_again() -> None:
    [outcome] = launch(join_twice, [{}])

    assert outcome.value == (
        "idist.initialize: torch.distributed is initialised already (backend gloo, rank 0); call idist.finalize() first"
    )


def join_many_times() -> list[Any]:
    """One rank may be back before the other has left."""
    return [join() for _ in range(5)] + [idist.model_name()]


def leave_late() -> Any:
    """Rank 0 leaves when the other has left already and waits for it to come again."""
    idist.initialize("gloo")
    if idist.get_rank() == 0:
        store = TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), is_master=False)
        store.wait(["ignite_core/start_2/arrival_1"], timedelta(seconds=20))
        del store
    idist.finalize()
    return join()


def test_rejoin_before_rank_0_has_left() -> None:
    outcomes = launch(leave_late, by_hand(2, free_port()))

    assert errors(outcomes) == ["", ""]
    assert [outcome.value for outcome in outcomes] == [(Place(rank, 2, rank, 2, 1, 0), 1) for rank in (0, 1)]


def test_rejoin_store_of_rank_0() -> None:
    """Processes can finalize and initialize again."""
    outcomes = launch(join_many_times, by_hand(2, free_port()))

    assert errors(outcomes) == ["", ""]
    for rank, outcome in enumerate(outcomes):
        assert outcome.value == [(Place(rank, 2, rank, 2, 1, 0), 1)] * 5 + ["serial"]


def test_rejoin_store_of_the_launcher() -> None:
    """Processes can finalize and initialize again."""
    with TorchModel.meeting_point() as told:
        outcomes = launch(join_many_times, [e | told for e in by_hand(2, 1)])

    assert errors(outcomes) == ["", ""]
    for rank, outcome in enumerate(outcomes):
        assert outcome.value == [(Place(rank, 2, rank, 2, 1, 0), 1)] * 5 + ["serial"]


# ---------------------------------------------------------------------------------------------- groups made by the user


def adopt(file: str, rank: int, told_local_rank: int | None) -> Any:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    found = idist.model_name(), idist.backend(), idist.get_rank(), idist.get_world_size()
    if told_local_rank is not None:
        idist.set_local_rank(told_local_rank)
        found = (*found, idist.get_local_rank())
    places = place() if told_local_rank is None else None
    total = idist.all_reduce(torch.tensor(idist.get_rank() + 1)).item()
    dist.destroy_process_group()
    return found, places, total, idist.model_name(), idist.get_world_size()


def adopt_by_host_names(file: str) -> Any:
    return adopt(file, int(os.environ["NUMBER"]), None)


def adopt_told(file: str) -> Any:
    return adopt(file, int(os.environ["NUMBER"]), 1 - int(os.environ["NUMBER"]))


def test_existing_group_counts_ranks_by_host_name(tmp_path: Path) -> None:
    """A process group that the script has initialized is used."""
    outcomes = launch(adopt_by_host_names, [{"NUMBER": "0"}, {"NUMBER": "1"}], str(tmp_path / "store"))

    assert errors(outcomes) == ["", ""]
    for rank, outcome in enumerate(outcomes):
        assert outcome.value == (("native-dist", "gloo", rank, 2), Place(rank, 2, rank, 2, 1, 0), 3, "serial", 1)


def test_existing_group_counts_ranks_by_slurm_node(tmp_path: Path) -> None:
    told = [{"NUMBER": number, "SLURM_NODEID": f"node {number}"} for number in "01"]

    outcomes = launch(adopt_by_host_names, told, str(tmp_path / "store"))

    assert errors(outcomes) == ["", ""]
    assert [outcome.value[1] for outcome in outcomes] == [Place(0, 2, 0, 1, 2, 0), Place(1, 2, 0, 1, 2, 1)]


def test_existing_group_with_local_rank(tmp_path: Path) -> None:
    """A given local rank is used."""
    outcomes = launch(adopt_told, [{"NUMBER": "0"}, {"NUMBER": "1"}], str(tmp_path / "store"))

    assert errors(outcomes) == ["", ""]
    assert [outcome.value[0] for outcome in outcomes] == [("native-dist", "gloo", rank, 2, 1 - rank) for rank in (0, 1)]


# -------------------------------------------------------------------------------------------------- collectives in time

OPERATIONS = {
    "all_reduce": lambda: idist.all_reduce(torch.ones(2)),
    "all_reduce of a number": lambda: idist.all_reduce(3),
    "all_reduce_packed": lambda: idist.all_reduce_packed([(torch.ones(2), "SUM")]),
    "all_gather": lambda: idist.all_gather(torch.ones(2)),
    "all_gather_object": lambda: idist.all_gather_object("a"),
    "broadcast": lambda: idist.broadcast(torch.ones(2), src=1),
    "barrier": idist.barrier,
}


def wait_alone(operation: str) -> str | None:
    """Rank 0 waits in a collective to which rank 1 does not come."""
    idist.finalize()
    idist.initialize("gloo", timeout=timedelta(seconds=1))
    control = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    if idist.get_rank() == 1:
        control.wait(["told"], timedelta(seconds=20))
        return None
    with pytest.raises(RuntimeError) as caught:
        OPERATIONS[operation]()
    control.set("told", "")
    return str(caught.value)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_message_of_a_collective_timeout(operation: str) -> None:
    """It names operation, rank and backend."""
    message, _ = run_distributed(wait_alone, operation, timeout_s=30.0)

    name = operation.partition(" ")[0]
    assert message.startswith(f"idist.{name} failed on rank 0 of 2 (backend gloo): ")
    assert "imed out" in message or "timeout" in message.lower()

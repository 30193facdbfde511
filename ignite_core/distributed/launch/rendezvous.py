"""How the processes of a run find each other, and find out at once whether their settings differ.

torch's own rendezvous trusts each process: two that claim rank 0, or that differ in the number of processes, wait for
each other until the time limit. Here the first process to arrive at the store compares the settings of all, and the
others wait for its verdict.
"""

from __future__ import annotations

import json
import logging
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from torch.distributed import DistNetworkError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from ignite_core.distributed.launch.environment import Launch, Place
from ignite_core.threads import start_thread

__all__ = ["connect", "join", "open_store"]

logger = logging.getLogger(__name__)

#: How long to try to connect to a store whose address was set by hand, by default.
CONNECT_TIMEOUT = timedelta(seconds=20)

#: The same under SLURM, which gives all ranks the same address: rank 0 may import slowly from a shared file system.
SLOW_START = timedelta(minutes=5)

#: How long rank 0 tries to connect to a port that it cannot bind.
_TAKEN_TIMEOUT = timedelta(seconds=5)

#: How much longer than its time limit torch may take to connect.
_ANSWER_S = 1.0

#: How long rank 0 keeps its store after a refusal, so that the others can read the reason; and how often it checks.
_LINGER_S, _POLL_S = 5.0, 0.01

#: How often missing ranks are logged.
_REPORT_S = 30.0

#: The stores that this process runs, by port. They are kept after ``finalize``, as another rank may join again first;
#: torch reuses the one of a port.
_own_stores: dict[int, TCPStore] = {}


@dataclass(frozen=True, slots=True)
class _Arrival:
    """The settings of one process."""

    rank: int
    world_size: int
    local_rank: int | None
    backend: str
    node: str

    def __str__(self) -> str:
        return f"idist.initialize (backend {self.backend}, rank {self.rank} of {self.world_size})"


def connect(launch: Launch, backend: str, timeout: timedelta | None) -> Store:
    """Connect to the store of a launch; rank 0 runs it, unless the launcher does."""
    host, port = launch.master_addr, launch.master_port
    assert host is not None
    assert port is not None
    who = f"idist.initialize (backend {backend}, rank {launch.rank} of {launch.world_size})"
    what = f"MASTER_ADDR={host!r} MASTER_PORT='{port}' (from {launch.source})"
    limit = timeout or (SLOW_START if launch.source == "SLURM" else CONNECT_TIMEOUT)
    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        raise RuntimeError(f"{who}: the host of {what} is not known here: {error}") from error
    is_master = launch.rank == 0 and not launch.launcher_runs_store
    try:
        try:
            store = open_store(host, port, is_master, limit)
            if is_master:
                _own_stores[port] = store
        except (RuntimeError, OSError):
            if not is_master:
                raise
            store = open_store(host, port, False, _TAKEN_TIMEOUT)  # if another rank 0 has it, both are refused below
    except (RuntimeError, OSError) as error:  # torch's errors of the network are RuntimeErrors
        if is_master:
            advice = "rank 0 must run on that host, and the port must be free"
        else:
            advice = (
                f"no answer in {limit.total_seconds():g} s: is it the same on all ranks, and does rank 0 run? "
                "If rank 0 starts later than that, pass timeout=timedelta(...) to idist.initialize"
            )
        raise RuntimeError(f"{who}: no store at {what}: {advice}") from error
    return store


def open_store(host: str, port: int, is_master: bool, timeout: timedelta) -> TCPStore:
    """Run a store or connect to one, in a thread: torch waits forever if another kind of server has the port."""
    made: list[TCPStore | BaseException] = []

    def make() -> None:
        try:
            made.append(TCPStore(host, port, None, is_master, timeout, wait_for_workers=False, multi_tenant=is_master))
        except BaseException as error:
            made.append(error)

    thread = start_thread(make, "connects to a store", lambda: None, join_s=_ANSWER_S)
    thread.join(timeout.total_seconds() + _ANSWER_S)
    if not made:
        raise RuntimeError(f"the server at port {port} of {host} is not a store")
    if isinstance(made[0], BaseException):
        raise made[0]
    return made[0]


def join(store: Store, launch: Launch, backend: str, timeout: timedelta) -> tuple[Store, Place]:
    """Wait until all processes have arrived, and check that their settings agree; otherwise all raise RuntimeError.

    Returns:
        The part of the store for this start of the processes, and the place of this one.
    """
    node = launch.node or socket.gethostname()
    me = _Arrival(launch.rank, launch.world_size, launch.local_rank, backend, node)
    deadline = time.monotonic() + timeout.total_seconds()
    try:
        if launch.launcher_runs_store and launch.may_restart:
            store = _find_round(store, me, deadline)
        return store, _meet(store, launch, me, deadline)
    except DistNetworkError as error:
        where = f"MASTER_ADDR={launch.master_addr!r} MASTER_PORT='{launch.master_port}'"
        raise RuntimeError(f"{me}: the store at {where} was closed while the ranks met: {error}") from error


def _find_round(store: Store, me: _Arrival, deadline: float) -> Store:
    """The part of a store for this start of the processes.

    A launcher that restarts them keeps its store, with the keys of earlier ones. There is no reliable count of
    restarts: torchrun counts on each node, and only where a process has failed. So rank 0 opens a new round, and the
    others ask for it under a unique name; questions of earlier processes are answered too, which is harmless.
    """
    if me.rank > 0:
        name = uuid.uuid4().hex
        store.set(f"question_{me.rank}", name)
        _wait_for(store, f"answer_{name}", me, deadline, [0])
        own = PrefixStore(store.get(f"answer_{name}").decode(), store)
        own.set(f"joined_{me.rank}", "")
        return own
    number = f"round_{store.add('rounds', 1)}"
    own = PrefixStore(number, store)
    began = time.monotonic()
    for rank in range(1, me.world_size):
        answered = ""
        while not own.check([f"joined_{rank}"]):
            _wait_for(store, f"question_{rank}", me, deadline, [rank])
            name = store.get(f"question_{rank}").decode()
            if name != answered:
                store.set(f"answer_{name}", number)
                answered = name
            elif time.monotonic() >= deadline:
                raise RuntimeError(_absence(me, f"ranks [{rank}] of {me.world_size}", time.monotonic() - began))
            else:
                time.sleep(_POLL_S)
    return own


def _meet(store: Store, launch: Launch, me: _Arrival, deadline: float) -> Place:
    number = store.add("arrived", 1)
    store.set(f"arrival_{number}", json.dumps(asdict(me)))
    if number == 1:
        refusal, arrivals = _compare(store, me, deadline)
        store.set("verdict", json.dumps({"refusal": refusal, "arrivals": [asdict(arrival) for arrival in arrivals]}))
    _wait_for(store, "verdict", me, deadline + _LINGER_S)
    verdict = json.loads(store.get("verdict"))
    if verdict["refusal"] is None and number > me.world_size:
        verdict["refusal"] = f"{number} processes arrived, but WORLD_SIZE='{me.world_size}'"
    if verdict["refusal"] is not None:
        _leave(store, runs_store=launch.rank == 0 and not launch.launcher_runs_store)
        raise RuntimeError(f"{me}: {verdict['refusal']}")
    return _place(me, [_Arrival(**arrival) for arrival in verdict["arrivals"]])


def _compare(store: Store, me: _Arrival, deadline: float) -> tuple[str | None, list[_Arrival]]:
    """Compare all arrivals with the first one; a refusal if they cannot run together, and the arrivals by rank."""
    arrivals: dict[int, _Arrival] = {}
    for number in range(1, me.world_size + 1):
        missing = [rank for rank in range(me.world_size) if rank not in arrivals]
        try:
            _wait_for(store, f"arrival_{number}", me, deadline, missing)
        except RuntimeError as error:
            return str(error).partition(": ")[2], []
        arrival = _Arrival(**json.loads(store.get(f"arrival_{number}")))
        if arrival.world_size != me.world_size:
            return _differ("WORLD_SIZE", me, arrival, me.world_size, arrival.world_size), []
        if arrival.backend != me.backend:
            return _differ("the backend", me, arrival, me.backend, arrival.backend), []
        if arrival.rank in arrivals:
            nodes = f"{arrivals[arrival.rank].node!r} and {arrival.node!r}"
            return f"two processes have RANK='{arrival.rank}', on the nodes {nodes}; each needs its own", []
        arrivals[arrival.rank] = arrival
    found = Counter((arrival.node, arrival.local_rank) for arrival in arrivals.values())
    for (node, local_rank), count in found.items():
        if count > 1 and local_rank is not None:
            ranks = [a.rank for a in arrivals.values() if (a.node, a.local_rank) == (node, local_rank)]
            return f"ranks {sorted(ranks)} have LOCAL_RANK='{local_rank}' on the node {node!r}; each needs its own", []
    return None, [arrivals[rank] for rank in range(me.world_size)]


def _differ(what: str, me: _Arrival, other: _Arrival, mine: Any, others: Any) -> str:
    return (
        f"{what} must be the same on all ranks, but is {str(mine)!r} on rank {me.rank} "
        f"and {str(others)!r} on rank {other.rank}"
    )


def _wait_for(store: Store, key: str, me: _Arrival, deadline: float, missing: Iterable[int] = ()) -> None:
    """Wait for a key, and log regularly which ranks it is waiting for; RuntimeError if it is not set in time."""
    began = time.monotonic()
    whom = f"ranks {list(missing)} of {me.world_size}" if missing else "the other ranks"
    while True:
        left_s = max(deadline - time.monotonic(), 0.001)
        try:
            store.wait([key], timedelta(seconds=min(_REPORT_S, left_s)))
            return
        except DistNetworkError:
            raise
        except RuntimeError as error:
            waited_s = time.monotonic() - began
            if time.monotonic() >= deadline or "timeout" not in str(error).lower():
                raise RuntimeError(_absence(me, whom, waited_s)) from error
            logger.warning("%s: waiting for %s since %.0f s", me, whom, waited_s)


def _absence(me: _Arrival, whom: str, waited_s: float) -> str:
    return (
        f"{me}: waited {waited_s:.1f} s for {whom}, which have not arrived; "
        f"were WORLD_SIZE='{me.world_size}' processes started?"
    )


def _leave(store: Store, runs_store: bool) -> None:
    """After a refusal: the rank that runs the store waits until the others have read the reason."""
    deadline = time.monotonic() + _LINGER_S
    with suppress(DistNetworkError):  # of two processes with rank 0 the one that runs the store may have left
        store.add("left", 1)
        while runs_store and store.add("left", 0) < store.add("arrived", 0) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def _place(me: _Arrival, arrivals: list[_Arrival]) -> Place:
    """The place of a process; nodes are numbered in the order of their lowest ranks."""
    nodes: Mapping[str, int] = Counter(arrival.node for arrival in arrivals)
    return Place(
        me.rank,
        me.world_size,
        sum(other.node == me.node for other in arrivals[: me.rank]) if me.local_rank is None else me.local_rank,
        nproc_per_node=max(nodes.values()),
        nnodes=len(nodes),
        node_rank=list(nodes).index(me.node),
    )

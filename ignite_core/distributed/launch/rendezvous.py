"""How the processes of a run find each other and see at once whether they were told the same.

torch's own rendezvous takes each process at its word: two that think they are rank 0, or that differ in the number of
processes, wait for each other until the time limit. Here the first one to arrive at the store compares what all were
told, and its verdict is what everyone else waits for.
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

#: How long to look for a store whose address was set by hand, unless a time limit is given.
CONNECT_TIMEOUT = timedelta(seconds=20)

#: The same where SLURM tells all ranks the same address: rank 0 may be long in importing from a shared file system.
SLOW_START = timedelta(minutes=5)

#: How long to look for the owner of a port that rank 0 wanted.
_TAKEN_TIMEOUT = timedelta(seconds=5)

#: How much longer torch may take for that than it was told.
_ANSWER_S = 1.0

#: How long rank 0 keeps its store after a refusal, so that the others can read why; and how often it looks.
_FAREWELL_S, _POLL_S = 5.0, 0.01

#: After so many seconds the ranks that are missing are reported, and again each time so many have passed.
_REPORT_S = 30.0

#: The stores that this process runs, by port. They stay when it leaves the others, for another rank may be back before
#: that; where it is rank 0 again torch takes the one that is there.
_own_stores: dict[int, TCPStore] = {}


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What one process was told."""

    rank: int
    world_size: int
    local_rank: int | None
    backend: str
    node: str


def connect(launch: Launch, backend: str, timeout: timedelta | None) -> Store:
    """Connect to the store of a launch; rank 0 runs it, unless the launcher does.

    Raises:
        RuntimeError: If the host is not known, the port is taken, or nobody answers in time.
    """
    host, port = launch.master_addr, launch.master_port
    assert host is not None
    assert port is not None
    who = f"idist.initialize (backend {backend}, rank {launch.rank} of {launch.world_size})"
    what = f"MASTER_ADDR={host!r} MASTER_PORT='{port}' (told by {launch.source})"
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
            store = open_store(
                host, port, False, _TAKEN_TIMEOUT
            )  # if it belongs to another rank 0, both will hear of it
    except (RuntimeError, OSError) as error:  # torch's errors of the network are RuntimeErrors
        if is_master:
            advice = "rank 0 must run on that host, and the port must be free"
        else:
            advice = (
                f"nobody answered in {limit.total_seconds():g} s: is it the same on all ranks, and does rank 0 run? "
                "If rank 0 starts later than that, pass timeout=timedelta(...) to idist.initialize"
            )
        raise RuntimeError(f"{who}: no store at {what}: {advice}") from error
    return store


def open_store(host: str, port: int, is_master: bool, timeout: timedelta) -> TCPStore:
    """Run a store or connect to one.

    In a thread: torch waits for ever where somebody listens at the port but does not answer as a store would.

    Raises:
        RuntimeError: If the port is taken, or nobody answers in time.
    """
    made: list[TCPStore | BaseException] = []

    def make() -> None:
        try:
            made.append(TCPStore(host, port, None, is_master, timeout, wait_for_workers=False, multi_tenant=is_master))
        except BaseException as error:
            made.append(error)

    thread = start_thread(make, "connects to a store", lambda: None, join_s=_ANSWER_S)
    thread.join(timeout.total_seconds() + _ANSWER_S)
    if not made:
        raise RuntimeError(f"who listens at port {port} of {host} is no store")
    if isinstance(made[0], BaseException):
        raise made[0]
    return made[0]


def join(store: Store, launch: Launch, backend: str, timeout: timedelta) -> tuple[Store, Place]:
    """Wait until all processes have arrived, and make sure that they were told the same.

    Args:
        store: That all of them are connected to.
        launch: What this one was told.
        backend: That it was asked to use.
        timeout: How long to wait for the others.

    Returns:
        The part of the store that belongs to this start of the processes, and the place of this one among them.

    Raises:
        RuntimeError: On all of them if what they were told does not fit together, or if some do not come in time.
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
        raise RuntimeError(
            f"{_who(me)}: who runs the store at {where} has ended while the ranks met: {error}"
        ) from error


def _find_round(store: Store, me: _Arrival, deadline: float) -> Store:
    """The part of a store that belongs to this start of the processes.

    A launcher that restarts them keeps its store, with all that the earlier ones have left there. How often it did so
    nobody knows for sure: torchrun counts on each node, and only where a process has failed. So rank 0 opens a new
    round, and the others ask for it, each under a name that nobody had before it; the questions of earlier processes
    are answered too, but nobody hears that.
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
    place_in_line = store.add("arrived", 1)
    store.set(f"arrival_{place_in_line}", json.dumps(asdict(me)))
    if place_in_line == 1:
        refusal, arrivals = _judge(store, me, deadline)
        store.set("verdict", json.dumps({"refusal": refusal, "arrivals": [asdict(arrival) for arrival in arrivals]}))
    _wait_for(store, "verdict", me, deadline + _FAREWELL_S)
    verdict = json.loads(store.get("verdict"))
    if verdict["refusal"] is None and place_in_line > me.world_size:
        verdict["refusal"] = f"{place_in_line} processes came, but WORLD_SIZE='{me.world_size}'"
    if verdict["refusal"] is not None:
        _take_leave(store, keeps_it=launch.rank == 0 and not launch.launcher_runs_store)
        raise RuntimeError(f"{_who(me)}: {verdict['refusal']}")
    return _place(me, [_Arrival(**arrival) for arrival in verdict["arrivals"]])


def _judge(store: Store, me: _Arrival, deadline: float) -> tuple[str | None, list[_Arrival]]:
    """Compare all that arrive with the first one; why they cannot run together, if so."""
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
    """Wait for a key, and say now and then on whom.

    Raises:
        RuntimeError: If it does not come in time.
    """
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
            logger.warning("%s: waiting for %s since %.0f s", _who(me), whom, waited_s)


def _absence(me: _Arrival, whom: str, waited_s: float) -> str:
    return (
        f"{_who(me)}: waited {waited_s:.1f} s for {whom}, which have not arrived; "
        f"were WORLD_SIZE='{me.world_size}' processes started?"
    )


def _who(me: _Arrival) -> str:
    return f"idist.initialize (backend {me.backend}, rank {me.rank} of {me.world_size})"


def _take_leave(store: Store, keeps_it: bool) -> None:
    """After a refusal: the one that keeps the store waits until the others have read why."""
    deadline = time.monotonic() + _FAREWELL_S
    with suppress(DistNetworkError):  # of two that call themselves rank 0 the one that keeps it may have left
        store.add("left", 1)
        while keeps_it and store.add("left", 0) < store.add("arrived", 0) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def _place(me: _Arrival, arrivals: list[_Arrival]) -> Place:
    """Nodes are numbered in the order of their lowest ranks, or as the launcher numbers them."""
    nodes: Mapping[str, int] = Counter(arrival.node for arrival in arrivals)
    return Place(
        me.rank,
        me.world_size,
        sum(other.node == me.node for other in arrivals[: me.rank]) if me.local_rank is None else me.local_rank,
        nproc_per_node=max(nodes.values()),
        nnodes=len(nodes),
        node_rank=list(nodes).index(me.node),
    )

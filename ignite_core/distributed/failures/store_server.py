"""Open the error store of a run: in the store of the launcher, or in that of a helper process of rank 0.

The helper process outlives all ranks. It ends when all ranks have deregistered, or without heartbeats for some time.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
import uuid
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from ignite_core.distributed.failures.error_store import ErrorStore
from ignite_core.distributed.launch.environment import Launch
from ignite_core.distributed.launch.rendezvous import open_store

__all__ = ["main", "open_error_store"]

#: How long to wait for a connection, and how often to check whether there is something to connect to.
_CONNECT, _POLL_S = timedelta(seconds=20), 0.05

#: After so many seconds without a heartbeat the helper ends: while rank 0 runs, and afterwards.
_SILENCE_S, _SILENCE_ALONE_S = 300.0, 5.0

#: How often the helper reads the heartbeats, in seconds.
_CHECK_S = 0.5

#: The helper ignores signals to the process group: the ranks still need it to report why they end.
_PROGRAM = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
from ignite_core.distributed.failures.store_server import main
main(sys.argv[1], int(sys.argv[2]))
"""

#: The helpers that this process has started; polled at times so that no zombies remain.
_helpers: list[subprocess.Popen[str]] = []


def open_error_store(
    store: Store, launch: Launch, rank: int, world_size: int, ending: threading.Event
) -> ErrorStore | None:
    """Open the error store of a run, whose address is in the store of its rendezvous.

    Returns None if rank 0 cannot provide one, or ``ending`` was set first. Raises RuntimeError if a store cannot be
    reached, OSError if the helper process cannot be started.
    """
    if rank == 0:
        name = f"ignite_core/errors_{uuid.uuid4().hex}"
        address: str | None = None
        try:
            if launch.launcher_runs_store:
                address = f"{launch.master_addr} {launch.master_port}"
            else:
                address = _start_helper(store, launch, name, world_size, ending)
        finally:
            store.set("error_store", f"{name} {address}" if address else "")
    while not launch.launcher_runs_store and not store.check(["error_store"]):
        if ending.wait(_POLL_S):
            return None
    answer = store.get("error_store").decode().split()
    if not answer:
        return None
    name, host, port = answer
    reader, writer = (PrefixStore(name, open_store(host, int(port), False, _CONNECT)) for _ in range(2))
    return ErrorStore(reader, writer, rank, world_size)


def _start_helper(store: Store, launch: Launch, name: str, world_size: int, ending: threading.Event) -> str | None:
    """Start the helper process; its host and port, which come after it has imported torch."""
    _helpers[:] = [helper for helper in _helpers if helper.poll() is None]
    helper = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, name, str(world_size)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a reader of rank 0's would wait for the helper too
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
        text=True,
    )
    _helpers.append(helper)
    assert helper.stdout is not None
    with helper.stdout as output:
        while not select.select([output], [], [], _POLL_S)[0]:
            if ending.is_set():
                helper.kill()
                return None
        port = output.readline().strip()
    if not port:
        raise RuntimeError("the helper process for the error store ended before it was ready")
    return f"{launch.master_addr or getattr(store, 'host', None) or socket.gethostname()} {port}"


def main(name: str, world_size: int) -> None:
    """Run the store in the helper process until all ranks have left."""
    parent = os.getppid()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    print(store.port, flush=True)
    os.close(sys.stdout.fileno())  # the parent reads to the end
    part = PrefixStore(name, store)
    errors = ErrorStore(part, part, 0, world_size)
    last_change, heartbeats = time.monotonic(), errors.heartbeats()
    while not all(errors.has_left(count) for count in heartbeats):
        time.sleep(_CHECK_S)
        before, heartbeats = heartbeats, errors.heartbeats()
        now = time.monotonic()
        if heartbeats != before:
            last_change = now
        if now - last_change > (_SILENCE_S if os.getppid() == parent else _SILENCE_ALONE_S):
            return

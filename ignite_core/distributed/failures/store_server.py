"""Where the board of a run is: in the store of the launcher, or where there is none in one that outlives all ranks.

That one is run by a program of its own, which rank 0 starts. It ends by itself when all ranks have left, or when none
of them has given a sign of life for some time.
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

from ignite_core.distributed.failures.error_store import Board
from ignite_core.distributed.launch.environment import Launch
from ignite_core.distributed.launch.rendezvous import open_store

__all__ = ["main", "open_board"]

#: How long to wait for a connection, and how often to look whether there is something to connect to.
_CONNECT, _POLL_S = timedelta(seconds=20), 0.05

#: After so many seconds without a sign of life it ends: while rank 0 runs, and when it does not.
_SILENCE_S, _SILENCE_ALONE_S = 300.0, 5.0

#: How often it looks.
_LOOK_S = 0.5

#: It ignores what ends or tells something to the whole group: the ranks have yet to say what became of them.
_PROGRAM = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
from ignite_core.distributed.failures.store_server import main
main(sys.argv[1], int(sys.argv[2]))
"""


#: The programs that this process has started; asked now and then whether they have ended.
_programs: list[subprocess.Popen[str]] = []


def open_board(store: Store, launch: Launch, rank: int, world_size: int, ending: threading.Event) -> Board | None:
    """Open the board of a run.

    Args:
        store: In which the ranks have met, and no other run did.
        launch: What this process was told.
        rank: Of this process.
        world_size: Number of processes.
        ending: Set when the board is not wanted any more.

    Returns:
        The board; None if there is none, or it is not wanted any more.

    Raises:
        RuntimeError: If a store cannot be reached.
        OSError: If the program cannot be started.
    """
    if rank == 0:
        name = f"ignite_core/board_{uuid.uuid4().hex}"
        where: tuple[str, int] | None = None
        try:
            where = _of_launcher(launch) or _own(store, launch, name, world_size, ending)
        finally:
            store.set("board", f"{name} {where[0]} {where[1]}" if where else "")
    while not launch.store_is_there and not store.check(["board"]):
        if ending.wait(_POLL_S):
            return None
    told = store.get("board").decode().split()
    if not told:
        return None
    name, host, port = told
    watching, telling = (PrefixStore(name, open_store(host, int(port), False, _CONNECT)) for _ in range(2))
    return Board(watching, telling, rank, world_size)


def _of_launcher(launch: Launch) -> tuple[str, int] | None:
    if not launch.store_is_there:
        return None
    assert launch.master_addr is not None
    assert launch.master_port is not None
    return launch.master_addr, launch.master_port


def _own(store: Store, launch: Launch, name: str, world_size: int, ending: threading.Event) -> tuple[str, int] | None:
    """Start the program; it takes as long as an import of torch until it tells the port of its store."""
    _programs[:] = [program for program in _programs if program.poll() is None]
    program = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, name, str(world_size)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # who reads that of rank 0 to its end would wait for this program too
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
        text=True,
    )
    _programs.append(program)
    assert program.stdout is not None
    with program.stdout as output:
        while not select.select([output], [], [], _POLL_S)[0]:
            if ending.is_set():
                program.kill()
                return None
        port = output.readline()
    if not port:
        raise RuntimeError("the program that runs the store has ended before it began")
    return launch.master_addr or getattr(store, "host", None) or socket.gethostname(), int(port)


def main(name: str, world_size: int) -> None:
    """Run the store until nobody needs it."""
    parent = os.getppid()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    print(store.port, flush=True)
    os.close(sys.stdout.fileno())  # nothing more is to come
    part = PrefixStore(name, store)
    board = Board(part, part, 0, world_size)
    heard, signs = time.monotonic(), board.signs()
    while not all(board.has_left(sign) for sign in signs):
        time.sleep(_LOOK_S)
        before, signs = signs, board.signs()
        now = time.monotonic()
        if signs != before:
            heard = now
        if now - heard > (_SILENCE_S if os.getppid() == parent else _SILENCE_ALONE_S):
            return

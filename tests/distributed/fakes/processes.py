"""What the fake frameworks have in common: processes that exchange pickled values through a store.

Nothing here is of the library, nor of torch's process groups. The store is at MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed import HashStore, PrefixStore, TCPStore

#: To be put on `sys.path`, so that `import torch_xla` finds the fake.
FOLDER = Path(__file__).parent

_starts = itertools.count()


class Processes:
    """Those of one start of a framework."""

    def __init__(self, framework: str, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        store: Any = HashStore()
        if size > 1:
            host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=60))
        self._store = PrefixStore(f"{framework}/{next(_starts)}", store)
        self._counts: Counter[tuple[int, ...]] = Counter()

    def exchange(self, operation: str, value: Any, ranks: Sequence[int] | None = None) -> list[Any]:
        """The values of all these ranks, which must call the same operation."""
        ranks = tuple(range(self.size) if ranks is None else ranks)
        number = self._counts[ranks]
        self._counts[ranks] += 1
        self._store.set(f"{ranks}/{number}/{self.rank}", pickle.dumps((operation, value)))
        arrived = [pickle.loads(self._store.get(f"{ranks}/{number}/{rank}")) for rank in ranks]
        if len({operation for operation, _ in arrived}) > 1:
            raise RuntimeError(f"mismatched operations: {[operation for operation, _ in arrived]}")
        return [value for _, value in arrived]


def launch(function: Callable[[], Any], environments: list[dict[str, str]]) -> list[Any]:
    """Call a function in new processes, one for each environment; what they return."""
    context: Any = multiprocessing.get_context("forkserver")
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    running = []
    for environment in environments:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_call, args=(sender, {**meeting, **environment}, function))
        process.start()
        sender.close()
        running.append((process, receiver))
    results = []
    try:
        for _, receiver in running:
            error, result = receiver.recv()
            if error is not None:
                raise RuntimeError(error)
            results.append(result)
    finally:
        for process, receiver in running:
            if len(results) < len(running):
                process.kill()
            process.join()
            receiver.close()
    return results


def _call(sender: Any, environment: dict[str, str], function: Callable[[], Any]) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    os.environ.update(environment)
    try:
        sender.send((None, function()))
    except BaseException:
        sender.send((traceback.format_exc(), None))

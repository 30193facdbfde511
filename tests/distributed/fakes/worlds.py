"""One way to run a function with any computation model: serial, gloo, or a framework that is faked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ignite_core.distributed as idist
from ignite_core.testing import run_distributed
from tests.distributed.fakes.processes import FOLDER


@dataclass(frozen=True)
class World:
    """A backend (None for a serial run) and a number of processes."""

    backend: str | None
    size: int

    def __str__(self) -> str:
        return f"{self.backend or 'serial'}-{self.size}"

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What a function, defined at the top of a module, returns on each rank."""
        if self.backend is None:
            return [function(*args)]
        if self.backend == "gloo":
            return run_distributed(function, *args, ranks=self.size, timeout_s=60)
        return run_distributed(_run_in_framework, self.backend, function, *args, ranks=self.size, timeout_s=60)


def pretend(rank: int, size: int) -> None:
    """Let this process find the fakes, as one that their launchers have started."""
    sys.path.insert(0, str(FOLDER))
    os.environ.update(
        PJRT_LOCAL_PROCESS_RANK=str(rank),
        PJRT_LOCAL_PROCESS_COUNT=str(size),
    )


def _run_in_framework(backend: str, function: Callable[..., Any], *args: Any) -> Any:
    rank, size = idist.get_rank(), idist.get_world_size()
    idist.finalize()
    pretend(rank, size)
    idist.initialize(backend)
    return function(*args)

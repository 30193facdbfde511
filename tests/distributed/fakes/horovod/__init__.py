"""A stand-in for Horovod: the part of its public interface that the library calls, as its documentation has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.distributed.fakes.processes import launch


def run(
    func: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    np: int = 1,
    hosts: str | None = None,
    hostfile: str | None = None,
    verbose: int | None = None,
) -> list[Any]:
    environments = [
        {
            "HOROVOD_RANK": str(rank),
            "HOROVOD_SIZE": str(np),
            "HOROVOD_LOCAL_RANK": str(rank),
            "HOROVOD_LOCAL_SIZE": str(np),
        }
        for rank in range(np)
    ]
    return launch(partial(func, *args, **(kwargs or {})), environments)

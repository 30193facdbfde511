"""One way to start a script, whoever launches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from ignite_core.distributed.failures.api import report
from ignite_core.distributed.utils import (
    available_backends,
    finalize,
    get_local_rank,
    initialize,
    spawn,
)

__all__ = ["Parallel"]


class Parallel:
    """Runs a function on all ranks of a run: alone, launched by torchrun or SLURM, or in processes that it starts.

    Without a backend the function runs in this process, alone. With a backend the process joins the others that a
    launcher has started. With ``nproc_per_node`` too it starts that many processes itself.

    Args:
        backend: As of :func:`~ignite_core.distributed.initialize`; None for a run of one process.
        nproc_per_node: Start so many processes on this node.
        nnodes: Number of nodes, each of which makes this call; 1 by default.
        node_rank: Number of this node, from 0; needed where there are several.
        master_addr: Host of node 0; needed where there are several nodes.
        master_port: A free port there; needed where there are several nodes.
        init_method: Without ``nproc_per_node``: how to find the others, instead of by the environment.
        spawn_kwargs: What :func:`~ignite_core.distributed.spawn` takes besides, such as ``start_method``.

    Raises:
        ValueError: If the backend is not available, or the arguments do not fit together.

    Example:
        >>> def training(local_rank, lr):
        ...     print(local_rank, lr)
        >>> with Parallel() as parallel:
        ...     parallel.run(training, lr=0.1)
        0 0.1
    """

    def __init__(
        self,
        backend: str | None = None,
        nproc_per_node: int | None = None,
        nnodes: int | None = None,
        node_rank: int | None = None,
        master_addr: str | None = None,
        master_port: int | str | None = None,
        init_method: str | None = None,
        **spawn_kwargs: Any,
    ) -> None:
        given: dict[str, Any] = {
            "nproc_per_node": nproc_per_node,
            "nnodes": nnodes,
            "node_rank": node_rank,
            "master_addr": master_addr,
            "master_port": master_port,
        }
        given = {name: value for name, value in given.items() if value is not None} | spawn_kwargs
        if backend is None and (given or init_method):
            raise ValueError(f"Parallel: {sorted(given) or ['init_method']} need a backend, got backend=None")
        if backend is not None and backend not in available_backends():
            raise ValueError(f"Parallel: the backend must be one of {list(available_backends())}, got {backend!r}")
        if nproc_per_node is None and given:
            raise ValueError(
                f"Parallel: {sorted(given)} are for processes that it starts; give nproc_per_node too, or leave them "
                "out under torchrun or SLURM"
            )
        if nproc_per_node is not None:
            _check_spawn(nproc_per_node, nnodes or 1, node_rank)
            if init_method is not None:
                raise ValueError(
                    f"Parallel: processes that it starts find each other by themselves, got init_method={init_method!r}"
                )
            given.setdefault("nnodes", 1)
            given.setdefault("node_rank", 0)
            if "master_port" in given:
                given["master_port"] = int(given["master_port"])
        self.backend = backend
        self._spawn: dict[str, Any] | None = None if nproc_per_node is None else given
        self._initialize = {} if init_method is None else {"init_method": init_method}

    def __enter__(self) -> Self:
        if self.backend is not None and self._spawn is None:
            initialize(self.backend, **self._initialize)
        return self

    def run(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call ``func(local_rank, *args, **kwargs)`` on each rank.

        Args:
            func: Defined at the top of a module if processes are started.
            args: Positional arguments.
            kwargs: Keyword arguments.
        """
        if self._spawn is not None:
            assert self.backend is not None
            spawn(self.backend, func, args, kwargs, **self._spawn)
        else:
            func(get_local_rank(), *args, **kwargs)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.backend is None or self._spawn is not None:
            return
        told = None if error is None else report(error)
        finalize()
        if told is not None and told is not error:
            raise told from error


def _check_spawn(nproc_per_node: int, nnodes: int, node_rank: int | None) -> None:
    for name, value in (("nproc_per_node", nproc_per_node), ("nnodes", nnodes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"Parallel: {name} must be an integer of at least 1, got {value!r}")
    if nnodes > 1 and node_rank is None:
        raise ValueError(f"Parallel: nnodes={nnodes} needs node_rank, the number of this node from 0")
    if node_rank is not None and not 0 <= node_rank < nnodes:
        raise ValueError(f"Parallel: node_rank must be in [0, {nnodes}), got {node_rank!r}")

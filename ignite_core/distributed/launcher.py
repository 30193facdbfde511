"""Start and end a distributed run: join the other processes, or start them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from ignite_core.distributed.current import REGISTERED, available_backends, current_model, use_model
from ignite_core.distributed.failures.api import report
from ignite_core.distributed.launch.interactive import check_forks, is_of_session
from ignite_core.distributed.models.base import ComputationModel
from ignite_core.distributed.models.serial import SerialModel

__all__ = ["Parallel", "finalize", "initialize", "spawn"]


def initialize(backend: str, **kwargs: Any) -> None:
    """Join the other processes of the run, as described by the launcher's environment variables.

    Under torchrun, under SLURM's ``srun`` and in a process of :func:`spawn`, no argument but the backend is needed. A
    process without a launcher is a run of one process. The processes first check that their settings agree.

    Args:
        backend: ``"gloo"`` for CPUs; ``"nccl"`` for GPUs, with gloo beside it for values on the CPU; ``"mpi"``;
            ``"xla-tpu"``, which is experimental.
        kwargs: For gloo and nccl: ``timeout``, a :class:`~datetime.timedelta`, how long to wait for the other processes
            at the start (by default 20 s to find rank 0 where its address was set by hand, then 30 minutes for the
            others) and in each collective (by default that of torch); ``abort_grace``, how many seconds a process may
            stay blocked after another one has failed, until it is ended with exit code 75 (by default 5);
            ``init_method``, such as ``"file:///shared/run_1"``, with ``rank`` and ``world_size``; and further arguments
            of :func:`torch.distributed.init_process_group`.

    Raises:
        ValueError: If the backend is not available, or environment variables are incomplete or contradictory.
        RuntimeError: If the settings of the processes differ, they do not find each other, or this one is initialised
            already.

    Example:
        >>> from ignite_core.distributed import backend, get_rank, get_world_size, model_name
        >>> initialize("gloo")
        >>> backend(), get_rank(), get_world_size()
        ('gloo', 0, 1)
        >>> finalize()
        >>> model_name()
        'serial'
    """
    use_model(_class_of(backend, "initialize").create(backend, **kwargs))


def finalize() -> None:
    """Leave the other processes; from then on this is a serial run."""
    current_model().finalize()
    use_model(SerialModel())


def spawn(
    backend: str,
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs_dict: Mapping[str, Any] | None = None,
    nproc_per_node: int = 1,
    **kwargs: Any,
) -> Any:
    """Start processes on this node that call ``fn(local_rank, *args, **kwargs_dict)``, and wait for them.

    Args:
        backend: Passed to :func:`initialize` in each process.
        fn: Defined at the top level of a module, so that a new process can import it; or in a notebook or an
            interactive session, where the processes are forked.
        args: Positional arguments of ``fn``.
        kwargs_dict: Keyword arguments of ``fn``.
        nproc_per_node: How many processes.
        kwargs: For gloo and nccl: ``nnodes``, ``node_rank``, ``master_addr``, ``master_port`` for several nodes, each
            of which makes this call; ``start_method``, ``"spawn"``, ``"forkserver"`` or ``"fork"``; ``join``, False to
            return a context whose ``join()`` waits; ``daemon``. For xla-tpu: arguments of ``torch_xla.launch``.
            ``timeout`` and ``abort_grace`` are passed to :func:`initialize`.

    Raises:
        ValueError: If the backend is not available, arguments contradict each other, or new processes cannot import
            ``fn``.
        torch.multiprocessing.ProcessRaisedException: With the traceback of the process that failed first, or the
            ``RankFailed`` of another one, which quotes it. Processes that do not end by themselves are ended.
    """
    cls = _class_of(backend, "spawn")
    options: dict[str, Any] = {name: kwargs.pop(name) for name in ("timeout", "abort_grace") if name in kwargs}
    if cls.name == "native-dist" and is_of_session(fn):
        kwargs["start_method"] = check_forks(fn, kwargs.get("start_method"))
    worker = partial(_run_spawned, backend, options, fn, tuple(args), dict(kwargs_dict or {}))
    return cls.spawn(worker, nproc_per_node, **kwargs)


def _run_spawned(
    backend: str, options: Mapping[str, Any], fn: Callable[..., Any], args: Any, kwargs: Any, local_rank: int
) -> None:
    initialize(backend, **options)
    try:
        fn(local_rank, *args, **kwargs)
    except BaseException as error:
        reported = report(error)
        if reported is not error:
            raise reported from error
        raise
    finalize()  # not after an error: the other processes may be inside a collective


def _class_of(backend: str, where: str) -> type[ComputationModel]:
    for cls in REGISTERED:
        if backend in cls.available_backends:
            return cls
    if backend == "horovod":
        raise ValueError(f"idist.{where}: horovod is not supported (its last release is of 2023); use gloo or nccl")
    raise ValueError(f"idist.{where}: the backend must be one of {list(available_backends())}, got {backend!r}")


class Parallel:
    """Runs a function on all ranks: in this process, under torchrun or SLURM, or in processes that it starts.

    Without a backend the function runs in this process. With a backend the process joins the others that a launcher has
    started. With ``nproc_per_node`` as well, it starts that many processes itself.

    Args:
        backend: As in :func:`~ignite_core.distributed.initialize`; None for a run of one process.
        nproc_per_node: Number of processes to start on this node.
        nnodes: Number of nodes, each of which makes this call; 1 by default.
        node_rank: Number of this node, from 0; required for several nodes.
        master_addr: Host of node 0; required for several nodes.
        master_port: A free port on that host; required for several nodes.
        init_method: Without ``nproc_per_node``: how to find the other processes, in place of the environment.
        spawn_kwargs: Further arguments of :func:`~ignite_core.distributed.spawn`, such as ``start_method``.

    Raises:
        ValueError: If the backend is not available, or arguments contradict each other.

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
                f"Parallel: {sorted(given)} are for processes that it starts; pass nproc_per_node too, or omit them "
                "under torchrun or SLURM"
            )
        if nproc_per_node is not None:
            _check_spawn(nproc_per_node, nnodes or 1, node_rank)
            if init_method is not None:
                raise ValueError(f"Parallel: with nproc_per_node there is no init_method, got {init_method!r}")
            given = {"nnodes": 1, "node_rank": 0} | given
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
            func: Defined at the top level of a module if processes are started.
            args: Positional arguments.
            kwargs: Keyword arguments.
        """
        if self._spawn is not None:
            assert self.backend is not None
            spawn(self.backend, func, args, kwargs, **self._spawn)
        else:
            func(current_model().local_rank(), *args, **kwargs)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.backend is None or self._spawn is not None:
            return
        reported = None if error is None else report(error)
        finalize()
        if reported is not None and reported is not error:
            raise reported from error


def _check_spawn(nproc_per_node: int, nnodes: int, node_rank: int | None) -> None:
    for name, value in (("nproc_per_node", nproc_per_node), ("nnodes", nnodes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"Parallel: {name} must be an integer of at least 1, got {value!r}")
    if nnodes > 1 and node_rank is None:
        raise ValueError(f"Parallel: nnodes={nnodes} needs node_rank, the number of this node from 0")
    if node_rank is not None and not 0 <= node_rank < nnodes:
        raise ValueError(f"Parallel: node_rank must be in [0, {nnodes}), got {node_rank!r}")
